"""One worker process as its host sees it: started, asked, killed, reaped; never waited for without a limit."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward.inference import shared
from edgeward.inference.golden import GoldenReport
from edgeward.inference.launch import child_pipe, ending, environment, last_words, stderr_pipe
from edgeward.inference.shared import BELL, Operation, SharedMemory, Status
from edgeward.kernel.errors import BundleError, ConfigError, EdgewardError, EngineError

if TYPE_CHECKING:
    from edgeward.bundle.manifest import Manifest

_ERRORS: dict[str, type[EdgewardError]] = {kind.__name__: kind for kind in (BundleError, ConfigError, EngineError)}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What every worker of a host is started with."""

    bundle_fd: int
    sha256: str
    model: str
    threads: int
    niceness: int
    cpu: int | None


class Bell(StrEnum):
    """What was heard from a worker."""

    ANSWER = "answer"
    SILENCE = "silence"
    DEATH = "death"


class Child:
    """A worker process with its pipes and its memory.

    It stands in a process group of its own: Ctrl-C in the terminal does not reach it, and if the host dies while the
    worker is stopped, the kernel hangs up on the orphaned group. PR_SET_PDEATHSIG is not used: it fires when the
    *thread* that started the worker ends.
    """

    def __init__(self, settings: WorkerSettings, manifest: Manifest) -> None:
        with contextlib.ExitStack() as passed:  # what only the child needs is closed here, whatever happens
            memory_fd = shared.create(manifest)
            passed.callback(os.close, memory_fd)
            self.memory = SharedMemory(memory_fd, manifest)
            with contextlib.ExitStack() as kept:
                request_read, self._request = child_pipe(passed, kept, keep_read=False)
                answer_write, self._answer = child_pipe(passed, kept, keep_read=True)
                stderr_write, self._stderr = stderr_pipe(passed, kept)
                told = {
                    "memory_fd": memory_fd,
                    "request_fd": request_read,
                    "answer_fd": answer_write,
                    "bundle_fd": settings.bundle_fd,
                    "sha256": settings.sha256,
                    "model": settings.model,
                    "threads": settings.threads,
                    "niceness": settings.niceness,
                    "cpu": settings.cpu,
                }
                self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module; the rest is numbers)
                    [sys.executable, "-P", "-m", "edgeward.inference.worker", json.dumps(told)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr_write,
                    pass_fds=(memory_fd, request_read, answer_write, settings.bundle_fd),
                    env=environment(settings.threads),
                    cwd="/",
                    process_group=0,
                )
                self._fds = kept.pop_all()
        self._hearing = select.poll()
        self._hearing.register(self._answer, select.POLLIN)
        self._asked = False
        self.ready = False
        self.error: EdgewardError | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def look(self) -> bool:
        """Whether it still may serve, without waiting; sets ``ready`` once it said so, or ``error``."""
        return self.wait_ready(0)

    def wait_ready(self, timeout_ms: int) -> bool:
        """As ``look``, waiting up to ``timeout_ms`` for its start report."""
        heard = self.hear(0, 0 if self.ready else timeout_ms)
        if heard is Bell.DEATH:
            self.error = self.error or self._stillborn()
            return False
        if heard is Bell.ANSWER and not self.ready:
            report, (answer, _) = self.memory.report(), self.memory.answered(0)
            if answer.status is Status.OK and answer.whole:
                self.ready = True
            else:
                kind = _ERRORS.get(str(report.get("error")), EngineError)
                self.error = kind(str(report.get("code", "start-failed")), str(report.get("message", "no report")))
                return False
        return True

    def ask(self, sequence: int, operation: Operation) -> bool:
        """Ring for the request whose inputs lie in ``memory``; False when nobody is there to hear it."""
        self.memory.ask(sequence, operation)
        self._asked = True
        try:
            return os.write(self._request, BELL.pack(sequence)) == BELL.size
        except OSError:
            return False

    def hear(self, sequence: int, timeout_ms: int) -> Bell:
        """Wait for the bell of ``sequence``. A bell of any other number counts as death: it can only be a fault."""
        if not self._hearing.poll(timeout_ms):
            return Bell.SILENCE
        try:
            rung = os.read(self._answer, BELL.size)
        except OSError:
            return Bell.DEATH
        return Bell.ANSWER if rung == BELL.pack(sequence) else Bell.DEATH

    def golden_report(self) -> GoldenReport:
        """The golden report beside the last answer to ``Operation.GOLDEN`` or beside the start report."""
        report = self.memory.report()
        return GoldenReport(
            report.get("passed") is True, float(report.get("worst", float("inf"))), int(report.get("count", 0))
        )

    def kill(self) -> None:
        """End it now, hung, stopped or well. ``reap`` afterwards."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def reap(self, timeout_s: float = 0.0) -> str | None:
        """How it ended ("signal-9", "exit-1") once it has; None while it has not.

        An ended child gives its pipes and memory back here, not when the last reference to it goes: a traceback may
        keep it for long. It must not be used afterwards.
        """
        try:
            code = self._process.wait(timeout_s) if timeout_s else self._process.poll()
        except subprocess.TimeoutExpired:
            return None
        if code is None:
            return None
        self._fds.close()
        if hasattr(self, "memory"):
            del self.memory
        return ending(code)

    def _stillborn(self) -> EngineError:
        """Why it ended before it was ready. Its last words may be quoted: it has seen no patient's data yet."""
        said = "" if self._asked else last_words(self._stderr)
        words = f" (its last words: {said})" if said else ""
        return EngineError("start-failed", f"the engine's process ended before it was ready{words}; fall back")
