"""What an updater needs, in memory: a repository, a trial, and a ward that does as it is told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.bedside.files import replace_file
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.live import Live, NothingLive, Serving, Shadow
from edgeward.bedside.updating.machine import Updater
from edgeward.exchange.checkin import Deed, Evidence, Order
from edgeward.testing.clock import ManualClock
from edgeward.testing.repository import tiny_bundle
from edgeward.trust.download import DownloadReport
from edgeward.trust.durable import storage_error
from edgeward.trust.offer import Offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.slot import Slot
    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.updating.rules import Rules
    from edgeward.testing.files import MemoryFiles
    from edgeward.trust.download import Pace

FAMILY = "ecg-beat"
SLOTS = Path("/device/slots")
EVIDENCE = Evidence(golden_vectors=4, latency_us=900, deadline_us=4_000, memory_kib=40_000)


def passes(_path: Path) -> TrialResult:
    """A trial that everything passes."""
    return TrialResult(True, evidence=EVIDENCE)


def order_of(raw: bytes, version: str, rollout: int = 1, **changes: int) -> Order:
    """A fleet's order to install the bundle ``raw``."""
    return Order(rollout, FAMILY, Deed.INSTALL, version, hashlib.sha256(raw).hexdigest(), **changes)


@dataclass
class MemoryRepository:
    """A repository that offers one bundle, downloaded to a disk in memory, whole or by parts of ``part_bytes``.

    ``error`` is raised by the next question or, with ``at`` "download", download. The part is kept as a real download
    keeps it: made durable, taken up again, and renamed when it is whole.
    """

    files: MemoryFiles
    raw: bytes
    version: str
    is_return: bool = False
    error: BaseException | None = None
    at: str = "ask"
    part_bytes: int = 1 << 20
    downloads: int = 0
    fetched: int = 0
    patched: int = 0
    has_delta: bool = False
    family: str = FAMILY
    asked: int = 0

    @classmethod
    def of(cls, files: MemoryFiles, version: str, *, is_return: bool = False, family: str = FAMILY) -> MemoryRepository:
        """One that offers a tiny bundle of this version."""
        return cls(files, tiny_bundle(version, name=family), version, is_return, family=family)

    def publish(self, version: str, *, is_return: bool = False) -> None:
        """Offer a tiny bundle of this version from now on."""
        self.raw, self.version, self.is_return = tiny_bundle(version, name=self.family), version, is_return

    def offer(self) -> Offer:
        """What it offers."""
        return Offer(self.family, self.version, hashlib.sha256(self.raw).hexdigest(), len(self.raw), self.is_return)

    def order(self, rollout: int = 1, **changes: int) -> Order:
        """A fleet's order for it."""
        return order_of(self.raw, self.version, rollout, **changes)

    def latest(self, name: str) -> Offer:
        """The offer, whatever the name."""
        self.asked += 1
        if self.error is not None and self.at == "ask":
            raise self.error
        return self.offer() if name == self.family else Offer(name, self.version, "0" * 64, 1)

    def download(
        self, offer: Offer, dest: Path, *, progress: Callable[[int], None] | None = None, pace: Pace | None = None
    ) -> DownloadReport:
        """Write the bundle to the disk in memory."""
        self.downloads += 1
        if self.error is not None and self.at == "download":
            raise self.error
        if dest in self.files.names and hashlib.sha256(self.files.read(dest)).hexdigest() == offer.sha256:
            return DownloadReport(offer.length, 0, 0)
        try:
            return self._receive(dest, progress, pace)
        except OSError as error:
            raise storage_error(error, "downloading the bundle") from error

    def _receive(self, dest: Path, progress: Callable[[int], None] | None, pace: Pace | None) -> DownloadReport:
        part = dest.with_name(f"{dest.name}.part")
        kept = self.files.read(part) if part in self.files.names else b""
        held = resumed = len(kept) if self.raw.startswith(kept) else 0
        while held < len(self.raw):
            count = min(self.part_bytes, len(self.raw) - held)
            held += count
            self.files.write_new(part, self.raw[:held])
            self.files.fsync_dir(part.parent)
            self.fetched += count
            if progress is not None:
                progress(held)
            if pace is not None:
                pace.spend(count)
        self.files.rename(part, dest)
        self.files.fsync_dir(dest.parent)
        return DownloadReport(resumed, len(self.raw) - resumed, 0)

    def patch(
        self,
        offer: Offer,
        base: Path,
        base_sha256: str,
        dest: Path,
        *,
        progress: Callable[[int], None] | None = None,
        pace: Pace | None = None,
    ) -> bool:
        """Make the bundle at once, where ``has_delta`` says that there is a delta."""
        assert hashlib.sha256(self.files.read(base)).hexdigest() == base_sha256
        if not self.has_delta or dest in self.files.names:
            return False
        self.patched += 1
        if progress is not None:
            progress(offer.length)
        if pace is not None:
            pace.spend(offer.length)
        try:
            replace_file(self.files, dest, self.raw)
        except OSError:
            return False
        return True


