"""The engine in a process of its own, with a warm standby beside it.

``infer`` gives scores or a ``Failure``, within its budget, whatever happens to the worker: one that crashes, hangs or
gives scores that are not finite is killed, the standby (loaded, warmed, its golden vectors passed) takes over for the
next window, and another is started. The host has no thread: replacements are started and looked after inside ``infer``
(after a failure, when the window is lost anyway), ``check`` and ``state``; none of them waits for a worker to start.

A worker that nobody asks is asked by ``check`` for one golden vector after the other, so that it cannot hang or go
wrong unnoticed between two windows. Nobody waits for that either: the answer is heard by a later ``check``, or by the
window that comes meanwhile. It proves the engine, not a patient's window: no ladder may count it as a good result.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward.bundle.archive import read_bundle
from edgeward.inference.backend import require_library
from edgeward.inference.backoff import Backoff, BackoffPolicy
from edgeward.inference.child import Bell, Child, WorkerSettings
from edgeward.inference.golden import GoldenReport, read_golden
from edgeward.inference.shared import Operation, Status
from edgeward.kernel.clock import NS_PER_MS
from edgeward.kernel.errors import BundleError, EngineError
from edgeward.kernel.limits import BUNDLE_BYTES_MAX, ENGINE_HANG_MS, ENGINE_IDLE_MS, ENGINE_LOOK_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgeward.bundle.manifest import Manifest
    from edgeward.inference.backend import Array
    from edgeward.inference.golden import GoldenVectors
    from edgeward.inference.shared import Answer
    from edgeward.kernel.errors import EdgewardError

START_S_MAX = 30.0
"""A worker that has not reported by then is killed."""
GOLDEN_S_MAX = 10.0
"""A golden run that takes longer has hung."""
REAP_S_MAX = 2.0
"""How long ``stop`` waits for killed workers."""
_NS_PER_S = 1_000_000_000


class Failure(StrEnum):
    """Why there are no scores."""

    CRASHED = "crashed"
    HUNG = "hung"
    BAD_OUTPUT = "bad_output"
    NOT_READY = "not_ready"


class Readiness(StrEnum):
    """Whether the next window can be scored."""

    READY = "ready"
    STARTING = "starting"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Result:
    """Scores (classes,) or a failure, never both.

    ``infer_ns``: the whole call; ``run_ns``: the model alone, inside the worker (0 on failure).
    """

    scores: Array | None
    failure: Failure | None
    infer_ns: int
    run_ns: int = 0


@dataclass(slots=True)
class _Probe:
    """Golden vector ``index``, asked of ``worker`` while nobody else was asking, and ``check``'s last look at it."""

    worker: Child
    sequence: int
    index: int
    asked_ns: int
    looked_ns: int
    spared: bool = False

    def silent(self, now_ns: int, hang_ms: int) -> bool:
        """Whether it went unanswered for too long; one look that comes late, for the host was held up, convicts not."""
        held_up = now_ns - self.looked_ns > 2 * ENGINE_LOOK_MS * NS_PER_MS
        self.looked_ns = now_ns
        if now_ns - self.asked_ns < hang_ms * NS_PER_MS:
            return False
        if held_up and not self.spared:
            self.spared = True
            return False
        return True


@dataclass(frozen=True, slots=True)
class HostState:
    """``restarts``: workers in place that failed since ``start``; ``standby``: whether a warm one waits.

    ``last_exit``: how the last worker ended ("signal-9", "exit-1").
    """

    readiness: Readiness
    restarts: int
    standby: bool
    last_exit: str | None


