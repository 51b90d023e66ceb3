"""Features of a stay's vital signs for boosted trees, by quarters of an hour, never by how many values came.

Two histories stand behind them: minutes of the last five hours, whose quarters end at the instant that is asked about,
and quarters of the last day. NaN is not measured.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from edgeward.signal.history import History

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

QUARTER_MIN = 15
QUARTERS = 20
HOUR_QUARTERS = 4
DAY_QUARTERS = 96

KEPT = (
    Kind.HR,
    Kind.RR,
    Kind.TEMP,
    Kind.ABP_SYS,
    Kind.ABP_DIA,
    Kind.ABP_MEAN,
    Kind.NIBP_SYS,
    Kind.NIBP_DIA,
    Kind.NIBP_MEAN,
)
"""The kinds that the grid keeps; all others pass by."""
_STATISTICS = ("mean", "low", "high", "spread", "slope")
_SPANS = (("1h", HOUR_QUARTERS), ("5h", QUARTERS))
PRESSURE = KEPT.index(Kind.ABP_MEAN)
_SHARES = (65.0, 70.0, 75.0)
FEATURES: tuple[str, ...] = (
    *(
        f"{kind.value}_{what}"
        for kind in KEPT
        for what in (
            "last",
            "age_min",
            *(f"{name}_{span}" for span, _ in _SPANS for name in _STATISTICS),
            "mean_24h",
            "low_24h",
            "mean_stay",
        )
    ),
    *(f"abp_mean_quarter_{quarter}" for quarter in range(HOUR_QUARTERS)),
    *(f"abp_mean_below_{limit:.0f}_{span}" for limit in _SHARES for span in ("1h", "5h", "24h")),
    "abp_mean_since_65_h",
    "pulse_pressure",
    "pulse_pressure_1h",
    "shock_index",
    "shock_index_1h",
    "mean_per_stay_mean",
    "age_y",
)
"""The features' names, in order. ``last``: newest value; ``spread``, ``slope`` (per hour): of quarters; ``low_24h``:
least mean of a quarter; ``below``: share of the measured quarters; ``since_65_h``: hours since a quarter below 65 mmHg
within the last day; ``mean_per_stay_mean``: of the last hour to the whole stay."""


def stay_features(minutes: History, day_quarters: History, now_ns: int, age_y: float | None) -> FloatArray:
    """The features (F,) at ``now_ns`` of two histories of ``KEPT``, advanced to it: of minutes, of quarters."""
    quarters = minutes.mean(QUARTER_MIN, QUARTERS)[0]  # (kinds, 20), newest first
    day = day_quarters.mean()[0]  # (kinds, 96)
    stay = day_quarters.own_mean()[0]
    last = day_quarters.last[0]
    age_min = np.minimum(day_quarters.age_s(now_ns)[0] / 60.0, 24 * 60.0)
    spans = [_statistics(quarters[:, :length]) for _, length in _SPANS]
    columns = [last, age_min, *(row for span in spans for row in span), _mean(day), _least(day), stay]
    per_kind = np.stack(columns, axis=1)
    hour = spans[0][0]
    values = [
        *per_kind.ravel().tolist(),
        *quarters[PRESSURE, :HOUR_QUARTERS].tolist(),
        *_shares(quarters[PRESSURE], day[PRESSURE]),
        _since_low(day[PRESSURE]),
        last[3] - last[4],
        hour[3] - hour[4],
        _ratio(last[0], last[3]),
        _ratio(hour[0], hour[3]),
        _ratio(hour[PRESSURE], stay[PRESSURE]),
        math.nan if age_y is None else age_y,
    ]
    return np.array(values, dtype=np.float32)


def _statistics(groups: Array) -> tuple[Array, ...]:
    """Mean, least, greatest, spread and slope per hour of quarters (kinds, n), newest first; NaN where undefined."""
    there = ~np.isnan(groups)
    count = there.sum(axis=1)
    filled = np.where(there, groups, 0.0)
    mean = _mean(groups)
    away = np.where(there, groups - mean[:, np.newaxis], 0.0)
    spread = np.sqrt(_divided((away**2).sum(axis=1), np.where(count > 1, count, 0)))
    hours = -np.arange(groups.shape[1]) * (QUARTER_MIN / 60.0)
    centre = _divided((there * hours).sum(axis=1), count)
    offset = np.where(there, hours - centre[:, np.newaxis], 0.0)
    slope = _divided((offset * filled).sum(axis=1), np.where(count > 2, (offset**2).sum(axis=1), 0.0))
    high = np.where(there, groups, -np.inf).max(axis=1)
    return mean, _least(groups), np.where(count > 0, high, np.nan), spread, slope


def _mean(groups: Array) -> Array:
    there = ~np.isnan(groups)
    return _divided(np.where(there, groups, 0.0).sum(axis=-1), there.sum(axis=-1))


def _least(groups: Array) -> Array:
    low: Array = np.where(np.isnan(groups), np.inf, groups).min(axis=-1)
    return np.where(np.isfinite(low), low, np.nan)


def _divided(part: Array, whole: npt.NDArray[Any]) -> Array:
    ratio: Array = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def _shares(quarters: Array, day: Array) -> list[float]:
    spans = (quarters[:HOUR_QUARTERS], quarters, day)
    return [
        float((known < limit).mean()) if len(known) else math.nan
        for limit in _SHARES
        for known in (span[~np.isnan(span)] for span in spans)
    ]


def _since_low(day: Array) -> float:
    low = np.flatnonzero(day < _SHARES[0])
    return float(low[0]) * QUARTER_MIN / 60.0 if len(low) else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
