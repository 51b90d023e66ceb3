"""The checks that a patient's limits make: which numerics against which limit, how long, how urgent. Data, not code.

Priorities follow table 1 of IEC 60601-1-8 clause 6.1.2 (harm × onset): a heart or a breath that stops, an extreme
rate, deep desaturation and extreme hypotension can do irreversible harm at once or soon: high. Rates, saturation and
pressures beyond their limits: medium. Fever, hypothermia, central venous pressure and ectopic beats harm late: low.
What is no longer measured is an alert of its own, technical, of medium priority where a life may hang on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.priority import Priority
from edgeward.kernel.clock import NS_PER_S
from edgeward.signal.news2 import KINDS_USED
from edgeward.signal.numeric import KINDS, Kind

if TYPE_CHECKING:
    from edgeward.bedside.thresholds.limits import Limits

_RATE = (Kind.HR, Kind.PULSE)
_SYSTOLIC = (Kind.ABP_SYS, Kind.NIBP_SYS)
_MEAN = (Kind.ABP_MEAN, Kind.NIBP_MEAN)
_CUFF = frozenset({Kind.NIBP_SYS, Kind.NIBP_MEAN})
_BEAT_WITHIN_S = 2.0
"""Asystole ends with a beat, so when less than this has passed without one; a source never tells a shorter silence
without a beat (``Watch.silence_s``)."""
_HIGH, _MEDIUM, _LOW = Priority.HIGH, Priority.MEDIUM, Priority.LOW
_BELOW, _ABOVE = True, False


@dataclass(frozen=True, slots=True)
class Check:
    """One limit.

    ``kinds``: what it looks at, the preferred first; ``raise_at``: strictly beyond it is a violation; ``clear_at``: a
    raised one lasts until the value is no longer beyond this (hysteresis); ``below``: beyond means less; ``worse``:
    codes of the same quantity's higher levels, which this one implies: it is not raised beside them. ``limit`` and
    ``unit``: as shown; ``shows_value``: whether the value says anything beside them.
    """

    code: str
    text: str
    priority: Priority
    kinds: tuple[Kind, ...]
    below: bool
    raise_at: float
    clear_at: float
    delay_ns: int
    limit: float
    unit: str
    worse: tuple[str, ...] = ()
    on_oxygen_only: bool = False
    shows_value: bool = True

    def violated(self, value: float, *, raised: bool) -> bool:
        """Whether ``value`` breaks the limit; a ``raised`` alert lasts up to the hysteresis."""
        edge = self.clear_at if raised else self.raise_at
        return value < edge if self.below else value > edge

    def delay_for(self, kind: Kind) -> int:
        """How long a violation seen in ``kind`` must last: a cuff measures once, so there is nothing to wait for."""
        return 0 if kind in _CUFF else self.delay_ns


@dataclass(frozen=True, slots=True)
class Measurement:
    """Something that must not go unmeasured once it was measured.

    ``kinds``: it is lost when all of these that were ever sent are; ``beside``: its loss is raised only while one of
    these is measured (where another measurement speaks for both otherwise).
    """

    code: str
    text: str
    priority: Priority
    kinds: tuple[Kind, ...]
    beside: tuple[Kind, ...] = ()


SILENT = Measurement("source-silent", "No values come from the monitor", _MEDIUM, ())
"""Everything that came regularly has stopped; it stands for every other loss."""
MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("heart-not-measured", "Heart rate not measured", _MEDIUM, (*_RATE, Kind.BEAT_SILENCE)),
    Measurement("ecg-not-measured", "ECG not measured", _LOW, (Kind.HR, Kind.BEAT_SILENCE), beside=(Kind.PULSE,)),
    Measurement("spo2-not-measured", "SpO2 not measured", _MEDIUM, (Kind.SPO2,)),
    Measurement(
        "abp-not-measured", "Arterial pressure not measured", _MEDIUM, (Kind.ABP_SYS, Kind.ABP_MEAN, Kind.ABP_DIA)
    ),
    Measurement("rr-not-measured", "Respiration not measured", _LOW, (Kind.RR,)),
    Measurement("etco2-not-measured", "End-tidal CO2 not measured", _LOW, (Kind.ETCO2,)),
    Measurement("temp-not-measured", "Temperature not measured", _LOW, (Kind.TEMP,)),
    Measurement("cvp-not-measured", "Central venous pressure not measured", _LOW, (Kind.CVP,)),
)


@dataclass(frozen=True, slots=True)
class _Row:
    """A check by the name of its limit, which with hyphens is its code; ``margin`` and ``delay``: number or name."""

    limit: str
    text: str
    priority: Priority
    kinds: tuple[Kind, ...]
    below: bool
    margin: float | str
    delay: str
    worse: tuple[str, ...] = ()
    on_oxygen_only: bool = False

    def check(self, limits: Limits) -> Check:
        limit = float(getattr(limits, self.limit))
        margin = float(getattr(limits, self.margin) if isinstance(self.margin, str) else self.margin)
        return Check(
            code=self.limit.replace("_", "-"),
            text=self.text,
            priority=self.priority,
            kinds=self.kinds,
            below=self.below,
            raise_at=limit,
            clear_at=limit + margin if self.below else limit - margin,
            delay_ns=round(getattr(limits, self.delay) * NS_PER_S),
            limit=limit,
            unit=KINDS[self.kinds[0]].unit,
            worse=self.worse,
            on_oxygen_only=self.on_oxygen_only,
        )


_ROWS: tuple[_Row, ...] = (
    _Row("hr_extreme_low", "Extreme bradycardia", _HIGH, _RATE, _BELOW, "hr_hysteresis", "hr_delay_s", ("asystole",)),
    _Row("hr_extreme_high", "Extreme tachycardia", _HIGH, _RATE, _ABOVE, "hr_hysteresis", "hr_delay_s"),
    _Row(
        "hr_low",
        "Heart rate low",
        _MEDIUM,
        _RATE,
        _BELOW,
        "hr_hysteresis",
        "hr_delay_s",
        ("asystole", "hr-extreme-low"),
    ),
    _Row("hr_high", "Heart rate high", _MEDIUM, _RATE, _ABOVE, "hr_hysteresis", "hr_delay_s", ("hr-extreme-high",)),
    _Row("spo2_desat", "Desaturation", _HIGH, (Kind.SPO2,), _BELOW, 1.0, "desat_delay_s"),
    _Row("spo2_low", "SpO2 low", _MEDIUM, (Kind.SPO2,), _BELOW, 1.0, "spo2_delay_s", ("spo2-desat",)),
    _Row("spo2_high", "SpO2 high on oxygen", _MEDIUM, (Kind.SPO2,), _ABOVE, 1.0, "spo2_delay_s", on_oxygen_only=True),
    _Row("rr_low", "Respiration low", _MEDIUM, (Kind.RR,), _BELOW, 1.0, "rr_delay_s", ("apnoea",)),
    _Row("rr_high", "Respiration high", _MEDIUM, (Kind.RR,), _ABOVE, 1.0, "rr_delay_s"),
    _Row("mean_extreme_low", "Mean pressure extremely low", _HIGH, _MEAN, _BELOW, 2.0, "delay_s"),
    _Row("mean_low", "Mean pressure low", _MEDIUM, _MEAN, _BELOW, 2.0, "delay_s", ("mean-extreme-low",)),
    _Row("mean_high", "Mean pressure high", _MEDIUM, _MEAN, _ABOVE, 2.0, "delay_s"),
    _Row("sys_extreme_low", "Systolic pressure extremely low", _HIGH, _SYSTOLIC, _BELOW, 2.0, "delay_s"),
    _Row("sys_low", "Systolic pressure low", _MEDIUM, _SYSTOLIC, _BELOW, 2.0, "delay_s", ("sys-extreme-low",)),
    _Row("sys_high", "Systolic pressure high", _MEDIUM, _SYSTOLIC, _ABOVE, 2.0, "delay_s"),
    _Row("etco2_low", "End-tidal CO2 low", _MEDIUM, (Kind.ETCO2,), _BELOW, 1.0, "delay_s"),
    _Row("etco2_high", "End-tidal CO2 high", _MEDIUM, (Kind.ETCO2,), _ABOVE, 1.0, "delay_s"),
    _Row("temp_low", "Temperature low", _LOW, (Kind.TEMP,), _BELOW, 0.1, "delay_s"),
    _Row("temp_high", "Temperature high", _LOW, (Kind.TEMP,), _ABOVE, 0.1, "delay_s"),
    _Row("cvp_low", "Central venous pressure low", _LOW, (Kind.CVP,), _BELOW, 1.0, "delay_s"),
    _Row("cvp_high", "Central venous pressure high", _LOW, (Kind.CVP,), _ABOVE, 1.0, "delay_s"),
    _Row("vpc_high", "Many ventricular ectopic beats", _LOW, (Kind.VPC_RATE,), _ABOVE, 1.0, "delay_s"),
)


def checks_of(limits: Limits) -> tuple[Check, ...]:
    """Every check of a patient with ``limits``; higher levels of a quantity before the lower ones."""
    return (_asystole(limits.asystole_s), _apnoea(limits.apnoea_s), *(row.check(limits) for row in _ROWS))


def _asystole(limit_s: float) -> Check:
    return Check(
        code="asystole",
        text="No beat detected",
        priority=_HIGH,
        kinds=(Kind.BEAT_SILENCE,),
        below=_ABOVE,
        raise_at=math.nextafter(limit_s, 0.0),  # the limit itself is a violation
        clear_at=math.nextafter(min(_BEAT_WITHIN_S, limit_s / 2), 0.0),
        delay_ns=0,
        limit=limit_s,
        unit=KINDS[Kind.BEAT_SILENCE].unit,
    )


def _apnoea(limit_s: float) -> Check:
    return Check(
        code="apnoea",
        text="Apnoea",
        priority=_HIGH,
        kinds=(Kind.RR,),
        below=_BELOW,
        raise_at=1.0,  # a rate of nought
        clear_at=1.0,
        delay_ns=round(limit_s * NS_PER_S),
        limit=limit_s,
        unit="s",
        shows_value=False,
    )


KINDS_CHECKED: frozenset[Kind] = frozenset(
    {
        *_RATE,
        *_SYSTOLIC,
        *_MEAN,
        *(kind for measurement in MEASUREMENTS for kind in measurement.kinds),
        Kind.VPC_RATE,
        *KINDS_USED,
    }
)
"""Every kind that a check, a loss or NEWS2 looks at. Diastolic cuff pressure, perfusion and laboratory values have no
limits here (ADR 9)."""
