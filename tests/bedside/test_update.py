"""One update from question to commit: whatever fails, the old bundle runs on."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgeward.bedside.slot import SlotStore
from edgeward.bedside.update import TrialResult, UpdateKind, UpdateOutcome, check_and_install
from edgeward.kernel.errors import EngineError, TrustError
from edgeward.testing.files import After, MemoryFiles, PowerCut
from edgeward.testing.repository import FaultyServer, RepositoryLab, tiny_bundle
from edgeward.trust.download import DownloadReport
from edgeward.trust.offer import Offer
from edgeward.trust.transport import UnreachableError

ROOT = Path("/device/slots")
NAME = "ecg-beat"


def offer_of(raw: bytes, version: str, *, is_return: bool = False) -> Offer:
    return Offer(NAME, version, hashlib.sha256(raw).hexdigest(), len(raw), is_return)


@dataclass
class FakeFetcher:
    """A repository that offers one bundle, over the in-memory disk."""

    files: MemoryFiles
    raw: bytes
    offer: Offer
    error: BaseException | None = None
    downloads: int = 0

    @classmethod
    def of(cls, files: MemoryFiles, version: str, *, is_return: bool = False) -> FakeFetcher:
        raw = tiny_bundle(version)
        return cls(files, raw, offer_of(raw, version, is_return=is_return))

    def latest(self, name: str) -> Offer:
        assert name == NAME
        if self.error:
            raise self.error
        return self.offer

    def download(self, offer: Offer, dest: Path) -> DownloadReport:
        self.downloads += 1
        self.files.unlink(dest.with_name(f"{dest.name}.part"))
        self.files.write_new(dest, self.raw)
        return DownloadReport(0, len(self.raw), 0)


@dataclass
class Trial:
    """A trial that gives ``result`` and keeps what it was asked to try."""

    result: TrialResult = field(default_factory=lambda: TrialResult(True))
    error: BaseException | None = None
    tried: list[Path] = field(default_factory=list)

    def __call__(self, path: Path) -> TrialResult:
        self.tried.append(path)
        if self.error:
            raise self.error
        return self.result


def device(version: str = "1.0.0") -> MemoryFiles:
    files = MemoryFiles()
    with SlotStore(ROOT, files) as slots:
        assert update(slots, FakeFetcher.of(files, version)).kind is UpdateKind.INSTALLED
    return files


def update(slots: SlotStore, fetcher: FakeFetcher, trial: Trial | None = None, **options: bool) -> UpdateOutcome:
    return check_and_install(fetcher, slots, NAME, trial or Trial(), **options)


def version_of(slots: SlotStore) -> str | None:
    slot = slots.active()
    return slot.version if slot else None


def test_new_bundle_is_tried_in_the_inactive_slot_and_committed() -> None:
    """The trial sees the staged file while the old bundle is still active; then the new one is."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        trial = Trial()
        outcome = update(slots, FakeFetcher.of(files, "1.1.0"), trial)
        assert (outcome.kind, outcome.code, outcome.offered) == (UpdateKind.INSTALLED, "", "1.1.0")
        assert trial.tried == [ROOT / "b" / "bundle.ewb"]
        assert version_of(slots) == "1.1.0"
        assert files.list(slots.incoming) == []


