"""Scores → probabilities: isotonic regression on scores of patients that the model has not seen, as a few knots.

Pool-adjacent-violators (Ayer et al., Ann Math Stat 26:641-647, 1955) over groups of like scores; what is kept is a
monotone line through a few dozen points, so that a device needs no more than ``numpy.interp`` and anyone can read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GROUPS = 400
KNOTS_MAX = 40
PROBABILITY_MIN, PROBABILITY_MAX = 1e-4, 0.999


@dataclass(frozen=True, slots=True)
class Calibrated:
    """``log_odds`` and ``probability`` of each knot, both growing."""

    log_odds: tuple[float, ...]
    probability: tuple[float, ...]

    def __call__(self, scores: Array) -> Array:
        """Probabilities of ``scores``; beyond the outer knots those of the outer knots."""
        return np.interp(scores, self.log_odds, self.probability)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain numbers for the manifest's ``decision``."""
        return {"log_odds": list(self.log_odds), "probability": list(self.probability)}


def isotonic(scores: Array, positive: Mask) -> Calibrated:
    """The monotone line through the share of ``positive`` (N,) at like ``scores`` (N,).

    Raises ``InputError`` (``calibration-data``) without both kinds.
    """
    if not positive.any() or positive.all():
        raise InputError("calibration-data", "calibration needs rows with and without the outcome; give more stays")
    edges = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, GROUPS + 1)[1:-1], method="inverted_cdf"))
    group = np.searchsorted(edges, scores, side="left")  # like scores stand together
    weight = np.bincount(group).astype(np.float64)
    there = weight > 0
    where = np.bincount(group, scores)[there] / weight[there]
    share = _pooled(np.bincount(group, positive)[there] / weight[there], weight[there])
    begins = np.flatnonzero(np.append(True, np.diff(share) > 0.0))
    total = np.add.reduceat(weight[there], begins)
    middle = np.round(np.add.reduceat(where * weight[there], begins) / total, 4)
    kept = np.unique(np.linspace(0, len(begins) - 1, min(KNOTS_MAX, len(begins))).round().astype(np.int64))
    kept = kept[np.append(True, np.diff(middle[kept]) > 0.0)]
    probability = np.clip(share[begins][kept], PROBABILITY_MIN, PROBABILITY_MAX)
    if len(kept) == 1:  # the scores say nothing: one probability for all
        return Calibrated((float(middle[0]), float(middle[0]) + 1.0), (float(probability[0]),) * 2)
    return Calibrated(tuple(middle[kept].tolist()), tuple(np.round(probability, 6).tolist()))


def _pooled(share: Array, weight: Array) -> Array:
    blocks: list[list[float]] = []  # mean, weight, how many groups
    for value, w in zip(share.tolist(), weight.tolist(), strict=True):
        blocks.append([value, w, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, w_last, count = blocks.pop()
            total = blocks[-1][1] + w_last
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * w_last) / total, total, blocks[-1][2] + count]
    return np.concatenate([np.full(int(count), mean) for mean, _, count in blocks])


def expected_error(probability: Array, positive: Mask, *, groups: int = 20) -> float:
    """Expected calibration error: mean distance of probability and share over equally large groups."""
    parts = np.array_split(np.argsort(probability, kind="stable"), min(groups, len(probability)))
    gaps = [abs(probability[part].mean() - positive[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(probability))
