"""Timestamps of a device on our own clock: right, late, set forward, set back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.source.device_clock import STEADY, WINDOW_S, DeviceClock
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S

BOOT_MS = 1_700_000_000_000  # wall time at monotonic 0
AHEAD_NS = -BOOT_MS * NS_PER_MS


def _hear(clock: DeviceClock, seconds: float, *, off_s: float = 0.0, delay_s: float = 0.01) -> None:
    clock.heard(BOOT_MS + round((seconds + off_s) * 1000), round((seconds + delay_s) * NS_PER_S))


def _age_s(clock: DeviceClock, taken_s: float, now_s: float, *, off_s: float = 0.0) -> float:
    received = round(now_s * NS_PER_S)
    return (received - clock.at_ns(BOOT_MS + round((taken_s + off_s) * 1000), received)) / NS_PER_S


def test_before_any_report_the_wall_clocks_are_believed() -> None:
    """A value of ten minutes ago is ten minutes old, not new."""
    assert _age_s(DeviceClock(AHEAD_NS), 100, 700) == pytest.approx(600)


@given(st.floats(-1e6, 1e6), st.floats(0, 60))
def test_a_wrong_clock_is_no_age(off_s: float, age_s: float) -> None:
    """After some reports the age of a value is its age, however wrong the device's clock."""
    clock = DeviceClock(AHEAD_NS)
    for second in range(1000, 1000 + 2 * STEADY):
        _hear(clock, second, off_s=off_s)
    slack = 2.1 if -2.0 <= off_s <= 0 else 0.05  # what lies below a step is waited for, for a window at most
    assert _age_s(clock, 2000 - age_s, 2000, off_s=off_s) == pytest.approx(age_s, abs=slack)


def test_a_clock_set_forward_shows_at_once() -> None:
    """No value seems to come from the future, and none an hour old."""
    clock = DeviceClock(AHEAD_NS)
    for second in range(1000, 1010):
        _hear(clock, second)
    _hear(clock, 1010, off_s=3600)
    assert _age_s(clock, 1010, 1010.01, off_s=3600) == pytest.approx(0, abs=0.05)


def test_a_clock_set_back_is_believed_after_steady_reports() -> None:
    """A handful of equally late reports are a clock; then ages are right again."""
    clock = DeviceClock(AHEAD_NS)
    for second in range(1000, 1010):
        _hear(clock, second)
    for second in range(1010, 1010 + STEADY):
        _hear(clock, second, off_s=-60)
    assert clock.steps == 1
    assert _age_s(clock, 1015, 1020, off_s=-60) == pytest.approx(5, abs=0.05)


def test_a_queue_that_empties_is_no_clock() -> None:
    """Reports held up by the network come ever less late; they keep their age."""
    clock = DeviceClock(AHEAD_NS)
    for second in range(1000, 1010):
        _hear(clock, second)
    for second in range(1010, 1040):  # all of them arrive at 1040
        _hear(clock, second, delay_s=1040 - second)
    assert clock.steps == 0
    assert _age_s(clock, 1020, 1040) == pytest.approx(20, abs=0.05)


def test_drift_is_followed() -> None:
    """A clock that loses 200 ms an hour is right within the drift of two windows."""
    clock = DeviceClock(AHEAD_NS)
    for second in range(1000, 11_000, 5):
        _hear(clock, second, off_s=-second * 0.2 / 3600)
    assert _age_s(clock, 11_000, 11_000.01, off_s=-11_000 * 0.2 / 3600) < 2 * WINDOW_S * 0.2 / 3600 + 0.02
