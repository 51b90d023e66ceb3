"""HL7 v2 messages: bytes → segments of fields, by ``str.split`` and no more work than is asked for.

A message is a list of rows, one for each HL7 segment: ``row[0]`` its name, ``row[n]`` field n as it was sent (of an MSH
row too: ``row[1]`` is the field separator, ``row[2]`` the encoding characters). Repetitions, components and
sub-components are split, and escapes undone, only where a field is read (``Message.text``): of four thousand characters
a reader of numerics looks at four hundred.

An absent field is ""; HL7's null, two quotes, which says "there is none", stays ``NULL`` and is told from absent.

Tolerated, with a note: line ends LF and CRLF, NULs, a byte order mark. Refused: what does not begin with MSH, unusable
separators, a line that is no segment, and anything over a limit. Source: HL7 v2.8.2 chapter 2 (2.5 to 2.7).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import HL7_FIELDS_MAX, HL7_JOINED_MAX, HL7_MESSAGE_BYTES_MAX, HL7_SEGMENTS_MAX
from edgeward.wire import hl7v2_charset

NULL = '""'
"""What a sender writes for "there is none", as against "I say nothing of it"."""

Row = list[str]

_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_COMMON = frozenset({"MSH", "PID", "PV1", "OBR", "OBX", "NTE", "EVN", "MRG", "PD1", "PV2", "ORC", "MSA", "ERR"})
_LINE_FEED = re.compile(r"\r\n|\n\r|\r|\n(?=[A-Z][A-Z0-9]{2}[^A-Za-z0-9])")
_MESSAGE_START = re.compile(rb"(?:\A|[\r\n])[\x00\t ]*(?=MSH[^A-Za-z0-9\r\n])")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xe2\x80\xa8")
_PADDING = b"\x00\t\n\r "
_HEADER_BYTES_MAX = 4096
_CARRIAGE_RETURN = 13
_SKIP_MAX = 8
TEXT_CHARS_MAX = 4096
"""Longer than any identifier, code, number or place."""


class Hl7Error(InputError):
    """A message that cannot be taken. ``where``: HL7 segment and field ("MSH-9"), never what stands in it."""

    def __init__(self, code: str, message: str, where: str = "") -> None:
        super().__init__(code, message)
        self.where = where


class Separators(NamedTuple):
    """The five characters that a message states for itself; "" where it states none."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


STANDARD = Separators()


