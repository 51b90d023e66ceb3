"""Small bundles for the engine's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bundle.archive import Bundle, read_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.inference.backend import Array

pytest.importorskip("onnx", reason="test bundles are made with onnx")

from edgeward.testing.bundles import tiny_bundle


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """A small bundle, read; its model gives NaN on demand."""
    return read_bundle(tiny_bundle(nan_switch=True))


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle as a file."""
    path = tmp_path_factory.mktemp("bundle") / "tiny.ewb"
    path.write_bytes(tiny_bundle(nan_switch=True))
    return path


@pytest.fixture
def window() -> dict[str, Array]:
    """One window that the bundle's model takes."""
    rng = np.random.default_rng(7)
    return {
        "wave": rng.standard_normal((2, 250)).astype(np.float32),
        "rhythm": rng.standard_normal(8).astype(np.float32),
    }
