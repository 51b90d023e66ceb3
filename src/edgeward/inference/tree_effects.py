"""What each feature did to a score of boosted trees: exact path-dependent TreeSHAP, for one row at a time.

A leaf is reached when every feature on its path lies in an interval (or is missing where missing goes that way), so a
leaf is a game among the few features on its path: with feature i in the coalition the factor is ``o_i`` (1 when the
row's value leads to the leaf, else 0), without it ``z_i`` (the share of training rows that took the path's branches on
i). Its Shapley value is

    phi_i = value · (o_i − z_i) · ∫₀¹ Π_{j≠i} (z_j·(1−y) + o_j·y) dy

because the Shapley weights |S|!(d−1−|S|)!/d! are the integrals of y^|S|·(1−y)^(d−1−|S|). The integrand is a polynomial
of degree d−1, so a Gauss-Legendre rule of ⌈d/2⌉ points is exact. Everything but ``o`` is known when the model is
loaded, so a row costs a few passes over arrays, whatever it holds.

Lundberg SM, Erion G, Chen H, et al. From local explanations to global understanding with explainable AI for trees.
Nature Machine Intelligence 2:56-67, 2020 (algorithm 2 gives the same numbers; LightGBM's ``pred_contrib`` is it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.errors import BundleError

if TYPE_CHECKING:
    from edgeward.signal.trees import BoolArray, FloatArray, IntArray, Trees

PATH_FEATURES_MAX = 24
"""Different features on the way to one leaf; deeper trees are no model for a bedside."""


@dataclass(frozen=True, slots=True, eq=False)
class _Leaves:
    """Leaves with d features on their paths: arrays are (d, leaves), ``value`` (leaves,); a row of d is contiguous."""

    feature: IntArray
    low: FloatArray
    high: FloatArray
    missing: BoolArray
    share: FloatArray
    value: FloatArray
    points: FloatArray
    weights: FloatArray


class TreeEffects:
    """Score and effects of ``trees``, which must know their ``cover``; ``BundleError`` (``trees-malformed``) if not."""

    def __init__(self, trees: Trees) -> None:
        if trees.cover is None:
            raise BundleError("trees-malformed", "the tree model has no cover, so effects cannot be told; export again")
        self.features = trees.features
        self._groups = _leaf_groups(trees)
        self.base = float(sum((group.value * group.share.prod(axis=0)).sum() for group in self._groups))
        """The score that is expected when no feature is known: what the effects are told from."""
        self.base += float(sum(trees.value[root] for root in trees.root if trees.left[root] == root))

    def explain(self, values: FloatArray) -> FloatArray:
        """Effects (F,) of ``values`` (F,), NaN where missing; ``base`` and they sum to the trees' score."""
        effects = np.zeros(self.features)
        absent = np.isnan(values)
        for group in self._groups:
            asked = values[group.feature]  # (d, leaves)
            leads = (asked > group.low) & (asked <= group.high)
            leads |= absent[group.feature] & group.missing
            difference = leads - group.share
            total = np.zeros_like(difference)
            for point, weight in zip(group.points, group.weights, strict=True):
                factor = group.share + point * difference
                total += (weight * factor.prod(axis=0)) / factor
            total *= difference
            total *= group.value
            effects += np.bincount(group.feature.ravel(), total.ravel(), minlength=self.features)
        return effects


def _leaf_groups(trees: Trees) -> list[_Leaves]:
    """The leaves by the number of features on their paths; a tree that is a single leaf has no effect."""
    paths: dict[int, list[tuple[list[tuple[int, float, float, bool, float]], float]]] = {}
    for path, value in _walk(trees):
        if path:
            paths.setdefault(len(path), []).append((path, value))
    groups = []
    for count in sorted(paths):
        if count > PATH_FEATURES_MAX:
            raise BundleError(
                "trees-malformed",
                f"a path of the tree model asks for {count} features, the limit is {PATH_FEATURES_MAX}; grow less deep",
            )
        columns = np.array([path for path, _ in paths[count]]).transpose(2, 1, 0)  # (5, d, leaves)
        points, weights = np.polynomial.legendre.leggauss((count + 1) // 2)
        groups.append(
            _Leaves(
                feature=np.ascontiguousarray(columns[0].astype(np.int64)),
                low=np.ascontiguousarray(columns[1]),
                high=np.ascontiguousarray(columns[2]),
                missing=np.ascontiguousarray(columns[3] > 0),
                share=np.ascontiguousarray(columns[4]),
                value=np.array([value for _, value in paths[count]]),
                points=(points + 1.0) / 2.0,
                weights=weights / 2.0,
            )
        )
    return groups


def _walk(trees: Trees) -> list[tuple[list[tuple[int, float, float, bool, float]], float]]:
    """Each leaf's path, one (feature, low, high, missing leads here, share) per feature, and its value."""
    assert trees.cover is not None
    feature, threshold = trees.feature.tolist(), trees.threshold.tolist()
    left, right, cover = trees.left.tolist(), trees.right.tolist(), trees.cover.tolist()
    missing_left = trees.missing_left.tolist() if trees.missing_left is not None else [False] * len(feature)
    leaves = []
    waiting: list[tuple[int, dict[int, tuple[float, float, bool, float]]]] = [
        (root, {}) for root in trees.root.tolist()
    ]
    while waiting:
        node, path = waiting.pop()
        if left[node] == node:
            leaves.append(([(name, *found) for name, found in path.items()], float(trees.value[node])))
            continue
        asked, limit = feature[node], threshold[node]
        low, high, missing, share = path.get(asked, (-np.inf, np.inf, True, 1.0))
        for child, goes_left in ((left[node], True), (right[node], False)):
            narrowed = (low, min(high, limit)) if goes_left else (max(low, limit), high)
            there = missing and missing_left[node] is goes_left
            waiting.append((child, {**path, asked: (*narrowed, there, share * cover[child] / cover[node])}))
    return leaves
