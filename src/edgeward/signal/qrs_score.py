"""The fixed scorer of the QRS detector: a sum of small decision trees over a candidate's features.

The trees come with the package (``qrs_trees.npz``, arrays only, no pickle); ``edgeward.workshop.qrs_train`` makes them
from records of the MIT-BIH Arrhythmia Database (Moody & Mark 2001, IEEE Eng Med Biol 20:45; ODC-By 1.0).
"""

from __future__ import annotations

import io
import math
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.qrs_features import NAMES

if TYPE_CHECKING:
    from edgeward.signal.qrs_features import Float64Array

TAKEN_FROM = 0.4
"""Least probability of a candidate that is given out as a beat."""
DEPTH = 5
NODES = 2**DEPTH - 1
TREES_FILE = "qrs_trees.npz"


@dataclass(frozen=True, slots=True)
class Trees:
    """Complete binary trees of one depth; node k has the children 2k + 1 (feature ≤ threshold) and 2k + 2."""

    feature: npt.NDArray[np.int64]  # (trees, NODES)
    threshold: Float64Array  # (trees, NODES)
    leaf: Float64Array  # (trees, NODES + 1)

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for arrays that do not make trees over ``NAMES``."""
        n = self.feature.shape[0]
        if self.feature.shape != (n, NODES) or self.threshold.shape != (n, NODES) or self.leaf.shape != (n, NODES + 1):
            raise ValueError("the arrays of the QRS trees do not fit together")
        if self.feature.min() < 0 or self.feature.max() >= len(NAMES) or not np.isfinite(self.leaf).all():
            raise ValueError("the QRS trees name a feature that there is not, or a leaf is not a number")

    def probability(self, x: Float64Array) -> float:
        """Probability that the candidate with features ``x`` (len(NAMES),) is a QRS."""
        single = x.astype(np.float32).astype(np.float64)  # trained on float32: the same side of every threshold
        rows = np.arange(self.feature.shape[0])
        node = np.zeros(rows.size, dtype=np.int64)
        first, feature, threshold = rows * NODES, self.feature.ravel(), self.threshold.ravel()
        for _ in range(DEPTH):
            at = first + node
            node = 2 * node + 1 + (single[feature[at]] > threshold[at])
        score = float(self.leaf[rows, node - NODES].sum())
        return 1.0 / (1.0 + math.exp(-min(max(score, -50.0), 50.0)))


@cache
def shipped_trees() -> Trees:
    """The trees that come with the package."""
    data = pkgutil.get_data("edgeward.signal", TREES_FILE)
    if data is None:
        raise ValueError(f"{TREES_FILE} is missing from the installation; install the package again")
    return read_trees(data)


def read_trees(data: bytes) -> Trees:
    """Trees from the bytes of an ``.npz``; ``ValueError`` when they were made for other features."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        if tuple(arrays["names"].tolist()) != NAMES:
            raise ValueError("the QRS trees were made for other features than this version works out; train them again")
        return Trees(
            feature=arrays["feature"].astype(np.int64),
            threshold=arrays["threshold"].astype(np.float64),
            leaf=arrays["leaf"].astype(np.float64),
        )


def write_trees(trees: Trees) -> bytes:
    """The bytes of an ``.npz`` that holds ``trees``: the same trees give the same bytes."""
    out = io.BytesIO()
    np.savez_compressed(
        out,
        names=np.asarray(NAMES),
        feature=trees.feature.astype(np.int16),
        threshold=trees.threshold,
        leaf=trees.leaf,
    )
    return out.getvalue()
