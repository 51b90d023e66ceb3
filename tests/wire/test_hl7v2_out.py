"""What leaves for a hospital's record as HL7 says what was meant, for the right patient, and may be sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import hl7
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.wire import mllp
from edgeward.wire.codes import CodeTable
from edgeward.wire.entries import Driver, News2, Notice, Score, Whose
from edgeward.wire.hl7v2 import parse
from edgeward.wire.hl7v2_decode import decode
from edgeward.wire.hl7v2_encode import Sender
from edgeward.wire.hl7v2_header import read_header
from edgeward.wire.hl7v2_observation import Reader
from edgeward.wire.hl7v2_out import Letterhead, control, control_of, message

if TYPE_CHECKING:
    from edgeward.wire.entries import Entry

AT_NS = 1_767_225_600_123_000_000
NOW_NS = AT_NS + 2_000_000_000
HEAD = Letterhead("bay-3", Sender("EDGEWARD", "ICU", receiver="ENGINE", receiver_facility="HOSP"))
WHOSE = Whose(frozenset({"P1^^^HOSP^MR", "V9^^^HOSP^VN"}), "ICU^^5")
DRIVERS = (
    Driver("lactate_last", "Lactate", 4.2, "mmol/L", 0.81),
    Driver("hr_slope", "Heart rate, slope", None, "", -0.3),
)


def _score(**changes: Any) -> Score:
    fields: dict[str, Any] = {
        "key": "7.sepsis-risk.1", "task": "sepsis-risk", "version": "1.0.0", "rung": "LOCAL", "at_ns": AT_NS,
        "outcome": "accepted", "why": "", "probability": 0.4567, "level": "watch", "drivers": DRIVERS,
        "missing_share": 0.25, "stale_share": 0.1, "simulated": False, **changes,
    }  # fmt: skip
    return Score(**fields)


def _rows(entry: Entry, whose: Whose = WHOSE, head: Letterhead = HEAD) -> dict[str, list[list[str]]]:
    """Segments by name, read by a parser that is not ours."""
    parsed = hl7.parse(message(entry, whose, head, "bay-3.name", NOW_NS).decode())
    rows: dict[str, list[list[str]]] = {}
    for segment in parsed:
        fields = [str(field) for field in segment]
        rows.setdefault(fields[0], []).append([*fields, *[""] * 30])
    return rows


def _told(rows: dict[str, list[list[str]]]) -> dict[str, tuple[str, str, str]]:
    """Value, unit and status by code; those of drivers by code and number."""
    return {
        "/".join(filter(None, (row[3].split("^")[0], row[4]))): (row[5], row[6].split("^")[0], row[11])
        for row in rows["OBX"]
    }


def test_an_accepted_score_says_all_that_belongs_to_it() -> None:
    """Probability in percent, level, rung, version, shares, drivers; for whom, where, and when."""
    rows = _rows(_score())
    (msh,), (pid,), (pv1,), (obr,) = (rows[name] for name in ("MSH", "PID", "PV1", "OBR"))
    assert msh[3:7] == ["EDGEWARD", "ICU", "ENGINE", "HOSP"]
    assert (msh[7], msh[9], msh[10]) == ("20260101000002.123+0000", "ORU^R01^ORU_R01", control("bay-3.name"))
    assert (msh[11], msh[12], msh[15], msh[16], msh[18], msh[21]) == ("P", "2.6", "NE", "AL", "UNICODE UTF-8", "")
    assert (pid[3], pv1[3]) == ("P1^^^HOSP^MR~V9^^^HOSP^VN", "ICU^^5")
    assert (obr[3], obr[4], obr[7], obr[25]) == (
        "bay-3.score.7.sepsis-risk.1^EDGEWARD", "sepsis-risk^Risk of sepsis^99EDW", "20260101000000.123+0000", "F",
    )  # fmt: skip
    assert _told(rows) == {
        "sepsis-risk.probability": ("45.67", "%", "F"),
        "sepsis-risk.level": ("watch^watch^99EDW", "", "F"),
        "sepsis-risk.outcome": ("accepted^accepted^99EDW", "", "F"),
        "sepsis-risk.rung": ("LOCAL^LOCAL^99EDW", "", "F"),
        "sepsis-risk.version": ("1.0.0", "", "F"),
        "sepsis-risk.missing": ("25.00", "%", "F"),
        "sepsis-risk.stale": ("10.00", "%", "F"),
        "sepsis-risk.driver/1": ("lactate_last^Lactate^99EDW", "", "F"),
        "sepsis-risk.driver-value/1": ("4.2", "mmol/L", "F"),
        "sepsis-risk.driver-effect/1": ("0.8100", "", "F"),
        "sepsis-risk.driver/2": ("hr_slope^Heart rate, slope^99EDW", "", "F"),
        "sepsis-risk.driver-value/2": ("", "", "X"),
        "sepsis-risk.driver-effect/2": ("-0.3000", "", "F"),
    }
    assert {row[14] for row in rows["OBX"]} == {"20260101000000.123+0000"}


@pytest.mark.parametrize("outcome", ["withheld", "fallback"])
def test_a_score_that_was_not_given_cannot_be_obtained(outcome: str) -> None:
    """Status X at probability and level, and why; whatever number came with it does not leave."""
    rows = _rows(_score(outcome=outcome, why="too_little", probability=0.9, drivers=()))
    told = _told(rows)
    assert told["sepsis-risk.probability"] == ("", "%", "X")
    assert told["sepsis-risk.level"] == ("", "", "X")
    assert told["sepsis-risk.why"] == ("too_little^too_little^99EDW", "", "F")
    assert rows["OBR"][0][25] == "X"


def test_news2_is_coded_in_snomed_and_an_item_that_is_missing_says_so() -> None:
    """Final when complete, preliminary while an item is missing, not to be obtained while nothing is known."""
    one = News2("7.1", AT_NS, 5, False, ("consciousness",), {"respiration": 3, "pulse": 2}, "medium", 2)
    rows = _rows(one)
    assert rows["OBX"][0][3] == "1104051000000101^Royal College of Physicians NEWS2 total score^SCT"
    assert _told(rows) == {
        "1104051000000101": ("5", "", "P"),
        "news2.risk": ("medium^medium^99EDW", "", "P"),
        "news2.scale": ("2", "", "F"),
        "news2.respiration": ("3", "", "F"),
        "news2.pulse": ("2", "", "F"),
        "news2.consciousness": ("", "", "X"),
    }
    assert _rows(replace(one, complete=True, missing=()))["OBX"][0][11] == "F"
    nothing = _told(_rows(News2("7.2", AT_NS, None, False, (), {}, "", 1)))
    assert nothing["1104051000000101"] == ("", "", "X")


def test_an_advisory_is_corrected_when_it_is_taken_back() -> None:
    """Under the same filler order number, with its times and its state."""
    one = Notice("7.x", "sepsis-act", "High risk of sepsis", "high", AT_NS)
    raised, ended = _rows(one), _rows(replace(one, ended_ns=AT_NS + 10**9))
    assert raised["OBR"][0][3] == ended["OBR"][0][3] == "bay-3.advisory.7.x^EDGEWARD"
    assert (raised["OBR"][0][8], raised["OBR"][0][25]) == ("", "F")
    assert (ended["OBR"][0][8], ended["OBR"][0][25]) == ("20260101000001.123+0000", "C")
    assert _told(raised) == {
        "advisory": ("sepsis-act^High risk of sepsis^99EDW", "", "F"),
        "advisory.state": ("active^active^99EDW", "", "F"),
        "advisory.priority": ("high^high^99EDW", "", "F"),
        "advisory.begin": ("20260101000000.123+0000", "", "F"),
    }
    assert _told(ended)["advisory.state"] == ("ended^ended^99EDW", "", "C")
    assert _told(ended)["advisory.end"] == ("20260101000001.123+0000", "", "C")


def test_what_no_patient_made_is_for_training() -> None:
    """MSH-11 "T", whatever the entry."""
    for entry in (
        _score(simulated=True),
        News2("7.1", AT_NS, 1, True, (), {}, "low", 1, simulated=True),
        Notice("7.a", "c", "t", "low", AT_NS, simulated=True),
    ):
        assert _rows(entry)["MSH"][0][11] == "T"


def test_the_same_item_is_the_same_message_under_a_short_control_id() -> None:
    """A receiver that has it knows it again; receivers of HL7 before 2.7 take 20 characters."""
    once, again = (message(_score(), WHOSE, HEAD, "bay-3.one", NOW_NS) for _ in range(2))
    assert once == again
    assert control_of(once) == control("bay-3.one")
    assert len(control("bay-3.one")) == 20
    assert control("bay-3.one").isalnum()
    assert control("bay-3.one") != control("bay-3.two")


def test_times_are_the_sites_with_their_offset() -> None:
    """In winter and in summer."""
    head = replace(HEAD, zone=ZoneInfo("Europe/Berlin"))
    assert _rows(_score(), head=head)["OBR"][0][7] == "20260101010000.123+0100"
    assert _rows(_score(at_ns=AT_NS + 200 * 86_400 * 10**9), head=head)["OBR"][0][7] == "20260720020000.123+0200"


@pytest.mark.parametrize(
    ("identifiers", "field"),
    [
        ({"1^^^HOSP^AN", "2^^^HOSP^MR", "3^^^US^SS"}, "2^^^HOSP^MR~1^^^HOSP^AN"),
        ({"3^^^US^SS"}, "3^^^US^SS"),
        ({"a\\S\\b^^^A&1.2&ISO^MR"}, "a\\S\\b^^^A&1.2&ISO^MR"),
        ({"7^^^http://h/p|x~y^MR", "A^^^dev^ASSOC"}, "7^^^http://h/p\\F\\x\\R\\y^MR"),
    ],
)
def test_identifiers_are_as_the_source_wrote_them(identifiers: set[str], field: str) -> None:
    """The best first; nothing breaks out of PID-3; a social security number only where there is no other."""
    assert _rows(_score(), Whose(frozenset(identifiers), "A"))["PID"][0][3] == field


def test_nobody_without_a_number_is_entered() -> None:
    """A monitor's association and an address at a server are no numbers of a hospital."""
    for identifiers in ((), ("A^^^dev^ASSOC", "Patient/7^^^ehr^FHIR")):
        with pytest.raises(ValueError, match="number"):
            message(_score(), Whose(frozenset(identifiers)), HEAD, "n", NOW_NS)


