"""Boosted trees as a torch module: what LightGBM computes, in a file that ONNX Runtime runs."""

# ruff: noqa: E402 - the imports below need the extra that the first lines ask for
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")
import lightgbm

from edgeward.bundle.manifest import BATCH, TensorSpec
from edgeward.workshop.export import export_onnx, parity
from edgeward.workshop.heap_trees import heap_trees
from edgeward.workshop.models.boosted import DEPTH, BoostedTrees

pytestmark = pytest.mark.workshop
CLASSES, FEATURES = 3, 8


def _grown(rounds: int = 12) -> tuple[lightgbm.Booster, np.ndarray]:
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(1500, FEATURES)), 2).astype(np.float32)  # many values lie on thresholds
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int) + (x[:, 3] > 1)
    settings = {
        "objective": "multiclass",
        "num_class": CLASSES,
        "max_depth": DEPTH,
        "num_leaves": 20,
        "verbose": -1,
        "num_threads": 1,
    }
    return lightgbm.train(settings, lightgbm.Dataset(x, y), rounds), x


def test_the_module_computes_what_lightgbm_does() -> None:
    """Raw scores agree on every row, also on rows that lie on a threshold."""
    model, x = _grown()
    trees = BoostedTrees.of(heap_trees(model, DEPTH), CLASSES)
    edges = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    found = trees(torch.from_numpy(edges)).numpy()
    assert np.abs(found - model.predict(edges, raw_score=True)).max() < 1e-5


def test_the_exported_file_computes_the_same() -> None:
    """The ONNX file agrees with torch for any batch."""
    model, x = _grown(6)
    trees = BoostedTrees.of(heap_trees(model, DEPTH), CLASSES)
    given, said = TensorSpec("x", (BATCH, FEATURES), meaning="x"), TensorSpec("scores", (BATCH, CLASSES), meaning="y")
    assert parity(trees, export_onnx(trees, (given,), (said,)), {"x": x[:64]}) <= 1e-6


def test_a_float32_threshold_never_lies_above_the_exact_one() -> None:
    """Rounding down keeps every float32 feature on its side."""
    grown = heap_trees(_grown()[0], DEPTH)
    finite = np.isfinite(grown.threshold)
    assert (grown.threshold_float32()[finite].astype(np.float64) <= grown.threshold[finite]).all()


def test_classes_share_the_trees_alike() -> None:
    """A number of trees that the classes cannot share is refused."""
    with pytest.raises(ValueError, match="same number"):
        BoostedTrees(7, CLASSES)
