"""The rim's end of a process behind it: started, fed, heard, watched, replaced; never waited for.

Nothing here blocks and nothing here is a thread: ``feed`` writes what the pipe takes and holds the rest, ``hear`` reads
what is there, and ``check``, called after each ``hear`` and at least every ``CHECK_MS``, notices that the process died
(at once) or hangs (no sign of life, or nothing read, for ``HANG_MS``), kills it, and starts another, which is told
again what ``Recall`` keeps. Everything is called from one thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgeward.bedside.behind import ALIVE, MEMORY
from edgeward.bedside.feed import LINE_BYTES_MAX, Feed, encode
from edgeward.bedside.recall import Care, Recall
from edgeward.inference.backoff import Backoff, BackoffPolicy
from edgeward.inference.launch import child_pipe, ending, environment, last_words, stderr_pipe
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.limits import NOTICE_MS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.feed import Message
    from edgeward.kernel.clock import Clock

CHECK_MS = 100
"""How often ``check`` must be called, whatever else happens."""
HANG_MS = 750
"""A process that gives no sign of life, or takes nothing of what waits for it, for this long is hung."""
START_S_MAX = 10.0
"""A process that has not caught up by then is hung."""
BACKLOG_BYTES_MAX = 32 << 20
"""What may wait for a process that does not read; beyond it the process is hung."""
PATIENCE = BackoffPolicy(free=3, base_s=0.25, longest_s=5.0)
"""How fast failed processes are replaced: three at once, then at most 5 s apart, for as long as it takes."""
STABLE_S = 2.0
"""A process that ran well for so long did not die of what it was told at its start; one that did is told less."""
_READ_BYTES = 262_144
_READS_MAX = 16
_REAP_S_MAX = 2.0
_HUNG_UP = "hung-up"
"""Its pipe has ended and its exit status is still on the way."""
_FROM_OUTSIDE = frozenset({_HUNG_UP, *(f"signal-{number.value}" for number in (signal.SIGKILL, signal.SIGTERM))})
"""Deaths that no message brings about, once the process had taken them all."""

# It may have spoken just after one look, and its time may be up just after another.
assert HANG_MS + 2 * CHECK_MS < NOTICE_MS_MAX, "a hang is noticed within the time in which a failure must be shown"


class What(StrEnum):
    """What happened to a process."""

    BACK = "back"
    """It runs and has caught up with everything it was fed: after a start or a restart."""
    CRASHED = "crashed"
    HUNG = "hung"
    NONSENSE = "nonsense"
    """It said something that is no message."""
    NOT_STARTED = "not_started"
    """The system gave no process; it is tried again."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that the rim should tell at once.

    ``how``: "signal-9", "exit-1", "silent", "deaf", "slow-start" …; ``words``: what it wrote last to standard error, if
    it ended before it was fed anything of a patient; ``care``: how much it is told when it starts again.
    """

    name: str
    what: What
    at_ns: int
    how: str = ""
    words: str = ""
    care: Care = Care.WHOLE


@dataclass(frozen=True, slots=True)
class Place:
    """A process's place in the system.

    ``realtime``: just below a real-time rim, else ordinary; ``niceness``; ``oom_score_more``: how much sooner than the
    rim it goes when memory ends.
    """

    realtime: bool = False
    niceness: int = 0
    oom_score_more: int = 0


class SideProcess:
    """One process behind the rim: ``python -P -m module`` with ``settings`` as JSON. A context manager.

    ``name``: for what is told of it; ``module``: one that calls ``behind.run``. What is fed while it is down is
    told to the next one.
    """

    def __init__(
        self,
        name: str,
        module: str,
        settings: Mapping[str, Any],
        clock: Clock,
        *,
        place: Place | None = None,
        backoff: BackoffPolicy | None = None,
    ) -> None:
        self.name = name
        self._argument = json.dumps({"settings": settings, "place": asdict(place or Place())})
        self._module = module
        self._clock = clock
        self._backoff = Backoff(backoff or PATIENCE)
        self._recall = Recall()
        self._child: _Child | None = None
        self._dying: list[_Child] = []
        self._heard: list[Message] = []
        self._happened: list[Happening] = []
        self._care = Care.WHOLE
        self._stopped = True
        self._epoll = select.epoll()
        self.restarts = 0
        """Processes that failed since ``start``."""

    def __enter__(self) -> SideProcess:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def caught_up(self) -> bool:
        """Whether a process runs and has taken everything it had to be told at its start."""
        return self._child is not None and self._child.caught_up

    @property
    def pid(self) -> int | None:
        """The process, so that a test or a demonstration can harm it from outside; None when there is none."""
        return None if self._child is None else self._child.pid

    def fileno(self) -> int:
        """Readable whenever ``hear`` has something to do; it stays the same across restarts."""
        return self._epoll.fileno()

    def start(self) -> None:
        """Start the process; it is heard of through ``check`` (``What.BACK``). Starting twice does nothing."""
        if self._stopped:
            self._stopped = False
            self._spawn(self._clock.monotonic_ns())

    def stop(self) -> None:
        """Kill and reap the process, at any time, any number of times; what was fed is kept for a new start."""
        self._stopped = True
        if self._child is not None:
            self._bury(self._child)
        for child in self._dying:
            child.reap(_REAP_S_MAX)
        self._dying = []

    def settle(self, settings: Mapping[str, Any]) -> None:
        """The settings of the next process, should this one have to be replaced."""
        self._argument = json.dumps({**json.loads(self._argument), "settings": settings})

    def restart(self, settings: Mapping[str, Any]) -> None:
        """Replace the process by one with other settings; it is told again what the one before was told."""
        self.settle(settings)
        if self._child is not None:
            self._bury(self._child)
        if not self._stopped:
            self._spawn(self._clock.monotonic_ns())

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._epoll.close()

    def feed(self, message: Feed) -> None:
        """Tell the process; never waits. What it does not read now is held for it."""
        line = encode(message)  # first: what cannot be told must not be kept for the next one either
        self._recall.fed(message)
        if self._child is not None:
            self._child.feed(line)

    def hear(self) -> list[Message]:
        """The messages that are there now, in order; never waits."""
        self._exchange()
        heard, self._heard = self._heard, []
        return heard

    def check(self, now_ns: int) -> list[Happening]:
        """Look after the process, without waiting; returns what happened to it since the last call."""
        self._exchange()
        self._dying = [child for child in self._dying if child.reap() is None]
        child = self._child
        if child is not None:
            if child.has_caught_up(now_ns):
                self._happened.append(Happening(self.name, What.BACK, now_ns))
            trouble = child.trouble(now_ns)
            if trouble is not None:
                self._replace(child, trouble, now_ns)
        if self._child is None and not self._stopped and self._backoff.allows(now_ns):
            self._spawn(now_ns)
        happened, self._happened = self._happened, []
        return happened

    def distrust(self) -> None:
        """It said what it cannot have meant: the next ``check`` finds nonsense and replaces it."""
        if self._child is not None:
            self._child.distrust()

    def _exchange(self) -> None:
        child = self._child
        if child is None:
            return
        child.write()
        for kind, data in child.read():
            if kind == ALIVE:
                child.taken = data["taken"]
            elif kind == MEMORY:
                self._recall.remember(data["stay"], data["memory"], data["taken"])
            else:
                self._heard.append((kind, data))

    def _replace(self, child: _Child, trouble: tuple[What, str], now_ns: int) -> None:
        what, how = trouble
        words = child.words()
        blameless = child.stable(now_ns) or (child.caught_up and how in _FROM_OUTSIDE)
        self._bury(child)
        self.restarts += 1
        self._backoff.failed(now_ns)
        self._care = Care.WHOLE if blameless else Care(min(self._care + 1, Care.BEDS))
        self._happened.append(Happening(self.name, what, now_ns, how, words, self._care))

    def _spawn(self, now_ns: int) -> None:
        told = [encode(message) for message in self._recall.replay(self._care)]
        try:
            child = _Child(self._module, self._argument, self._epoll, told, now_ns)
        except OSError as error:  # no process, memory or descriptor to be had: later perhaps
            self._backoff.failed(now_ns)
            how = f"errno-{error.errno}"
            self._happened.append(Happening(self.name, What.NOT_STARTED, now_ns, how))
            return
        self._child = child
        child.write()

    def _bury(self, child: _Child) -> None:
        child.kill()
        self._dying.append(child)
        self._child = None


class _Child:
    """One process with its pipes."""

    def __init__(self, module: str, argument: str, epoll: select.epoll, told: list[bytes], now_ns: int) -> None:
        self._epoll = epoll
        with contextlib.ExitStack() as passed, contextlib.ExitStack() as kept:
            feed_read, self._feed = child_pipe(passed, kept, keep_read=False)
            answer_write, self._answer = child_pipe(passed, kept, keep_read=True)
            stderr_write, self._stderr = stderr_pipe(passed, kept)
            os.set_blocking(self._feed, False)
            os.set_blocking(self._answer, False)
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-P", "-m", module, argument],
                stdin=feed_read,
                stdout=answer_write,
                stderr=stderr_write,
                env=environment(),
                cwd="/",
                process_group=0,
            )
            epoll.register(self._answer, select.EPOLLIN)
            self._fds = kept.pop_all()
        self._waits_for_room = False
        self._backlog = bytearray().join(told)
        self._must_take = len(told)
        self._fed = bool(told)
        self._checked_ns = now_ns
        self._starting_ns = 0
        self._silent_ns = 0
        self._deaf_ns = 0
        self._spoke = self._read_some = self._ended = False
        self._nonsense = False
        self._rest = bytearray()
        self._caught_up_ns: int | None = None
        self.taken = -1
        """Lines that it says it has taken; -1 before its first word."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def caught_up(self) -> bool:
        """Whether it was found to have taken all that it was told at its start."""
        return self._caught_up_ns is not None

    def feed(self, line: bytes) -> None:
        """Hold ``line`` for it and give it what its pipe takes."""
        self._fed = True
        self._backlog += line
        self.write()

    def write(self) -> None:
        """Give it what its pipe takes now."""
        if self._backlog and not self._ended:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full, or its end is noticed by reading
                done = os.write(self._feed, memoryview(self._backlog)[:_READ_BYTES])
                del self._backlog[:done]
                self._read_some = True
        if bool(self._backlog) != self._waits_for_room and not self._ended:
            self._waits_for_room = bool(self._backlog)
            if self._waits_for_room:
                self._epoll.register(self._feed, select.EPOLLOUT)
            else:
                self._epoll.unregister(self._feed)

    def read(self) -> list[tuple[str, dict[str, Any]]]:
        """The whole messages that it has said."""
        for _ in range(_READS_MAX):
            if self._ended:
                break
            try:
                data = os.read(self._answer, _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self._end()
                break
            self._spoke = True
            self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        self._nonsense |= len(rest) > LINE_BYTES_MAX
        return [message for line in lines if (message := self._message(line)) is not None]

    def trouble(self, now_ns: int) -> tuple[What, str] | None:
        """What is wrong with it now, and how that showed; None when nothing is.

        Time counts only between two looks that are close: a rim that was away itself has not seen the process silent.
        """
        passed_ns = min(now_ns - self._checked_ns, HANG_MS * NS_PER_MS // 2)
        self._checked_ns = now_ns
        self._silent_ns = 0 if self._spoke else self._silent_ns + passed_ns
        self._deaf_ns = 0 if self._read_some or not self._backlog else self._deaf_ns + passed_ns
        self._spoke = self._read_some = False
        code = self._process.poll()
        if code is not None:
            return What.CRASHED, ending(code)
        if self._ended:
            return What.CRASHED, _HUNG_UP
        if self._nonsense:
            return What.NONSENSE, "nonsense"
        if len(self._backlog) > BACKLOG_BYTES_MAX:
            return What.HUNG, "overflow"
        if not self.caught_up:
            self._starting_ns += passed_ns
            return (What.HUNG, "slow-start") if self._starting_ns > START_S_MAX * NS_PER_S else None
        if self._silent_ns >= HANG_MS * NS_PER_MS:
            return What.HUNG, "silent"
        if self._deaf_ns >= HANG_MS * NS_PER_MS:
            return What.HUNG, "deaf"
        return None

    def has_caught_up(self, now_ns: int) -> bool:
        """True once: when it has taken all that it was told at its start."""
        if self.caught_up or self.taken < self._must_take:
            return False
        self._caught_up_ns = now_ns
        self._silent_ns = self._deaf_ns = 0
        return True

    def stable(self, now_ns: int) -> bool:
        """Whether it has run well for so long that what it was told at its start cannot be its death."""
        return self._caught_up_ns is not None and now_ns - self._caught_up_ns >= STABLE_S * NS_PER_S

    def distrust(self) -> None:
        """It said nonsense."""
        self._nonsense = True

    def words(self) -> str:
        """Its last words, if it was fed nothing of a patient."""
        return "" if self._fed else last_words(self._stderr)

    def kill(self) -> None:
        """End it now, hung, stopped or well. ``reap`` afterwards."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
        self._end()
        self._fds.close()

    def reap(self, timeout_s: float = 0.0) -> int | None:
        """Its exit status once it has ended; None while it has not."""
        try:
            return self._process.wait(timeout_s) if timeout_s else self._process.poll()
        except subprocess.TimeoutExpired:
            return None

    def _end(self) -> None:
        """Its pipe has ended: listen to it no more."""
        if not self._ended:
            self._ended = True
            self._epoll.unregister(self._answer)
            if self._waits_for_room:
                self._epoll.unregister(self._feed)

    def _message(self, line: bytes | bytearray) -> tuple[str, dict[str, Any]] | None:
        try:
            kind, data = json.loads(line, parse_constant=_no_number)
            whole = isinstance(kind, str) and isinstance(data, dict)
            if kind in (ALIVE, MEMORY):
                whole = whole and isinstance(data["taken"], int)
            if kind == MEMORY:
                whole = whole and isinstance(data["stay"], int) and "memory" in data
            if whole:
                return kind, data
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        self._nonsense = True
        return None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
