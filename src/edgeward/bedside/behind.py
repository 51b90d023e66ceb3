"""The child's end of a process behind the rim: lines in from standard input, a pure core, JSON lines out.

A module that ``SideProcess`` starts is nothing but ``run(make)``, where ``make`` turns its settings into a ``Core``.
The loop reads without ever waiting on half a line, ticks the core at least every ``TICK_MS``, says ``alive`` at least
every ``ALIVE_MS``, counts lines that are none, and ends when its standard input does: it never outlives the rim.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from edgeward.bedside.feed import LINE_BYTES_MAX, decode
from edgeward.bedside.sched import ORDINARY, class_of, put
from edgeward.kernel.clock import NS_PER_MS
from edgeward.kernel.errors import ConfigError, EdgewardError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.feed import Feed, Message

TICK_MS = 100
ALIVE_MS = 200
"""Well within the 250 ms that the rim expects a sign of life in."""
_PROMPT_MS = 20
"""Who was told something says how far it is this soon, so that the rim knows when a new process has caught up."""
MEMORY = "memory"
ALIVE = "alive"
_READ_BYTES = 65_536
_COLLECT_EVERY = 4096
"""Lines between two collections of the younger objects, made when no line waits."""
_COLLECT_AT_LAST = 16 * _COLLECT_EVERY
"""Lines after which they are collected though lines wait."""

assert TICK_MS <= ALIVE_MS < 250


class Core(Protocol):
    """What a process behind the rim does, pure: time is passed in.

    A message of kind ``memory`` is ``{"stay": …, "memory": …}``: what the core wants back, after a restart, as
    ``Resumed``. It is for the rim's recall and goes no further.
    """

    def take(self, message: Feed, now_ns: int) -> list[Message]:
        """Take one message of the rim."""
        ...

    def tick(self, now_ns: int) -> list[Message]:
        """Time has come to ``now_ns``."""
        ...


@runtime_checkable
class Unhurried(Protocol):
    """A core with work that nobody waits for."""

    def afterwards(self, now_ns: int) -> None:
        """All that was said is on its way: do a little of what can wait."""
        ...


class Lines:
    """Bytes in, whole lines out; one beyond ``LINE_BYTES_MAX`` comes out empty: it counts, and holds nothing."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._dropping = False

    def push(self, data: bytes) -> list[bytes]:
        """Lines that are whole now, without their ends."""
        self._held += data
        *whole, rest = self._held.split(b"\n")
        self._held = rest
        if self._dropping and whole:
            whole[0].clear()
            self._dropping = False
        if len(self._held) > LINE_BYTES_MAX:
            self._dropping = True
            self._held.clear()
        return [bytes(line) for line in whole]


class Loop:
    """A core between two descriptors."""

    def __init__(self, core: Core, read_fd: int, write_fd: int, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._core = core
        self._unhurried = core if isinstance(core, Unhurried) else None
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._now_ns = now_ns
        self._lines = Lines()
        self._taken = 0
        self.refused = 0
        """Lines that were no message."""
        self._alive_ns: int | None = None
        self._ticked_ns: int | None = None
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)
        os.set_blocking(read_fd, False)

    def run(self) -> None:
        """Serve until the input ends or nobody reads the output."""
        since_collection = 0
        with contextlib.suppress(BrokenPipeError):
            self._step(b"")
            while True:
                data = b""
                if self._poll.poll(TICK_MS):
                    data = os.read(self._read_fd, _READ_BYTES)
                    if not data:
                        return
                    since_collection += data.count(b"\n")
                self._step(data)
                idle = since_collection >= _COLLECT_EVERY and not self._poll.poll(0)
                if idle or since_collection >= _COLLECT_AT_LAST:
                    gc.collect(1)
                    since_collection = 0

    def _step(self, data: bytes) -> None:
        out: list[bytes] = []
        now_ns = self._now_ns()
        for line in self._lines.push(data):
            self._taken += 1
            try:
                message = decode(line)
            except InputError:
                self.refused += 1
                continue
            out += [self._line(told) for told in self._core.take(message, now_ns)]
        if self._ticked_ns is None or now_ns - self._ticked_ns >= TICK_MS * NS_PER_MS:
            self._ticked_ns = now_ns
            out += [self._line(told) for told in self._core.tick(now_ns)]
        wait_ms = _PROMPT_MS if data else ALIVE_MS - TICK_MS
        if self._alive_ns is None or now_ns - self._alive_ns >= wait_ms * NS_PER_MS:
            self._alive_ns = now_ns
            out.append(self._line((ALIVE, {"taken": self._taken, "refused": self.refused})))
        if out:
            _write_all(self._write_fd, b"".join(out))
        if self._unhurried is not None:
            self._unhurried.afterwards(self._now_ns())

    def _line(self, message: Message) -> bytes:
        kind, data = message
        if kind == MEMORY:  # the rim keeps what was fed after this line beside it
            data = {**data, "taken": self._taken}
        return json.dumps([kind, data], separators=(",", ":"), allow_nan=False).encode() + b"\n"


def run(make: Callable[[Any], Core], arguments: list[str]) -> int:
    """The whole of a module that ``SideProcess`` starts; the exit code is 0 when the rim hung up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the rim decides when we end
    told = json.loads(arguments[0])
    _settle(told["place"])
    try:
        core = make(told["settings"])
    except EdgewardError as error:
        sys.stderr.write(f"{error} [{error.code}]\n")
        return ConfigError.exit_code
    gc.collect()
    gc.freeze()
    gc.disable()
    Loop(core, sys.stdin.fileno(), sys.stdout.fileno()).run()
    return 0


def _settle(place: dict[str, Any]) -> None:
    """Take the place in the system that the rim chose; what the system refuses is left as it was."""
    policy, inherited = class_of(0)
    if place["realtime"] and inherited > 1:  # below the rim, above everything ordinary
        put(0, (policy, inherited - 1))
    elif not place["realtime"] and inherited:
        put(0, ORDINARY)
    with contextlib.suppress(OSError):
        os.nice(place["niceness"])
    with contextlib.suppress(OSError, ValueError):
        path = Path("/proc/self/oom_score_adj")
        path.write_text(str(min(1000, int(path.read_text()) + place["oom_score_more"])))


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
