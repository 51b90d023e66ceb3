"""What beats of one shape have done before: early or on time, with a P wave or without, wide or narrow.

One beat says little; the habit of its kind says more. A shape that always came early and was followed by a pause is
ectopic, one that came on time with a P wave before it is conducted, however wide. Beats of like shape among the last
``HABIT_BEATS`` are asked, without labels and without a look ahead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

HABIT_BEATS = 384
_ALIKE = 0.85
_EARLY = math.log(0.88)

HABIT_NAMES: tuple[str, ...] = (
    "habit_share",
    "habit_early",
    "habit_early_share",
    "habit_early_spread",
    "habit_late",
    "habit_p",
    "habit_p_diff",
    "habit_width",
    "habit_rest_early",
    "habit_rest_p",
    "habit_since",
    "habit_beats",
)
"""Names of the habit features in order; ``rest`` is over all other beats."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What one beat did: log-ratios of the intervals before and after it, P likeness and difference, width."""

    early: float
    late: float
    p_corr: float
    p_diff: float
    width: float


class Habits:
    """The last beats of a patient, to be asked by shape. Bounded."""

    def __init__(self, dim: int) -> None:
        self._unit = np.zeros((HABIT_BEATS, dim), dtype=np.float32)
        self._deeds = np.zeros((HABIT_BEATS, 5), dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the patient."""
        self._order = 0

    def add(self, unit: FloatArray, deed: Deed) -> None:
        """Remember a beat by its shape ``unit`` (dim,) of length 1."""
        slot = self._order % HABIT_BEATS
        self._order += 1
        self._unit[slot] = unit
        self._deeds[slot] = (deed.early, deed.late, deed.p_corr, deed.p_diff, deed.width)

    def features(self, unit: FloatArray) -> list[float]:
        """Habits of beats like ``unit``; zeros where none was seen."""
        n = min(self._order, HABIT_BEATS)
        if n == 0:
            return [0.0] * len(HABIT_NAMES)
        alike = self._unit[:n] @ unit > _ALIKE
        count = int(np.count_nonzero(alike))
        deeds = self._deeds[:n]
        known = math.log1p(n) / math.log1p(HABIT_BEATS)
        total = deeds.sum(axis=0)
        if count == 0:
            rest = total / np.float32(n)
            return [0.0] * 8 + [float(rest[0]), float(rest[2]), 1.0, known]
        own = deeds[alike]
        of_kind = own.sum(axis=0)
        mean = of_kind / np.float32(count)
        rest = (total - of_kind) / np.float32(max(1, n - count))
        early = own[:, 0]
        newest = (self._order - 1) % HABIT_BEATS
        age = int(((newest - np.flatnonzero(alike)) % HABIT_BEATS).min())
        return [
            math.log1p(count) / math.log1p(n),
            float(mean[0]),
            float(np.count_nonzero(early < _EARLY)) / count,
            math.sqrt(max(0.0, float(early @ early) / count - float(mean[0]) ** 2)),
            float(mean[1]),
            float(mean[2]),
            float(mean[3]),
            float(mean[4]),
            float(rest[0]),
            float(rest[2]),
            math.log1p(age) / math.log1p(HABIT_BEATS),
            known,
        ]
