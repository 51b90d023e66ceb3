"""The updater: from an order to its end, whatever happens on the way; the bundle in use stays in use."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from edgeward.bedside.slot import INTERRUPTIONS_MAX
from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.gate import DOWN_S_MAX
from edgeward.bedside.updating.happening import Limits
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.live import NothingLive, Serving, Shadow
from edgeward.bedside.updating.rules import Rules
from edgeward.bedside.updating.windows import MaintenanceWindows
from edgeward.exchange.checkin import Deed, Evidence
from edgeward.exchange.words import UpdateState, Why
from edgeward.kernel.errors import BundleError, ConfigError, EngineError, TrustError
from edgeward.testing.clock import ManualClock
from edgeward.testing.files import MemoryFiles
from edgeward.testing.updates import EVIDENCE, SLOTS, MemoryDevice, MemoryRepository, ScriptedLive
from edgeward.trust.transport import UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.updating.machine import Updater

S = UpdateState


def device(version: str = "1.1.0", *, in_use: str = "1.0.0") -> MemoryDevice:
    """A device that has ``in_use`` committed, and a repository that offers ``version``."""
    files = MemoryFiles()
    first = MemoryDevice(files, MemoryRepository.of(files, in_use))
    assert first.install().state is S.COMMITTED
    first.slots.close()
    return MemoryDevice(files, MemoryRepository.of(files, version))


def version_of(made: MemoryDevice) -> str | None:
    slot = made.slots.active()
    return slot.version if slot else None


def ended(record: Record) -> bool:
    return record.ended


def waits_for(why: Why) -> object:
    return lambda record: record.why is why


def restarted(made: MemoryDevice) -> MemoryDevice:
    """The same disk and repository after a kill of the process: nothing was said to anybody."""
    made.files.reboot()
    return MemoryDevice(made.files, made.repository, clock=made.clock, rules=made.rules, trial=made.trial)


def test_states_come_in_their_order_and_the_end_has_evidence() -> None:
    """Every state is told once; the committed record holds what the device measured; nothing is left in incoming."""
    made = device()
    record = made.install(2)
    assert [item.state for item in made.told] == [
        S.OFFERED, S.DOWNLOADING, S.VERIFIED, S.STAGED, S.ACTIVATED, S.SOAKING, S.COMMITTED,
    ]  # fmt: skip
    assert record.evidence == EVIDENCE
    assert version_of(made) == "1.1.0"
    assert made.files.list(made.slots.incoming) == []
    previous = made.slots.previous()
    assert previous is not None
    assert previous.version == "1.0.0"


def test_first_bundle_of_a_device_needs_no_shadow_and_no_maintenance_window() -> None:
    """Where nothing is in use there is nothing to disturb and nothing to compare with."""
    files = MemoryFiles()
    closed = MaintenanceWindows.parse(["Sun 03:00-03:01"], UTC)
    made = MemoryDevice(files, MemoryRepository.of(files, "1.0.0"), rules=Rules(closed))
    assert made.install(shadow_s=600).state is S.COMMITTED


def test_repeated_and_older_orders_change_nothing() -> None:
    """An order of a rollout that is over, or before it, neither downloads nor moves the record."""
    made = device()
    made.install(2)
    updater, steps, told = made.boot_again(), made.files.steps, len(made.told)
    for rollout in (2, 1, 2):
        updater.order(made.repository.order(rollout))
        updater.turn()
    assert (made.files.steps, len(made.told), made.repository.downloads) == (steps, told, 1)


def test_order_for_what_is_in_use_ends_with_evidence_and_without_a_download() -> None:
    """A device that has the bundle already measures it and says so."""
    made = device("1.0.0")
    record = made.install(2)
    assert (record.state, record.evidence, made.repository.downloads) == (S.COMMITTED, EVIDENCE, 0)


def test_order_that_signed_metadata_do_not_name_is_tried_again_and_then_given_up() -> None:
    """A fleet that was taken over can order what it likes: nothing but what is signed is ever fetched."""
    made = device()
    updater = made.boot()
    updater.order(replace(made.repository.order(2), sha256="f" * 64))
    record = made.until(updater, ended)
    assert (record.state, record.why, record.attempt) == (S.FAILED, Why.NOT_SIGNED, 3)
    assert (made.repository.downloads, version_of(made)) == (0, "1.0.0")


def test_metadata_that_come_late_are_waited_for() -> None:
    """NOT_SIGNED mends itself when the repository catches up before the attempts are used up."""
    made = device()
    late, made.repository = made.repository, MemoryRepository.of(made.files, "1.0.0")
    updater = made.boot()
    updater.order(late.order(2))
    made.until(updater, waits_for(Why.NOT_SIGNED))
    updater._fetcher = late
    assert made.until(updater, ended).state is S.COMMITTED


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (UnreachableError("x"), Why.UNREACHABLE),
        (TrustError("signature-invalid", "x"), Why.TRUST),
        (TrustError("clock-behind", "x"), Why.CLOCK),
        (TrustError("repository-expired", "x"), Why.TRUST),
        (ConfigError("disk-full", "x"), Why.DISK_FULL),
        (ConfigError("trust-in-use", "x"), Why.OTHER),
    ],
)
@pytest.mark.parametrize("at", ["ask", "download"])
def test_what_time_may_mend_is_retried_as_often_as_ordered(error: Exception, why: Why, at: str) -> None:
    """Attempts are capped, pauses grow, the bundle in use stays, and a later rollout succeeds."""
    made = device()
    made.repository.error, made.repository.at = error, at
    began_ns = made.clock.monotonic_ns()
    record = made.install(2, attempts=4)
    assert (record.state, record.why, record.attempt, record.code) == (S.FAILED, why, 4, error.code)
    assert (made.clock.monotonic_ns() - began_ns) / 1e9 == pytest.approx(60 + 120 + 240)
    assert version_of(made) == "1.0.0"
    made.repository.error = None
    updater = made.boot_again()
    updater.order(made.repository.order(3))
    assert made.until(updater, ended).state is S.COMMITTED


def test_older_bundle_is_refused_unless_a_return_is_signed() -> None:
    """A lower version is bundle-older, once; a signed return is installed."""
    made = device("1.0.0", in_use="1.1.0")
    record = made.install(2)
    assert (record.state, record.why, made.repository.downloads) == (S.FAILED, Why.BUNDLE_OLDER, 0)
    made.repository.is_return = True
    updater = made.boot_again()
    updater.order(made.repository.order(3))
    assert made.until(updater, ended).state is S.COMMITTED
    assert version_of(made) == "1.0.0"


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (TrialResult(False, "golden-failed", "no"), Why.GOLDEN_FAILED),
        (TrialResult(False, "trial-too-slow", "no", EVIDENCE), Why.TOO_SLOW),
        (TrialResult(True, evidence=replace(EVIDENCE, memory_kib=100_001)), Why.MEMORY),
        (TrialResult(False, "trial-hung", "no"), Why.TRIAL_CRASHED),
        (TrialResult(True), Why.TRIAL_CRASHED),  # one that measured nothing
    ],
)
def test_failed_gate_ends_it_and_is_remembered(result: TrialResult, why: Why) -> None:
    """A bundle that fails on this device never serves, is said with its evidence, and is not fetched again."""
    made = device()
    made.rules = Rules(memory_kib_max=100_000)
    made.trial = lambda _path: result
    record = made.install(2)
    assert (record.state, record.why, record.evidence) == (S.FAILED, why, result.evidence)
    assert record.attempt == (3 if why is Why.TOO_SLOW else 1)
    assert version_of(made) == "1.0.0"
    assert made.slots.trial() is None
    updater = made.boot_again()
    updater.order(made.repository.order(3))
    record = made.until(updater, ended)
    assert (record.why, made.repository.fetched) == (Why.REFUSED_BEFORE, len(made.repository.raw))


def test_device_that_was_busy_in_one_trial_takes_the_bundle_in_the_next() -> None:
    """A latency that another job spoiled is measured again, and nothing is fetched twice."""
    made, results = (
        device(),
        [TrialResult(False, "trial-too-slow", "no", EVIDENCE), TrialResult(True, evidence=EVIDENCE)],
    )
    made.trial = lambda _path: results.pop(0)
    record = made.install(2)
    assert (record.state, record.attempt, made.repository.fetched) == (S.COMMITTED, 2, len(made.repository.raw))


def test_nothing_is_put_in_charge_that_could_not_be_recorded() -> None:
    """The disk is full at the safe moment: no swap, and another attempt when there is room."""
    made, live = device(), ScriptedLive(is_safe=False)
    updater = soaked(made, live)
    made.until(updater, waits_for(Why.BED_IN_USE))
    made.files.full_from, live.is_safe = made.files.steps + 1, True
    record = made.until(updater, lambda record: record.why is Why.DISK_FULL)
    assert (record.state, record.attempt, live.said) == (S.OFFERED, 2, ["end shadow"])
    made.files.full_from = 0
    assert made.until(updater, ended).state is S.COMMITTED


def test_ward_that_breaks_fails_the_update_and_not_its_thread() -> None:
    """An error that nobody foresaw, in the soak: the beds go back, and the next order is taken."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=600)
    made.until(updater, lambda record: record.state is S.SOAKING)
    real, live.serving = live.serving, None
    record = made.until(updater, ended)
    assert (record.state, record.why, record.code, live.said[-1]) == (
        S.ROLLED_BACK,
        Why.OTHER,
        "update-broke",
        "go back",
    )
    live.serving = real
    updater.order(made.repository.order(3))
    assert made.until(updater, ended).state is S.COMMITTED


