"""Scores of training patients by forests that have not seen them, and what they say: calibration, burden, figures."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.workshop.alerts import per_patient_day, threshold_at
from edgeward.workshop.calibrate import expected_error, isotonic
from edgeward.workshop.ranking import Ranked, brier
from edgeward.workshop.sepsis_kept import fold_path, keep_fold, kept_fold
from edgeward.workshop.sepsis_train import LATE_H, UNTOLD, assign_folds, best_threshold, grow
from edgeward.workshop.sepsis_utility import utility_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edgeward.workshop.sepsis_train import Recipe
    from edgeward.workshop.stay_table import StayTable

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ACT_BURDEN = 0.25
"""Alerts per patient-day of the higher level: one in four patient-days."""
RELIABILITY_GROUPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Log odds (N,) of every row: ``charted`` as the table counts the hours, ``bedside`` as a bed sees them.

    ``fold`` (P,) of each patient.
    """

    charted: Array
    bedside: Array
    fold: npt.NDArray[np.int64]


def cross(
    recipes: Sequence[Recipe],
    matrix: Path,
    names: Sequence[str],
    table: StayTable,
    *,
    folds: int,
    hours_in_max: float,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, OutOfFold]:
    """Score every patient by a forest of the other folds, for each recipe by its name.

    ``matrix``: what ``kept_features`` gave for ``table``, columns ``names``; processes read it together, and the result
    does not depend on how many ``workers`` there are. The scores of each fold are kept beside it, so that what was
    interrupted goes on where it was. Raises what ``assign_folds`` and ``grow`` raise.
    """
    fold = assign_folds(table, folds)
    patient = table.patient_of_row
    out = {recipe.name: OutOfFold(np.empty(len(table)), np.empty(len(table)), fold) for recipe in recipes}
    shared = _Shared(str(matrix), tuple(names), table, fold, hours_in_max)
    jobs = [(recipe, number) for number in range(folds) for recipe in recipes]
    with ExitStack() as kept:
        each: Callable[..., Iterable[tuple[Array, Array]]] = map
        if workers > 1:
            context = get_context("spawn")
            each = kept.enter_context(ProcessPoolExecutor(workers, context, initializer=_take, initargs=(shared,))).map
        else:
            _take(shared)
        for (recipe, number), (charted, bedside) in zip(jobs, each(_score_fold, jobs), strict=True):
            rows = fold[patient] == number
            out[recipe.name].charted[rows] = charted
            out[recipe.name].bedside[rows] = bedside
            say(f"{recipe.name}: fold {number + 1} of {folds} scored")
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """What every process of ``cross`` needs."""

    matrix: str
    names: tuple[str, ...]
    table: StayTable
    fold: npt.NDArray[np.int64]
    hours_in_max: float


_mine: list[_Shared] = []


def _take(shared: _Shared) -> None:
    _mine[:] = [shared]


def _score_fold(job: tuple[Recipe, int]) -> tuple[Array, Array]:
    (recipe, number), (shared,) = job, _mine
    path = fold_path(Path(shared.matrix), recipe, number, int(shared.fold.max()) + 1, shared.hours_in_max)
    kept = kept_fold(path)
    if kept is not None:
        return kept
    values = np.load(shared.matrix, mmap_mode="r", allow_pickle=False)
    forest = grow(recipe, values, shared.names, shared.table, shared.fold != number)
    rows = np.flatnonzero(shared.fold[shared.table.patient_of_row] == number)
    mine: FloatArray = values[rows]
    scores = forest.scores(mine), forest.scores(at_bedside(mine, shared.names, shared.hours_in_max))
    keep_fold(path, scores)
    return scores


def at_bedside(values: FloatArray, names: Sequence[str], hours_in_max: float) -> FloatArray:
    """``values`` as a bed sees them: hours in this care held at ``hours_in_max``, those in hospital before not told."""
    out = values.copy()
    hours_in, before = (list(names).index(name) for name in ("hours_in", UNTOLD))
    out[:, hours_in] = np.minimum(out[:, hours_in], np.float32(hours_in_max))
    out[:, before] = np.nan
    return out


