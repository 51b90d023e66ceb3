"""An ECG bed under watch takes another bundle: shadow, takeover between two blocks, the way back; and what keeps it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from ecg import regular, synthetic
from warm_fakes import FakeEngine, FakeWarm

from edgeward.bedside.bed_candidate import BedCandidate
from edgeward.bedside.bed_charge import BedCharge, Started, start
from edgeward.bedside.charge.charge import REFUSED, SERVING
from edgeward.bedside.charge.model import Model
from edgeward.bedside.decide import Decision
from edgeward.bedside.device import bed_of
from edgeward.bedside.effects import ScoreWindow
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.feed import TaskSettings
from edgeward.bedside.model import NO_PLAN, Plan
from edgeward.bedside.source.base import Block, SourceInfo
from edgeward.bedside.system import SystemClock
from edgeward.bundle.archive import read_bundle
from edgeward.inference.host import EngineHost, Failure
from edgeward.kernel.errors import EngineError
from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.testing.bundles import ecg_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.bedside.bed import Bed
S = 1_000_000_000
OLD, NEW = "a" * 64, "b" * 64
SPEC = BeatWindowSpec()
OTHER = BeatWindowSpec(before_s=0.6, after_s=0.5, lookahead_beats=1, max_wait_s=1.2)
PLAN = Plan(SPEC, Decision((0.0,) * 5), 4.0)
NORMAL = np.array([0.9, 0.04, 0.03, 0.02, 0.01], np.float32)
VENTRICULAR = np.array([0.1, 0.04, 0.83, 0.02, 0.01], np.float32)
INFO = SourceInfo(("II", "V1"), 250.0, "test", simulated=True)
WAVE = synthetic(regular(240.0), 240.0, 250.0)


class EcgEngine(FakeEngine):
    """Gives one row of scores; ``failure``: it fails so."""

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__(0.0)
        self.scores = scores
        self.failure: Failure | None = None
        self.asked = 0

    def infer(self, inputs: Mapping[str, Any], *, budget_s: float) -> Any:
        result = super().infer({"features": np.zeros((1, 1))}, budget_s=budget_s)
        self.asked += 1
        if self.failure is not None:
            return replace(result, scores=None, failure=self.failure)
        return replace(result, scores=self.scores)


def model(engine: EcgEngine | None, sha256: str, version: str, plan: Plan = PLAN) -> Model[Plan]:
    return Model(plan, sha256, version, None, cast("EngineHost | None", engine))


@dataclass
class EcgWarm(FakeWarm):
    """The candidate's engine; it answers with the scores of the model's engine."""

    gives: np.ndarray = field(default_factory=lambda: NORMAL)

    def answer(self) -> Any:
        answer = super().answer()
        return None if answer is None else replace(answer, scores=self.gives)


class Clock:
    now = 0

    def monotonic_ns(self) -> int:
        return self.now


class Watched:
    """A bed, its charge and what was told. ``plan``: of the candidate."""

    def __init__(self, plan: Plan = PLAN, *, bundle: bool = True, dwell_s: float = 0.0) -> None:
        self.clock = Clock()
        self.old, self.new = EcgEngine(NORMAL), EcgEngine(NORMAL)
        self.warm = EcgWarm(model=cast("Any", model(self.new, NEW, "2", plan)))
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.mail: TaskSettings | None = None
        self.turn = 0
        self.swaps = 0
        first = TaskSettings("ecg-beat", "f", OLD) if bundle else TaskSettings("ecg-beat")
        started = Started(model(self.old, OLD, "1"), None, "") if bundle else Started()
        climb = Climb(dwell_ns=round(dwell_s * S))
        self.charge = BedCharge(
            first,
            started,
            self._due,
            lambda kind, data: self.told.append((kind, data)),
            cast("Any", self.clock),
            climb,
            warm=lambda _name, _sha256: cast("Any", self.warm),
        )
        self.charge.swapped = self._swapped
        self.climb = climb
        self.at = 0

    def _swapped(self) -> None:
        self.swaps += 1

    def _due(self) -> TaskSettings | None:
        told, self.mail = self.mail, None
        return told

    def write(self, kind: str, data: dict[str, Any]) -> None:
        self.told.append((kind, data))

    def close(self) -> None:
        pass

    def bed(self, ladder: Any) -> Bed:
        made, _ = bed_of(
            INFO,
            self.charge.plan,
            self.charge.rungs,
            [self],
            cast("Any", self.clock),
            climb=self.climb,
            ladder=ladder,
            charged=self.charge,
        )
        return made

    def play(self, bed: Bed, seconds: float) -> None:
        for _ in range(round(seconds * 25)):
            self.clock.now = self.at * S // 250
            bed.block(Block(WAVE[:, self.at : self.at + 10], self.at, self.clock.now))
            self.at += 10

    def want(self, sha256: str = OLD, *, shadow: str = "", at_once: bool = False) -> None:
        self.turn += 1
        self.mail = TaskSettings("ecg-beat", "f", sha256, "", "", shadow, shadow, at_once, self.turn)

    @property
    def serving(self) -> dict[str, Any]:
        return next(data for kind, data in reversed(self.told) if kind == SERVING)

    def beats(self, since: int = 0) -> list[dict[str, Any]]:
        return [data for kind, data in self.told[since:] if kind == "beat"]

    def modes(self) -> list[str]:
        return [data["mode"] for kind, data in self.told if kind == "mode"]


@pytest.mark.parametrize("plan", [PLAN, Plan(OTHER, Decision((0.0,) * 5), 3.0)])
def test_a_candidate_judges_the_same_beats_and_takes_over(plan: Plan) -> None:
    """Whether it sees the same windows or others: no beat is lost or judged twice, and the ladder is not climbed."""
    watched = Watched(plan)
    with watched.charge.beside(watched.bed) as bed:
        watched.play(bed, 10.0)
        watched.want(shadow=NEW)
        watched.play(bed, 80.0)
        shadow = watched.serving["shadow"]
        assert shadow["windows"] > 20
        assert (shadow["disagreed"], shadow["failed"]) == (0, 0)
        assert watched.serving["sha256"] == OLD
        watched.want(NEW)
        watched.play(bed, 10.0)
        assert (watched.serving["sha256"], watched.serving["turn"]) == (NEW, watched.turn)
        assert watched.swaps == 1
        before = watched.old.asked
        watched.play(bed, 10.0)
        assert watched.old.asked == before
        assert watched.new.asked > 8
        places = [beat["i"] for beat in watched.beats()]
        assert places == sorted(set(places))
        assert {beat["verdict"] for beat in watched.beats()} == {"accepted"}
        assert np.diff(places).max() < 250
    assert watched.modes() == ["LOCAL"]


def test_a_candidate_of_another_opinion_disagrees() -> None:
    """What counts is the class of a beat."""
    watched = Watched()
    watched.warm.gives = VENTRICULAR
    with watched.charge.beside(watched.bed) as bed:
        watched.want(shadow=NEW)
        watched.play(bed, 30.0)
        shadow = watched.serving["shadow"]
        assert shadow["windows"] == shadow["disagreed"] > 20
        assert {beat["cls"] for beat in watched.beats()} == {"N"}


def test_a_candidate_that_gives_no_scores_fails_and_the_bed_goes_on() -> None:
    """Each window counts."""
    watched = Watched()
    watched.warm.score = None
    watched.warm.gives = None  # type: ignore[assignment]
    with watched.charge.beside(watched.bed) as bed:
        watched.want(shadow=NEW)
        watched.play(bed, 20.0)
        assert watched.serving["shadow"]["failed"] > 10
        assert watched.serving["shadow"]["windows"] == 0
        watched.want()
        watched.play(bed, 1.0)
        assert watched.serving["shadow"] is None
        assert watched.warm.stopped


@pytest.mark.parametrize("plan", [PLAN, Plan(OTHER, Decision((0.0,) * 5), 3.0)])
def test_it_is_gone_back_from_at_once(plan: Plan) -> None:
    """The one before is warm, has gone on seeing the patient, and is in charge again; the other is stopped."""
    watched = Watched(plan)
    with watched.charge.beside(watched.bed) as bed:
        watched.want(NEW)
        watched.play(bed, 20.0 if plan is PLAN else 75.0)
        assert watched.serving["sha256"] == NEW
        since = watched.clock.now
        watched.want(OLD, at_once=True)
        watched.play(bed, 0.2)
        assert watched.serving["sha256"] == OLD
        assert watched.clock.now - since < S
        watched.play(bed, 10.0)
        assert watched.new.stopped
        assert not watched.old.stopped
        places = [beat["i"] for beat in watched.beats()]
        assert places == sorted(set(places))
        assert {beat["verdict"] for beat in watched.beats()} == {"accepted"}


def test_a_candidate_with_other_windows_waits_until_it_knows_the_patient() -> None:
    """Unless it is told to go at once; then beats that it cannot see are withheld, and none is lost."""
    watched = Watched(Plan(OTHER, Decision((0.0,) * 5), 3.0))
    with watched.charge.beside(watched.bed) as bed:
        watched.play(bed, 10.0)
        watched.want(NEW)
        watched.play(bed, 20.0)
        assert watched.serving["sha256"] == OLD
        assert not watched.serving["safe"]
        watched.want(NEW, at_once=True)
        watched.play(bed, 20.0)
        assert watched.serving["sha256"] == NEW
        places = [beat["i"] for beat in watched.beats()]
        assert places == sorted(set(places))
        assert np.diff(places).max() < 250


def test_what_is_told_at_once_leaves_nothing_to_go_back_to() -> None:
    """The one before is refused: it stands on no rung and its engine ends."""
    watched = Watched()
    with watched.charge.beside(watched.bed) as bed:
        watched.want(NEW, at_once=True)
        watched.play(bed, 10.0)
        assert list(watched.charge.rungs) == [Mode.LOCAL]
        until(lambda: watched.old.stopped)


def test_where_there_was_none_before_none_is_gone_back_to() -> None:
    """The first bundle failed in its soak: the bed is watched without a model again."""
    watched = Watched(bundle=False)
    with watched.charge.beside(watched.bed) as bed:
        watched.want(NEW)
        watched.play(bed, 20.0)
        assert watched.modes()[-1] == "LOCAL"
        watched.want("", at_once=True)
        watched.play(bed, 10.0)
        assert watched.modes()[-1] == "THRESHOLD_ONLY"
        assert watched.serving["sha256"] == ""
        until(lambda: watched.new.stopped)
        assert watched.beats()[-1]["why"] == "no_bundle"


def test_an_engine_before_that_died_unnoticed_does_not_serve_at_once() -> None:
    """It is gone back to all the same, and earns its way."""
    watched = Watched()
    with watched.charge.beside(watched.bed) as bed:
        watched.want(NEW)
        watched.play(bed, 10.0)
        type(watched.old).ready = property(lambda self: self is not watched.old)  # type: ignore[method-assign,assignment]
        try:
            watched.want(OLD, at_once=True)
            watched.play(bed, 1.0)
        finally:
            type(watched.old).ready = FakeEngine.ready  # type: ignore[method-assign]
        assert watched.serving["sha256"] == OLD
        assert watched.modes()[-1] == "THRESHOLD_ONLY"
        watched.play(bed, 10.0)
        assert watched.modes()[-1] == "LOCAL"


def until(what: Any) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_a_run_of_ectopic_beats_is_not_swapped_under() -> None:
    """The moment comes when the run's advisory is over; told to go at once it goes at once."""
    watched = Watched()
    watched.old.scores = VENTRICULAR
    with watched.charge.beside(watched.bed) as bed:
        watched.play(bed, 20.0)
        watched.want(NEW)
        watched.play(bed, 5.0)
        assert watched.serving["sha256"] == OLD
        assert not watched.serving["safe"]
        watched.old.scores = NORMAL
        watched.play(bed, 50.0)
        assert watched.serving["sha256"] == NEW


