"""Latency of each stage of a bed, or of a ward's rim, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.inference.latency import WINDOW_NS, LatencyHistogram
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.inference.latency import LatencySummary
    from edgeward.kernel.clock import Clock

STAGES = ("quality", "resample", "qrs", "watch", "window", "engine", "total")
"""In the order of the road; ``total`` is from the arrival of a window's last sample to its scores."""


class StageLatency:
    """The ``StageTimer`` of a bed: one histogram per stage, since start and over a sliding window."""

    def __init__(self, clock: Clock, stages: Sequence[str] = STAGES) -> None:
        self._clock, self._stages = clock, tuple(stages)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as at the start."""
        self._histograms = {stage: LatencyHistogram() for stage in self._stages}
        self.late = 0

    def start(self) -> int:
        """A mark in ns."""
        return self._clock.monotonic_ns()

    def lap(self, stage: str, mark: int) -> int:
        """Record the time since ``mark`` for ``stage``; returns a new mark."""
        now = self._clock.monotonic_ns()
        self._histograms[stage].record(now - mark, now)
        return now

    def record(self, stage: str, duration_ns: int) -> None:
        """Record a duration measured elsewhere."""
        self._histograms[stage].record(duration_ns, self._clock.monotonic_ns())

    def histogram(self, stage: str) -> LatencyHistogram:
        """The histogram of one stage."""
        return self._histograms[stage]

    def message(self, budget_ms: float) -> dict[str, Any]:
        """What the page and the JSON lines show: each stage since start and, in ``window``, over the last minute."""
        now = self._clock.monotonic_ns()
        stages = [
            {"name": stage, **_figures(histogram.snapshot()), "window": _figures(histogram.window(now))}
            for stage, histogram in self._histograms.items()
        ]
        return {"stages": stages, "window_s": WINDOW_NS / NS_PER_S, "budget_ms": budget_ms, "late": self.late}


def _figures(summary: LatencySummary) -> dict[str, float]:
    return {
        "count": summary.count,
        "mean_us": round(summary.mean_us, 1),
        "p50_us": round(summary.p50_us, 1),
        "p95_us": round(summary.p95_us, 1),
        "p99_us": round(summary.p99_us, 1),
        "p999_us": round(summary.p999_us, 1),
        "max_us": round(summary.max_us, 1),
    }
