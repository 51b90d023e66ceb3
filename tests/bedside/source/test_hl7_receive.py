"""A message comes in: what the rim gets, and what the sender is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hl7_seeds import names, seed

from edgeward.bedside.source.hl7_receive import SEEN_MAX, SENDERS_MAX, Receiver
from edgeward.bedside.source.reading import Change, Receipt
from edgeward.kernel.clock import NS_PER_S
from edgeward.signal.numeric import Kind
from edgeward.testing.clock import ManualClock
from edgeward.testing.rim import RecordingRim
from edgeward.wire import mllp
from edgeward.wire.codes import CodeTable, site_codes
from edgeward.wire.hl7v2 import parse
from edgeward.wire.mllp import Broken, Decoder

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

START = datetime(2026, 3, 4, 9, 15, 2, tzinfo=UTC)


class _Clock(ManualClock):
    """Wall time at the moment of the seeds, and a monotonic clock that has run for a day."""

    def __init__(self, wall: datetime = START) -> None:
        super().__init__(86_400 * NS_PER_S)
        self._origin = wall - timedelta(seconds=86_400)

    def wall(self) -> datetime:
        return self._origin + timedelta(microseconds=self.monotonic_ns() // 1000)


class _Device:
    """A receiver with a recording rim."""

    def __init__(self, *, table: CodeTable | None = None, zone: tzinfo = UTC, wall: datetime = START) -> None:
        self.rim = RecordingRim()
        self.clock = _Clock(wall)
        self.receiver = Receiver(self.rim, self.clock, table or CodeTable(), zone)

    def receive(self, content: bytes, peer: str = "10.0.0.5") -> list[str]:
        """Take it; MSA-1 of every answer."""
        return self.answers(self.receiver.receive(content, peer))

    @staticmethod
    def answers(raw: bytes) -> list[str]:
        """MSA-1 and MSA-2 of every answer in the bytes."""
        found = []
        for content in Decoder().feed(raw):
            assert isinstance(content, bytes)
            message = parse(content)
            found.append(f"{message.rows[1][1]} {message.raw(message.rows[1], 2)}")
        return found

    def ages_s(self) -> dict[Kind, float]:
        """How old each numeric of the last reading is."""
        reading = self.rim.readings[-1]
        return {n.kind: (reading.received_ns - n.at_ns) / NS_PER_S for n in reading.numerics}


def _oru(*rows: str, control: str = "1", stamp: str = "20260304091500+0000", head: str = "") -> bytes:
    first = head or f"MSH|^~\\&|MON|WARD|||{stamp}||ORU^R01|{control}|P|2.6"
    return "".join(row + "\r" for row in (first, *rows)).encode()


HR = "OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC||72|bpm|||||F|||20260304091458+0000"


def test_a_pcd01_message_becomes_one_reading() -> None:
    """Who, where, what, and how old each number is; the cuff pressure keeps its own time."""
    device = _Device()
    assert device.receive(seed("pcd01_gateway_ucum")) == ["CA a1f0c3d2e4b5"]
    (reading,) = device.rim.readings
    assert (reading.source, reading.place, reading.peer, reading.simulated) == ("hl7", "ICU^3^12", "10.0.0.5", False)
    assert reading.patient is not None
    assert reading.patient.identifiers == {"MRN4711^^^HOSP^MR", "V0815^^^HOSP^VN"}
    assert reading.patient.sex == "f"
    values = {n.kind: n.value for n in reading.numerics}
    assert (values[Kind.HR], values[Kind.SPO2], values[Kind.TEMP], values[Kind.FIO2]) == (88.0, 94.0, 38.4, 40.0)
    assert values[Kind.ETCO2] == pytest.approx(36.75, abs=0.01)
    ages = device.ages_s()
    assert ages[Kind.HR] == pytest.approx(2, abs=1)
    assert ages[Kind.NIBP_SYS] == pytest.approx(13 * 60, abs=1)
    assert [n.at_ns for n in reading.numerics] == sorted(n.at_ns for n in reading.numerics)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("pcd01_gateway_ucum", ["CA"]),
        ("egateway_empty_pid", ["CA"]),
        ("information_center_mdil", ["AA"]),
        ("information_center_wave", ["CA"]),
        ("carescape_no_obx14", ["AA"]),
        ("integrator_two_codings", ["CA", "AA"]),
        ("monitor_plain_no_units", ["AA"]),
        ("sentinels_no_status", ["CA"]),
        ("monitor_code_name_mismatch", ["AA"]),
        ("laboratory_loinc", ["CA"]),
        ("several_patients", ["CA"]),
        ("cyrillic_name", ["CA"]),
        ("pcd04_alert_r40", ["CR"]),
        ("adt_a01", ["CA"]),
        ("adt_a40", ["CA"]),
    ],
)
def test_each_dialect_is_answered_by_its_own_rules(name: str, answer: list[str]) -> None:
    """Original and enhanced, accept and application."""
    assert [msa.split()[0] for msa in _Device().receive(seed(name))] == answer


def test_every_seed_has_a_test_of_its_answer_or_its_change() -> None:
    """No seed lies unused."""
    for name in names():
        assert _Device().receive(seed(name)), name


@pytest.mark.parametrize(
    ("name", "wall", "answer", "numerics", "refused"),
    [
        ("acme_pcd01_nibp_ucum_v26", datetime(2011, 6, 2, 5, 0, 1, tzinfo=UTC), "CA", 3, []),
        (
            "draeger_pcd04_watchdog_r40_v26",
            datetime(2019, 11, 5, 17, 39, 42, tzinfo=UTC),
            "CR",
            0,
            ["alerts-unsupported"],
        ),
        ("ge_b1x5_vsp_vitals_v26", datetime(2024, 12, 19, 17, 30, 1, tzinfo=UTC), "AA", 8, []),
        ("mindray_egateway_pcd01_v26", datetime(2026, 9, 12, 6, 30, 1, tzinfo=UTC), "CA", 6, ["code-unknown"]),
        ("philips_intellivue_mx500_pcd01_wave_v26", datetime(2021, 4, 26, 3, 3, 33, tzinfo=UTC), "CA", 1, []),
    ],
)
def test_real_messages_of_gateways(
    name: str, wall: datetime, answer: str, numerics: int, refused: list[str], shared_data: Path
) -> None:
    """Five makers' messages as they are."""
    path = shared_data / "hl7" / f"{name}.hl7"
    if not path.is_file():
        pytest.skip("REAL DATA ABSENT: no hl7/ in the data folder")
    device = _Device(wall=wall)
    assert device.receive(path.read_bytes())[0].startswith(answer)
    assert sum(len(reading.numerics) for reading in device.rim.readings) == numerics
    assert device.rim.refusals == refused


