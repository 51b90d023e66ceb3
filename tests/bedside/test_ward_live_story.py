"""Any order of updates, failures, deaths and patients: in the end rim and process agree on what is in charge."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from warm_fakes import FakeEngine, FakeWarm, OtherSight

from edgeward.bedside.assess.core import Assessor
from edgeward.bedside.assess.engines import Engines
from edgeward.bedside.assess.model import Model
from edgeward.bedside.assess.process import Assessment
from edgeward.bedside.assess.task import Task
from edgeward.bedside.assign import Beds
from edgeward.bedside.audit import Audit
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.feed import TaskSettings
from edgeward.bedside.lives import Lives
from edgeward.bedside.slot import Slot
from edgeward.bedside.source.reading import PatientRef, Reading
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.verdict import Reason
from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.assess import ToyPlan
from edgeward.testing.side import LocalSide

if TYPE_CHECKING:
    from edgeward.inference.host import EngineHost

S = 1_000_000_000
SLOTS = {key: Slot(key, "toy", f"{key}.0", key * 64, 9, Path(f"/slots/{key}")) for key in "abcd"}
PLANS = {"a": ToyPlan, "b": ToyPlan, "c": OtherSight, "d": OtherSight}
"""Two pairs: those of a pair see the same, those of different pairs do not."""
VERSION_OF = {slot.sha256: slot.version for slot in SLOTS.values()}


@dataclass
class FakeClock:
    now: int = 1000 * S

    def monotonic_ns(self) -> int:
        return self.now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.now / S, UTC)


class Story(RuleBasedStateMachine):
    """A ward of two beds, a rim and an assessment that may die; engines are the toy's, without processes."""

    @initialize()
    def begin(self) -> None:
        """The bundle "a" is in charge."""
        self.clock = FakeClock()
        self.scores = dict.fromkeys(SLOTS, 0.2)
        self.task: Task | None = None
        self.alive = True
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.lives = Lives(self.clock, dwell_s=1.0)
        self.lives.add("toy", SLOTS["a"], None)
        self.live = self.lives.of("toy")
        self.assess = LocalSide(ASSESS, self._assessment, self.clock)
        self.folder = tempfile.TemporaryDirectory()
        self.audit = Audit(Path(self.folder.name) / "audit.jsonl", self.clock)
        thresholds = LocalSide(THRESHOLDS, lambda: ThresholdCore(ThresholdSettings()), self.clock)
        sides = {THRESHOLDS: thresholds, ASSESS: self.assess}
        self.ward = Ward(Beds(), sides, [self], self.audit, self.clock, tasks=["toy"], updates=self.lives)
        self.recent = ("a.0", "a.0")
        """What was in charge at the ends of the last two turns."""
        self.at_once = False
        self._pass(2)

    def teardown(self) -> None:
        """Close the audit."""
        if hasattr(self, "audit"):
            self.audit.close()
            self.folder.cleanup()

    def _model(self, sha256: str) -> Model:
        key = sha256[:1]
        engine = FakeEngine(self.scores[key])
        return Model(PLANS[key](), sha256, SLOTS[key].version, None, cast("EngineHost", engine))

    def _assessment(self) -> Assessment:
        """As ``assess.process.make`` does it, from what the rim would start it with."""
        (told,) = self.lives.settings()["tasks"]
        current = self._model(told["sha256"])
        before = self._model(told["previous_sha256"]) if told["previous_sha256"] else None
        if before is not None and not before.plan.sees_as(current.plan):
            before = None
        local = {Mode.LOCAL: current.engine} | ({Mode.LOCAL_PREVIOUS: before.engine} if before else {})
        engines = cast("dict[Mode, EngineHost]", local)
        core = Assessor(
            current.plan,
            version=current.version,
            others=[rung for rung in local if rung is not Mode.LOCAL],
            climb=Climb(dwell_ns=S),
            why_down=Reason.ENGINE_NOT_READY,
            now_ns=self.clock.now,
        )
        self.task = Task(
            core,
            Engines(core, engines),
            current,
            before,
            told=TaskSettings(**told),
            warm=lambda _, sha256: FakeWarm(self._model(sha256)),
        )
        self._watch(self.task)
        return Assessment([self.task])

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """The ward told something."""
        self.told.append((kind, data))
        if kind == "score" and data["outcome"] == "accepted" and self.task is not None:
            # Made in the very turn of a takeover it is by the one before, and heard a turn later.
            charge = {*self.recent, self.task.charge.current.version}
            assert data["version"] in charge, "a score is always by the bundle in charge"

    def _pass(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.now += S // 2
            for bed in "AB":
                numerics = (Numeric(Kind.HR, 80.0, self.clock.now),)
                who = PatientRef(frozenset({bed}))
                self.ward.take(Reading("hl7", bed, "gw", self.clock.now, who, numerics, None))
            self.ward.tick()
            assert self.task is not None
            self.recent = (self.recent[1], self.task.charge.current.version)

    def _advised(self) -> bool:
        if self.task is None:
            return False
        return any(held.advice.active for held in self.task.core._stays.values())

    def _watch(self, task: Task) -> None:
        """Look at the beds in the very moment in which a candidate takes over."""
        took_over = task.took_over

        def watched(candidate: Any, old: Any, now_ns: int) -> Any:
            assert self.at_once or not self._advised(), "nothing is swapped under a standing advisory"
            return took_over(candidate, old, now_ns)

        task.took_over = watched  # type: ignore[method-assign]

    @rule(seconds=st.sampled_from([0.5, 1.0, 16.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        """Beds are scored meanwhile."""
        self._pass(seconds)

    @rule(key=st.sampled_from("bcd"))
    def a_candidate_comes(self, key: str) -> None:
        """Its updater has it run in the shadow."""
        if self.live.charge != SLOTS[key]:
            self.at_once = False
            self.live.begin_shadow(SLOTS[key])

    @rule(key=st.sampled_from("bcd"))
    def a_candidate_is_activated(self, key: str) -> None:
        """With a shadow before, or without."""
        self.at_once = False
        self.live.activate(SLOTS[key])

    @rule()
    def it_is_called_off(self) -> None:
        """The shadow ends."""
        self.at_once = False
        self.live.end_shadow()

    @rule()
    def it_is_gone_back_from(self) -> None:
        """Whatever is under way."""
        self.at_once = True
        self.live.go_back()

    @rule(key=st.sampled_from("abcd"), score=st.sampled_from([0.2, 0.9, None]))
    def an_engine_changes_its_mind(self, key: str, score: float | None) -> None:
        """It calls somebody to a bed, or breaks, or is well again."""
        self.scores[key] = score
        assert self.task is not None
        candidate = self.task.charge.candidate.warm.model if self.task.charge.candidate is not None else None
        for model in (self.task.charge.current, self.task.charge.before, candidate):
            if model is not None and model.sha256 == SLOTS[key].sha256 and model.engine is not None:
                cast("FakeEngine", model.engine).score = score

    @rule(key=st.sampled_from("bcd"), back=st.booleans())
    def the_process_dies_and_another_comes(self, key: str, back: bool) -> None:
        """With what the rim says is in charge; what is asked for while there is none is not forgotten."""
        self.assess.die()
        self._dead_for(1.0)
        if back:
            self.live.go_back()
        charge, candidate = self.live.charge, SLOTS[key]
        assert charge is not None
        if candidate != charge:
            self.live.begin_shadow(candidate)
        self._dead_for(1.0)
        self.assess.revive()
        assert self.task is not None
        assert self.task.charge.current.sha256 == charge.sha256
        assert not self.live.shadow().running
        self._pass(1.0)
        if candidate != charge:
            assert self.task.charge.candidate is not None
            assert self.task.charge.candidate.sha256 == candidate.sha256

    def _dead_for(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.now += S // 2
            self.ward.tick()

    @rule()
    def all_comes_to_rest(self) -> None:
        """With engines that are well and nobody to look at, rim and process agree, and every bed has its score."""
        for key in SLOTS:
            self.an_engine_changes_its_mind(key, 0.2)
        self._pass(120)
        charge, task = self.live.charge, self.task
        assert charge is not None
        assert task is not None
        assert task.charge.current.sha256 == charge.sha256 == self.live.serving().sha256
        assert not self.live.serving().down
        assert self.live._wanted is None, "what was wanted has come about"
        said = self.lives.settings()["tasks"][0]
        assert said["sha256"] == charge.sha256
        assert (task.charge.before is None) or said["previous_sha256"] == task.charge.before.sha256
        scores = [data for kind, data in self.told[-400:] if kind == "score"]
        assert {(one["outcome"], one["version"]) for one in scores[-2:]} == {("accepted", charge.version)}

    @invariant()
    def engines_that_stand_are_not_stopped(self) -> None:
        """Whoever is on a rung can be asked."""
        if getattr(self, "task", None) is not None:
            assert self.task is not None
            for engine in self.task.local.values():
                assert not cast("FakeEngine", engine).stopped


TestStory = Story.TestCase
TestStory.settings = settings(
    max_examples=30, stateful_step_count=20, deadline=None, phases=[Phase.reuse, Phase.generate]
)
