"""Boosted trees with numpy alone: log odds and what each feature did to them, in one run.

The model file is an ``.npz`` of plain arrays, one entry per node (``edgeward.signal.trees``)::

    feature i2   threshold f4   left i4   right i4   value f4   missing_left i1   cover i4      (nodes,)
    root i4 (trees,)            features i4 (1,): how many features a row has

A threshold is rounded down to the next 32-bit float: a row holds 32-bit floats, for which that decides the same.

One input ``features`` (1, F), NaN where one is missing. One output ``scores`` (1, 1 + F): the log odds, then the exact
Shapley value of each feature (``edgeward.inference.tree_effects``). The log odds less the sum of the effects are the
same for every row.
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
    from edgeward.signal.trees import FloatArray

INPUT, OUTPUT = "features", "scores"
_TYPES = {
    "feature": np.int16, "threshold": np.float32, "left": np.int32, "right": np.int32, "value": np.float32,
    "missing_left": np.int8, "cover": np.int32, "root": np.int32, "features": np.int32,
}  # fmt: skip
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
    check_graph("input", {INPUT: (True, (1, trees.features))}, inputs)
    check_graph("output", {OUTPUT: (True, (1, 1 + trees.features))}, outputs)
    return TreesSession(trees, inputs[INPUT], outputs[OUTPUT])


def write_trees(trees: Trees) -> bytes:
    """The model file of ``trees``, which know ``missing_left`` and ``cover``. Same trees, same bytes."""
    columns: dict[str, Any] = {"threshold": rounded_down(trees.threshold), "features": np.array([trees.features])}
    columns |= {name: getattr(trees, name) for name in _TYPES if name not in columns}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: columns[name].astype(kind) for name, kind in _TYPES.items()})
    return buffer.getvalue()


def read_trees(model: bytes) -> Trees:
    """The trees of a model file; ``BundleError`` (``model-refused``, ``trees-malformed``) for anything else."""
    columns: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            for name in _TYPES:
                columns[name] = _column(archive, name)
        (features,) = columns.pop("features").tolist()
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BundleError(
            "model-refused", f"the file is no tree model ({type(error).__name__}); pack the bundle again"
        ) from error
    columns["missing_left"] = columns["missing_left"] > 0
    columns["cover"] = columns["cover"].astype(np.float64)
    return Trees(**columns, features=features)


def _column(archive: zipfile.ZipFile, name: str) -> Any:
    """One array, its size looked at before a byte is unpacked; ``ValueError`` when it is not as it should be."""
    if archive.getinfo(name + ".npy").file_size > 8 * NODES_MAX + _HEADER_BYTES_MAX:
        raise ValueError("too large")
    with archive.open(name + ".npy") as member:
        column = np.lib.format.read_array(member, allow_pickle=False)
    if column.ndim != 1 or column.dtype != _TYPES[name]:
        raise ValueError("another type")
    return column.astype(np.float64 if column.dtype.kind == "f" else np.int64)


def rounded_down(values: FloatArray) -> Array:
    """The greatest 32-bit floats not above ``values``: for 32-bit features they decide as ``values`` do."""
    most = float(np.finfo(np.float32).max)  # a split of missing from present has a threshold beyond every number
    nearest = np.clip(values, -most, most).astype(np.float32)
    lower: Array = np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return lower
