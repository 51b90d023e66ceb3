"""How well scores rank and how true their probabilities are, with intervals drawn by patient.

Points of one patient are alike, so patients are drawn, never points (Efron & Tibshirani 1993, chapter 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Interval = tuple[float, float] | None

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval; None where it is not defined."""

    value: float | None
    ci: Interval


class Ranked:
    """Scores (N,) with positives (N,) marked, sorted once, so that weighted figures of many draws are cheap."""

    def __init__(self, positive: Mask, score: FloatArray) -> None:
        self._positive = positive.astype(np.float64)
        _, self._group = np.unique(score, return_inverse=True)
        self._groups = int(self._group.max()) + 1 if len(score) else 0

    def auroc(self, weight: FloatArray | None = None) -> float:
        """Share of pairs in which the positive scores higher, ties half; NaN without both kinds."""
        hit, miss = self._counts(weight)
        whole = hit.sum() * miss.sum()
        below = np.cumsum(miss) - miss
        return float((hit * (below + 0.5 * miss)).sum() / whole) if whole > 0 else float("nan")

    def auprc(self, weight: FloatArray | None = None) -> float:
        """Average precision: precision at each threshold, weighted by the recall it adds; NaN without positives."""
        hit, miss = (column[::-1] for column in self._counts(weight))
        found, called = np.cumsum(hit), np.cumsum(hit + miss)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        whole = hit.sum()
        return float((hit * precision).sum() / whole) if whole > 0 else float("nan")

    def _counts(self, weight: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        each = np.ones(len(self._positive)) if weight is None else weight
        hit = np.bincount(self._group, each * self._positive, self._groups).astype(np.float64)
        miss = np.bincount(self._group, each * (1.0 - self._positive), self._groups).astype(np.float64)
        return hit, miss


class PatientDraws:
    """The same draws of patients for every figure. ``patient`` (N,): position of each point's patient."""

    def __init__(self, patients: int, *, seed: int = 0, draws: int = DRAWS) -> None:
        share = [1.0 / patients] * patients
        self._times = np.random.default_rng(seed).multinomial(patients, share, size=draws).astype(np.float64)

    def figure(self, measure: Callable[[FloatArray], float]) -> Figure:
        """``measure`` of how often each patient counts (patients,): of all once, and its interval over the draws.

        Draws in which it is NaN are left out.
        """
        value = measure(np.ones(self._times.shape[1]))
        found = np.array([measure(times) for times in self._times])
        found = found[np.isfinite(found)]
        if not np.isfinite(value) or not len(found):
            return Figure(None if not np.isfinite(value) else value, None)
        tail = 50.0 * (1.0 - LEVEL)
        low, high = np.percentile(found, (tail, 100.0 - tail))
        return Figure(value, (float(low), float(high)))


def brier(positive: Mask, probability: FloatArray) -> float:
    """Mean squared difference between probability and what came (Brier 1950)."""
    return float(np.mean((probability - positive) ** 2))


@dataclass(frozen=True, slots=True)
class Calibration:
    """``slope`` and ``intercept`` of a logistic regression of what came on the log odds: 1 and 0 are perfect.

    ``groups``: (points, mean probability, share that came) of groups of like probability (Van Calster 2019).
    """

    slope: float
    intercept: float
    groups: tuple[tuple[int, float, float], ...]


def calibration(positive: Mask, odds: FloatArray, *, groups: int = 10) -> Calibration:
    """Calibration of log odds (N,); NaN slope where one kind is absent or all scores are alike."""
    if positive.all() or not positive.any() or np.ptp(odds) == 0:
        slope, intercept = float("nan"), float("nan")
    else:
        intercept, slope = _logistic(odds, positive.astype(np.float64))
    probability = 1.0 / (1.0 + np.exp(-odds))
    parts = np.array_split(np.argsort(odds, kind="stable"), min(groups, len(odds)))
    rows = tuple((len(part), float(probability[part].mean()), float(positive[part].mean())) for part in parts)
    return Calibration(slope, intercept, rows)


def _logistic(odds: FloatArray, came: FloatArray, *, rounds: int = 50) -> tuple[float, float]:
    """Newton's method for two figures; a hair of ridge keeps separable data finite."""
    x = np.stack([np.ones_like(odds), odds], axis=1)
    figures = np.zeros(2)
    for _ in range(rounds):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ figures, -30, 30)))
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + 1e-6 * np.eye(2), x.T @ (came - p) - 1e-6 * figures)
        figures = figures + step
        if np.abs(step).max() < 1e-9:
            break
    return float(figures[0]), float(figures[1])