def test_without_a_monitor_bundles_change_too() -> None:
    """A bed whose cable is off is a safe moment; the next source begins with the new bundle."""
    watched = Watched()
    watched.want(NEW)
    for _ in range(5):
        watched.clock.now += S // 10
        watched.charge.turn()
    assert watched.serving["sha256"] == NEW
    with watched.charge.beside(watched.bed) as bed:
        watched.play(bed, 20.0)
    assert watched.new.asked > 10
    assert watched.modes() == ["LOCAL"]


def test_a_bed_without_a_bundle_takes_its_first_one_and_earns_its_way() -> None:
    """As any engine that did not serve: three good results and the dwell."""
    watched = Watched(bundle=False, dwell_s=5.0)
    with watched.charge.beside(watched.bed) as bed:
        watched.play(bed, 5.0)
        assert watched.modes() == ["THRESHOLD_ONLY"]
        watched.want(NEW)
        watched.play(bed, 30.0)
        assert watched.modes()[-1] == "LOCAL"
        assert watched.serving["sha256"] == NEW


def test_failures_count_against_the_bundle_in_charge_and_trust_outlives_the_source() -> None:
    """Each window that an engine lost is one; another monitor earns nothing back."""
    watched = Watched(dwell_s=60.0)
    with watched.charge.beside(watched.bed) as bed:
        watched.play(bed, 10.0)
        watched.old.failure = Failure.CRASHED
        watched.play(bed, 5.0)
        watched.old.failure = None
        watched.play(bed, 2.0)
        lost = [beat for beat in watched.beats() if beat["why"] == "engine_crashed"]
        assert watched.serving["failures"] == len(lost) > 3
        assert watched.serving["down"]
    watched.at = 0
    with watched.charge.beside(watched.bed) as bed:
        assert bed.ladder.serving is Mode.THRESHOLD_ONLY


