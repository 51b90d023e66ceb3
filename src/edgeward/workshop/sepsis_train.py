"""Grows the trees of ``sepsis-risk``: what they are asked for is what the challenge's utility pays for (ADR 10).

A row is positive where predicting sepsis in it gains utility, and weighs as much as it gains; every other row weighs 1.
The utility takes 0.05 for a prediction too many, so the log odds at which a prediction begins to pay are log 0.05: the
threshold is known before any score is seen, and no data are spent on choosing it.

Rows of one stay are alike, so each forest draws its own third of the rows of patients without sepsis; a few forests
are averaged. Rows from ``LATE_H`` hours on weigh little: the challenge's tables hold hardly any stay without sepsis
beyond the 59th hour, and there is nothing to learn from them but that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.workshop.boosted import mean_trees, trees_of
from edgeward.workshop.sepsis_utility import U_FP, utility_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.signal.trees import Trees
    from edgeward.workshop.stay_table import StayTable

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LATE_H = 60
"""The 59th hour is the last that the tables show of nearly every stay without sepsis."""
PAYS_LOG_ODDS = math.log(-U_FP)
"""From here on a prediction is worth more than it costs (see above)."""


@dataclass(frozen=True, slots=True)
class TreeSettings:
    """How the trees grow. Chosen by hand on five-fold cross-validation of the training patients; see the ADR."""

    forests: int = 3
    rounds: int = 300
    learning_rate: float = 0.05
    leaves: int = 16
    rows_in_leaf_min: int = 400
    feature_share: float = 0.15
    row_share: float = 0.5
    l2: float = 100.0
    bins: int = 63
    well_share: float = 1 / 3
    late_weight: float = 0.2
    seed: int = 0

    def library(self, seed: int) -> dict[str, Any]:
        """The library's own names."""
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.rows_in_leaf_min,
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "lambda_l2": self.l2,
            "max_bin": self.bins,
            "num_threads": 1,
            "deterministic": True,
            "force_col_wise": True,
            "seed": seed,
            "verbose": -1,
        }


def targets(table: StayTable) -> tuple[Mask, Array]:
    """What each row asks for (N,) and how much it weighs (N,)."""
    gain = utility_of(table.labels, table.starts).gain
    positive = gain > 0
    return positive, np.where(positive, gain, 1.0)


def grow(
    values: FloatArray,
    table: StayTable,
    chosen: Mask,
    settings: TreeSettings,
    on_forest: Callable[[int], None] = lambda _: None,
) -> tuple[Trees, list[lightgbm.Booster]]:
    """The forest (a mean of several) over ``values`` (N, F) of the ``chosen`` patients (P,), and the library's own.

    Raises ``InputError`` (``stays-septic``) where no chosen patient has sepsis, or all have.
    """
    septic = table.septic
    if not (septic & chosen).any() or not (~septic & chosen).any():
        raise InputError("stays-septic", "training needs patients with and without sepsis; give more stays")
    patient = table.patient_of_row
    rows = np.flatnonzero(chosen[patient])
    positive, weight = targets(table)
    well = ~septic[patient[rows]]
    late = table.facts["ICULOS"][rows] >= LATE_H
    weight = weight[rows] * np.where(well, 1.0 / settings.well_share, 1.0) * np.where(late, settings.late_weight, 1.0)
    boosters = []
    for number in range(settings.forests):
        seed = settings.seed * 1000 + number
        kept = ~well | (np.random.default_rng(seed).random(len(rows)) < settings.well_share)
        data = lightgbm.Dataset(
            values[rows[kept]],
            positive[rows[kept]].astype(np.float64),
            weight=weight[kept] / weight[kept].mean(),
            params={"max_bin": settings.bins, "verbose": -1},
            free_raw_data=True,
        )
        boosters.append(lightgbm.train(settings.library(seed), data, settings.rounds))
        on_forest(number)
    return mean_trees([trees_of(booster) for booster in boosters]), boosters


def library_scores(boosters: list[lightgbm.Booster], values: FloatArray) -> Array:
    """Log odds (N,) as the library computes them: much faster for a whole table, and what the export is held to."""
    parts = [np.asarray(booster.predict(values, raw_score=True, num_threads=1), np.float64) for booster in boosters]
    scores: Array = np.mean(parts, axis=0)
    return scores


def assign_folds(table: StayTable, folds: int) -> npt.NDArray[np.int64]:
    """A fold (P,) for each patient, those with sepsis spread evenly; it depends on the patients' data alone.

    Raises ``InputError`` (``stays-folds``) for fewer than two folds or more folds than patients with sepsis.
    """
    septic = table.septic
    if not 2 <= folds <= int(septic.sum()):
        raise InputError("stays-folds", f"folds must lie between 2 and the {int(septic.sum())} patients with sepsis")
    order = np.lexsort((table.fingerprints(), septic))
    out = np.empty(len(septic), dtype=np.int64)
    out[order] = np.arange(len(order)) % folds
    return out
