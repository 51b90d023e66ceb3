"""One task over a ward: a score message per stay and period whatever happens, and never one that was not earned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeward.bedside.assess.core import Ask, Assessor, Effect, Tell
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.feed import Admitted, Discharged, Measured, Moved, Resumed
from edgeward.bedside.verdict import Reason
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.assess import ToyPlan

S = 1_000_000_000
PERIOD = 15 * S


def told(effects: list[Effect], kind: str) -> list[dict[str, Any]]:
    return [effect.data for effect in effects if isinstance(effect, Tell) and effect.kind == kind]


def asks(effects: list[Effect]) -> list[Ask]:
    return [effect for effect in effects if isinstance(effect, Ask)]


class Ward:
    """An assessor with an engine that gives ``score``, or fails as told."""

    def __init__(self, **more: Any) -> None:
        self.core = Assessor(ToyPlan(), **more)
        self.now = 0
        self.score: float | Reason = 0.2
        self.heard: list[Effect] = []

    def take(self, feed: Any) -> None:
        self.heard += self.core.take(feed, self.now)

    def hr(self, stay: int, value: float | None = 80.0) -> None:
        self.take(Measured(stay, (Numeric(Kind.HR, value, self.now),)))

    def run(self, seconds: float) -> list[Effect]:
        first = len(self.heard)
        for _ in range(round(seconds * 4)):
            self.now += S // 4
            effects = self.core.tick(self.now)
            self.heard += effects
            for ask in asks(effects):
                self.heard += self.answer(ask)
        return self.heard[first:]

    def answer(self, ask: Ask) -> list[Effect]:
        if isinstance(self.score, Reason):
            return self.core.answered(ask.sequence, None, self.score, self.now)
        return self.core.answered(ask.sequence, np.array([self.score], np.float32), None, self.now)


def test_a_score_every_period_with_its_drivers_and_what_it_misses() -> None:
    """Accepted, with probability, level, drivers, rung, age and time to live."""
    ward = Ward(version="1.2.3")
    ward.take(Admitted(1, "A", 0))
    ward.hr(1)
    scores = told(ward.run(45), "score")
    assert len(scores) == 3
    assert scores[0] == {
        "bed": "A",
        "stay": 1,
        "task": "toy",
        "outcome": "accepted",
        "why": "",
        "probability": 0.2,
        "level": "none",
        "drivers": [{"feature": "hr", "label": "Heart rate", "value": 80.0, "unit": "/min", "effect": 1.235}],
        "missing_share": 0.25,
        "stale_share": 0.0,
        "age_ms": 0,
        "ttl_ms": 60_000,
        "rung": "LOCAL",
        "version": "1.2.3",
    }


def test_too_little_stale_or_wrong_patient_is_withheld_and_shown_as_what_it_is() -> None:
    """Each with its reason on score and banner: stale input is NO_AI, what the model is not for is not asked."""
    ward = Ward()
    ward.take(Admitted(1, "A", 0))
    ward.take(Admitted(2, "B", 0, age_y=4.0))
    ward.hr(2)
    ward.run(20)
    ward.hr(1)
    ward.run(100)
    ward.hr(1)
    ward.run(15)
    mine = [(s["outcome"], s["why"]) for s in told(ward.heard, "score") if s["stay"] == 1]
    assert mine[0] == ("withheld", "too_little")
    assert mine[2] == ("accepted", "")
    assert ("withheld", "stale") in mine
    assert mine[-1] == ("accepted", "")
    assert {s["why"] for s in told(ward.heard, "score") if s["stay"] == 2} == {"population"}
    assert {(m["mode"], m["reason"]) for m in told(ward.heard, "mode") if m["stay"] == 2} == {
        ("NOT_ASKED", "population")
    }
    changes = {m["changes"]: (m["mode"], m["reason"]) for m in told(ward.heard, "mode") if m["stay"] == 1}
    assert changes == {0: ("NOT_ASKED", "too_little"), 1: ("LOCAL", ""), 2: ("NO_AI", "stale"), 3: ("LOCAL", "")}


@pytest.mark.parametrize("why", [Reason.ENGINE_CRASHED, Reason.ENGINE_HUNG, Reason.BAD_SCORES])
def test_a_failure_drops_every_bed_at_once_and_the_way_back_is_earned(why: Reason) -> None:
    """All banners change with the answer that failed; scores are fallback until golden vectors, three good and 60 s."""
    ward = Ward()
    for stay in (1, 2, 3):
        ward.take(Admitted(stay, f"bed-{stay}", 0))
    for _ in range(2):
        for stay in (1, 2, 3):
            ward.hr(stay)
        ward.run(15)
    ward.score = why
    heard = []
    while not heard:
        heard = ward.run(0.25)
        heard = [effect for effect in heard if told([effect], "mode") and effect.data["mode"] == "THRESHOLD_ONLY"]
    assert {m["stay"] for m in told(heard, "mode")} == {1, 2, 3}
    assert {m["reason"] for m in told(heard, "mode")} == {why.value}
    ward.score = 0.2
    failed_at = ward.now
    ward.heard += ward.core.golden_passed(Mode.LOCAL, ward.now)
    while ward.core.ladder.serving is not Mode.LOCAL:
        for stay in (1, 2, 3):
            ward.hr(stay)
        last = ward.run(1)
        if ward.core.ladder.serving is not Mode.LOCAL:
            assert {s["outcome"] for s in told(last, "score")} <= {"fallback"}
    assert 60 * S <= ward.now - failed_at <= 80 * S
    assert told(last, "score")[-1]["outcome"] == "accepted"


def test_an_answer_that_never_comes_is_late() -> None:
    """The deadline ends the wait: the score is fallback, the rung has failed, a later answer changes nothing."""
    ward = Ward()
    ward.take(Admitted(1, "A", 0))
    ward.hr(1)
    for _ in range(80):
        ward.now += S // 4
        heard = ward.core.tick(ward.now)
        if told(heard, "score"):
            break
        if asks(heard):
            asked = asks(heard)[0]
    assert [(s["outcome"], s["why"]) for s in told(heard, "score")] == [("fallback", "late")]
    assert ward.now > asked.deadline_ns
    assert ward.core.answered(asked.sequence, np.array([0.1], np.float32), None, ward.now) == []


def test_the_advisory_has_hysteresis_and_does_not_outlive_its_scores() -> None:
    """One high score is silent, two raise it, three calm ones clear it; without accepted scores it is taken back."""
    ward = Ward()
    ward.take(Admitted(1, "A", 0))

    def run(score: float | Reason, periods: int) -> list[dict[str, Any]]:
        ward.score = score
        heard: list[Effect] = []
        for _ in range(periods):
            ward.hr(1)
            heard += ward.run(15)
        return told(heard, "advisory")

    assert run(0.9, 1) + run(0.6, 1) + run(0.9, 1) == []
    raised = run(0.9, 1)
    assert [(a["active"], a["priority"], a["raised_ms_ago"]) for a in raised] == [(True, "medium", 0)]
    assert run(0.6, 6) == []
    cleared = run(0.1, 3)
    assert [(a["active"], a["id"]) for a in cleared] == [(False, raised[0]["id"])]
    run(0.9, 2)
    ended = run(Reason.ENGINE_CRASHED, 6)
    assert [a["active"] for a in ended] == [False]


def test_a_stay_goes_on_after_a_restart_and_moves_with_its_patient() -> None:
    """History and advisory come back from memory; a memory that cannot be read begins anew; a move carries both."""
    ward = Ward()
    ward.take(Admitted(1, "A", 0))
    ward.score = 0.9
    ward.hr(1)
    ward.run(40)
    kept = ward.core.memory(1)
    assert ward.core.memory(2) is None
    after = Ward(why_down=Reason.ENGINE_CRASHED)
    after.now = ward.now
    for stay, bed, memory in ((1, "A", kept), (2, "B", {"state": "nonsense", "advice": "nonsense"})):
        after.take(Admitted(stay, bed, 0))
        after.take(Resumed(stay, memory))
    assert [a["id"] for a in told(after.heard, "advisory")] == [told(ward.heard, "advisory")[0]["id"]]
    after.take(Moved(1, "C", after.now))
    later = told(after.run(16), "score")
    assert {(s["bed"], s["outcome"], s["why"]) for s in later} == {
        ("C", "fallback", "engine_crashed"),
        ("B", "withheld", "too_little"),
    }


def test_after_discharge_nothing_is_said() -> None:
    """Not even by an answer that was under way."""
    ward = Ward()
    ward.take(Admitted(1, "A", 0))
    ward.hr(1)
    asked: list[Ask] = []
    while not asked:
        ward.now += S // 4
        asked = asks(ward.core.tick(ward.now))
    ward.take(Discharged(1, ward.now))
    assert ward.answer(asked[0]) == []
    assert ward.run(60) == []
    ward.take(Measured(1, (Numeric(Kind.HR, 80.0, ward.now),)))
    assert ward.core.memory(1) is None


class Wards(RuleBasedStateMachine):
    """Any order of patients, numerics, failures and recoveries over a ladder of three rungs."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Assessor(ToyPlan(), others=(Mode.LOCAL_PREVIOUS, Mode.CLOUD), climb=Climb(3, 60 * S))
        self.now = 0
        self.next = 1
        self.stays: dict[int, int] = {}
        self.waiting: dict[int, Ask] = {}
        self.scores: dict[int, int] = {}
        self.changes: dict[int, int] = {}
        self.modes: dict[int, tuple[str, int]] = {}

    def _hear(self, effects: list[Effect], answering: Ask | None = None) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                self.waiting[effect.sequence] = effect
                continue
            data = effect.data
            assert data["stay"] in self.stays, "nothing is said of a stay that is over"
            if effect.kind == "score":
                self.scores[data["stay"]] = self.scores.get(data["stay"], 0) + 1
                if data["outcome"] == "accepted":
                    assert answering is not None
                    assert data["rung"] == answering.rung.value == self.core.ladder.serving.value
                    assert self.now <= answering.deadline_ns
                else:
                    assert data["probability"] is None
                    assert data["why"]
            if effect.kind == "mode":
                known = self.changes.get(data["stay"], -1)
                assert known <= data["changes"] <= known + 1, "no change of mode goes untold"
                self.changes[data["stay"]] = data["changes"]
                self.modes[data["stay"]] = (data["mode"], self.now)

    @precondition(lambda self: len(self.stays) < 5)
    @rule()
    def admit(self) -> None:
        stay, self.next = self.next, self.next + 1
        self.stays[stay] = self.now
        self._hear(self.core.take(Admitted(stay, f"bed-{stay}", self.now), self.now))

    @precondition(lambda self: self.stays)
    @rule(data=st.data())
    def discharge(self, data: st.DataObject) -> None:
        stay = data.draw(st.sampled_from(sorted(self.stays)))
        del self.stays[stay]
        self._hear(self.core.take(Discharged(stay, self.now), self.now))

    @precondition(lambda self: self.stays)
    @rule(data=st.data(), value=st.sampled_from([80.0, None]))
    def measure(self, data: st.DataObject, value: float | None) -> None:
        stay = data.draw(st.sampled_from(sorted(self.stays)))
        self._hear(self.core.take(Measured(stay, (Numeric(Kind.HR, value, self.now),)), self.now))

    @rule(ticks=st.integers(1, 80))
    def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now += S // 4
            self._hear(self.core.tick(self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), answer=st.sampled_from([0.1, 0.9, 7.0, Reason.ENGINE_CRASHED, Reason.CLOUD_DOWN]))
    def answer(self, data: st.DataObject, answer: float | Reason) -> None:
        ask = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
        scores, why = (None, answer) if isinstance(answer, Reason) else (np.array([answer], np.float32), None)
        self._hear(self.core.answered(ask.sequence, scores, why, self.now), ask)

    @rule(rung=st.sampled_from([Mode.LOCAL, Mode.LOCAL_PREVIOUS, Mode.CLOUD]), well=st.booleans())
    def engine(self, rung: Mode, *, well: bool) -> None:
        if well:
            self._hear(self.core.golden_passed(rung, self.now))
        else:
            self._hear(self.core.rung_failed(rung, Reason.ENGINE_CRASHED, self.now))

    @invariant()
    def every_bed_says_what_is_true_now(self) -> None:
        """No transition is lost, and a failure is told in the same step: well within the second that it may take."""
        for stay in self.stays:
            mode, at_ns = self.modes[stay]
            assert mode in {self.core.ladder.serving.value, "NO_AI", "NOT_ASKED"}
            assert self.now - at_ns <= 6 * S

    @invariant()
    def every_stay_has_its_scores(self) -> None:
        """A message per period and stay, but for an answer still awaited, and its first period may be shorter."""
        for stay, since in self.stays.items():
            due = (self.now - since) // PERIOD
            awaited = sum(pending.stay == stay and pending.expected for pending in self.core._pending.values())
            assert self.scores.get(stay, 0) >= due - awaited

    @invariant()
    def nothing_is_awaited_for_ever(self) -> None:
        """What is pending in the core is bounded by stays and rungs."""
        assert len(self.core._pending) <= 3 * (self.next - 1)


TestWards = Wards.TestCase
TestWards.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
