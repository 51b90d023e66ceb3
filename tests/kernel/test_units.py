"""One table converts every unit that a monitor or a laboratory may state, and refuses what it does not know."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.kernel.units import FRACTIONS, SUBSTANCES, Linear, conversion
from edgeward.signal.numeric import KINDS, Kind


@pytest.mark.parametrize(
    ("value", "unit", "to", "of", "expected"),
    [
        (5.3, "kPa", "mm[Hg]", "", 39.753),
        (12.0, "265987", "mm[Hg]", "", 90.008),
        (10.0, "cmH2O", "mm[Hg]", "", 7.356),
        (98.6, "[degF]", "Cel", "", 37.0),
        (98.6, "MDC_DIM_FAHR", "Cel", "", 37.0),
        (310.15, "K", "Cel", "", 37.0),
        (36.6, "C", "Cel", "", 36.6),
        (36.6, "°C", "Cel", "", 36.6),
        (36.6, "ºC", "Cel", "", 36.6),
        (72, "bpm", "/min", "", 72),
        (72, "{beats}/min", "/min", "", 72),
        (72, "{Beats}/Min", "/min", "", 72),
        (16, "rpm", "/min", "", 16),
        (1.2, "Hz", "/min", "", 72),
        (0.21, "1", "%", "fio2", 21),
        (0.42, "L/L", "%", "hct", 42),
        (5.5, "mmol/L", "mg/dL", "glucose", 99.086),
        (100, "mg/dL", "mmol/L", "lactate", 11.227),
        (88.4, "umol/L", "mg/dL", "creatinine", 1.0),
        (88.4, "µmol/L", "mg/dL", "creatinine", 1.0),
        (7.14, "mmol/L", "mg/dL", "bun", 20.0),
        (42.9, "mg/dL", "mg/dL", "urea", 20.01),
        (7.14, "mmol/L", "mg/dL", "urea", 20.0),
        (140, "meq/L", "mmol/L", "sodium", 140),
        (4.8, "mEq/L", "mg/dL", "calcium", 9.62),
        (9.0, "mmol/L", "g/dL", "hgb", 14.5),
        (7.5, "G/L", "10*3/uL", "", 7.5),
        (7500, "/uL", "10*3/uL", "", 7.5),
        (45, "g/L", "g/dL", "", 4.5),
        (12, "ng/L", "ng/mL", "", 0.012),
        (180, "lb", "kg", "", 81.65),
        (0.5, "L", "mL", "", 500),
        (15, "{score}", "1", "", 15),
    ],
)
def test_units_of_the_field(value: float, unit: str, to: str, of: str, expected: float) -> None:
    """UCUM, MDC names and codes, and the spellings of monitors become the canonical unit."""
    assert conversion(unit, to, of)(value) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("unit", "to", "of", "code"),
    [
        ("", "mm[Hg]", "", "unit-missing"),
        (" ", "mm[Hg]", "", "unit-missing"),
        ("furlong", "mm[Hg]", "", "unit-unknown"),
        ("kPa" * 100, "mm[Hg]", "", "unit-unknown"),
        ("bpm", "mm[Hg]", "", "unit-mismatch"),
        ("%", "mm[Hg]", "etco2", "unit-mismatch"),
        ("mmol/L", "mg/dL", "", "unit-mismatch"),
        ("meq/L", "mg/dL", "glucose", "unit-mismatch"),
        ("1", "%", "perfusion", "unit-mismatch"),
        ("g/L", "10*3/uL", "wbc", "unit-mismatch"),
    ],
)
def test_what_is_not_the_unit_of_the_quantity_is_refused(unit: str, to: str, of: str, code: str) -> None:
    """No unit, an unknown one and one of another quantity are each told apart; none is guessed."""
    with pytest.raises(InputError) as refused:
        conversion(unit, to, of)
    assert refused.value.code == code


def test_every_canonical_unit_is_in_the_table() -> None:
    """A kind's own unit converts to itself to the last bit."""
    for kind, info in KINDS.items():
        assert conversion(info.unit, info.unit, kind) == Linear()


def test_substances_and_fractions_are_kinds() -> None:
    """Every name that conversion knows is a kind's, but for urea, which becomes a BUN."""
    assert set(SUBSTANCES) - {"urea"} <= {kind.value for kind in Kind}
    assert {kind for kind in FRACTIONS if KINDS[Kind(kind)].unit != "%"} == set()


@given(st.floats(90, 115))
def test_a_limit_in_fahrenheit_is_the_limit_in_celsius(value: float) -> None:
    """Conversion rounds to a millionth and keeps the order."""
    there = conversion("[degF]", "Cel")
    assert there(value) == pytest.approx((value - 32) / 1.8, abs=1e-6)
    assert there(100.4) == 38.0


@given(st.text(max_size=80))
def test_any_text_is_a_unit_or_refused(text: str) -> None:
    """No spelling crashes the table."""
    with contextlib.suppress(InputError):
        conversion(text, "mm[Hg]")
