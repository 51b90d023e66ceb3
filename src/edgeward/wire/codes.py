"""Which kind of numeric a code means: MDC, LOINC and local codes → ``Kind``.

Three rules keep a wrong number out:

* the code and its name must agree. A sample with SpO2's code 150456 under the name CO2 exists in the field; nobody can
  say which of the two is right, so it is refused;
* a code that is not in the table is refused, never guessed from its name;
* what is known and of no use here (skin temperature, a device's own place in the message) is left aside, not refused.

The table is ``codes.csv`` in this package; a site adds to it, or takes precedence over it, with ``SiteCode`` lines
(table ``[[codes]]`` of the settings).

Sources: IEEE 11073-10101 (reference ids; context-free code = partition × 65536 + term), OpenICE's list of terms
(BSD-2-Clause, codes-LICENSE.txt), LOINC 2.77, FHIR R4 vital signs (which LOINC codes are the broad ones).
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.kernel.limits import CODE_CHARS_MAX, SITE_CODES_MAX
from edgeward.kernel.units import Linear, conversion
from edgeward.signal.numeric import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

IGNORE = "ignore"
"""What a site writes for ``kind`` where a code is to be left aside without a word."""

_BROADER: dict[str, frozenset[str]] = {
    Kind.HR: frozenset({Kind.PULSE}),
    Kind.SAO2: frozenset({Kind.SPO2}),
    Kind.NIBP_SYS: frozenset({Kind.ABP_SYS}),
    Kind.NIBP_DIA: frozenset({Kind.ABP_DIA}),
    Kind.NIBP_MEAN: frozenset({Kind.ABP_MEAN}),
}
"""What else a broad code of a kind may turn out to be."""

_SYSTEMS = {"MDIL": "MDC", "ISO11073": "MDC", "11073": "MDC", "LOINC": "LN", "LNC": "LN"}
_HEX = re.compile(r"^([0-9a-fA-F]{4})-([0-9a-fA-F]{4})$")
_PAIR = re.compile(r"^(\d{1,3})::(\d{1,5})$")
_PARTITION_OBJECTS, _PARTITION_INFRASTRUCTURE = 1, 8
_PRIVATE_TERM = 0xF000
"""Terms from here to the end of a partition are each maker's own: such a code means something only with its name."""


@dataclass(frozen=True, slots=True)
class Code:
    """What is known of one code.

    ``kind`` None: known, and left aside. ``rank``: of several sources of one kind at one instant the lowest counts.
    ``of``: substance for unit conversion (``units.SUBSTANCES``). ``broad``: another coding of the same observation may
    say more. ``unit``: what the source means where it states none. ``names``: what agrees with the code, squeezed;
    empty: any name. ``note``: for people.
    """

    system: str
    code: str
    kind: Kind | None
    rank: int = 0
    of: str = ""
    broad: bool = False
    unit: str = ""
    names: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True, slots=True)
class SiteCode:
    """One line of a site's ``[[codes]]``, checked.

    ``system`` and ``code`` as the source writes them; ``name``: only where the source's name is this one (empty: any);
    ``kind`` None: leave aside; ``unit``: what is meant where the source states none.
    """

    system: str
    code: str
    name: str
    kind: Kind | None
    unit: str


