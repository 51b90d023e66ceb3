"""A hypotension bundle with an untrained small network, for tests of whatever reads such bundles."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import torch

from edgeward.workshop.boosted import trees_of
from edgeward.workshop.compress.dynamic import quantise_dynamic
from edgeward.workshop.export import export_onnx
from edgeward.workshop.hypotension_task import TASK
from edgeward.workshop.models.hypotension import Forecaster, ForecasterConfig, Forest, HypotensionNet
from edgeward.workshop.pack import ModelFile, by_last, make_golden, trial_bundle

DECISION = {"act": -2.5, "watch": -3.0, "shown": ["hr", "sys", "dia", "mean"]}


def small_network() -> HypotensionNet:
    """Trees that fear a low last pressure, an LSTM that knows nothing."""
    torch.manual_seed(1)
    names = TASK.preprocessing_params["features"]
    rng = np.random.default_rng(0)
    rows = np.full((2000, len(names)), np.nan, np.float32)
    pressure = rng.uniform(60, 100, 2000).astype(np.float32)
    rows[:, names.index("abp_mean_last")] = pressure
    settings = {"objective": "binary", "num_leaves": 8, "num_threads": 1, "verbose": -1}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, (pressure < 72).astype(float)), 20)
    forecaster = Forecaster(ForecasterConfig(hidden=16))
    return HypotensionNet(forecaster, Forest(trees_of(booster)), (0.0, 1.0), -1.0).eval()


def small_bundle(**changes: Any) -> bytes:
    """Its bytes; ``changes`` to the decision."""
    model = export_onnx(small_network(), TASK.inputs, TASK.outputs)
    models = [ModelFile("fp32", model, "fp32"), ModelFile("int8", quantise_dynamic(model), "int8")]
    golden = make_golden(TASK, models, pick=by_last)
    decision = TASK.decision({**DECISION, **changes})
    return trial_bundle(TASK, models, golden, version="0.0.1", decision=decision)
