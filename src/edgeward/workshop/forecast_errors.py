"""How far forecasts of vital signs lie from what came, beside the last value and the last hour's line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.vitals_grid import CELL_MIN, VITALS
from edgeward.workshop.hypotension_data import FORECAST

if TYPE_CHECKING:
    from edgeward.workshop.hypotension_data import Examples

FloatArray = npt.NDArray[np.float64]

CARRIED = tuple(2 * [vital.name for vital in VITALS].index(name) for name in FORECAST)
"""Where the grid carries the vitals that are forecast; how fresh each is stands one further."""
_HOUR_CELLS = 60 // CELL_MIN


@dataclass(frozen=True, slots=True)
class Error:
    """Mean absolute error of forecasts of one vital at one horizon, canonical units, and the share within 10–90 %."""

    vital: str
    minutes: int
    values: int
    model: float
    last_value: float
    trend: float
    within: float


def forecast_errors(points: Examples, quantiles: npt.NDArray[np.float32]) -> list[Error]:
    """Errors of the middle percentile beside those of the last value and of the last hour's line."""
    spread = {vital.name: vital.spread for vital in VITALS}
    out = []
    grid, after = points.grid.astype(np.float64), points.after.astype(np.float64)
    for column, name in enumerate(FORECAST):
        channel = CARRIED[column]
        carried, fresh = grid[:, -1, channel], grid[:, -1, channel + 1] > 0
        slope = _slope(grid[:, -_HOUR_CELLS:, channel], grid[:, -_HOUR_CELLS:, channel + 1] == 1.0)
        for horizon in range(after.shape[1]):
            came = after[:, horizon, column]
            there = np.isfinite(came) & fresh
            if not there.any():
                continue
            low, middle, high = (quantiles[there, q, horizon, column] for q in range(3))
            trend = carried[there] + slope[there] * (horizon + 1)
            scale = spread[name]
            out.append(
                Error(
                    name,
                    CELL_MIN * (horizon + 1),
                    int(there.sum()),
                    scale * float(np.abs(came[there] - middle).mean()),
                    scale * float(np.abs(came[there] - carried[there]).mean()),
                    scale * float(np.abs(came[there] - trend).mean()),
                    float(((came[there] >= low) & (came[there] <= high)).mean()),
                )
            )
    return out


def _slope(values: FloatArray, measured: npt.NDArray[np.bool_]) -> FloatArray:
    """Least-squares slope per cell of the measured cells (N,); 0 with fewer than two."""
    position = np.arange(values.shape[1])[np.newaxis] * np.ones_like(values)
    count = np.maximum(measured.sum(axis=1, keepdims=True), 1)
    offset = np.where(measured, position - (position * measured).sum(axis=1, keepdims=True) / count, 0.0)
    whole = (offset**2).sum(axis=1)
    slope: FloatArray = np.divide((offset * values).sum(axis=1), whole, out=np.zeros(len(values)), where=whole > 0)
    return slope
