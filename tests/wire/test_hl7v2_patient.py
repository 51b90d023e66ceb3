"""Who and where: identifiers in one form, and never a number that several patients share."""

from __future__ import annotations

import pytest

from edgeward.kernel.clock import NS_PER_S
from edgeward.wire.hl7v2 import Hl7Error, Message, parse
from edgeward.wire.hl7v2_patient import Patient, read_patient, read_place, read_prior

NOW_NS = 1_772_600_000 * NS_PER_S  # 2026-03-04


def _rows(text: str) -> Message:
    return parse(("MSH|^~\\&|A\r" + text).encode())


def _pid(text: str) -> tuple[Patient | None, list[tuple[str, str]]]:
    message = _rows(f"PID|{text}\r")
    return read_patient(message, message.rows[1], NOW_NS)


def _identifiers(text: str) -> set[str]:
    patient, _ = _pid(text)
    return set(patient.identifiers) if patient else set()


def test_identifiers_with_authority_and_type() -> None:
    """PID-3 with all its repetitions, PID-18 and PID-19."""
    text = "1||77^^^HOSP^MR~88^^^HOSP^VN|||||||||||||||ACC1^^^HOSP&1.2.3&ISO|123-45-6789"
    assert _identifiers(text) == {"77^^^HOSP^MR", "88^^^HOSP^VN", "ACC1^^^HOSP&1.2.3&ISO^AN", "123-45-6789^^^^SS"}


def test_one_form_whatever_the_separators() -> None:
    """Two senders with other separators mean the same identifier; escaped ones never split it."""
    message = parse(b"MSH|!~\\&|A\rPID|1||77!!!HOSP&1.2!MR~a\\S\\b!!!H^x\r")
    patient, _ = read_patient(message, message.rows[1], NOW_NS)
    assert patient is not None
    assert patient.identifiers == {"77^^^HOSP&1.2^MR", "a!b^^^H\\S\\x^"}


@pytest.mark.parametrize(
    "number",
    ["", '""', "0", "00000", "999", "9999999", "UNKNOWN", "N/A", "none", " - ", "XXX", "Not Assigned", "test"],
)
def test_what_stands_for_nobody_is_no_identifier(number: str) -> None:
    """Two patients with it would become one."""
    patient, refused = _pid(f"1||{number}^^^HOSP^MR")
    assert patient is None
    assert [code for code, _ in refused] in ([], ["identifier-placeholder"])


def test_numbers_that_only_look_alike_are_identifiers() -> None:
    """A nine, an initial zero, a word inside a longer one."""
    for number in ("9", "99", "0001", "X7", "TEST7"):
        assert _identifiers(f"1||{number}^^^HOSP^MR") == {f"{number}^^^HOSP^MR"}


def test_behind_a_misread_name_nothing_is_trusted() -> None:
    """Bytes of a misread character set may look like separators and shift what follows the name."""
    message = parse(b"MSH|^~\\&|A|||||||1|P|2.6||||||UNICODE UTF-8\rPID|1||77^^^H^MR||\xc8\xe2|||||||||||||ACC1\r")
    patient, _ = read_patient(message, message.rows[1], NOW_NS)
    assert message.doubt == "charset-mismatch"
    assert patient is not None
    assert patient.identifiers == {"77^^^H^MR"}


def test_identifiers_are_bounded() -> None:
    """Too many and too long ones are left out and said."""
    many = "~".join(f"A{n}^^^H^MR" for n in range(40))
    patient, refused = _pid(f"1||{many}~")
    assert patient is not None
    assert len(patient.identifiers) == 32
    assert refused == [("identifiers-too-many", "PID-3")]
    assert _pid(f"1||{'7' * 500}^^^H^MR") == (None, [("identifier-too-long", "PID-3")])