@pytest.mark.parametrize("error", [EngineError("engine-load", "no"), BundleError("x", "no"), ValueError("payload")])
def test_trial_that_breaks_is_a_failed_trial(error: Exception) -> None:
    """An exception of the trial ends the update, and its text is not repeated."""
    made = device()

    def broken(_path: Path) -> TrialResult:
        raise error

    made.trial = broken
    record = made.install(2)
    assert (record.state, record.why) == (S.FAILED, Why.TRIAL_CRASHED)
    assert "payload" not in record.message
    assert version_of(made) == "1.0.0"


def test_signed_file_that_is_no_bundle_or_another_one_is_refused() -> None:
    """A publisher's mistake ends the update and not the bedside; nothing is left of it."""
    for raw, code in (
        (b"not a bundle", "bundle-not-archive"),
        (MemoryRepository.of(MemoryFiles(), "9.9.9").raw, "bundle-mismatch"),
    ):
        made = device()
        made.repository.raw = raw
        record = made.install(2)
        assert (record.state, record.why, record.code) == (S.FAILED, Why.BUNDLE_REFUSED, code)
        assert version_of(made) == "1.0.0"
        assert made.files.list(made.slots.incoming) == []
        assert made.slots.trial() is None


def test_no_room_is_found_before_downloading_and_garbage_makes_room() -> None:
    """What an abandoned trial and an earlier offer left is removed first; what was downloaded already counts."""
    made = device()
    made.files.put(SLOTS / "incoming" / "0123456789abcdef.ewb.part", b"old" * 1000)
    made.files.put(SLOTS / "b" / "bundle.ewb", b"left" * 1000)
    made.files.put(SLOTS / "b" / "bundle.ewb.new", b"left" * 1000)
    used = len(made.files.read(SLOTS / "a" / "bundle.ewb"))
    made.files.capacity = used + (1 << 20) + 2 * len(made.repository.raw) - 1
    record = made.install(2, attempts=1)
    assert (record.state, record.why, made.repository.downloads) == (S.FAILED, Why.DISK_FULL, 0)
    assert made.files.list(SLOTS / "b") == made.files.list(SLOTS / "incoming") == []
    made.files.capacity += 1 << 14  # the small files of slots and journal
    updater = made.boot_again()
    updater.order(made.repository.order(3))
    assert made.until(updater, ended).state is S.COMMITTED