_WORD = st.text(max_size=12)
_SHARE = st.none() | st.floats(0, 1)
_NUMBER = st.integers(1, 10**9).map("P{}^^^HOSP^MR".format)
_PLACE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)


@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        Score, key=_WORD, task=_WORD, version=_WORD, rung=_WORD, at_ns=st.integers(0, 4 * 10**18),
        outcome=st.sampled_from(["accepted", "withheld"]), why=_WORD, probability=_SHARE, level=_WORD,
        missing_share=_SHARE, stale_share=_SHARE, simulated=st.booleans(),
        drivers=st.lists(
            st.builds(Driver, _WORD, _WORD, st.none() | st.floats(-1e6, 1e6), _WORD, st.floats(-9, 9)), max_size=3
        ).map(tuple),
    )
    | st.builds(Notice, key=_WORD, code=_WORD, text=_WORD, priority=_WORD, begun_ns=st.integers(0, 4 * 10**18)),
    st.frozensets(_NUMBER, min_size=1, max_size=3),
    _PLACE,
)  # fmt: skip
def test_any_entry_is_a_message_that_our_own_listener_reads(
    entry: Entry, identifiers: frozenset[str], place: str
) -> None:
    """Whatever words it holds: one MLLP block, every segment whole, the patient and nobody else."""
    content = message(entry, Whose(identifiers, place), HEAD, "n", NOW_NS)
    assert mllp.encode(content).count(b"\x1c") == 1
    parsed = parse(content)
    assert {row[0] for row in parsed.rows} == {"MSH", "PID", "PV1", "OBR", "OBX"}
    decoded = decode(parsed, read_header(parsed), Reader(CodeTable()), NOW_NS)
    (group,) = decoded.groups
    assert group.patient is not None
    assert group.patient.identifiers == identifiers
