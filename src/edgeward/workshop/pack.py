"""Models, golden vectors, reference histograms, evidence, card and licences → one deterministic bundle.

Golden vectors are made-up ECGs or stays through the real preprocessing: a bundle ships to many places, so it holds no
window of any patient, and no licence question arises. Expected scores are those of the packing machine: of raw ONNX
Runtime for a network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeward.bundle.archive import hash_members, write_bundle
from edgeward.bundle.manifest import GoldenSpec, Manifest, ModelSpec
from edgeward.inference.golden import write_golden
from edgeward.kernel.errors import BundleError
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.task import sources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgeward.workshop.evidence import Evidence
    from edgeward.workshop.scorer import FloatArray
    from edgeward.workshop.task import BundleTask, Source

GOLDEN_VECTORS = 32
GOLDEN_POOL = 400
"""Made-up windows from which the golden vectors are chosen."""
GOLDEN_SEED = 11
FP32_TOLERANCE = 1e-4
"""FP32 kernels of different processors differ in the order of sums: about 1e-7 on probabilities. 1e-4 is far above
that and far below anything that matters."""
INT8_TOLERANCE_MIN = 0.02
INT8_TOLERANCE_MAX = 0.15
SPREAD_FACTOR = 3.0
"""INT8 scores depend on how a kernel rounds where FP32 meets INT8. The spread over ONNX Runtime's graph levels on one
machine (integer kernels against the same graph in floats) is measured over the whole pool of made-up windows; the
tolerance is three times that, and at least 0.02: on recorded windows the spread was 0.0024."""


_SUFFIXES = {"trees": "npz"}

Positions: TypeAlias = npt.NDArray[np.intp]
Pick: TypeAlias = "Callable[[FloatArray, int], Positions]"


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden member and what the manifest says of it; ``spread``: key → largest difference over graph levels."""

    member: bytes
    count: int
    tolerance: Mapping[str, float]
    spread: Mapping[str, float]
    classes_reached: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """All but the member, as plain JSON values."""
        return {
            "count": self.count,
            "tolerance": dict(self.tolerance),
            "spread": dict(self.spread),
            "classes_reached": list(self.classes_reached),
        }


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model: key, the file's bytes, "fp32" or "int8", and the backend that runs it."""

    key: str
    model: bytes
    precision: str
    backend: str = "onnxruntime"

    @property
    def member(self) -> str:
        """Its name in the bundle."""
        return f"models/{self.key}.{_SUFFIXES.get(self.backend, 'onnx')}"


def make_golden(task: BundleTask, models: Sequence[ModelFile], *, pick: Pick | None = None) -> Golden:
    """Golden vectors for ``models``; ``pick``: which made-up windows, by their scores (default: ``choose``).

    Raises ``BundleError`` (``golden-spread``) when a model's scores depend so much on the graph level that no honest
    tolerance is left.
    """
    pool = task.synthetic(GOLDEN_POOL, GOLDEN_SEED)
    chosen = (pick or choose)(Scorer(models[0].model).scores(pool), GOLDEN_VECTORS)
    inputs = {name: array[chosen] for name, array in pool.items()}
    expected: dict[str, FloatArray] = {}
    tolerance: dict[str, float] = {}
    spread: dict[str, float] = {}
    for model in models:
        expected[model.key] = Scorer(model.model).scores(inputs, batch=1)
        usual = Scorer(model.model).scores(pool, batch=1)
        spread[model.key] = max(
            float(np.max(np.abs(Scorer(model.model, optimise=level).scores(pool, batch=1) - usual)))
            for level in ("basic", "none")
        )
        tolerance[model.key] = tolerance_for(model.precision, spread[model.key])
    reached = tuple(int(i) for i in np.unique(np.argmax(expected[models[0].key], axis=1)))
    return Golden(write_golden(inputs, expected), len(chosen), tolerance, spread, reached)


def tolerance_for(precision: str, spread: float) -> float:
    """Golden tolerance from the measured spread. ``BundleError`` (``golden-spread``) beyond what is honest."""
    ceiling = FP32_TOLERANCE if precision == "fp32" else INT8_TOLERANCE_MAX
    floor = FP32_TOLERANCE if precision == "fp32" else INT8_TOLERANCE_MIN
    if not spread * SPREAD_FACTOR <= ceiling:
        raise BundleError(
            "golden-spread",
            f"the {precision} scores differ by {spread:.3g} between graph levels of one machine; no golden tolerance "
            f"up to {ceiling:g} would tell a broken device from a sound one",
        )
    return round(max(floor, SPREAD_FACTOR * spread), 6)


