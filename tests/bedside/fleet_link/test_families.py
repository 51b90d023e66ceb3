"""The families of a ward: orders reach their updater, and reports say what the slots and the beds say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.fleet_link.families import Families
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.updating.live import NothingLive
from edgeward.bedside.updating.rules import Rules
from edgeward.exchange.checkin import Deed, Held, Order
from edgeward.exchange.words import Rung, UpdateState
from edgeward.kernel.errors import TrustError
from edgeward.testing.files import MemoryFiles
from edgeward.testing.updates import FAMILY, MemoryRepository, passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.bedside.updating.live import Live


@dataclass
class MemoryBundles:
    files: MemoryFiles
    tasks: tuple[str, ...] = (FAMILY,)
    lives: dict[str, NothingLive] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = {task: SlotStore(Path("/ward") / task, self.files) for task in self.tasks}
        for slots in self._slots.values():
            slots.open()

    def slots(self, task: str) -> SlotStore:
        return self._slots[task]

    def live(self, task: str) -> Live:
        return self.lives.setdefault(task, NothingLive())


@dataclass
class Ward:
    """Families that were begun, and what they said and told."""

    said: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    made: list[Families] = field(default_factory=list)

    def begin(self, repository: MemoryRepository, bundles: MemoryBundles) -> Families:
        families = Families(
            bundles, repository, SystemClock(), Rules(), lambda task: passes, say=self.said.append, files=bundles.files
        )
        self.made.append(families)
        families.begin(lambda: self.steps.append(1))
        return families


@pytest.fixture
def ward() -> Iterator[Ward]:
    made = Ward()
    yield made
    for families in made.made:
        families.close()


def until(true: Callable[[], object]) -> None:
    for _ in range(1_000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to hold")


def _state(families: Families) -> UpdateState | None:
    progress = families.reports()[0].progress
    return progress.state if progress is not None else None


def test_a_ward_without_a_bundle_takes_the_newest_that_is_signed(ward: Ward) -> None:
    """It says so to the fleet as an order of its own: rollout 0."""
    files = MemoryFiles()
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files)
    families = ward.begin(repository, bundles)
    until(lambda: _state(families) is UpdateState.COMMITTED)
    report = families.reports()[0]
    assert report.current == Held("1.0.0", repository.offer().sha256)
    assert report.progress is not None
    assert report.progress.rollout == 0
    assert report.rung is Rung.LOCAL


def test_orders_reach_their_family_and_each_step_is_told(ward: Ward) -> None:
    files = MemoryFiles()
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files)
    families = ward.begin(repository, bundles)
    until(lambda: _state(families) is UpdateState.COMMITTED)
    newer = MemoryRepository.of(files, "1.1.0")
    repository.raw, repository.version = newer.raw, newer.version
    steps = len(ward.steps)
    stranger = Order(5, "another-family", Deed.INSTALL, "1.0.0", "ab" * 32)
    families.obey((stranger, newer.order(5)))
    until(lambda: (found := families.reports()[0].current) is not None and found.version == "1.1.0")
    until(lambda: _state(families) is UpdateState.COMMITTED)
    report = families.reports()[0]
    assert report.progress is not None
    assert (report.progress.rollout, report.previous and report.previous.version) == (5, "1.0.0")
    assert len(ward.steps) >= steps + 6
    assert f"update: {FAMILY} 1.1.0 committed" in ward.said


def test_a_bundle_in_use_is_changed_by_nothing_but_an_order(ward: Ward) -> None:
    """A newer one is published, and no order comes: the one in use stays in use, through restarts, too."""
    files = MemoryFiles()
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files)
    families = ward.begin(repository, bundles)
    until(lambda: _state(families) is UpdateState.COMMITTED)
    families.close()
    newer = MemoryRepository.of(files, "1.1.0")
    again = ward.begin(newer, bundles)
    again.obey(())
    time.sleep(0.3)
    held = again.reports()[0].current
    assert held is not None
    assert held.version == "1.0.0"
    assert newer.downloads == 0


def test_a_ward_that_cannot_be_brought_its_first_bundle_says_why_and_reports_all_the_same(ward: Ward) -> None:
    files = MemoryFiles()
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files)
    repository.error = TrustError("repository-expired", "the metadata have expired")
    families = ward.begin(repository, bundles)
    until(lambda: any("repository-expired" in line for line in ward.said))
    report = families.reports()[0]
    assert (report.current, report.progress, report.rung) == (None, None, Rung.THRESHOLD_ONLY)