def test_delta_is_used_where_there_is_one_and_the_whole_file_where_not() -> None:
    """A patch puts the file in place, so that the download finds it there."""
    made = device()
    made.repository.has_delta = True
    assert made.install(2).state is S.COMMITTED
    assert (made.repository.patched, made.repository.fetched) == (1, 0)


# --- maintenance windows


def test_nothing_is_fetched_outside_of_maintenance_windows() -> None:
    """The order waits, and is carried out in the first window; wall time is the site's."""
    made = device()
    made.rules = Rules(MaintenanceWindows.parse(["Thu 14:00-15:00"], ZoneInfo("Europe/Berlin")))
    updater = made.boot()  # 1 January 2026, a Thursday, 00:00:01 UTC
    updater.order(made.repository.order(2))
    record = made.until(updater, waits_for(Why.WINDOW_CLOSED))
    assert (record.state, made.repository.downloads) == (S.OFFERED, 0)
    assert record.message == "it waits for its maintenance window, which opens Thu 2026-01-01 14:00 Europe/Berlin"
    on_disk = Journal(SLOTS, made.files).read()
    assert (on_disk.why, on_disk.message) == (record.why, record.message)  # for whoever looks at the device
    made.until(updater, ended)
    assert made.clock.wall().hour == 13
    assert version_of(made) == "1.1.0"


