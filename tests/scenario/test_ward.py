"""A whole ward as processes, fed over MLLP: what people see and what the hospital's record gets, whatever fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from wards import PERIOD_S, SETTINGS, accepted, bed, free_port, get, until

from edgeward.signal.numeric import Kind
from edgeward.testing.ward_process import Monitors, Steady, WardProcess
from edgeward.wire.hl7v2 import parse
from edgeward.wire.hl7v2_encode import Person, Sender, adt, observation, oru_r01
from edgeward.wire.mllp import Decoder, encode

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx

RISK = {80.0: "11.92", 90.0: "26.89", 100.0: "50.00", 110.0: "73.11"}
"""The toy's probability in percent by heart rate."""


def out_to(port: int) -> str:
    return f'[out]\ndevice = "d"\n[out.hl7]\nhost = "127.0.0.1"\nport = {port}\n'


class Receiver:
    """The hospital's HL7 listener: acknowledges and keeps every message, in the order in which they came."""

    def __init__(self, port: int) -> None:
        self.taken: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            with line:
                decoder = Decoder()
                while data := line.recv(65_536):
                    for content in decoder.feed(data):
                        assert isinstance(content, bytes)
                        self.taken.append(content)
                        named = parse(content).rows[0][10]
                        line.sendall(encode(f"MSH|^~\\&|E|H|||20260101||ACK|9|P|2.6\rMSA|AA|{named}\r".encode()))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


def field(content: bytes, name: str, number: int) -> str:
    """A field of the first segment of that name."""
    return next(line for line in content.decode().split("\r") if line.startswith(name)).split("|")[number]


def entered(content: bytes) -> tuple[str, str]:
    """Which record a message enters (OBR-3 without its authority), and for whom."""
    return field(content, "OBR", 3).split("^")[0], field(content, "PID", 3).split("^")[0]


def is_score(content: bytes) -> bool:
    """Whether it enters a score that was accepted."""
    return b"sepsis-risk.probability" in content and field(content, "OBR", 25) == "F"


def test_a_killed_engine_costs_scores_and_no_alert(tmp_path: Path) -> None:
    """The banner says why at once, desaturation is alerted meanwhile, and scores come back when they are earned."""
    one = bed(1, hr=80.0, spo2=97.0)
    with (
        WardProcess(tmp_path, SETTINGS, toy_period_s=PERIOD_S) as ward,
        Monitors([one, bed(2, hr=90.0)], ward.hl7_port, period_s=PERIOD_S),
    ):
        ward.wait("score", accepted)
        since = len(ward.heard)
        os.kill(ward.pid("engine"), signal.SIGKILL)
        down = ward.wait("mode", lambda m: m["mode"] == "THRESHOLD_ONLY" and m["bed"] == "ICU 1", since)
        assert ward.heard[down][1]["reason"] == "engine_crashed"
        until(lambda: "the AI stopped" in get(f"{ward.page}beds/ICU%201"))
        assert isinstance(one.player, Steady)
        one.player.values[Kind.SPO2] = 79.0
        alert = ward.wait("alert", lambda m: m["code"].startswith("spo2") and m["active"], down)
        back = ward.wait("score", accepted, down)
        assert alert < back
        ward.wait("mode", lambda m: m["mode"] == "LOCAL" and m["bed"] == "ICU 1", down)
        assert ward.end() == 0


def test_an_engine_that_hangs_between_two_scores_is_noticed_before_the_next(tmp_path: Path) -> None:
    """Nobody asks it for seconds to come; the banner says why long before the next score would be due."""
    with (
        WardProcess(tmp_path, SETTINGS, toy_period_s=15.0) as ward,
        Monitors([bed(number, hr=80.0) for number in (1, 2, 3)], ward.hl7_port, period_s=PERIOD_S),
    ):
        scored = ward.wait("score", accepted)
        os.kill(ward.pid("engine"), signal.SIGSTOP)
        down = ward.wait("mode", lambda m: m["mode"] == "THRESHOLD_ONLY", scored)
        assert ward.heard[down][1]["reason"] == "engine_hung"
        later = ward.wait("vitals", lambda m: m["bed"] == "ICU 1", down)
        assert "score" not in [message["kind"] for _, message in ward.heard[scored + 1 : later]]
        ward.wait("engine", lambda m: m["state"] == "ready" and m["restarts"] == 1, scored)