@dataclass(slots=True)
class Message:
    """One message: rows of fields. ``codec``: of its text; ``doubt``: why it may be wrong, "" where it is right.

    ``terminated``: the last segment has its line end, so that it cannot have been cut. ``notes``: what was tolerated.
    """

    separators: Separators
    rows: list[Row]
    codec: str = "ascii"
    doubt: str = ""
    terminated: bool = True
    notes: tuple[str, ...] = ()

    def raw(self, row: Row, field: int) -> str:
        """Field ``field`` as it was sent; "" where the row has none."""
        return row[field] if field < len(row) else ""

    def components(self, text: str) -> list[str]:
        """Components of one repetition of a field, escaped as sent."""
        separator = self.separators.component
        return text.split(separator) if separator else [text]

    def repetitions(self, text: str, most: int = 64) -> list[str]:
        """At most ``most`` repetitions of a field; what lies beyond is left out."""
        separator = self.separators.repetition
        return text.split(separator, most)[:most] if separator else [text]

    def text(self, row: Row, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """First repetition, stated component and sub-component (from 1), escapes undone; "" where absent."""
        raw = row[field] if field < len(row) else ""
        if component == subcomponent == 1 and (not raw or raw.isalnum()):
            return raw
        parts = self.components(self.repetitions(raw, 1)[0])
        return self.part(parts[component - 1], subcomponent) if component <= len(parts) else ""

    def part(self, component: str, subcomponent: int = 1) -> str:
        """One sub-component (from 1) of a component as sent, escapes undone, without surrounding spaces."""
        separator = self.separators.subcomponent
        if separator and separator in component:
            parts = component.split(separator)
            component = parts[subcomponent - 1] if subcomponent <= len(parts) else ""
        elif subcomponent > 1:
            return ""
        return self.unescape(component).strip(" \t")

    def unescape(self, text: str) -> str:
        """Escapes undone (HL7 2.7): separators, hexadecimal bytes, formatting; an unknown one stays as it is.

        A text of more than ``TEXT_CHARS_MAX`` is nothing that is read here, and stays as it was sent.
        """
        escape = self.separators.escape
        if not escape or escape not in text or len(text) > TEXT_CHARS_MAX:
            return text
        plain = _plain_escapes(self.separators)

        def undone(match: re.Match[str]) -> str:
            inner = match[1]
            return plain[inner] if inner in plain else _unescaped(inner, match[0], self.codec)

        return _escapes(escape).sub(undone, text)


def parse(content: bytes, default_codec: str = "utf-8") -> Message:
    """The rows of one message.

    Raises ``Hl7Error``: ``message-oversize``, ``message-empty``, ``charset-unsupported``, ``header-missing``,
    ``separators-invalid``, ``segment-malformed``, ``segments-too-many``, ``fields-too-many``.
    """
    notes: list[str] = []
    if len(content) > HL7_MESSAGE_BYTES_MAX:
        raise Hl7Error("message-oversize", f"a message has over {HL7_MESSAGE_BYTES_MAX} bytes; have it sent in parts")
    if content[:4] != b"MSH|" or content[-1] != _CARRIAGE_RETURN:
        content = _trimmed(content, notes)
    separators = separators_of(content)
    text, codec, doubt = hl7v2_charset.decode(content, _stated_charset(content, separators), default_codec)
    if doubt:
        notes.append(doubt)
    if "\x00" in text:
        notes.append("nul-inside")
        text = text.replace("\x00", "")
    lines = _lines(text, notes)
    terminated = not lines[-1].strip(" \n")
    return Message(separators, _rows(lines, separators.field), codec, doubt, terminated, tuple(notes))


def split(content: bytes, most: int = HL7_JOINED_MAX) -> list[bytes]:
    """The messages in one block: usually one; a sender may have joined several, or wrapped them as a batch.

    More than ``most`` are not split, so that ``parse`` refuses them as one.
    """
    if content.count(b"MSH") < 2 and not content.startswith((b"FHS", b"BHS")):
        return [content]
    starts = [match.end() for match in itertools.islice(_MESSAGE_START.finditer(content), most + 1)]
    if not starts or len(starts) > most:
        return [content]
    lead = content[: starts[0]].strip(_PADDING)
    batch = not lead or lead in _BYTE_ORDER_MARKS or lead.startswith((b"FHS", b"BHS"))
    edges = [starts[0] if batch else 0, *starts[1:], len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


def separators_of(content: bytes) -> Separators:
    """What MSH-1 and MSH-2 state. Raises ``Hl7Error``: ``header-missing``, ``separators-invalid``."""
    if content.startswith(b"MSH|^~\\&|"):
        return STANDARD
    if content[:3] != b"MSH" or len(content) < 5:
        raise Hl7Error("header-missing", "a message does not begin with an MSH segment; look at what sends it", "MSH")
    field = chr(content[3])
    encoding = content[4:16].split(b"\r", 1)[0].split(b"\n", 1)[0].split(content[3:4], 1)[0].decode("iso8859-1")
    every = field + encoding
    printable = all(33 <= ord(char) <= 126 and not char.isalnum() for char in every)
    if not 1 <= len(encoding) <= 5 or not printable or len(set(every)) != len(every):
        raise Hl7Error(
            "separators-invalid",
            "MSH-1 and MSH-2 must be two to six different punctuation marks, usually |^~\\&",
            "MSH-2",
        )
    return Separators(field, *(encoding[at] if at < len(encoding) else "" for at in range(4)))


def _stated_charset(content: bytes, separators: Separators) -> str:
    """The first character set that MSH-18 names; "" where it names none."""
    end = content.find(b"\r", 0, _HEADER_BYTES_MAX)
    line = content[: end if end >= 0 else _HEADER_BYTES_MAX].split(b"\n", 1)[0]
    fields = line.split(separators.field.encode(), 18)
    stated = fields[17].decode("iso8859-1") if len(fields) > 17 else ""
    return stated.split(separators.repetition, 1)[0] if separators.repetition else stated


def _trimmed(content: bytes, notes: list[str]) -> bytes:
    trimmed = content.lstrip(_PADDING).rstrip(b"\x00\t ")
    if not trimmed:
        raise Hl7Error("message-empty", "a message is empty")
    if content.startswith(hl7v2_charset.WIDE) and not trimmed.startswith(b"MSH|"):
        raise Hl7Error(
            "charset-unsupported",
            "a message is in two or four bytes a character, which MLLP cannot carry; set the sender to UNICODE UTF-8",
            "MSH-18",
        )
    for mark in _BYTE_ORDER_MARKS:
        if trimmed.startswith(mark):
            notes.append("byte-order-mark")
            trimmed = trimmed[len(mark) :]
    return trimmed


def _lines(text: str, notes: list[str]) -> list[str]:
    if "\n" not in text:
        return text.split("\r")
    notes.append("line-feeds")
    if "\r" in text:
        # A lone LF ends a segment only where another begins; elsewhere it is a line break inside a text.
        return _LINE_FEED.split(text)
    return text.split("\n")


def _rows(lines: list[str], separator: str) -> list[Row]:
    if len(lines) > HL7_SEGMENTS_MAX + 1:
        raise Hl7Error(
            "segments-too-many", f"a message has more than {HL7_SEGMENTS_MAX} segments; have it sent in parts"
        )
    rows = [line.split(separator) for line in lines if line]
    if not _COMMON.issuperset([row[0] for row in rows]):
        rows = [row for row in rows if len(row) > 1 or row[0].strip()]
        for row in rows:
            row[0] = row[0].strip()
            if _NAME.fullmatch(row[0]) is None:
                raise Hl7Error(
                    "segment-malformed", "a line is no HL7 segment: the message is damaged; look at its sender"
                )
    if max(map(len, rows)) > HL7_FIELDS_MAX:
        raise Hl7Error("fields-too-many", f"a segment has more than {HL7_FIELDS_MAX} fields; look at its sender")
    rows[0].insert(1, separator)
    return rows


@lru_cache(maxsize=16)
def _escapes(escape: str) -> re.Pattern[str]:
    mark = re.escape(escape)
    return re.compile(f"{mark}([^{mark}]{{1,64}}){mark}")


@lru_cache(maxsize=16)
def _plain_escapes(separators: Separators) -> dict[str, str]:
    return {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        "P": "#",
        "H": "",
        "N": "",
    }


def _unescaped(inner: str, whole: str, codec: str) -> str:
    if inner[0] == "X":
        return _hexadecimal(inner[1:], codec, whole)
    if inner[0] in {"C", "M"} and len(inner) in {5, 7}:
        return ""  # switches of single- and multi-byte sets: the codec has dealt with them
    return _formatting(inner, whole)


def _hexadecimal(digits: str, codec: str, whole: str) -> str:
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return whole
    try:
        return raw.decode(codec)
    except (UnicodeDecodeError, UnicodeError):
        return raw.decode("iso8859-1")


def _formatting(inner: str, whole: str) -> str:
    command, count = inner[:3], inner[3:].strip().lstrip("+")
    if command in {".br", ".ce"}:
        return "\n"
    if command == ".sp":
        return "\n" * min(int(count), _SKIP_MAX) if count.isdecimal() and len(count) < 4 else "\n"
    if command == ".sk":
        return " " * min(int(count), _SKIP_MAX) if count.isdecimal() and len(count) < 4 else " "
    return "" if command in {".fi", ".nf", ".in", ".ti"} else whole
