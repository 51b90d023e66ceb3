"""The audit of the ladder: every change of every bed's mode, durable, numbered, without PHI.

One JSON line per change, flushed to the disk before the next; ``n`` counts without gaps across restarts, so that a
missing line shows. Writing happens in a thread: the bed never waits for a disk. While the disk is full or gone the
lines wait in memory, up to ``HELD_MAX``, and are written when it is back; ``waiting`` and ``lost`` tell the page.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.kernel.clock import Clock

HELD_MAX = 100_000
"""Lines that wait for a disk: at one change a second, more than a day of them."""
RETRY_S = 1.0
CLOSE_S = 5.0
ROTATE_BYTES = 16 << 20
"""A file that has grown past it becomes ``<name>.1`` (the one before goes): about 100,000 changes each."""
_TAIL_BYTES = 4096
_STAY_BITS = 16
"""Stays that one start may number before the next start, whose audit is at least one line longer, begins."""


class Audit:
    """Appends to ``path``. Raises ``ConfigError`` (``audit-unwritable``) where it cannot be opened at the start."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._held: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._next = _last_number(path) + 1
            self._file = _open(path)
        except OSError as error:
            raise ConfigError(
                "audit-unwritable", f"the audit {path} cannot be written: {error.strerror}; free or repair its disk"
            ) from error
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    @property
    def first_stay(self) -> int:
        """A number above every stay of any start before this one: the audit counts on across starts."""
        return self._next << _STAY_BITS

    @property
    def waiting(self) -> int:
        """Lines not yet on the disk."""
        return len(self._held)

    def record(self, what: str, facts: Mapping[str, Any]) -> None:
        """Take one change; its number and time are given here, in order. Never waits, never raises."""
        with self._wake:
            row = {"n": self._next, "t": self._clock.wall().isoformat(timespec="milliseconds"), "what": what, **facts}
            self._next += 1
            if len(self._held) >= HELD_MAX:
                self.lost += 1  # its number is missing from the file: the gap stays visible
                return
            self._held.append(json.dumps(row, separators=(",", ":")).encode() + b"\n")
            self._wake.notify()

    def close(self) -> None:
        """Write out what is held, for at most ``CLOSE_S``."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._held and not self._closing:
                    self._wake.wait()
                if not self._held:
                    break
                lines = list(self._held)
            try:
                written = self._append(lines)
            except OSError:
                written = 0
            with self._wake:
                for _ in range(written):
                    self._held.popleft()
                if written:
                    continue
                if self._closing:
                    break
                self._wake.wait(RETRY_S)
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _append(self, lines: list[bytes]) -> int:
        """Write whole lines and make them durable; how many are. A torn line is cut off again before it is retried."""
        end = os.fstat(self._file).st_size
        if end > ROTATE_BYTES:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            os.close(self._file)
            self._file = _open(self._path)
            end = 0
        data = b"".join(lines)
        whole = False
        try:
            whole = os.write(self._file, data) == len(data)
            if whole:
                os.fsync(self._file)
        except OSError:
            whole = False
        if not whole:
            os.ftruncate(self._file, end)
        return len(lines) if whole else 0


def _open(path: Path) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return file


def _last_number(path: Path) -> int:
    """The number of the last whole line, 0 where there is none; what a power cut tore off is cut away."""
    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            start = max(0, end - _TAIL_BYTES)
            file.seek(start)
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(start + whole)
            rows = tail[:whole].splitlines()
    except FileNotFoundError:
        rotated = path.with_name(path.name + ".1")
        return _last_number(rotated) if rotated.exists() else 0
    for row in reversed(rows):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return int(json.loads(row)["n"])
    return 0
