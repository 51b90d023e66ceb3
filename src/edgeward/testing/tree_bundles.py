"""Small real tree bundles for tests: made with numpy alone, their scores and effects counted from the definition."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bundle.archive import hash_members, write_bundle
from edgeward.bundle.manifest import GoldenSpec, Manifest, ModelSpec, TensorSpec
from edgeward.inference.backends.trees import write_trees
from edgeward.inference.golden import write_golden
from edgeward.signal.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from edgeward.inference.backend import Array
    from edgeward.signal.trees import FloatArray

FEATURES = 6
GOLDEN_COUNT = 4


def tree_bundle(
    *,
    seed: int = 0,
    features: int = FEATURES,
    trees: int = 8,
    name: str = "tiny-risk",
    version: str = "0.1.0",
    deadline_ms: float = 1000.0,
    preprocessing_params: Mapping[str, Any] | None = None,
    decision: Mapping[str, Any] | None = None,
    extra_members: Mapping[str, bytes] | None = None,
) -> bytes:
    """A whole bundle for task ``sepsis-risk``: features (−1, F), some missing → scores (−1, 1 + F)."""
    grown = random_trees(seed=seed, features=features, trees=trees)
    rows = random_rows(GOLDEN_COUNT, features, seed + 1)
    expected = np.array([slow_scores(grown, row) for row in rows.astype(np.float64)], dtype=np.float32)
    members = {
        "models/fp32.npz": write_trees(grown),
        "golden.npz": write_golden({"features": rows}, {"fp32": expected}),
    }
    members |= dict(extra_members or {})
    manifest = Manifest(
        name=name,
        version=version,
        task="sepsis-risk",
        inputs=(TensorSpec("features", (-1, features), missing=True),),
        outputs=(TensorSpec("scores", (-1, 1 + features), meaning="log odds, then the effect of each feature"),),
        classes=("sepsis",),
        preprocessing="stay-features-1",
        preprocessing_params=dict(preprocessing_params or {}),
        decision=dict(decision or {}),
        deadline_ms=deadline_ms,
        default_model="fp32",
        models=(ModelSpec("fp32", "models/fp32.npz", "trees", "fp32"),),
        golden=GoldenSpec("golden.npz", GOLDEN_COUNT, {"fp32": 1e-4}),
        hashes=hash_members(members),
    )
    return write_bundle(manifest, members)


def tree_model(*, seed: int = 0, features: int = FEATURES, trees: int = 8) -> bytes:
    """The model file of ``tree_bundle``."""
    return write_trees(random_trees(seed=seed, features=features, trees=trees))


def random_rows(count: int, features: int, seed: int) -> Array:
    """Rows (count, F) of which a third of the values is missing."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features)).astype(np.float32)
    rows[rng.random(rows.shape) < 1 / 3] = np.nan
    return rows


def random_trees(*, seed: int = 0, features: int = FEATURES, trees: int = 8, depth: int = 4) -> Trees:
    """Trees whose covers add up and that ask for a feature more than once on a path; a few are a single leaf."""
    rng = np.random.default_rng(seed)
    rows: list[list[float]] = []

    def grow(cover: float, level: int) -> int:
        index = len(rows)
        rows.append([0, 0.0, index, index, float(rng.normal()), 0, cover])
        if level < depth and cover >= 2 and rng.random() < 0.8:
            left_cover = float(rng.integers(1, int(cover)))
            asked, threshold, missing_left = int(rng.integers(features)), float(rng.normal()), bool(rng.integers(2))
            left = grow(left_cover, level + 1)
            right = grow(cover - left_cover, level + 1)
            rows[index] = [asked, threshold, left, right, 0.0, missing_left, cover]
        return index

    roots = [grow(64.0, 0) for _ in range(trees)]
    feature, threshold, left, right, value, missing_left, cover = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return Trees(
        feature.astype(np.int64),
        threshold,
        left.astype(np.int64),
        right.astype(np.int64),
        value,
        np.array(roots),
        features,
        missing_left > 0,
        cover,
    )


def slow_scores(trees: Trees, row: FloatArray) -> list[float]:
    """Log odds and Shapley values (1 + F) of ``row`` (F,), summed over every coalition of features."""
    everyone = range(trees.features)
    effects = []
    for feature in everyone:
        others = [name for name in everyone if name != feature]
        total = 0.0
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(others) + 1)
            for coalition in combinations(others, size):
                with_it, without = {*coalition, feature}, set(coalition)
                total += weight * (expected_value(trees, row, with_it) - expected_value(trees, row, without))
        effects.append(total)
    return [expected_value(trees, row, set(everyone)), *effects]


def expected_value(trees: Trees, row: FloatArray, known: Collection[int]) -> float:
    """The trees' value when only the features ``known`` are: elsewhere both branches count, by their cover."""
    assert trees.cover is not None
    assert trees.missing_left is not None
    cover, missing_left = trees.cover, trees.missing_left

    def walk(node: int) -> float:
        left, right = int(trees.left[node]), int(trees.right[node])
        if left == node:
            return float(trees.value[node])
        asked = int(trees.feature[node])
        if asked in known:
            value = row[asked]
            goes_left = bool(missing_left[node]) if math.isnan(value) else value <= trees.threshold[node]
            return walk(left if goes_left else right)
        share = float(cover[left] / cover[node])
        return share * walk(left) + (1.0 - share) * walk(right)

    return sum(walk(int(root)) for root in trees.root)
