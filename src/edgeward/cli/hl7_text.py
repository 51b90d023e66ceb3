"""What ``edgeward hl7 explain`` says to the site's engineer: one message, line by line, and what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import ACVPU_LEVELS, KINDS, Kind
from edgeward.wire.codes import IGNORE, Code
from edgeward.wire.hl7v2_observation import Observation, Refused, Unused
from edgeward.wire.hl7v2_wave import read_wave

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeward.wire.hl7v2 import Message, Row
    from edgeward.wire.hl7v2_decode import Group
    from edgeward.wire.hl7v2_header import Header
    from edgeward.wire.hl7v2_observation import Outcome, Reader
    from edgeward.wire.hl7v2_patient import Patient

MASK = "•••"
_CODE_CHARS = 46
_VALUE_CHARS = 20
_FIELD_CHARS = 120
_BECOMES_CHARS = 34
OBX_TITLE = "   OBX  " + "  ".join(
    (
        "code".ljust(_CODE_CHARS),
        "says".ljust(_VALUE_CHARS),
        "becomes".ljust(_BECOMES_CHARS),
        "how long before the message",
    )
)
_AGE_MASKED_Y = 90
_PLAIN_VALUE_CHARS = frozenset("0123456789.+-^ <>=/:,")

ADVICE = {
    "code-unknown": "not in the table: add the line below with the kind that it is, or leave it aside for good",
    "code-name-mismatch": "the name is not one of this code: find out which is right, then vouch for the pair below",
    "code-contradiction": "its codings name different things: have the source correct OBX-3",
    "code-missing": "has no code: have the source fill OBX-3",
    "unit-missing": "states no unit: have the source fill OBX-6, or name the unit in a line of [[codes]]",
    "unit-unknown": "the unit is not known: have the source use UCUM or MDC units",
    "unit-mismatch": "the unit measures something else: code or unit is wrong at the source",
    "unit-contradiction": "the unit's code and name mean different units: correct the source",
    "value-missing": "has neither a value nor a reason for that: OBX-5 or OBX-11 is wrong at the source",
    "value-type": "OBX-2 is no type of a number: have the source send NM",
    "value-not-number": "OBX-5 is not a number in HL7's form (a decimal point, no text)",
    "value-bounded": "only a bound (< or >): a bound is not a measurement",
    "value-not-single": "several values, a ratio or a range: have each sent in its own OBX",
    "value-not-level": "none of A, C, V, P, U",
    "out-of-range": "no living patient shows this: look at the unit, the sensor and the code",
    "status-unknown": "OBX-11 is no status of HL7 table 0085",
    "test-data": "marked as test or demonstration in a message that says it is not (MSH-11)",
    "cut-short": "the message ends inside this segment, so its value may be cut",
    "time-malformed": "the time is not in HL7's form",
    "time-future": "lies later than its own message: look at the clocks and zones of monitor and gateway",
    "time-old": "too old to say anything of now",
    "identifier-placeholder": "stands for nobody in particular, so it is no identifier",
    "identifier-too-long": "longer than any identifier",
    "identifiers-too-many": "more identifiers than are looked at",
    "birth-implausible": "no possible date of birth: the age stays unknown",
    "charset-mismatch": "the bytes are not in the character set that MSH-18 states: read as Latin-1",
    "charset-unknown": "MSH-18 names no known character set",
    "charset-unstated": "MSH-18 is empty and the bytes are not in the site's default set: read as Latin-1",
}
"""What to do about each refusal that does not cost the whole message."""

_UNUSED = {
    "structure": "of the device",
    "known": "known, of no use here",
    "no-result": "no result yet",
    "superseded": "a better source of the same kind stands beside it",
}


class Style(NamedTuple):
    """Terminal codes around words; empty where the output is no terminal."""

    good: str = ""
    bad: str = ""
    dim: str = ""
    bold: str = ""
    end: str = ""


COLOURS = Style("\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m")


def plain(text: str, chars: int = _FIELD_CHARS) -> str:
    """A text of a message as a terminal may show it: nothing in it can be a command to the terminal."""
    return "".join(char if char.isprintable() else "·" for char in text[: chars + 1])


def header_lines(message: Message, header: Header, style: Style) -> list[str]:
    """What the message says of itself."""
    row = message.rows[0]
    sender = " / ".join(part for part in header.sender.split("|") if part.strip()) or "nobody named"
    processing = {"P": "production", "T": "training: simulated", "D": "debugging: simulated"}
    ends = "segments end with line feeds" if "line-feeds" in message.notes else "segments end with CR"
    notes = ", ".join([ends, *(note for note in message.notes if note not in {"line-feeds", message.doubt})])
    version = f"version {plain(header.version) or 'not stated'}, {processing.get(header.processing, 'unknown')}"
    kind, control = plain(f"{header.kind or '?'}^{header.trigger}"), plain(header.control) or "none"
    return [
        f"{style.bold}{kind}{style.end}  control id {control}  {version}",
        f"  from     {plain(sender)}  (MSH-3, MSH-4)",
        f"  sent     {plain(message.raw(row, 7)) or 'time not stated: that of arrival counts'}  (MSH-7)",
        f"  text     {message.codec} ({plain(message.raw(row, 18)) or 'MSH-18 empty'}), {notes}",
    ]


def group_lines(group: Group, style: Style, *, show_phi: bool) -> list[str]:
    """Who and where."""
    lines = [f"  patient  {_patient(group.patient, show_phi=show_phi)}  (PID-3, PID-18, PID-19)"]
    if group.patient is not None:
        age, sex = group.patient.age_y, group.patient.sex or "not stated"
        shown = "not known" if age is None else f"{age:.1f} years"
        if age is not None and age >= _AGE_MASKED_Y and not show_phi:
            shown = f"{_AGE_MASKED_Y} years or more"
        lines.append(f"           age {shown} (PID-7), sex {sex} (PID-8)")
    if group.prior is not None:
        lines.append(f"  gives up {_patient(group.prior, show_phi=show_phi)}  (MRG-1)")
    lines.append(f"  place    {plain(group.place) or 'not stated'}  (PV1-3)")
    if group.previous_place:
        lines.append(f"  before   {plain(group.previous_place)}  (PV1-6)")
    lines += [_refusal_line("", code, where, style) for code, where in group.refused]
    return lines


def outcome_line(
    message: Message, outcome: Outcome, reader: Reader, at: int | str | None, style: Style, *, show_phi: bool
) -> str:
    """What became of one OBX. ``at``: age in ns where it was taken, or the code that refused its time."""
    row = message.rows[outcome.row]
    number = plain(message.raw(row, 1), 6) or f"#{outcome.row}"
    taken = isinstance(outcome, Observation) and isinstance(at, int)
    said = _said(message, row, plain=show_phi or taken)
    left = f"  {number:>4}  {_shorten(_code(message, row), _CODE_CHARS)}  {_shorten(said, _VALUE_CHARS)}"
    if isinstance(outcome, Observation) and isinstance(at, int):
        when = f"{_age(at)} ({outcome.field})" if outcome.field else "no time of its own"
        becomes = _shorten(_becomes(outcome), _BECOMES_CHARS)
        return f"{left}  {style.good}{becomes}{style.end}  {style.dim}{when}{style.end}"
    if isinstance(outcome, Unused):
        return f"{left}  {style.dim}{_aside(message, outcome, reader)}{style.end}"
    code = outcome.code if isinstance(outcome, Refused) else str(at)
    return f"{left}  {_refusal(code, outcome.field, style)}"


def refusal_lines(refused: Iterable[tuple[str, str]], style: Style) -> list[str]:
    """Refusals that are of no OBX."""
    return [_refusal_line("  note     ", code, where, style) for code, where in refused]


def codes_line(message: Message, refused: Refused, reader: Reader) -> str | None:
    """The line of ``[[codes]]`` that would settle a refusal; None where none would."""
    row = message.rows[refused.row]
    identifier, name, system = [*(message.part(part) for part in message.components(message.raw(row, 3))), "", "", ""][
        :3
    ]
    kind, unit = IGNORE, ""
    if refused.code == "unit-missing":
        code = reader.code(message, message.raw(row, 3))
        if not isinstance(code, Code) or code.kind is None:
            return None
        kind, unit = code.kind.value, KINDS[code.kind].unit
    elif refused.code not in {"code-unknown", "code-name-mismatch"}:
        return None
    pairs = {"system": system, "code": identifier, "name": name, "kind": kind, "unit": unit}
    quoted = {key: json.dumps(value, ensure_ascii=not value.isprintable()) for key, value in pairs.items() if value}
    body = "\n".join(f"{key} = {value}" for key, value in quoted.items())
    return f"[[codes]]\n{body}" if identifier else None


def _becomes(observation: Observation) -> str:
    info = KINDS[observation.kind]
    if observation.value is None:
        return f"{info.label}: not measured"
    if observation.kind is Kind.ACVPU:
        return f"{info.label} {ACVPU_LEVELS[int(observation.value)]}"
    number = f"{observation.value:.{max(info.decimals, 2)}f}".rstrip("0").rstrip(".")
    return f"{info.label} {number} {info.unit if info.unit != '1' else ''}".strip()


def _aside(message: Message, unused: Unused, reader: Reader) -> str:
    row = message.rows[unused.row]
    if unused.why == "wave":
        return f"left aside: {_wave(message, row)}"
    code = reader.code(message, message.raw(row, 3)) if unused.why == "known" else None
    note = code.note if isinstance(code, Code) else ""
    return f"left aside: {note or _UNUSED[unused.why]}"


def _patient(patient: Patient | None, *, show_phi: bool) -> str:
    if patient is None:
        return "nobody named"
    return ", ".join(sorted(_identifier(text, show_phi=show_phi) for text in patient.identifiers))


def _identifier(text: str, *, show_phi: bool) -> str:
    return plain(text if show_phi else MASK + text[text.index("^") :])


def _code(message: Message, row: Row) -> str:
    identifier, name, system = [*(message.part(part) for part in message.components(message.raw(row, 3))), "", "", ""][
        :3
    ]
    return " ".join(part for part in (identifier, name, f"({system})" if system else "") if part)


def _said(message: Message, row: Row, *, plain: bool) -> str:
    """Value and unit as sent; a text that is no number may say who, so it is shown only on demand."""
    if message.raw(row, 2) in {"NA", "MA"}:
        return ""
    value = message.unescape(message.raw(row, 5))
    if not plain and not set(value) <= _PLAIN_VALUE_CHARS:
        value = f"{MASK} ({len(value)} characters)"
    parts = [message.part(part) for part in message.components(message.raw(row, 6))]
    unit = next((part for part in (*parts[1:2], *parts[:1]) if part), "")
    return f"{value} {unit.removeprefix('MDC_DIM_')}".strip()


def _wave(message: Message, row: Row) -> str:
    try:
        wave = read_wave(message, row)
    except InputError as error:
        return f"a wave that cannot be read: {error.code}"
    step = f", a step is {wave.per_step:.4g} {wave.unit}" if wave.per_step is not None else ""
    return f"a wave of {len(wave.samples)} samples{step}; waves do not enter by HL7"


def _refusal(code: str, where: str, style: Style) -> str:
    place = f" ({where})" if where else ""
    advice = ADVICE.get(code)
    return f"{style.bad}refused{place}: {code}{style.end}" + (f"\n          → {advice}" if advice else "")


def _refusal_line(lead: str, code: str, where: str, style: Style) -> str:
    return f"{lead or '           '}{_refusal(code, where, style)}"


def _age(age_ns: int) -> str:
    seconds = age_ns / NS_PER_S
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _shorten(text: str, chars: int) -> str:
    text = plain(text, chars)
    return text.ljust(chars) if len(text) <= chars else text[: chars - 1] + "…"
