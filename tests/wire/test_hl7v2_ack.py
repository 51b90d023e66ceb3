"""What is answered, to whom and how: the original and the enhanced rules of HL7 2.9."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import hl7 as hl7_package
import pytest
from hl7_seeds import seed

from edgeward.wire.hl7v2 import Message, parse
from edgeward.wire.hl7v2_ack import BUSY, CONDITIONS, Judgement, encode_ack, replies, salvage
from edgeward.wire.hl7v2_header import Header, read_header

NOW = datetime(2026, 3, 4, 10, 15, 30, 250_000, tzinfo=UTC)
TAKEN, CONTENT, REJECT, LATER = Judgement(), Judgement("patient-missing"), Judgement("version-unknown"), Judgement(BUSY)


Heard = tuple[Message, Header]


def _heard(content: bytes) -> Heard:
    message = parse(content)
    return message, read_header(message)


def _header(accept: str = "", application: str = "", version: str = "2.6") -> Heard:
    return _heard(f"MSH|^~\\&|APP|FAC|US|HERE|20260304||ORU^R01|id-7|P|{version}|||{accept}|{application}\r".encode())


def _ack(heard: Heard | None, judgement: Judgement, code: str) -> list[list[str]]:
    content = encode_ack(heard, judgement, code, now=NOW, control="C1")
    return parse(content).rows


@pytest.mark.parametrize(
    ("accept", "application", "taken", "content", "reject", "later"),
    [
        ("", "", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("AL", "NE", ["CA"], ["CR"], ["CR"], ["CE"]),
        ("NE", "AL", ["AA"], ["AE"], ["AR"], ["AR"]),
        ("AL", "AL", ["CA", "AA"], ["CR", "AE"], ["CR", "AR"], ["CE", "AR"]),
        ("ER", "NE", [], ["CR"], ["CR"], ["CE"]),
        ("SU", "NE", ["CA"], [], [], []),
        ("NE", "ER", [], ["AE"], ["AR"], ["AR"]),
        ("NE", "SU", ["AA"], [], [], []),
        ("AL", "ER", ["CA"], ["CR", "AE"], ["CR", "AR"], ["CE", "AR"]),
        ("NE", "NE", [], [], [], []),
        ("AL", "", ["CA"], ["CR"], ["CR"], ["CE"]),
        ("XX", "", ["AA"], ["AE"], ["AR"], ["AR"]),
    ],
)
def test_modes_and_conditions(
    accept: str, application: str, taken: list[str], content: list[str], reject: list[str], later: list[str]
) -> None:
    """MSH-15 and MSH-16: always, never, on error, on success; neither valued is the original mode."""
    _, header = _header(accept, application)
    assert [replies(header, judgement) for judgement in (TAKEN, CONTENT, REJECT, LATER)] == [
        taken,
        content,
        reject,
        later,
    ]


def test_an_acknowledgement_names_its_message_and_turns_the_address_round() -> None:
    """Receiver and sender change places; the control id comes back."""
    msh, msa = _ack(_header(), TAKEN, "AA")
    assert msh[3:7] == ["US", "HERE", "APP", "FAC"]
    assert msh[7:] == ["20260304101530.250+0000", "", "ACK^R01^ACK", "C1", "P", "2.6"]
    assert msa == ["MSA", "AA", "id-7"]


def test_an_error_says_where_and_what_in_the_words_of_the_table() -> None:
    """ERR of 2.5 on: place, code of table 0357, severity, our own code; nothing of the message."""
    _, msa, err = _ack(_header(), Judgement("patient-missing", "PID-3"), "AE")
    assert msa[1] == "AE"
    assert err[2:6] == ["PID^1^3", "101^Required field missing^HL70357", "E", "patient-missing"]
    _, _, err = _ack(_header(version="2.3"), Judgement("patient-missing", "PID-3"), "AE")
    assert err == ["ERR", "PID^1^3^101"]
    _, _, err = _ack(_header(), Judgement("segment-malformed"), "AE")
    assert err[2:4] == ["", "100^Segment sequence error^HL70357"]


def test_an_application_acknowledgement_of_the_enhanced_mode_wants_none_in_return() -> None:
    """MSH-15 and MSH-16 of the answer are NE; an accept acknowledgement has neither."""
    assert _ack(_header("AL", "AL"), TAKEN, "AA")[0][15:17] == ["NE", "NE"]
    assert len(_ack(_header("AL", "AL"), TAKEN, "CA")[0]) == 13


def test_the_sender_is_answered_in_its_own_separators_and_character_set() -> None:
    """Echoed fields stay right, whatever they hold."""
    heard = _heard("MSH*!@\\%*АПП*Ф!1***20260304**ORU!R01*7*P*2.6******CP1251\r".encode("cp1251"))
    content = encode_ack(heard, TAKEN, "AA", now=NOW, control="C1")
    assert content.startswith(b"MSH*!@\\%*EDGEWARD**")
    assert "*АПП*Ф!1*".encode("cp1251") in content
    rows = parse(content)
    assert rows.text(rows.rows[0], 9, 2) == "R01"
    assert rows.rows[1] == ["MSA", "AA", "7"]


def test_even_the_poorest_header_is_answered() -> None:
    """No component separator, no control id, no header at all."""
    assert _ack(_heard(b"MSH|^\r"), CONTENT, "AE")[1][:2] == ["MSA", "AE"]
    assert encode_ack(None, CONTENT, "AR", now=NOW, control="C1").startswith(b"MSH|^~\\&|EDGEWARD")


def test_what_is_echoed_is_bounded() -> None:
    """A peer cannot make us send what it likes at any length."""
    heard = _heard(f"MSH|^~\\&|{'A' * 9999}|B|||||ORU^R01|{'7' * 9999}|P|2.6\r".encode())
    assert len(encode_ack(heard, TAKEN, "AA", now=NOW, control="C1")) < 500


def test_a_broken_message_is_answered_by_what_is_left_of_its_header() -> None:
    """Cut anywhere behind MSH-10, its control id is known."""
    heard = salvage(seed("pcd01_gateway_ucum")[:150])
    assert heard is not None
    assert _ack(heard, Judgement("mllp-no-end"), "CR")[1] == ["MSA", "CR", "a1f0c3d2e4b5"]
    assert salvage(b"GET / HTTP/1.1") is None
    assert salvage(b"MSHxMSH") is None


@pytest.mark.parametrize("code", sorted(CONDITIONS))
def test_every_refusal_can_be_told_and_another_parser_reads_it(code: str) -> None:
    """In every version, and with a zone of its own."""
    now = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    for version in ("2.2", "2.3.1", "2.5", "2.8.2", ""):
        heard = _header(version=version)
        answer = Judgement(code, "MSH-9")
        for msa in replies(heard[1], answer):
            parsed = hl7_package.parse(encode_ack(heard, answer, msa, now=now, control="C1").decode())
            assert (str(parsed.segment("MSA")[1]), str(parsed.segment("MSA")[2])) == (msa, "id-7")
            assert str(parsed.segment("MSH")[7]) == "20260304154530.250+0530"


def test_no_answer_holds_a_patient() -> None:
    """Only the header is echoed."""
    heard = _heard(seed("adt_a01"))
    for code in CONDITIONS:
        content = encode_ack(heard, Judgement(code, "PID-3"), "AE", now=NOW, control="C1")
        for private in (b"4711", b"Muster", b"1954", b"0815", b"ICU^3"):
            assert private not in content
