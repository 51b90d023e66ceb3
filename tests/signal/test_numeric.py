"""Numerics: every kind is known whole, and what is not measured is not a number."""

from __future__ import annotations

import math

import pytest

from edgeward.signal.numeric import ACVPU_LEVELS, KINDS, Kind, Numeric, plausible


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_range_a_unit_and_a_label(kind: Kind) -> None:
    """Nothing is measured whose unit or range is not stated."""
    info = KINDS[kind]
    assert info.low < info.high
    assert info.unit
    assert info.label


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_numeric_is_finite(value: float) -> None:
    """What is not measured is None, never a NaN that compares as false everywhere."""
    with pytest.raises(ValueError, match="finite"):
        Numeric(Kind.HR, value, 0)
    assert not plausible(Kind.HR, value)


def test_unmeasured_is_a_state_of_its_own() -> None:
    """A probe that is off gives a numeric without a value."""
    assert Numeric(Kind.SPO2, None, 5).value is None


def test_consciousness_is_five_levels() -> None:
    """ACVPU is coded 0 to 4, and nothing beyond is plausible."""
    assert plausible(Kind.ACVPU, len(ACVPU_LEVELS) - 1)
    assert not plausible(Kind.ACVPU, len(ACVPU_LEVELS))
