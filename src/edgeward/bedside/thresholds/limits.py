"""What is too low or too high, and for how long: adult, paediatric by age, neonatal; never off.

Defaults are starting points that a site changes in its settings. ADR 9 gives the source of each and says which are
ours. A limit so wide that its check could never speak is refused: a check is not silenced by its limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeward.bedside.feed import Population
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT_S_MAX = 10.0
"""IEC 60601-2-27 clause 208 wants the alert for a silent, slow or fast heart within this time."""

_BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "hr_extreme_low": (20, 150),
        "hr_low": (25, 200),
        "hr_high": (60, 280),
        "hr_extreme_high": (80, 300),
        "hr_delay_s": (0, WAIT_S_MAX),
        "hr_hysteresis": (0, 20),
        "asystole_s": (1, WAIT_S_MAX),
        "vpc_high": (1, 60),
        "spo2_desat": (40, 95),
        "spo2_low": (50, 98),
        "spo2_high": (88, 100),
        "spo2_delay_s": (0, 30),
        "desat_delay_s": (0, 30),
        "rr_low": (3, 60),
        "rr_high": (15, 120),
        "rr_delay_s": (0, 30),
        "apnoea_s": (10, 40),
        "sys_extreme_low": (20, 120),
        "sys_low": (30, 150),
        "sys_high": (50, 250),
        "mean_extreme_low": (10, 100),
        "mean_low": (15, 120),
        "mean_high": (35, 200),
        "temp_low": (30, 37),
        "temp_high": (37, 42),
        "etco2_low": (5, 60),
        "etco2_high": (25, 100),
        "cvp_low": (-10, 15),
        "cvp_high": (3, 50),
        "delay_s": (0, 30),
        "lost_delay_s": (0, 60),
    }
)
_RISING: tuple[tuple[tuple[str, ...], float], ...] = (
    (("hr_extreme_low", "hr_low", "hr_high", "hr_extreme_high"), 0.0),
    (("spo2_desat", "spo2_low", "spo2_high"), 1.0),
    (("rr_low", "rr_high"), 4.0),
    (("sys_extreme_low", "sys_low", "sys_high"), 0.0),
    (("mean_extreme_low", "mean_low", "mean_high"), 0.0),
    (("temp_low", "temp_high"), 0.4),
    (("etco2_low", "etco2_high"), 4.0),
    (("cvp_low", "cvp_high"), 4.0),
)
"""Names that must rise (equal is allowed where two levels may coincide), and the least distance of neighbours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one patient; the defaults are an adult's.

    Rates per minute, pressures in mmHg, SpO2 in %, temperature in °C, ``_s`` in seconds. Below a ``low`` and above a
    ``high`` limit is a violation. ``spo2_high`` counts only while oxygen is known to be given. ``delay_s``: of
    everything that has no delay of its own; ``lost_delay_s``: how long something may be declared unmeasured before
    that is an alert of its own.

    Raises ``ConfigError`` (``setting-invalid``) for limits that do not rise or would silence a check.
    """

    hr_extreme_low: float = 40.0
    hr_low: float = 50.0
    hr_high: float = 120.0
    hr_extreme_high: float = 140.0
    hr_delay_s: float = 3.0
    hr_hysteresis: float = 3.0
    asystole_s: float = 4.0
    vpc_high: float = 10.0
    spo2_desat: float = 80.0
    spo2_low: float = 90.0
    spo2_high: float = 100.0
    spo2_delay_s: float = 10.0
    desat_delay_s: float = 10.0
    rr_low: float = 8.0
    rr_high: float = 30.0
    rr_delay_s: float = 10.0
    apnoea_s: float = 20.0
    sys_extreme_low: float = 75.0
    sys_low: float = 90.0
    sys_high: float = 160.0
    mean_extreme_low: float = 55.0
    mean_low: float = 70.0
    mean_high: float = 110.0
    temp_low: float = 36.0
    temp_high: float = 39.0
    etco2_low: float = 15.0
    etco2_high: float = 50.0
    cvp_low: float = 0.0
    cvp_high: float = 15.0
    delay_s: float = 10.0
    lost_delay_s: float = 10.0

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:  # a NaN fails it too
                raise ConfigError(
                    "setting-invalid",
                    f"{name} must lie between {lowest:g} and {highest:g}: beyond that its check would be silenced or "
                    "come too late (IEC 60601-2-27: 10 s for the heart)",
                )
        for names, distance in _RISING:
            values = [getattr(self, name) for name in names]
            if any(upper - lower < distance for lower, upper in pairwise(values)):
                raise ConfigError("setting-invalid", f"these limits must rise: {' < '.join(names)}")
        if self.hr_high - self.hr_low <= 2 * self.hr_hysteresis:
            raise ConfigError("setting-invalid", "hr_low and hr_high must be more than twice hr_hysteresis apart")

    def changed(self, changes: Mapping[str, float]) -> Limits:
        """With some limits changed by name; ``ConfigError`` (``setting-unknown``, ``setting-invalid``)."""
        unknown = sorted(set(changes) - LIMIT_NAMES)
        if unknown:
            raise ConfigError(
                "setting-unknown", f"there is no limit named {', '.join(unknown)}; known: {', '.join(sorted(_BOUNDS))}"
            )
        wrong = [name for name, value in changes.items() if isinstance(value, bool) or not _is_number(value)]
        if wrong:
            raise ConfigError("setting-invalid", f"{', '.join(wrong)} must be numbers")
        return replace(self, **{name: float(value) for name, value in changes.items()})

    def by_kind(self) -> dict[Kind, tuple[float | None, float | None]]:
        """The first limits of each kind, low and high, as a page draws them beside its values."""
        return {
            kind: (getattr(self, f"{name}_low", None), getattr(self, f"{name}_high", None))
            for name, kinds in _DRAWN.items()
            for kind in kinds
        }


_DRAWN = {
    "hr": (Kind.HR, Kind.PULSE),
    "spo2": (Kind.SPO2,),
    "rr": (Kind.RR,),
    "sys": (Kind.ABP_SYS, Kind.NIBP_SYS),
    "mean": (Kind.ABP_MEAN, Kind.NIBP_MEAN),
    "temp": (Kind.TEMP,),
    "etco2": (Kind.ETCO2,),
    "cvp": (Kind.CVP,),
}
LIMIT_NAMES = frozenset(_BOUNDS)
assert {item.name for item in fields(Limits)} == LIMIT_NAMES, "every limit has bounds"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


ADULT = Limits()

_CHILD = ADULT.changed({"rr_low": 10, "rr_high": 50, "temp_high": 38.5, "vpc_high": 5})
_AGE_BANDS: tuple[tuple[float, Limits], ...] = tuple(
    (
        below_y,
        _CHILD.changed(
            {
                "hr_extreme_low": heart[0],
                "hr_low": heart[1],
                "hr_high": heart[2],
                "hr_extreme_high": heart[3],
                "rr_high": rr_high,
                "sys_extreme_low": systolic[0],
                "sys_low": systolic[1],
                "sys_high": systolic[2],
                "mean_extreme_low": mean[0],
                "mean_low": mean[1],
                "mean_high": mean[2],
            }
        ),
    )
    for below_y, heart, rr_high, systolic, mean in (
        (1 / 12, (80, 115, 170, 190), 60, (45, 60, 100), (30, 40, 80)),
        (3 / 12, (80, 105, 170, 190), 55, (45, 70, 100), (30, 40, 80)),
        (6 / 12, (70, 105, 170, 180), 55, (60, 70, 120), (30, 40, 80)),
        (1.0, (70, 100, 165, 180), 50, (60, 70, 120), (30, 40, 80)),
        (2.0, (60, 90, 165, 170), 50, (65, 72, 125), (31, 41, 90)),
        (3.0, (60, 85, 155, 170), 50, (65, 74, 125), (33, 43, 90)),
        (5.0, (60, 75, 155, 170), 50, (65, 76, 125), (34, 44, 90)),
        (9.0, (50, 70, 140, 150), 50, (70, 80, 140), (37, 47, 90)),
        (12.0, (50, 65, 130, 150), 50, (70, 88, 140), (43, 53, 90)),
        (15.0, (40, 60, 125, 140), 50, (75, 90, 150), (48, 58, 110)),
        (math.inf, (40, 60, 115, 140), 50, (75, 90, 150), (52, 62, 110)),
    )
)
"""By the age in years that a band ends before (ADR 9 names the source of each column)."""

PAEDIATRIC_UNKNOWN_AGE = _CHILD.changed(
    {
        "hr_extreme_low": 60,
        "hr_low": 75,
        "hr_high": 160,
        "hr_extreme_high": 180,
        "sys_extreme_low": 60,
        "sys_low": 72,
        "sys_high": 140,
        "mean_extreme_low": 40,
        "mean_low": 50,
        "mean_high": 90,
    }
)
"""A child of unknown age: the one paediatric set that monitors ship (heart rate 75 to 160/min)."""

NEONATAL = Limits(
    hr_extreme_low=80,
    hr_low=100,
    hr_high=200,
    hr_extreme_high=230,
    asystole_s=3,
    vpc_high=5,
    spo2_desat=80,
    spo2_low=85,
    spo2_high=95,
    spo2_delay_s=15,
    rr_low=30,
    rr_high=70,
    sys_extreme_low=45,
    sys_low=50,
    sys_high=100,
    mean_extreme_low=25,
    mean_low=30,
    mean_high=70,
    temp_low=36,
    temp_high=38,
)


def defaults(population: Population, age_y: float | None = None) -> Limits:
    """The limits that a patient has before a site or a bed changes any; ``age_y`` in years matters for children."""
    if population is Population.ADULT:
        return ADULT
    if population is Population.NEONATAL:
        return NEONATAL
    if age_y is None:
        return PAEDIATRIC_UNKNOWN_AGE
    return next((limits for below_y, limits in _AGE_BANDS if age_y < below_y), PAEDIATRIC_UNKNOWN_AGE)


def every_default(population: Population) -> tuple[Limits, ...]:
    """Every set that ``defaults`` may give for a population, so that changes can be tried on all of them."""
    if population is Population.PAEDIATRIC:
        return (PAEDIATRIC_UNKNOWN_AGE, *(limits for _, limits in _AGE_BANDS))
    return (defaults(population),)