@dataclass(slots=True)
class CodeTable:
    """Built-in codes and a site's own."""

    site: tuple[SiteCode, ...] = ()
    _by_code: dict[tuple[str, str], list[Code]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_code = {key: [code] for key, code in _built_in().items()}
        # In front of what is built in, lines with a name before lines without.
        for line in sorted(self.site, key=lambda line: bool(line.name)):
            names = frozenset({squeeze(line.name)}) if line.name else frozenset()
            kind = line.kind
            system = _system(line.system, line.name)
            code = Code(system, canonical(system, line.code), kind, of=kind or "", unit=line.unit, names=names)
            self._by_code.setdefault((code.system, code.code), []).insert(0, code)

    def look_up(self, system: str, code: str, name: str = "") -> Code:
        """What ``code`` of ``system`` means under ``name`` (empty: the source gives none).

        Raises ``InputError``: ``code-missing``, ``code-unknown``, ``code-name-mismatch``.
        """
        if not code:
            raise InputError(
                "code-missing", "an observation without a code cannot be told apart; have the source code it"
            )
        if max(len(system), len(code), len(name)) > CODE_CHARS_MAX:
            raise InputError(
                "code-unknown", f"a code, its system and its name have at most {CODE_CHARS_MAX} characters"
            )
        plain = _system(system, name)
        key = (plain, canonical(plain, code))
        entries = self._by_code.get(key)
        if entries is None:
            if plain == "MDC" and _is_structure(key[1]):
                return Code(plain, key[1], None, note="part of the device or of the message")
            raise InputError(
                "code-unknown",
                "a code is in neither the built-in table nor the site's; add a line to [[codes]] of the settings",
            )
        squeezed = squeeze(name)
        for entry in entries:
            if _agrees(entry, squeezed):
                return entry
        raise InputError(
            "code-name-mismatch",
            "a code and its name do not agree, so either may be wrong: correct the source, "
            "or vouch for the pair with a line of [[codes]] that has both",
        )


def agreed(codings: Sequence[Code]) -> Code:
    """What several codings of one observation say together: they name one kind, or a broad one gives way.

    "Oxygen saturation in arterial blood" beside "… by pulse oximetry" is an SpO2. Raises ``InputError``
    (``code-contradiction``) where they name different things; ``codings`` holds at least one.
    """
    used = [code for code in codings if code.kind is not None]
    if not used:
        return codings[0]
    chosen = next((code for code in used if not code.broad), used[0])
    for code in used:
        relatives = _BROADER.get(code.kind or "", frozenset()) if code.broad else frozenset()
        if code.kind is not chosen.kind and chosen.kind not in relatives:
            raise InputError("code-contradiction", "an observation has codings that name different things (OBX-3)")
    return chosen


def unit_of(code: Code, spellings: Sequence[str]) -> Linear:
    """How a value of ``code`` stated in ``spellings`` of one unit becomes canonical; empty ones are left aside.

    Every spelling that is known must mean the same. Where there is none, the table's assumed unit counts; what is
    without dimension needs none (UCUM 1.2). Raises ``InputError``: ``unit-missing``, ``unit-unknown``,
    ``unit-mismatch``, ``unit-contradiction``.
    """
    assert code.kind is not None
    to = KINDS[code.kind].unit
    stated = [spelling for spelling in spellings if spelling] or ([code.unit] if code.unit else [])
    if not stated:
        if to == "1":
            return Linear()
        raise InputError("unit-missing", "the value states no unit; a unit is never guessed: have the source state it")
    meant: set[Linear] = set()
    unknown: InputError | None = None
    for spelling in stated:
        try:
            meant.add(conversion(spelling, to, code.of or code.kind))
        except InputError as error:
            if error.code == "unit-mismatch":
                raise
            unknown = error
    if len(meant) > 1:
        raise InputError("unit-contradiction", "the value states two units that differ; correct the source")
    if unknown is not None and not meant:
        raise unknown
    return meant.pop()


def system_of(written: str) -> str:
    """The coding system in one spelling: "MDC", "LN", or as written, in capitals."""
    plain = written.strip().upper()
    return _SYSTEMS.get(plain, plain)


def canonical(system: str, code: str) -> str:
    """A code in one spelling: MDC's partition and term ("2::16770", "0002-4182") become the context-free code."""
    if system == "MDC":
        for pattern, base in ((_HEX, 16), (_PAIR, 10)):
            match = pattern.match(code)
            if match is not None:
                return str((int(match.group(1), base) << 16) + int(match.group(2), base))
    return code


def squeeze(name: str) -> str:
    """A name without case, spaces and punctuation, for comparing."""
    return "".join(char for char in name.casefold() if char.isalnum())


def site_codes(rows: Iterable[Mapping[str, Any]]) -> tuple[SiteCode, ...]:
    """Check the rows of a site's ``[[codes]]``: ``code`` and ``kind``, and where needed ``system``, ``name``, ``unit``.

    Raises ``ConfigError`` (``codes-invalid``) that says which row and why.
    """
    checked: list[SiteCode] = []
    for number, row in enumerate(rows, 1):
        if number > SITE_CODES_MAX:
            raise ConfigError("codes-invalid", f"[[codes]] has more than {SITE_CODES_MAX} rows")
        line = _site_code(row, f"[[codes]] row {number}")
        if any(
            (line.system, line.code, squeeze(line.name)) == (old.system, old.code, squeeze(old.name)) for old in checked
        ):
            raise ConfigError("codes-invalid", f"[[codes]] row {number} says again what an earlier row says")
        checked.append(line)
    return tuple(checked)


def _site_code(row: Mapping[str, Any], where: str) -> SiteCode:
    known = {"system", "code", "name", "kind", "unit"}
    unknown = set(row) - known
    if unknown:
        raise ConfigError("codes-invalid", f"{where}: unknown {sorted(unknown)}; known: {', '.join(sorted(known))}")
    texts = {key: row.get(key, "") for key in known}
    if not all(isinstance(value, str) and len(value) <= CODE_CHARS_MAX for value in texts.values()):
        raise ConfigError("codes-invalid", f"{where}: every value is a text of at most {CODE_CHARS_MAX} characters")
    texts = {key: value.strip() for key, value in texts.items()}
    if not texts["code"] or not texts["kind"]:
        raise ConfigError("codes-invalid", f"{where}: code and kind are needed")
    if texts["kind"] == IGNORE:
        kind = None
    else:
        try:
            kind = Kind(texts["kind"])
        except ValueError as error:
            names = ", ".join(kind.value for kind in Kind)
            raise ConfigError(
                "codes-invalid", f"{where}: no kind {texts['kind']!r}; known: {IGNORE}, {names}"
            ) from error
    if texts["unit"]:
        if kind is None:
            raise ConfigError("codes-invalid", f"{where}: a code that is left aside needs no unit")
        try:
            conversion(texts["unit"], KINDS[kind].unit, kind)
        except InputError as error:
            raise ConfigError(
                "codes-invalid", f"{where}: {texts['unit']!r} is no unit of {kind.value} [{error.code}]"
            ) from error
    return SiteCode(system_of(texts["system"]), texts["code"], texts["name"], kind, texts["unit"])


def _system(written: str, name: str) -> str:
    plain = system_of(written)
    return "MDC" if not plain and name.startswith("MDC_") else plain  # a reference id names its own system


def _agrees(entry: Code, squeezed: str) -> bool:
    if not entry.names:
        return True
    if squeezed:
        return squeezed in entry.names
    # Without a name the code stands alone, unless only its maker could say what it means.
    private = entry.system == "MDC" and entry.code.isdecimal() and int(entry.code) % 65536 >= _PRIVATE_TERM
    return not private


def _is_structure(code: str) -> bool:
    """Whether an MDC code is of the device (partition 1) or the message (8), and so no observation of a patient."""
    return code.isdecimal() and len(code) < 10 and int(code) >> 16 in {_PARTITION_OBJECTS, _PARTITION_INFRASTRUCTURE}


@cache
def _built_in() -> Mapping[tuple[str, str], Code]:
    text = files(__package__).joinpath("codes.csv").read_text("utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    labels = {row["kind"]: row["names"] for row in rows if row["system"] == "name"}
    table: dict[tuple[str, str], Code] = {}
    for row in rows:
        if row["system"] == "name":
            continue
        kind = None if row["kind"] == "-" else Kind(row["kind"])
        names = [*row["names"].split("|"), *(labels[kind].split("|") if kind else [])]
        table[row["system"], row["code"]] = Code(
            row["system"],
            row["code"],
            kind,
            rank=int(row["rank"] or 0),
            of=row["of"] or (kind or ""),
            broad=bool(row["broad"]),
            names=frozenset(squeezed for squeezed in map(squeeze, names) if squeezed),
            note=row["note"],
        )
    return table
