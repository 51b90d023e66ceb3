"""Boosted trees as an ONNX graph: a whole table at once, and the yardstick for the device's own evaluation.

The graph is one ``TreeEnsembleRegressor`` (ai.onnx.ml 3). It gives the score alone: ONNX has no effects of features,
which is why a device runs ``inference/backends/trees.py`` (measured by ``bench/trees.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.inference.backends.trees import rounded_down
from edgeward.workshop.scorer import FloatArray, Scorer

if TYPE_CHECKING:
    from edgeward.signal.trees import Trees

BATCH = 4096
_OPSET_ML, _OPSET = 3, 18


def tree_graph(trees: Trees) -> bytes:
    """The ONNX file of ``trees``: features (B, F), NaN where missing → scores (B, 1)."""
    from onnx import TensorProto, helper

    leaf = trees.left == np.arange(len(trees.feature))
    tree = np.searchsorted(trees.root, np.arange(len(trees.feature)), side="right") - 1
    number = np.arange(len(trees.feature)) - trees.root[tree]
    missing = np.zeros(len(leaf)) if trees.missing_left is None else trees.missing_left
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["scores"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        nodes_treeids=tree.tolist(),
        nodes_nodeids=number.tolist(),
        nodes_featureids=np.where(leaf, 0, trees.feature).tolist(),
        nodes_modes=["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        nodes_values=rounded_down(trees.threshold).tolist(),
        nodes_truenodeids=np.where(leaf, 0, trees.left - trees.root[tree]).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, trees.right - trees.root[tree]).tolist(),
        nodes_missing_value_tracks_true=np.where(leaf, 0, missing).astype(np.int64).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=number[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=trees.value[leaf].astype(np.float32).tolist(),
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", trees.features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1])],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _OPSET_ML)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(deterministic=True))


def table_scores(trees: Trees, rows: FloatArray) -> FloatArray:
    """Log odds (N,) of ``rows`` (N, F), in float32. Each tree's nodes must stand together, as in ``trees_of``."""
    return Scorer(tree_graph(trees)).scores({"features": rows}, batch=BATCH)[:, 0]
