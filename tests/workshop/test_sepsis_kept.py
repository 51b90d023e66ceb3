"""What is dear is computed once: features by the table and the code, folds by the recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")
pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from edgeward.testing.stays import made_stays, write_parquet
from edgeward.workshop import sepsis_out_of_fold
from edgeward.workshop.sepsis_kept import fold_path, kept_features
from edgeward.workshop.sepsis_recipes import BASELINE, LAST_NAMES
from edgeward.workshop.stay_table import StayTable, read_stays

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop
QUICK = replace(BASELINE, parts=tuple(replace(part, rounds=3) for part in BASELINE.parts))
NAMES = (*LAST_NAMES, "hours_before")


@pytest.fixture
def table(tmp_path: Path) -> StayTable:
    return read_stays(write_parquet(made_stays(40, seed=2), tmp_path / "stays.parquet"))


def test_features_are_replayed_once(table: StayTable, tmp_path: Path) -> None:
    """The second call says nothing and gives the same file; other features have another."""
    said: list[str] = []
    first = kept_features(table, NAMES, tmp_path / "cache", say=said.append)
    assert kept_features(table, NAMES, tmp_path / "cache", say=said.append) == first
    assert len(said) == 1
    assert np.load(first).shape == (len(table), len(NAMES))
    assert kept_features(table, NAMES[1:], tmp_path / "cache") != first
    assert not list((tmp_path / "cache").glob("*.part*"))


def test_folds_are_grown_once(table: StayTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-validation that was done before grows nothing and gives the same scores."""
    matrix = kept_features(table, NAMES, tmp_path)

    def crossed() -> sepsis_out_of_fold.OutOfFold:
        return sepsis_out_of_fold.cross((QUICK,), matrix, NAMES, table, folds=3, hours_in_max=48.0)[QUICK.name]

    first = crossed()

    def never(*_: object) -> None:
        raise AssertionError("grown twice")

    monkeypatch.setattr(sepsis_out_of_fold, "grow", never)
    again = crossed()
    np.testing.assert_array_equal(first.charted, again.charted)
    np.testing.assert_array_equal(first.bedside, again.bedside)


def test_another_recipe_or_fold_is_another_file(tmp_path: Path) -> None:
    """Whatever a fold's scores depend on is in its name."""
    matrix = tmp_path / "features-0.npy"
    paths = {
        fold_path(matrix, recipe, number, folds, held)
        for recipe in (QUICK, replace(QUICK, seed=1), BASELINE)
        for number, folds in ((0, 5), (1, 5), (0, 4))
        for held in (48.0, 60.0)
    }
    assert len(paths) == 18
