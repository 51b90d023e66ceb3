"""What a receiver answers is read as its standard, and its version, means it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.wire.hl7v2 import parse
from edgeward.wire.hl7v2_ack import BUSY, CONDITIONS, Judgement, encode_ack
from edgeward.wire.hl7v2_answer import FAULTS, TAKEN, Answer, read_answer
from edgeward.wire.hl7v2_header import read_header

HEAD = "MSH|^~\\&|ENGINE|HOSP|EDGEWARD|ICU|20260101||ACK|9|P|2.6\r"


@pytest.mark.parametrize(
    ("segments", "answer"),
    [
        ("MSA|AA|c1\r", Answer("AA", "c1")),
        ("MSA|CA|c1", Answer("CA", "c1")),
        ("MSA|AE|c1\rERR||PID^1^3|101^Required field missing^HL70357|E\r", Answer("AE", "c1", "101")),
        ("MSA|AE|c1|text\rERR|PID^1^3^103&Table value not found&HL70357\r", Answer("AE", "c1", "103")),
        ("MSA|AE|c1||||204^Unknown key^HL70357\r", Answer("AE", "c1", "204")),
        ("MSA|AR|c1\rERR|||207^Application error^HL70357\r", Answer("AR", "c1", "207")),
        ("MSA|AR\r", Answer("AR", "")),
        ("MSA|AE|c1\rERR|||NONSENSE|E\r", Answer("AE", "c1")),
        ("MSA|AA|c1\rERR|||0^Message accepted^HL70357|I\r", Answer("AA", "c1")),
        ("MSA|XX|c1\r", None),
        ("PID|||1\r", None),
    ],
)
def test_an_answer_is_read(segments: str, answer: Answer | None) -> None:
    """Its code, whom it answers, and the condition, wherever the receiver's version of HL7 has it."""
    assert read_answer((HEAD + segments).encode()) == answer


@pytest.mark.parametrize("code", sorted({*CONDITIONS, ""}))
def test_our_own_answers_are_read_as_we_mean_them(code: str) -> None:
    """Both sides of the table of acknowledgements agree."""
    message = parse(b"MSH|^~\\&|A|B|C|D|20260101||ORU^R01|c1|P|2.6\r")
    heard = (message, read_header(message))
    for name in ("AA", "CA") if not code else ("AE", "AR", "CE", "CR"):
        content = encode_ack(heard, Judgement(code), name, now=datetime(2026, 1, 1, tzinfo=UTC), control="1")
        condition = CONDITIONS[code].number if code else ""
        assert read_answer(content) == Answer(name, "c1", condition)
    assert CONDITIONS[BUSY].number == "207"


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: HEAD.encode() + b"MSA|AA|" + tail))
def test_nothing_that_comes_back_breaks_the_reader(content: bytes) -> None:
    """Whatever it is, it is an answer of the standard or none."""
    answer = read_answer(content)
    assert answer is None or answer.code in TAKEN | FAULTS
