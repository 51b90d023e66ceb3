"""Latencies of a bed: since start, and over the last minute."""

from __future__ import annotations

from typing import Any

import pytest

from edgeward.bedside.health import STAGES, StageLatency
from edgeward.testing.clock import ManualClock


def _stage(latency: StageLatency, name: str) -> dict[str, Any]:
    message = latency.message(4.0)
    assert [stage["name"] for stage in message["stages"]] == list(STAGES)
    assert message["window_s"] == 60.0
    found: dict[str, Any] = next(stage for stage in message["stages"] if stage["name"] == name)
    return found


def test_an_old_slow_stretch_leaves_the_window_and_stays_in_the_whole() -> None:
    """Who looks at a device now must see how it does now; who looks into its past finds the worst still there."""
    clock = ManualClock()
    latency = StageLatency(clock)
    for _ in range(10):
        mark = latency.start()
        clock.advance(0.050)
        latency.lap("qrs", mark)
    clock.advance(120.0)
    for _ in range(30):
        mark = latency.start()
        clock.advance(0.001)
        latency.lap("qrs", mark)
    qrs = _stage(latency, "qrs")
    assert (qrs["count"], qrs["max_us"]) == (40, pytest.approx(50_000))
    window = qrs["window"]
    assert (window["count"], window["max_us"]) == (30, pytest.approx(1_000))
    assert window["p99_us"] == pytest.approx(1_000, rel=0.01)
    clock.advance(120.0)
    assert _stage(latency, "qrs")["window"]["count"] == 0


def test_a_stage_that_never_ran_has_no_latency() -> None:
    """Zeros, and no division by them."""
    total = _stage(StageLatency(ManualClock()), "total")
    assert (total["count"], total["mean_us"], total["p99_us"], total["max_us"]) == (0, 0, 0, 0)
