"""The hypotension task: where its question is asked, and what came of it.

At a *decision point* an arterial line has lately given mean pressures densely and none of them was low; asked is
whether sustained hypotension begins 30 to 60 minutes later. Every figure of the definition stands in
``signal.hypotension.Definition``; docs/hypotension.md reports how the results move with them.

::

        past 60 min: dense, none low           too soon          asked: does an episode begin here?
    ───────────────────────────────────┬────────────────────┬────────────────────┬──────────────────
                                       t                  t + 30               t + 60

A point is *censored*, and in no figure, where pressures grow sparse before the answer is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from edgeward.signal.hypotension import TASK, Definition, why_not_asked

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Outcome(IntEnum):
    """What came after a decision point."""

    CENSORED = -1
    """Pressures grow sparse before it is known."""
    NONE = 0
    """No episode begins within 60 min: a negative."""
    AHEAD = 1
    """An episode begins 30 to 60 min later: a positive."""
    SOON = 2
    """An episode begins within 30 min: neither, for the question was asked too late."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Decision points of one stay, in order.

    ``minute`` (P,); ``outcome`` (P,) of ``Outcome``; ``onset`` (P,) the minute at which the next episode within the
    hour begins, −1 without one; ``pressure`` (P,) the last mean pressure in mmHg.
    """

    minute: IntArray
    outcome: IntArray
    onset: IntArray
    pressure: FloatArray

    def __len__(self) -> int:
        return len(self.minute)


def readings(minute: IntArray, pressure: FloatArray, task: Definition = TASK) -> tuple[IntArray, FloatArray]:
    """The values that count (N,): artefacts taken out."""
    kept = (pressure >= task.low) & (pressure <= task.high)
    return minute[kept], pressure[kept]


def episodes(minute: IntArray, pressure: FloatArray, task: Definition = TASK) -> list[tuple[int, int, bool]]:
    """Runs of low values without a gap: first and last minute, and whether a value that is not low ended the run.

    Only runs that last ``sustained`` minutes are episodes; a shorter run that a gap cut off may have been one.
    """
    low = pressure < task.limit
    runs: list[tuple[int, int, bool]] = []
    first = 0
    while first < len(minute):
        if not low[first]:
            first += 1
            continue
        last = first
        while last + 1 < len(minute) and low[last + 1] and minute[last + 1] - minute[last] <= task.gap:
            last += 1
        after = last + 1
        ended = after < len(minute) and not low[after] and minute[after] - minute[last] <= task.gap
        runs.append((int(minute[first]), int(minute[last]), bool(ended)))
        first = last + 1
    return runs


def decision_points(minute: IntArray, pressure: FloatArray, task: Definition = TASK) -> Points:
    """The decision points among a stay's mean arterial pressures, minutes ascending (N,), mmHg (N,)."""
    minute, pressure = readings(minute, pressure, task)
    runs = episodes(minute, pressure, task)
    onsets = [first for first, last, _ in runs if last - first >= task.sustained]
    unclear = [first for first, last, ended in runs if last - first < task.sustained and not ended]
    rows: list[tuple[int, int, int, float]] = []
    taken = None
    for position, now in enumerate(minute.tolist()):
        if taken is not None and now - taken < task.every:
            continue
        if why_not_asked(now, minute[: position + 1], pressure[: position + 1], task) is not None:
            continue
        taken = now
        dense_until = _dense_until(minute[position:], task.gap)
        outcome, onset = _outcome(now, dense_until, onsets, unclear, task)
        rows.append((now, int(outcome), onset, float(pressure[position])))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4)
    whole = columns[:, :3].astype(np.int64)
    return Points(whole[:, 0], whole[:, 1], whole[:, 2], columns[:, 3])


def _dense_until(minute: IntArray, gap: int) -> int:
    wide = np.flatnonzero(np.diff(minute) > gap)
    return int(minute[wide[0]] if len(wide) else minute[-1])


def _outcome(
    now: int, dense_until: int, onsets: list[int], unclear: list[int], task: Definition
) -> tuple[Outcome, int]:
    onset = next((first for first in onsets if now < first <= now + task.latest and first <= dense_until), None)
    if onset is not None:
        return (Outcome.SOON if onset < now + task.soonest else Outcome.AHEAD), onset
    known = dense_until >= now + task.latest and not any(now < first <= now + task.latest for first in unclear)
    return (Outcome.NONE if known else Outcome.CENSORED), -1
