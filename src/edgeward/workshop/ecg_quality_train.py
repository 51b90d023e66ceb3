"""Grows the trees behind ``edgeward.signal.acceptability`` and writes them as plain numbers.

Run as ``python -m edgeward.workshop.ecg_quality_train quality.npz src/edgeward/signal/acceptability.json``.

Settings and features were chosen by hand while looking at cross-validation over the same recordings: some fifty
variants scored between 0.915 and 0.930, and this is one of the simplest among the best. The choice is not nested, so
an estimate made on these recordings may lean high; two draws of the folds alone differ by up to a point.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import lightgbm
import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.signal.acceptability import feature_names
from edgeward.workshop.boosted import trees_of
from edgeward.workshop.ecg_quality_data import load, measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.signal.trees import Trees

ROUNDS = 150
SETTINGS: Mapping[str, object] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 4,
    "min_data_in_leaf": 10,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "use_missing": False,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
PARITY = 1e-9
"""Largest difference in probability between the library and the exported numbers."""


def grow(values: npt.NDArray[np.float64], acceptable: npt.NDArray[np.int8], seed: int) -> Trees:
    """Trees for features ``values`` (N, F) and labels ``acceptable`` (N,) 0 or 1; checked against the library.

    Raises ``InputError`` (``quality-labels``) where one of the two classes is absent.
    """
    if set(np.unique(acceptable)) != {0, 1}:
        raise InputError(
            "quality-labels", "training needs acceptable and unacceptable recordings, and only judged ones"
        )
    data = lightgbm.Dataset(values, acceptable.astype(np.float64))
    booster = lightgbm.train({**SETTINGS, "seed": seed}, data, ROUNDS)
    trees = trees_of(booster)
    ours = 1.0 / (1.0 + np.exp(-np.array([trees.score(row) for row in values])))
    worst = float(np.abs(ours - booster.predict(values)).max())
    if worst > PARITY:
        raise AssertionError(f"exported trees differ from the library by {worst:g}")
    return trees


def train(data: Path, out: Path, seed: int = 0) -> None:
    """Grow trees from every judged recording of ``data`` and write the model file ``out``."""
    recordings = load(data)
    judged = recordings.judged
    trees = grow(measure(recordings.units[judged]), recordings.acceptable[judged], seed)
    blank = recordings.blank()
    document = {
        "task": "ecg-acceptability",
        "trained_on": "PhysioNet/CinC Challenge 2011 (Silva, Moody & Celi 2011), ODC-By 1.0",
        "features": list(feature_names()),
        "trees": trees.to_dict(),
        # An unjudged recording took no part in training, and a blank one is alike in every patient.
        "seen": sorted({recordings.fingerprints[i] for i in judged if not blank[i]}),
    }
    out.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    """Command line of the training run."""
    parser = argparse.ArgumentParser(description=train.__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(arguments.data, arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
