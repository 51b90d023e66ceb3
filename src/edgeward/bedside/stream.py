"""An ECG bed's stream as a process of the ward: started, heard, watched, replaced when it ends or stays silent.

It is the whole single-bed device (``edgeward bedside run``) with its messages on standard output as JSON lines: its
page, its engine and its 4 ms are its own, and nothing that the ward does can delay a beat. The ward takes its numerics,
its modes and its advisories, and says which bundles it has on standard input, a pipe: the stream ends with the ward,
however that ends.

A stream that judges tells numerics four times a second, and with missing samples at least every ``SILENCE_S``. One that
falls silent for ``HANG_MS`` is told of at once; it is replaced when it stays so for ``SILENT_S``, because a beat that
it may still save is worth more than a quick restart. Between two sources it says that it judges nothing (``ended``),
and may be silent for as long as no monitor comes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import LINE_BYTES_MAX
from edgeward.bedside.side import CHECK_MS, HANG_MS, Happening, What
from edgeward.bedside.source.base import SILENCE_S
from edgeward.inference.backoff import Backoff, BackoffPolicy
from edgeward.inference.launch import ending, environment
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.bedside.messages import Message
    from edgeward.kernel.clock import Clock

SILENT_S = 10.0
"""A stream that has judged and then says nothing for so long is replaced."""
START_S_MAX = 90.0
"""A process says its first word when its engines are loaded, each of which may take half a minute."""
PATIENCE = BackoffPolicy(free=3, base_s=1.0, longest_s=30.0)
STOP_S = 8.0
HUNG_UP_NS = NS_PER_S // 2
"""A process whose output has ended is gone by then, or is made to."""
JUDGES, ENDED, PAGE = "numerics", "ended", "page"
"""Kinds of a stream's messages that say whether it judges, and where its page is."""
_READ_BYTES = 262_144
_PASSED_NS_MAX = 2 * CHECK_MS * NS_PER_MS
"""A check that comes late, because the ward was held up, counts for no more than this against the stream."""

assert SILENCE_S * 1000 < HANG_MS, "a stream without samples speaks before it counts as silent"


