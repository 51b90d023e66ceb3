"""Reference histograms of a stay's features and scores, in the form of ``reference.json`` (see ``reference``).

The edges are cut once, from the training rows' outer percentiles rounded to two figures, and travel with the bundle:
whoever counts against this bundle uses the same edges, so that histograms merge, and no edge is a patient's value. Each
column also says how many values were ``missing``, for that is what drifts first.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.workshop.reference import SCHEMA, counts

if TYPE_CHECKING:
    from collections.abc import Sequence

CELLS = 20
_OUTER = (0.01, 0.99)


def reference_json(
    rows: npt.NDArray[np.float32], names: Sequence[str], scores: npt.NDArray[np.float64], patients: int
) -> bytes:
    """``reference.json`` of features (N, F), NaN where missing, and log odds (N,)."""
    data = {
        "schema": SCHEMA,
        "windows": len(rows),
        "patients": patients,
        "features": {name: _column(rows[:, index].astype(np.float64)) for index, name in enumerate(names)},
        "scores": {"log_odds": _column(scores)},
    }
    return (json.dumps(data, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _column(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    low, high = (_rounded(float(edge)) for edge in np.quantile(known, _OUTER)) if len(known) else (0.0, 1.0)
    step = _rounded((high - low) / CELLS) if high > low else 1.0
    return {"low": low, "step": step, "counts": counts(known, low, step, CELLS), "missing": len(values) - len(known)}


def _rounded(value: float) -> float:
    """Two significant figures."""
    return value if value == 0.0 else round(value, 1 - math.floor(math.log10(abs(value))))