def test_second_run_with_nothing_new_does_nothing() -> None:
    """Asking again neither downloads nor writes nor tries."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        fetcher, trial, before = FakeFetcher.of(files, "1.0.0"), Trial(), files.steps
        assert update(slots, fetcher, trial).kind is UpdateKind.UNCHANGED
        assert (fetcher.downloads, trial.tried, files.steps) == (0, [], before)


def test_failed_trial_returns_by_itself_and_is_remembered() -> None:
    """A bundle that fails its trial is left at once, and not tried again unless asked to."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        fetcher = FakeFetcher.of(files, "1.1.0")
        outcome = update(slots, fetcher, Trial(TrialResult(False, "golden-mismatch", "worst 0.2 above 1e-3")))
        assert (outcome.kind, outcome.code) == (UpdateKind.RETURNED, "golden-mismatch")
        assert outcome.message == "worst 0.2 above 1e-3"
        assert version_of(slots) == "1.0.0"
    with SlotStore(ROOT, files) as slots:
        again = Trial()
        outcome = update(slots, fetcher, again)
        assert (outcome.kind, outcome.code, again.tried) == (UpdateKind.REFUSED, "golden-mismatch", [])
        assert update(slots, fetcher, again, retry_refused=True).kind is UpdateKind.INSTALLED
        assert slots.refused(fetcher.offer.sha256) == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineError("engine-load", "no"), "engine-load"), (ValueError("payload"), "trial-crashed")],
)
def test_trial_that_breaks_is_a_failed_trial(error: Exception, code: str) -> None:
    """An exception in the trial returns to the old bundle, and its text is not repeated."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        outcome = update(slots, FakeFetcher.of(files, "1.1.0"), Trial(error=error))
        assert (outcome.kind, outcome.code) == (UpdateKind.RETURNED, code)
        assert "payload" not in outcome.message
        assert version_of(slots) == "1.0.0"


def test_older_bundle_is_refused() -> None:
    """A lower version is bundle-older, unless its signed entry says that a return is meant."""
    files = device("1.1.0")
    with SlotStore(ROOT, files) as slots:
        fetcher = FakeFetcher.of(files, "1.0.0")
        outcome = update(slots, fetcher)
        assert (outcome.kind, outcome.code, fetcher.downloads) == (UpdateKind.REFUSED, "bundle-older", 0)
        assert version_of(slots) == "1.1.0"
        assert update(slots, FakeFetcher.of(files, "1.0.0", is_return=True)).kind is UpdateKind.INSTALLED
        assert version_of(slots) == "1.0.0"


def test_bundle_unlike_its_signed_entry_is_refused() -> None:
    """A bundle whose manifest is of another version than was signed is bundle-mismatch and is not tried."""
    files = device()
    raw = tiny_bundle("1.1.0")
    with SlotStore(ROOT, files) as slots:
        trial = Trial()
        outcome = update(slots, FakeFetcher(files, raw, offer_of(raw, "1.2.0")), trial)
        assert (outcome.kind, outcome.code, trial.tried) == (UpdateKind.REFUSED, "bundle-mismatch", [])
        assert version_of(slots) == "1.0.0"


def test_signed_file_that_is_no_bundle_is_refused() -> None:
    """A publisher's mistake is a BundleError of the update, not of the bedside; nothing is left of it."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        outcome = update(slots, FakeFetcher(files, b"not a bundle", offer_of(b"not a bundle", "1.1.0")))
        assert (outcome.kind, outcome.code) == (UpdateKind.REFUSED, "bundle-not-archive")
        assert version_of(slots) == "1.0.0"
        assert files.list(slots.incoming) == []


@pytest.mark.parametrize(
    "error", [UnreachableError("x"), TrustError("repository-expired", "x"), TrustError("clock-behind", "x")]
)
def test_repository_that_cannot_be_trusted_now_changes_nothing(error: TrustError) -> None:
    """Unreachable, expired, a bad clock: failed with that code, the old bundle active."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        fetcher = FakeFetcher.of(files, "1.1.0")
        fetcher.error = error
        outcome = update(slots, fetcher)
        assert (outcome.kind, outcome.code) == (UpdateKind.FAILED, error.code)
        assert outcome.active is not None
        assert outcome.active.version == "1.0.0"


def test_no_room_is_found_before_downloading() -> None:
    """The free space is checked first; what an earlier run already downloaded counts."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        fetcher = FakeFetcher.of(files, "1.1.0")
        used = files.capacity - files.free_bytes(ROOT)
        files.capacity = used + (1 << 20) + 2 * fetcher.offer.length - 1
        outcome = update(slots, fetcher)
        assert (outcome.kind, outcome.code, fetcher.downloads) == (UpdateKind.FAILED, "disk-full", 0)
        files.put(slots.incoming / f"{fetcher.offer.sha256[:16]}.ewb.part", fetcher.raw[:1000])
        files.capacity += 1
        assert update(slots, fetcher).kind is UpdateKind.INSTALLED