class EcgStream:
    """The stream of ``bed``: runs ``command`` until ``stop``. Nothing here waits but ``stop``.

    ``first`` gives the line that each process is told at its start. ``fileno`` becomes readable when there is something
    to hear; ``check`` must be called every ``CHECK_MS``.
    """

    def __init__(self, bed: str, command: Sequence[str], clock: Clock, first: Callable[[], bytes] = bytes) -> None:
        self.bed = bed
        self._first = first
        self._untold = b""
        self._command = list(command)
        self._clock = clock
        self._backoff = Backoff(PATIENCE)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._judges = self._down = self._spoke = False
        self._silent_ns = self._starting_ns = 0
        self._hung_up_ns: int | None = None
        self._checked_ns = clock.monotonic_ns()
        self._happened: list[Happening] = []
        self._epoll = select.epoll()
        self.restarts = -1
        self.losses = 0
        """Processes that ended, or were ended for their silence."""

    @property
    def name(self) -> str:
        """What it is called in word of processes."""
        return f"ecg {self.bed}"

    @property
    def pid(self) -> int | None:
        """The process; None when there is none."""
        return self._process.pid if self._process is not None else None

    def fileno(self) -> int:
        """For a selector; the same across restarts."""
        return self._epoll.fileno()

    def hear(self) -> list[Message]:
        """The messages that are there now; lines that are none are left out."""
        process = self._process
        if process is None or process.stdout is None or self._hung_up_ns is not None:
            return []
        try:
            data = os.read(process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return []
        if not data:  # its end is on the way
            self._epoll.unregister(process.stdout.fileno())
            self._hung_up_ns = self._clock.monotonic_ns()
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        messages = [message for line in lines if (message := _message(line)) is not None]
        self._silent_ns, self._spoke = 0, True
        for kind, _ in messages:
            if kind == JUDGES and not self._judges:
                self._judges = True
                if self._down or self.restarts == 0:
                    self._down = False
                    self._tell(What.BACK)
            elif kind == ENDED:
                self._judges = False
        return messages

    def tell(self, line: bytes) -> None:
        """Tell the process, now or as soon as it reads again; a later line replaces one that it could not take."""
        self._untold = line
        self._write()

    def check(self, now_ns: int) -> list[Happening]:
        """Look after the process; returns what happened to it since the last call."""
        passed_ns, self._checked_ns = now_ns - self._checked_ns, now_ns
        process = self._process
        self._write()
        if process is None:
            if self._backoff.allows(now_ns):
                self._spawn(now_ns)
        elif process.poll() is not None or (self._hung_up_ns or now_ns) + HUNG_UP_NS < now_ns:
            self._fail(What.CRASHED)
        elif not self._spoke:
            self._starting_ns += min(passed_ns, _PASSED_NS_MAX)
            if self._starting_ns >= START_S_MAX * NS_PER_S:
                self._fail(What.HUNG)
        elif self._judges or self._down:
            self._silent_ns += min(passed_ns, _PASSED_NS_MAX)
            if self._silent_ns >= SILENT_S * NS_PER_S:
                self._fail(What.HUNG)
            elif self._judges and self._silent_ns >= HANG_MS * NS_PER_MS:
                self._judges, self._down = False, True
                self._tell(What.HUNG, "silent")
        happened, self._happened = self._happened, []
        return happened

    def ask_to_end(self) -> None:
        """Begin to end the process in order; ``stop`` afterwards."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # a stopped one would not hear it

    def stop(self) -> None:
        """End the process in order, within ``STOP_S``."""
        self.ask_to_end()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self._bury()
        self._epoll.close()

    def _tell(self, what: What, how: str = "") -> None:
        self._happened.append(Happening(self.name, what, self._clock.monotonic_ns(), how))

    def _fail(self, what: What) -> None:
        """It is gone, or as good as gone: bury it; the next ``check`` starts another."""
        told = self._down and what is What.HUNG
        code = self._bury()
        self._judges, self._down = False, True
        self.losses += 1
        self._backoff.failed(self._clock.monotonic_ns())
        if not told:
            self._tell(what, "" if code is None else ending(code))

    def _spawn(self, now_ns: int) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 (our own program; the arguments are the site's settings)
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment(), **_home()},
                process_group=0,
            )
        except OSError as error:
            self._backoff.failed(now_ns)
            self._tell(What.NOT_STARTED, f"errno-{error.errno}")
            return
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._epoll.register(process.stdout.fileno(), select.EPOLLIN)
        self._process, self._rest, self._silent_ns, self._hung_up_ns = process, b"", 0, None
        self._spoke, self._starting_ns = False, 0
        self.restarts += 1
        self.tell(self._first())

    def _write(self) -> None:
        process = self._process
        if self._untold and process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):  # full: it hangs; broken: its end is on the way. Both are noticed
                os.write(process.stdin.fileno(), self._untold)  # whole or not at all: shorter than PIPE_BUF
                self._untold = b""

    def _bury(self) -> int | None:
        """Make sure that the process is no more; returns how it ended, None where there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdout is not None
        assert process.stdin is not None
        if self._hung_up_ns is None:
            self._epoll.unregister(process.stdout.fileno())
        process.stdout.close()
        process.stdin.close()
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode


def _home() -> dict[str, str]:
    """Where a stream finds its own files, as the ward does."""
    names = ("HOME", "PATH", "EDGEWARD_STATE", "XDG_STATE_HOME")
    return {name: os.environ[name] for name in names if name in os.environ}


def _message(line: bytes) -> Message | None:
    try:
        data: dict[str, Any] = json.loads(line)
        kind = data.pop("kind")
        data.pop("t", None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return (kind, data) if isinstance(kind, str) else None
