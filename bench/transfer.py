"""How far the sepsis model carries: ``python bench/transfer.py STAYS.parquet [--forests N] [--workers N]``.

Groups of stays whose measuring habits differ are held out one by one: a forest grown on all other groups scores the
group, and so do forests of five-fold cross-validation, which have seen others of the group. The difference is what is
lost on the way. Then the cross-validated forests score stays whose values were thinned out as another hospital's might
be. Units: the challenge's Unit1 (medical), Unit2 (surgical), neither; labs: laboratory values per six hours, below and
above the median; admission: hours in hospital before intensive care.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeward.workshop.ranking import Ranked
from edgeward.workshop.sepsis_recipes import FULL
from edgeward.workshop.sepsis_train import assign_folds, best_threshold, grow
from edgeward.workshop.sepsis_utility import utility_of
from edgeward.workshop.stay_replay import replay
from edgeward.workshop.stay_table import COLUMNS, StayTable, read_stays

FOLDS = 5
VITALS = ("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--forests", type=int, default=2, help="of the recipe's, to save time")
    parser.add_argument("--workers", type=int, default=1, help="processes that replay stays")
    arguments = parser.parse_args()
    table = read_stays(arguments.data)
    recipe = replace(FULL, parts=FULL.parts[: arguments.forests])
    names = recipe.features
    values = replay(table, names, workers=arguments.workers)
    thinned = replay(thin(table), names, workers=arguments.workers)
    fold = assign_folds(table, FOLDS)
    patient = table.patient_of_row
    inside, sparse = np.empty(len(table)), np.empty(len(table))
    for number in range(FOLDS):
        forest = grow(recipe, values, names, table, fold != number)
        rows = fold[patient] == number
        inside[rows], sparse[rows] = forest.scores(values[rows]), forest.scores(thinned[rows])
    utility = utility_of(table.labels, table.starts)
    threshold = best_threshold(inside, utility, patient)
    print(f"{len(table.patients)} stays, threshold {threshold:.3f}, {recipe.name} with {arguments.forests} forests")
    print(f"{'held out':28} {'stays':>6} {'septic':>7} {'AUROC in':>9} {'out':>7} {'utility in':>11} {'out':>7}")
    everybody = np.ones(len(table), dtype=np.bool_)
    show("nobody; values thinned out", everybody, inside, sparse, table, threshold)
    for grouping, group in groups(table).items():
        for name in dict.fromkeys(group.tolist()):
            start = time.perf_counter()
            forest = grow(recipe, values, names, table, group != name)
            rows = (group == name)[patient]
            outside = np.full(len(table), np.nan)
            outside[rows] = forest.scores(values[rows])
            show(f"{grouping}: {name}", rows, inside, outside, table, threshold)
            print(f"{'':28} {time.perf_counter() - start:.0f} s", flush=True)


def show(
    name: str, rows: np.ndarray, inside: np.ndarray, outside: np.ndarray, table: StayTable, threshold: float
) -> None:
    """One line: the same rows scored by forests that saw others of the group, and by one that saw none."""
    utility = utility_of(table.labels, table.starts).rows(rows)
    positive = table.labels[rows] > 0
    chosen = np.unique(table.patient_of_row[rows])
    septic = table.septic[chosen].mean()
    figures = []
    for scores in (inside[rows], outside[rows]):
        figures += [Ranked(positive, scores).auroc(), utility.normalised(scores >= threshold)]
    auroc_in, utility_in, auroc_out, utility_out = figures
    print(
        f"{name:28} {len(chosen):6} {100 * septic:6.1f}% {auroc_in:9.4f} {auroc_out:7.4f} {utility_in:11.4f} "
        f"{utility_out:7.4f}",
        flush=True,
    )


def groups(table: StayTable) -> dict[str, np.ndarray]:
    """Grouping → name of each patient's group (P,)."""
    unit1 = table.facts["Unit1"][table.starts]
    unit = np.where(np.isnan(unit1), "neither", np.where(unit1 > 0, "medical", "surgical"))
    labs = [index for index, column in enumerate(COLUMNS) if column not in VITALS]
    many = np.add.reduceat((~np.isnan(table.values[:, labs])).sum(axis=1), table.starts)
    often = many / np.maximum((table.ends - table.starts) / 6.0, 1.0)
    density = np.where(often > np.median(often), "dense", "sparse")
    before = -table.facts["HospAdmTime"][table.starts]
    admission = np.where(before < 1.0, "straight", np.where(before < 24.0, "within a day", "later"))
    return {"unit": unit, "labs": density, "admission": admission}


def thin(table: StayTable, *, seed: int = 9) -> StayTable:
    """The stays as another hospital might have measured them.

    Each laboratory value is kept with a chance of its own, half by patient and half by value; the chances were drawn
    once. Oxygen is written down for one patient in six, as where only ventilators report it.
    """
    rng = np.random.default_rng(seed)
    values = table.values.copy()
    patient = table.patient_of_row
    for index, column in enumerate(COLUMNS):
        if column in VITALS:
            continue
        chance = 1 / 6 if column == "FiO2" else rng.uniform(0.1, 1.0)
        kept = rng.random(len(table.patients)) < np.sqrt(chance)
        values[~kept[patient] | (rng.random(len(table)) > np.sqrt(chance)), index] = np.nan
    return replace(table, values=values)


if __name__ == "__main__":
    main()