def by_last(scores: FloatArray, count: int) -> Positions:
    """Positions of ``count`` vectors spread evenly over the ranks of the last score, lowest and highest included."""
    order = np.argsort(scores[:, -1], kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.intp)])


def choose(scores: FloatArray, count: int) -> Positions:
    """Positions of ``count`` vectors: classes in turn, within a class first the least and then the most certain."""
    called = np.argmax(scores, axis=1)
    certainty = scores.max(axis=1)
    queues = []
    for label in np.unique(called):
        order = np.flatnonzero(called == label)
        order = order[np.argsort(certainty[order], kind="stable")]
        both = np.empty_like(order)
        both[0::2] = order[: (len(order) + 1) // 2]
        both[1::2] = order[::-1][: len(order) // 2]
        queues.append([int(i) for i in both])
    picked: list[int] = []
    while len(picked) < min(count, len(scores)):
        for queue in queues:
            if queue and len(picked) < count:
                picked.append(queue.pop(0))
    return np.array(sorted(picked), dtype=np.intp)


def licence_text(sources: Sequence[Source]) -> bytes:
    """The attribution that the licences of the data ask for."""
    lines = ["The weights in this bundle were made from these data sets. No recording is contained.", ""]
    for source in sources:
        lines += [source.title, f"  licence: {source.licence}", f"  cite: {source.citation}", f"  {source.address}", ""]
    return "\n".join(lines).encode()


def trial_bundle(
    task: BundleTask, models: Sequence[ModelFile], golden: Golden, *, version: str, decision: Mapping[str, Any]
) -> bytes:
    """A bundle of models and golden vectors alone, so that the gates are measured on the device's own engine."""
    return _write(task, models, golden, {}, (), version=version, decision=decision)


def pack(
    task: BundleTask,
    models: Sequence[ModelFile],
    golden: Golden,
    *,
    version: str,
    decision: Mapping[str, Any],
    evidence: Evidence,
    reference: bytes,
    card: bytes,
    evaluation: Mapping[str, Any] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """The bundle's bytes; same arguments, same bytes. ``more``: members of the task's own.

    Raises ``GateFailed`` when a gate of ``evidence`` does not hold, and ``BundleError`` (``evidence-foreign``) when the
    evidence was measured on other model files.
    """
    evidence.require()
    measured = {key: fact.sha256 for key, fact in evidence.models.items()}
    present = hash_members({model.key: model.model for model in models})
    if measured != present:
        raise BundleError("evidence-foreign", "the evidence was measured on other model files; run verify again")
    sources = sources_of(evidence.facts)
    extra = {
        "evidence.json": evidence.to_json(),
        "reference.json": reference,
        "card.md": card,
        "licences.txt": licence_text(sources),
        **(more or {}),
    }
    if evaluation is not None:
        extra["evaluation.json"] = (json.dumps(evaluation, sort_keys=True, indent=1) + "\n").encode()
    return _write(task, models, golden, extra, sources, version=version, decision=decision)


def _write(
    task: BundleTask,
    models: Sequence[ModelFile],
    golden: Golden,
    extra: Mapping[str, bytes],
    sources: Sequence[Source],
    *,
    version: str,
    decision: Mapping[str, Any],
) -> bytes:
    members = {"golden.npz": golden.member, **extra}
    specs = []
    for model in models:
        members[model.member] = model.model
        specs.append(ModelSpec(model.key, model.member, model.backend, model.precision))
    default = next((model.key for model in models if model.precision == "int8"), models[0].key)
    manifest = Manifest(
        name=task.name,
        version=version,
        task=task.task,
        inputs=task.inputs,
        outputs=task.outputs,
        classes=task.classes,
        preprocessing=task.preprocessing,
        preprocessing_params=dict(task.preprocessing_params),
        decision=dict(decision),
        deadline_ms=task.deadline_ms,
        default_model=default,
        models=tuple(specs),
        golden=GoldenSpec("golden.npz", golden.count, dict(golden.tolerance)),
        hashes=hash_members(members),
        licences=tuple(f"{source.licence}: {source.title}" for source in sources),
    )
    return write_bundle(manifest, members)