def test_an_engine_whose_bundle_turns_out_to_be_none_is_told_once() -> None:
    """Whoever leads the slots then goes back."""
    watched = Watched()
    watched.old.start_error = EngineError("golden-failed", "the golden vectors fail")
    for _ in range(5):
        watched.charge.turn()
    told = [data for kind, data in watched.told if kind == REFUSED]
    assert told == [{"task": "ecg-beat", "code": "golden-failed", "sha256": OLD}]
    watched.old.start_error = EngineError("start-hung", "busy")
    watched.charge.turn()
    assert len([1 for kind, _ in watched.told if kind == REFUSED]) == 1


def test_a_candidate_s_window_that_never_comes_is_skipped() -> None:
    """It waits no longer than look-ahead can take."""
    warm = EcgWarm(model=cast("Any", model(None, NEW, "2", Plan(OTHER, Decision((0.0,) * 5), 3.0))))
    candidate = BedCandidate(NEW, cast("Any", warm))
    candidate.afterwards(0)
    request = ScoreWindow(1, 1000, np.zeros((1, 4, 375), np.float32), np.zeros((1, 40), np.float32), 0)
    candidate.judged(request, BeatClass.N, PLAN, 0)
    candidate.afterwards(S)
    assert candidate.facts()["skipped"] == 0
    candidate.afterwards(6 * S)
    assert (candidate.facts()["skipped"], candidate.facts()["windows"]) == (1, 0)


