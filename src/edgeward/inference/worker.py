"""The process that runs the model: ``python -m edgeward.inference.worker '{…}'``, started by ``EngineHost`` only.

It loads the bundle from the file descriptor it was given, warms up, runs the golden vectors, reports, and then answers
one request after another. It ends when the request pipe does, so that it never outlives its host. Everything that
could make it pause is out of the way by then: what was loaded is frozen out of the garbage collector, and what little
may gather is collected between requests.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bundle.archive import read_bundle
from edgeward.inference.engine import Engine
from edgeward.inference.shared import BELL, Operation, SharedMemory, Status
from edgeward.kernel.errors import BundleError, EdgewardError, EngineError

if TYPE_CHECKING:
    from edgeward.bundle.archive import Bundle

_COLLECT_EVERY = 4096
"""Requests between two collections of the youngest objects, made when no request waits; each takes microseconds."""
_OOM_SCORE_MORE = 300
"""When memory runs out the kernel shall take the worker, which is replaced, before its host (of 1000)."""


def main(arguments: list[str]) -> int:
    """Serve until the host hangs up; the exit code is 0 then."""
    settings = json.loads(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the host decides when we end
    _settle(settings)
    bundle = _read(settings)
    memory = SharedMemory(settings["memory_fd"], bundle.manifest)
    os.close(settings["memory_fd"])
    bell_fd = settings["answer_fd"]
    try:
        engine = Engine.load(bundle, settings["model"], threads=settings["threads"], buffers=memory.buffers)
        golden = engine.golden()
        if not golden.passed:
            raise EngineError(
                "golden-failed",
                f"the golden vectors differ by {golden.worst:.3g}, more than the bundle allows; keep the old slot",
            )
    except EdgewardError as error:
        _report_failure(memory, bell_fd, error)
        return 0
    del bundle
    if settings["cpu"] is not None:
        _run_on({settings["cpu"]})
    memory.answer(0, Status.OK, report=_golden_report(engine))
    gc.collect()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(BrokenPipeError):  # the host is gone
        os.write(bell_fd, BELL.pack(0))
        _serve(engine, memory, settings["request_fd"], bell_fd)
    return 0


def _serve(engine: Engine, memory: SharedMemory, request_fd: int, bell_fd: int) -> None:
    waiting = select.poll()
    waiting.register(request_fd, select.POLLIN)
    since_collection = 0
    while os.read(request_fd, BELL.size):
        sequence, operation = memory.asked()
        status, run_ns, report = Status.OK, 0, None
        if operation == Operation.INFER:
            begin = time.perf_counter_ns()
            try:
                engine.run()
            except EngineError as error:
                status = Status.BAD_OUTPUT if error.code == "bad-output" else Status.RUN_FAILED
            run_ns = time.perf_counter_ns() - begin
        else:
            report = _golden_report(engine)
        memory.answer(sequence, status, run_ns, report)
        os.write(bell_fd, BELL.pack(sequence))
        since_collection += 1
        if since_collection >= _COLLECT_EVERY and not waiting.poll(0):
            gc.collect(0)
            since_collection = 0


def _settle(settings: dict[str, Any]) -> None:
    """Take the place in the system that the host chose; what the system refuses is left as it was."""
    with contextlib.suppress(OSError, ValueError):
        path = Path("/proc/self/oom_score_adj")
        path.write_text(str(min(1000, int(path.read_text()) + _OOM_SCORE_MORE)))
    with contextlib.suppress(OSError):
        os.nice(settings["niceness"])
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)  # whoever started all this may have ignored it
    # Its memory holds patients' windows: no core file, and (1 byte, see core(5)) none behind a pipe either.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    if settings["cpu"] is not None:  # a standby loads elsewhere, not on the processor that the worker in place needs
        _run_on(set(range(os.cpu_count() or 1)))


def _run_on(cpus: set[int]) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.sched_setaffinity(0, cpus)


def _read(settings: dict[str, Any]) -> Bundle:
    """The bundle that the host opened: the same bytes, whatever its path leads to now."""
    fd = settings["bundle_fd"]
    size = os.fstat(fd).st_size
    parts, offset = [], 0
    while offset < size and (part := os.pread(fd, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    os.close(fd)
    raw = b"".join(parts)
    if hashlib.sha256(raw).hexdigest() != settings["sha256"]:
        raise BundleError("bundle-damaged", "the bundle changed after its host had read it; install it again")
    return read_bundle(raw)


def _golden_report(engine: Engine) -> dict[str, Any]:
    report = engine.golden()
    return {"passed": report.passed, "worst": min(report.worst, sys.float_info.max), "count": report.count}


def _report_failure(memory: SharedMemory, bell_fd: int, error: EdgewardError) -> None:
    report = {"error": type(error).__name__, "code": error.code, "message": str(error)[:1000]}
    memory.answer(0, Status.START_FAILED, report=report)
    with contextlib.suppress(BrokenPipeError):
        os.write(bell_fd, BELL.pack(0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
