"""JSON lines: one object a line, ``t`` in UTC, ``kind``, then the message's own fields. Waves are left out.

Writing happens in a thread with a bounded queue: a full disk or a reader that stops reading costs lines, which are
counted and reported, and never delays a beat.
"""

from __future__ import annotations

import io
import json
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeward.kernel.clock import Clock

_QUEUE_MAX = 10_000
_CLOSE_S = 2.0
_LEFT_OUT = frozenset({"wave", "qrs"})


def unbuffered(descriptor: int) -> IO[str]:
    """A text stream over ``descriptor`` that holds nothing back and has no lock.

    Python's own buffers keep what could not be written, raise again on closing, and make the end of the process wait
    for the lock of a writer that is stuck on a reader which stopped reading.
    """
    return io.TextIOWrapper(io.FileIO(descriptor, "w"), encoding="utf-8", write_through=True)


class JsonLines:
    """Writes messages to ``stream`` (text). ``dropped`` counts lines that could not be written."""

    def __init__(self, stream: IO[str], clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._queue: deque[str] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._drain, name="json-lines", daemon=True)
        self._thread.start()

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Queue one line; beyond 10,000 waiting lines the new one is dropped."""
        if kind in _LEFT_OUT:
            return
        stamp = self._clock.wall().isoformat(timespec="milliseconds")
        line = json.dumps({"t": stamp, "kind": kind, **data}, separators=(",", ":"))
        with self._wake:
            if len(self._queue) >= _QUEUE_MAX:
                self.dropped += 1
                return
            self._queue.append(line)
            self._wake.notify()

    def close(self) -> None:
        """Write out what is queued, for at most two seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(_CLOSE_S)

    def _drain(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                lines = list(self._queue)
                self._queue.clear()
                if not lines:
                    return
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # full disk, closed pipe, closed file: the stream must not notice
                self.dropped += len(lines)
