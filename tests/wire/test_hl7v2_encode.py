"""What Edgeward writes as HL7 v2.6: fields in their places, text that cannot break out of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.signal.numeric import KINDS, Kind
from edgeward.wire.hl7v2_encode import CODES, LOINC, Obx, Person, Sender, adt, escape, observation, oru_r01, stamp

AT = datetime(2026, 9, 12, 12, 0, 0, 250_000, timezone(timedelta(hours=5, minutes=30)))
PERSON = Person(("4711^^^HOSP^MR", "99^^^HOSP^VN"), "19700101", "F")


def fields(content: bytes, name: str) -> list[list[str]]:
    return [line.split("|") for line in content.decode().split("\r") if line.startswith(name)]


def test_an_observation_message_has_everything_in_its_field() -> None:
    """MSH, PID, PV1, OBR, OBX as IHE PCD-01 wants them."""
    rows = [observation(Kind.HR, 71.6, AT), observation(Kind.SPO2, None), observation(Kind.ACVPU, 2.0)]
    content = oru_r01(Sender("GW", "ICU", "T"), "c1", AT, "ICU^^5", rows, person=PERSON)
    (msh,), (pid,), (pv1,), (obr,) = (fields(content, name) for name in ("MSH", "PID", "PV1", "OBR"))
    assert msh[2:4] + msh[6:12] == [
        "GW", "ICU", "20260912120000.250+0530", "", "ORU^R01^ORU_R01", "c1", "T", "2.6",
    ]  # fmt: skip
    assert msh[14:18] == ["NE", "AL", "", "UNICODE UTF-8"]
    assert msh[20].startswith("IHE_PCD_001^")
    assert (pid[3], pid[7], pid[8]) == ("4711^^^HOSP^MR~99^^^HOSP^VN", "19700101", "F")
    assert (pv1[2], pv1[3]) == ("I", "ICU^^5")
    assert (obr[3], obr[7]) == ("c1^GW", "20260912120000.250+0530")
    heart, oxygen, conscious = fields(content, "OBX")
    assert heart[1:7] == ["1", "NM", "147842^MDC_ECG_HEART_RATE^MDC", "1.1.1.1", "72", "/min^/min^UCUM"]
    assert (heart[11], heart[14]) == ("R", "20260912120000.250+0530")
    assert (oxygen[5], oxygen[11]) == ("", "X")
    assert (conscious[2], conscious[5]) == ("ST", "V")


def test_word_of_who_lies_where() -> None:
    """A transfer names both places."""
    content = adt(Sender(), "c2", AT, "A02", "ICU^^6", PERSON, previous_place="ICU^^5")
    (msh,), (evn,), (pv1,) = (fields(content, name) for name in ("MSH", "EVN", "PV1"))
    assert msh[8] == "ADT^A02^ADT_A02"
    assert evn[1] == "A02"
    assert (pv1[3], pv1[6]) == ("ICU^^6", "ICU^^5")


@given(st.text(max_size=40))
def test_no_text_breaks_out_of_its_field(text: str) -> None:
    """Separators and line ends are escaped; everything else stays."""
    escaped = escape(text)
    assert not set(escaped) & set("|^~&\r\n")
    content = oru_r01(Sender(), "c", AT, "", [Obx("1", "x", "99EDW", "ST", text)])
    assert [row[5] for row in fields(content, "OBX")] == [escaped] or escaped == ""
    assert content.count(b"\r") == 5


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_that_is_written_has_one_code_and_a_unit(kind: Kind) -> None:
    """In one of the tables or in none, never in both."""
    assert not (kind in CODES and kind in LOINC)
    if kind in CODES or kind in LOINC:
        row = observation(kind, KINDS[kind].low)
        assert row.unit == ("" if KINDS[kind].unit == "1" else KINDS[kind].unit)
    elif kind is not Kind.ACVPU:
        with pytest.raises(ValueError, match="no code"):
            observation(kind, 1.0)


def test_a_time_states_its_zone() -> None:
    """Whoever reads it must not have to guess."""
    assert stamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "20260102030405.000+0000"
    with pytest.raises(ValueError, match="zone"):
        stamp(datetime(2026, 1, 2))  # noqa: DTZ001
