"""Another bundle in charge of stays that are watched: nothing of a bed is lost, and the ladder tells the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from warm_fakes import FakeEngine, FakeWarm, OtherSight, hr

from edgeward.bedside.assess.core import Ask, Assessor
from edgeward.bedside.assess.engines import Engines
from edgeward.bedside.assess.model import Model
from edgeward.bedside.assess.plans import NoBundle
from edgeward.bedside.assess.task import Task
from edgeward.bedside.charge.charge import SERVING, SERVING_EVERY_NS
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.feed import Admitted, TaskSettings
from edgeward.bedside.verdict import Reason
from edgeward.testing.assess import ToyPlan

if TYPE_CHECKING:
    from edgeward.inference.host import EngineHost

S = 1_000_000_000
OLD, NEW = "a" * 64, "b" * 64


def model_of(engine: FakeEngine, sha256: str, version: str, plan: ToyPlan | None = None) -> Model:
    return Model(plan or ToyPlan(), sha256, version, None, cast("EngineHost", engine))


class Watched:
    """A task over two stays: the old bundle says 0.2, the new one 0.3."""

    def __init__(self, plan: ToyPlan | None = None, *, bundle: bool = True) -> None:
        self.old, self.new = FakeEngine(0.2), FakeEngine(0.3)
        current = model_of(self.old, OLD, "1") if bundle else Model(NoBundle("toy"))
        core = Assessor(
            current.plan,
            version=current.version,
            climb=Climb(dwell_ns=0),
            why_down=None if bundle else Reason.NO_BUNDLE,
        )
        self.warm = FakeWarm(model=model_of(self.new, NEW, "2", plan))
        local = {Mode.LOCAL: cast("EngineHost", self.old)} if bundle else {}
        self.task = Task(core, Engines(core, local), current, warm=lambda _name, _sha256: self.warm)
        self.core = core
        self.now = 0
        self.heard: list[tuple[str, dict[str, Any]]] = []
        for stay in (1, 2):
            self.take(Admitted(stay, f"bed {stay}", 0))
        self.measure()

    def take(self, message: Any) -> None:
        self.heard += self.task.take(message, self.now)

    def measure(self, rate: float = 80.0) -> None:
        for stay in (1, 2):
            self.take(hr(stay, rate, self.now))

    def run(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        since = len(self.heard)
        for _ in range(round(seconds * 10)):
            self.now += S // 10
            self.heard += self.task.tick(self.now)
            self.task.afterwards(None, self.now)
            if self.now % (5 * S) == 0:
                self.heard += self.task.look(self.now)
                self.measure()
        return self.heard[since:]

    def want(self, sha256: str, *, shadow: str = "", at_once: bool = False) -> None:
        turn = self.serving["turn"] + 1
        self.take(TaskSettings("toy", "f", sha256, "", "", shadow, shadow, at_once, turn))

    @property
    def serving(self) -> dict[str, Any]:
        return next((data for kind, data in reversed(self.heard) if kind == SERVING), {"turn": 0})

    def promoted(self) -> None:
        self.run(16)
        self.want(OLD, shadow=NEW)
        self.run(16)
        self.want(NEW)
        self.run(0.3)
        assert self.task.charge.current.sha256 == NEW


def of(heard: list[tuple[str, dict[str, Any]]], kind: str) -> list[dict[str, Any]]:
    return [data for name, data in heard if name == kind]


def test_between_two_scores_the_version_changes_and_nothing_else() -> None:
    """No banner changes, no period is missed, the engine before stays warm without a standby of its own."""
    watched = Watched()
    watched.promoted()
    heard = watched.run(45)
    scores = of(heard, "score")
    assert len(scores) == 6
    assert {(one["outcome"], one["version"], one["probability"], one["rung"]) for one in scores} == {
        ("accepted", "2", 0.3, "LOCAL")
    }
    assert {one["mode"] for one in of(heard, "mode")} == {"LOCAL"}
    assert max(one["changes"] for one in of(watched.heard, "mode")) == 1  # too little, then LOCAL
    assert watched.core.ladder.rungs == (Mode.LOCAL, Mode.LOCAL_PREVIOUS)
    assert (watched.old.standby, watched.old.stopped, watched.new.standby) == (False, False, True)
    assert (watched.serving["sha256"], watched.serving["shadow"], watched.serving["down"]) == (NEW, None, False)
    assert watched.serving["scores"] == 6


def test_the_one_before_is_back_at_once_and_the_candidate_s_engine_stops() -> None:
    """In the very turn in which it is told, whether or not the moment is safe."""
    watched = Watched()
    watched.promoted()
    watched.new.score = 0.9
    watched.run(31)
    assert of(watched.heard, "advisory")[-1]["active"]
    since = len(watched.heard)
    watched.want(OLD, at_once=True)
    assert of(watched.heard[since:], SERVING)[0]["sha256"] == OLD
    scores = of(watched.run(16), "score")
    assert {(one["outcome"], one["version"]) for one in scores} == {("accepted", "1")}
    assert watched.new.stopped
    assert watched.old.standby
    assert watched.core.ladder.rungs == (Mode.LOCAL,)


def test_a_standing_advisory_or_one_about_to_be_raised_keeps_the_bundle_in_charge() -> None:
    """Until it is over; then the takeover comes by itself."""
    watched = Watched()
    watched.old.score = 0.9
    watched.run(16)
    assert not watched.serving["safe"]  # one ACT of the two that raise it
    watched.want(OLD, shadow=NEW)
    watched.want(NEW)
    watched.run(31)
    assert of(watched.heard, "advisory")[-1]["active"]
    assert watched.task.charge.current.sha256 == OLD
    watched.old.score = 0.2
    watched.run(30)
    assert watched.task.charge.current.sha256 == OLD
    watched.run(31)
    assert not of(watched.heard, "advisory")[-1]["active"]
    assert watched.task.charge.current.sha256 == NEW


def test_a_takeover_waits_for_the_candidate_s_answer_under_way() -> None:
    """Its engine is never handed over while it is being asked."""
    watched = Watched()
    watched.run(16)
    watched.want(OLD, shadow=NEW)
    watched.run(1)
    watched.warm.ready, watched.warm.waiting = True, True
    watched.want(NEW)
    assert watched.task.charge.current.sha256 == OLD
    watched.run(0.2)
    assert watched.task.charge.current.sha256 == NEW


def test_one_that_was_called_off_is_stopped_and_never_takes_over() -> None:
    """However good it was."""
    watched = Watched()
    watched.run(16)
    watched.want(OLD, shadow=NEW)
    watched.run(16)
    watched.want(OLD)
    assert watched.warm.stopped
    watched.run(16)
    assert watched.task.charge.current.sha256 == OLD
    assert watched.task.charge.candidate is None


def test_a_failure_in_soak_drops_to_the_limits_and_the_return_has_to_be_earned() -> None:
    """Nobody claims LOCAL on the strength of an engine that has just failed: three good results, as after any drop."""
    watched = Watched()
    watched.promoted()
    watched.run(16)
    watched.new.score = None
    watched.run(8)
    assert watched.serving["failures"] >= 1
    assert watched.serving["down"]
    assert watched.core.ladder.serving is Mode.THRESHOLD_ONLY
    watched.want(OLD, at_once=True)
    assert watched.core.ladder.serving is Mode.THRESHOLD_ONLY
    heard = watched.run(40)
    first = next(one for one in of(heard, "score") if one["outcome"] == "accepted")
    assert (first["version"], first["rung"]) == ("1", "LOCAL")
    assert len([one for one in of(heard, "score") if one["outcome"] == "fallback"]) >= 2


def test_a_return_while_the_one_before_serves_as_previous_is_seamless() -> None:
    """It has earned LOCAL_PREVIOUS after the candidate's failure: it goes on as LOCAL."""
    watched = Watched()
    watched.promoted()
    watched.new.score = None
    watched.run(60)
    assert watched.core.ladder.serving is Mode.LOCAL_PREVIOUS
    assert not watched.serving["safe"]
    watched.want(OLD, at_once=True)
    assert watched.core.ladder.serving is Mode.LOCAL
    assert {one["outcome"] for one in of(watched.run(16), "score")} == {"accepted"}


