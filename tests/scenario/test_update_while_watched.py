"""A ward under watch takes a new bundle: shadow, safe moment, takeover, soak, commit; and what keeps it from that.

Patients come over MLLP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hospitals import Hospital

from edgeward.bedside.assign import Beds
from edgeward.bedside.side import SideProcess
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.source.hl7 import Hl7Listener
from edgeward.bedside.source.hl7_settings import Hl7Settings
from edgeward.bedside.thresholds.process import MODULE
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.trial import run_trial
from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
from edgeward.bedside.ward_bundles import WardBundles
from edgeward.bedside.ward_run import WardLoop
from edgeward.exchange.words import UpdateState, Why
from edgeward.signal.numeric import Kind
from edgeward.testing.gateway import SimulatedBed
from edgeward.testing.toy import TASK, install_toy, toy_bundle
from edgeward.testing.ward_process import Monitors, Steady

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx

PERIOD_S = DWELL_S = 0.2
BEDS = 4
CALM_HR, ACT_HR, BREAKING_HR = 80.0, 130.0, 98.0


class ToyHospital(Hospital):
    """Four patients on monitors that speak HL7, and the toy's scores."""

    family = TASK

    def set_up(self) -> None:
        self.beds = [SimulatedBed(f"ICU^^{n + 1}", Steady(hr=CALM_HR), f"P{n}") for n in range(BEDS)]
        made = WardBundles(self.state, [TASK], lambda _words: None, self.clock, dwell_s=DWELL_S)
        bundles = self.stack.enter_context(made)
        sides = {
            THRESHOLDS: SideProcess(THRESHOLDS, MODULE, ThresholdSettings().to_json(), self.clock),
            ASSESS: SideProcess(ASSESS, "edgeward.bedside.assess.process", bundles.settings(), self.clock),
        }
        lives = bundles.lives
        ward = Ward(Beds(), sides, [self], self.audit, self.clock, tasks=[TASK], updates=lives)
        listener = Hl7Listener(ward, self.clock, Hl7Settings(port=0))
        self.run(WardLoop(ward, sides, [], [listener], self.clock, lives=lives))
        self.stack.enter_context(Monitors(self.beds, listener.port, period_s=PERIOD_S))
        self.update(bundles, lambda path: run_trial(path, 1, lambda _bundle: 500.0), DWELL_S)

    def begun(self) -> bool:
        return self.served("1.0.0")

    def order(self, version: str = "2.0.0", **how: float) -> None:
        """A toy made that way."""
        self.publish_and_order(toy_bundle(version, **how), shadow_s=12, soak_s=3)

    def show(self, rate: float, bed: int = 0) -> None:
        """A bed's monitor shows another heart rate."""
        player = self.beds[bed].player
        assert isinstance(player, Steady)
        player.values[Kind.HR] = rate

    def served(self, version: str, since: int = 0) -> bool:
        """Whether every bed has a score of that version."""
        accepted = [one for one in self.of("score", since) if one["outcome"] == "accepted"]
        return len({one["bed"] for one in accepted if one["version"] == version}) == BEDS

    def swapped(self) -> list[str]:
        """Why bundles took over."""
        return [row["reason"] for row in self.swaps()]


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyHospital:
    monkeypatch.setenv("PYTHONPATH", install_toy(tmp_path / "state", tmp_path, PERIOD_S))
    return ToyHospital(tmp_path)


def test_a_better_bundle_is_committed_and_no_bed_misses_a_score(hospital: ToyHospital) -> None:
    """Shadow, takeover and soak under four patients: every window is accepted, by the one version or the other."""
    with hospital:
        since = len(hospital.messages)
        hospital.order(centre=100.5)
        record = hospital.ends()
        assert record.state is UpdateState.COMMITTED, record
        assert record.evidence.shadow_windows >= 50
        assert record.evidence.shadow_disagreed == 0
        active, previous = hospital.slots.active(), hospital.slots.previous()
        assert active is not None
        assert previous is not None
        assert (active.version, previous.version) == ("2.0.0", "1.0.0")
        scores = hospital.of("score", since)
        assert {one["outcome"] for one in scores} == {"accepted"}
        versions = [one["version"] for one in scores]
        assert versions == sorted(versions)
        assert hospital.served("2.0.0", since)
        assert {mode["mode"] for mode in hospital.of("mode", since)} <= {"LOCAL"}
        assert hospital.bundles.shown()[0]["version"] == "2.0.0"
        assert hospital.swapped() == ["update"]
    with SlotStore(hospital.slots.root) as slots:
        active = slots.active()
        assert active is not None
        assert active.version == "2.0.0"


def test_a_bundle_of_another_opinion_never_serves(hospital: ToyHospital) -> None:
    """The shadow finds out on live windows; it is refused on this device for good."""
    with hospital:
        hospital.order(centre=60.0)
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.FAILED, Why.SHADOW_DISAGREES)
        assert record.evidence.shadow_disagreed == record.evidence.shadow_windows
        since = len(hospital.messages)
        hospital.until(lambda: hospital.served("1.0.0", since))
        assert {one["version"] for one in hospital.of("score")} <= {"1.0.0", "-"}
        assert hospital.swapped() == []


def test_a_bundle_that_fails_in_soak_is_taken_back(hospital: ToyHospital) -> None:
    """A heart rate breaks it after the takeover: the one before serves again, and it is refused for good."""
    with hospital:
        hospital.order(corrupt_from=95.0)
        hospital.until(lambda: hospital.updater.record.state is UpdateState.SOAKING)
        hospital.show(BREAKING_HR)
        record = hospital.ends()
        assert (record.state, record.why) == (UpdateState.ROLLED_BACK, Why.SOAK_FAILED)
        since = len(hospital.messages)
        hospital.until(lambda: hospital.served("1.0.0", since))
        active = hospital.slots.active()
        assert active is not None
        assert active.version == "1.0.0"
        assert record.order is not None
        assert hospital.slots.refused(record.order.sha256)
        assert hospital.swapped() == ["update", "returned"]


def test_a_takeover_waits_for_the_end_of_an_advisory(hospital: ToyHospital) -> None:
    """Nothing is swapped under a patient whom somebody is to look at."""
    with hospital:
        hospital.show(ACT_HR)
        hospital.until(lambda: any(one["active"] for one in hospital.of("advisory")))
        hospital.order(centre=100.5)
        hospital.until(lambda: hospital.updater.record.why is Why.BED_IN_USE)
        assert {one["version"] for one in hospital.of("score")} <= {"1.0.0", "-"}
        hospital.show(CALM_HR)
        record = hospital.ends()
        assert record.state is UpdateState.COMMITTED, record
