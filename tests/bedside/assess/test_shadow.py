"""A candidate in the shadow: compared on what LOCAL was asked, never in the way of a score, with its own sight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from warm_fakes import MS, FakeWarm, OtherSight, hr

from edgeward.bedside.assess.core import Ask, Assessor
from edgeward.bedside.assess.model import Model
from edgeward.bedside.assess.port import Finding, Level, Window
from edgeward.bedside.assess.shadow import WAITING_MAX, Bound, Candidate, Sight
from edgeward.bedside.feed import Admitted, Discharged, Resumed
from edgeward.bedside.verdict import Reason
from edgeward.testing.assess import ToyPlan

S = 1_000_000_000
PERIOD = 15 * S


class Bench:
    """A core with a few stays, whose LOCAL answers 0.2 whatever it is asked, and a candidate beside it."""

    def __init__(self, warm: FakeWarm, stays: int = 1) -> None:
        self.core = Assessor(ToyPlan())
        self.warm = warm
        self.candidate = Candidate("b" * 64, warm)
        self.now = 0
        for stay in range(1, stays + 1):
            self.feed(Admitted(stay, f"bed {stay}", 0))
            self.feed(hr(stay, 80.0 + stay))
        self.candidate.afterwards(self.core, None, PERIOD, 0)

    def feed(self, message: Any) -> None:
        self.candidate.take(message)
        self.core.take(message, self.now)

    def score(self, seconds: float = 15.0) -> list[Ask]:
        """Let every stay be due once; the candidate's turn has not come yet."""
        self.now += round(seconds * S)
        asks = [effect for effect in self.core.tick(self.now) if isinstance(effect, Ask)]
        for ask in asks:
            scores = np.array([0.2], np.float32)
            self.core.answered(ask.sequence, scores, None, self.now)
            self.candidate.saw(ask, scores, self.now)
        return asks

    def turns(self, count: int, due_in_ns: int | None = None) -> None:
        for _ in range(count):
            due_ns = None if due_in_ns is None else self.now + due_in_ns
            self.candidate.afterwards(self.core, due_ns, PERIOD, self.now)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        facts = self.candidate.facts()
        return facts["windows"], facts["disagreed"], facts["failed"], facts["skipped"]


def test_what_local_was_asked_is_scored_by_both_and_compared() -> None:
    """The very inputs, once each; the facts say how long it took and what it holds."""
    bench = Bench(FakeWarm(), stays=3)
    asks = bench.score()
    bench.turns(6)
    assert [id(inputs) for inputs in bench.warm.asked] == [id(ask.window.inputs) for ask in asks]
    assert bench.counts == (3, 0, 0, 0)
    facts = bench.candidate.facts()
    assert facts["running"]
    assert facts["latency_us"] == 0, "of three answers nothing is said"
    assert (facts["version"], facts["memory_kib"]) == ("2", 9)


@pytest.mark.parametrize(
    ("score", "counts"), [(0.6, (1, 1, 0, 0)), (None, (0, 0, 1, 0)), (7.0, (0, 0, 1, 0)), (0.45, (1, 0, 0, 0))]
)
def test_another_level_disagrees_and_no_or_odd_scores_are_failures(
    score: float | None, counts: tuple[int, int, int, int]
) -> None:
    """0.6 is WATCH where the bundle in charge says nothing; 0.45 is within a level's step; 7 is no probability."""
    bench = Bench(FakeWarm(score=score))
    bench.score()
    bench.turns(3)
    assert bench.counts == counts


def test_it_is_not_asked_where_its_answer_could_not_be_there_before_the_next_score() -> None:
    """It waits for a longer pause; by the next period the window is too old, and is skipped and counted."""
    bench = Bench(FakeWarm(infer_ns=50 * MS))
    bench.score()
    bench.turns(2, due_in_ns=10 * MS)  # nothing is known of its pace yet
    assert bench.counts == (1, 0, 0, 0)
    bench.score()
    bench.turns(5, due_in_ns=49 * MS)
    assert bench.counts == (1, 0, 0, 0)
    bench.turns(2, due_in_ns=60 * MS)
    assert bench.counts == (2, 0, 0, 0)
    bench.score()
    bench.turns(3, due_in_ns=10 * MS)
    bench.score()
    bench.turns(1, due_in_ns=10 * MS)
    assert bench.counts == (2, 0, 0, 1)