def test_what_an_earlier_offer_left_is_cleared() -> None:
    """A part of a bundle that is no longer offered does not lie around."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        files.put(slots.incoming / "0123456789abcdef.ewb.part", b"old")
        update(slots, FakeFetcher.of(files, "1.1.0"))
        assert files.list(slots.incoming) == []


def steps_of_an_update() -> int:
    files = device()
    before = files.steps
    with SlotStore(ROOT, files) as slots:
        update(slots, FakeFetcher.of(files, "1.1.0"))
    return files.steps - before


def update_and_go_on(files: MemoryFiles, trial: Trial) -> None:
    """An update, then operations for ever: a refusal takes fewer than an install, and the power must go too."""
    with SlotStore(ROOT, files) as slots:
        update(slots, FakeFetcher.of(files, "1.1.0"), trial)
    while True:
        files.fsync_dir(ROOT)


@pytest.mark.parametrize("passes", [True, False])
@pytest.mark.parametrize(("after", "seed"), [(After.LOST, 0), (After.KEPT, 0), *((After.TORN, s) for s in range(4))])
def test_power_cut_at_each_operation_of_an_update(after: After, seed: int, passes: bool) -> None:
    """Cut anywhere, the device comes back with the old bundle or the new one, and the next update succeeds."""
    start, steps = device(), steps_of_an_update()
    assert steps > 25
    for cut in range(1, steps + 1):
        files = start.copy()
        files.cut_at, files.after, files.seed = files.steps + cut, after, seed
        with pytest.raises(PowerCut):
            update_and_go_on(files, Trial(TrialResult(passes)))
        files.reboot()
        with SlotStore(ROOT, files) as slots:
            active = slots.active()
            assert active is not None
            assert slots.read(active).manifest.version in ({"1.0.0", "1.1.0"} if passes else {"1.0.0"})
            update(slots, FakeFetcher.of(files, "1.1.0"), retry_refused=True)
            assert version_of(slots) == "1.1.0"


@pytest.mark.parametrize("after", [After.LOST, After.KEPT])
def test_ctrl_c_at_each_operation_of_an_update(after: After) -> None:
    """Ctrl-C passes through, leaves no trial behind in the same process, and the next update succeeds."""
    start, steps = device(), steps_of_an_update()
    for at in range(1, steps + 1):
        files = start.copy()
        with SlotStore(ROOT, files) as slots:
            files.interrupt_at, files.after = files.steps + at, after
            try:
                update(slots, FakeFetcher.of(files, "1.1.0"))
            except KeyboardInterrupt:
                assert version_of(slots) in {"1.0.0", "1.1.0"}
            files.interrupt_at = 0
            update(slots, FakeFetcher.of(files, "1.1.0"))
            assert version_of(slots) == "1.1.0"
        store = SlotStore(ROOT, files)
        assert store.open().code == ""
        assert version_of(store) == "1.1.0"


def test_ctrl_c_in_the_trial_abandons_it_without_a_judgement() -> None:
    """A trial that a person stops says nothing against the bundle."""
    files = device()
    with SlotStore(ROOT, files) as slots:
        fetcher = FakeFetcher.of(files, "1.1.0")
        with pytest.raises(KeyboardInterrupt):
            update(slots, fetcher, Trial(error=KeyboardInterrupt()))
        assert slots.refused(fetcher.offer.sha256) == ""
    store = SlotStore(ROOT, files)
    assert store.open().code == ""
    assert version_of(store) == "1.0.0"


def test_full_disk_at_each_write_of_an_update() -> None:
    """A disk that fills at any write is failed with disk-full, or harmless; the old bundle runs on."""
    start, steps = device(), steps_of_an_update()
    seen = set()
    for at in range(1, steps + 1):
        files = start.copy()
        with SlotStore(ROOT, files) as slots:
            files.full_from = files.steps + at
            try:
                outcome = update(slots, FakeFetcher.of(files, "1.1.0"))
            except OSError as error:  # the fake fetcher's own write; the real one turns it into disk-full
                assert error.errno == errno.ENOSPC  # noqa: PT017
            else:
                seen.add((outcome.kind, outcome.code))
        files.full_from = 0
        with SlotStore(ROOT, files) as slots:
            active = slots.active()
            assert active is not None
            assert slots.read(active).manifest.version in {"1.0.0", "1.1.0"}
    assert seen == {(UpdateKind.FAILED, "disk-full"), (UpdateKind.INSTALLED, "")}


def test_update_over_http_from_a_signed_repository(tmp_path: Path) -> None:
    """The whole way on a real disk: signed repository, broken connections, slots; then expired, still running."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0", filler=b"x" * 200_000)
    with FaultyServer(lab.repo) as server, SlotStore(tmp_path / "slots") as slots:
        server.faults.cut_after = 70_000
        assert check_and_install(lab.client(server.url), slots, NAME, Trial()).kind is UpdateKind.INSTALLED
        lab.publish("1.1.0")
        lab.wall.advance(days=30)
        outcome = check_and_install(lab.client(server.url), slots, NAME, Trial())
        assert (outcome.kind, outcome.code) == (UpdateKind.FAILED, "repository-expired")
        lab.publisher.refresh()
        assert check_and_install(lab.client(server.url), slots, NAME, Trial()).kind is UpdateKind.INSTALLED
        assert version_of(slots) == "1.1.0"


KILLED = """
import os, signal, sys
from pathlib import Path
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.update import TrialResult, check_and_install
from edgeward.testing.repository import FakeWall
from edgeward.trust.fetch import TrustClient
folder, where = Path(sys.argv[1]), sys.argv[2]
def trial(path):
    if where == "trial":
        os.kill(os.getpid(), signal.SIGKILL)
    return TrialResult(True)
class Slots(SlotStore):
    def commit(self, slot):
        if where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit(slot)
        os.kill(os.getpid(), signal.SIGKILL)
client = TrustClient(folder / "repo", folder / "trust", wall=FakeWall())
with Slots(folder / "slots") as slots:
    check_and_install(client, slots, "ecg-beat", trial)
"""


@pytest.mark.parametrize(
    ("where", "version", "code"),
    [("trial", "1.0.0", "trial-interrupted"), ("before", "1.0.0", "trial-interrupted"), ("after", "1.1.0", "")],
)
def test_sigkill_around_the_commit(tmp_path: Path, where: str, version: str, code: str) -> None:
    """A process killed in the trial or before the commit comes back with the old bundle, after it with the new one."""
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    with SlotStore(tmp_path / "slots") as slots:
        check_and_install(lab.client(), slots, NAME, Trial())
    lab.publish("1.1.0")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), where], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    store = SlotStore(tmp_path / "slots")
    opening = store.open()
    assert opening.active is not None
    assert (opening.active.version, opening.code) == (version, code)
    store.close()
