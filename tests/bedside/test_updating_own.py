"""What a device orders for itself: when, how patiently, and when it leaves a bundle alone. On a manual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.live import Shadow
from edgeward.bedside.updating.rules import FIRST, OwnOrders, Seen
from edgeward.exchange.words import UpdateState, Why
from edgeward.testing.files import MemoryFiles
from edgeward.testing.updates import EVIDENCE, FAMILY, MemoryDevice, MemoryRepository, ScriptedLive, passes

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.updating.machine import Updater

OWN = OwnOrders(shadow_s=600, soak_s=600, attempts=8)
AGREES = Shadow(running=True, windows=200, disagreed=1, latency_us=900, memory_kib=40_000)
SLOW = TrialResult(False, "trial-too-slow", "p99 9 ms, the deadline is 4 ms", EVIDENCE)


def ended(record: Record) -> bool:
    return record.ended


def device(version: str = "1.0.0") -> tuple[MemoryDevice, Updater, ScriptedLive]:
    """One that took this version as its first, and 1.1.0 is published."""
    files, live = MemoryFiles(), ScriptedLive(compared=AGREES)
    made = MemoryDevice(files, MemoryRepository.of(files, version), live)
    updater = made.boot()
    updater.look(FIRST)
    made.until(updater, ended)
    live.said.clear()
    made.repository.publish("1.1.0")
    return made, updater, live


def version_of(made: MemoryDevice) -> str:
    slot = made.slots.active()
    return slot.version if slot is not None else "-"


def test_its_own_order_has_shadow_soak_and_the_bound_of_a_fleets() -> None:
    made, updater, live = device()
    assert updater.look(OWN, again=False) is Seen.NEW
    record = made.until(updater, ended)
    assert record.order is not None
    assert (record.order.shadow_s, record.order.soak_s, record.order.disagree) == (600, 600, 20_000)
    assert (record.state, record.is_local, record.evidence.soak_s) == (UpdateState.COMMITTED, True, 600)
    assert live.said == ["shadow 1.1.0", "activate 1.1.0"]
    assert updater.look(OWN, again=False) is Seen.IN_USE


def test_a_device_that_is_busy_for_an_hour_takes_the_bundle_afterwards() -> None:
    """A trial that was too slow is measured again, ever later, and nothing is fetched twice for it."""
    made, updater, _ = device()
    busy_until_ns = made.clock.monotonic_ns() + 3_600 * 10**9

    def trial(path: Path) -> TrialResult:
        return SLOW if made.clock.monotonic_ns() < busy_until_ns else passes(path)

    updater._trial = trial
    fetched = made.repository.fetched
    updater.look(OWN, again=False)
    record = made.until(updater, ended)
    assert (record.state, version_of(made)) == (UpdateState.COMMITTED, "1.1.0")
    assert 5 <= record.attempt <= 8
    assert made.repository.fetched - fetched == len(made.repository.raw)


def test_a_device_that_is_too_slow_for_it_says_so_after_all_attempts_and_leaves_it() -> None:
    made, updater, _ = device()
    updater._trial = lambda _path: SLOW
    updater.look(OWN, again=False)
    record = made.until(updater, ended)
    assert (record.state, record.why, record.attempt) == (UpdateState.FAILED, Why.TOO_SLOW, 8)
    downloads = made.repository.downloads
    assert updater.look(OWN, again=False) is Seen.TURNED_DOWN
    made.until(updater, ended)
    assert made.repository.downloads == downloads


def test_what_kept_a_bundle_away_and_was_not_the_bundle_is_no_reason_to_leave_it() -> None:
    """No patient came for a day: the next look orders it anew."""
    made, updater, live = device()
    live.compared = Shadow(running=True)
    updater.look(OWN, again=False)
    record = made.until(updater, ended)
    assert (record.state, record.why) == (UpdateState.FAILED, Why.NO_INPUT)
    live.compared = AGREES
    assert updater.look(OWN, again=False) is Seen.NEW
    assert made.until(updater, ended).state is UpdateState.COMMITTED


def test_an_older_bundle_is_asked_about_once_and_taken_when_it_is_not_older_any_more() -> None:
    """The repository names 1.1.0 and 2.0.0 is in use; then the ward returns to 1.0.0."""
    made, updater, _ = device("1.0.0")
    made.repository.publish("2.0.0")
    updater.look(FIRST)
    made.until(updater, ended)
    made.repository.publish("1.1.0")
    assert updater.look(OWN, again=False) is Seen.NEW
    assert made.until(updater, ended).why is Why.BUNDLE_OLDER
    steps = made.files.steps
    assert updater.look(OWN, again=False) is Seen.TURNED_DOWN
    updater.turn()
    assert made.files.steps == steps
    made.slots.revert("golden-failed")
    assert updater.look(OWN, again=False) is Seen.NEW
    made.until(updater, ended)
    assert version_of(made) == "1.1.0"


def test_a_bundle_that_was_committed_and_refused_later_is_not_taken_again() -> None:
    """The assessment returned from it: one order says why, and no other follows."""
    made, updater, _ = device()
    updater.look(OWN, again=False)
    made.until(updater, ended)
    made.slots.revert("golden-failed")
    downloads = made.repository.downloads
    assert updater.look(OWN, again=False) is Seen.NEW
    record = made.until(updater, ended)
    assert (record.state, record.why, record.code) == (UpdateState.FAILED, Why.REFUSED_BEFORE, "golden-failed")
    assert updater.look(OWN, again=False) is Seen.TURNED_DOWN
    assert (made.repository.downloads, version_of(made)) == (downloads, "1.0.0")


def test_a_newer_bundle_takes_the_place_of_one_that_is_under_way() -> None:
    made, updater, live = device()
    updater.look(OWN, again=False)
    made.until(updater, lambda record: record.state is UpdateState.SOAKING)
    assert updater.look(OWN, again=False) is Seen.UNDER_WAY
    made.repository.publish("1.2.0")
    assert updater.look(OWN, again=False) is Seen.NEW
    record = made.until(updater, ended)
    assert (record.state, version_of(made)) == (UpdateState.COMMITTED, "1.2.0")
    assert live.said == ["shadow 1.1.0", "activate 1.1.0", "go back", "shadow 1.2.0", "activate 1.2.0"]


@pytest.mark.parametrize("state", [UpdateState.STAGED, UpdateState.SOAKING])
def test_a_candidate_that_its_publisher_took_back_is_called_off(state: UpdateState) -> None:
    """The repository names again what is in use: the beds keep it, or get it back at once."""
    made, updater, live = device()
    updater.look(OWN, again=False)
    made.until(updater, lambda record: record.state is state)
    made.repository.publish("1.0.0", is_return=True)
    assert updater.look(OWN, again=False) is Seen.IN_USE
    record = made.until(updater, ended)
    assert (record.why, version_of(made)) == (Why.WITHDRAWN, "1.0.0")
    assert live.said[-1] == ("go back" if state is UpdateState.SOAKING else "end shadow")
    made.repository.publish("1.1.0")
    updater.look(OWN, again=False)
    assert made.until(updater, ended).state is UpdateState.COMMITTED


def test_what_a_fleet_ordered_is_never_called_off_by_a_look() -> None:
    made, updater, _ = device()
    updater.order(made.repository.order(1, shadow_s=600))
    made.until(updater, lambda record: record.state is UpdateState.STAGED)
    made.repository.publish("1.0.0", is_return=True)
    assert updater.look(OWN, again=False) is Seen.IN_USE
    made.repository.publish("1.1.0")
    record = made.until(updater, ended)
    assert (record.state, record.is_local, version_of(made)) == (UpdateState.COMMITTED, False, "1.1.0")
    assert updater.family == FAMILY