@dataclass
class ScriptedLive:
    """A ward that shows what a test sets. ``said`` keeps what was asked of it, in order."""

    now: Serving = field(default_factory=Serving)
    before: Serving = field(default_factory=Serving)
    compared: Shadow = field(default_factory=Shadow)
    is_safe: bool = True
    takes_charge: bool = True
    said: list[str] = field(default_factory=list)

    def begin_shadow(self, candidate: Slot) -> None:
        """Note it."""
        self.said.append(f"shadow {candidate.version}")

    def shadow(self) -> Shadow:
        """What the test set."""
        return self.compared

    def end_shadow(self) -> None:
        """Note it."""
        self.said.append("end shadow")

    def safe(self) -> bool:
        """What the test set."""
        return self.is_safe

    def activate(self, candidate: Slot) -> None:
        """Serve it, unless the test says that it does not take charge."""
        self.said.append(f"activate {candidate.version}")
        self.before = self.now
        if self.takes_charge:
            self.now = Serving(candidate.sha256)

    def serving(self) -> Serving:
        """What serves, with what the test set."""
        return self.now

    def go_back(self) -> None:
        """Serve the one before."""
        self.said.append("go back")
        self.now = self.before


@dataclass
class MemoryDevice:
    """One family on a device in memory. ``boot`` opens the slots and gives an updater; ``told`` keeps transitions."""

    files: MemoryFiles
    repository: MemoryRepository
    live: Live = field(default_factory=NothingLive)
    clock: ManualClock = field(default_factory=ManualClock)
    trial: Callable[[Path], TrialResult] = passes
    rules: Rules | None = None
    told: list[Record] = field(default_factory=list)

    def boot(self) -> Updater:
        """Open the slots and reconcile the journal with them; a power cut before counts as one."""
        self.slots = SlotStore(SLOTS, self.files)
        self.slots.open()
        updater = Updater(
            FAMILY,
            self.repository,
            self.slots,
            Journal(SLOTS, self.files),
            self.live,
            self.clock,
            self.trial,
            rules=self.rules,
            told=self.told.append,
        )
        updater.boot()
        return updater

    def boot_again(self) -> Updater:
        """Stop in order and boot."""
        self.slots.close()
        return self.boot()

    def until(self, updater: Updater, end: Callable[[Record], bool], turns: int = 10_000) -> Record:
        """Turn, with the time that each turn asks for, until ``end``; ``AssertionError`` when that never comes."""
        for _ in range(turns):
            wait_s = updater.turn()
            if end(updater.record):
                return updater.record
            self.clock.advance(wait_s)
        raise AssertionError(f"still {updater.record.state} ({updater.record.why}) after {turns} turns")

    def install(self, rollout: int = 1, **changes: int) -> Record:
        """Take the repository's bundle by a fleet's order, to the end of it; the slots are open afterwards."""
        updater = self.boot()
        updater.order(self.repository.order(rollout, **changes))
        return self.until(updater, lambda record: record.ended)
