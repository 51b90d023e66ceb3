"""An update without a fleet, at a device's start: from one look to what people are told."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.local import Outcome, update_now
from edgeward.testing.clock import ManualClock
from edgeward.testing.files import After, MemoryFiles
from edgeward.testing.repository import FaultyServer, RepositoryLab
from edgeward.testing.updates import EVIDENCE, FAMILY, SLOTS, MemoryRepository, passes
from edgeward.trust.transport import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.updating.rules import Fetcher


def look(
    files: MemoryFiles, fetcher: Fetcher, slots: SlotStore, trial: Callable[[Path], TrialResult] = passes
) -> Outcome:
    return update_now(fetcher, slots, FAMILY, trial, ManualClock(), files=files)


def device(version: str = "1.0.0") -> MemoryFiles:
    files = MemoryFiles()
    with SlotStore(SLOTS, files) as slots:
        assert look(files, MemoryRepository.of(files, version), slots).installed
    return files


def version_of(slots: SlotStore) -> str | None:
    slot = slots.active()
    return slot.version if slot else None


def test_new_bundle_is_tried_beside_the_old_one_and_installed() -> None:
    """The trial sees the staged file while the old bundle is active; then the new one is, and people are told."""
    files = device()
    with SlotStore(SLOTS, files) as slots:
        seen = []

        def trial(path: Path) -> TrialResult:
            seen.append((path, version_of(slots)))
            return TrialResult(True, evidence=EVIDENCE)

        outcome = look(files, MemoryRepository.of(files, "1.1.0"), slots, trial)
        assert seen == [(SLOTS / "b" / "bundle.ewb", "1.0.0")]
        assert outcome.told.startswith("installed ecg-beat 1.1.0 (")
        assert "signatures, golden vectors and latency hold on this device" in outcome.told
        assert version_of(slots) == "1.1.0"


def test_second_look_with_nothing_new_does_nothing() -> None:
    """Asking again neither downloads nor writes nor tries."""
    files = device()
    with SlotStore(SLOTS, files) as slots:
        fetcher, before = MemoryRepository.of(files, "1.0.0"), files.steps
        outcome = look(files, fetcher, slots)
        assert (outcome.installed, outcome.code, outcome.told[:12]) == (False, "", "nothing new,")
        assert (fetcher.downloads, files.steps) == (0, before)


def test_failed_trial_is_told_and_remembered() -> None:
    """A bundle that fails its trial is refused, with its reason, and not tried again at the next start."""
    files = device()
    fetcher = MemoryRepository.of(files, "1.1.0")
    with SlotStore(SLOTS, files) as slots:
        outcome = look(files, fetcher, slots, lambda _: TrialResult(False, "golden-failed", "worst 0.2"))
        assert outcome == Outcome(False, "golden-failed", outcome.told)
        assert outcome.told.startswith("refused, ecg-beat 1.0.0 (")
        assert outcome.told.endswith("stays: worst 0.2 [golden-failed]")
    with SlotStore(SLOTS, files) as slots:
        outcome = look(files, fetcher, slots)
        assert (outcome.code, fetcher.downloads, version_of(slots)) == ("golden-failed", 1, "1.0.0")


def test_repository_that_cannot_be_reached_changes_nothing_and_is_asked_again_at_the_next_start() -> None:
    """One attempt, told as failed; the bundle is not refused."""
    files = device()
    fetcher = MemoryRepository.of(files, "1.1.0")
    for at in ("ask", "download"):
        fetcher.error, fetcher.at = UnreachableError("x"), at
        with SlotStore(SLOTS, files) as slots:
            outcome = look(files, fetcher, slots)
            assert (outcome.installed, outcome.code) == (False, "repository-unreachable")
            assert outcome.told.startswith("failed, ecg-beat 1.0.0 (")
    fetcher.error = None
    with SlotStore(SLOTS, files) as slots:
        assert look(files, fetcher, slots).installed


@pytest.mark.parametrize("after", [After.LOST, After.KEPT])
def test_ctrl_c_at_each_step_is_gone_on_with(after: After) -> None:
    """Ctrl-C passes through; the next look installs the bundle."""
    start = device()
    files = start.copy()
    with SlotStore(SLOTS, files) as slots:
        look(files, MemoryRepository.of(files, "1.1.0"), slots)
    steps, struck = files.steps - start.steps, 0
    for at in range(5, steps + 1):
        files = start.copy()
        with SlotStore(SLOTS, files) as slots:
            files.interrupt_at, files.after = start.steps + at, after
            try:
                look(files, MemoryRepository.of(files, "1.1.0"), slots)
            except KeyboardInterrupt:
                struck += 1
                assert version_of(slots) in {"1.0.0", "1.1.0"}
            files.interrupt_at = 0
            look(files, MemoryRepository.of(files, "1.1.0"), slots)
            assert version_of(slots) == "1.1.0"
        store = SlotStore(SLOTS, files)
        assert store.open().code == ""
        assert version_of(store) == "1.1.0"
    assert struck > 20


def test_ctrl_c_in_the_trial_says_nothing_against_the_bundle() -> None:
    """However often a person stops it there, the bundle is taken in the end."""
    files = device()
    fetcher = MemoryRepository.of(files, "1.1.0")

    def stopped(_path: Path) -> TrialResult:
        raise KeyboardInterrupt

    for _ in range(5):
        with SlotStore(SLOTS, files) as slots, pytest.raises(KeyboardInterrupt):
            look(files, fetcher, slots, stopped)
    with SlotStore(SLOTS, files) as slots:
        assert look(files, fetcher, slots).installed


def test_update_over_http_from_a_signed_repository(tmp_path: Path) -> None:
    """The whole way on a real disk: signed repository, broken connections, expired metadata, a delta, slots."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0", filler=b"x" * 200_000)

    def now(url: str, slots: SlotStore) -> Outcome:
        return update_now(lab.client(url), slots, FAMILY, passes, SystemClock())

    with FaultyServer(lab.repo) as server, SlotStore(tmp_path / "slots") as slots:
        server.faults.cut_after = 70_000
        assert now(server.url, slots).installed
        assert len(server.faults.requests) == 3
        lab.publish("1.1.0", filler=b"x" * 200_000)
        lab.wall.advance(days=30)
        assert now(server.url, slots).code == "repository-expired"
        lab.publisher.refresh()
        assert now(server.url, slots).installed
        assert version_of(slots) == "1.1.0"
        assert len(server.faults.requests) == 3  # the second came as a delta


