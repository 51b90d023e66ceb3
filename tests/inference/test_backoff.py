"""How soon a failed worker may be replaced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward.inference.backoff import Backoff, BackoffPolicy

S = 1_000_000_000
POLICY = BackoffPolicy(free=2, base_s=1.0, longest_s=8.0, forget_s=60.0)


def test_first_failures_are_replaced_at_once_and_later_ones_ever_more_rarely() -> None:
    """Two failures cost no wait, then 1, 2, 4, 8 and never more than 8 seconds."""
    backoff, now, waits = Backoff(POLICY), 100 * S, []
    assert backoff.allows(now)
    for _ in range(8):
        backoff.failed(now)
        wait = next(s for s in range(100) if backoff.allows(now + s * S))
        waits.append(wait)
        now += wait * S
    assert waits == [0, 0, 1, 2, 4, 8, 8, 8]


def test_a_quiet_minute_forgets_the_failures() -> None:
    """After a minute without a failure the next one is free again."""
    backoff, now = Backoff(POLICY), 0
    for _ in range(6):
        backoff.failed(now)
    assert not backoff.allows(now + 7 * S)
    backoff.failed(now + 60 * S)
    assert backoff.allows(now + 60 * S)


@given(st.lists(st.floats(0, 100), max_size=200))
def test_a_storm_never_starts_more_workers_than_the_policy_allows(pauses: list[float]) -> None:
    """However failures come, a start is never more than the longest wait away, and never before its time."""
    backoff, now = Backoff(POLICY), 0
    for pause in pauses:
        now += int(pause * S)
        backoff.failed(now)
        assert backoff.allows(now + 8 * S)
