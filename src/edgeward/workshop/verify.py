"""The gates of a network: parity, INT8 against FP32, the device's own engine (``device_gates``), size → evidence.

Each bound stands in ``Bounds``. The engine that is timed is ``edgeward.inference``'s, loaded from a trial bundle that
was written and read back, so that what is measured is what a device will run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.workshop.device_gates import LATENCY_RUNS, evidence_of, on_device
from edgeward.workshop.evidence import Evidence, Gate
from edgeward.workshop.export import PARITY_WINDOWS, parity_gate, random_inputs
from edgeward.workshop.metrics import ClassFigures, class_figures, decide
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.windows import stratified

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from edgeward.workshop.pack import Golden, ModelFile
    from edgeward.workshop.task import ModelTask
    from edgeward.workshop.windows import LabelledWindows


@dataclass(frozen=True, slots=True)
class Bounds:
    """What must hold beside parity (``export.PARITY_BOUND``), the task's F1 losses and its deadline.

    ``agreement_min``: share of windows to which INT8 gives FP32's class. ``macro_f1_drop_max``: percentage points over
    the classes that occur. ``int8_bytes_max``: INT8 file as a share of FP32's.
    """

    agreement_min: float = 0.99
    macro_f1_drop_max: float = 1.5
    int8_bytes_max: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the accuracy gates are measured on: ``data`` is "held-out" or "training"."""

    windows: LabelledWindows
    data: str


def verify(
    task: ModelTask,
    network: torch.nn.Module,
    models: Sequence[ModelFile],
    golden: Golden,
    judged: Judged,
    *,
    decision: Mapping[str, Any],
    facts: Mapping[str, Any],
    whole: bytes | None = None,
    bounds: Bounds | None = None,
    latency_runs: int = LATENCY_RUNS,
) -> Evidence:
    """Measure every gate. ``network``: as deployed; ``models``: the FP32 file first; ``whole``: FP32 before pruning.

    Never raises for a gate that does not hold: ask ``Evidence.require``.
    """
    bounds = bounds or Bounds()
    gates = parity_gates(task, network, models[0], judged)
    accuracy, accuracy_gates = judge_accuracy(task, models, judged, decision, bounds, whole)
    gates += accuracy_gates
    device_gates, latency = on_device(task, models, golden, decision, latency_runs)
    gates += device_gates + size_gates(models, bounds)
    measured = {"accuracy": accuracy, "latency": latency, "golden": _golden_facts(task, golden)}
    return evidence_of(task, models, gates, {**facts, **measured})


def parity_gates(task: ModelTask, network: torch.nn.Module, model: ModelFile, judged: Judged) -> list[Gate]:
    """Torch against the FP32 file, on random windows and on real ones."""
    names = [spec.name for spec in task.inputs]
    noise = random_inputs(task.inputs, PARITY_WINDOWS, seed=3)
    sample = judged.windows.take(stratified(judged.windows, PARITY_WINDOWS, seed=3))
    floats = sample.floats()
    real = {name: floats[name] for name in names}
    return [
        parity_gate(network, model.model, noise, data="synthetic"),
        parity_gate(network, model.model, real, data=judged.data, data_sha256=sample.sha256()),
    ]


def judge_accuracy(
    task: ModelTask,
    models: Sequence[ModelFile],
    judged: Judged,
    decision: Mapping[str, Any],
    bounds: Bounds,
    whole: bytes | None = None,
) -> tuple[dict[str, Any], list[Gate]]:
    """Figures per class of each model, and the gates that hold INT8 (and what was pruned) against FP32.

    With ``whole``, the FP32 file before pruning, every model of the bundle is held against that one.
    """
    measured = [(model.key, model.model) for model in models]
    if whole is not None:
        measured.insert(0, ("whole", whole))
    windows = judged.windows
    offsets = decision.get("log_offsets", [0.0] * len(task.classes))
    digest = windows.sha256()
    called = {key: decide(Scorer(model).scores(windows.inputs), offsets) for key, model in measured}
    figures = {
        key: class_figures(windows.labels, calls, windows.patients, task.classes, task.spared)
        for key, calls in called.items()
    }
    facts = {
        "data": judged.data,
        "data_sha256": digest,
        "windows": len(windows),
        "patients": len(windows.patient_ids()),
        "models": {key: [item.to_dict() for item in items] for key, items in figures.items()},
    }
    gates = []
    first = measured[0][0]
    for key, _ in measured[1:]:
        made = (key, judged.data, digest)
        agreement = float(np.mean(called[key] == called[first]))
        gates.append(_gate("agreement", *made, agreement, ">=", bounds.agreement_min, "share"))
        drops = f1_drops(figures[first], figures[key])
        macro = float(np.mean(list(drops.values()))) if drops else 0.0
        gates.append(_gate("macro-f1-drop", *made, macro, "<=", bounds.macro_f1_drop_max, "points"))
        for name, most in sorted(task.f1_drop_max.items()):
            if name in drops:
                gates.append(_gate(f"f1-drop-{name.lower()}", *made, drops[name], "<=", most, "points"))
    return facts, gates


def f1_drops(before: Sequence[ClassFigures], after: Sequence[ClassFigures]) -> dict[str, float]:
    """Loss of F1 in percentage points for each class that occurs; negative is a gain."""
    return {a.name: 100.0 * (a.f1 - b.f1) for a, b in zip(before, after, strict=True) if a.count > 0}


def size_gates(models: Sequence[ModelFile], bounds: Bounds) -> list[Gate]:
    """Each other model's file as a share of the FP32 file."""
    whole = len(models[0].model)
    return [
        Gate("size", model.key, len(model.model) / whole, "<=", bounds.int8_bytes_max, "of FP32")
        for model in models[1:]
    ]


def _golden_facts(task: ModelTask, golden: Golden) -> dict[str, Any]:
    return {
        "vectors": golden.count,
        "classes_reached": [task.classes[i] for i in golden.classes_reached],
        "spread_over_graph_levels": dict(golden.spread),
        "tolerance": dict(golden.tolerance),
    }


def _gate(name: str, model: str, data: str, digest: str, figure: float, relation: str, bound: float, unit: str) -> Gate:
    return Gate(name, model, figure, relation, bound, unit, data, digest)
