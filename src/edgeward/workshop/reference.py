"""Reference histograms: fixed edges and integer counts of features and scores on the training windows.

The device counts the same cells and the difference is drift. Edges do not depend on the data, so that histograms merge
exactly and hold no value of any patient. ``reference.json`` (schema 1)::

    schema    1
    windows   N            patients  how many
    features  {name: {low, step, counts}}
    scores    {class: {low, step, counts}}
    counts    below low, then the cells [low + i·step, low + (i+1)·step), then at or above the last edge
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.workshop.scorer import FloatArray

SCHEMA = 1
FEATURE_LOW, FEATURE_STEP, FEATURE_CELLS = -4.0, 0.25, 32
SCORE_LOW, SCORE_STEP, SCORE_CELLS = 0.0, 0.05, 20


def reference_json(
    features: FloatArray, feature_names: Sequence[str], scores: FloatArray, classes: Sequence[str], patients: int
) -> bytes:
    """``reference.json`` of windows' features (N, K) and scores (N, classes)."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "windows": len(scores),
        "patients": patients,
        "features": _columns(features, feature_names, FEATURE_LOW, FEATURE_STEP, FEATURE_CELLS),
        "scores": _columns(scores, classes, SCORE_LOW, SCORE_STEP, SCORE_CELLS),
    }
    return (json.dumps(data, sort_keys=True, separators=(",", ":")) + "\n").encode()


def counts(values: npt.NDArray[np.floating], low: float, step: float, cells: int) -> list[int]:
    """Counts (cells + 2,): below ``low``, the cells, at or above the last edge."""
    position = np.floor((values.astype(np.float64) - low) / step).astype(np.int64) + 1
    return [int(n) for n in np.bincount(np.clip(position, 0, cells + 1), minlength=cells + 2)]


def _columns(table: FloatArray, names: Sequence[str], low: float, step: float, cells: int) -> Mapping[str, Any]:
    return {
        name: {"low": low, "step": step, "counts": counts(table[:, i], low, step, cells)}
        for i, name in enumerate(names)
    }
