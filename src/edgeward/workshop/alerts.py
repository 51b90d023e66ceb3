"""How often a rule or a score would call somebody: an alert is raised where a state begins, not each hour it lasts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

HOURS_PER_DAY = 24.0
GRID = 400
"""Thresholds that ``threshold_at`` looks at, spread over the ranks of the scores."""


def raised(active: Mask, starts: Rows) -> Mask:
    """Rows (N,) in which ``active`` (N,) begins; ``starts`` (P,) are the first rows of the patients."""
    before = np.append(False, active[:-1])
    before[starts] = False
    found: Mask = active & ~before
    return found


def per_patient_day(active: Mask, starts: Rows) -> float:
    """Alerts raised per 24 rows of an hour each."""
    return float(raised(active, starts).sum()) * HOURS_PER_DAY / max(len(active), 1)


def threshold_at(scores: Array, starts: Rows, burden: float, *, share: float = 1.0) -> float:
    """The lowest score from which on no more than ``burden`` alerts per patient-day are raised, coming from above.

    A state that never ends is raised once, so that very low thresholds raise little too; those are not meant.
    ``share``: of the rows, how many it may be up in at most.
    """
    grid = np.quantile(scores, np.linspace(1.0, 0.0, GRID), method="inverted_cdf")
    chosen = float(grid[0])
    for threshold in grid:
        up = scores >= threshold
        if per_patient_day(up, starts) > burden or up.mean() > share:
            break
        chosen = float(threshold)
    return chosen
