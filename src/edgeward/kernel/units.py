"""The only place that converts units: UCUM codes, MDC units and the plain spellings of monitors, one table for all.

Canonical: potential in mV, rate in Hz, time in ns or ms; a numeric in its kind's unit (``signal/numeric.py``). A
missing or unknown unit is an ``InputError``, never a guess.

A spelling is looked up as it stands, then without regard to case, after UCUM annotations (``{beats}``) are dropped.
What would be ambiguous by itself ("C" is Celsius to a monitor, coulomb to UCUM) is harmless here, for the reader says
which quantity it expects and any other is refused.

Sources: UCUM 2.1 (factors, tables 2 to 7, annotations 1.3); IEEE 11073-10101 annex A (MDC units: context-free code =
4 × 65536 + term); molar masses from IUPAC 2021 atomic weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

# UCUM code, MDC reference id and context-free code, and the spellings WFDB headers use → factor to millivolts.
_MILLIVOLTS_PER_UNIT: dict[str, float] = {
    "V": 1e3,
    "mV": 1.0,
    "uV": 1e-3,
    "µV": 1e-3,  # U+00B5, micro sign
    "μV": 1e-3,  # U+03BC, Greek mu
    "nV": 1e-6,
    "MDC_DIM_VOLT": 1e3,
    "MDC_DIM_MILLI_VOLT": 1.0,
    "MDC_DIM_MICRO_VOLT": 1e-3,
    "266400": 1e3,
    "266418": 1.0,
    "266419": 1e-3,
}


def millivolts_per(unit: str) -> float:
    """Factor by which a value in ``unit`` is multiplied to become millivolts.

    Raises ``InputError`` (``unit-unknown``) for anything that is not a unit of electric potential.
    """
    factor = _MILLIVOLTS_PER_UNIT.get(unit.strip())
    if factor is None:
        known = ", ".join(sorted(set(_MILLIVOLTS_PER_UNIT)))
        raise InputError(
            "unit-unknown",
            f"an ECG channel states a unit that is not an electric potential (known: {known}); "
            "correct the unit in the source or leave this channel out",
        )
    return factor


@dataclass(frozen=True, slots=True)
class Linear:
    """A conversion: ``value × factor + offset``, rounded to a millionth so that 100.4 °F is 38 °C and no less."""

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        """The converted value; unchanged, to the last bit, where nothing is to be converted."""
        if self.factor == 1.0 and self.offset == 0.0:
            return value
        return round(value * self.factor + self.offset, 6)


@dataclass(frozen=True, slots=True)
class Substance:
    """What links mass to amount: molar mass in g/mol, charge number for equivalents.

    ``counted_g_per_mol``: mass of the part that the canonical unit counts, where it is not the whole molecule (urea is
    reported as its nitrogen).
    """

    g_per_mol: float
    charge: int = 0
    counted_g_per_mol: float | None = None


SUBSTANCES: Mapping[str, Substance] = MappingProxyType(
    {
        "albumin": Substance(66_500.0),
        "bilirubin": Substance(584.66),
        "bilirubin_direct": Substance(584.66),
        "bun": Substance(28.014),  # two nitrogen atoms to each urea: 1 mmol/L of urea is 2.80 mg/dL of its nitrogen
        "urea": Substance(60.056, counted_g_per_mol=28.014),
        "calcium": Substance(40.078, charge=2),
        "chloride": Substance(35.45, charge=1),
        "creatinine": Substance(113.12),
        "fibrinogen": Substance(340_000.0),
        "glucose": Substance(180.156),
        "hco3": Substance(61.016, charge=1),
        "base_excess": Substance(61.016, charge=1),
        "hgb": Substance(16_114.5),  # the monomer, as laboratories that report mmol/L count it
        "lactate": Substance(89.07, charge=1),
        "magnesium": Substance(24.305, charge=2),
        "phosphate": Substance(30.974),  # as phosphorus, which is what mg/dL means
        "potassium": Substance(39.098, charge=1),
        "sodium": Substance(22.990, charge=1),
    }
)
"""By kind's short name, and "urea" for a urea that is to become a BUN."""