def test_records_arrive_once_and_in_order_when_the_receiver_comes_back(tmp_path: Path) -> None:
    """Through a receiver that is down and a power cut; the ward page says what waits and why."""
    port = free_port()
    one = bed(1, hr=80.0)
    assert isinstance(one.player, Steady)
    settings = SETTINGS + out_to(port)
    told: list[str] = []
    with (
        WardProcess(tmp_path, settings, toy_period_s=PERIOD_S) as ward,
        Monitors([one], ward.hl7_port, period_s=PERIOD_S),
    ):
        for rate, level in ((80.0, "none"), (110.0, "watch"), (90.0, "none"), (110.0, "watch")):
            since = len(ward.heard)
            one.player.values[Kind.HR] = rate
            ward.wait("score", lambda m, level=level: accepted(m) and m["level"] == level, since)
            told.append(level)
        ward.wait("outbox", lambda m: m["waiting"] >= 4 and not m["unsaved"] and m["oldest_ms"] > 0, since)
        shown = until(lambda: (page := get(ward.page)) and "hl7: nobody answers" in page and page)
        assert re.search(r"record: \d+ waiting for", shown)
        ward.kill()
    with WardProcess(tmp_path, settings, toy_period_s=PERIOD_S) as ward:
        ward.wait("outbox", lambda m: m["waiting"] >= 4)
        receiver = Receiver(port)
        try:
            with Monitors([bed(1, hr=110.0)], ward.hl7_port, period_s=PERIOD_S):
                until(lambda: sum(map(is_score, list(receiver.taken))) > len(told))
        finally:
            ward.end()
            receiver.close()
    levels = [field(content, "OBX|2|", 5).split("^")[0] for content in receiver.taken if is_score(content)]
    assert levels[: len(told) + 1] == [*told, "watch"]
    names = [entered(content)[0] for content in receiver.taken]
    assert len(set(names)) == len(names)
    stamps = [int(name.rsplit(".", 1)[1]) for name in names]
    assert stamps == sorted(stamps)


class Wire:
    """A gateway's connection, by hand."""

    def __init__(self, port: int) -> None:
        self._line = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._decoder = Decoder()
        self._control = count(1)

    def tell(self, trigger: str, place: str, who: str, previous: str = "") -> None:
        """An ADT event."""
        person = Person((f"{who}^^^HOSP^MR",))
        self._send(
            adt(self._sender, str(next(self._control)), self._now(), trigger, place, person, previous_place=previous)
        )

    def measure(self, place: str, who: str, rate: float) -> None:
        """A heart rate."""
        person, row = Person((f"{who}^^^HOSP^MR",)), observation(Kind.HR, rate, self._now())
        self._send(oru_r01(self._sender, str(next(self._control)), self._now(), place, [row], person=person))

    def close(self) -> None:
        """Unplug it."""
        self._line.close()

    def _send(self, content: bytes) -> None:
        self._line.sendall(encode(content))
        while True:
            for answer in self._decoder.feed(self._line.recv(65_536)):
                assert isinstance(answer, bytes)
                assert b"MSA|AA" in answer or b"MSA|CA" in answer
                return

    _sender = Sender("GW", "ICU")

    @staticmethod
    def _now() -> datetime:
        return datetime.now(UTC)


def test_a_transfer_takes_the_patient_along_and_mixes_nobody(tmp_path: Path) -> None:
    """P1 moves from bed 1 to bed 3, P3 comes into bed 1: every score on a page or in a record is its own patient's."""
    receiver = Receiver(free := free_port())
    rate_of = {"P1": 80.0, "P2": 90.0, "P3": 100.0}
    place_of = {"P1": "ICU^^1", "P2": "ICU^^2"}
    settings = SETTINGS + out_to(free)
    try:
        with WardProcess(tmp_path, settings, toy_period_s=PERIOD_S) as ward:
            gateway = Wire(ward.hl7_port)
            stay_of: dict[str, int] = {}

            def measured(seen: int) -> None:
                """Everybody is measured until everybody has a score that is newer than ``seen``."""
                for who, place in place_of.items():
                    name = place.replace("^^", " ")

                    def own(m: Any, who: str = who, name: str = name) -> bool:
                        return (
                            accepted(m) and m["bed"] == name and f"{100 * m['probability']:.2f}" == RISK[rate_of[who]]
                        )

                    for _ in range(20):
                        for other, at in place_of.items():
                            gateway.measure(at, other, rate_of[other])
                        time.sleep(PERIOD_S)
                        try:
                            found = ward.wait("score", own, seen, seconds=0.0)
                        except TimeoutError:
                            continue
                        stay = ward.heard[found][1]["stay"]
                        assert stay_of.setdefault(who, stay) == stay
                        break
                    else:
                        raise AssertionError(f"{who} never got a score of its own")

            for who, place in place_of.items():
                gateway.tell("A01", place, who)
            measured(0)
            moved = len(ward.heard)
            gateway.tell("A02", "ICU^^3", "P1", previous="ICU^^1")
            place_of["P1"], place_of["P3"] = "ICU^^3", "ICU^^1"
            gateway.tell("A01", "ICU^^1", "P3")
            measured(moved)
            assert len(set(stay_of.values())) == 3
            until(lambda: {entered(one)[1] for one in receiver.taken if is_score(one)} == set(rate_of))
            gateway.close()
            scores = ward.all("score")
    finally:
        receiver.close()
    who_of = {stay: who for who, stay in stay_of.items()}
    for score in scores:
        if accepted(score):
            assert f"{100 * score['probability']:.2f}" == RISK[rate_of[who_of[score["stay"]]]]
    for content in receiver.taken:
        name, who = entered(content)
        assert who_of[int(name.split(".")[2])] == who
        if is_score(content):
            assert field(content, "OBX|1|", 5) == RISK[rate_of[who]]


