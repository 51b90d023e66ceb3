"""The ladder keeps its promises for every order of occurrences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.fallback import (
    Climb,
    EngineFailed,
    GoldenPassed,
    GoodResult,
    InputBack,
    InputLost,
    Ladder,
    Mode,
    Occurrence,
    transition,
)
from edgeward.bedside.verdict import Reason

S = 1_000_000_000
CLIMB = Climb()
OCCURRENCES: list[Occurrence] = [
    EngineFailed(Reason.ENGINE_CRASHED),
    EngineFailed(Reason.ENGINE_HUNG),
    GoldenPassed(),
    GoodResult(),
    InputLost(Reason.LEAD_OFF),
    InputBack(),
]


@given(st.lists(st.tuples(st.sampled_from(OCCURRENCES), st.integers(0, 90)), max_size=60))
def test_the_ladder_never_climbs_unearned(history: list[tuple[Occurrence, int]]) -> None:
    """After a failure, LOCAL needs golden vectors, three good results since, and 60 s; a failure drops at once."""
    ladder, now = Ladder(), 0
    failed_at: int | None = None
    golden, good = True, 0
    for occurrence, wait_s in history:
        now += wait_s * S
        ladder = transition(ladder, occurrence, now, CLIMB)
        if isinstance(occurrence, EngineFailed):
            failed_at, golden, good = now, False, 0
            assert ladder.mode is not Mode.LOCAL
        elif isinstance(occurrence, GoldenPassed) and not golden:
            golden, good = True, 0
        elif isinstance(occurrence, GoodResult) and golden:
            good += 1
        if ladder.mode is Mode.LOCAL and failed_at is not None:
            assert golden
            assert good >= 3
            assert now - failed_at >= 60 * S
            failed_at = None
        assert ladder.since_ns <= now
        assert (ladder.reason is None) == (ladder.mode is Mode.LOCAL)


def test_lost_input_hides_and_returns_the_rung() -> None:
    """NO_AI while no lead is usable; afterwards the rung that was earned, not a better one."""
    failed = transition(Ladder(), EngineFailed(Reason.ENGINE_HUNG), 5 * S, CLIMB)
    dark = transition(failed, InputLost(Reason.LEAD_OFF), 6 * S, CLIMB)
    assert (dark.mode, dark.reason) == (Mode.NO_AI, Reason.LEAD_OFF)
    back = transition(dark, InputBack(), 7 * S, CLIMB)
    assert (back.mode, back.reason, back.since_ns) == (Mode.THRESHOLD_ONLY, Reason.ENGINE_HUNG, 7 * S)