def test_download_pauses_where_its_maintenance_window_closes() -> None:
    """It stops between two parts, keeps them, and goes on at the next opening."""
    made = device()
    made.rules = Rules(MaintenanceWindows.parse(["00:00-01:00"], UTC))
    made.repository.part_bytes = 500
    updater = made.boot()
    real = made.repository.download

    def slow(offer: object, dest: Path, *, progress: object = None, pace: object = None) -> object:
        def later(held: int) -> None:
            made.clock.advance(2_000)
            progress(held)

        return real(offer, dest, progress=later, pace=pace)

    made.repository.download = slow
    updater.order(made.repository.order(2))
    record = made.until(updater, waits_for(Why.WINDOW_CLOSED))
    assert record.state is S.DOWNLOADING
    assert 0 < updater.progress.percent < 100
    fetched, told = made.repository.fetched, len(made.told)
    made.until(updater, ended)
    assert (made.told[told].state, made.told[told].why) == (S.DOWNLOADING, None)  # it says so no longer
    assert made.repository.fetched == len(made.repository.raw)
    assert fetched == 2 * 500


# --- beds


def soaked(made: MemoryDevice, live: ScriptedLive, **changes: int) -> Updater:
    made.live = live
    updater = made.boot()
    live.now = Serving(made.slots.active().sha256)
    updater.order(made.repository.order(2, **changes))
    return updater


def test_bed_in_use_is_never_swapped_under_and_time_out_stays_on_the_old_model() -> None:
    """No safe moment within the deferral: failed, the shadow ended, nothing activated, the bundle not refused."""
    made, live = device(), ScriptedLive(is_safe=False, compared=Shadow(True, 60, 0, 0, 900, 1))
    made.rules = Rules(limits=Limits(defer_s=60))
    updater = soaked(made, live, shadow_s=10)
    record = made.until(updater, ended)
    assert (record.state, record.why) == (S.FAILED, Why.NO_SAFE_MOMENT)
    assert live.said == ["shadow 1.1.0", "end shadow"]
    assert version_of(made) == "1.0.0"
    assert made.slots.refused(record.order.sha256) == ""
    live.is_safe = True
    updater.order(made.repository.order(3))
    assert made.until(updater, ended).state is S.COMMITTED


def test_time_outside_of_maintenance_windows_is_no_deferral() -> None:
    """A window of one hour a day and a deferral of ninety minutes: it is given up on the second day."""
    made, live = device(), ScriptedLive(is_safe=False)
    made.rules = Rules(MaintenanceWindows.parse(["02:00-03:00"], UTC), limits=Limits(defer_s=5_400))
    updater = soaked(made, live)
    record = made.until(updater, ended, turns=100_000)
    assert record.why is Why.NO_SAFE_MOMENT
    assert made.clock.wall().day == 2
    assert made.clock.wall().hour == 2


