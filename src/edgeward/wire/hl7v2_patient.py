"""Who a message is about and where: PID, MRG and PV1.

Identifiers are compared as texts, so they are brought into one form: "id^^^authority^type" of HL7's CX with the
standard separators, whatever separators the message uses. A number that several patients share is no identifier: what
monitors send for "nobody entered one" is left out, or one patient's history would continue as another's.

Source: HL7 v2.8.2 sections 3.4.2 (PID), 3.4.3 (PV1), 3.4.9 (MRG), 2A.14 (CX), 2A.54 (PL).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import HL7_IDENTIFIERS_MAX
from edgeward.wire.hl7v2 import NULL, Hl7Error
from edgeward.wire.hl7v2_time import parse_stamp

if TYPE_CHECKING:
    from edgeward.wire.hl7v2 import Message, Row

PLACEHOLDERS = frozenset(
    (
        *("unknown", "unk", "unidentified", "anonymous", "none", "null", "nil", "na", "n/a", "noid", "no-id", "noname"),
        *("unassigned", "notassigned", "test", "-", "--", "---", ".", "?", "??", "???", "x", "xx", "xxx", "xxxx"),
    )
)
"""What stands in an identifier when nobody has entered one; so does any row of zeros or of nines."""

AGE_Y_MAX = 130.0
IDENTIFIER_CHARS_MAX = 128
PLACE_CHARS_MAX = 512
_YEAR_NS = 365.2425 * 86_400 * NS_PER_S
_ESCAPED = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEXES = {"F": "f", "M": "m"}


class Patient(NamedTuple):
    """Who: PHI. ``identifiers`` as "id^^^authority^type"; ``age_y`` and ``sex`` ("f", "m") where known."""

    identifiers: frozenset[str]
    age_y: float | None
    sex: str | None

    def __repr__(self) -> str:
        """Only that there is one: no log may hold who."""
        return f"Patient({len(self.identifiers)} identifiers)"


def read_patient(message: Message, row: Row, now_utc_ns: int) -> tuple[Patient | None, list[tuple[str, str]]]:
    """Who a PID row names, None where it names nobody; and what of it was refused, as (code, field).

    Raises ``Hl7Error`` (``identifier-malformed``): where a segment's end was damaged, what follows may stand in it.
    """
    refused: list[tuple[str, str]] = []
    identifiers = _identifiers(message, row, 3, "", refused, "PID")
    if not message.doubt:
        # Behind the name, bytes of a misread character set may look like separators and shift what stands there.
        identifiers |= _identifiers(message, row, 18, "AN", refused, "PID")
        identifiers |= _identifiers(message, row, 19, "SS", refused, "PID")
    if not identifiers:
        return None, refused
    age_y = _age_y(message, row, now_utc_ns, refused)
    return Patient(frozenset(identifiers), age_y, _SEXES.get(message.text(row, 8))), refused


def read_prior(message: Message, row: Row) -> Patient | None:
    """Whom an MRG row gives up: its prior identifiers (MRG-1, MRG-4) and prior account (MRG-3)."""
    refused: list[tuple[str, str]] = []
    identifiers = _identifiers(message, row, 1, "", refused, "MRG") | _identifiers(message, row, 4, "", refused, "MRG")
    identifiers |= _identifiers(message, row, 3, "AN", refused, "MRG")
    return Patient(frozenset(identifiers), None, None) if identifiers else None


def read_place(message: Message, row: Row, field: int) -> str:
    """Point of care, room and bed of a PL field as "ICU^^5"; "" where it says nothing.

    Raises ``Hl7Error`` (``place-malformed``): a damaged place must not become another bed, nor no bed.
    """
    raw = message.raw(row, field)
    if not raw or raw == NULL:
        return ""
    parts = message.components(message.repetitions(raw, 1)[0])[:3]
    place = "^".join(_canonical(message, part) for part in parts).rstrip("^") if len(raw) <= PLACE_CHARS_MAX else "\0"
    if _CONTROL.search(place):
        raise Hl7Error("place-malformed", "a place is far too long or holds control characters", f"PV1-{field}")
    return place


def cx(number: str, authority: str, kind: str) -> str:
    """An identifier in the one form, from whatever protocol; "" for what stands for nobody or is too long."""
    if not number or _is_placeholder(number) or len(number) + len(authority) + len(kind) > IDENTIFIER_CHARS_MAX:
        return ""
    return f"{number.translate(_ESCAPED)}^^^{authority.translate(_ESCAPED)}^{kind.translate(_ESCAPED)}"


def _identifiers(
    message: Message, row: Row, field: int, kind: str, refused: list[tuple[str, str]], name: str
) -> set[str]:
    raw = message.raw(row, field)
    if not raw or raw == NULL:
        return set()
    if _CONTROL.search(message.unescape(raw)):
        raise Hl7Error("identifier-malformed", "an identifier holds a control character", f"{name}-{field}")
    found: set[str] = set()
    repetitions = message.repetitions(raw, HL7_IDENTIFIERS_MAX + 1)
    if len(repetitions) > HL7_IDENTIFIERS_MAX:
        refused.append(("identifiers-too-many", f"{name}-{field}"))
    for repetition in repetitions[:HL7_IDENTIFIERS_MAX]:
        parts = message.components(repetition)
        number = message.part(parts[0])
        if not number or number == NULL:
            continue
        if len(repetition) > IDENTIFIER_CHARS_MAX:
            refused.append(("identifier-too-long", f"{name}-{field}"))
        elif _is_placeholder(number):
            refused.append(("identifier-placeholder", f"{name}-{field}"))
        else:
            authority = _canonical(message, parts[3]) if len(parts) > 3 else ""
            stated = _canonical(message, parts[4]) if len(parts) > 4 else ""
            found.add(f"{number.translate(_ESCAPED)}^^^{authority}^{stated or kind}")
    return found


def _is_placeholder(number: str) -> bool:
    plain = number.casefold().replace(" ", "")
    return plain in PLACEHOLDERS or not plain.strip("0") or (len(plain) > 2 and not plain.strip("9"))


def _canonical(message: Message, component: str) -> str:
    """A component with the standard separators, sub-components kept apart."""
    separator = message.separators.subcomponent
    parts = component.split(separator) if separator else [component]
    return "&".join(message.unescape(part).strip(" \t").translate(_ESCAPED) for part in parts).rstrip("&")


def _age_y(message: Message, row: Row, now_utc_ns: int, refused: list[tuple[str, str]]) -> float | None:
    text = message.text(row, 7)
    if text == NULL:
        return None
    try:
        born = parse_stamp(text)
    except InputError as error:
        refused.append((error.code, "PID-7"))
        return None
    if born is None:
        return None
    # A birth known to the year or month lies, on average, in the middle of it.
    age_y = (now_utc_ns - born.local_ns - born.step_ns / 2) / _YEAR_NS
    if not -1 / 365 <= age_y <= AGE_Y_MAX:
        refused.append(("birth-implausible", "PID-7"))
        return None
    return max(0.0, age_y)
