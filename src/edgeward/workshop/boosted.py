"""From LightGBM's booster to plain numbers: the trees as a device evaluates them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.signal.trees import Trees

if TYPE_CHECKING:
    import lightgbm


def trees_of(booster: lightgbm.Booster) -> Trees:
    """All of ``booster``'s trees, sending what is missing where LightGBM sends it.

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
    return Trees(
        feature,
        threshold,
        left,
        right,
        value,
        np.array(roots),
        features=int(document["max_feature_idx"]) + 1,
        missing_left=missing_left,
        cover=cover,
    )