def test_swap_waits_for_the_safe_moment_and_then_soaks() -> None:
    """BED_IN_USE is told while it waits; it is committed only after the whole soak."""
    made, live = device(), ScriptedLive(is_safe=False)
    updater = soaked(made, live, soak_s=600)
    made.until(updater, waits_for(Why.BED_IN_USE))
    assert live.said == []
    live.is_safe = True
    made.until(updater, lambda record: record.state is S.SOAKING)
    began_ns = made.clock.monotonic_ns()
    assert version_of(made) == "1.0.0"
    record = made.until(updater, ended)
    assert record.state is S.COMMITTED
    assert 600 <= record.evidence.soak_s <= (made.clock.monotonic_ns() - began_ns) / 1e9 + 1
    assert live.said == ["activate 1.1.0"]


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({"down": True}, "down"),
        ({"failures": 4, "scores": 100}, "failures"),
        ({"sha256": "e" * 64}, "another"),
    ],
)
def test_soak_that_fails_goes_back_at_once_and_refuses_the_bundle(change: dict[str, object], taken: str) -> None:
    """The beds get the old bundle first; then it is recorded and refused."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=600)
    made.until(updater, lambda record: record.state is S.SOAKING)
    live.now = replace(live.now, **change)
    record = made.until(updater, ended)
    assert (record.state, record.why) == (S.ROLLED_BACK, Why.SOAK_FAILED)
    assert live.said[-1] == "go back"
    assert version_of(made) == "1.0.0"
    assert made.slots.refused(record.order.sha256) == "soak-failed"


def test_an_engine_that_is_up_again_in_time_does_not_end_a_soak_and_one_that_is_down_is_not_committed() -> None:
    """The engine in charge fails just before the soak's end: it is committed once it serves again, not before."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=600)
    made.until(updater, lambda record: record.state is S.SOAKING)
    began_ns = made.clock.monotonic_ns()

    def passed_s() -> float:
        return (made.clock.monotonic_ns() - began_ns) / 1e9

    longest_s = int(Rules().dwell_s) + DOWN_S_MAX
    for down_s in (longest_s - 5, longest_s - 1):
        until_s = passed_s() + 225
        made.until(updater, lambda _, until_s=until_s: passed_s() >= until_s)
        live.now = replace(live.now, down=True, failures=1)
        until_s = passed_s() + down_s
        made.until(updater, lambda _, until_s=until_s: passed_s() >= until_s)
        assert updater.record.state is S.SOAKING
        live.now = replace(live.now, down=False)
    assert passed_s() > 600
    record = made.until(updater, ended)
    assert (record.state, record.evidence.soak_s > 600) == (S.COMMITTED, True)


def test_failures_within_the_bound_do_not_end_a_soak() -> None:
    """One failure, and one more for each hundred scores, is what engines are restarted for."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=60)
    made.until(updater, lambda record: record.state is S.SOAKING)
    live.now = replace(live.now, failures=3, scores=300)
    assert made.until(updater, ended).state is S.COMMITTED


def test_candidate_that_does_not_take_charge_is_taken_back() -> None:
    """It was put in charge and the old one goes on serving: taken back after a bounded time, and not blamed."""
    made, live = device(), ScriptedLive(takes_charge=False)
    updater = soaked(made, live)
    record = made.until(updater, ended)
    assert (record.state, record.why) == (S.ROLLED_BACK, Why.NO_SAFE_MOMENT)
    assert live.said == ["activate 1.1.0", "go back"]
    assert made.slots.refused(record.order.sha256) == ""


# --- the shadow


def test_shadow_runs_its_time_and_needs_enough_windows() -> None:
    """Agreement over too few windows is none: it waits for input, and its evidence is kept."""
    made, live = device(), ScriptedLive(compared=Shadow(True, 49, 0, 0, 1_200, 50_000))
    updater = soaked(made, live, shadow_s=300)
    began_ns = made.clock.monotonic_ns()
    record = made.until(updater, waits_for(Why.NO_INPUT))
    assert "fewer than the 50 windows" in record.message
    assert (made.clock.monotonic_ns() - began_ns) / 1e9 >= 300
    assert record.state is S.STAGED
    live.compared = Shadow(True, 50, 1, 0, 1_200, 50_000)
    record = made.until(updater, ended)
    assert record.evidence == replace(
        EVIDENCE, shadow_windows=50, shadow_disagreed=1, latency_us=1_200, memory_kib=50_000
    )
    assert record.state is S.COMMITTED


def test_shadow_without_input_is_given_up_after_the_deferral() -> None:
    """Nothing to be compared on, for longer than the site allows: the old model stays, and the bundle is not blamed."""
    made, live = device(), ScriptedLive(compared=Shadow(True, 0))
    made.rules = Rules(limits=Limits(defer_s=100))
    record = made.until(soaked(made, live, shadow_s=10), ended)
    assert (record.state, record.why, made.slots.refused(record.order.sha256)) == (S.FAILED, Why.NO_INPUT, "")


@pytest.mark.parametrize(
    ("shadow", "why"),
    [
        (Shadow(True, 100, 3, 0, 900, 1), Why.SHADOW_DISAGREES),
        (Shadow(True, 100, 0, 3, 900, 1), Why.SHADOW_FAILED),
        (Shadow(True, 100, 0, 0, 4_001, 1), Why.TOO_SLOW),
        (Shadow(True, 100, 0, 0, 900, 100_001), Why.MEMORY),
    ],
)
def test_shadow_beyond_its_bounds_ends_it(shadow: Shadow, why: Why) -> None:
    """Disagreement above 2 %, failures, lateness and memory: never activated, refused, with evidence."""
    made, live = device(), ScriptedLive(compared=shadow)
    made.rules = Rules(memory_kib_max=100_000)
    record = made.until(soaked(made, live, shadow_s=10), ended)
    assert (record.state, record.why, record.evidence.shadow_windows) == (S.FAILED, why, 100)
    assert live.said == ["shadow 1.1.0", "end shadow"]
    assert made.slots.refused(record.order.sha256) == why.value


def test_shadow_whose_engine_ends_fails_and_one_that_never_ran_waits() -> None:
    """Gone after it ran is the candidate's fault; not there yet may be the device's."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, shadow_s=600)
    made.until(updater, lambda record: record.state is S.STAGED)
    for _ in range(200):
        made.clock.advance(updater.turn())
    assert updater.record.state is S.STAGED
    live.compared = Shadow(True, 5)
    made.clock.advance(updater.turn())
    live.compared = Shadow(False, 5)
    record = made.until(updater, ended)
    assert (record.state, record.why) == (S.FAILED, Why.SHADOW_FAILED)


