"""Boosted decision trees as plain numbers, evaluated with numpy alone.

The library that grows trees stays in the workshop; what travels is five lists of numbers that anyone can read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

NODES_MAX = 1 << 16
"""Nodes of all trees together: more than any model here needs, little enough to load at once."""


@dataclass(frozen=True, slots=True)
class Trees:
    """All nodes of all trees in one list; a leaf points to itself.

    ``feature``, ``threshold``, ``left``, ``right``, ``value`` are (nodes,), ``root`` is (trees,). A feature at or below
    the threshold goes left; a missing one (NaN) goes left where ``missing_left`` (nodes,) says so, else right.
    ``cover`` (nodes,): how many training rows came by, where effects are wanted. Children stand after their parent, so
    that every walk ends; this and every index is checked at construction (``BundleError``, ``trees-malformed``).
    """

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    value: FloatArray
    root: IntArray
    features: int
    missing_left: BoolArray | None = None
    cover: FloatArray | None = None

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        optional = [column.shape for column in (self.missing_left, self.cover) if column is not None]
        columns = [column.shape for column in (self.threshold, self.left, self.right, self.value)]
        if not 0 < nodes <= NODES_MAX or any(shape != (nodes,) for shape in columns + optional) or not len(self.root):
            raise _malformed("its lists do not have one entry per node")
        index = np.arange(nodes)
        leaf = (self.left == index) & (self.right == index)
        inner = (self.left > index) & (self.right > index) & (self.left < nodes) & (self.right < nodes)
        if not (leaf | inner).all() or ((self.root < 0) | (self.root >= nodes)).any():
            raise _malformed("a node does not point to itself or to nodes after it")
        if ((self.feature < 0) | (self.feature >= self.features)).any():
            raise _malformed("a node asks for a feature that is not measured")
        if not (np.isfinite(self.threshold).all() and np.isfinite(self.value).all()):
            raise _malformed("a threshold or value is not a number")
        if self.cover is not None and not ((self.cover > 0) & np.isfinite(self.cover)).all():
            raise _malformed("no training row came by a node")

    def score(self, values: FloatArray) -> float:
        """Sum of the leaves that ``values`` (F,) reaches: log odds for a model of two classes."""
        if values.shape != (self.features,):
            raise ValueError(f"expected {self.features} features")
        node = self.root
        while True:
            asked = values[self.feature[node]]
            below = asked <= self.threshold[node]
            if self.missing_left is not None:
                below |= np.isnan(asked) & self.missing_left[node]
            chosen = np.where(below, self.left[node], self.right[node])
            if np.array_equal(chosen, node):
                return float(self.value[node].sum())
            node = chosen

    def to_dict(self) -> dict[str, list[int] | list[float]]:
        """Lists for JSON; ``from_dict`` reads them back."""
        return {
            "feature": self.feature.tolist(),
            "threshold": self.threshold.tolist(),
            "left": self.left.tolist(),
            "right": self.right.tolist(),
            "value": self.value.tolist(),
            "root": self.root.tolist(),
        }

    @classmethod
    def from_dict(cls, lists: Mapping[str, object], features: int) -> Trees:
        """Read what ``to_dict`` wrote; ``BundleError`` (``trees-malformed``) for anything else."""
        return cls(
            feature=_integers(lists, "feature"),
            threshold=_numbers(lists, "threshold"),
            left=_integers(lists, "left"),
            right=_integers(lists, "right"),
            value=_numbers(lists, "value"),
            root=_integers(lists, "root"),
            features=features,
        )


def _malformed(why: str) -> BundleError:
    return BundleError("trees-malformed", f"the tree model cannot be used: {why}; export it again")


def _numbers(lists: Mapping[str, object], key: str) -> FloatArray:
    found = lists.get(key)
    if not isinstance(found, list) or len(found) > NODES_MAX:
        raise _malformed(f"the list '{key}' is missing or too long")
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in found):
        raise _malformed(f"the list '{key}' holds something that is not a number")
    return np.array(found, dtype=np.float64)


def _integers(lists: Mapping[str, object], key: str) -> IntArray:
    numbers = _numbers(lists, key)
    if not (np.abs(numbers) <= NODES_MAX).all() or not (numbers == np.round(numbers)).all():
        raise _malformed(f"the list '{key}' holds something that is not an index")
    return numbers.astype(np.int64)
