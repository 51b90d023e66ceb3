"""The families of a ward: orders reach their updater, a ward without a fleet looks for itself, reports say what is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.families import Families
from edgeward.bedside.updating.live import NothingLive, Shadow
from edgeward.bedside.updating.rules import OwnOrders, Rules
from edgeward.exchange.checkin import Deed, Held, Order
from edgeward.exchange.words import Rung, UpdateState, Why
from edgeward.kernel.errors import TrustError
from edgeward.testing.files import MemoryFiles
from edgeward.testing.updates import FAMILY, MemoryRepository, ScriptedLive, passes
from edgeward.trust.transport import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.updating.live import Live
    from edgeward.bedside.updating.rules import Fetcher
    from edgeward.trust.offer import Offer


@dataclass
class MemoryBundles:
    files: MemoryFiles
    tasks: tuple[str, ...] = (FAMILY,)
    lives: dict[str, Live] = field(default_factory=dict)

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

    def begin(
        self,
        repository: Fetcher,
        bundles: MemoryBundles,
        own: OwnOrders | None = None,
        trial: Callable[[Path], TrialResult] = passes,
    ) -> Families:
        families = Families(
            bundles,
            repository,
            SystemClock(),
            Rules(),
            lambda _task: trial,
            say=self.said.append,
            dice=lambda: 0.5,
            own=own,
            files=bundles.files,
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
    repository.publish("1.1.0")
    steps = len(ward.steps)
    stranger = Order(5, "another-family", Deed.INSTALL, "1.0.0", "ab" * 32)
    families.obey((stranger, repository.order(5)))
    until(lambda: (found := families.reports()[0].current) is not None and found.version == "1.1.0")
    until(lambda: _state(families) is UpdateState.COMMITTED)
    report = families.reports()[0]
    assert report.progress is not None
    assert (report.progress.rollout, report.previous and report.previous.version) == (5, "1.0.0")
    assert len(ward.steps) == steps + 1, "its end is told at once, the steps on the way are not"
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


# --- without a fleet

SOON = OwnOrders(shadow_s=1, soak_s=1, attempts=8, look_s=0.05)
LONG = OwnOrders(shadow_s=600, soak_s=600, attempts=8, look_s=0.05)
AGREES = Shadow(running=True, windows=200, disagreed=1, latency_us=900, memory_kib=40_000)


class Shelf:
    """A repository of several families."""

    def __init__(self, *repositories: MemoryRepository) -> None:
        self._of = {one.family: one for one in repositories}

    def latest(self, name: str) -> Offer:
        return self._of[name].latest(name)

    def download(self, offer: Offer, dest: Path, **how: Any) -> Any:
        return self._of[offer.name].download(offer, dest, **how)

    def patch(self, offer: Offer, base: Path, base_sha256: str, dest: Path, **how: Any) -> bool:
        return self._of[offer.name].patch(offer, base, base_sha256, dest, **how)


def record_of(families: Families, task: str = FAMILY) -> Record:
    return families._updaters[task].record


def version_of(families: Families, index: int = 0) -> str:
    held = families.reports()[index].current
    return held.version if held is not None else "-"


def looked_again(repository: MemoryRepository, times: int = 5) -> None:
    asked = repository.asked
    until(lambda: repository.asked >= asked + times)


def test_a_newer_bundle_is_found_while_beds_are_watched_and_has_to_show_itself(ward: Ward) -> None:
    """The first one is taken at once, the next by shadow and soak, whenever it is published."""
    files, live = MemoryFiles(), ScriptedLive(compared=AGREES)
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files, lives={FAMILY: live})
    families = ward.begin(repository, bundles, SOON)
    until(lambda: _state(families) is UpdateState.COMMITTED)
    assert live.said == ["activate 1.0.0"]
    repository.publish("1.1.0")
    until(lambda: version_of(families) == "1.1.0" and _state(families) is UpdateState.COMMITTED)
    assert live.said == ["activate 1.0.0", "shadow 1.1.0", "activate 1.1.0"]
    record = record_of(families)
    assert record.is_local
    assert (record.evidence.shadow_windows, record.evidence.soak_s) == (200, 1)
    assert (repository.downloads, ward.said[-1]) == (2, f"update: {FAMILY} 1.1.0 committed")
    looked_again(repository)
    assert repository.downloads == 2


def test_a_bundle_that_was_refused_is_not_fetched_again(ward: Ward) -> None:
    """Neither by later looks nor after a restart, which says once why it is not taken; the next version is."""
    files = MemoryFiles()
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files)
    first = ward.begin(repository, bundles, SOON)
    until(lambda: version_of(first) == "1.0.0")
    first.close()
    repository.publish("1.1.0")

    def golden_fails(_path: Path) -> TrialResult:
        return TrialResult(False, "golden-failed", "worst 0.2")

    families = ward.begin(repository, bundles, SOON, golden_fails)
    until(lambda: _state(families) is UpdateState.FAILED)
    looked_again(repository)
    assert repository.downloads == 2
    assert [line for line in ward.said if "failed" in line] == [
        f"update: {FAMILY} 1.1.0 failed: worst 0.2 [golden-failed]"
    ]
    families.close()
    again = ward.begin(repository, bundles, SOON)
    looked_again(repository)
    told = [line for line in ward.said if "is not taken" in line]
    assert len(told) == 1
    assert f"{FAMILY} 1.1.0 is not taken, {FAMILY} 1.0.0 (" in told[0]
    assert told[0].endswith("stays: worst 0.2 [golden-failed]")
    assert (repository.downloads, version_of(again)) == (2, "1.0.0")
    repository.publish("1.2.0")
    until(lambda: record_of(again).order is not None and record_of(again).order.version == "1.2.0")


def test_families_are_looked_for_and_updated_on_their_own(ward: Ward) -> None:
    """One that the repository does not have holds up no other, and is said once."""
    files = MemoryFiles()
    one, other = MemoryRepository.of(files, "1.0.0"), MemoryRepository.of(files, "3.0.0", family="other")
    other.error = TrustError("bundle-not-published", "there is none")
    bundles = MemoryBundles(files, (FAMILY, "other"))
    families = ward.begin(Shelf(one, other), bundles, SOON)
    until(lambda: version_of(families) == "1.0.0")
    looked_again(other)
    assert [line for line in ward.said if "other" in line] == [
        "update: other has no bundle yet: there is none [bundle-not-published]"
    ]
    other.error = None
    until(lambda: version_of(families, 1) == "3.0.0")
    assert version_of(families) == "1.0.0"


def test_a_repository_that_was_away_is_found_again(ward: Ward) -> None:
    """That it is away is said when it begins and when it is over, however many looks lie between."""
    files = MemoryFiles()
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files)
    families = ward.begin(repository, bundles, SOON)
    until(lambda: version_of(families) == "1.0.0")
    repository.error = UnreachableError("nobody answers")
    looked_again(repository)
    repository.publish("1.1.0")
    repository.error = RuntimeError("a mistake in a library")
    looked_again(repository)
    repository.error = None
    until(lambda: any("answers again" in line for line in ward.said))
    until(lambda: record_of(families).order is not None and record_of(families).order.version == "1.1.0")
    told = [line for line in ward.said if "stays as it is" in line]
    assert [line.rpartition("[")[2] for line in told] == ["repository-unreachable]", "look-broke]"]


def test_a_ward_that_stops_during_a_shadow_goes_on_with_it_at_the_next_start(ward: Ward) -> None:
    """The candidate's engine is stopped, nothing is fetched again, and the stop does not count against it."""
    files, live = MemoryFiles(), ScriptedLive(compared=AGREES)
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files, lives={FAMILY: live})
    families = ward.begin(repository, bundles, LONG)
    until(lambda: version_of(families) == "1.0.0")
    repository.publish("1.1.0")
    for start in range(4):
        until(lambda start=start: live.said.count("shadow 1.1.0") == start + 1)
        families.close()
        assert live.said[-1] == "end shadow"
        families = ward.begin(repository, bundles, LONG if start < 3 else SOON)
    assert _state(families) is UpdateState.STAGED
    assert (repository.downloads, bundles.slots(FAMILY).refused(repository.offer().sha256)) == (2, "")


def test_what_a_ward_ordered_itself_ends_when_it_comes_to_have_a_fleet(ward: Ward) -> None:
    """From then on orders alone change a bundle that is in use."""
    files, live = MemoryFiles(), ScriptedLive(compared=AGREES)
    repository, bundles = MemoryRepository.of(files, "1.0.0"), MemoryBundles(files, lives={FAMILY: live})
    families = ward.begin(repository, bundles, LONG)
    until(lambda: version_of(families) == "1.0.0")
    repository.publish("1.1.0")
    until(lambda: "shadow 1.1.0" in live.said)
    families.close()
    again = ward.begin(repository, bundles)
    until(lambda: _state(again) is UpdateState.FAILED)
    assert record_of(again).why is Why.WITHDRAWN
    again.obey((repository.order(1, shadow_s=600),))
    until(lambda: live.said.count("shadow 1.1.0") == 2)
