"""A whole ward that writes to a hospital's FHIR server: through its absence and the ward's own power cut."""

from __future__ import annotations

import os
import signal
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from fhir_server import FhirServer
from wards import PERIOD_S, SETTINGS, accepted, bed, free_port, get, until

from edgeward.signal.numeric import Kind
from edgeward.testing.ward_process import Monitors, Steady, WardProcess

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.testing.gateway import SimulatedBed

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx

RATES = {80.0: ("none", 11.92), 110.0: ("watch", 73.11), 120.0: ("act", 88.08)}
"""The toy's level and probability in percent by heart rate."""


class Hospital:
    """A FHIR server at one address behind TLS, which comes and goes; ``taken`` over all its lives."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        (folder / "token").write_text("opensesame\n")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self._port = free_port()
        self._servers: list[FhirServer] = []
        self.settings = (
            '[out]\ndevice = "bay-3"\n[out.fhir]\n'
            f'url = "https://127.0.0.1:{self._port}/fhir/r4"\n'
            f'token_file = "{folder / "token"}"\ntls_authority = "{folder / "ca.pem"}"\n'
        )

    def come(self) -> None:
        """Listen."""
        self._servers.append(FhirServer(self._tls, self._port))

    def go(self) -> None:
        """Be away."""
        self._servers[-1].close()

    @property
    def taken(self) -> list[dict[str, Any]]:
        """Every resource, in the order in which it was created or updated."""
        return [resource for server in self._servers for resource in list(server.taken)]

    def of(self, kind: str, who: str) -> list[dict[str, Any]]:
        """Those of one patient."""
        return [
            resource
            for resource in self.taken
            if resource["resourceType"] == kind and resource["subject"]["identifier"]["value"] == who
        ]

    def scores(self, who: str) -> list[float]:
        """Probabilities that were entered, in percent."""
        return [one["valueQuantity"]["value"] for one in self.of("Observation", who) if "valueQuantity" in one]

    def whys(self, who: str) -> list[str]:
        """Why scores were not given."""
        scores = [one for one in self.of("Observation", who) if "dataAbsentReason" in one]
        return [one["dataAbsentReason"]["text"] for one in scores if "text" in one["dataAbsentReason"]]

    def flags(self, who: str) -> list[tuple[str, str]]:
        """Advisories: identifier and status."""
        return [(one["identifier"][0]["value"], one["status"]) for one in self.of("Flag", who)]

    def check(self) -> None:
        """All of it is FHIR, came with the token, and nothing was created twice."""
        assert [error for server in self._servers for error in server.invalid] == []
        assert {one["Authorization"] for server in self._servers for one in server.requests} == {"Bearer opensesame"}
        created = [
            (one["resourceType"], one["identifier"][0]["value"]) for one in self.taken if one["resourceType"] != "Flag"
        ]
        assert len(set(created)) == len(created)


def shown(ward: WardProcess, who: SimulatedBed, rate: float) -> None:
    """Let a monitor show a heart rate until the ward has said what it means."""
    assert isinstance(who.player, Steady)
    since = len(ward.heard)
    who.player.values[Kind.HR] = rate
    level, percent = RATES[rate]
    name = who.place.replace("^^", " ")
    ward.wait(
        "score",
        lambda m: accepted(m) and (m["bed"], m["level"], round(100 * m["probability"], 2)) == (name, level, percent),
        since,
    )


def test_a_fhir_server_gets_every_record_once_however_it_and_the_ward_come_and_go(tmp_path: Path) -> None:
    """It is away from the start, through a power cut of the ward, and once more later; two patients are never mixed."""
    hospital = Hospital(tmp_path)
    settings = SETTINGS + hospital.settings
    one, two = (bed(number, hr=80.0, spo2=97.0, rr=16.0, temp=37.0, abp_sys=120.0) for number in (1, 2))
    with (
        WardProcess(tmp_path, settings, toy_period_s=PERIOD_S) as ward,
        Monitors([one, two], ward.hl7_port, period_s=PERIOD_S),
    ):
        for rate in RATES:
            shown(ward, one, rate)
        ward.wait("advisory", lambda m: m["bed"] == "ICU 1" and m["active"])
        ward.wait("outbox", lambda m: m["waiting"] >= 6 and not m["unsaved"] and m["oldest_ms"] > 0, len(ward.heard))
        until(lambda: "fhir: nobody answers" in get(ward.page))
        ward.kill()
    assert hospital.taken == []
    hospital.come()
    with WardProcess(tmp_path, settings, toy_period_s=PERIOD_S) as ward:
        until(lambda: len(hospital.flags("P1")) == 2)  # raised before the power cut, taken back after it
        assert hospital.scores("P1")[:3] == [percent for _, percent in RATES.values()]
        ((raised, first), (ended, last)) = hospital.flags("P1")
        assert (raised, first, last) == (ended, "active", "inactive")
        with Monitors([one, two], ward.hl7_port, period_s=PERIOD_S):
            shown(ward, two, 80.0)
            until(lambda: len(hospital.scores("P2")) == 2)  # a new stay is news
            hospital.go()
            before, known = len(hospital.taken), len(hospital.whys("P2"))
            shown(ward, two, 110.0)
            os.kill(ward.pid("engine"), signal.SIGKILL)
            ward.wait("score", lambda m: m["bed"] == "ICU 2" and m["outcome"] == "fallback", len(ward.heard))
            until(lambda: "fhir: nobody answers" in get(ward.page))
            assert len(hospital.taken) == before
            hospital.come()
            until(lambda: len(hospital.whys("P2")) > known)
            until(lambda: "record: all sent" in get(ward.page))
        assert ward.end() == 0
        hospital.go()
    hospital.check()
    assert hospital.scores("P2")[:3] == [11.92, 11.92, 73.11]
    assert set(hospital.whys("P2")[known:]) <= {"engine_crashed", "probation"}
    risks = [one["prediction"][0]["probabilityDecimal"] for one in hospital.of("RiskAssessment", "P2")]
    assert risks == hospital.scores("P2")
    news2 = [seen for seen in hospital.of("Observation", "P1") if seen["code"]["text"] == "NEWS2 total score"]
    assert news2
    assert {seen["status"] for seen in news2} == {"preliminary"}  # nobody told of oxygen and consciousness