def test_one_that_sees_otherwise_takes_over_with_its_own_sight_and_leaves_it_again() -> None:
    """The engine before is no rung then, it would be shown wrong windows; its own sight is kept for the return."""
    watched = Watched(OtherSight())
    watched.promoted()
    assert watched.core.ladder.rungs == (Mode.LOCAL,)
    watched.measure(91.0)
    watched.run(4.5)
    watched.want(OLD, at_once=True)
    seen = len(watched.old.seen)
    assert {one["outcome"] for one in of(watched.run(16), "score")} == {"accepted"}
    assert len(watched.old.seen) > seen
    assert {one["version"] for one in of(watched.heard, "score")} == {"1"} or watched.new.seen


@pytest.mark.parametrize("where", ["sees_as", "begin", "fits", "read"])
def test_a_candidate_whose_plan_breaks_costs_nobody_a_score(where: str) -> None:
    """It is over and says so; it never takes over, and every period has its accepted score."""

    class Broken(OtherSight):
        pass

    def breaks(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a fault")

    setattr(Broken, where, breaks)
    watched = Watched(Broken())
    watched.run(16)
    since = len(watched.heard)
    watched.want(OLD, shadow=NEW)
    watched.run(31)
    watched.take(Admitted(3, "bed 3", watched.now))
    watched.want(NEW)
    watched.run(16)
    assert watched.task.charge.current.sha256 == OLD
    assert watched.serving["shadow"]["code"] == "shadow-crashed"
    assert watched.serving["shadow"]["failed"] >= 1
    assert not watched.serving["shadow"]["running"]
    assert watched.warm.stopped
    scores = [one for one in of(watched.heard[since:], "score") if one["stay"] != 3]
    assert {(one["outcome"], one["version"]) for one in scores} == {("accepted", "1")}
    assert len(scores) >= 6


def test_a_first_bundle_takes_charge_of_beds_that_had_none_and_earns_its_rung() -> None:
    """No process restarts; the beds' history is what the candidate saw meanwhile."""
    watched = Watched(bundle=False)
    watched.run(16)
    assert {one["why"] for one in of(watched.heard, "score")} == {"no_bundle"}
    watched.want("", shadow=NEW)
    watched.run(1)
    watched.want(NEW)
    heard = watched.run(90)
    assert watched.task.charge.current.sha256 == NEW
    assert of(heard, "score")[-1]["outcome"] == "accepted"
    assert of(heard, "score")[-1]["version"] == "2"
    assert not any(one["down"] for one in of(heard, SERVING))  # it has not served yet: that is no failure


def test_what_is_in_charge_is_told_every_second_and_at_once_when_it_changes() -> None:
    """So that whoever updates is never long in the dark."""
    watched = Watched()
    heard = watched.run(10)
    assert len(of(heard, SERVING)) >= 10 * S // SERVING_EVERY_NS
    before = len(watched.heard)
    watched.want(OLD, shadow=NEW)
    assert [kind for kind, _ in watched.heard[before:]] == [SERVING]
    assert watched.serving["turn"] == 1


def test_settings_of_another_task_change_nothing() -> None:
    """Every task hears every message."""
    watched = Watched()
    watched.run(1)
    before = len(watched.heard)
    watched.take(TaskSettings("other", "f", NEW))
    watched.run(0.3)
    assert watched.task.charge.current.sha256 == OLD
    assert watched.task.charge.candidate is None
    assert all(kind != "score" for kind, _ in watched.heard[before:])


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_ask_is_lost_or_answered_twice_around_a_takeover(when: str) -> None:
    """Each period of each stay has one accepted score, whichever bundle made it."""
    watched = Watched()
    if when == "after":
        watched.promoted()
    since = len(watched.heard)
    watched.want(OLD if when == "before" else NEW, shadow=NEW if when == "before" else "")
    if when == "before":
        watched.run(1)
        watched.want(NEW)
    watched.run(60)
    scores = of(watched.heard[since:], "score")
    assert {one["outcome"] for one in scores} == {"accepted"}
    assert len(scores) in range(7, 10)


def test_an_ask_says_whose_window_it_is() -> None:
    """So that a shadow can be asked the same."""
    core = Assessor(ToyPlan())
    core.take(Admitted(7, "A", 0), 0)
    core.take(hr(7, 80.0), 0)
    (ask,) = [effect for effect in core.tick(15 * S) if isinstance(effect, Ask)]
    assert ask.stay == 7
    assert ask.inputs is ask.window.inputs