# --- orders while it is under way


@pytest.mark.parametrize("state", [S.OFFERED, S.STAGED, S.SOAKING])
def test_withdrawn_order_ends(state: UpdateState) -> None:
    """Wherever it stands short of committed, it ends, beds first; the bundle is not refused."""
    made, live = device(), ScriptedLive(is_safe=state is S.SOAKING)
    updater = soaked(made, live, soak_s=600, shadow_s=0)
    if state is S.OFFERED:
        made.repository.error = UnreachableError("x")
    made.until(updater, lambda record: record.state is state and record.attempt > (state is S.OFFERED))
    order = replace(made.repository.order(2), deed=Deed.WITHDRAW)
    updater.order(order)
    record = made.until(updater, ended)
    assert record.why is Why.WITHDRAWN
    assert record.state is (S.ROLLED_BACK if state is S.SOAKING else S.FAILED)
    assert (version_of(made), made.slots.trial(), made.slots.refused(order.sha256)) == ("1.0.0", None, "")
    if state is S.SOAKING:
        assert live.said == ["activate 1.1.0", "go back"]
    updater.order(made.repository.order(2))  # the order itself, overtaken by its withdrawal
    updater.turn()
    assert updater.record is record


def test_withdrawal_that_overtakes_its_order_keeps_it_from_beginning() -> None:
    """The order of a withdrawn rollout comes late and changes nothing."""
    made = device()
    updater = made.boot()
    updater.order(replace(made.repository.order(2), deed=Deed.WITHDRAW))
    updater.turn()
    updater.order(made.repository.order(2))
    updater.turn()
    assert (updater.record.why, made.repository.downloads) == (Why.WITHDRAWN, 0)


def test_committed_bundle_cannot_be_withdrawn() -> None:
    """A withdrawal after the commit changes nothing."""
    made = device()
    made.install(2)
    updater = made.boot_again()
    updater.order(replace(made.repository.order(2), deed=Deed.WITHDRAW))
    updater.turn()
    assert (updater.record.state, version_of(made)) == (S.COMMITTED, "1.1.0")


