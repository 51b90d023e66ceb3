"""Boosted decision trees as a torch module, so that they export into the same ONNX file as a network beside them.

Complete binary trees of one depth in heap order: node k has the children 2k + 1 (feature ≤ threshold) and 2k + 2. Only
Gather, GatherElements, comparisons and sums come out of it; nothing to learn, nothing to quantise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from edgeward.workshop.heap_trees import HeapTrees

DEPTH = 4
NODES = 2**DEPTH - 1
LEAVES = 2**DEPTH


class BoostedTrees(nn.Module):
    """``forward(x (B, K)) -> scores (B, classes)``: tree t adds one leaf to the score of class t mod ``classes``."""

    feature: Tensor
    threshold: Tensor
    leaf: Tensor
    root: Tensor

    def __init__(self, trees: int, classes: int) -> None:
        super().__init__()
        if trees % classes:
            raise ValueError("every class has the same number of trees")
        self.trees, self.classes = trees, classes
        self.register_buffer("feature", torch.zeros(trees * NODES, dtype=torch.int32))
        self.register_buffer("threshold", torch.full((trees * NODES,), float("inf")))
        self.register_buffer("leaf", torch.zeros(trees * LEAVES))
        self.register_buffer("root", torch.arange(trees) * NODES, persistent=False)

    @classmethod
    def of(cls, grown: HeapTrees, classes: int) -> BoostedTrees:
        """The module that computes what ``grown`` (of ``DEPTH``) says."""
        made = cls(len(grown.feature), classes)
        made.feature.copy_(torch.from_numpy(grown.feature.reshape(-1)))
        made.threshold.copy_(torch.from_numpy(grown.threshold_float32().reshape(-1)))
        made.leaf.copy_(torch.from_numpy(grown.leaf.reshape(-1)))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, classes) of vectors ``x`` (B, K)."""
        right = x.index_select(1, self.feature) > self.threshold  # (B, trees · NODES)
        node = self.root + 1 + right.index_select(1, self.root).to(torch.int64)  # (B, trees)
        for _ in range(DEPTH - 1):
            node = 2 * node + (1 - self.root) + torch.gather(right, 1, node).to(torch.int64)
        leaf = node - NODES + torch.div(self.root, NODES, rounding_mode="floor")  # each tree has a leaf more than nodes
        chosen = self.leaf[leaf]
        return chosen.reshape(-1, self.trees // self.classes, self.classes).sum(dim=1)