def decision_of(scores: OutOfFold, table: StayTable) -> dict[str, Any]:
    """Calibration and levels. ``watch`` is where saying sepsis pays by the challenge's utility, on all rows.

    Probabilities come from ``bedside`` scores of the hours that the tables show whole (before ``LATE_H``), and so does
    ``act``: the score that raises ``ACT_BURDEN`` alerts per patient-day, never lower than ``watch``.
    """
    early, starts = early_rows(table)
    score = scores.bedside[early]
    watch = best_threshold(scores.charted, utility_of(table.labels, table.starts), table.patient_of_row)
    levels = {"watch": watch, "act": max(threshold_at(score, starts, ACT_BURDEN), watch)}
    return {
        "calibration": isotonic(score, table.labels[early] > 0).to_dict(),
        **{name: round(at, 4) for name, at in levels.items()},
        "burden": {name: round(per_patient_day(score >= at, starts), 4) for name, at in levels.items()},
    }


def early_rows(table: StayTable) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Rows (N,) before ``LATE_H``, and the first row of each patient that has any, counted among those rows."""
    early = ~(table.facts["ICULOS"] >= LATE_H)
    counts = np.add.reduceat(early.astype(np.int64), table.starts)
    starts = np.cumsum(np.append(0, counts))[:-1]
    return early, starts[counts > 0]


def figures(scores: OutOfFold, table: StayTable) -> dict[str, Any]:
    """What the scores are worth: rounded plain numbers for evidence and card.

    A fold's threshold and calibration come from the scores of the other folds' patients.
    """
    positive = table.labels > 0
    utility = utility_of(table.labels, table.starts)
    early, _ = early_rows(table)
    predicted, probability = cross_judged(scores, table)
    seen = positive[early]
    most = float((utility.gain * utility.best).sum())
    found = {
        "auroc": Ranked(positive, scores.charted).auroc(),
        "auprc": Ranked(positive, scores.charted).auprc(),
        "utility": utility.normalised(predicted),
        "utility_before_hour_60": float((utility.gain * predicted)[early].sum()) / most,
        "bedside_auroc": Ranked(seen, scores.bedside[early]).auroc(),
        "bedside_auprc": Ranked(seen, scores.bedside[early]).auprc(),
        "brier": brier(seen, probability[early]),
        "brier_of_the_base_rate": float(seen.mean() * (1.0 - seen.mean())),
        "calibration_error": expected_error(probability[early], seen),
    }
    return {
        **{name: round(value, 5) for name, value in found.items()},
        "reliability": reliability(probability[early], seen),
        "rows": len(table),
        "patients": len(table.patients),
        "septic": int(table.septic.sum()),
    }


def cross_judged(scores: OutOfFold, table: StayTable) -> tuple[Mask, Array]:
    """Rows (N,) called septic and probabilities at the bedside (N,), by the other folds' threshold and calibration."""
    early, _ = early_rows(table)
    utility = utility_of(table.labels, table.starts)
    patient = table.patient_of_row
    fold = scores.fold[patient]
    predicted, probability = np.zeros(len(table), dtype=np.bool_), np.empty(len(table))
    for number in np.unique(fold):
        others, mine = fold != number, fold == number
        threshold = best_threshold(scores.charted[others], utility.rows(others), patient[others])
        predicted[mine] = scores.charted[mine] >= threshold
        known = others & early
        probability[mine] = isotonic(scores.bedside[known], table.labels[known] > 0)(scores.bedside[mine])
    return predicted, probability


def reliability(probability: Array, positive: Mask, groups: int = RELIABILITY_GROUPS) -> list[list[float]]:
    """Rows, mean probability and share that came, of equally large groups of like probability."""
    parts = np.array_split(np.argsort(probability, kind="stable"), groups)
    return [
        [len(part), round(float(probability[part].mean()), 5), round(float(positive[part].mean()), 5)] for part in parts
    ]
