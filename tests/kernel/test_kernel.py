"""Units are converted in one place, and errors say who must act."""

from __future__ import annotations

import pickle

import pytest

from edgeward.kernel import errors
from edgeward.kernel.units import millivolts_per
from edgeward.trust.transport import UnreachableError


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("mV", 1.0), ("uV", 1e-3), ("µV", 1e-3), ("μV", 1e-3), ("V", 1e3), ("MDC_DIM_MICRO_VOLT", 1e-3)],
)
def test_potentials_become_millivolts(unit: str, factor: float) -> None:
    """Every spelling of a potential has one factor."""
    assert millivolts_per(unit) == factor


@pytest.mark.parametrize("unit", ["", "mmHg", "MV", "bpm"])
def test_an_unknown_unit_is_never_guessed(unit: str) -> None:
    """Not even megavolt for millivolt."""
    with pytest.raises(errors.InputError) as refused:
        millivolts_per(unit)
    assert refused.value.code == "unit-unknown"


def test_each_error_class_has_an_exit_code_of_its_own() -> None:
    """A script can tell who must act by the exit code alone; 1 is kept for broken bounds."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgewardError)
    ]
    own = [kind.exit_code for kind in kinds if kind is not errors.EdgewardError]
    assert len(set(own)) == len(own)
    assert 1 not in own


def test_an_error_crosses_to_another_process_whole() -> None:
    """Class, code and message arrive; an error that cannot be unpickled breaks a pool of processes for all."""
    for error in (
        errors.BundleError("model-unknown", "the bundle has no such model"),
        errors.ConfigError("disk-full", "no room left"),
        UnreachableError("refused"),
    ):
        there = pickle.loads(pickle.dumps(error))
        assert (type(there), there.code, str(there)) == (type(error), error.code, str(error))
