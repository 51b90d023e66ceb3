"""Whole messages: whose a number is, what changes who lies where, and what is refused as a whole."""

from __future__ import annotations

import pytest
from hl7_seeds import seed

from edgeward.bedside.source.reading import Change
from edgeward.kernel.clock import NS_PER_S
from edgeward.signal.numeric import Kind
from edgeward.wire.codes import CodeTable
from edgeward.wire.hl7v2 import Hl7Error, parse
from edgeward.wire.hl7v2_ack import CONDITIONS
from edgeward.wire.hl7v2_decode import CHANGES, Decoded, decode
from edgeward.wire.hl7v2_header import read_header
from edgeward.wire.hl7v2_observation import Reader, Unused

NOW_NS = 1_772_600_000 * NS_PER_S
READER = Reader(CodeTable())
HR = "OBX|1|NM|147842^MDC_ECG_HEART_RATE^MDC||72|bpm|||||F\r"


def _decode(content: bytes | str) -> Decoded:
    message = parse(content if isinstance(content, bytes) else content.encode())
    return decode(message, read_header(message), READER, NOW_NS)


def _oru(rest: str, msh9: str = "ORU^R01", msh11: str = "P", msh12: str = "2.6") -> str:
    return f"MSH|^~\\&|A|B|||20260304101500||{msh9}|1|{msh11}|{msh12}\r{rest}"


def _adt(trigger: str, rest: str) -> str:
    return f"MSH|^~\\&|A|B|||20260304101500||ADT^{trigger}|1|P|2.5\rEVN|{trigger}\r{rest}"


def _code(content: bytes | str) -> tuple[str, str]:
    with pytest.raises(Hl7Error) as refused:
        _decode(content)
    assert refused.value.code in CONDITIONS
    return refused.value.code, refused.value.where


def test_numbers_belong_to_the_patient_before_them() -> None:
    """Each of several patients has place and numbers of their own."""
    one, two = _decode(seed("several_patients")).groups
    assert one.patient is not None
    assert two.patient is not None
    assert (one.patient.identifiers, one.place) == ({"MRN1001^^^HOSP^MR"}, "ICU^^1")
    assert (two.patient.identifiers, two.place) == ({"MRN1002^^^HOSP^MR"}, "ICU^^2")
    assert [o.value for o in one.observations] == [61.0]
    assert [o.value for o in two.observations] == [122.0, 88.0]


def test_a_second_patient_without_a_place_has_none() -> None:
    """The first patient's place is not the second's, nor is the first's time."""
    text = _oru("PID|1||1001\rPV1|1|I|ICU^^1\rOBR|1||||||20260304101400\r" + HR + "PID|2||1002\r" + HR)
    one, two = _decode(text).groups
    assert (one.place, two.place) == ("ICU^^1", "")
    assert (one.observations[0].field, two.observations[0].field) == ("OBR-7", "")


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("PID|1||1001\rPID|2||1002\rOBR|1\r" + HR, "segment-order"),
        ("PID|1||1001\rPV1|1|I|A\rPV1|1|I|B\rOBR|1\r" + HR, "segment-order"),
        ("PID|1||1001\rOBR|1\r" + HR + "PV1|1|I|B\rOBR|1\r" + HR, "segment-order"),
        ("PV1|1|I|A\rOBR|1\r" + HR + "PID|1||1001\rOBR|1\r" + HR, "segment-order"),
        ("PV1|1|I|A\rPID|1||1001\rOBR|1\r" + HR, "segment-order"),
        ("PID|1||1001\rOBR|1\r" + HR + "PIX|2||1002\rOBR|1\r" + HR + "PID|3||1003\rOBR|1\r" + HR, "segment-unknown"),
        ("PID|1||1001\rOBR|1\r" + HR + "PID|2||1002\rMSX|^~\\&|A\rOBR|1\r" + HR, "segment-unknown"),
        ("PID|1||1001\rOBR|1\r" + HR + "PIX|2||1002\rOBR|1\r" + HR, "segment-unknown"),
        ("".join(f"PID|1||{1000 + n}\rOBR|1\r" for n in range(66)), "patients-too-many"),
    ],
)
def test_a_message_whose_patients_are_in_doubt_is_refused_whole(rest: str, code: str) -> None:
    """No number may go to another's chart."""
    assert _code(_oru(rest))[0] == code