@pytest.mark.parametrize("state", [S.DOWNLOADING, S.STAGED, S.SOAKING])
def test_newer_order_supersedes_an_unfinished_one(state: UpdateState) -> None:
    """The beds get the old bundle, then the newer one is begun from the start."""
    made, live = device(), ScriptedLive(is_safe=state is S.SOAKING)
    updater = soaked(made, live, soak_s=600)
    newer = MemoryRepository.of(made.files, "1.2.0")
    if state is S.DOWNLOADING:
        made.repository.part_bytes = 200
        real, asked = made.repository.download, []

        def download(offer: object, dest: Path, *, progress: object = None, pace: object = None) -> object:
            asked.append(1)
            updater.order(newer.order(3))
            return real(offer, dest, progress=progress, pace=pace)

        made.repository.download = download
        updater.turn()
        updater._fetcher = newer
        assert (len(asked), made.repository.fetched) == (1, 200)
    else:
        made.until(updater, lambda record: record.state is state)
        updater._fetcher = newer
        updater.order(newer.order(3))
    live.is_safe = True
    record = made.until(updater, ended)
    assert (record.state, record.order.rollout, version_of(made)) == (S.COMMITTED, 3, "1.2.0")
    if state is S.SOAKING:
        assert live.said == ["activate 1.1.0", "go back", "activate 1.2.0"]


def test_fleet_replaces_what_a_device_ordered_itself_and_never_the_other_way() -> None:
    """A local order does not disturb a fleet's; its progress says rollout 0."""
    made = device()
    updater = made.boot()
    updater.look()
    updater.turn()
    assert (updater.progress.rollout, updater.progress.state) == (0, S.COMMITTED)
    newer = MemoryRepository.of(made.files, "1.2.0")
    updater._fetcher = newer
    updater.order(newer.order(1))
    made.until(updater, ended)
    assert (updater.progress.rollout, version_of(made)) == (1, "1.2.0")


def test_local_look_orders_nothing_when_nothing_is_new() -> None:
    """Without news there is no order, no download and not one write."""
    made = device("1.0.0")
    updater, steps = made.boot(), made.files.steps
    updater.look()
    updater.turn()
    assert (made.files.steps, made.repository.downloads) == (steps, 0)


# --- restarts


def test_restart_in_a_soak_serves_the_old_bundle_and_soaks_anew() -> None:
    """Hours into a soak the power goes: the committed bundle serves, the trial goes on from STAGED, and commits."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=3_600)
    made.until(updater, lambda record: record.state is S.SOAKING)
    again = restarted(made)
    updater = again.boot()
    assert version_of(again) == "1.0.0"
    assert updater.record.state is S.STAGED
    assert updater.record.evidence == EVIDENCE
    record = again.until(updater, ended)
    assert (record.state, record.evidence.soak_s, version_of(again)) == (S.COMMITTED, 3_600, "1.1.0")
    assert again.repository.downloads == 1


def test_trial_that_is_cut_short_too_often_is_refused_as_interrupted() -> None:
    """A bundle that may be what takes the device down is not begun for ever."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=3_600)
    made.until(updater, lambda record: record.state is S.SOAKING)
    for _ in range(INTERRUPTIONS_MAX - 1):
        made = restarted(made)
        updater = made.boot()
        assert updater.record.state is S.STAGED
        made.until(updater, lambda record: record.state is S.SOAKING)
    made = restarted(made)
    record = made.boot().record
    assert (record.state, record.why) == (S.ROLLED_BACK, Why.INTERRUPTED)
    assert (version_of(made), made.slots.trial()) == ("1.0.0", None)
    assert made.slots.refused(record.order.sha256) == "trial-interrupted"


def test_orderly_restarts_are_not_counted_against_a_trial() -> None:
    """A device that is stopped in order ten times in a soak still commits."""
    made, live = device(), ScriptedLive()
    updater = soaked(made, live, soak_s=3_600)
    made.until(updater, lambda record: record.state is S.SOAKING)
    for _ in range(10):
        updater.stop()
        updater.close()
        made.slots.close()
        made = restarted(made)
        updater = made.boot()
        made.until(updater, lambda record: record.state is S.SOAKING)
    assert made.until(updater, ended).state is S.COMMITTED


