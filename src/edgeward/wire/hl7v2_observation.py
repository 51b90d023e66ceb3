"""One OBX segment → an observation in canonical units, or why it is not one.

Refusals are results here, not exceptions: one bad OBX costs itself and nothing beside it, and ``edgeward hl7 explain``
shows every one. Sources: HL7 v2.8.2 7.4.2 (OBX), tables 0085 (status) and 0078 (flags); IHE PCD TF-2 appendix B.8 (OBX
in PCD-01, measurement status in OBX-8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from edgeward.kernel.errors import InputError
from edgeward.kernel.units import Linear
from edgeward.wire.codes import Code, agreed, canonical, system_of, unit_of
from edgeward.wire.hl7v2 import STANDARD
from edgeward.wire.hl7v2_time import Stamp, parse_stamp
from edgeward.wire.hl7v2_value import read_value
from edgeward.wire.hl7v2_wave import WAVE_TYPES

if TYPE_CHECKING:
    from edgeward.signal.numeric import Kind
    from edgeward.wire.codes import CodeTable
    from edgeward.wire.hl7v2 import Message, Row

TAKEN = frozenset({"", "F", "P", "R", "C", "U", "V", "S"})
"""OBX-11 (table 0085): final, preliminary, entered, corrected, changed, verified, partial; some leave it empty."""
UNMEASURED = frozenset({"X", "D", "W"})
"""Cannot be obtained; deleted; posted in error: from then on there is no value."""
NO_RESULT = frozenset({"I", "N", "O"})
"""Pending, not asked for, order only: nothing is said of the patient."""

FLAGS_UNMEASURED = frozenset({"INV", "NAV", "CAL", "CALIB"})
"""OBX-8: invalid, not available, calibrating. A questionable value ("QUES") is taken: a monitor shows it too."""
FLAGS_NOT_A_PATIENT = frozenset({"TEST", "DEMO"})
FLAGS_BOUND = frozenset({"<", ">"})

_UNIT_CHARS_MAX = 256
_MEMO_MAX = 4096
_MEMO_CHARS_MAX = 512


class Observation(NamedTuple):
    """A numeric without its instant. ``row``: where in the message; ``value`` None: declared unmeasured.

    ``stamp`` None: it states no time. ``field``: which field gave the time, "" where none did.
    """

    row: int
    kind: Kind
    value: float | None
    stamp: Stamp | None
    field: str
    rank: int


class Refused(NamedTuple):
    """An OBX that should have been an observation: a stable code, and the field that made it one."""

    row: int
    code: str
    field: str


class Unused(NamedTuple):
    """An OBX that is none of ours, and why: ``structure``, ``known``, ``no-result``, ``wave``, ``superseded``."""

    row: int
    why: str


Outcome = Observation | Refused | Unused


class Reader:
    """Reads OBX rows against one table of codes; remembers what codes and units meant, in bounded memory."""

    def __init__(self, table: CodeTable) -> None:
        self.table = table
        self._codes: dict[str, Code | str] = {}
        self._units: dict[tuple[str, str, str, str], Linear | str] = {}
        self._last_time: tuple[str, str, tuple[Stamp | None, str]] = ("", "", (None, ""))

    def read(self, message: Message, index: int, observed: str, *, simulated: bool = False) -> Outcome:
        """Outcome of the OBX at ``rows[index]``; ``observed``: OBR-7 as sent, for an OBX without a time of its own."""
        row = message.rows[index]
        count = len(row)
        raw = row[3] if count > 3 else ""
        code = self.code(message, raw)
        value_type = row[2].strip() if count > 2 else ""
        stated = row[5] if count > 5 else ""
        if value_type in WAVE_TYPES:
            return Unused(index, "wave")
        if isinstance(code, str):
            empty = not value_type and not stated
            return Unused(index, "structure") if empty else Refused(index, code, "OBX-3")
        if code.kind is None:
            return Unused(index, "known")
        status = row[11].strip() if count > 11 else ""
        if count <= 11 and not message.terminated and index == len(message.rows) - 1:
            return Refused(index, "cut-short", "OBX-11")
        measured = self._measured(message, row, status, simulated=simulated)
        if measured == "no-result":
            return Unused(index, measured)
        if measured not in {"", "unmeasured"}:
            return Refused(index, measured, "OBX-8" if status in TAKEN else "OBX-11")
        try:
            value = None if measured else self._value(message, row, value_type, stated, code)
            stamp, field = self._time(message, row[14] if count > 14 else "", observed)
        except _FieldError as error:
            return Refused(index, error.code, error.field)
        return Observation(index, code.kind, value, stamp, field, code.rank)

    def code(self, message: Message, raw: str) -> Code | str:
        """What OBX-3 as sent means, or the code of its refusal."""
        if message.separators is not STANDARD or len(raw) > _MEMO_CHARS_MAX:
            return self._code(message, raw)
        known = self._codes.get(raw)
        if known is None:
            known = self._code(message, raw)
            if len(self._codes) >= _MEMO_MAX:
                self._codes.clear()
            self._codes[raw] = known
        return known

    def unit(self, message: Message, raw: str, code: Code) -> Linear | str:
        """How a value with OBX-6 as sent becomes canonical, or the code of its refusal."""
        key = (raw, code.kind or "", code.of, code.unit)
        standard = message.separators is STANDARD and len(raw) <= _MEMO_CHARS_MAX
        known = self._units.get(key) if standard else None
        if known is None:
            known = _unit(message, raw, code)
            if len(self._units) >= _MEMO_MAX:
                self._units.clear()
            if standard:
                self._units[key] = known
        return known

    def _code(self, message: Message, raw: str) -> Code | str:
        parts = [message.part(part) for part in message.components(raw)[:6]]
        parts += [""] * (6 - len(parts))
        found: list[Code] = []
        why = ""
        for identifier, name, system in (parts[:3], parts[3:]):
            if identifier or not found:
                try:
                    found.append(self.table.look_up(system, identifier, name))
                except InputError as error:
                    why = why or error.code
        if why == "code-name-mismatch" or not found:
            return why
        try:
            return agreed(found)
        except InputError as error:
            return error.code

    def _time(self, message: Message, own: str, observed: str) -> tuple[Stamp | None, str]:
        """Time and the field that gave it; most OBX of a message say the same as the one before."""
        last_own, last_observed, found = self._last_time
        if own != last_own or observed != last_observed or message.separators is not STANDARD:
            found = _time(message, own, observed)
            if message.separators is STANDARD:
                self._last_time = own, observed, found
        return found

    def _measured(self, message: Message, row: Row, status: str, *, simulated: bool) -> str:
        """Empty for a value, "unmeasured", "no-result", or the code of a refusal, by OBX-11 and OBX-8."""
        if status in UNMEASURED:
            return "unmeasured"
        if status in NO_RESULT:
            return "no-result"
        if status not in TAKEN:
            return "status-unknown"
        flags = row[8] if len(row) > 8 else ""
        if flags:
            said = {message.part(message.components(flag)[0]).upper() for flag in message.repetitions(flags)}
            if said & FLAGS_UNMEASURED:
                return "unmeasured"
            if said & FLAGS_NOT_A_PATIENT and not simulated:
                return "test-data"
            if said & FLAGS_BOUND:
                return "value-bounded"
        return ""

    def _value(self, message: Message, row: Row, value_type: str, stated: str, code: Code) -> float | None:
        assert code.kind is not None
        convert = self.unit(message, row[6] if len(row) > 6 else "", code)
        if isinstance(convert, str):
            # A source may declare "not measured" without a unit: only what is a number needs one.
            try:
                absent = read_value(message, value_type, stated, code.kind, Linear())
            except InputError:
                absent = 0.0
            if absent is None:
                return None
            raise _FieldError(convert, "OBX-6")
        try:
            return read_value(message, value_type, stated, code.kind, convert)
        except InputError as error:
            raise _FieldError(error.code, "OBX-2" if error.code == "value-type" else "OBX-5") from error


class _FieldError(Exception):
    def __init__(self, code: str, field: str) -> None:
        super().__init__(code)
        self.code = code
        self.field = field


def _unit(message: Message, raw: str, code: Code) -> Linear | str:
    """What OBX-6 means for ``code``, or the code of its refusal. A unit must be stated (HL7 7.4.2.6)."""
    parts = [message.part(part) for part in message.components(raw)] if len(raw) <= _UNIT_CHARS_MAX else []
    parts += [""] * (6 - len(parts))
    spellings = []
    for identifier, name, system in (parts[:3], parts[3:6]):
        spellings += [canonical(system_of(system), identifier), name]
    try:
        return unit_of(code, spellings)
    except InputError as error:
        return error.code


def _time(message: Message, own: str, observed: str) -> tuple[Stamp | None, str]:
    """OBX-14, else OBR-7; a day or an hour is no instant and gives way to the other."""
    for raw, field in ((own, "OBX-14"), (observed, "OBR-7")):
        if raw:
            try:
                stamp = parse_stamp(message.components(raw)[0])
            except InputError as error:
                raise _FieldError(error.code, field) from error
            if stamp is not None and stamp.instant:
                return stamp, field
    return None, ""