def test_a_damaged_patient_segment_of_one_patient_leaves_nobody() -> None:
    """An unknown segment is ignored, as HL7 asks; the place then says whose bed it is."""
    (group,) = _decode(_oru("PIX|1||1001\rPV1|1|I|ICU^^1\rOBR|1\r" + HR)).groups
    assert group.patient is None
    assert group.place == "ICU^^1"


@pytest.mark.parametrize(
    ("msh", "code", "where"),
    [
        ({"msh9": ""}, "message-type-missing", "MSH-9"),
        ({"msh9": "ORM^O01"}, "message-type-unsupported", "MSH-9"),
        ({"msh9": "oru^r01"}, "message-type-unsupported", "MSH-9"),
        ({"msh9": "ORU^R40^ORU_R40"}, "alerts-unsupported", "MSH-9"),
        ({"msh9": "ORU^W01^ORU_W01"}, "waves-unsupported", "MSH-9"),
        ({"msh9": "ORU^R30"}, "event-unsupported", "MSH-9"),
        ({"msh11": "X"}, "processing-unknown", "MSH-11"),
        ({"msh12": "3.0"}, "version-unknown", "MSH-12"),
        ({"msh12": "2.6.x"}, "version-unknown", "MSH-12"),
    ],
)
def test_what_is_not_for_us_is_refused_by_its_header(msh: dict[str, str], code: str, where: str) -> None:
    """MSH-9, MSH-11 and MSH-12 are judged before the content."""
    assert _code(_oru(HR, **msh)) == (code, where)


@pytest.mark.parametrize(
    "msh",
    [{"msh9": "ORU"}, {"msh9": "ORU^^ORU_R01"}, {"msh11": ""}, {"msh12": ""}, {"msh12": "2.3.1"}, {"msh12": "2.8.2"}],
)
def test_what_plain_monitors_leave_out_is_tolerated(msh: dict[str, str]) -> None:
    """An event, a processing id, a version."""
    assert len(_decode(_oru(HR, **msh)).groups[0].observations) == 1


@pytest.mark.parametrize(("msh11", "simulated"), [("P", False), ("T", True), ("D", True), ("T^A", True), ("", False)])
def test_training_and_debugging_are_simulated(msh11: str, simulated: bool) -> None:
    """MSH-11 says that no patient made this."""
    assert _decode(_oru(HR, msh11=msh11)).header.simulated is simulated


@pytest.mark.parametrize(
    ("name", "change", "place", "previous"),
    [
        ("adt_a01", "admit", "ICU^3^12", ""),
        ("adt_a02", "transfer", "ICU^3^12", "ED^2^1"),
        ("adt_a03", "discharge", "ICU^3^12", ""),
        ("adt_a04", "admit", "ICU^3^12", ""),
        ("adt_a08", "update", "ICU^3^12", ""),
        ("adt_a11", "cancel_admit", "ICU^3^12", ""),
        ("adt_a12", "cancel_transfer", "ED^2^1", "ICU^3^12"),
        ("adt_a13", "cancel_discharge", "ICU^3^12", ""),
        ("adt_a40", "merge", "", ""),
    ],
)
def test_who_lies_where_changes(name: str, change: str, place: str, previous: str) -> None:
    """Each ADT event by its own name, with where the patient is now and was before."""
    decoded = _decode(seed(name))
    (group,) = decoded.groups
    assert (decoded.change, group.place, group.previous_place) == (change, place, previous)
    assert group.patient is not None
    assert "MRN4711^^^HOSP^MR" in group.patient.identifiers
    prior = {"TEMP0099^^^HOSP^MR"} if change == "merge" else None
    assert (group.prior and group.prior.identifiers) == prior


def test_changes_are_those_of_the_second_source_port() -> None:
    """The wire's names of changes are the bedside's."""
    assert set(CHANGES.values()) == {change.value for change in Change}


@pytest.mark.parametrize("trigger", ["A05", "A28", "A31", "A17", "A99"])
def test_an_event_that_changes_nothing_here_is_left_aside(trigger: str) -> None:
    """It is not an error: the sender sends its whole feed."""
    decoded = _decode(_adt(trigger, "PID|1||77\r"))
    assert decoded.unused
    assert decoded.groups == []


