"""Grows the trees of ``sepsis-risk`` and of what stands beside it: vital signs alone, and a plain baseline (ADR 14).

A row can be asked two questions: is it labelled (``"label"``: sepsis within six hours, or under way), or does the
challenge's utility pay for saying sepsis in it (``"gain"``: from twelve hours before the onset on, weighed by what it
pays)? A forest of a recipe asks one of them, and the score is the mean of its forests' log odds. Forests that look for
the best threshold of a split and forests that take one at random (Geurts P et al., Mach Learn 63:3-42, 2006) err in
different places, so that their mean ranks better than either.

Rows of one stay are alike, so each forest draws its own third of the rows of patients without sepsis. For a quarter of
the patients it does not know how long they had been in hospital, because no monitor tells that: a forest that always
knew would be lost at a bed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import lightgbm
import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.workshop.boosted import mean_trees, trees_of
from edgeward.workshop.sepsis_utility import utility_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.signal.trees import Trees
    from edgeward.workshop.sepsis_utility import Utility
    from edgeward.workshop.stay_table import StayTable

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Target = Literal["label", "gain"]

LATE_H = 60
"""The 59th hour is the last that the tables show of nearly every stay without sepsis."""
FEWER_SEPTIC = 0.65
"""The threshold also has to pay where sepsis is this much rarer: a hospital never seen may well have fewer."""
UNTOLD = "hours_before"
"""The one feature that the tables have and a bed has not."""
_BLOCK = 65_536
THRESHOLD_DRAWS = 40
THRESHOLD_GRID = 300


@dataclass(frozen=True, slots=True)
class Part:
    """One forest of a recipe: what it asks, how many trees it has, and whether its thresholds are drawn at random."""

    target: Target = "label"
    rounds: int = 300
    learning_rate: float = 0.05
    random_thresholds: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model: its features, the forests whose mean it is, and how they grow.

    Chosen by hand on cross-validation of the training patients; the ADR tells what was tried.
    """

    name: str
    features: tuple[str, ...]
    parts: tuple[Part, ...] = (Part(),)
    leaves: int = 16
    rows_in_leaf_min: int = 400
    feature_share: float = 0.15
    row_share: float = 0.5
    l2: float = 100.0
    bins: int = 63
    well_share: float = 1 / 3
    untold_share: float = 0.25
    seed: int = 0

    def shown(self) -> dict[str, Any]:
        """All but the features' names, as plain values."""
        return {**asdict(self), "features": len(self.features)}

    def columns(self, names: Sequence[str]) -> npt.NDArray[np.intp]:
        """Positions of the features among ``names``."""
        return np.array([list(names).index(name) for name in self.features], dtype=np.intp)

    def library(self, part: Part, seed: int) -> dict[str, Any]:
        """The library's own names."""
        return {
            "objective": "binary",
            "learning_rate": part.learning_rate,
            "extra_trees": part.random_thresholds,
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


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """A grown recipe: the library's own forests over the recipe's features, and which of all columns those are."""

    boosters: tuple[lightgbm.Booster, ...]
    columns: npt.NDArray[np.intp]
    width: int

    def scores(self, values: FloatArray) -> Array:
        """Log odds (N,) of ``values`` (N, all columns), as the library computes them: quick for a whole table."""
        mine = _cut(values, np.arange(len(values)), self.columns)
        parts = [np.asarray(each.predict(mine, raw_score=True, num_threads=1), np.float64) for each in self.boosters]
        scores: Array = np.mean(parts, axis=0)
        return scores

    def trees(self) -> Trees:
        """The same as plain trees over all columns."""
        return mean_trees([trees_of(each, columns=self.columns, width=self.width) for each in self.boosters])


def grow(
    recipe: Recipe,
    values: FloatArray,
    names: Sequence[str],
    table: StayTable,
    chosen: Mask,
    on_forest: Callable[[int], None] = lambda _: None,
) -> Forest:
    """The recipe over ``values`` (N, F), columns ``names``, of the ``chosen`` patients (P,).

    Raises ``InputError`` (``stays-septic``) where no chosen patient has sepsis, or all have.
    """
    septic = table.septic
    if not (septic & chosen).any() or not (~septic & chosen).any():
        raise InputError("stays-septic", "training needs patients with and without sepsis; give more stays")
    columns = recipe.columns(names)
    patient = table.patient_of_row
    rows = np.flatnonzero(chosen[patient])
    well = ~septic[patient[rows]]
    drawn = np.where(well, 1.0 / recipe.well_share, 1.0)
    utility = utility_of(table.labels, table.starts)
    boosters = []
    for number, part in enumerate(recipe.parts):
        seed = recipe.seed * 1000 + number
        positive, weight = asked(part.target, table, utility)
        kept = ~well | (np.random.default_rng(seed).random(len(rows)) < recipe.well_share)
        mine, weights = rows[kept], weight[rows[kept]] * drawn[kept]
        cut = _cut(values, mine, columns)
        if UNTOLD in recipe.features:
            untold = np.random.default_rng([seed, 1]).random(len(septic)) < recipe.untold_share
            cut[untold[patient[mine]], recipe.features.index(UNTOLD)] = np.nan
        data = lightgbm.Dataset(
            cut,
            positive[mine].astype(np.float64),
            weight=weights / weights.mean(),
            params={"max_bin": recipe.bins, "verbose": -1},
        )
        boosters.append(lightgbm.train(recipe.library(part, seed), data, part.rounds))
        on_forest(number)
    return Forest(tuple(boosters), columns, values.shape[1])


def _cut(values: FloatArray, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> FloatArray:
    """``values`` at ``rows`` and ``columns``, block by block, so that a matrix on disk is never read whole."""
    out = np.empty((len(rows), len(columns)), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        out[start : start + _BLOCK] = values[rows[start : start + _BLOCK]][:, columns]
    return out


def asked(target: Target, table: StayTable, utility: Utility) -> tuple[Mask, Array]:
    """Which rows (N,) are positive, and how much each weighs (N,)."""
    if target == "label":
        return table.labels > 0, np.ones(len(table))
    positive = utility.gain > 0
    return positive, np.where(positive, utility.gain, 1.0)


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


def best_threshold(scores: Array, utility: Utility, patient: npt.NDArray[np.int64], *, seed: int = 0) -> float:
    """The score from which on saying sepsis pays, here and where sepsis is rarer by ``FEWER_SEPTIC``, taken together.

    The mean of the best thresholds of many draws of patients: the curve is flat at its top and its very best point is
    chance. ``patient`` (N,) is the position of each row's patient.
    """
    rarer = (1.0 + 1.0 / FEWER_SEPTIC) / 2.0  # how much more the rows of patients without sepsis weigh then
    septic = np.bincount(patient, utility.best) > 0
    gain = utility.gain * np.where(septic[patient], 1.0, rarer)
    grid = np.quantile(scores, np.linspace(0.5, 1.0, THRESHOLD_GRID))
    level = np.searchsorted(grid, scores, side="right")  # a row is predicted by the thresholds grid[: level]
    count = int(patient.max()) + 1
    table = np.zeros((count, THRESHOLD_GRID + 1))
    np.add.at(table, (patient, level), gain)
    paid = table[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # (patients, thresholds): gain of all rows at or above
    share = [1.0 / count] * count
    times = np.random.default_rng(seed).multinomial(count, share, size=THRESHOLD_DRAWS)
    return float(grid[np.argmax(times @ paid, axis=1)].mean())
