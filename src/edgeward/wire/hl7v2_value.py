"""OBX-2 and OBX-5: the number that an observation states, or that none was measured, or why it cannot be read.

What counts as a number: NM; ST, TX and FT that hold nothing but a number; SN without a comparator. A bound ("<0.01") is
no value, a decimal comma is no HL7 number (HL7 2A.47), and neither is guessed at. Consciousness is a word or letter.

What counts as "not measured": HL7's null, the texts that monitors show for it, and the sentinels −999, −99.9, −1 and
−100, where no living patient can show such a value: a central venous pressure of −1 mmHg is a pressure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import ACVPU_LEVELS, KINDS, Kind, plausible
from edgeward.wire.hl7v2 import NULL

if TYPE_CHECKING:
    from edgeward.kernel.units import Linear
    from edgeward.wire.hl7v2 import Message

SENTINELS = frozenset({-999.0, -99.9, -1.0, -100.0})
"""Numbers by which monitors say that they have none (FACTS: seen from four makers; −100.00 and −999.0 likewise)."""
UNMEASURED_TEXTS = frozenset({"---", "--", "-", "-?-", "?", "***", "n/a", "na"})
"""Texts by which they do."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})", re.ASCII)
_TEXTS = frozenset({"NM", "ST", "TX", "FT"})
_CODED = frozenset({"CE", "CWE", "CNE", "ST", "TX", "IS", "ID", "FT"})

CONSCIOUSNESS = {
    **{level.casefold(): index for index, level in enumerate(ACVPU_LEVELS)},
    "alert": 0,
    "confusion": 1,
    "confused": 1,
    "new confusion": 1,
    "voice": 2,
    "verbal": 2,
    "responds to voice": 2,
    "pain": 3,
    "responds to pain": 3,
    "unresponsive": 4,
    "la9340-6": 0,
    "la9341-4": 2,
    "la9342-2": 3,
    "la9343-0": 4,
    "248234008": 0,
    "130987000": 1,
    "300202002": 2,
    "450847001": 3,
    "422768004": 4,
}
"""Letters, words, LOINC's answers to 67775-7, and the SNOMED CT findings of HL7 UK's value set ACVPU; case folded."""


def read_value(message: Message, value_type: str, raw: str, kind: Kind, convert: Linear) -> float | None:
    """The value in the kind's canonical unit, or None where the source says that nothing was measured.

    Raises ``InputError``: ``value-missing``, ``value-type``, ``value-not-number``, ``value-bounded``,
    ``value-not-single``, ``value-not-level``, ``out-of-range``.
    """
    if raw == NULL:
        return None
    if not raw.strip():
        raise InputError("value-missing", "an observation has no value and does not say why (OBX-5, OBX-11)")
    if kind is Kind.ACVPU:
        return _level(message, value_type, raw)
    text = raw.strip()
    if value_type not in _TEXTS or _NUMBER.fullmatch(text) is None:
        text = _single(message, value_type, raw)
        if text.casefold() in UNMEASURED_TEXTS:
            return None
        if _NUMBER.fullmatch(text) is None:
            raise InputError("value-not-number", "a value is not a number in HL7's form (OBX-5); correct the source")
    stated = float(text)
    value = convert(stated)
    if plausible(kind, value):
        return value
    if stated in SENTINELS:
        return None
    raise InputError(
        "out-of-range",
        f"{KINDS[kind].label.lower()} lies outside what a living patient can show; look at the unit and the sensor",
    )


def _single(message: Message, value_type: str, raw: str) -> str:
    """The one number that OBX-5 holds, as text."""
    if value_type == "SN":
        return _structured(message, raw)
    if value_type not in _TEXTS:
        raise InputError("value-type", "a numeric has the value type NM, SN, ST or TX (OBX-2); correct the source")
    separators = message.separators
    if separators.repetition and separators.repetition in raw:
        raise InputError("value-not-single", "an observation has several values (OBX-5); have each sent in its own OBX")
    return message.unescape(raw).strip()


def _structured(message: Message, raw: str) -> str:
    """SN: comparator ^ number ^ separator ^ number; only "= number" is a value."""
    parts = [message.part(part) for part in message.components(raw)]
    comparator, number, *rest = [*parts, "", ""][: max(2, len(parts))]
    if comparator not in {"", "="}:
        raise InputError("value-bounded", "a value is only a bound (OBX-5: < or >); a bound is not a measurement")
    if any(rest):
        raise InputError("value-not-single", "a value is a ratio or a range (OBX-5), not one number")
    return number


def _level(message: Message, value_type: str, raw: str) -> float:
    """ACVPU: 0 to 4 from a letter, a word or LOINC's answer code."""
    if value_type not in _CODED:
        raise InputError("value-type", "consciousness is coded or a text (OBX-2: CWE, ST); correct the source")
    for part in message.components(raw)[:2]:
        level = CONSCIOUSNESS.get(message.part(part).casefold())
        if level is not None:
            return float(level)
    raise InputError("value-not-level", "consciousness is none of A, C, V, P, U (OBX-5); correct the source")
