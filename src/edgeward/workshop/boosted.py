"""From LightGBM's booster to plain numbers: the trees as a device evaluates them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.signal.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import lightgbm


def trees_of(
    booster: lightgbm.Booster, *, columns: npt.NDArray[np.intp] | None = None, width: int | None = None
) -> Trees:
    """All of ``booster``'s trees, sending what is missing where LightGBM sends it.

    ``columns``: which of ``width`` columns each of its features is; without it, its features are all columns.

    A node whose feature was never missing in training takes a missing value for 0, as LightGBM does (its missing type
    "None"). Raises ``ValueError`` for splits on categories and for ``zero_as_missing``, which no model here uses.
    """
    document = booster.dump_model()
    rows: list[tuple[int, float, int, int, float, bool, float]] = []

    def add(node: dict[str, Any]) -> int:
        index = len(rows)
        if "leaf_value" in node:
            rows.append((0, 0.0, index, index, float(node["leaf_value"]), False, max(float(node["leaf_count"]), 1.0)))
            return index
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            raise ValueError("only numerical splits without zero_as_missing can be exported")
        threshold = float(node["threshold"])
        missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0
        rows.append((0, 0.0, 0, 0, 0.0, False, 0.0))
        left, right = add(node["left_child"]), add(node["right_child"])
        cover = float(node["internal_count"])
        rows[index] = (int(node["split_feature"]), threshold, left, right, 0.0, bool(missing_left), cover)
        return index

    # A tree that is one leaf has no count of its own.
    roots = [add({"leaf_count": 1, **tree["tree_structure"]}) for tree in document["tree_info"]]
    feature, threshold, left, right, value, missing_left, cover = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    count = int(document["max_feature_idx"]) + 1
    return Trees(
        feature if columns is None else columns[feature],
        threshold,
        left,
        right,
        value,
        np.array(roots),
        features=count if width is None else width,
        missing_left=missing_left,
        cover=cover,
    )


def mean_trees(forests: Sequence[Trees]) -> Trees:
    """One forest whose score is the mean of the scores of ``forests``, and whose effects are the means of theirs."""
    starts = np.cumsum([0, *(len(forest.feature) for forest in forests)])[:-1]
    pairs = list(zip(forests, starts, strict=True))

    def joined(of: Callable[[Trees], Any]) -> Any:
        columns = [of(forest) for forest in forests]
        return None if any(column is None for column in columns) else np.concatenate(columns)

    return Trees(
        feature=joined(lambda forest: forest.feature),
        threshold=joined(lambda forest: forest.threshold),
        left=np.concatenate([forest.left + start for forest, start in pairs]),
        right=np.concatenate([forest.right + start for forest, start in pairs]),
        value=joined(lambda forest: forest.value) / len(forests),
        root=np.concatenate([forest.root + start for forest, start in pairs]),
        features=forests[0].features,
        missing_left=joined(lambda forest: forest.missing_left),
        cover=joined(lambda forest: forest.cover),
    )
