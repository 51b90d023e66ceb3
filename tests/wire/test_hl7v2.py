"""HL7 v2 rows: what a sender may do with separators, escapes, line ends and nulls, and what is refused."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import hl7 as hl7_package
import pytest
from hl7_seeds import names, seed
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.limits import HL7_FIELDS_MAX, HL7_JOINED_MAX, HL7_MESSAGE_BYTES_MAX, HL7_SEGMENTS_MAX
from edgeward.wire.hl7v2 import NULL, STANDARD, Hl7Error, Message, Separators, parse, split

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "MSH|^~\\&|A|B|C|D|20260304||ORU^R01|1|P|2.6\r"


def _message(rest: str, head: str = HEAD) -> Message:
    return parse((head + rest).encode())


def _code(content: bytes) -> str:
    with pytest.raises(Hl7Error) as refused:
        parse(content)
    return refused.value.code


def test_fields_are_numbered_as_the_standard_numbers_them() -> None:
    """Of MSH, field 1 is the separator itself."""
    message = _message("PID|1||77^^^H^MR~88^^^H^VN||Doe^Jane&J\r")
    msh, pid = message.rows
    assert (message.raw(msh, 1), message.raw(msh, 2), message.text(msh, 9, 2)) == ("|", "^~\\&", "R01")
    assert message.repetitions(message.raw(pid, 3)) == ["77^^^H^MR", "88^^^H^VN"]
    assert (message.text(pid, 3), message.text(pid, 3, 5), message.text(pid, 5, 2, 2)) == ("77", "MR", "J")
    assert (message.text(pid, 5, 9), message.text(pid, 99), message.text(pid, 3, 1, 2)) == ("", "", "")


def test_null_is_not_absent() -> None:
    """Two quotes say "there is none"; nothing at all says nothing."""
    message = _message('PID|1||""||\r')
    assert message.raw(message.rows[1], 3) == NULL
    assert message.raw(message.rows[1], 4) == ""


def test_a_message_brings_its_own_separators() -> None:
    """MSH-1 and MSH-2 are obeyed, however unusual, and may leave out the last ones."""
    message = parse(b"MSH*!@\\%*A*B\rPID***77!x@88*\r")
    assert message.separators == Separators("*", "!", "@", "\\", "%")
    assert message.text(message.rows[1], 3, 2) == "x"
    bare = parse(b"MSH|^\rPID|||7~8^9\r")
    assert bare.separators == Separators("|", "^", "", "", "")
    assert bare.repetitions("7~8") == ["7~8"]
    assert bare.unescape("\\F\\") == "\\F\\"


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        ("\\F\\\\S\\\\T\\\\R\\\\E\\", "|^&~\\"),
        ("a\\X41\\b", "aAb"),
        ("\\XD0B6\\", "ж"),
        ("\\Xff\\", "ÿ"),  # no UTF-8: each byte its own character
        ("\\XZZ\\", "\\XZZ\\"),
        ("one\\.br\\two\\.sp2\\three\\.sk 3\\!", "one\ntwo\n\nthree   !"),
        ("\\.in+4\\\\.ti-2\\\\.fi\\\\.nf\\\\.ce\\x", "\nx"),
        ("\\.sp999999999\\", "\n"),
        ("\\H\\bold\\N\\", "bold"),
        ("\\C2842\\\\M2442\\x", "x"),
        ("\\Zsite\\ stays", "\\Zsite\\ stays"),
        ("a lone \\ stays", "a lone \\ stays"),
        ("\\P\\", "#"),
        ("\\\\", "\\\\"),
        ("\\E\\" * 2000, "\\E\\" * 2000),  # too long to be anything that is read
    ],
)
def test_escapes(escaped: str, plain: str) -> None:
    """Every escape of the standard is undone; what is none stays as it is."""
    message = Message(STANDARD, [["MSH"]], codec="utf-8")
    assert message.unescape(escaped) == plain


def test_escaped_separators_split_nothing() -> None:
    """A separator inside a text is text."""
    message = _message("PID|1||a\\S\\b^^^c\\T\\d&e\r")
    assert message.text(message.rows[1], 3, 1) == "a^b"
    assert message.text(message.rows[1], 3, 4, 1) == "c&d"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\n\r"])
def test_line_ends_of_every_kind(end: str) -> None:
    """CR is the standard; LF, CRLF and LFCR are tolerated and noted."""
    text = ("MSH|^~\\&|A|B\rPID|1\rOBX|1\r").replace("\r", end)
    message = parse(text.encode())
    assert [row[0] for row in message.rows] == ["MSH", "PID", "OBX"]
    assert message.terminated
    assert message.notes == (() if end == "\r" else ("line-feeds",))


def test_a_line_feed_in_a_text_is_text_and_one_before_a_segment_ends_it() -> None:
    """In a message that ends its segments with CR, a lone LF may be either."""
    message = parse(b"MSH|^~\\&|A\rNTE|1||line one\nline two\nPID|2\r")
    assert [row[0] for row in message.rows] == ["MSH", "NTE", "PID"]
    assert message.rows[1][3] == "line one\nline two"


def test_a_last_segment_without_its_end_may_have_been_cut() -> None:
    """The reader of observations is told."""
    assert not parse(b"MSH|^~\\&|A\rOBX|1|NM").terminated
    assert parse(b"MSH|^~\\&|A\rOBX|1|NM\r").terminated
    assert parse(b"MSH|^~\\&|A\rOBX|1|NM\r\x00 \x00").terminated


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"\xef\xbb\xbf" + HEAD.encode(), "byte-order-mark"),
        ("\u2028".encode() + HEAD.encode(), "byte-order-mark"),
        (HEAD.replace("|A|", "|A\x00|").encode(), "nul-inside"),
    ],
)
def test_stray_bytes_are_noted(content: bytes, note: str) -> None:
    """Marks before and NULs inside a message cost nothing."""
    message = parse(content)
    assert message.notes == (note,)
    assert message.raw(message.rows[0], 3) == "A"


def test_blank_lines_and_leading_spaces_are_passed_over() -> None:
    """A segment may be indented, and lines may be empty."""
    message = _message("\r  PID|1\r   \r\rZX1|site\r")
    assert [row[0] for row in message.rows] == ["MSH", "PID", "ZX1"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "message-empty"),
        (b"\r\n\x00 ", "message-empty"),
        (b"PID|1\r", "header-missing"),
        (b"MSH", "header-missing"),
        (b"MSX|^~\\&|\r", "header-missing"),
        (b"MSHx^~\\&x\r", "separators-invalid"),
        (b"MSH||A\r", "separators-invalid"),
        (b"MSH|^~^&|A\r", "separators-invalid"),
        (b"MSH|^~\\|&|A\r", "segment-malformed"),
        (b"MSH|^~\\&123456789012|\r", "separators-invalid"),
        (HEAD.encode() + b"a line of text\r", "segment-malformed"),
        (HEAD.encode() + b"PI|1\r", "segment-malformed"),
        (HEAD.encode() + b"pid|1\r", "segment-malformed"),
        (HEAD.encode("utf-16"), "charset-unsupported"),
        (HEAD.encode("utf-16-be"), "charset-unsupported"),
        (HEAD.encode() + b"OBX\r" * (HL7_SEGMENTS_MAX + 1), "segments-too-many"),
        (HEAD.encode() + b"OBX" + b"|" * (HL7_FIELDS_MAX + 1) + b"\r", "fields-too-many"),
        (HEAD.encode() + b"NTE|" + b"x" * HL7_MESSAGE_BYTES_MAX, "message-oversize"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes, code: str) -> None:
    """Each with a code of its own."""
    if code == "segment-malformed" and content.startswith(b"MSH|^~\\|&"):
        assert parse(content).separators.subcomponent == ""  # a short MSH-2 is allowed
        return
    assert _code(content) == code


def test_errors_never_hold_what_stands_in_the_message() -> None:
    """The sentence is ours alone."""
    with pytest.raises(Hl7Error) as refused:
        parse(HEAD.encode() + b"Mustermann born 1954\r")
    assert "Muster" not in str(refused.value) + repr(refused.value)


def test_several_messages_in_one_block_are_split() -> None:
    """A gateway may join messages, or wrap them as a batch."""
    one, two = b"MSH|^~\\&|1\rPID|1\r", b"MSH|^~\\&|2\r"
    assert split(one) == [one]
    assert split(one + two) == [one, two]
    assert [parse(part).rows[0][3] for part in split(one + b"\r\n\x00" + two)] == ["1", "2"]
    assert split(b"FHS|^~\\&\rBHS|^~\\&\r" + one + two + b"BTS|2\rFTS|1\r") == [one, two + b"BTS|2\rFTS|1\r"]
    assert split(b"garbage\r" + one + two)[0].startswith(b"garbage")
    assert split(b"NTE|1||says MSH| in a text\r" + one) == [b"NTE|1||says MSH| in a text\r" + one]
    assert split(b"") == [b""]
    assert len(split(one * HL7_JOINED_MAX)) == HL7_JOINED_MAX
    assert len(split(one * (HL7_JOINED_MAX + 1))) == 1  # a block of headers alone would hold a device up


@pytest.mark.parametrize("name", names())
def test_structure_is_what_the_hl7_package_finds(name: str) -> None:
    """Segments, fields, repetitions, components and sub-components agree with an independent parser, on every seed."""
    _compare(seed(name))


def test_structure_of_real_messages_is_what_the_hl7_package_finds(shared_data: Path) -> None:
    """And on real ones."""
    files = sorted((shared_data / "hl7").glob("*.hl7"))
    if not files:
        pytest.skip("REAL DATA ABSENT: no hl7/ in the data folder")
    for path in files:
        _compare(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r"))


def _compare(content: bytes) -> None:
    ours = parse(content)
    theirs = hl7_package.parse(content.decode(ours.codec))
    assert [row[0] for row in ours.rows] == [str(segment[0]) for segment in theirs]
    for row, segment in zip(ours.rows, theirs, strict=True):
        assert len(row) == len(segment)
        for number in range(1, len(row)):
            assert row[number] == str(segment[number])
            if row[0] == "MSH" and number < 3:
                continue
            for first, repetition in zip(ours.repetitions(row[number], 1000), segment[number], strict=False):
                parts = ours.components(first)
                got = repetition if isinstance(repetition, hl7_package.Container) else [repetition]
                assert parts == [str(part) for part in got]


_TEXT = st.text(st.characters(codec="ascii", exclude_characters="\r\n\x00\x0b\x1c"), max_size=12)


@given(st.lists(st.lists(_TEXT, max_size=6), max_size=6))
def test_random_fields_are_what_the_hl7_package_finds(rows: list[list[str]]) -> None:
    """Whatever stands in the fields, both find the same structure."""
    # The package strips spaces at the end of a message; a last field keeps them from it.
    lines = "".join("|".join(["OBX", *row, "F"]) + "\r" for row in rows)
    _compare((HEAD + lines).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but ``Hl7Error`` comes out."""
    for content in (data, HEAD.encode() + data, b"MSH" + data):
        with contextlib.suppress(Hl7Error):
            message = parse(content)
            for row in message.rows:
                for field in range(1, len(row)):
                    message.text(row, field)
        for part in split(content):
            assert part in content


@given(_TEXT)
def test_escaping_is_undone(text: str) -> None:
    """A text whose separators were escaped comes back."""
    table = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}
    escaped = re.sub(r"[|^&~\\]", lambda match: table[match.group()], text)
    assert Message(STANDARD, [["MSH"]]).unescape(escaped) == text
