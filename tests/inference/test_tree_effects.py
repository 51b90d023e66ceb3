"""Effects of boosted trees: the definition's own numbers, LightGBM's, and a sum that comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.inference.backends.trees import read_trees, write_trees
from edgeward.inference.tree_effects import TreeEffects
from edgeward.kernel.errors import BundleError
from edgeward.testing.tree_bundles import random_rows, random_trees, slow_scores


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_effects_are_shapley_values(seed: int) -> None:
    """Against every coalition counted one by one, with missing values and features asked twice on a path."""
    trees = random_trees(seed=seed, features=5, trees=3)
    effects = TreeEffects(trees)
    for row in random_rows(3, 5, seed).astype(np.float64):
        score, *wanted = slow_scores(trees, row)
        np.testing.assert_allclose(effects.explain(row), wanted, atol=1e-9)
        assert effects.base + effects.explain(row).sum() == pytest.approx(score, abs=1e-9)
        assert trees.score(row) == pytest.approx(score, abs=1e-9)


def test_effects_are_lightgbms() -> None:
    """The library's own TreeSHAP gives the same numbers, also where a feature was never missing in training."""
    lightgbm = pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")
    from edgeward.workshop.boosted import trees_of

    rng = np.random.default_rng(0)
    rows = random_rows(3000, 20, seed=1)
    rows[:, 7] = rng.normal(size=3000)
    labels = (np.nan_to_num(rows[:, 0]) * np.nan_to_num(rows[:, 1]) + rows[:, 7] + rng.normal(size=3000) > 0) * 1.0
    settings = {"objective": "binary", "num_leaves": 31, "bagging_fraction": 0.5, "bagging_freq": 1, "verbose": -1}
    booster = lightgbm.train({**settings, "num_threads": 1}, lightgbm.Dataset(rows, labels), 60)
    trees = read_trees(write_trees(trees_of(booster)))
    effects = TreeEffects(trees)
    asked = rows[:40].astype(np.float64)
    asked[3, 7] = np.nan
    library = booster.predict(asked, pred_contrib=True)
    np.testing.assert_allclose([effects.explain(row) for row in asked], library[:, :-1], atol=1e-6)
    np.testing.assert_allclose(effects.base, library[:, -1], atol=1e-6)
    np.testing.assert_allclose([trees.score(row) for row in asked], booster.predict(asked, raw_score=True), atol=1e-6)


def test_trees_without_cover_have_no_effects() -> None:
    """Effects are told against the training rows; without their counts there are none to tell."""
    with pytest.raises(BundleError) as caught:
        TreeEffects(replace(random_trees(), cover=None))
    assert caught.value.code == "trees-malformed"


def test_a_node_that_nobody_came_by_is_refused() -> None:
    """Its share would be nothing by nothing."""
    trees = random_trees()
    assert trees.cover is not None
    with pytest.raises(BundleError):
        replace(trees, cover=np.zeros_like(trees.cover))


def test_a_file_of_trees_comes_back_the_same() -> None:
    """What a device reads is what the workshop wrote, byte for byte when written again."""
    raw = write_trees(random_trees(trees=30))
    assert write_trees(read_trees(raw)) == raw


def test_a_split_of_missing_from_present_survives_the_file() -> None:
    """The library gives it the largest double for a threshold, which no 32-bit float holds."""
    trees = random_trees(seed=3)
    split = np.flatnonzero(trees.left != np.arange(len(trees.left)))
    threshold = trees.threshold.copy()
    threshold[split] = np.finfo(np.float64).max
    back = read_trees(write_trees(replace(trees, threshold=threshold)))
    row = np.array([0.0, np.nan, 3e38, -1.0, np.nan, 1e-30])
    assert back.score(row) == pytest.approx(replace(trees, threshold=threshold).score(row), abs=1e-6)
