"""The only place that converts units: UCUM codes to Edgeward's canonical units.

Canonical: potential in mV, rate in Hz, time in ns or ms. A missing or unknown unit is an ``InputError``, never a
guess. Source: UCUM 2.1, table 4 (metric prefixes); IEEE 11073-10101 for the MDC names of the same units.
"""

from __future__ import annotations

from edgeward.kernel.errors import InputError

# UCUM code, MDC reference id and the spellings WFDB headers use → factor to millivolts.
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
