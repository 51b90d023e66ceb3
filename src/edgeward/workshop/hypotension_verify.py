"""The gates of a hypotension bundle: it computes what was trained, INT8 costs little, and it earns its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.workshop.device_gates import LATENCY_RUNS, evidence_of, on_device
from edgeward.workshop.evidence import Evidence, Gate
from edgeward.workshop.export import PARITY_WINDOWS, parity_gate, random_inputs
from edgeward.workshop.forecast_errors import forecast_errors
from edgeward.workshop.hypotension_points import Outcome
from edgeward.workshop.ranking import Ranked
from edgeward.workshop.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from edgeward.workshop.hypotension_data import Examples
    from edgeward.workshop.hypotension_task import HypotensionTask
    from edgeward.workshop.pack import Golden, ModelFile

JUDGED = 4000
"""Decision points on which INT8 is held against FP32."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What must hold beside parity and the deadline.

    ``auroc_drop_max``, ``mae_rise_max`` (share), ``agreement_min`` (of advisories): INT8 against FP32 on decision
    points; ``int8_bytes_max``: INT8 as a share of FP32; ``auroc_gain_min``: out-of-fold AUROC above the last mean
    pressure's; ``mae_ratio_max``: out-of-fold error of each vital that is shown, as a share of the last value's.
    """

    auroc_drop_max: float = 0.005
    mae_rise_max: float = 0.01
    agreement_min: float = 0.995
    int8_bytes_max: float = 0.5
    auroc_gain_min: float = 0.03
    mae_ratio_max: float = 0.99


def verify(
    task: HypotensionTask,
    network: torch.nn.Module,
    models: Sequence[ModelFile],
    golden: Golden,
    points: Examples,
    *,
    decision: Mapping[str, Any],
    facts: Mapping[str, Any],
    bounds: Bounds | None = None,
    latency_runs: int = LATENCY_RUNS,
    data_sha256: str = "",
) -> Evidence:
    """Measure every gate. ``models``: FP32, then INT8; ``points``: decision points of the training patients.

    Never raises for a gate that does not hold: ask ``Evidence.require``.
    """
    bounds = bounds or Bounds()
    some = points.take(np.linspace(0, len(points) - 1, min(JUDGED, len(points))).astype(np.intp))
    inputs = {"grid": some.grid.astype(np.float32), "features": some.features}
    few = {name: array[:PARITY_WINDOWS] for name, array in inputs.items()}
    gates = [
        parity_gate(network, models[0].model, random_inputs(task.inputs, PARITY_WINDOWS, seed=3), data="synthetic"),
        parity_gate(network, models[0].model, few, data="training", data_sha256=data_sha256),
    ]
    cost, cost_gates = int8_cost(models, some, inputs, float(decision["act"]), bounds)
    device_gates, latency = on_device(task, models, golden, decision, latency_runs)
    gates += cost_gates + device_gates
    whole = len(models[0].model)
    gates += [Gate("size", m.key, len(m.model) / whole, "<=", bounds.int8_bytes_max, "of FP32") for m in models[1:]]
    gates += earned(facts["out_of_fold"], decision["shown"], bounds)
    vectors = {"vectors": golden.count, "tolerance": dict(golden.tolerance), "spread": dict(golden.spread)}
    return evidence_of(task, models, gates, {**facts, "int8_cost": cost, "latency": latency, "golden": vectors})


def int8_cost(
    models: Sequence[ModelFile],
    points: Examples,
    inputs: Mapping[str, npt.NDArray[np.float32]],
    threshold: float,
    bounds: Bounds,
) -> tuple[dict[str, Any], list[Gate]]:
    """INT8 against FP32 on training patients' decision points: what the smaller numbers cost."""
    judged = (points.outcome == Outcome.NONE) | (points.outcome == Outcome.AHEAD)
    positive = points.outcome[judged] == Outcome.AHEAD
    scores = {model.key: Scorer(model.model).scores(inputs) for model in models}
    aurocs = {key: Ranked(positive, row[judged, -1].astype(np.float64)).auroc() for key, row in scores.items()}
    errors = {key: _error(points, row[:, :-1]) for key, row in scores.items()}
    first = models[0].key
    facts: dict[str, Any] = {"points": len(points), "auroc": aurocs, "mae_standard_units": errors}
    gates = []
    for model in models[1:]:
        key, row = model.key, scores[model.key]
        agreement = float(np.mean((row[:, -1] >= threshold) == (scores[first][:, -1] >= threshold)))
        facts[f"{key}_odds_difference"] = {
            "mean": float(np.abs(row[:, -1] - scores[first][:, -1]).mean()),
            "max": float(np.abs(row[:, -1] - scores[first][:, -1]).max()),
        }
        drop, rise = aurocs[first] - aurocs[key], errors[key] / errors[first] - 1.0
        gates += [
            Gate("auroc-drop", key, drop, "<=", bounds.auroc_drop_max, "1", "training"),
            Gate("forecast-mae-rise", key, rise, "<=", bounds.mae_rise_max, "of FP32", "training"),
            Gate("advisory-agreement", key, agreement, ">=", bounds.agreement_min, "share", "training"),
        ]
    return facts, gates


def _error(points: Examples, rows: npt.NDArray[np.float32]) -> float:
    """Mean absolute error of the middle percentile over everything that came, standard units."""
    after = points.after.astype(np.float64)
    middle = rows.reshape(len(rows), -1, *after.shape[1:])[:, 1]
    there = np.isfinite(after)
    return float(np.abs(after - middle)[there].mean())


def earned(out_of_fold: Mapping[str, Any], shown: Sequence[str], bounds: Bounds) -> list[Gate]:
    """The model ranks better than the last pressure, and each forecast shown is nearer than the last value."""
    auroc = out_of_fold["auroc"]
    gain = auroc[out_of_fold["chosen"]] - auroc["last MAP"]
    gates = [Gate("auroc-gain", "fp32", gain, ">=", bounds.auroc_gain_min, "above the last MAP", "held-out")]
    for vital in shown:
        ratio = out_of_fold["mae_ratio"][vital]
        gates.append(
            Gate(f"forecast-{vital}", "fp32", ratio, "<=", bounds.mae_ratio_max, "of the last value's", "held-out")
        )
    return gates


def out_of_fold_facts(
    points: Examples, scores: Mapping[str, npt.NDArray[np.float64]], quantiles: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """What cross-validation over the training patients found: ``auroc`` by score, ``mae_ratio`` by vital, counts."""
    judged = (points.outcome == Outcome.NONE) | (points.outcome == Outcome.AHEAD)
    positive = points.outcome[judged] == Outcome.AHEAD
    every = {"last MAP": -points.pressure.astype(np.float64), **scores}
    model: dict[str, float] = {}
    last: dict[str, float] = {}
    for error in forecast_errors(points, quantiles):
        model[error.vital] = model.get(error.vital, 0.0) + error.values * error.model
        last[error.vital] = last.get(error.vital, 0.0) + error.values * error.last_value
    return {
        "points": int(judged.sum()),
        "positives": int(positive.sum()),
        "auroc": {name: round(Ranked(positive, score[judged]).auroc(), 4) for name, score in every.items()},
        "mae_ratio": {vital: round(model[vital] / last[vital], 4) for vital in model},
    }
