"""Latency histograms against numpy, and their sliding window."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.inference.latency import DURATION_NS_MAX, RELATIVE_ERROR, LatencyHistogram

S = 1_000_000_000
durations = st.lists(
    st.one_of(st.integers(0, 200), st.integers(1_000, 10_000_000), st.integers(0, 60 * S)), min_size=1, max_size=200
)


def _filled(values: list[int], **kwargs: int) -> LatencyHistogram:
    histogram = LatencyHistogram(**kwargs)
    for value in values:
        histogram.record(value)
    return histogram


@given(durations, st.floats(0, 1))
def test_percentiles_agree_with_numpy(values: list[int], share: float) -> None:
    """Any percentile is within the bucket error of numpy's nearest-rank percentile."""
    exact = float(np.percentile(values, share * 100, method="inverted_cdf"))
    found = _filled(values).percentile_ns(share)
    neighbours = sorted(values)  # share·count may round to either side of a whole rank
    rank = share * len(values)
    accepted = {exact}
    if abs(rank - round(rank)) < 1e-9:
        accepted |= {float(neighbours[min(max(round(rank) + step, 0), len(values) - 1)]) for step in (-1, 0)}
    assert any(abs(found - value) <= RELATIVE_ERROR * value + 0.5 for value in accepted)


@given(durations)
def test_count_mean_and_maximum_are_exact(values: list[int]) -> None:
    """Count, mean and maximum carry no bucket error."""
    summary = _filled(values).snapshot()
    assert summary.count == len(values)
    assert summary.mean_us == pytest.approx(sum(values) / len(values) / 1e3)
    assert summary.max_us == max(values) / 1e3
    assert summary.p50_us <= summary.p95_us <= summary.p99_us <= summary.p999_us <= summary.max_us


@given(durations, durations)
def test_merging_is_the_same_as_recording_both(first: list[int], second: list[int]) -> None:
    """Merged histograms say what one histogram of all durations says."""
    merged = _filled(first)
    merged.merge(_filled(second))
    assert merged.snapshot() == _filled(first + second).snapshot()


@given(st.lists(st.tuples(st.integers(0, 25 * S), st.integers(0, S)), min_size=1, max_size=60))
def test_window_holds_the_recent_parts_and_only_them(steps: list[tuple[int, int]]) -> None:
    """The window counts what ended in the current part and the parts before it that fit in the window."""
    histogram = LatencyHistogram(window_ns=60 * S, parts=6)
    now, recorded = 5 * S, []
    for pause, duration in steps:
        now += pause
        histogram.record(duration, now)
        recorded.append((now, duration))
        inside = [d for at, d in recorded if at // (10 * S) > now // (10 * S) - 6]
        assert histogram.window(now).count == len(inside)
        assert histogram.window(now).max_us == max(inside) / 1e3
    assert histogram.snapshot().count == len(recorded)


def test_window_forgets_without_new_records() -> None:
    """Asked a minute later, the window is empty although nothing was recorded since."""
    histogram = LatencyHistogram()
    histogram.record(1_000, 1_000 * S)
    assert histogram.window(1_000 * S).count == 1
    assert histogram.window(1_070 * S).count == 0
    assert histogram.snapshot().count == 1


def test_durations_recorded_before_the_first_time_are_in_the_window() -> None:
    """A record without a time counts in the part that the first time opens."""
    histogram = LatencyHistogram()
    histogram.record(1_000)
    histogram.record(2_000, 1_234 * S)
    assert histogram.window(1_234 * S).count == 2


def test_nothing_recorded_is_all_zero() -> None:
    """An empty histogram has a summary, and it is zero."""
    summary = LatencyHistogram().snapshot()
    assert (summary.count, summary.mean_us, summary.p999_us, summary.max_us) == (0, 0.0, 0.0, 0.0)


def test_absurd_durations_are_clipped_not_lost() -> None:
    """A negative duration counts as zero and one beyond the range in the last bucket, its maximum kept."""
    histogram = _filled([-5, DURATION_NS_MAX, 10 * DURATION_NS_MAX])
    assert histogram.snapshot().count == 3
    assert histogram.snapshot().max_us == 10 * DURATION_NS_MAX / 1e3
    assert histogram.percentile_ns(0.0) == 0.0
    assert histogram.percentile_ns(1.0) == pytest.approx(DURATION_NS_MAX, rel=RELATIVE_ERROR)


def test_memory_does_not_grow() -> None:
    """Thirty thousand records over an hour leave no memory behind."""
    histogram = LatencyHistogram()
    histogram.record(1, 1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index in range(30_000):
        histogram.record(50_000 + index, index * S // 8)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 4_096


def test_a_window_needs_room() -> None:
    """A window without parts is refused."""
    with pytest.raises(ValueError, match="at least one part"):
        LatencyHistogram(parts=0)
