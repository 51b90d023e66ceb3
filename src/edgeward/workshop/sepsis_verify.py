"""The gates of a sepsis bundle: it computes what was grown, in time, and is worth it on patients it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.inference.backends.trees import read_trees
from edgeward.inference.tree_effects import TreeEffects
from edgeward.signal.trees import NODES_MAX
from edgeward.workshop.device_gates import LATENCY_RUNS, evidence_of, on_device
from edgeward.workshop.evidence import Evidence, Gate
from edgeward.workshop.tree_onnx import table_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.signal.trees import Trees
    from edgeward.workshop.pack import Golden, ModelFile
    from edgeward.workshop.sepsis_train import Forest
    from edgeward.workshop.task import BundleTask

FloatArray = npt.NDArray[np.float32]

PARITY_BOUND = 1e-4
"""Largest difference of log odds between the library and the plain trees, whose leaves are 32-bit floats."""
EFFECTS_ROWS = 64


@dataclass(frozen=True, slots=True)
class Bounds:
    """What must hold out of fold: AUROC, utility, calibration error, and the gain over the baseline's AUROC."""

    auroc_min: float = 0.80
    utility_min: float = 0.40
    calibration_error_max: float = 0.01
    auroc_gain_min: float = 0.003


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """``out_of_fold``: figures by recipe; ``sample`` (n, F): training rows for parity, never kept."""

    out_of_fold: Mapping[str, Mapping[str, Any]]
    sample: FloatArray
    data_sha256: str


def export_gates(key: str, trees: Trees, forest: Forest, sample: FloatArray) -> list[Gate]:
    """The plain trees, walked by ONNX Runtime and by the device's own evaluation, against the library."""
    library = forest.scores(sample)
    walked = table_scores(trees, sample)
    effects = TreeEffects(trees)
    told = np.array([effects.base + effects.explain(row).sum() for row in sample[:EFFECTS_ROWS].astype(np.float64)])
    made = {"onnxruntime": np.abs(walked - library), "effects": np.abs(told - library[:EFFECTS_ROWS])}
    return [
        Gate(f"parity-{name}", key, float(gaps.max()), "<=", PARITY_BOUND, "log odds", "training")
        for name, gaps in made.items()
    ]


def verify(
    task: BundleTask,
    models: Sequence[ModelFile],
    forests: Sequence[Forest],
    golden: Golden,
    judged: Judged,
    *,
    decision: Mapping[str, Any],
    facts: Mapping[str, Any],
    bounds: Bounds | None = None,
    latency_runs: int = LATENCY_RUNS,
) -> Evidence:
    """Measure every gate. ``forests``: the library's own of each model.

    Never raises for a gate that does not hold: ask ``Evidence.require``.
    """
    gates: list[Gate] = []
    nodes = {}
    for model, forest in zip(models, forests, strict=True):
        trees = read_trees(model.model)
        nodes[model.key] = len(trees.feature)
        gates += export_gates(model.key, trees, forest, judged.sample)
        gates.append(Gate("nodes", model.key, float(len(trees.feature)), "<=", float(NODES_MAX), "nodes"))
    device_gates, latency = on_device(task, models, golden, decision, latency_runs)
    gates += device_gates
    gates += worth(models[0].key, judged, bounds or Bounds())
    vectors = {"vectors": golden.count, "tolerance": dict(golden.tolerance)}
    return evidence_of(task, models, gates, {**facts, "nodes": nodes, "latency": latency, "golden": vectors})


def worth(key: str, judged: Judged, bounds: Bounds) -> list[Gate]:
    """What the model is worth on training patients whom the scoring forest had not seen."""
    full, baseline = judged.out_of_fold[key], judged.out_of_fold["baseline"]
    rows = (
        ("auroc", full["auroc"], ">=", bounds.auroc_min, "1"),
        ("utility", full["utility"], ">=", bounds.utility_min, "1"),
        ("brier", full["brier"], "<=", full["brier_of_the_base_rate"], "1"),
        ("calibration-error", full["calibration_error"], "<=", bounds.calibration_error_max, "1"),
        ("auroc-gain", full["auroc"] - baseline["auroc"], ">=", bounds.auroc_gain_min, "above the baseline"),
    )
    return [
        Gate(name, key, float(figure), relation, float(bound), unit, "held-out", judged.data_sha256)
        for name, figure, relation, bound, unit in rows
    ]
