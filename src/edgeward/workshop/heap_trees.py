"""LightGBM's trees as complete binary trees in heap order: plain arrays that any runtime can walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import lightgbm

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeapTrees:
    """Node k has the children 2k + 1 (feature ≤ threshold) and 2k + 2; where LightGBM stopped early, all go left."""

    feature: npt.NDArray[np.int64]
    """(trees, nodes)."""
    threshold: Float64Array
    """(trees, nodes)."""
    leaf: Float64Array
    """(trees, nodes + 1)."""

    def threshold_float32(self) -> npt.NDArray[np.float32]:
        """Thresholds rounded down: a float32 feature falls on the same side of them as of the exact ones."""
        near = self.threshold.astype(np.float32)
        return np.where(near > self.threshold, np.nextafter(near, np.float32(-np.inf)), near)


def heap_trees(model: lightgbm.Booster, depth: int) -> HeapTrees:
    """The trees of ``model``, none deeper than ``depth``."""
    grown = model.dump_model()["tree_info"]
    nodes = 2**depth - 1
    feature = np.zeros((len(grown), nodes), dtype=np.int64)
    threshold = np.full(feature.shape, np.inf)
    leaf = np.zeros((len(grown), nodes + 1))

    def lay(node: dict[str, Any], tree: int, at: int, level: int) -> None:
        if "split_feature" not in node:
            below = 2 ** (depth - level)
            first = (at + 1) * below - 1 - nodes
            leaf[tree, first : first + below] = node["leaf_value"]
            return
        feature[tree, at], threshold[tree, at] = node["split_feature"], node["threshold"]
        lay(node["left_child"], tree, 2 * at + 1, level + 1)
        lay(node["right_child"], tree, 2 * at + 2, level + 1)

    for tree, info in enumerate(grown):
        lay(info["tree_structure"], tree, 0, 0)
    return HeapTrees(feature, threshold, leaf)
