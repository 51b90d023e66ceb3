"""What a bundle means to an ECG bed, the trial that it must pass on this device, and the engine that serves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.bed import Rung
from edgeward.bedside.decide import Decision
from edgeward.bedside.fallback import Mode
from edgeward.bedside.trial import run_trial
from edgeward.inference.host import EngineHost
from edgeward.kernel.errors import BundleError, EdgewardError
from edgeward.signal.preprocess import BeatWindowSpec

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.bedside.slot import Slot, SlotStore
    from edgeward.bedside.trial import TrialResult
    from edgeward.bundle.archive import Bundle

TASK = "ecg-beat-aami"


@dataclass(frozen=True, slots=True)
class Plan:
    """How to cut windows for a bundle and read its scores."""

    spec: BeatWindowSpec
    decision: Decision
    deadline_ms: float


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
    return run_trial(path, threads, lambda bundle: plan_of(bundle).deadline_ms)


@dataclass(frozen=True, slots=True)
class Backup:
    """The engine of the bundle before, warm, for the rung LOCAL_PREVIOUS."""

    slot: Slot
    plan: Plan
    engine: EngineHost


@dataclass(frozen=True, slots=True)
class Served:
    """The engine that serves and from which slot; all None where nothing can be served, and ``why`` says so."""

    slot: Slot | None
    plan: Plan | None
    engine: EngineHost | None
    why: str = ""
    backup: Backup | None = None

    @property
    def rungs(self) -> dict[Mode, Rung]:
        """The local rungs that exist here."""
        rungs: dict[Mode, Rung] = {}
        if self.engine is not None and self.plan is not None:
            rungs[Mode.LOCAL] = Rung(self.engine, self.plan.decision)
        if self.backup is not None:
            rungs[Mode.LOCAL_PREVIOUS] = Rung(self.backup.engine, self.backup.plan.decision)
        return rungs

    def stop(self) -> None:
        """Stop every engine."""
        for rung in self.rungs.values():
            rung.engine.stop()


def serve(slots: SlotStore, *, threads: int) -> Served:
    """Start the engine of the active slot; a bundle that cannot run here is returned from; else serve nothing.

    Only what the bundle is to blame for (malformed, foreign, golden vectors failed) sends it back and bars it: a device
    out of memory or processes today may run it tomorrow. The bundle before stays warm where it sees the same windows.
    """
    why = "no-bundle"
    while (slot := slots.active()) is not None:
        try:
            plan = plan_of(slots.read(slot))
            engine = EngineHost(slot.path, threads=threads)
            engine.start()
            return Served(slot, plan, engine, backup=_backup(slots, plan, threads))
        except EdgewardError as error:
            why = error.code
            if not isinstance(error, BundleError) and error.code != "golden-failed":
                break
        try:
            slots.revert(why)
        except EdgewardError:
            break
    return Served(None, None, None, why)


def _backup(slots: SlotStore, plan: Plan, threads: int) -> Backup | None:
    """The previous slot's engine, with one worker; None where there is none that fits and starts."""
    slot = slots.previous()
    if slot is None:
        return None
    try:
        before = plan_of(slots.read(slot))
        if before.spec != plan.spec:
            return None
        engine = EngineHost(slot.path, threads=threads, standby=False)
        engine.start()
    except EdgewardError:
        return None
    return Backup(slot, before, engine)
