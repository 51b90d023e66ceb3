"""Scores of training patients by forests that have not seen them, and what they say: calibration, burden, figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.workshop.alerts import per_patient_day, threshold_at
from edgeward.workshop.calibrate import expected_error, isotonic
from edgeward.workshop.ranking import Ranked, brier
from edgeward.workshop.sepsis_train import LATE_H, PAYS_LOG_ODDS, assign_folds, grow, library_scores
from edgeward.workshop.sepsis_utility import utility_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.workshop.sepsis_train import TreeSettings
    from edgeward.workshop.stay_table import StayTable

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ACT_BURDEN = 0.25
"""Alerts per patient-day of the higher level: one in four patient-days."""
RELIABILITY_GROUPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Log odds (N,) of every row: ``charted`` as the table counts the hours, ``bedside`` with the hours held."""

    charted: Array
    bedside: Array
    fold: npt.NDArray[np.int64]


def cross(
    values: FloatArray,
    table: StayTable,
    names: Sequence[str],
    settings: TreeSettings,
    *,
    folds: int,
    hours_in_max: float,
    say: Callable[[str], None] = lambda _: None,
) -> OutOfFold:
    """Score every patient by a forest of the other folds. Raises what ``assign_folds`` and ``grow`` raise."""
    fold = assign_folds(table, folds)
    patient = table.patient_of_row
    charted, bedside = np.empty(len(table)), np.empty(len(table))
    for number in range(folds):
        _, boosters = grow(values, table, fold != number, settings)
        rows = fold[patient] == number
        charted[rows] = library_scores(boosters, values[rows])
        bedside[rows] = library_scores(boosters, held(values[rows], names, hours_in_max))
        say(f"fold {number + 1} of {folds} scored")
    return OutOfFold(charted, bedside, fold)


def held(values: FloatArray, names: Sequence[str], hours_in_max: float) -> FloatArray:
    """``values`` with the hours in this care held at ``hours_in_max``, as a device computes them."""
    out = values.copy()
    if "hours_in" in names:
        column = names.index("hours_in")
        out[:, column] = np.minimum(out[:, column], np.float32(hours_in_max))
    return out


def decision_of(scores: OutOfFold, table: StayTable) -> dict[str, Any]:
    """Calibration and levels from ``bedside`` scores of the hours that the tables show whole (before ``LATE_H``).

    ``watch`` is where a prediction pays by the challenge's utility; ``act`` is the score that raises ``ACT_BURDEN``
    alerts per patient-day, and never lower than ``watch``.
    """
    early, starts = early_rows(table)
    score = scores.bedside[early]
    calibrated = isotonic(score, table.labels[early] > 0)
    act = max(threshold_at(score, starts, ACT_BURDEN), PAYS_LOG_ODDS)
    burden = {
        name: round(per_patient_day(score >= at, starts), 4) for name, at in (("watch", PAYS_LOG_ODDS), ("act", act))
    }
    return {
        "calibration": calibrated.to_dict(),
        "watch": round(PAYS_LOG_ODDS, 4),
        "act": round(act, 4),
        "burden": burden,
    }


def early_rows(table: StayTable) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Rows (N,) before ``LATE_H``, and the first row of each patient that has any, counted among those rows."""
    early = ~(table.facts["ICULOS"] >= LATE_H)
    counts = np.add.reduceat(early.astype(np.int64), table.starts)
    starts = np.cumsum(np.append(0, counts))[:-1]
    return early, starts[counts > 0]


def figures(scores: OutOfFold, table: StayTable) -> dict[str, Any]:
    """What the scores are worth: rounded plain numbers for evidence and card.

    Brier score and calibration error are of probabilities whose calibration comes from the other folds' patients.
    """
    positive = table.labels > 0
    utility = utility_of(table.labels, table.starts)
    early, _ = early_rows(table)
    probability = cross_calibrated(scores, table)
    seen = positive[early]
    predicted = scores.charted >= PAYS_LOG_ODDS
    found = {
        "auroc": Ranked(positive, scores.charted).auroc(),
        "auprc": Ranked(positive, scores.charted).auprc(),
        "utility": utility.normalised(predicted),
        "utility_before_hour_60": float((utility.gain * predicted)[early].sum() / (utility.gain * utility.best).sum()),
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


def cross_calibrated(scores: OutOfFold, table: StayTable) -> Array:
    """Probability (N,) of each row at the bedside, calibrated on the other folds' patients."""
    early, _ = early_rows(table)
    fold = scores.fold[table.patient_of_row]
    out = np.empty(len(table))
    for number in np.unique(fold):
        others = early & (fold != number)
        mine = fold == number
        out[mine] = isotonic(scores.bedside[others], table.labels[others] > 0)(scores.bedside[mine])
    return out


def reliability(probability: Array, positive: Mask, groups: int = RELIABILITY_GROUPS) -> list[list[float]]:
    """Rows, mean probability and share that came, of equally large groups of like probability."""
    parts = np.array_split(np.argsort(probability, kind="stable"), groups)
    return [
        [len(part), round(float(probability[part].mean()), 5), round(float(positive[part].mean()), 5)] for part in parts
    ]