FRACTIONS = frozenset({"spo2", "sao2", "fio2", "hct"})
"""Kinds in % whose dimensionless value is a fraction of one. A perfusion index without a unit is not among them."""


@dataclass(frozen=True, slots=True)
class _Unit:
    quantity: str
    factor: float
    offset: float = 0.0


# quantity: its base unit, then factor (and offset) to the base with every spelling: UCUM, MDC name, MDC code, others.
_TABLE: tuple[tuple[str, float, float, str], ...] = (
    ("rate", 1, 0, "/min 1/min min-1 bpm bt/min brpm rpm beats/min beat/min breaths/min breath/min resp/min pulse/min"),
    ("rate", 1, 0, "MDC_DIM_BEAT_PER_MIN 264864 MDC_DIM_RESP_PER_MIN 264928 MDC_DIM_PULS_PER_MIN 264896"),
    ("rate", 60, 0, "/s Hz MDC_DIM_HZ 264640"),
    ("share", 1, 0, "% pct percent MDC_DIM_PERCENT 262688"),
    ("share", 100, 0, "L/L mL/mL"),
    ("number", 1, 0, "1 MDC_DIM_DIMLESS 262656"),
    ("pressure", 1, 0, "mm[Hg] mmHg torr MDC_DIM_MMHG 266016"),
    ("pressure", 1 / 0.133322, 0, "kPa MDC_DIM_KILO_PASCAL 265987"),
    ("pressure", 0.1 / 0.133322, 0, "hPa mbar MDC_DIM_HECTO_PASCAL 265986"),
    ("pressure", 0.001 / 0.133322, 0, "Pa MDC_DIM_PASCAL 265984"),
    ("pressure", 0.0980665 / 0.133322, 0, "cm[H2O] cmH2O MDC_DIM_CM_H2O 266048"),
    ("temperature", 1, 0, "Cel °C degC C celsius ℃ MDC_DIM_DEGC 268192"),
    ("temperature", 5 / 9, -160 / 9, "[degF] °F degF F fahrenheit ℉ MDC_DIM_FAHR 266560"),
    ("temperature", 1, -273.15, "K MDC_DIM_KELVIN 266528"),
    ("time", 1, 0, "s sec MDC_DIM_SEC 264320"),
    ("time", 0.001, 0, "ms msec MDC_DIM_MILLI_SEC 264338"),
    ("time", 60, 0, "min MDC_DIM_MIN 264352"),
    ("volume", 1, 0, "mL cc cm3 MDC_DIM_MILLI_L 263762"),
    ("volume", 1000, 0, "L MDC_DIM_L 263744"),
    ("flow", 1, 0, "L/min lpm MDC_DIM_L_PER_MIN 265216"),
    ("flow", 0.001, 0, "mL/min MDC_DIM_MILLI_L_PER_MIN 265234"),
    ("mass", 1, 0, "kg MDC_DIM_KILO_G 263875"),
    ("mass", 0.001, 0, "g MDC_DIM_G MDC_DIM_X_G 263872"),
    ("mass", 0.45359237, 0, "[lb_av] lb lbs MDC_DIM_LB 263904"),
    ("mass-concentration", 1, 0, "g/L mg/mL MDC_DIM_G_PER_L"),
    ("mass-concentration", 10, 0, "g/dL g% MDC_DIM_G_PER_DL MDC_DIM_X_G_PER_DL 264256"),
    ("mass-concentration", 0.01, 0, "mg/dL mg% MDC_DIM_MILLI_G_PER_DL 264274"),
    ("mass-concentration", 0.001, 0, "mg/L ug/mL"),
    ("mass-concentration", 1e-6, 0, "ug/L ng/mL"),
    ("mass-concentration", 1e-9, 0, "ng/L pg/mL"),
    ("amount-concentration", 1, 0, "mmol/L mM MDC_DIM_MILLI_MOLE_PER_L 266866"),
    ("amount-concentration", 1000, 0, "mol/L"),
    ("amount-concentration", 0.001, 0, "umol/L MDC_DIM_MICRO_MOLE_PER_L 266867"),
    ("equivalents", 1, 0, "meq/L"),
    ("activity", 1, 0, "U/L [IU]/L IU/L [iU]/L MDC_DIM_INTL_UNIT_PER_L"),
    ("activity", 60, 0, "ukat/L"),
    ("cells", 1, 0, "10*3/uL 10^3/uL 10E3/uL x10E3/uL K/uL thou/uL 10*9/L 10^9/L 10E9/L x10E9/L G/L /nL"),
    ("cells", 1, 0, "10*3/mm3 10^3/mm3 K/mm3"),
    ("cells", 0.001, 0, "/uL cells/uL /mm3 10*6/L 10^6/L"),
)