def test_another_job_s_burst_is_not_the_candidate_s_latency() -> None:
    """Of fifty answers the second slowest counts, and of all fifties the best; a slow engine is slow in all of them."""
    warm = EcgWarm(model=cast("Any", model(None, NEW, "2")))
    candidate = BedCandidate(NEW, cast("Any", warm))
    candidate.afterwards(0)
    for number in range(150):
        burst = number < 50 or number % 50 == 7
        warm.infer_ns = 9_000_000 if burst else 1_000_000 + number
        candidate.judged(ScoreWindow(number, number, np.zeros(1), np.zeros(1), 0), BeatClass.N, PLAN, 0)
        candidate.afterwards(0)
        candidate.afterwards(0)
        if number == 48:
            assert candidate.facts()["latency_us"] == 0
        if number == 60:
            assert candidate.facts()["latency_us"] == 9_000
    assert candidate.facts()["latency_us"] == 1_000
    warm.in_class = False
    assert candidate.facts()["latency_us"] == 0, "beside other jobs it says nothing of the engine"


# --- real engines


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    file = tmp_path / "bundle.ewb"
    file.write_bytes(ecg_bundle())
    return file


def told(file: Path, **more: str) -> TaskSettings:
    return TaskSettings("ecg-beat", str(file), read_bundle(file.read_bytes()).sha256, **more)


@pytest.mark.workshop
def test_a_stream_starts_with_the_engine_of_its_bundle(bundle: Path) -> None:
    """And with that of the one before, where it sees the same windows."""
    one = told(bundle)
    started = start(replace(one, previous=one.bundle, previous_sha256=one.sha256), 1)
    try:
        assert (started.current.sha256, started.why, started.refused) == (one.sha256, "", False)
        assert started.before is not None
    finally:
        for held in (started.current, started.before):
            if held is not None and held.engine is not None:
                held.engine.stop()


@pytest.mark.workshop
def test_an_engine_that_the_device_cannot_start_now_is_tried_again(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of processes or memory today is no fault of the bundle: the bed is watched, and the engine earns its way."""
    real, refusals = EngineHost._started, iter([True])

    def started(host: EngineHost) -> Any:
        if next(refusals, False):
            raise EngineError("start-failed", "the system refuses to start a process")
        return real(host)

    monkeypatch.setattr(EngineHost, "_started", started)
    begun = start(told(bundle), 1)
    engine = begun.current.engine
    assert engine is not None
    try:
        assert (begun.why, begun.refused) == ("start-failed", False)
        charge = BedCharge(told(bundle), begun, lambda: None, lambda *_: None, SystemClock(), Climb())
        assert charge._ladder.serving is Mode.THRESHOLD_ONLY
        end = time.monotonic() + 30
        while not engine.ready:
            assert time.monotonic() < end
            engine.check()
            time.sleep(0.05)
    finally:
        engine.stop()


@pytest.mark.workshop
def test_a_bundle_that_is_to_blame_is_refused_and_a_missing_file_is_not(bundle: Path, tmp_path: Path) -> None:
    """Only what the bundle is to blame for bars it."""
    assert start(TaskSettings("ecg-beat"), 1).why == "no-bundle"
    wrong = start(replace(told(bundle), sha256="0" * 64), 1)
    assert (wrong.why, wrong.refused, wrong.current.engine) == ("slot-damaged", True, None)
    gone = start(TaskSettings("ecg-beat", str(tmp_path / "gone.ewb"), OLD), 1)
    assert (gone.why, gone.refused) == ("bundle-unreadable", False)
    assert gone.current.plan is NO_PLAN
    foreign = tmp_path / "foreign.ewb"
    foreign.write_bytes(b"no bundle")
    assert start(TaskSettings("ecg-beat", str(foreign), OLD), 1).refused
