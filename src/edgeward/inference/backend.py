"""The port to an accelerator: a backend is one file in ``edgeward.inference.backends`` that offers ``load``.

The caller owns every buffer. A session reads its inputs from the arrays it was given and writes its scores into the
arrays it was given, so that the arrays may lie in shared memory and nothing is copied or allocated on the hot path.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edgeward.bundle.manifest import BACKENDS, BATCH, TensorSpec
from edgeward.kernel.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = NDArray[np.float32]
_OWN = frozenset({"trees"})
"""Backends that need nothing but numpy."""


class Session(Protocol):
    """A model loaded for batch 1."""

    def run(self) -> None:
        """Read the bound inputs, write the bound outputs. Raises ``EngineError`` (``run-failed``)."""
        ...


class Backend(Protocol):
    """What a file in ``backends/`` offers."""

    def load(
        self, model: bytes, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, threads: int = 1
    ) -> Session:
        """Load ``model`` and bind it to C-contiguous ``inputs`` and ``outputs``, each with a leading batch axis of 1.

        Raises ``BundleError`` (``model-refused``: the library cannot read it; ``model-mismatch``: its names, shapes or
        types are not those of the arrays) and ``ConfigError`` (``threads``).
        """
        ...


def backend(name: str) -> Backend:
    """The backend called ``name``; ``ConfigError`` when it is unknown or its library is not installed."""
    require_library(name)
    return cast("Backend", importlib.import_module(f"edgeward.inference.backends.{name}"))


def require_library(name: str) -> None:
    """Check without loading it that backend ``name`` and its library are there; ``ConfigError`` when they are not."""
    if name not in BACKENDS:
        raise ConfigError("backend-unknown", f"no backend is called {name!r}; known: {', '.join(sorted(BACKENDS))}")
    if importlib.util.find_spec(f"edgeward.inference.backends.{name}") is None:
        raise ConfigError("backend-absent", f"this Edgeward has no backend {name!r}; install one that has")
    if name not in _OWN and importlib.util.find_spec(name) is None:  # a backend is called what its library is called
        raise ConfigError("backend-library", f"backend {name!r} needs its library; install it, or choose another model")


def allocate(specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Zeroed float32 arrays of batch 1, one per spec."""
    return {spec.name: np.zeros(batch_one(spec), np.float32) for spec in specs}


def batch_one(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of ``spec`` with its batch axis set to 1."""
    return (1, *spec.shape[1:]) if spec.shape[0] == BATCH else spec.shape


def check_graph(kind: str, found: Mapping[str, tuple[Any, Sequence[Any]]], arrays: Mapping[str, Array]) -> None:
    """Check a graph's tensors, name → (dtype is float32, dimensions), against the arrays it is to be bound to.

    A dimension that is no integer is symbolic and fits anything. Raises ``BundleError`` (``model-mismatch``).
    """
    if set(found) != set(arrays):
        raise BundleError(
            "model-mismatch",
            f"the model's {kind}s are {sorted(found)}, the manifest's {sorted(arrays)}; refuse the bundle",
        )
    for name, (is_float32, dims) in found.items():
        shape = arrays[name].shape
        fits = len(dims) == len(shape) and all(
            not isinstance(dim, int) or dim <= 0 or dim == size for dim, size in zip(dims, shape, strict=True)
        )
        if not (fits and is_float32):
            raise BundleError(
                "model-mismatch",
                f"{kind} {name} of the model is not float32 {shape} as the manifest says; refuse the bundle",
            )
