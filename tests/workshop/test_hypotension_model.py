"""The network that ships: trees as LightGBM walks them, quantiles in order, one graph, INT8 near FP32."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: torch")
lightgbm = pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: lightgbm")
onnx = pytest.importorskip("onnx", reason="WORKSHOP EXTRA ABSENT: onnx")

from edgeward.kernel.errors import BundleError  # noqa: E402
from edgeward.workshop.boosted import trees_of  # noqa: E402
from edgeward.workshop.compress.dynamic import quantise_dynamic  # noqa: E402
from edgeward.workshop.export import PARITY_BOUND, export_onnx, parity  # noqa: E402
from edgeward.workshop.hypotension_data import HORIZONS  # noqa: E402
from edgeward.workshop.hypotension_line import mean_trees  # noqa: E402
from edgeward.workshop.hypotension_task import SCORES, TASK  # noqa: E402
from edgeward.workshop.hypotension_train import join, pinball  # noqa: E402
from edgeward.workshop.models.hypotension import (  # noqa: E402
    Forecaster,
    ForecasterConfig,
    Forest,
    HypotensionNet,
    float32_below,
)
from edgeward.workshop.scorer import Scorer  # noqa: E402

pytestmark = pytest.mark.workshop
FEATURES = len(TASK.preprocessing_params["features"])


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1500, FEATURES)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    return rows, (np.nan_to_num(rows[:, 3]) + rng.normal(size=1500) > 1).astype(float)


@pytest.fixture(scope="module")
def boosters(table: tuple[np.ndarray, np.ndarray]) -> list[object]:
    settings = {"objective": "binary", "num_leaves": 12, "min_data_in_leaf": 5, "num_threads": 1, "verbose": -1}
    return [lightgbm.train({**settings, "seed": seed}, lightgbm.Dataset(*table), 30) for seed in (1, 2)]


@pytest.fixture(scope="module")
def network(boosters: list[object]) -> HypotensionNet:
    torch.manual_seed(0)
    forest = Forest(mean_trees([trees_of(booster) for booster in boosters]))
    return HypotensionNet(Forecaster(ForecasterConfig(hidden=48)), forest, (0.4, 0.7), -0.2).eval()


def inputs(table: tuple[np.ndarray, np.ndarray], count: int) -> dict[str, np.ndarray]:
    grid = np.random.default_rng(5).normal(size=(count, 60, 16)).astype(np.float32)
    return {"grid": grid, "features": table[0][:count]}


def test_the_forest_walks_as_lightgbm_does(table: tuple[np.ndarray, np.ndarray], boosters: list[object]) -> None:
    """Missing values and values on a threshold included; several boosters give their mean."""
    wanted = np.mean([booster.predict(table[0], raw_score=True) for booster in boosters], axis=0)  # type: ignore[attr-defined]
    with torch.no_grad():
        found = Forest(mean_trees([trees_of(b) for b in boosters]))(torch.from_numpy(table[0])).numpy()
    assert np.abs(found - wanted).max() < 1e-5


def test_thresholds_part_the_same_float32_values() -> None:
    """x ≤ t in double for a float32 x exactly when x ≤ the greatest float32 at or below t."""
    rng = np.random.default_rng(2)
    thresholds = torch.from_numpy(rng.normal(size=2000))
    below = float32_below(thresholds)
    for x in (below, torch.nextafter(below, torch.full_like(below, torch.inf))):
        assert torch.equal(x.double() <= thresholds, x <= below)


def test_percentiles_are_in_order_and_follow_the_carried_value(network: HypotensionNet) -> None:
    """Whatever the weights: low ≤ mid ≤ high, and mid moves with the last value of its vital."""
    grid = torch.randn(8, 60, 16)
    with torch.no_grad():
        quantiles, _ = network.forecaster.last(grid)
        every, _ = network.forecaster(grid)
    assert (quantiles.diff(dim=1) >= 0).all()
    assert torch.allclose(every[:, -1], quantiles, atol=1e-6)


def test_a_step_knows_its_past_alone(network: HypotensionNet) -> None:
    """What comes later in a stretch changes nothing of an earlier step's forecast."""
    grid = torch.randn(2, 60, 16)
    other = grid.clone()
    other[:, 40:] = 0.0
    with torch.no_grad():
        assert torch.equal(network.forecaster(grid)[0][:, :40], network.forecaster(other)[0][:, :40])


def test_one_graph_holds_both_and_int8_is_near(network: HypotensionNet, table: tuple[np.ndarray, np.ndarray]) -> None:
    """Export within the parity bound at every batch size, NaN features too; the INT8 file is smaller and close."""
    model = export_onnx(network, TASK.inputs, TASK.outputs)
    found = inputs(table, 70)
    assert parity(network, model, found) <= PARITY_BOUND
    small = quantise_dynamic(model)
    assert quantise_dynamic(model) == small
    assert len(small) < len(model)
    scores = Scorer(model).scores(found)
    assert scores.shape == (70, SCORES)
    assert 0 < np.abs(Scorer(small).scores(found) - scores).max() < 0.05


def test_a_model_without_an_lstm_is_not_called_int8() -> None:
    """Nothing that was not made smaller is named so."""
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(BundleError) as caught:
        quantise_dynamic(model.SerializeToString())
    assert caught.value.code == "nothing-quantised"


def test_pinball_is_least_at_the_percentiles() -> None:
    """Of a thousand values the true 10th, 50th and 90th percentiles cost least; unmeasured cells cost nothing."""
    ahead = torch.linspace(0, 1, 1000).reshape(1000, 1, 1, 1).repeat(1, 1, HORIZONS, 5)
    right = torch.tensor([0.1, 0.5, 0.9]).reshape(1, 1, 3, 1, 1).expand(1000, 1, 3, HORIZONS, 5)
    best = pinball(right, ahead)
    for shift in (-0.05, 0.05):
        assert pinball(right + shift, ahead) > best
    holes = ahead.clone()
    holes[:, :, 1:] = torch.nan
    assert torch.isclose(pinball(right, holes), best)
    assert pinball(right, torch.full_like(ahead, torch.nan)) == 0


def test_joining_weighs_the_part_that_knows() -> None:
    """A part of noise gets little weight, the other its calibration; points too soon or unknown take no part."""
    rng = np.random.default_rng(3)
    truth = rng.normal(-2, 1.5, 6000)
    outcome = (rng.random(6000) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    rule = join(np.stack([rng.normal(size=6000), 2 * truth], axis=1), outcome)
    assert rule.weights[0] < 0.1
    assert rule.weights[1] == pytest.approx(0.5, abs=0.05)
    odd = np.concatenate([outcome, np.full(500, 2), np.full(500, -1)])
    parts = np.concatenate([truth, np.full(1000, 9.0)])[:, np.newaxis]
    assert join(parts, odd).weights[0] == pytest.approx(join(parts[:6000], outcome).weights[0], abs=1e-6)
