"""An ECG bed's stream as a process of the ward: started, heard, replaced when it ends or falls silent.

It is the whole single-bed device (``edgeward bedside run``) with its messages on standard output as JSON lines: its
page, its engine and its 4 ms are its own, and nothing that the ward does can delay a beat. The ward takes its numerics,
its modes and its advisories.
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
from edgeward.inference.backoff import Backoff, BackoffPolicy
from edgeward.inference.launch import environment
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.bedside.messages import Message
    from edgeward.kernel.clock import Clock

SILENT_NS = 60 * NS_PER_S
"""A stream that spoke and then says nothing for so long is stuck: it tells its latency every second."""
PATIENCE = BackoffPolicy(free=3, base_s=1.0, longest_s=30.0)
STOP_S = 8.0
_READ_BYTES = 262_144


class EcgStream:
    """The stream of ``bed``: runs ``command`` until ``stop``. Nothing here waits but ``stop``.

    ``fileno`` becomes readable when there is something to hear.
    """

    def __init__(self, bed: str, command: Sequence[str], clock: Clock) -> None:
        self.bed = bed
        self._command = list(command)
        self._clock = clock
        self._backoff = Backoff(PATIENCE)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._spoke_ns: int | None = None
        self._epoll = select.epoll()
        self.restarts = -1

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
        if process is None or process.stdout is None:
            return []
        try:
            data = os.read(process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            self._bury()
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        self._spoke_ns = self._clock.monotonic_ns()
        return [message for line in lines if (message := _message(line)) is not None]

    def check(self, now_ns: int) -> str:
        """Look after the process; returns what happened to it, if anything: "started", "ended", "silent"."""
        process = self._process
        if process is None:
            if not self._backoff.allows(now_ns):
                return ""
            return "started" if self._spawn(now_ns) else ""
        if process.poll() is not None:
            self._bury()
            return "ended"
        if self._spoke_ns is not None and now_ns - self._spoke_ns > SILENT_NS:
            self._bury()
            return "silent"
        return ""

    def stop(self) -> None:
        """End the process in order, within ``STOP_S``."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        self._bury()
        self._epoll.close()

    def _spawn(self, now_ns: int) -> bool:
        try:
            process = subprocess.Popen(  # noqa: S603 (our own program; the arguments are the site's settings)
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env={**environment(), **_home()},
                process_group=0,
            )
        except OSError:
            self._backoff.failed(now_ns)
            return False
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._epoll.register(process.stdout.fileno(), select.EPOLLIN)
        self._process, self._rest, self._spoke_ns = process, b"", None
        self.restarts += 1
        return True

    def _bury(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdout is not None
        self._epoll.unregister(process.stdout.fileno())
        process.stdout.close()
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._backoff.failed(self._clock.monotonic_ns())


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