def test_an_empty_pid_says_nothing_of_who() -> None:
    """The stay at that place goes on."""
    device = _Device()
    device.receive(seed("egateway_empty_pid"))
    (reading,) = device.rim.readings
    assert reading.patient is None
    assert reading.place == "HDU^^7"


def test_a_missing_obx14_falls_back_to_obr7_in_the_zone_of_msh7() -> None:
    """OBR-7 without an offset is in the header's zone (−0700), not the site's."""
    device = _Device(zone=ZoneInfo("Europe/Berlin"), wall=datetime(2026, 3, 4, 12, 30, 1, tzinfo=UTC))
    device.receive(seed("carescape_no_obx14"))
    assert device.ages_s()[Kind.HR] == pytest.approx(0, abs=2)


def test_stamps_without_any_zone_are_the_sites() -> None:
    """And a site whose zone is wrong by whole hours loses nothing: MSH-7 is wrong by the same."""
    for zone in (UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")):
        device = _Device(zone=zone, wall=datetime(2026, 3, 4, 10, 15, 1, tzinfo=UTC))
        device.receive(seed("integrator_two_codings"))
        if zone.utcoffset(START.replace(tzinfo=None)) != timedelta(hours=5, minutes=30):
            assert device.ages_s()[Kind.HR] == pytest.approx(1, abs=62)


def test_offsets_with_fractions() -> None:
    """``.2500+0530`` is read to the fraction, and compared with a header in another zone."""
    device = _Device(wall=datetime(2026, 3, 4, 10, 15, 0, tzinfo=UTC))
    content = seed("egateway_empty_pid").replace(b"|20260304154500.0000+0530||ORU", b"|20260304101500.0000+0000||ORU")
    device.receive(content.replace(b"R|||20260304154500.0000", b"R|||20260304154457.2500"))
    assert device.ages_s()[Kind.HR] == pytest.approx(2.75, abs=0.001)


def test_without_any_time_the_arrival_counts() -> None:
    """A plain monitor states none."""
    rows = [
        {"code": "101", "name": "HR", "kind": "hr", "unit": "bpm"},
        {"code": "160", "name": "SpO2", "kind": "spo2", "unit": "%"},
        {"code": "170", "name": "Sys", "kind": "nibp_sys", "unit": "mmHg"},
        {"code": "171", "name": "Dia", "kind": "nibp_dia", "unit": "mmHg"},
        {"code": "105", "kind": "ignore"},
    ]
    device = _Device(table=CodeTable(site_codes(rows)), wall=datetime(2026, 3, 4, 10, 15, 0, tzinfo=UTC))
    device.receive(seed("monitor_plain_no_units"))
    (reading,) = device.rim.readings
    assert {n.kind: n.value for n in reading.numerics} == {
        Kind.HR: 60.0,
        Kind.SPO2: 98.0,
        Kind.NIBP_SYS: 120.0,
        Kind.NIBP_DIA: None,
    }
    assert device.ages_s() == {Kind.HR: 0, Kind.SPO2: 0, Kind.NIBP_SYS: 15 * 60, Kind.NIBP_DIA: 0}
    assert {(r.code, r.count) for r in reading.refusals} == {("code-unknown", 4)}


def test_refusals_say_where_and_how_often_and_nothing_of_the_message() -> None:
    """The rest of the message is taken."""
    device = _Device()
    device.receive(seed("integrator_two_codings"))
    (reading,) = device.rim.readings
    assert {(r.code, r.where, r.count) for r in reading.refusals} == {
        ("out-of-range", "OBX-5", 1),
        ("code-name-mismatch", "OBX-3", 1),
        ("unit-missing", "OBX-6", 1),
    }
    assert len(reading.numerics) == 9
    assert "884422" not in repr(reading)


def test_several_patients_are_several_readings() -> None:
    """One message, one acknowledgement."""
    device = _Device()
    assert device.receive(seed("several_patients")) == ["CA multi-1"]
    assert [reading.place for reading in device.rim.readings] == ["ICU^^1", "ICU^^2"]


def test_changes_reach_the_rim() -> None:
    """With place, previous place and the identity given up."""
    device = _Device()
    device.receive(seed("adt_a02"))
    device.receive(seed("adt_a40"))
    moved, merged = device.rim.readings
    assert (moved.change, moved.place, moved.previous_place) == (Change.TRANSFER, "ICU^3^12", "ED^2^1")
    assert merged.change is Change.MERGE
    assert merged.prior is not None
    assert merged.patient is not None
    assert not merged.prior.same_as(merged.patient)


def test_an_event_that_changes_nothing_is_acknowledged_and_told() -> None:
    """The sender's queue is not held up."""
    device = _Device()
    content = seed("adt_a01").replace(b"A01", b"A31")
    assert device.receive(content) == ["CA HIS-A31-1"]
    assert device.rim.refusals == ["event-unused"]
    device.rim.receipt = Receipt.REFUSED
    assert device.receive(content.replace(b"HIS-", b"2")) == ["CA 2A31-1"]


@pytest.mark.parametrize(
    ("content", "answers", "refusal"),
    [
        (seed("pcd04_alert_r40"), ["CR 79"], "alerts-unsupported"),
        (
            seed("adt_a01").replace(b"PV1|1|I|ICU", b"PV1|1|I|^^^^ICU").replace(b"^3^12", b""),
            ["CR HIS-A01-1"],
            "place-missing",
        ),
        (_oru(HR, head="MSH|^~\\&|A|B|||20260304||ORM^O01|7|P|2.6"), ["AR 7"], "message-type-unsupported"),
        (_oru(HR, head="MSH|^~\\&|A|B|||20260304||ORU^R01|7|Q|2.6"), ["AR 7"], "processing-unknown"),
        (_oru(HR, head="MSH|^~\\&|A|B|||20260304||ORU^R01|7|P|3"), ["AR 7"], "version-unknown"),
        (_oru("not a segment"), ["AE 1"], "segment-malformed"),
        (b"PID|1||4711\r", ["AR "], "header-missing"),
        (b"\x00\r\n", ["AR "], "message-empty"),
        (seed("adt_a01").decode().encode("utf-16"), ["AR "], "charset-unsupported"),
    ],
)
def test_what_is_refused_is_answered_and_told(content: bytes, answers: list[str], refusal: str) -> None:
    """By the rules of its mode, with its control id where it has one."""
    device = _Device()
    assert device.receive(content) == answers
    assert device.rim.refusals == [refusal]
    assert device.receiver.counts.refused == 1


def test_a_rim_that_cannot_take_is_not_acknowledged_for() -> None:
    """The sender may send it again, and then it is taken."""
    device = _Device()
    device.rim.receipt = Receipt.LATER
    assert device.receive(seed("pcd01_gateway_ucum")) == ["CE a1f0c3d2e4b5"]
    assert device.receive(seed("carescape_no_obx14"))[0].startswith("AR")
    device.rim.receipt = Receipt.TAKEN
    assert device.receive(seed("pcd01_gateway_ucum")) == ["CA a1f0c3d2e4b5"]
    assert len(device.rim.readings) == 1
    assert device.receiver.counts.busy == 2


def test_a_message_of_beds_elsewhere_is_refused_for_good() -> None:
    """Nobody shall send it for ever; where one of several patients lies here, it is taken."""
    device = _Device()
    device.rim.receipts = {"ICU^3^12": Receipt.REFUSED, "ICU^^1": Receipt.REFUSED}
    assert device.receive(seed("pcd01_gateway_ucum")) == ["CR a1f0c3d2e4b5"]
    assert device.receive(seed("several_patients")) == ["CA multi-1"]
    assert [reading.place for reading in device.rim.readings] == ["ICU^^2"]
    device.rim.receipts = {"ICU^^1": Receipt.REFUSED, "ICU^^2": Receipt.REFUSED}
    raw = device.receiver.receive(seed("several_patients").replace(b"multi-1", b"multi-2"), "p")
    assert b"204^Unknown key identifier^HL70357" in raw
    assert device.receiver.counts.elsewhere == 2


def test_a_message_that_comes_again_is_acknowledged_and_not_taken_twice() -> None:
    """Its acknowledgement was lost; within an hour it is known again, over another connection too."""
    device = _Device()
    content = seed("pcd01_gateway_ucum")
    assert device.receive(content) == device.receive(content, "10.0.0.9") == ["CA a1f0c3d2e4b5"]
    assert len(device.rim.readings) == 1
    assert device.receive(content.replace(b"|88|", b"|89|"))  # the same control id, other content: another message
    assert len(device.rim.readings) == 2
    device.clock.advance(3601)
    device.receive(content)
    assert len(device.rim.readings) == 3
    assert device.receiver.counts.repeated == 1


def test_a_monitor_that_repeats_its_control_id_and_states_no_time_is_taken_each_time() -> None:
    """Equal bytes are two measurements there."""
    device = _Device()
    for _ in range(3):
        device.receive(seed("monitor_plain_no_units"))
    assert len(device.rim.readings) == 3


def test_reordered_messages_keep_their_times() -> None:
    """An older message that comes later is older."""
    device = _Device(wall=datetime(2026, 3, 4, 9, 16, 0, tzinfo=UTC))
    moments = []
    for minute, second, control in ((15, 50, "b"), (15, 48, "a"), (15, 55, "c")):
        stamp = f"2026030409{minute}{second}+0000"
        device.receive(_oru(HR.replace("20260304091458+0000", stamp), control=control, stamp=stamp))
        moments.append(device.rim.readings[-1].numerics[0].at_ns)
    assert moments[1] < moments[0] < moments[2]


def test_the_future_and_the_far_past_are_refused() -> None:
    """Half an hour ahead is impossible; a vital sign of yesterday is history, a laboratory value is not."""
    device = _Device()
    for stamp, code in (("20260304094500+0000", "time-future"), ("20260303091458+0000", "time-old")):
        device.receive(_oru(HR.replace("20260304091458+0000", stamp), control=code))
        assert device.rim.refusals[-1] == code
        assert device.rim.readings[-1].numerics == ()
    lactate = "OBX|1|NM|2524-7^^LN||2.1|mmol/L|||||F|||20260303091458+0000"
    device.receive(_oru(lactate, control="lab"))
    assert device.ages_s()[Kind.LACTATE] == pytest.approx(86_402, abs=3)


def test_a_monitor_whose_clock_is_years_off_is_read_by_its_messages_own_time() -> None:
    """What counts is how much older an observation is than its message."""
    device = _Device()
    for n in range(5):
        stamp = f"2007010619{10 + n}00"
        device.receive(_oru(HR.replace("20260304091458+0000", stamp), control=str(n), stamp=stamp))
        device.clock.advance(60)
    assert [len(reading.numerics) for reading in device.rim.readings] == [0, 0, 1, 1, 1]
    assert device.ages_s() == {Kind.HR: 0.0}


def test_each_sender_behind_a_gateway_has_its_own_clock() -> None:
    """And only so many are remembered."""
    device = _Device()
    for n in range(SENDERS_MAX + 50):
        device.receive(_oru(HR, control=str(n), head=f"MSH|^~\\&|MON{n}|W|||20260304091500+0000||ORU^R01|{n}|P|2.6"))
    assert len(device.receiver._clocks) == SENDERS_MAX
    assert len(device.receiver._seen) <= SEEN_MAX


def test_what_was_taken_is_remembered_in_bounded_memory() -> None:
    """The oldest is forgotten first."""
    device = _Device()
    for n in range(SEEN_MAX + 10):
        device.receiver.receive(_oru(control=str(n)), "p")
    assert len(device.receiver._seen) == SEEN_MAX


def test_joined_messages_are_answered_one_by_one() -> None:
    """Two in one block, one of them bad."""
    device = _Device()
    joined = seed("adt_a01") + b"MSH|^~\\&|A|B|||20260304||ORM^O01|7|P|2.6\r"
    assert device.receive(joined) == ["CA HIS-A01-1", "AR 7"]


def test_broken_bytes_are_told_and_answered_where_they_can_be() -> None:
    """A message without its end has a control id; noise has none."""
    device = _Device()
    half = Broken("mllp-no-end", seed("pcd01_gateway_ucum")[:300])
    assert device.answers(device.receiver.broken(half, "p")) == ["CR a1f0c3d2e4b5"]
    assert device.receiver.broken(Broken("mllp-noise", b"GET / HTTP/1.1"), "p") == b""
    assert device.rim.refusals == ["mllp-no-end", "mllp-noise"]


def test_a_wrongly_encoded_name_costs_no_number() -> None:
    """Cyrillic bytes that are not what MSH-18 says: the numbers are taken, the doubt is told."""
    device = _Device(wall=datetime(2026, 3, 4, 10, 15, 2, tzinfo=UTC))
    text = seed("cyrillic_name").decode()
    for codec, stated, doubts in (
        ("utf-8", "UNICODE UTF-8", []),
        ("cp1251", "CP1251", []),
        ("cp1251", "UNICODE UTF-8", ["charset-mismatch"]),
        ("cp1251", "", ["charset-unstated"]),
    ):
        device.rim.readings.clear()
        assert device.receive(text.replace("UNICODE UTF-8", stated).encode(codec))
        (reading,) = device.rim.readings
        assert len(reading.numerics) == 2
        assert [refusal.code for refusal in reading.refusals] == doubts
        assert reading.patient is not None
        assert all(identifier.startswith("40817^^^") for identifier in reading.patient.identifiers)


def test_simulated_messages_are_marked() -> None:
    """MSH-11 of debugging or training."""
    device = _Device()
    device.receive(seed("adt_a01").replace(b"|P|2.5", b"|T|2.5"))
    assert device.rim.readings[0].simulated


def test_a_fault_of_our_own_is_answered_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that should never be is told as an application error, without a word of the message."""
    device = _Device()

    def fail(*_: object) -> None:
        raise RuntimeError("Muster, Erika")

    monkeypatch.setattr("edgeward.bedside.source.hl7_receive.decode", fail)
    raw = device.receiver.receive(seed("carescape_no_obx14"), "p")
    assert b"207^Application error^HL70357" in raw
    assert b"Muster" not in raw
    assert device.rim.refusals == ["internal"]
    monkeypatch.undo()
    assert device.receive(seed("carescape_no_obx14"))[0].startswith("AA")


def test_no_answer_and_no_report_holds_a_patient() -> None:
    """Over all seeds: neither what goes back, nor what a log may show."""
    private = re.compile(rb"4711|Muster|1954|884422|Jane|40817|MRN100")
    for name in names():
        device = _Device()
        raw = device.receiver.receive(seed(name), "p")
        assert not private.search(raw)
        assert not private.search(repr(device.rim.readings).encode())
        assert mllp.START in raw
