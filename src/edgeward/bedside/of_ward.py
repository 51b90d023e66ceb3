"""A stream's ear for its ward: lines that say which bundles are in charge, until the ward hangs up."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from edgeward.bedside.behind import Lines
from edgeward.bedside.feed import TaskSettings, decode
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES = 65_536


class OfWard:
    """Hears ``read_fd`` in a thread of its own; ``hung_up`` is called from it when nobody holds the other end any more.

    What was told last counts; what is no message, or of another task, is passed over.
    """

    def __init__(self, task: str, read_fd: int, hung_up: Callable[[], None]) -> None:
        self._task = task
        self._read_fd = read_fd
        self._hung_up = hung_up
        self._changed = threading.Condition()
        self._told: TaskSettings | None = None
        threading.Thread(target=self._run, name="of-ward", daemon=True).start()

    def first(self, within_s: float) -> TaskSettings:
        """What the ward told first; no bundles where it told nothing within ``within_s``."""
        with self._changed:
            self._changed.wait_for(lambda: self._told is not None, within_s)
        return self.due() or TaskSettings(self._task)

    def due(self) -> TaskSettings | None:
        """What was told since the last call, once."""
        with self._changed:
            told, self._told = self._told, None
            return told

    def _run(self) -> None:
        lines = Lines()
        with contextlib.suppress(OSError):
            while data := os.read(self._read_fd, _READ_BYTES):
                for line in lines.push(data):
                    self._take(line)
        self._hung_up()

    def _take(self, line: bytes) -> None:
        with contextlib.suppress(InputError):
            message = decode(line)
            if isinstance(message, TaskSettings) and message.task == self._task:
                with self._changed:
                    self._told = message
                    self._changed.notify_all()
