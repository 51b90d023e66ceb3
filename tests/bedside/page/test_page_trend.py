"""What a page remembers for 24 h."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.page.trend import HOURS, MINUTE_MS, POINTS_MAX, SERIES_MAX, Trend, Trends


def test_minute_is_its_median_with_its_range() -> None:
    """A dip of one sample does not move the line, and does not vanish either."""
    trend = Trend()
    for second, value in enumerate([97.0, 96.0, 71.0, 97.0, 96.0]):
        trend.add(value, 1000.0 * second)
    rows = trend.rows(0, 1, 1)
    assert rows == {"mid": [96.0], "low": [71.0], "high": [97.0]}


def test_minutes_without_a_measurement_are_gaps() -> None:
    """Between two measurements far apart nothing is made up, and nothing is zero."""
    trend = Trend()
    trend.add(80, 0)
    trend.add(90, 5 * MINUTE_MS)
    assert trend.rows(6, 8, 1)["mid"] == [None, 80.0, None, None, None, None, 90.0, None]


def test_late_value_fills_its_own_minute_and_widens_a_known_one() -> None:
    """A value observed earlier belongs to when it was observed."""
    trend = Trend()
    trend.add(80, 10 * MINUTE_MS)
    trend.add(70, 8 * MINUTE_MS)
    trend.add(60, 10 * MINUTE_MS - 1)
    trend.add(50, 8 * MINUTE_MS)
    assert trend.rows(10, 3, 1) == {"mid": [70.0, 60.0, 80.0], "low": [50.0, 60.0, 80.0], "high": [70.0, 60.0, 80.0]}


def test_what_is_older_than_a_day_is_forgotten() -> None:
    """A ring is used again, and never shows what stood there the day before."""
    trend = Trend()
    trend.add(80, 0)
    trend.add(81, MINUTE_MS)
    trend.add(90, 1440 * MINUTE_MS)
    rows = trend.rows(1440, 1440, 1)["mid"]
    assert rows[0] == 81.0
    assert rows[-1] == 90.0
    assert [value for value in rows if value is not None] == [81.0, 90.0]
    trend.add(70, 0)
    assert trend.rows(1440, 1440, 1)["mid"] == rows
    trend.add(60, 9000 * MINUTE_MS)
    assert [value for value in trend.rows(9000, 1440, 1)["mid"] if value is not None] == [60.0]


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(-300, 300)), max_size=60), st.sampled_from([1, 2, 3, 7]))
def test_points_lie_within_what_was_measured_in_their_minutes(values: list[tuple[int, float]], step: int) -> None:
    """Whatever the order of arrival: each point's range holds exactly its own minutes' values."""
    trend = Trend()
    newest = -1
    kept: dict[int, list[float]] = {}
    for minute, value in values:
        trend.add(value, minute * MINUTE_MS)
        newest = max(newest, minute)
        if minute > newest - 1440:
            kept.setdefault(minute, []).append(round(value * 10) / 10)
    kept = {minute: found for minute, found in kept.items() if minute > newest - 1440}
    last, count = 3000, 1440 // step
    rows = trend.rows(last, count, step)
    first = last - last % step + step - count * step
    for point in range(count):
        minutes = range(first + point * step, first + (point + 1) * step)
        here = [value for minute in minutes for value in kept.get(minute, [])]
        assert rows["low"][point] == (min(here) if here else None)
        assert rows["high"][point] == (max(here) if here else None)
        mid = rows["mid"][point]
        assert (mid is None) == (not here)
        assert mid is None or min(here) <= mid <= max(here)


@pytest.mark.parametrize("hours", HOURS)
def test_window_is_whole_bounded_and_ends_now(hours: int) -> None:
    """Any choice of hours has at most POINTS_MAX points, of whole minutes, the last one holding now."""
    trends = Trends()
    now_ms = 1e8
    trends.add_vital("hr", 77, now_ms)
    trends.add_score("sepsis", 0.31, now_ms)
    window = trends.window(now_ms, hours)
    assert window["count"] <= POINTS_MAX
    assert window["count"] * window["step_ms"] == hours * 3_600_000
    assert 0 < window["end_in_ms"] <= window["step_ms"]
    assert window["vitals"]["hr"]["mid"][-1] == 77.0
    assert window["scores"]["sepsis"]["mid"][-1] == 0.31
    assert len(window["vitals"]["hr"]["mid"]) == window["count"]


def test_memory_of_a_stay_is_bounded() -> None:
    """Neither many names nor many values make it grow; a trend is under 10 kB."""
    trends = Trends()
    for name in range(1000):
        trends.add_score(str(name), 0.5, 0)
    assert len(trends.window(0, 1)["scores"]) == SERIES_MAX
    trend = Trend()
    for second in range(3000):
        trend.add(second % 200, second)
    held = (trend._mid, trend._low, trend._high, trend._samples)
    assert sum(sys.getsizeof(part) for part in held) < 10_000