class EngineHost:
    """One model of one bundle, served by a worker process. A context manager: ``start`` on entry, ``stop`` on exit.

    ``bundle``: its file, opened once, so that replacements load the same bytes; ``model``: a model key (default: the
    manifest's); ``threads``: of the model; ``niceness``, ``cpu``: the worker's, where the system lets it. One of host
    and worker waits while the other runs, so they lose nothing on one processor, and waking up within it is several
    times quicker than across two: a caller that keeps itself to a processor gives it as ``cpu``.
    Calls from several threads take turns.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        model: str | None = None,
        threads: int = 1,
        standby: bool = True,
        niceness: int = 0,
        cpu: int | None = None,
        backoff: BackoffPolicy | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = bundle
        self._key = model
        self._placement = (threads, niceness, cpu)
        self._with_standby = standby
        self.hang_ms = ENGINE_HANG_MS
        """How long a worker that nobody asks may leave a golden vector unanswered; set at any time."""
        self._now_ns = now_ns
        self._backoff = Backoff(backoff or BackoffPolicy())
        self._lock = threading.RLock()
        self._bundle_fd = -1
        self._manifest: Manifest | None = None
        self._settings: WorkerSettings | None = None
        self._active: Child | None = None
        self._next: Child | None = None
        self._next_since_ns = 0
        self._dying: list[Child] = []
        self._sequence = 0
        self._restarts = 0
        self._last_exit: str | None = None
        self._vectors: GoldenVectors | None = None
        self._probe: _Probe | None = None
        self._asked_ns = 0
        self._failed_idle: Failure | None = None
        self._start_error: EdgewardError | None = None

    def __enter__(self) -> EngineHost:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle that is served; ``EngineError`` before ``start``."""
        if self._manifest is None:
            raise EngineError("not-started", "the engine was not started; call start first")
        return self._manifest

    def start(self, *, wait: bool = True) -> None:
        """Read the bundle and wait until a worker serves it; the standby starts behind it. Starting twice does nothing.

        Without ``wait`` the worker starts behind the caller, who looks with ``check`` or ``ready``; what keeps it from
        starting is then ``start_error``.
        Raises ``BundleError`` (unreadable, damaged, or its model does not fit), ``ConfigError`` (no such backend, or
        its library is absent), ``EngineError`` (golden vectors failed, or the worker did not start).
        """
        with self._lock:
            if self._settings is not None:
                return
            try:
                self._open()
                if wait:
                    self._active = self._started()
            except BaseException:
                self.stop()
                raise
            self._tend()

    def stop(self) -> None:
        """Kill and reap every worker and close the bundle; may be called at any time, any number of times."""
        with self._lock:
            self._settings = None
            for child in (self._active, self._next):
                if child is not None:
                    self._bury(child)
            self._active = self._next = self._probe = None
            self._dying = [child for child in self._dying if child.reap(REAP_S_MAX) is None]
            if self._bundle_fd >= 0:
                os.close(self._bundle_fd)
                self._bundle_fd = -1

    def stand_by(self, wanted: bool) -> None:
        """From now on keep a warm standby beside the worker in place, or none; never waits."""
        with self._lock:
            self._with_standby = wanted
            if not wanted and self._active is not None and self._next is not None:
                self._bury(self._next)
                self._next = None
            self._tend()

    def infer(self, inputs: Mapping[str, Array], *, budget_s: float) -> Result:
        """Scores of one window, or why there are none, within ``budget_s`` (to the millisecond, at least 1 ms).

        Never raises for trouble with the engine. ``InputError`` when ``inputs`` are not what the manifest describes or
        hold a NaN or an infinity: that is no fault of the engine and does not cost a worker.
        """
        begin = time.perf_counter_ns()
        with self._lock:
            worker = self._active
            if worker is None:
                self._tend()
                worker = self._active
            if worker is None:
                return Result(None, Failure.NOT_READY, time.perf_counter_ns() - begin)
            failure = self._probed(_milliseconds(budget_s))
            if failure is None:
                worker.memory.buffers.fill(inputs)
                left_s = budget_s - (time.perf_counter_ns() - begin) / _NS_PER_S
                failure = self._exchange(worker, Operation.INFER, _milliseconds(left_s))
            if failure is None:
                answer, scores = worker.memory.answered(self._sequence)
                failure = _failure_of(answer)
                if failure is None:
                    return Result(scores, None, time.perf_counter_ns() - begin, answer.run_ns)
            elapsed = time.perf_counter_ns() - begin
            self._replace(worker)
            return Result(None, failure, elapsed)

    def golden(self) -> GoldenReport:
        """Run the golden vectors on the worker in place; one that cannot is replaced and has not passed."""
        with self._lock:
            self._tend()
            worker = self._active
            if worker is None:
                return GoldenReport(passed=False, worst=math.inf, count=0)
            timeout_ms = _milliseconds(GOLDEN_S_MAX)
            if self._probed(timeout_ms) or self._exchange(worker, Operation.GOLDEN, timeout_ms):
                self._replace(worker)
                return GoldenReport(passed=False, worst=math.inf, count=0)
            return worker.golden_report()

    def check(self) -> Failure | None:
        """Look after the workers without waiting; call it every ``ENGINE_LOOK_MS``, also with nothing to infer.

        Once when the worker in place failed between two windows (a standby may serve already): ``CRASHED``, or what a
        golden vector showed, ``HUNG`` or ``BAD_OUTPUT``. ``NOT_READY`` while none serves, else None.
        """
        with self._lock:
            self._tend()
            worker, now_ns = self._active, self._now_ns()
            if worker is not None and self._probe is not None and self._probe.silent(now_ns, self.hang_ms):
                self._failed_idle = Failure.HUNG
                self._replace(worker)
            elif worker is not None and self._probe is None and now_ns - self._asked_ns >= ENGINE_IDLE_MS * NS_PER_MS:
                self._begin_probe(worker)
            failure, self._failed_idle = self._failed_idle, None
            return failure or (None if self._active is not None else Failure.NOT_READY)

    @property
    def ready(self) -> bool:
        """Whether a worker whose golden vectors passed is in place."""
        return self.state.readiness is Readiness.READY

    @property
    def state(self) -> HostState:
        """How things stand now; looks after the workers as ``check`` does."""
        with self._lock:
            self._tend()
            readiness = Readiness.DOWN
            if self._active is not None:
                readiness = Readiness.READY
            elif self._next is not None:
                readiness = Readiness.STARTING
            standby = self._next is not None and self._next.ready
            return HostState(readiness, self._restarts, standby, self._last_exit)

    @property
    def probing(self) -> bool:
        """Whether a golden vector is unanswered, which a caller who is less patient must not inherit."""
        return self._probe is not None

    @property
    def start_error(self) -> EdgewardError | None:
        """Why the last worker that was started did not come to serve; None once one serves."""
        return self._start_error

    @property
    def worker_pid(self) -> int | None:
        """The process that serves, so that a test or a demonstration can harm it from outside; None when none does."""
        return self._active.pid if self._active is not None else None

    @property
    def standby_pid(self) -> int | None:
        """The process that starts or waits to take over; None when there is none."""
        return self._next.pid if self._next is not None else None

    def _open(self) -> None:
        try:
            self._bundle_fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            if os.fstat(self._bundle_fd).st_size > BUNDLE_BYTES_MAX:
                raise BundleError("bundle-too-large", f"the bundle is larger than {BUNDLE_BYTES_MAX} bytes; refuse it")
            with os.fdopen(os.dup(self._bundle_fd), "rb") as file:
                bundle = read_bundle(file.read())
        except OSError as error:
            raise BundleError("bundle-unreadable", "the bundle's file cannot be read; install it again") from error
        spec = bundle.manifest.model(self._key)
        require_library(spec.backend)
        threads, niceness, cpu = self._placement
        self._manifest = bundle.manifest
        self._vectors = None
        with contextlib.suppress(BundleError):  # the worker refuses them, and tells why
            self._vectors = read_golden(bundle, spec.key)
        self._settings = WorkerSettings(self._bundle_fd, bundle.sha256, spec.key, threads, niceness, cpu)

    def _started(self) -> Child:
        """A worker that is ready; raises what kept it from starting."""
        child = self._spawned()
        if child is None:
            raise EngineError("start-failed", "the system refuses to start a process; free memory, then retry")
        if not child.wait_ready(_milliseconds(START_S_MAX)) or not child.ready:
            error = child.error or EngineError("start-hung", f"the engine did not start within {START_S_MAX:g} s")
            self._bury(child)
            raise error
        return child

    def _exchange(self, worker: Child, operation: Operation, timeout_ms: int) -> Failure | None:
        if not self._asked(worker, operation):
            return Failure.CRASHED
        heard = worker.hear(self._sequence, timeout_ms)
        if heard is Bell.ANSWER:
            return None
        return Failure.HUNG if heard is Bell.SILENCE else Failure.CRASHED

    def _asked(self, worker: Child, operation: Operation) -> bool:
        self._sequence += 1
        self._asked_ns = self._now_ns()
        return worker.ask(self._sequence, operation)

    def _begin_probe(self, worker: Child) -> None:
        """Ask the next golden vector. Whoever cannot be asked is dead, and the next look sees it."""
        if self._vectors is None:
            return
        index = self._sequence % len(self._vectors)
        worker.memory.buffers.fill(self._vectors.window(index))
        if self._asked(worker, Operation.INFER):
            self._probe = _Probe(worker, self._sequence, index, self._asked_ns, self._asked_ns)

    def _probed(self, timeout_ms: int = 0) -> Failure | None:
        """Hear the golden vector under way, if there is one: what is wrong with the worker in place, or None.

        Without a timeout nothing is wrong with one whose answer is still to come.
        """
        probe = self._probe
        if probe is None or self._vectors is None:
            return None
        heard = probe.worker.hear(probe.sequence, timeout_ms)
        if heard is Bell.SILENCE:
            return Failure.HUNG if timeout_ms else None
        self._probe = None
        if heard is Bell.DEATH:
            return Failure.CRASHED
        answer, scores = probe.worker.memory.answered(probe.sequence)
        return _failure_of(answer) or (None if self._vectors.agrees(probe.index, scores) else Failure.BAD_OUTPUT)

    def _replace(self, worker: Child) -> None:
        """Kill the worker in place; the standby takes over if it is ready, and a replacement is started."""
        self._remove(worker)
        self._tend()

    def _remove(self, worker: Child) -> None:
        self._bury(worker)
        self._active = self._probe = None
        self._restarts += 1
        self._backoff.failed(self._now_ns())

    def _tend(self) -> None:
        """Reap, notice deaths, let the next worker take over, start another: everything that does not wait."""
        if self._settings is None:
            return
        self._dying = [child for child in self._dying if not self._reaped(child)]
        if self._active is not None and (failure := self._seen(self._active)) is not None:
            self._remove(self._active)
            self._failed_idle = failure
        self._look_at_next()
        if self._active is None and self._next is not None and self._next.ready:
            self._active, self._next, self._start_error = self._next, None, None
        wanted = self._active is None or self._with_standby
        if wanted and self._next is None and self._backoff.allows(self._now_ns()):
            self._next = self._spawned()
            self._next_since_ns = self._now_ns()

    def _seen(self, worker: Child) -> Failure | None:
        """What is wrong with the worker in place, as far as can be seen without waiting."""
        if self._probe is not None:
            return self._probed()
        return None if worker.look() else Failure.CRASHED

    def _look_at_next(self) -> None:
        child = self._next
        if child is None:
            return
        late = not child.ready and self._now_ns() - self._next_since_ns > START_S_MAX * _NS_PER_S
        if late or not child.look():
            self._start_error = child.error or EngineError("start-hung", "the engine did not start in time; fall back")
            self._bury(child)
            self._next = None
            self._backoff.failed(self._now_ns())

    def _spawned(self) -> Child | None:
        assert self._settings is not None
        try:
            return Child(self._settings, self.manifest)
        except OSError:  # no process, memory or descriptor to be had: later perhaps
            self._backoff.failed(self._now_ns())
            return None

    def _bury(self, child: Child) -> None:
        child.kill()
        self._dying.append(child)

    def _reaped(self, child: Child) -> bool:
        ended = child.reap()
        if ended is not None:
            self._last_exit = ended
        return ended is not None


def _failure_of(answer: Answer) -> Failure | None:
    if answer.whole and answer.status is Status.OK:
        return None
    return Failure.BAD_OUTPUT if answer.status is Status.BAD_OUTPUT else Failure.CRASHED


def _milliseconds(duration_s: float) -> int:
    return max(1, int(duration_s * 1000))
