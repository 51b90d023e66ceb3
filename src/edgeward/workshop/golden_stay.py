"""Made-up stays for golden vectors: vital signs that wander, fall and go missing, through the real grid.

They are no model of physiology (``edgeward.testing`` has one): they only reach the range of a hypotension model's
inputs, so that a device that computes something else is found out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.vitals_grid import MINUTE_NS, Grid

FloatArray = npt.NDArray[np.float32]

STAY_MIN = 420
_FIRST_MIN = 30
_LEVELS = {
    Kind.HR: (88.0, 16.0, 0.9),
    Kind.RR: (19.0, 5.0, 0.8),
    Kind.TEMP: (37.2, 0.7, 0.15),
    Kind.ABP_SYS: (118.0, 20.0, 0.9),
    Kind.ABP_DIA: (60.0, 10.0, 0.9),
    Kind.ABP_MEAN: (79.0, 13.0, 0.9),
    Kind.NIBP_SYS: (116.0, 20.0, 0.3),
    Kind.NIBP_DIA: (61.0, 11.0, 0.3),
    Kind.NIBP_MEAN: (78.0, 13.0, 0.3),
}
"""Mean, spread, and the chance that a patient has it measured at all."""


def golden_stays(count: int, seed: int) -> dict[str, FloatArray]:
    """``grid`` (count, 60, 16) and ``features`` (count, F) of instants of made-up stays. Same seed, same arrays."""
    rng = np.random.default_rng(seed)
    per_stay = 10
    rows: list[dict[str, FloatArray]] = []
    while len(rows) < count:
        grid = Grid(None if rng.random() < 0.2 else float(rng.integers(18, 95)))
        minutes = np.sort(rng.choice(np.arange(_FIRST_MIN, STAY_MIN), per_stay, replace=False))
        series = _series(rng)
        done = 0
        for minute in minutes.tolist():
            for now in range(done, minute + 1):
                for kind, values in series.items():
                    if np.isfinite(values[now]):
                        grid.update(Numeric(kind, float(values[now]), now * MINUTE_NS))
            done = minute + 1
            rows.append(grid.window(minute * MINUTE_NS))
    return {name: np.stack([row[name] for row in rows[:count]]) for name in ("grid", "features")}


def _series(rng: np.random.Generator) -> dict[Kind, npt.NDArray[np.float64]]:
    fall = np.zeros(STAY_MIN)
    if rng.random() < 0.5:  # the pressure falls, the heart runs
        start = int(rng.integers(60, STAY_MIN - 60))
        fall[start:] = np.minimum(np.arange(STAY_MIN - start) * rng.uniform(0.05, 0.6), 35.0)
    out = {}
    for kind, (mean, spread, chance) in _LEVELS.items():
        if rng.random() > chance:
            continue
        steps = rng.standard_normal(STAY_MIN) * spread * 0.06
        values = mean + spread * rng.standard_normal() + np.cumsum(steps)
        if kind.value.startswith(("abp", "nibp")):
            values = values - fall
        elif kind is Kind.HR:
            values = values + 0.8 * fall
        every = int(rng.choice((1, 5, 15, 30, 60)))
        kept = (np.arange(STAY_MIN) % every == 0) & (rng.random(STAY_MIN) > 0.05)
        out[kind] = np.where(kept, np.maximum(values, 1.0), np.nan)
    return out
