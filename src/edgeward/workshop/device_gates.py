"""The gates that every model of a bundle passes on the device's own engine: golden vectors and latency."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.bundle.archive import hash_members, read_bundle
from edgeward.inference.engine import Engine
from edgeward.workshop.evidence import Evidence, Gate, ModelFact, machine_facts
from edgeward.workshop.pack import trial_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bundle.archive import Bundle
    from edgeward.inference.backend import Array
    from edgeward.workshop.pack import Golden, ModelFile
    from edgeward.workshop.task import BundleTask

NsArray = npt.NDArray[np.int64]

LATENCY_RUNS = 5000
"""Runs per model."""
_WARM_UP = 200
_BLOCK = 100


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """Nanoseconds (runs,) and whether the kernel gave the processor to other work meanwhile (runs,).

    Such a run measures the machine's load and not the model; a device keeps a core for the engine.
    """

    ns: NsArray
    preempted: npt.NDArray[np.bool_]

    def undisturbed(self, percentile: float) -> float:
        """Percentile over the runs that were not interrupted; infinite when half or more were."""
        quiet = self.ns[~self.preempted]
        return float(np.percentile(quiet, percentile)) if 2 * len(quiet) > len(self.ns) else float("inf")


def on_device(
    task: BundleTask, models: Sequence[ModelFile], golden: Golden, decision: Mapping[str, Any], runs: int
) -> tuple[list[Gate], dict[str, Any]]:
    """Golden vectors and latency of every model as a device runs it: the gates, and the latencies for people."""
    bundle = read_bundle(trial_bundle(task, models, golden, version="0.0.0", decision=decision))
    engines = {model.key: Engine.load(bundle, model.key) for model in models}
    gates = golden_gates(bundle, engines)
    timed = time_engines(engines, golden_window(task), runs)
    return gates + latency_gates(task, timed), latency_facts(timed)


def evidence_of(
    task: BundleTask, models: Sequence[ModelFile], gates: Sequence[Gate], facts: Mapping[str, Any]
) -> Evidence:
    """The evidence of gates that were measured on ``models``, on this machine."""
    present = hash_members({model.key: model.model for model in models})
    return Evidence(
        name=task.name,
        models={m.key: ModelFact(present[m.key], len(m.model), m.precision) for m in models},
        gates=tuple(gates),
        machine=machine_facts(threads=1),
        facts=facts,
    )


def golden_gates(bundle: Bundle, engines: Mapping[str, Engine]) -> list[Gate]:
    """The engine's own answer to the golden vectors against their tolerance."""
    out = []
    for key, engine in engines.items():
        report = engine.golden()
        tolerance = float(bundle.manifest.golden.tolerance[key])
        out.append(Gate("golden", key, report.worst, "<=", tolerance, "1", "synthetic", note=f"{report.count} vectors"))
    return out


def time_engines(engines: Mapping[str, Engine], window: Mapping[str, Array], runs: int) -> dict[str, Timed]:
    """Time ``Engine.infer`` of one window, ``runs`` per model, in blocks by turns, so that all meet the same load."""
    for engine in engines.values():
        for _ in range(_WARM_UP):
            engine.infer(window)
    took: dict[str, list[tuple[int, bool]]] = {key: [] for key in engines}
    while any(len(times) < runs for times in took.values()):
        for key, engine in engines.items():
            for _ in range(min(_BLOCK, runs - len(took[key]))):
                switches = _preemptions()
                start = time.perf_counter_ns()
                engine.infer(window)
                took[key].append((time.perf_counter_ns() - start, _preemptions() > switches))
    return {
        key: Timed(np.array([ns for ns, _ in times]), np.array([cut for _, cut in times]))
        for key, times in took.items()
    }


def _preemptions() -> int:
    """How often the kernel has taken the processor from this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def latency_gates(task: BundleTask, timed: Mapping[str, Timed]) -> list[Gate]:
    """p99 of one window on one thread against the deadline; interrupted runs are left out, and counted."""
    gates = []
    for key, times in timed.items():
        note = f"batch 1, 1 thread, {len(times.ns)} runs, of which {int(times.preempted.sum())} were interrupted"
        figure = times.undisturbed(99.0) / 1e6
        gates.append(Gate("latency-p99", key, figure, "<=", task.deadline_ms, "ms", "synthetic", note=note))
    return gates


def latency_facts(timed: Mapping[str, Timed]) -> dict[str, Any]:
    """Percentiles in microseconds per model: of undisturbed runs (None where too few were), and of all."""
    names = {"p50_us": 50.0, "p95_us": 95.0, "p99_us": 99.0, "p999_us": 99.9, "max_us": 100.0}
    return {
        key: {
            "undisturbed": {name: _microseconds(times.undisturbed(q)) for name, q in names.items()},
            "all": {name: _microseconds(float(np.percentile(times.ns, q))) for name, q in names.items()},
            "runs": len(times.ns),
            "interrupted": int(times.preempted.sum()),
        }
        for key, times in timed.items()
    }


def _microseconds(ns: float) -> float | None:
    return round(ns / 1e3, 1) if math.isfinite(ns) else None


def golden_window(task: BundleTask) -> dict[str, Array]:
    """One made-up window with a batch axis of 1."""
    return {name: np.ascontiguousarray(array[5:6]) for name, array in task.synthetic(12, 1).items()}
