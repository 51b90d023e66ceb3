"""The trial that a bundle must pass on this very device before it may serve, whatever its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.update import TrialResult
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost
from edgeward.inference.latency import LatencyHistogram
from edgeward.kernel.limits import ENGINE_HANG_MS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TRIAL_RUNS = 200
_TRIAL_ROUNDS = 3


def run_trial(path: Path, threads: int, deadline_ms_of: Callable[[Bundle], float]) -> TrialResult:
    """Plan, golden vectors, and latency against the deadline that ``deadline_ms_of`` reads from the plan.

    The latency is the p99 of 200 scorings over the process boundary; the best of three rounds counts, so that another
    job's burst does not refuse a good bundle.
    """
    bundle = read_bundle(path.read_bytes())
    deadline_ms = deadline_ms_of(bundle)
    vectors = read_golden(bundle)
    with EngineHost(path, threads=threads, standby=False) as host:
        golden = host.golden()
        if not golden.passed:
            return TrialResult(
                False, "golden-failed", "the golden vectors do not give the expected scores on this device"
            )
        best_us = float("inf")
        for _ in range(_TRIAL_ROUNDS):
            histogram = LatencyHistogram()
            for run in range(_TRIAL_RUNS):
                inputs = {name: array[run % len(vectors)][np.newaxis] for name, array in vectors.inputs.items()}
                result = host.infer(inputs, budget_s=ENGINE_HANG_MS / 1000.0)
                if result.failure is not None:
                    return TrialResult(False, f"trial-{result.failure.value}", "the engine failed during its trial")
                histogram.record(result.infer_ns)
            best_us = min(best_us, histogram.snapshot().p99_us)
            if best_us <= deadline_ms * 1000.0:
                return TrialResult(True)
    return TrialResult(
        False,
        "trial-too-slow",
        f"scoring takes {best_us / 1000.0:.2f} ms at p99 on this device, its deadline is {deadline_ms:g} ms; "
        "publish a smaller model for such devices",
    )
