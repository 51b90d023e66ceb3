"""The token bucket: no more than its rate over any time longer than a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.updating.pace import TokenBucket
from edgeward.testing.clock import ManualClock
from edgeward.trust.download import StoppedError


@given(
    rate=st.integers(1, 10_000),
    steps=st.lists(st.tuples(st.integers(1, 1 << 16), st.floats(0, 5)), min_size=1, max_size=60),
)
def test_bytes_never_run_ahead_of_the_rate(rate: int, steps: list[tuple[int, float]]) -> None:
    """In every span of time, at most a second's worth more than the rate allows for it has come."""
    clock = ManualClock()
    bucket = TokenBucket(rate, clock.monotonic_ns, clock.sleep)
    total, began_ns = 0, clock.monotonic_ns()
    for count, idle_s in steps:
        count = min(count, bucket.part_bytes)
        clock.advance(idle_s)
        bucket.spend(count)
        total += count
        elapsed_s = (clock.monotonic_ns() - began_ns) / 1e9
        assert total <= (rate << 10) * (1 + elapsed_s) + 1


def test_a_long_idle_time_saves_no_more_than_a_second() -> None:
    """After an hour of silence one second's worth comes at once, and no more."""
    clock = ManualClock()
    bucket = TokenBucket(64, clock.monotonic_ns, clock.sleep)
    clock.advance(3_600)
    began_ns = clock.monotonic_ns()
    for _ in range(12):
        bucket.spend(16 << 10)
    assert (clock.monotonic_ns() - began_ns) / 1e9 == pytest.approx(2.0, rel=1e-6)


def test_no_rate_is_no_wait_and_whole_parts() -> None:
    """Zero means as fast as it comes."""
    clock = ManualClock()
    bucket = TokenBucket(0, clock.monotonic_ns, clock.sleep)
    bucket.spend(1 << 30)
    assert (clock.monotonic_ns(), bucket.part_bytes) == (ManualClock().monotonic_ns(), 1 << 16)


def test_a_wait_may_end_the_download() -> None:
    """Who waits may raise; it passes through."""

    def stop(_seconds: float) -> None:
        raise StoppedError

    bucket = TokenBucket(1, ManualClock().monotonic_ns, stop)
    bucket.spend(1 << 10)
    with pytest.raises(StoppedError):
        bucket.spend(1 << 10)
