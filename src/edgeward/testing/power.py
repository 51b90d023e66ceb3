"""Power cuts at every step of an update's life, and what must hold after each: shared by tests and ``bench/power.py``.

A story is one way through an update. ``points`` plays it once and names every mutating step. ``survive`` plays it to
one of them and cuts the power; ``recover`` boots what is left; ``second_cuts`` cuts that too, at any step. After each
boot the device must run a whole bundle that it may trust, and with power it must come to the end of the story.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.live import Serving, Shadow
from edgeward.bedside.updating.rules import Rules
from edgeward.bedside.updating.windows import MaintenanceWindows
from edgeward.exchange.words import UpdateState
from edgeward.testing.files import After, MemoryFiles, PowerCut
from edgeward.testing.updates import MemoryDevice, MemoryRepository, ScriptedLive, passes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeward.bedside.slot import Slot
    from edgeward.bedside.updating.machine import Updater

OLD, NEW = "1.0.0", "1.1.0"
AFTERS = (
    (After.LOST, 0),
    (After.KEPT, 0),
    (After.REORDERED, 0),
    *((After.TORN, seed) for seed in range(2)),
)
"""What a cut leaves of what was not synced, with the seeds that are tried."""


@dataclass(frozen=True, slots=True)
class Story:
    """``commits``: it ends with the new bundle; else with the old one. ``passes``: the candidate passes its trial.

    ``holds``: it holds its soak; ``waits``: for its maintenance window first; ``reverts``: the new bundle is in use at
    the beginning and is returned from.
    """

    name: str
    commits: bool
    passes: bool = True
    holds: bool = True
    reverts: bool = False
    has_delta: bool = False
    part_bytes: int = 1 << 20
    first: bool = False
    waits: bool = False

    def disk(self) -> MemoryFiles:
        """The disk at its beginning."""
        files = MemoryFiles()
        for rollout, version in enumerate([] if self.first else [OLD, NEW] if self.reverts else [OLD], 1):
            device = MemoryDevice(files, MemoryRepository.of(files, version))
            device.install(rollout)
            device.slots.close()
        files.trace.clear()
        return files

    def device(self, files: MemoryFiles) -> MemoryDevice:
        """The device on that disk, with a ward that shows what the story says."""
        repository = MemoryRepository.of(files, NEW)
        repository.has_delta, repository.part_bytes = self.has_delta, self.part_bytes
        live = _Ward(compared=Shadow(True, 60, 0, 0, 900, 40_000), holds=self.holds)
        rules = Rules(MaintenanceWindows.parse(["02:00-03:00"], UTC)) if self.waits else None
        return MemoryDevice(files, repository, live, trial=passes if self.passes else _fails, rules=rules)

    def play(self, device: MemoryDevice, updater: Updater) -> None:
        """From a boot to the end. The fleet repeats its order for as long as it stands."""
        if self.reverts:
            active = device.slots.active()
            if active is not None and active.version == NEW:
                device.slots.revert("engine-crashed")
            return
        updater.order(device.repository.order(2, shadow_s=2, soak_s=2))
        device.until(updater, lambda record: record.ended)


STORIES = (
    Story("install, activate, commit", commits=True),
    Story("install by parts", commits=True, part_bytes=700),
    Story("install by a delta", commits=True, has_delta=True),
    Story("wait for its window, install", commits=True, waits=True),
    Story("the first bundle", commits=True, first=True),
    Story("refuse in the trial", commits=False, passes=False),
    Story("activate, fail in the soak, return", commits=False, holds=False),
    Story("return from a committed bundle", commits=False, reverts=True),
)


def points(story: Story) -> list[str]:
    """Every mutating step of a story, by name."""
    files = story.disk()
    device = story.device(files)
    story.play(device, device.boot())
    return list(files.trace)


def survive(story: Story, start: MemoryFiles, cut: int, after: After, seed: int) -> MemoryFiles:
    """Cut the power at step ``cut`` of the story that begins on ``start``; returns what the cut left, booted by nobody.

    ``AssertionError`` when the story ends before that step.
    """
    files = start.copy()
    files.cut_at, files.after, files.seed = files.steps + cut, after, seed
    try:
        device = story.device(files)
        story.play(device, device.boot())
    except PowerCut:
        files.reboot()
        return files
    raise AssertionError(f"there is no step {cut} in: {story.name}")


def recover(story: Story, files: MemoryFiles) -> None:
    """Boot, check what runs, and come to the story's end. ``AssertionError`` says what does not hold."""
    device = story.device(files)
    updater = device.boot()
    _check(story, device, updater)
    story.play(device, updater)
    _check(story, device, updater)
    active = device.slots.active()
    assert active is not None, "nothing runs at the end"
    assert active.version == (NEW if story.commits else OLD), f"{active.version} runs at the end"
    assert device.slots.trial() is None, "a trial is left at the end"


def second_cuts(story: Story, left: MemoryFiles, only: range | None = None) -> Iterator[MemoryFiles]:
    """Disks after a second cut at each step (or each of ``only``) of the recovery from ``left``."""
    cut = 0
    while True:
        cut += 1
        if only is not None and cut not in only:
            if cut >= only.stop:
                return
            continue
        files = left.copy()
        files.cut_at, files.after, files.seed = files.steps + cut, left.after, left.seed + 7
        try:
            recover(story, files)
        except PowerCut:
            files.reboot()
            yield files
        else:
            return


def _check(story: Story, device: MemoryDevice, updater: Updater) -> None:
    active, progress = device.slots.active(), updater.progress
    if active is None:
        assert story.first, "nothing runs"
        return
    bundle = device.slots.read(active)  # whole, by its hash
    assert bundle.manifest.version == active.version
    assert active.version in {OLD, NEW}
    if story.reverts:
        return
    is_new = active.version == NEW
    assert not (is_new and not story.commits), "a bundle runs that did not pass"
    assert progress is not None or not is_new, "a bundle runs that nobody recorded"
    if progress is not None and progress.rollout == 2:
        assert is_new == (progress.state is UpdateState.COMMITTED), f"{active.version} runs in {progress.state}"
        assert not is_new or progress.evidence.golden_vectors, "committed without evidence"


def _fails(_path: Path) -> TrialResult:
    return TrialResult(False, "golden-failed", "it fails in this story")


@dataclass
class _Ward(ScriptedLive):
    holds: bool = True

    def activate(self, candidate: Slot) -> None:
        """Serve it, well or not."""
        ScriptedLive.activate(self, candidate)
        self.now = Serving(candidate.sha256, scores=10, down=not self.holds)
