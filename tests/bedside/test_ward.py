"""The rim of a ward: what one source says is shown at the right bed, and a process that is down is told of at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.bedside.assess.core import Ask, Assessor
from edgeward.bedside.assess.model import Model
from edgeward.bedside.assess.process import Assessment
from edgeward.bedside.assess.task import Task
from edgeward.bedside.assign import BedPlan, Beds
from edgeward.bedside.audit import Audit
from edgeward.bedside.side import Happening, What
from edgeward.bedside.source.reading import Change, PatientRef, Reading, Receipt, Refusal
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.bedside.verdict import Reason
from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.assess import ToyPlan
from edgeward.testing.side import LocalSide

if TYPE_CHECKING:
    from pathlib import Path

S = 1_000_000_000


@dataclass
class FakeClock:
    now: int = 1000 * S

    def monotonic_ns(self) -> int:
        return self.now

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.now / S, UTC)


@dataclass
class Heard:
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def write(self, kind: str, data: dict[str, Any]) -> None:
        self.messages.append((kind, json.loads(json.dumps(data))))

    def close(self) -> None:
        pass

    def of(self, kind: str, bed: str | None = None) -> list[dict[str, Any]]:
        return [data for name, data in self.messages if name == kind and (bed is None or data.get("bed") == bed)]


@dataclass
class ToyEngines:
    """Answers every ask at once with ``score``, or why not."""

    score: float | Reason = 0.2

    def ask(self, ask: Ask, now_ns: int) -> tuple[np.ndarray | None, Reason | None]:
        if isinstance(self.score, Reason):
            return None, self.score
        return np.array([self.score], np.float32), None

    def look(self, now_ns: int) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class Hospital:
    """A ward on a fake clock, its processes in place, and everything it says."""

    def __init__(self, folder: Path, *plans: BedPlan, ecg: tuple[str, ...] = ()) -> None:
        self.clock = FakeClock()
        self.heard = Heard()
        self.engines = ToyEngines()
        self.thresholds = LocalSide(THRESHOLDS, lambda: ThresholdCore(ThresholdSettings()), self.clock)
        self.assess = LocalSide(ASSESS, self._assessment, self.clock)
        self.path = folder / "audit.jsonl"
        self.audit = Audit(self.path, self.clock)
        self.ward = Ward(
            Beds(plans),
            {THRESHOLDS: self.thresholds, ASSESS: self.assess},
            [self.heard],
            self.audit,
            self.clock,
            tasks=["toy"],
            ecg=ecg,
            hello=lambda plans, pages: {"beds": [{"bed": plan.name, "ecg": pages.get(plan.name)} for plan in plans]},
        )

    def _assessment(self) -> Assessment:
        return Assessment([Task(Assessor(ToyPlan()), self.engines, Model(ToyPlan()))])  # type: ignore[arg-type]

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.now += S // 10
            self.ward.tick()

    def say(self, place: str, who: str = "", change: Change | None = None, **vitals: float | None) -> Receipt:
        now = self.clock.now
        patient = PatientRef(frozenset({who})) if who else None
        numerics = tuple(Numeric(Kind(name), value, now) for name, value in vitals.items())
        return self.ward.take(Reading("hl7", place, "gw", now, patient, numerics, change))

    def audited(self) -> list[dict[str, Any]]:
        self.audit.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def test_numerics_become_vitals_alerts_news2_and_scores_of_their_bed(hospital: Hospital) -> None:
    """Each bed shows its own, and a desaturation in one of them alerts there alone."""
    for _ in range(40):
        hospital.say("A", "1", hr=80.0, spo2=97.0, rr=16.0)
        hospital.say("B", "2", hr=80.0, spo2=75.0, rr=16.0)
        hospital.run(1)
    heard = hospital.heard
    assert heard.of("vitals", "A")[-1]["values"]["spo2"]["v"] == 97.0
    assert heard.of("vitals", "B")[-1]["values"]["spo2"]["v"] == 75.0
    assert any(alert["active"] and "spo2" in alert["code"] for alert in heard.of("alert", "B"))
    assert not heard.of("alert", "A")
    assert heard.of("news2", "A")
    assert {score["outcome"] for score in heard.of("score", "A")} == {"accepted"}
    bed = heard.of("bed", "A")[-1]
    assert (bed["state"], bed["sources"], bed["population"]) == ("occupied", ["hl7"], "adult")
    assert bed["silent_ms"] <= 1000
    assert bed["limits"]["spo2"] == [90.0, 100.0]


def test_nothing_of_a_patient_who_has_gone_is_shown_on_the_next(hospital: Hospital) -> None:
    """What a process still says of the stay before is dropped at the rim."""
    hospital.say("A", "1", hr=80.0)
    hospital.run(1)
    first = hospital.heard.of("bed", "A")[-1]["stay"]
    hospital.say("A", "2", hr=81.0)
    seen = len(hospital.heard.messages)
    hospital.ward.said("score", {"bed": "A", "stay": first, "task": "toy", "probability": 0.99})
    assert len(hospital.heard.messages) == seen
    assert hospital.ward.dropped == 1
    assert hospital.heard.of("bed", "A")[-1]["stay"] == first + 1


def test_a_transfer_takes_vitals_and_alerts_along(hospital: Hospital) -> None:
    """The bed left behind is empty, the other one goes on where the first one was."""
    for _ in range(15):
        hospital.say("A", "1", spo2=70.0)
        hospital.run(1)
    hospital.say("B", "1", Change.TRANSFER)
    hospital.run(6)
    assert hospital.heard.of("bed", "A")[-1]["state"] == "empty"
    assert hospital.heard.of("bed", "B")[-1]["state"] == "occupied"
    for _ in range(5):
        hospital.say("B", "1", spo2=71.0)
        hospital.run(1)
    assert hospital.heard.of("vitals", "B")[-1]["values"]["spo2"]["v"] == 71.0
    hospital.say("B", "1", Change.DISCHARGE)
    hospital.run(0.1)
    assert hospital.heard.of("bed", "B")[-1] == {
        "bed": "B",
        "stay": None,
        "state": "empty",
        "population": "adult",
        "since_ms": 0,
        "sources": [],
        "silent_ms": None,
        "simulated": False,
        "suspended_ms_left": 0,
    }


def test_a_dead_assessment_is_told_within_a_second_and_limits_go_on(hospital: Hospital) -> None:
    """THRESHOLD ONLY on every bed, the score taken back; alerts are raised meanwhile; then the score comes back."""
    for _ in range(20):
        hospital.say("A", "1", hr=80.0, spo2=97.0)
        hospital.run(1)
    assert hospital.heard.of("score", "A")[-1]["outcome"] == "accepted"
    hospital.assess.die()
    hospital.run(0.2)
    mode = hospital.heard.of("mode", "A")[-1]
    assert (mode["mode"], mode["reason"]) == ("THRESHOLD_ONLY", "engine_crashed")
    gone = hospital.heard.of("score", "A")[-1]
    assert (gone["outcome"], gone["probability"]) == ("fallback", None)
    hospital.say("B", "2", hr=80.0)
    assert hospital.heard.of("mode", "B")[-1]["mode"] == "THRESHOLD_ONLY"
    for _ in range(15):
        hospital.say("A", "1", hr=80.0, spo2=70.0)
        hospital.run(1)
    assert any(alert["active"] for alert in hospital.heard.of("alert", "A"))
    hospital.assess.revive()
    for _ in range(20):
        hospital.say("A", "1", hr=80.0, spo2=97.0)
        hospital.run(1)
    assert hospital.heard.of("score", "A")[-1]["outcome"] == "accepted"
    modes = [row["mode"] for row in hospital.audited() if row["what"] == "mode" and row["bed"] == "A"]
    assert modes == ["NOT_ASKED", "LOCAL", "THRESHOLD_ONLY", "NOT_ASKED", "LOCAL"]


def test_dead_thresholds_are_told_on_every_bed_and_taken_back(hospital: Hospital) -> None:
    """A technical alert of high priority, also for a patient who comes meanwhile."""
    hospital.say("A", "1", hr=80.0)
    hospital.run(1)
    hospital.thresholds.die()
    hospital.run(0.2)
    hospital.say("B", "2", hr=80.0)
    for bed in "AB":
        alert = hospital.heard.of("alert", bed)[-1]
        assert (alert["code"], alert["cause"], alert["priority"], alert["active"]) == (
            "thresholds-down",
            "technical",
            "high",
            True,
        )
    hospital.thresholds.revive()
    hospital.run(0.2)
    for bed in "AB":
        assert not hospital.heard.of("alert", bed)[-1]["active"]


def test_what_cannot_be_taken_is_refused_and_counted(tmp_path: Path) -> None:
    """An unknown place is refused for good; refusals within a message are told without payload."""
    hospital = Hospital(tmp_path, BedPlan("Bed 4", places=("ICU^^4",)))
    hospital.ward._beds._automatic = False
    assert hospital.say("ICU^^9", hr=80.0) is Receipt.REFUSED
    reading = Reading("hl7", "ICU^^4", "gw", hospital.clock.now, refusals=(Refusal("unit-unknown", "OBX-6", 3),))
    assert hospital.ward.take(reading) is Receipt.TAKEN
    hospital.run(6)
    told = {source["refused"]: source["count"] for source in hospital.heard.of("source")}
    assert told == {"place-unknown": 1, "unit-unknown": 3}


def test_people_acknowledge_suspend_and_empty_a_bed(hospital: Hospital) -> None:
    """Each is passed on and audited; nobody acts on a patient who has gone, or for too long."""
    for _ in range(15):
        hospital.say("A", "1", spo2=70.0)
        hospital.run(1)
    alert = hospital.heard.of("alert", "A")[-1]
    stay = alert["stay"]
    hospital.ward.act("acknowledge", "A", stay, alert["id"])
    hospital.run(0.2)
    assert hospital.heard.of("alert", "A")[-1]["acknowledged"]
    hospital.ward.act("suspend", "A", stay, minutes=2)
    hospital.run(0.1)
    assert 119_000 <= hospital.heard.of("bed", "A")[-1]["suspended_ms_left"] <= 120_000
    hospital.ward.act("suspend", "A", stay, minutes=0)
    hospital.run(0.1)
    assert hospital.heard.of("bed", "A")[-1]["suspended_ms_left"] == 0
    for wrong in (("suspend", "A", stay, "", 31), ("suspend", "B", stay, "", 1), ("explode", "A", stay, "", 0)):
        with pytest.raises(InputError):
            hospital.ward.act(*wrong)
    hospital.ward.act("empty", "A", stay)
    assert hospital.heard.of("bed", "A")[-1]["state"] == "empty"
    with pytest.raises(InputError):
        hospital.ward.act("acknowledge", "A", stay, alert["id"])
    acts = [row["action"] for row in hospital.audited() if row["what"] == "act"]
    assert acts == ["acknowledge", "suspend", "suspend", "empty"]


def test_no_message_and_no_audit_holds_an_identifier(hospital: Hospital) -> None:
    """Whatever happens."""
    hospital.say("A", "MRN-SECRET", hr=80.0, spo2=60.0)
    hospital.run(20)
    hospital.say("B", "MRN-SECRET", Change.TRANSFER)
    hospital.run(20)
    hospital.say("B", "MRN-SECRET", Change.DISCHARGE)
    hospital.run(6)
    assert "SECRET" not in json.dumps(hospital.heard.messages) + json.dumps(hospital.audited())


def _happening(what: What) -> Happening:
    return Happening("ecg A", what, 0, "exit-1")


def test_an_ecg_streams_word_is_about_whoever_lies_there(tmp_path: Path) -> None:
    """Its mode is kept for a patient who comes later; its advisories are of the stay, and of nobody in an empty bed."""
    hospital = Hospital(tmp_path, BedPlan("A", ("A",)), ecg=("A",))
    hospital.ward.streamed("A", "mode", {"mode": "LOCAL", "reason": "", "since_ms": 0})
    hospital.ward.streamed("A", "advisory", {"id": "x", "text": "t"})
    assert not hospital.heard.of("mode") + hospital.heard.of("advisory")
    hospital.say("A", "P1", hr=80.0)
    (mode,) = [one for one in hospital.heard.of("mode", "A") if one["task"] == "ecg-beat"]
    assert mode["mode"] == "LOCAL"
    hospital.ward.streamed("A", "advisory", {"id": "x", "text": "t"})
    (advisory,) = hospital.heard.of("advisory", "A")
    assert (advisory["stay"], advisory["task"]) == (mode["stay"], "ecg-beat")


def test_an_ecg_stream_that_is_gone_cannot_say_so_itself(tmp_path: Path) -> None:
    """The ward says its mode for it, and audits every change."""
    hospital = Hospital(tmp_path, BedPlan("A", ("A",)), ecg=("A",))
    hospital.say("A", "P1", hr=80.0)
    hospital.ward.streamed("A", "mode", {"mode": "LOCAL", "reason": "", "since_ms": 0})
    hospital.ward.stream_happened("A", _happening(What.HUNG), 1)
    hospital.ward.stream_happened("A", _happening(What.BACK), 1)
    hospital.ward.stream_happened("A", _happening(What.CRASHED), None)
    hospital.ward.streamed("A", "ended", {})
    said = [(one["mode"], one["reason"]) for one in hospital.heard.of("mode", "A") if one["task"] == "ecg-beat"]
    assert said == [
        ("NO_AI", "gap"),
        ("LOCAL", ""),
        ("THRESHOLD_ONLY", "engine_hung"),
        ("LOCAL", ""),
        ("THRESHOLD_ONLY", "engine_crashed"),
        ("NO_AI", "gap"),
    ]
    audited = [one for one in hospital.audited() if one["what"] == "mode" and one.get("task") == "ecg-beat"]
    assert [one["mode"] for one in audited] == [mode for mode, _ in said]
    assert not any(one["unseen"] for one in audited)


def test_an_ecg_pages_address_is_greeted_once(tmp_path: Path) -> None:
    """At whatever port it got; the same address again changes nothing."""
    hospital = Hospital(tmp_path, BedPlan("A", ("A",)), ecg=("A",))
    for url in ("http://h:1/", "http://h:1/", "http://h:2/"):
        hospital.ward.streamed("A", "page", {"url": url})
    assert [one["beds"][0]["ecg"] for one in hospital.heard.of("hello")] == ["http://h:1/", "http://h:2/"]
    hospital.ward.streamed("A", "page", {})
    assert hospital.ward.odd == 1


def test_a_process_that_says_what_it_cannot_mean_is_replaced(hospital: Hospital) -> None:
    """It is distrusted as one that crashed is; the rim and the other process go on."""
    hospital.say("A", "P1", hr=80.0)
    hospital.run(1)
    stay = hospital.heard.of("bed", "A")[-1]["stay"]
    odd = {"bed": "A", "stay": stay, "task": "toy", "mode": "LOCAL", "changes": "many"}
    hospital.assess._heard.append(("mode", odd))
    hospital.run(0.2)
    assert hospital.ward.odd == 1
    assert [one["what"] for one in hospital.heard.of("process") if one["name"] == ASSESS][-1] == "nonsense"
    assert hospital.heard.of("mode", "A")[-1]["mode"] == "THRESHOLD_ONLY"


def test_a_refusal_is_handed_on_whoever_reads_it_first(hospital: Hospital) -> None:
    """The tick and the loop's reader hear through the same door: neither may swallow it."""
    refused: list[tuple[str, str]] = []
    hospital.ward.refused = lambda task, _sha256, code: refused.append((task, code))
    hospital.assess._heard.append(("refused", {"task": "toy", "code": "golden-failed", "sha256": "a"}))
    hospital.run(0.1)
    hospital.assess._heard.append(("refused", {"task": "toy", "code": "bundle-damaged", "sha256": "a"}))
    hospital.ward.hear(ASSESS)
    assert refused == [("toy", "golden-failed"), ("toy", "bundle-damaged")]


def test_a_ward_without_a_patient_is_not_silent(tmp_path: Path) -> None:
    """Every second it says how it is, so that no page takes an empty ward for a dead device."""
    hospital = Hospital(tmp_path)
    hospital.run(3)
    told = hospital.heard.of("latency")
    assert len(told) == 3
    assert [stage["name"] for stage in told[0]["stages"]] == ["take", "tick"]