_ANNOTATION = re.compile(r"\{[^{}]*\}")
_ALIKE = str.maketrans({"µ": "u", "μ": "u", "º": "°", "˚": "°", " ": None})
_SPELLING_CHARS_MAX = 64

_EXACT: dict[str, _Unit] = {
    spelling: _Unit(quantity, factor, offset)
    for quantity, factor, offset, spellings in _TABLE
    for spelling in spellings.split()
}
# Without regard to case; what differs only in case (g/L is gram, G/L is giga) must be written exactly.
_FOLDED: dict[str, _Unit] = {
    spelling.casefold(): unit
    for spelling, unit in _EXACT.items()
    if all(unit == other for name, other in _EXACT.items() if name.casefold() == spelling.casefold())
}
assert sum(len(spellings.split()) for *_, spellings in _TABLE) == len(_EXACT), "a spelling stands for two units"


def conversion(unit: str, to: str, of: str = "") -> Linear:
    """How a value stated in ``unit`` becomes one in ``to``; ``of``: kind's short name or key of ``SUBSTANCES``.

    ``of`` allows mass ↔ amount ↔ equivalents of that substance, and fraction → percent for ``FRACTIONS``. Raises
    ``InputError``: ``unit-missing`` (empty), ``unit-unknown`` (not in the table), ``unit-mismatch`` (another quantity).
    """
    if not unit.strip():
        raise InputError("unit-missing", "the value states no unit; a unit is never guessed: have the source state it")
    source, target = _find(unit), _find(to)
    if target is None:
        raise InputError("unit-unknown", f"{to!r} is not a unit of Edgeward's table (kernel/units.py)")
    if source is None:
        raise InputError(
            "unit-unknown",
            "the value states a unit that is not in the table (kernel/units.py); have the source use UCUM",
        )
    scale = _across(source.quantity, target.quantity, of)
    if source.quantity == target.quantity and scale is None:
        return Linear(source.factor / target.factor, (source.offset - target.offset) / target.factor)
    if scale is None:
        raise InputError(
            "unit-mismatch",
            f"the value states a unit of {source.quantity} where one of {target.quantity} belongs; "
            "correct the code or the unit in the source",
        )
    return Linear(source.factor * scale / target.factor)


def _across(source: str, target: str, of: str) -> float | None:
    """Factor from base of one quantity to base of another for this substance; None where there is none."""
    if (source, target) == ("number", "share"):
        return 100.0 if of in FRACTIONS else None
    substance = SUBSTANCES.get(of)
    if substance is None:
        return None
    counted = substance.counted_g_per_mol or substance.g_per_mol
    if source == target == "mass-concentration" and substance.counted_g_per_mol:
        return counted / substance.g_per_mol
    if (source, target) == ("mass-concentration", "amount-concentration"):
        return 1000.0 / substance.g_per_mol
    if (source, target) == ("amount-concentration", "mass-concentration"):
        return counted / 1000.0
    if substance.charge and (source, target) == ("equivalents", "amount-concentration"):
        return 1.0 / substance.charge
    if substance.charge and (source, target) == ("equivalents", "mass-concentration"):
        return counted / 1000.0 / substance.charge
    return None


def _find(spelling: str) -> _Unit | None:
    if len(spelling) > _SPELLING_CHARS_MAX:
        return None
    plain = _ANNOTATION.sub("", spelling.strip()).translate(_ALIKE)
    if not plain:  # UCUM 1.3: an annotation alone stands for the unit 1
        return _EXACT["1"] if spelling.strip() else None
    return _EXACT.get(plain) or _FOLDED.get(plain.casefold())