@pytest.mark.parametrize(
    ("trigger", "rest", "code", "where"),
    [
        ("A01", "PID|1||77\r", "place-missing", "PV1-3"),
        ("A01", "PV1|1|I|ICU^^1\r", "patient-missing", "PID-3"),
        ("A01", "PID|1||0\rPV1|1|I|ICU^^1\r", "patient-missing", "PID-3"),
        ("A02", "PID|1||77\rPV1|1|I|^^\r", "place-missing", "PV1-3"),
        ("A03", "", "patient-missing", "PID-3"),
        ("A40", "PID|1||77\r", "prior-missing", "MRG-1"),
        ("A40", "PID|1||77\rMRG|0\r", "prior-missing", "MRG-1"),
        ("A01", "PID|1||77\rPV1|1|I|A\rPID|1||78\rPV1|1|I|B\r", "segment-order", "PID"),
    ],
)
def test_a_change_without_who_or_where_is_refused(trigger: str, rest: str, code: str, where: str) -> None:
    """A change is all or nothing."""
    assert _code(_adt(trigger, rest)) == (code, where)


def test_a_merge_may_hold_several_pairs() -> None:
    """Each pair is one change."""
    decoded = _decode(_adt("A40", "PID|1||77\rMRG|78\rPID|1||87\rMRG|88\r"))
    assert [
        (g.patient and sorted(g.patient.identifiers), g.prior and sorted(g.prior.identifiers)) for g in decoded.groups
    ] == [
        (["77^^^^"], ["78^^^^"]),
        (["87^^^^"], ["88^^^^"]),
    ]


def test_an_older_event_stands_in_evn() -> None:
    """MSH-9 without an event, as HL7 2.1 and 2.2 allow."""
    text = "MSH|^~\\&|A|B|||20260304101500||ADT|1|P|2.2\rEVN|A03\rPID|1||77\r"
    assert _decode(text).change == "discharge"


def test_an_admission_may_carry_numbers() -> None:
    """A weight at admission is taken with it."""
    text = _adt("A01", "PID|1||77\rPV1|1|I|ICU^^1\rOBX|1|NM|29463-7^Body weight^LN||81|kg|||||F\r")
    (group,) = _decode(text).groups
    assert [(o.kind, o.value) for o in group.observations] == [(Kind.WEIGHT, 81.0)]


def test_of_one_kind_at_one_instant_the_best_source_counts() -> None:
    """Thoracic respiration before the pleth's; the first of two temperatures; another instant stays."""
    rows = [
        ("151658^MDC_PULS_OXIM_PLETH_RESP_RATE^MDC", "19", "rpm", "20260304101500"),
        ("151578^MDC_TTHOR_RESP_RATE^MDC", "17", "rpm", "20260304101500"),
        ("151658^MDC_PULS_OXIM_PLETH_RESP_RATE^MDC", "21", "rpm", "20260304101600"),
        ("150344^MDC_TEMP^MDC", "36.8", "Cel", "20260304101500"),
        ("150344^MDC_TEMP^MDC", "34.0", "Cel", "20260304101500"),
    ]
    text = "".join(f"OBX|1|NM|{code}||{value}|{unit}|||||F|||{time}\r" for code, value, unit, time in rows)
    (group,) = _decode(_oru(text)).groups
    assert [o.value for o in group.observations] == [17.0, 21.0, 36.8]
    assert [o for o in group.outcomes if isinstance(o, Unused)] == [Unused(1, "superseded"), Unused(5, "superseded")]


def test_a_measurement_goes_before_a_probe_that_is_off() -> None:
    """One of two probes is off; the other measures."""
    text = (
        "OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC||||||||X\r"
        "OBX|2|NM|150472^MDC_PULS_OXIM_SAT_O2_ART_LEFT^MDC||93|%|||||F\r"
    )
    (group,) = _decode(_oru(text)).groups
    assert [o.value for o in group.observations] == [93.0]


def test_two_headers_in_one_message_are_refused() -> None:
    """A block that was not split where it should have been is in doubt."""
    assert _code(_oru("PID|1||77\rOBR|1\r" + HR + "\tMSH|^~\\&|A\r" + HR))[0] == "segment-order"
