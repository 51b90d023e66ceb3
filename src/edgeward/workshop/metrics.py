"""Figures per class on windows: sensitivity and positive predictive value by the EC57 counting rules, with intervals.

These judge windows cut at reference beats or detections that are given; the figures of the whole stream, with its own
detections and quality verdicts, are ``edgeward evaluate``'s.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.workshop.scorer import FloatArray

IntArray = npt.NDArray[np.int64]
BOOTSTRAP_ROUNDS = 400


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one class, fractions in [0, 1]: sensitivity, positive predictive value, F1; 95 % intervals by patient.

    NaN never occurs: a ratio without a denominator is given as None in ``to_dict`` and −1 here.
    """

    name: str
    count: int
    se: float
    ppv: float
    f1: float
    se_interval: tuple[float, float]
    ppv_interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; −1 becomes null."""
        return {key: _null(value) for key, value in asdict(self).items()}


def decide(scores: FloatArray, log_offsets: Sequence[float]) -> IntArray:
    """Class index (N,) of probabilities (N, C): arg max of log-probability plus the offset of the class."""
    logs = np.log(np.maximum(scores, 1e-9)) + np.asarray(log_offsets, dtype=np.float64)
    return np.asarray(np.argmax(logs, axis=1), dtype=np.int64)


def class_figures(
    labels: IntArray,
    called: IntArray,
    patients: npt.NDArray[np.str_],
    names: Sequence[str],
    spared: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
) -> list[ClassFigures]:
    """Figures of every class. ``spared[c]``: true classes whose call as ``c`` is no false positive (EC57 4.3.3)."""
    everyone, position = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, max(1, len(everyone)), (BOOTSTRAP_ROUNDS, len(everyone)))
    out = []
    for index, name in enumerate(names):
        counts = counts_of(labels, called, index, [names.index(other) for other in spared.get(name, ())])
        per_patient = np.stack([np.bincount(position[row], minlength=len(everyone)) for row in counts])  # (3, P)
        hit, missed, false = (int(row.sum()) for row in per_patient)
        resampled = per_patient[:, draws].sum(axis=2)  # (3, rounds)
        out.append(
            ClassFigures(
                name=name,
                count=hit + missed,
                se=_ratio(hit, hit + missed),
                ppv=_ratio(hit, hit + false),
                f1=_ratio(2 * hit, 2 * hit + missed + false),
                se_interval=_interval(resampled[0], resampled[0] + resampled[1]),
                ppv_interval=_interval(resampled[0], resampled[0] + resampled[2]),
            )
        )
    return out


def counts_of(
    labels: IntArray, called: IntArray, index: int, spared: Sequence[int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Positions of the hits, misses and false positives of class ``index``."""
    is_class, is_called = labels == index, called == index
    false = is_called & ~is_class & ~np.isin(labels, spared)
    return np.flatnonzero(is_class & is_called), np.flatnonzero(is_class & ~is_called), np.flatnonzero(false)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else -1.0


def _interval(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> tuple[float, float]:
    known = whole > 0
    if not known.any():
        return (-1.0, -1.0)
    low, high = np.quantile(part[known] / whole[known], [0.025, 0.975])
    return (float(low), float(high))


def _null(value: object) -> object:
    if isinstance(value, tuple):
        return [_null(item) for item in value]
    return None if isinstance(value, float) and value < 0 else value
