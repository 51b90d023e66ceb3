"""The trial that a bundle must pass on this very device before it may serve, whatever its task."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.sched import LOWEST, ORDINARY, class_of, put, put_lowest
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.exchange.checkin import Evidence
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost
from edgeward.inference.latency import LatencyHistogram
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.limits import CANDIDATE_HANG_MS, ENGINE_HANG_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.inference.golden import GoldenVectors

_TRIAL_RUNS = 200
_TRIAL_ROUNDS = 3
_LATE_MAX = 2
"""Scorings of a round that may take longer than the deadline, whose p99 then still meets it."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What the device's own trial of a bundle found; ``code`` and ``message`` say why when it did not pass.

    Codes: ``golden-failed``, ``trial-too-slow``, ``trial-crashed``,
    ``trial-hung``, ``trial-bad_output``, ``trial-not_ready``.
    """

    passed: bool
    code: str = ""
    message: str = ""
    evidence: Evidence = field(default_factory=Evidence)


def run_trial(
    path: Path, threads: int, deadline_ms_of: Callable[[Bundle], float], *, realtime: bool = False
) -> TrialResult:
    """Plan, golden vectors, latency against the deadline that ``deadline_ms_of`` reads from the plan, and memory.

    The latency is the p99 of 200 scorings over the process boundary; the best of three rounds counts, so that another
    job's burst does not refuse a good bundle. ``realtime``: it will serve in a stream's real-time class, and so it is
    measured where the system allows it, below every stream, with a pause as long as each scoring for what has no such
    class. What its process holds after them (resident set) is measured; whoever asks has the limit. Raises what keeps
    an engine from starting (``EdgewardError``).
    """
    bundle = read_bundle(path.read_bytes())
    deadline_ms = deadline_ms_of(bundle)
    vectors = read_golden(bundle)
    with EngineHost(path, threads=threads, standby=False) as host:
        if not host.golden().passed:
            return TrialResult(
                False, "golden-failed", "the golden vectors do not give the expected scores on this device"
            )
        # In charge an engine that is silent for longer is taken for hung, whatever deadline its bundle names.
        deadline_us = min(deadline_ms, ENGINE_HANG_MS) * 1000.0
        best_us = float("inf")
        with _as_in_service(host.worker_pid) if realtime else contextlib.nullcontext():
            for _ in range(_TRIAL_ROUNDS):
                round_us = _p99_us(host, vectors, deadline_us, pause=realtime)
                if isinstance(round_us, TrialResult):
                    return round_us
                best_us = min(best_us, round_us)
                if best_us <= deadline_us:
                    break
        memory_kib = resident_kib(host.worker_pid)
    evidence = Evidence(
        golden_vectors=len(vectors),
        latency_us=round(best_us),
        deadline_us=round(deadline_us),
        memory_kib=memory_kib,
    )
    if best_us > deadline_us:
        return TrialResult(
            False,
            "trial-too-slow",
            f"scoring takes {best_us / 1000.0:.2f} ms at p99 on this device, its deadline is {deadline_us / 1000.0:g} "
            "ms; publish a smaller model for such devices",
            evidence,
        )
    return TrialResult(True, evidence=evidence)


@contextlib.contextmanager
def _as_in_service(pid: int | None) -> Iterator[None]:
    """The engine and who asks it in the lowest real-time class while the block runs, where the system allows it."""
    if pid is not None:
        put_lowest(pid, ENGINE_HANG_MS)
    before = class_of(0)
    raised = before == ORDINARY and put(0, LOWEST)
    try:
        yield
    finally:
        if raised:
            put(0, before)


def _p99_us(host: EngineHost, vectors: GoldenVectors, deadline_us: float, *, pause: bool) -> float | TrialResult:
    """The p99 of one round, or how the engine failed; a round that cannot meet ``deadline_us`` any more ends there.

    ``pause``: rest as long as each scoring took.
    """
    histogram, late = LatencyHistogram(), 0
    for run in range(_TRIAL_RUNS):
        inputs = {name: array[run % len(vectors)][np.newaxis] for name, array in vectors.inputs.items()}
        result = host.infer(inputs, budget_s=CANDIDATE_HANG_MS / 1000.0)
        if result.failure is not None:
            return TrialResult(False, f"trial-{result.failure.value}", "the engine failed during its trial")
        histogram.record(result.infer_ns)
        late += result.infer_ns > deadline_us * 1000.0
        if late > _LATE_MAX:
            break
        if pause:
            time.sleep(result.infer_ns / NS_PER_S)
    return histogram.snapshot().p99_us


def resident_kib(pid: int | None) -> int:
    """The resident set of a process in KiB, as the kernel says; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
