"""Boosted trees with numpy alone: log odds and what each feature did to them, in one run.

The model file is an ``.npz`` of plain arrays, one entry per node (``edgeward.signal.trees``)::

    feature threshold left right value missing_left cover     (nodes,)
    root (trees,)       features (1,) how many features a row has

One input (1, F), NaN where a feature is missing; one output (1, 1 + F): the log odds, then the exact Shapley value of
each feature (``edgeward.inference.tree_effects``); log odds less the sum of the effects is the same for every row.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from edgeward.inference.backend import check_graph
from edgeward.inference.tree_effects import TreeEffects
from edgeward.kernel.errors import BundleError, ConfigError, EngineError
from edgeward.signal.trees import NODES_MAX, Trees

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from edgeward.inference.backend import Array

_COLUMNS = ("feature", "threshold", "left", "right", "value", "missing_left", "cover", "root", "features")
_WHOLE = ("feature", "left", "right", "missing_left", "root", "features")
THREADS_MAX = 64
_HEADER_BYTES_MAX = 4096


class TreesSession:
    """Trees bound to their buffers."""

    def __init__(self, trees: Trees, rows: Array, scores: Array) -> None:
        self._rows, self._scores = rows, scores
        self._effects = TreeEffects(trees)
        self._values = np.zeros(trees.features)

    def run(self) -> None:
        """Read the bound input, write the bound output. Raises ``EngineError`` (``run-failed``)."""
        try:
            self._values[:] = self._rows[0]
            effects = self._effects.explain(self._values)
            self._scores[0, 0] = self._effects.base + effects.sum()
            self._scores[0, 1:] = effects
        except (ArithmeticError, ValueError, MemoryError) as error:
            raise EngineError(
                "run-failed", f"the trees could not be run ({type(error).__name__}); return to the other slot"
            ) from error


def load(model: bytes, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, threads: int = 1) -> TreesSession:
    """Load ``model`` for batch 1 and bind it; see ``edgeward.inference.backend.Backend.load`` for the errors.

    Trees run on one thread, whatever ``threads`` is.
    """
    if not 1 <= threads <= THREADS_MAX:
        raise ConfigError("threads", f"an engine takes 1 to {THREADS_MAX} threads")
    trees = read_trees(model)
    names = list(inputs)
    check_graph("input", {names[0] if names else "features": (True, (1, trees.features))}, inputs)
    check_graph("output", {"scores": (True, (1, 1 + trees.features))}, outputs)
    return TreesSession(trees, inputs[names[0]], outputs["scores"])


def write_trees(trees: Trees) -> bytes:
    """The model file of ``trees``, which know ``missing_left`` and ``cover``. Same trees, same bytes."""
    columns: dict[str, Any] = {name: getattr(trees, name) for name in _COLUMNS[:-1]}
    columns |= {name: columns[name].astype(np.int32) for name in _WHOLE[:-1]}
    columns["features"] = np.array([trees.features], np.int32)
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    return buffer.getvalue()


def read_trees(model: bytes) -> Trees:
    """The trees of a model file; ``BundleError`` (``model-refused``, ``trees-malformed``) for anything else."""
    columns: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            for name in _COLUMNS:
                columns[name] = _column(archive, name)
        (features,) = columns.pop("features").tolist()
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BundleError(
            "model-refused", f"the file is no tree model ({type(error).__name__}); pack the bundle again"
        ) from error
    columns["missing_left"] = columns["missing_left"] > 0
    return Trees(**columns, features=features)


def _column(archive: zipfile.ZipFile, name: str) -> Any:
    """One array, its size looked at before a byte is unpacked; ``ValueError`` when it is not as it should be."""
    if archive.getinfo(name + ".npy").file_size > 8 * NODES_MAX + _HEADER_BYTES_MAX:
        raise ValueError("too large")
    with archive.open(name + ".npy") as member:
        column = np.lib.format.read_array(member, allow_pickle=False)
    if column.ndim != 1 or column.dtype.kind != ("i" if name in _WHOLE else "f"):
        raise ValueError("another type")
    return column.astype(np.int64 if name in _WHOLE else np.float64)