@pytest.mark.parametrize("text", ["1||7\x0b7^^^H^MR", "1||77^^^H\\X0A\\^MR", "1||77|||||||||||||||ACC\x1f|"])
def test_a_damaged_identifier_names_nobody_else(text: str) -> None:
    """Where the end of a segment was damaged, what follows stands in it: the message is refused."""
    with pytest.raises(Hl7Error) as refused:
        _pid(text)
    assert refused.value.code == "identifier-malformed"


@pytest.mark.parametrize(
    ("born", "age_y"),
    [
        ("19540721", 71.62),
        ("1954", 71.7),
        ("195407", 71.6),
        ("20260304", 0.0),
        ("20260301120000", 0.006),
        ("", None),
        ('""', None),
    ],
)
def test_age_is_a_number_where_the_birth_is_known(born: str, age_y: float | None) -> None:
    """To the precision that is stated."""
    patient, refused = _pid(f"1||77||||{born}|F")
    assert patient is not None
    assert patient.age_y == (None if age_y is None else pytest.approx(age_y, abs=0.06))
    assert not refused


@pytest.mark.parametrize(
    ("born", "code"), [("18501231", "birth-implausible"), ("20270101", "birth-implausible"), ("soon", "time-malformed")]
)
def test_an_impossible_birth_is_no_age(born: str, code: str) -> None:
    """The identifiers stay."""
    patient, refused = _pid(f"1||77||||{born}")
    assert patient is not None
    assert patient.age_y is None
    assert refused == [(code, "PID-7")]


@pytest.mark.parametrize(("sex", "expected"), [("F", "f"), ("M", "m"), ("U", None), ("", None), ("M-", None)])
def test_sex(sex: str, expected: str | None) -> None:
    """Only what is said plainly."""
    patient, _ = _pid(f"1||77|||||{sex}")
    assert patient is not None
    assert patient.sex == expected


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ("ICU^^5^HOSPITAL^^^^^00-11-22-33-44-55", "ICU^^5"),
        ("ICU^3^12", "ICU^3^12"),
        ("^^&10", "^^&10"),
        ("^^ICU&Bed5&3232241659&0&0", "^^ICU&Bed5&3232241659&0&0"),
        ("My Unit^^Bed1", "My Unit^^Bed1"),
        ("ICU", "ICU"),
        ("^^", ""),
        ("", ""),
        ('""', ""),
        ("a\\S\\b^^1", "a\\S\\b^^1"),
        ("ICU^^1~ICU^^2", "ICU^^1"),
    ],
)
def test_places(raw: str, place: str) -> None:
    """Point of care, room and bed, as the source calls them."""
    message = _rows(f"PV1|1|I|{raw}\r")
    assert read_place(message, message.rows[1], 3) == place


@pytest.mark.parametrize("raw", ["ICU^^5\x07", "ICU^^" + "5" * 600, "ICU^^5\\X0A\\"])
def test_a_damaged_place_is_neither_another_bed_nor_none(raw: str) -> None:
    """The message is refused."""
    message = _rows(f"PV1|1|I|{raw}\r")
    with pytest.raises(Hl7Error) as refused:
        read_place(message, message.rows[1], 3)
    assert (refused.value.code, refused.value.where) == ("place-malformed", "PV1-3")


def test_the_identity_given_up() -> None:
    """MRG-1, MRG-3 and MRG-4."""
    message = _rows("MRG|T9^^^H^MR||A9^^^H|E9^^^H^PI\r")
    prior = read_prior(message, message.rows[1])
    assert prior is not None
    assert prior.identifiers == {"T9^^^H^MR", "A9^^^H^AN", "E9^^^H^PI"}
    message = _rows("MRG|\r")
    assert read_prior(message, message.rows[1]) is None


def test_no_log_can_hold_who() -> None:
    """A patient shows only that there is one."""
    patient, _ = _pid("1||MRN4711^^^HOSP^MR||Muster^Erika||19540721|F")
    assert "4711" not in f"{patient!r} {patient}"
