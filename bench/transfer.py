"""How far the sepsis model carries: ``python bench/transfer.py STAYS.parquet --work DIR [--groups unit labs …]``.

Groups of stays whose measuring habits differ are held out one by one: forests grown on all other groups score the
group, and so do forests of five-fold cross-validation, which have seen others of the group. The difference is what is
lost on the way; the plain baseline goes the same way beside the model. First of all, a fifth of the stays is scored
twice by forests that know none of them: as they are, and thinned out as another hospital might have measured them.

- unit: the challenge's Unit1 (medical), Unit2 (surgical), neither
- labs: laboratory values per six hours, above and below the median
- admission: straight to intensive care, after hours, after a day or more in hospital

Features and folds are kept in ``--work``; the cache of a build folder of the same table will do.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeward.workshop.folder import fingerprint
from edgeward.workshop.ranking import Ranked
from edgeward.workshop.sepsis_kept import kept_features
from edgeward.workshop.sepsis_out_of_fold import cross
from edgeward.workshop.sepsis_recipes import BASELINE, FULL
from edgeward.workshop.sepsis_task import HOURS_IN_MAX, TASK
from edgeward.workshop.sepsis_train import assign_folds, best_threshold, grow
from edgeward.workshop.sepsis_utility import utility_of
from edgeward.workshop.stay_replay import replay
from edgeward.workshop.stay_table import COLUMNS, StayTable, read_stays

FOLDS = 5
RECIPES = (FULL, BASELINE)
GROUPINGS = ("unit", "labs", "admission")
VITALS = ("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps features and folds")
    parser.add_argument("--groups", nargs="+", choices=GROUPINGS, default=GROUPINGS)
    arguments = parser.parse_args()
    table = read_stays(arguments.data)
    names = TASK.feature_names
    matrix = kept_features(table, names, arguments.work)
    values = np.load(matrix, mmap_mode="r")
    patient = table.patient_of_row
    fifth = assign_folds(table, FOLDS) == 0
    held = {"values thinned out": fifth}
    for grouping in arguments.groups:
        group = groups(table)[grouping]
        held |= {f"{grouping}: {name}": group == name for name in np.unique(group).tolist()}
    outside: dict[tuple[str, str], np.ndarray] = {}
    for line, chosen in held.items():
        for recipe in RECIPES:
            rows = np.flatnonzero(chosen[patient])
            path = matrix.with_name(f"held-{fingerprint({'line': line, 'recipe': recipe, 'of': matrix.name})[:16]}.npy")
            if not path.is_file():
                forest = grow(recipe, values, names, table, ~chosen)
                mine = replay(thin(table.take(fifth)), names) if chosen is fifth else values[rows]
                np.save(path, forest.scores(mine))
            outside[line, recipe.name] = np.full(len(table), np.nan)
            outside[line, recipe.name][rows] = np.load(path)
        print(f"{line}: {int(chosen.sum())} stays held out", file=sys.stderr, flush=True)
    crossed = cross(RECIPES, matrix, names, table, folds=FOLDS, hours_in_max=HOURS_IN_MAX)
    utility = utility_of(table.labels, table.starts)
    print(f"{'held out':40} {'stays':>6} {'septic':>7} {'AUROC in':>9} {'out':>7} {'utility in':>11} {'out':>7}")
    for (line, name), scores in outside.items():
        inside = crossed[name].charted
        threshold = best_threshold(inside, utility, patient)
        show(f"{line}, {name}", held[line], inside, scores, table, threshold)


def show(
    line: str, held: np.ndarray, inside: np.ndarray, outside: np.ndarray, table: StayTable, threshold: float
) -> None:
    """One line: the stays ``held`` scored by forests that saw others like them, and by one that saw none."""
    rows = held[table.patient_of_row]
    utility = utility_of(table.labels, table.starts).rows(rows)
    positive = table.labels[rows] > 0
    figures = []
    for scores in (inside[rows], outside[rows]):
        figures += [Ranked(positive, scores).auroc(), utility.normalised(scores >= threshold)]
    auroc_in, utility_in, auroc_out, utility_out = figures
    print(
        f"{line:40} {int(held.sum()):6} {100 * table.septic[held].mean():6.1f}% {auroc_in:9.4f} {auroc_out:7.4f} "
        f"{utility_in:11.4f} {utility_out:7.4f}",
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