def test_download_goes_on_after_a_restart_where_it_stopped() -> None:
    """What came is not fetched twice."""
    made = device()
    made.repository.part_bytes = 300
    updater = made.boot()
    real = made.repository.download

    def stopped(offer: object, dest: Path, *, progress: object = None, pace: object = None) -> object:
        def stop(held: int) -> None:
            updater.stop()
            progress(held)

        return real(offer, dest, progress=stop, pace=pace)

    made.repository.download = stopped
    updater.order(made.repository.order(2))
    assert updater.turn() == 0.0
    assert made.repository.fetched == 300
    updater.close()
    made.repository.download = real
    again = restarted(made)
    updater = again.boot()
    assert updater.record.state is S.OFFERED
    again.until(updater, ended)
    assert made.repository.fetched == len(made.repository.raw)
    assert version_of(again) == "1.1.0"


def test_lost_or_damaged_journal_costs_the_trial_and_nothing_else() -> None:
    """Without its record a trial is abandoned, not refused; the same order succeeds again."""
    for damage in (b"", b"{}", b"\xff\xfe", None):
        made, live = device(), ScriptedLive(is_safe=False)
        updater = soaked(made, live)
        made.until(updater, waits_for(Why.BED_IN_USE))
        if damage is None:
            made.files.unlink(SLOTS / "update.json")
            made.files.fsync_dir(SLOTS)
        else:
            made.files.put(SLOTS / "update.json", damage)
        again = restarted(made)
        updater = again.boot()
        assert (updater.progress, again.slots.trial(), version_of(again)) == (None, None, "1.0.0")
        updater.order(again.repository.order(2))
        assert again.until(updater, ended).state is S.COMMITTED


def test_each_flipped_byte_of_the_journal_leaves_the_bundle_in_use() -> None:
    """No damage of the journal changes what runs; at worst the update begins anew."""
    made, live = device(), ScriptedLive(is_safe=False)
    updater = soaked(made, live)
    made.until(updater, waits_for(Why.BED_IN_USE))
    raw = made.files.read(SLOTS / "update.json")
    for index in range(0, len(raw), 7):
        files = made.files.copy()
        files.put(SLOTS / "update.json", raw[:index] + bytes([raw[index] ^ 5]) + raw[index + 1 :])
        files.reboot()
        again = MemoryDevice(files, MemoryRepository.of(files, "1.1.0"))
        assert again.boot().progress is None
        assert version_of(again) == "1.0.0"


# --- the clock and the thread


@pytest.mark.parametrize("years", [-10, 10])
def test_wall_clock_ten_years_off_changes_no_duration(years: int) -> None:
    """Soak, deferral and retries are on the monotonic clock; only maintenance windows read the wall's."""
    made, live = device(), ScriptedLive()
    clock = made.clock

    class Off(ManualClock):
        def monotonic_ns(self) -> int:
            return clock.monotonic_ns()

        def wall(self) -> object:
            return clock.wall() + timedelta(days=3_652 * years / 10)

    updater = soaked(made, live, soak_s=600)
    updater._clock = Off()
    began_ns = clock.monotonic_ns()
    record = made.until(updater, ended)
    assert (record.state, record.evidence.soak_s) == (S.COMMITTED, 600)
    assert 600 <= (clock.monotonic_ns() - began_ns) / 1e9 < 610


def test_thread_ends_soon_when_it_is_stopped_and_an_order_wakes_it() -> None:
    """``run`` sleeps for long when nothing is to be done; ``order`` and ``stop`` do not wait for that."""
    made = device()
    updater = made.boot()
    done = threading.Event()
    made.told = _Watched(done)
    updater._told = made.told.append
    thread = threading.Thread(target=updater.run)
    thread.start()
    updater.order(made.repository.order(2))
    assert done.wait(20)
    updater.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert version_of(made) == "1.1.0"


class _Watched(list):  # type: ignore[type-arg]
    def __init__(self, done: threading.Event) -> None:
        super().__init__()
        self._done = done

    def append(self, record: Record) -> None:
        super().append(record)
        if record.ended:
            self._done.set()


def test_nothing_live_is_a_device_at_its_start() -> None:
    """Every moment is safe, and what was activated serves."""
    made = device()
    assert isinstance(made.live, NothingLive)
    assert made.install(2, soak_s=5).state is S.COMMITTED
    assert made.live.serving().sha256 == made.slots.active().sha256
    assert Evidence() != EVIDENCE
