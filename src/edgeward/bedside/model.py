"""What a bundle means to an ECG bed, and the trial that it must pass on this device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.decide import Decision
from edgeward.bedside.trial import run_trial
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import ECG_BUDGET_MS
from edgeward.signal.preprocess import BeatWindowSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.bedside.trial import TrialResult
    from edgeward.bundle.archive import Bundle

FAMILY = "ecg-beat"
"""The model family of ECG beds."""
TASK = "ecg-beat-aami"
"""What the manifests of its bundles name as their task."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to cut windows for a bundle and read its scores."""

    spec: BeatWindowSpec
    decision: Decision
    deadline_ms: float

    def sees_as(self, other: Plan) -> bool:
        """Whether both see the same windows, so that one window serves both bundles."""
        return self.spec == other.spec


NO_PLAN = Plan(BeatWindowSpec(), Decision((0.0,) * 5), ECG_BUDGET_MS)
"""Without a bundle beats are still found and windows still cut: only their class is missing."""


def plan_of(bundle: Bundle) -> Plan:
    """The plan of a bundle for an ECG bed.

    Raises ``BundleError`` when its task is another or its inputs do not fit its own preprocessing.
    """
    manifest = bundle.manifest
    if manifest.task != TASK:
        raise BundleError("task-mismatch", f"an ECG bed runs bundles for the task {TASK!r}; publish one for it")
    spec = BeatWindowSpec.from_params(manifest.preprocessing_params)
    wanted = {"wave": (-1, *spec.wave_shape), "rhythm": (-1, spec.rhythm_len)}
    if {tensor.name: tensor.shape for tensor in manifest.inputs} != wanted:
        raise BundleError("window-mismatch", "the model's inputs are not what its preprocessing gives; build it again")
    return Plan(spec, Decision.from_manifest(manifest.decision), manifest.deadline_ms)


def try_bundle(path: Path, threads: int) -> TrialResult:
    """The trial of a bundle for an ECG bed on this very device."""
    return run_trial(path, threads, lambda bundle: plan_of(bundle).deadline_ms, realtime=True)