def test_an_ecg_page_is_linked_and_ends_with_its_ward(tmp_path: Path) -> None:
    """At any free port: the stream tells its address; when the ward is killed nothing of it is left."""
    settings = '[ward]\ntasks = []\n[[beds]]\nname = "Bed 1"\necg = "sim:"\nsimulated = true\n'
    with WardProcess(tmp_path, settings) as ward:
        told = ward.wait("hello", lambda m: m["beds"][0]["ecg"])
        address = ward.heard[told][1]["beds"][0]["ecg"]
        assert "ECG" in get(address)
        until(lambda: f'href="{address}"' in get(f"{ward.page}beds/Bed%201"))
        ward.wait("vitals", lambda m: "hr" in m["values"])
        ward.kill()
    until(lambda: not _answers(address))


def test_fhir_and_sdc_lead_to_the_beds_that_the_site_named(tmp_path: Path) -> None:
    """A FHIR sender with its token lies where its address says, an SDC monitor where its location says."""
    sdc_provider = pytest.importorskip("edgeward.testing.sdc_provider")
    token = hashlib.sha256(b"open").hexdigest()
    with sdc_provider.SdcMonitor() as monitor:
        monitor.set_patient("P1")
        monitor.set_location(poc="ICU", bed="S")
        monitor.set_numerics({Kind.HR: 61.0})
        settings = (
            '[ward]\ntasks = []\n[[beds]]\nname = "F"\npeers = ["gateway"]\n'
            '[[beds]]\nname = "S"\nplaces = ["ICU^^S"]\n'
            f'[fhir]\nport = 0\n[fhir.tokens]\ngateway = "{token}"\n[[sdc]]\ndevices = ["{monitor.url}"]\n'
        )
        with WardProcess(tmp_path, settings) as ward:
            observation = {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
                "subject": {"identifier": {"system": "urn:oid:1.2.3", "value": "7"}},
                "effectiveDateTime": datetime.now(UTC).isoformat(),
                "valueQuantity": {"value": 72, "system": "http://unitsofmeasure.org", "code": "/min"},
            }
            port = ward.words(r"FHIR at port (\d+)")
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/fhir/Observation",
                json.dumps(observation).encode(),
                {"Authorization": "Bearer open", "Content-Type": "application/fhir+json"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 201
            ward.wait("vitals", lambda m: m["bed"] == "F" and m["values"]["hr"]["v"] == 72.0)
            ward.wait("vitals", lambda m: m["bed"] == "S" and m["values"].get("hr", {}).get("v") == 61.0)


def test_a_certificate_that_cannot_be_read_is_told_by_its_table(tmp_path: Path) -> None:
    """The ward does not start half: exit code 2, and which file to put right."""
    settings = '[ward]\ntasks = []\n[fhir]\nport = 0\ntls_certificate = "/nowhere.pem"\ntls_key = "/nowhere.pem"\n'
    ward = WardProcess(tmp_path, settings)
    assert ward.process.wait(20) == 2
    assert ward.end() == 2
    assert "[fhir] tls_certificate" in ward.said


def _children(pid: int) -> set[int]:
    """Every process below ``pid``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, look = set[int](), [pid]
    while look:
        below = {child for child, parent in parents.items() if parent in look}
        found |= below
        look = list(below)
    return found


@pytest.mark.parametrize("after_s", [0.3, None], ids=["while it starts", "while it watches"])
def test_ctrl_c_leaves_no_process_and_the_next_ward_starts(tmp_path: Path, after_s: float | None) -> None:
    """And a second ward in the same folder meanwhile is told who holds it."""
    ward = WardProcess(tmp_path, SETTINGS, toy_period_s=PERIOD_S)
    if after_s is None:
        with ward:
            until(lambda: len(_children(ward.process.pid)) >= 4)  # thresholds, assessment, an engine and its standby
            children = _children(ward.process.pid)
            second = WardProcess(tmp_path, SETTINGS)
            assert second.process.wait(20) == 2
            second.end()
            assert "[ward-in-use]" in second.said
            assert str(ward.process.pid) in second.said
            ward.process.send_signal(signal.SIGINT)
            assert ward.process.wait(20) == 0
    else:
        time.sleep(after_s)
        children = _children(ward.process.pid)
        ward.process.send_signal(signal.SIGINT)
        assert ward.process.wait(20) in (0, 1, 130, -signal.SIGINT)  # 1: the interpreter, before our first line
        ward.end()
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    with WardProcess(tmp_path, SETTINGS, toy_period_s=PERIOD_S) as again:
        assert again.hl7_port
        assert again.end() == 0


def _answers(address: str) -> bool:
    try:
        get(address)
    except (urllib.error.URLError, OSError):
        return False
    return True
