"""The ladder keeps its promises for every order of occurrences."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgeward.bedside.fallback import (
    RUNGS,
    Banner,
    Climb,
    GoldenPassed,
    GoodResult,
    Ladder,
    Mode,
    Occurrence,
    RungFailed,
    banner,
    promoted,
    returned,
    transition,
)
from edgeward.bedside.verdict import NOT_ASKED, Reason

S = 1_000_000_000
CLIMB = Climb()
_RUNG = st.sampled_from(RUNGS)
_WHY = st.sampled_from([Reason.ENGINE_CRASHED, Reason.ENGINE_HUNG, Reason.LATE, Reason.BAD_SCORES])


class Ladders(RuleBasedStateMachine):
    """A ladder of any shape, against what the house rules say in their own words."""

    @initialize(others=st.sets(st.sampled_from(RUNGS[1:])))
    def begin(self, others: set[Mode]) -> None:
        """Any set of further rungs."""
        self.ladder = Ladder.of(*others)
        self.now = 0
        self.lost: Reason | None = None
        self.said: list[Banner] = [banner(None, self.ladder, None, 0)]
        self.failed: dict[Mode, int] = {}
        self.dropped = 0
        self.golden = {rung: rung is not Mode.CLOUD for rung in self.ladder.rungs}
        self.good = dict.fromkeys(self.ladder.rungs, 0)

    def _take(self, occurrence: Occurrence) -> None:
        before = self.ladder
        self.ladder = transition(before, occurrence, self.now, CLIMB)
        self._say()
        self._judge(before.serving, self.ladder.serving)

    def _say(self) -> None:
        after = banner(self.said[-1], self.ladder, self.lost, self.now)
        if after is not self.said[-1]:
            self.said.append(after)

    def _judge(self, before: Mode, after: Mode) -> None:
        if before is after or after is Mode.THRESHOLD_ONLY:
            return
        assert self.golden[after], "climbing needs golden vectors"
        assert self.good[after] >= 3, "climbing needs three good results since the failure and since the drop"
        since = max(self.failed.get(after, 0), self.dropped if before is Mode.THRESHOLD_ONLY else 0)
        assert self.now - since >= 60 * S, "climbing needs a dwell of 60 s"
        rank = [*self.ladder.rungs, Mode.THRESHOLD_ONLY].index
        assert rank(after) < rank(before), "only a failure goes down, and it goes down to THRESHOLD_ONLY"
        self.failed.pop(after, None)
        self.good[after] = 0

    @rule(wait_s=st.integers(0, 90))
    def wait(self, wait_s: int) -> None:
        """Time passes."""
        self.now += wait_s * S

    @rule(rung=_RUNG, why=_WHY)
    def fail(self, rung: Mode, why: Reason) -> None:
        """An engine fails."""
        served = self.ladder.serving is rung
        if rung in self.ladder.rungs:
            self.failed[rung], self.golden[rung], self.good[rung] = self.now, False, 0
            if served:
                self.dropped = self.now
                self.good = dict.fromkeys(self.good, 0)
        self._take(RungFailed(why, rung))
        if served:
            assert self.ladder.serving is Mode.THRESHOLD_ONLY, "a failure of the rung that serves drops at once"

    @rule(rung=_RUNG)
    def prove(self, rung: Mode) -> None:
        """Its golden vectors pass."""
        if rung in self.golden and not self.golden[rung]:
            self.golden[rung], self.good[rung] = True, 0
        self._take(GoldenPassed(rung))

    @rule(rung=_RUNG, times=st.integers(1, 4))
    def answer(self, rung: Mode, times: int) -> None:
        """It answers well."""
        for _ in range(times):
            if rung in self.good and self.golden[rung] and self.ladder.serving is not rung:
                self.good[rung] += 1
            self._take(GoodResult(rung))

    @rule(why=st.sampled_from([None, Reason.LEAD_OFF, Reason.GAP]))
    def see(self, why: Reason | None) -> None:
        """Input is lost, or back."""
        self.lost = why
        before = self.ladder
        self._say()
        assert self.ladder is before, "input changes what a bed says, never what an engine has earned"

    @invariant()
    def the_banner_is_true_and_counted(self) -> None:
        """No rung exactly without input; a reason whenever it is not LOCAL; every change numbered, none skipped."""
        last = self.said[-1]
        assert (last.mode is Mode.NO_AI) == (self.lost is not None and self.lost not in NOT_ASKED)
        assert (last.mode is Mode.NOT_ASKED) == (self.lost in NOT_ASKED)
        assert (last.reason is None) == (last.mode is Mode.LOCAL)
        assert [said.changes for said in self.said] == list(range(len(self.said)))
        assert all(a.since_ns <= b.since_ns for a, b in pairwise(self.said))

    @invariant()
    def somebody_can_always_climb(self) -> None:
        """Every rung better than the present one is asked, but for a cloud that is not needed."""
        asked = self.ladder.asked
        assert set(asked) <= set(self.ladder.rungs)
        if self.ladder.serving in self.ladder.rungs:
            assert self.ladder.serving in asked
        else:
            assert Mode.LOCAL in asked
            assert set(self.ladder.rungs) - set(asked) <= {Mode.CLOUD}
        if Mode.CLOUD in asked:
            assert self.ladder.trust(Mode.CLOUD).golden, "nothing is sent to who has not proven what runs there"


TestLadders = Ladders.TestCase


@given(st.lists(st.sampled_from(RUNGS), max_size=3))
def test_rungs_stand_best_first(others: list[Mode]) -> None:
    """However they are named."""
    assert Ladder.of(*others).rungs == tuple(r for r in RUNGS if r is Mode.LOCAL or r in others)


def test_lost_input_hides_and_returns_the_rung() -> None:
    """NO_AI while no lead is usable; afterwards the rung that was earned, not a better one."""
    ladder = transition(Ladder(), RungFailed(Reason.ENGINE_HUNG), 5 * S, CLIMB)
    failed = banner(None, ladder, None, 5 * S)
    dark = banner(failed, ladder, Reason.LEAD_OFF, 6 * S)
    assert (dark.mode, dark.reason) == (Mode.NO_AI, Reason.LEAD_OFF)
    unasked = banner(dark, ladder, Reason.LOW_PRESSURE, 6 * S)
    assert (unasked.mode, unasked.reason, unasked.changes) == (Mode.NOT_ASKED, Reason.LOW_PRESSURE, dark.changes + 1)
    back = banner(dark, ladder, None, 7 * S)
    assert (back.mode, back.reason, back.since_ns) == (Mode.THRESHOLD_ONLY, Reason.ENGINE_HUNG, 7 * S)


def test_the_previous_bundle_serves_while_the_present_one_cannot() -> None:
    """It earns its place after the drop like anyone else, and gives it back when the present bundle has earned it."""
    ladder = transition(Ladder.of(Mode.LOCAL_PREVIOUS), RungFailed(Reason.ENGINE_CRASHED), 100 * S, CLIMB)
    for at_s in (115, 130, 145):
        ladder = transition(ladder, GoodResult(Mode.LOCAL_PREVIOUS), at_s * S, CLIMB)
        assert ladder.serving is Mode.THRESHOLD_ONLY
    ladder = transition(ladder, GoodResult(Mode.LOCAL_PREVIOUS), 160 * S, CLIMB)
    assert (ladder.serving, ladder.why) == (Mode.LOCAL_PREVIOUS, Reason.ENGINE_CRASHED)
    ladder = transition(ladder, GoldenPassed(Mode.LOCAL), 170 * S, CLIMB)
    for at_s in (175, 190, 205):
        ladder = transition(ladder, GoodResult(Mode.LOCAL), at_s * S, CLIMB)
    assert (ladder.serving, ladder.why) == (Mode.LOCAL, None)


def test_the_cloud_is_asked_once_proven_and_not_while_a_local_rung_answers() -> None:
    """Nothing leaves the device that need not, and nothing at all to a server that runs something else."""
    ladder = transition(Ladder.of(Mode.CLOUD), RungFailed(Reason.ENGINE_CRASHED), 0, CLIMB)
    assert Mode.CLOUD not in ladder.asked
    assert ladder.cloud_to_prove
    ladder = transition(ladder, GoldenPassed(Mode.CLOUD), S, CLIMB)
    assert Mode.CLOUD in ladder.asked
    ladder = transition(ladder, GoldenPassed(), S, CLIMB)
    ladder = transition(ladder, GoodResult(), 2 * S, CLIMB)
    assert ladder.asked == (Mode.LOCAL,)


OTHERS = st.sets(st.sampled_from(RUNGS[1:])).map(tuple)
OCCURRENCES = st.lists(
    st.one_of(st.builds(RungFailed, _WHY, _RUNG), st.builds(GoldenPassed, _RUNG), st.builds(GoodResult, _RUNG)),
    max_size=30,
)


@given(OTHERS, OTHERS, OCCURRENCES)
def test_a_takeover_is_no_way_up_the_ladder(
    before: tuple[Mode, ...], after: tuple[Mode, ...], past: list[Occurrence]
) -> None:
    """LOCAL serves where LOCAL served, and nowhere else, whatever went before; a cloud proves itself anew."""
    ladder, now = Ladder.of(*before), 0
    for occurrence in past:
        now += 61 * S
        ladder = transition(ladder, occurrence, now, CLIMB)
    taken = promoted(ladder, after, now)
    assert set(taken.rungs) == {Mode.LOCAL, *after}
    assert (taken.serving is Mode.LOCAL) == (ladder.serving is Mode.LOCAL)
    assert taken.serving in (Mode.LOCAL, Mode.THRESHOLD_ONLY)
    assert (taken.why is None) == (taken.serving is Mode.LOCAL)
    assert taken.trust(Mode.LOCAL).golden
    if Mode.CLOUD in after:
        assert not taken.trust(Mode.CLOUD).golden
    if Mode.LOCAL_PREVIOUS in after:
        assert taken.trust(Mode.LOCAL_PREVIOUS) == ladder.trust(Mode.LOCAL)


@given(OTHERS, OCCURRENCES)
def test_a_return_trusts_the_engine_before_as_far_as_it_had_earned(
    others: tuple[Mode, ...], past: list[Occurrence]
) -> None:
    """One whose golden vectors did not pass since it failed serves nobody, wherever it stood."""
    ladder, now = Ladder.of(*others), 0
    for occurrence in past:
        now += 61 * S
        ladder = transition(ladder, occurrence, now, CLIMB)
    back = returned(ladder, (), now)
    assert back.rungs == (Mode.LOCAL,)
    own = ladder.trust(Mode.LOCAL_PREVIOUS) if Mode.LOCAL_PREVIOUS in ladder.rungs else None
    served = ladder.serving in (Mode.LOCAL, Mode.LOCAL_PREVIOUS)
    assert (back.serving is Mode.LOCAL) == (served and (own is None or own.golden))
    assert (back.why is None) == (back.serving is Mode.LOCAL)
    if own is not None and back.serving is Mode.THRESHOLD_ONLY and ladder.serving is Mode.THRESHOLD_ONLY:
        assert (back.trust(Mode.LOCAL).good, back.dropped_at_ns) == (own.good, ladder.dropped_at_ns)