@pytest.mark.parametrize("years", [-10, 10])
def test_clock_ten_years_off_keeps_the_bundle_and_mends(tmp_path: Path, years: int) -> None:
    """A wrong clock stops new bundles only; set right, the same device takes the same bundle."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    with SlotStore(tmp_path / "slots") as slots:
        assert update_now(lab.client(), slots, FAMILY, passes, SystemClock()).installed
        lab.publish("1.1.0")
        lab.wall.advance(days=3_652 * years / 10)
        outcome = update_now(lab.client(), slots, FAMILY, passes, SystemClock())
        assert outcome.code == ("clock-behind" if years < 0 else "repository-expired")
        assert version_of(slots) == "1.0.0"
        lab.wall.advance(days=-3_652 * years / 10)
        assert update_now(lab.client(), slots, FAMILY, passes, SystemClock()).installed


KILLED = """
import os, signal, sys
from pathlib import Path
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.updating.local import update_now
from edgeward.testing.repository import FakeWall
from edgeward.testing.updates import passes
from edgeward.trust.fetch import TrustClient
folder, where = Path(sys.argv[1]), sys.argv[2]
def trial(path):
    if where == "trial":
        os.kill(os.getpid(), signal.SIGKILL)
    return passes(path)
class Slots(SlotStore):
    def commit(self, slot):
        if where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit(slot)
        os.kill(os.getpid(), signal.SIGKILL)
client = TrustClient(folder / "repo", folder / "trust", wall=FakeWall())
with Slots(folder / "slots") as slots:
    update_now(client, slots, "ecg-beat", trial, SystemClock())
"""


@pytest.mark.parametrize(
    ("where", "version", "code"),
    [("trial", "1.0.0", "trial-interrupted"), ("before", "1.0.0", "trial-interrupted"), ("after", "1.1.0", "")],
)
def test_sigkill_around_the_commit(tmp_path: Path, where: str, version: str, code: str) -> None:
    """Killed in the trial or before the commit: the old bundle, and the next start installs; after it: the new one."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    with SlotStore(tmp_path / "slots") as slots:
        update_now(lab.client(), slots, FAMILY, passes, SystemClock())
    lab.publish("1.1.0")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), where], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    store = SlotStore(tmp_path / "slots")
    opening = store.open()
    assert opening.active is not None
    assert (opening.active.version, opening.code) == (version, code)
    update_now(lab.client(), store, FAMILY, passes, SystemClock())
    assert version_of(store) == "1.1.0"
    store.close()
