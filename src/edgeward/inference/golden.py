"""Golden vectors: inputs with the scores they must give, run on the device before a bundle is trusted.

The member is an ``.npz`` without pickles: one float32 array per input named as in the manifest, with a leading vector
axis, and for each model key one array ``scores__<key>`` with the expected scores. A model passes when no score differs
from its expected value by more than ``manifest.golden.tolerance[key]``.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import GOLDEN_VECTORS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bundle.archive import Bundle
    from edgeward.bundle.manifest import TensorSpec
    from edgeward.inference.backend import Array

EXPECTED_PREFIX = "scores__"
_NPY_HEADER_MAX = 4096


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """What the golden vectors showed.

    ``worst``: the largest absolute difference of any score (infinite when a vector gave no scores at all);
    ``count``: vectors run.
    """

    passed: bool
    worst: float
    count: int


@dataclass(frozen=True, slots=True)
class GoldenVectors:
    """The vectors of one model: ``inputs`` name → (V, …) and ``expected`` (V, …), all float32."""

    inputs: Mapping[str, Array]
    expected: Array
    tolerance: float

    def __len__(self) -> int:
        return int(self.expected.shape[0])

    def window(self, index: int) -> dict[str, Array]:
        """The inputs of one vector, without a batch axis."""
        return {name: array[index] for name, array in self.inputs.items()}

    def agrees(self, index: int, scores: Array) -> bool:
        """Whether ``scores`` (n,) are those of vector ``index`` within the tolerance; what is not finite never is."""
        expected = self.expected[index].reshape(-1)
        return scores.shape == expected.shape and float(np.abs(scores - expected).max()) <= self.tolerance


def write_golden(inputs: Mapping[str, Array], expected: Mapping[str, Array]) -> bytes:
    """The golden member's bytes: ``inputs`` name → (V, …), ``expected`` model key → (V, …). Same arrays, same bytes."""
    arrays = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in inputs.items()}
    arrays |= {EXPECTED_PREFIX + key: np.ascontiguousarray(array, np.float32) for key, array in expected.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return buffer.getvalue()


def read_golden(bundle: Bundle, key: str | None = None) -> GoldenVectors:
    """The vectors of model ``key`` (default: the manifest's); ``BundleError`` when they are not as described."""
    manifest = bundle.manifest
    model = manifest.model(key)
    count = manifest.golden.count
    if not 1 <= count <= GOLDEN_VECTORS_MAX:
        raise BundleError("golden-count", f"golden.count must lie in 1..{GOLDEN_VECTORS_MAX}; pack the bundle again")
    tolerance = float(manifest.golden.tolerance[model.key])
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise BundleError("golden-tolerance", "golden.tolerance must be finite and not negative; pack the bundle again")
    wanted = {spec.name: spec for spec in manifest.inputs}
    wanted[EXPECTED_PREFIX + model.key] = manifest.outputs[0]
    arrays = _read_arrays(bundle.golden_bytes(), wanted, count)
    expected = arrays.pop(EXPECTED_PREFIX + model.key)
    return GoldenVectors(arrays, expected, tolerance)


def _read_arrays(raw: bytes, wanted: Mapping[str, TensorSpec], count: int) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name, spec in wanted.items():
                bytes_max = 4 * count * math.prod(spec.shape[1:]) + _NPY_HEADER_MAX
                _require_size(name, archive.getinfo(name + ".npy").file_size, bytes_max)  # before a byte is unpacked
                with archive.open(name + ".npy") as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    except BundleError:
        raise
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BundleError(
            "golden-malformed", "the golden vectors are missing, damaged or hold objects; pack the bundle again"
        ) from error
    for name, spec in wanted.items():
        shape = (count, *spec.shape[1:])
        right = arrays[name].shape == shape and arrays[name].dtype == np.float32
        if not right or np.isinf(arrays[name]).any() or (np.isnan(arrays[name]).any() and not spec.missing):
            raise BundleError(
                "golden-shape", f"golden array {name} must be finite float32 of shape {shape}; pack the bundle again"
            )
    return arrays


def _require_size(name: str, size_bytes: int, bytes_max: int) -> None:
    if size_bytes > bytes_max:
        raise BundleError("golden-shape", f"golden array {name} is larger than the manifest says; refuse the bundle")
