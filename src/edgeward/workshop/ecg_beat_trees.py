"""Boosted trees on the rhythm and shape features: the member of the beat model that knows no waves.

Trees err on other patients than networks do: they find more supraventricular beats, networks more ventricular ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm

from edgeward.signal.beat import BeatClass
from edgeward.workshop.heap_trees import heap_trees
from edgeward.workshop.models.boosted import DEPTH, BoostedTrees

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeward.workshop.ecg_beat_data import BeatData

_CLASSES = len(BeatClass)
_SETTINGS: dict[str, Any] = {
    "objective": "multiclass",
    "num_class": _CLASSES,
    "learning_rate": 0.1,
    "num_leaves": 12,
    "max_depth": DEPTH,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 127,
    "use_missing": False,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def grow(data: BeatData, odds: npt.NDArray[np.float64], trees: int, seed: int) -> BoostedTrees:
    """``trees`` trees, as many for each class, on beats weighted by their odds to be drawn for a network."""
    weight = odds * len(data)
    given = lightgbm.Dataset(data.rhythm, data.label, weight=weight, params=_SETTINGS)
    model = lightgbm.train({**_SETTINGS, "seed": seed}, given, trees // _CLASSES)
    return BoostedTrees.of(heap_trees(model, DEPTH), _CLASSES)
