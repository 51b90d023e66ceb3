"""The hypotension question: when it is asked, the same in training, in evaluation and at the bedside.

It is asked where an arterial line has lately given mean pressures densely and none of them was low. A low pressure is
no question for a model: the threshold alert speaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Definition:
    """Minutes and mmHg of the task.

    ``limit``: a mean pressure below it is low; ``sustained``: from an episode's first low value to its last;
    ``gap``: the longest gap between neighbours that still counts as dense, before and after; ``past`` with at least
    ``values`` values, the oldest no later than ``gap`` after its beginning; ``clear``: this long before, nothing low;
    ``soonest``, ``latest``: where the episode must begin; ``every``: points lie at least so far apart; ``low``,
    ``high``: a value outside is an artefact (a flushed or open line) and counts as not measured.
    """

    limit: float = 65.0
    sustained: int = 10
    gap: int = 15
    past: int = 60
    values: int = 4
    clear: int = 60
    soonest: int = 30
    latest: int = 60
    every: int = 15
    low: float = 20.0
    high: float = 200.0


TASK = Definition()
"""The definition behind every headline figure and every bedside."""

NO_ARTERIAL_PRESSURE = "no_arterial_pressure"
SPARSE_PRESSURE = "sparse_pressure"
LOW_PRESSURE = "low_pressure"


def why_not_asked(now: int, minute: IntArray, pressure: FloatArray, task: Definition = TASK) -> str | None:
    """Why nothing is asked at minute ``now``, None where it is.

    ``minute`` (N,) ascending and not after ``now``, ``pressure`` (N,): the mean arterial pressures that count, at least
    those of the last ``past`` and ``clear`` minutes.
    """
    past = minute[minute >= now - task.past]
    if not len(past):
        return NO_ARTERIAL_PRESSURE
    if (pressure[minute >= now - task.clear] < task.limit).any():
        return LOW_PRESSURE
    widest = int(np.diff(np.append(past, now)).max())
    dense = len(past) >= task.values and past[0] <= now - task.past + task.gap and widest <= task.gap
    return None if dense else SPARSE_PRESSURE