def test_what_waits_for_it_is_bounded() -> None:
    """An engine that never answers costs windows, the oldest first, and no memory."""
    bench = Bench(FakeWarm(), stays=64)
    bench.turns(1)
    bench.score()
    bench.warm.waiting = True
    for _ in range(2):
        bench.score()
    assert bench.counts[3] == 3 * 64 - WAITING_MAX


def test_nothing_is_compared_before_it_runs_and_what_it_missed_since_is_a_failure() -> None:
    """While its engine loads nobody counts; one that has run and is gone fails what the other scores."""
    warm = FakeWarm(model=None, ready=False)
    bench = Bench(warm)
    bench.score()
    bench.turns(2)
    assert bench.counts == (0, 0, 0, 0)
    assert not bench.candidate.ready
    warm.model, warm.ready = Model(ToyPlan(), "b" * 64, "2"), True
    bench.turns(1)
    assert bench.candidate.ready
    warm.ready = False
    bench.score()
    assert bench.counts == (0, 0, 1, 0)
    assert not bench.candidate.facts()["running"]


def test_one_that_sees_otherwise_cuts_windows_of_its_own_from_the_history_so_far() -> None:
    """It begins with what the bundle in charge remembers, stay by stay, and is not ready before it sees all."""
    bench = Bench(FakeWarm(model=Model(OtherSight(), "b" * 64, "2")), stays=3)
    assert not bench.candidate.ready
    bench.turns(2)
    assert bench.candidate.ready
    bench.feed(hr(2, 99.0, S))
    bench.score()
    bench.turns(6)
    assert sorted(float(inputs["features"][0, 0]) for inputs in bench.warm.asked) == [81.0, 83.0, 99.0]
    assert bench.counts == (3, 0, 0, 0)


def test_one_that_would_withhold_what_the_other_judges_disagrees() -> None:
    """The bed would lose its score."""

    class Blind(OtherSight):
        def fits(self, admitted: Admitted) -> Reason | None:
            return Reason.POPULATION

    bench = Bench(FakeWarm(model=Model(Blind(), "b" * 64, "2")))
    bench.turns(1)
    bench.score()
    bench.turns(1)
    assert bench.counts == (1, 1, 0, 0)
    assert not bench.warm.asked


def test_a_sight_follows_its_stays() -> None:
    """Admissions, memories and discharges; a stay that it does not know is none that it judges."""
    sight = Sight(ToyPlan(), [])
    sight.take(Admitted(1, "A", 0))
    sight.take(Resumed(1, {"state": [70.0, 0]}))
    sight.take(Resumed(2, {"state": [70.0, 0]}))
    sight.take(hr(2, 70.0))
    window = sight.window(1, 0)
    assert isinstance(window, Window)
    assert window.inputs["features"][0, 0] == 70.0
    assert sight.window(2, 0) is Reason.TOO_LITTLE
    sight.take(Resumed(1, "odd"))
    assert sight.window(1, 0) is Reason.TOO_LITTLE
    sight.take(Discharged(1, 0))
    assert not sight.states


def finding(probability: float, level: Level) -> Finding:
    return Finding(probability, level)


def test_the_bound_is_a_level_s_step_and_grows_with_the_risk() -> None:
    """0.5 and 0.8 are the toy's levels: 0.3 apart, at the golden tolerance's grace on an edge."""
    bound = Bound.between(ToyPlan(), ToyPlan(), 0.01)
    none, watch, act = Level.NONE, Level.WATCH, Level.ACT
    assert bound.agree(finding(0.1, none), finding(0.41, none))
    assert not bound.agree(finding(0.1, none), finding(0.42, none))
    assert not bound.agree(finding(0.45, none), finding(0.55, watch))
    assert bound.agree(finding(0.496, none), finding(0.504, watch))
    assert bound.agree(finding(0.8, act), finding(0.81, act))
    assert not bound.agree(finding(0.8, act), finding(0.78, watch))
    assert bound.agree(finding(1.6, act), finding(1.0, act))


def test_a_candidate_cannot_widen_its_own_bound() -> None:
    """Of the two bundles' steps the smaller counts; levels that coincide leave a quarter of the probability to act."""
    wide = ToyPlan(levels=(0.0, 1.0))
    narrow = ToyPlan(levels=(0.2, 0.2))
    assert Bound.between(ToyPlan(), wide, 0.0).step == pytest.approx(0.3)
    assert Bound.between(ToyPlan(), narrow, 0.0).step == pytest.approx(0.05)
