"""The bundles of a ward: the slots are the disk's, what is in charge is told at once, whoever holds the slots."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.model import FAMILY
from edgeward.bedside.slot import Slot, SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.ward_bundles import WardBundles
from edgeward.exchange.words import UpdateState, Why
from edgeward.kernel.errors import ConfigError
from edgeward.testing.clock import ManualClock
from edgeward.testing.repository import tiny_bundle
from edgeward.testing.updates import order_of, passes
from edgeward.trust.download import DownloadReport
from edgeward.trust.offer import Offer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.exchange.checkin import Order

TASK = "ecg-beat"  # the name of the repository's tiny bundle


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def bundles(tmp_path: Path, said: list[str]) -> Iterator[WardBundles]:
    with WardBundles(tmp_path, [TASK, "other"], said.append, SystemClock()) as made:
        yield made


def staged(bundles: WardBundles, tmp_path: Path, version: str) -> Slot:
    file = tmp_path / "bundle.ewb"
    file.write_bytes(tiny_bundle(version))
    return bundles.slots(TASK).stage(file)


def committed(bundles: WardBundles, tmp_path: Path, *versions: str) -> None:
    for version in versions:
        bundles.slots(TASK).commit(staged(bundles, tmp_path, version))
    slots = bundles.slots(TASK)
    bundles.live(TASK).placed(slots.active(), slots.previous())


def test_a_ward_starts_with_what_lies_in_its_slots(tmp_path: Path, said: list[str]) -> None:
    """In charge what is active, warm beside it the one before; a task without a bundle says so."""
    with WardBundles(tmp_path, [TASK, "other"], said.append, SystemClock()) as first:
        committed(first, tmp_path, "1.0.0", "1.1.0")
    with WardBundles(tmp_path, [TASK, "other"], said.append, SystemClock()) as again:
        one, other = again.settings()["tasks"]
        assert (one["task"], other["task"], other["bundle"]) == (TASK, "other", "")
        assert one["sha256"] != one["previous_sha256"] != ""
        assert [row["version"] for row in again.shown()] == ["1.1.0", "-"]
        assert again.tasks == (TASK, "other")
        with pytest.raises(ConfigError):
            WardBundles(tmp_path, [TASK], said.append, SystemClock()).__enter__()
    assert said == []


def test_a_state_folder_named_from_here_is_found_from_elsewhere(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assessment runs in another folder, and is told files."""
    monkeypatch.chdir(tmp_path)
    with WardBundles(Path("state"), [TASK], said.append, SystemClock()) as bundles:
        committed(bundles, tmp_path, "1.0.0")
        monkeypatch.chdir("/")
        (one,) = bundles.settings()["tasks"]
        assert Path(one["bundle"]).is_file()


def test_who_asks_what_is_in_charge_waits_for_no_slot(bundles: WardBundles, tmp_path: Path) -> None:
    """A download may hold the slots for minutes: the rim's greeting does not wait for it."""
    committed(bundles, tmp_path, "1.0.0")
    asked: list[str] = []

    def ask() -> None:
        bundles.settings()
        asked.append(bundles.shown()[0]["version"])

    with bundles.slots(TASK).unchanged():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(20)
        assert asked == ["1.0.0"]


def test_a_bundle_that_the_assessment_refuses_is_gone_back_from(
    bundles: WardBundles, tmp_path: Path, said: list[str]
) -> None:
    """The process starts anew with the one before; where there is none, it stays as it is and people are told."""
    committed(bundles, tmp_path, "1.0.0", "1.1.0")
    before = bundles.slots(TASK).active()
    assert before is not None
    returned = bundles.refused(TASK, before.sha256, "golden-failed")
    assert returned is not None
    settings = returned.settings
    assert settings is not None
    assert (returned.swap["from"], returned.swap["version"], returned.swap["reason"]) == ("1.1.0", "1.0.0", "refused")
    active = bundles.slots(TASK).active()
    assert active is not None
    assert bundles.slots(TASK).refused(before.sha256) == "golden-failed"
    assert (active.version, settings["tasks"][0]["sha256"]) == ("1.0.0", active.sha256)
    assert bundles.shown()[0]["version"] == "1.0.0"
    assert bundles.refused(TASK, before.sha256, "golden-failed") is None, "it is gone already"
    assert bundles.refused(TASK, active.sha256, "golden-failed") is None
    assert "none to return to" in said[-1]


# --- a refusal, and an update that is about to be committed


class Soaking:
    """2.0.0 has taken over from 1.0.0 and its updater is one turn away from the commit."""

    def __init__(self, bundles: WardBundles, tmp_path: Path) -> None:
        self.bundles, self.slots, self.live = bundles, bundles.slots(TASK), bundles.live(TASK)
        committed(bundles, tmp_path, "1.0.0")
        self.clock = ManualClock()
        raw = tiny_bundle("2.0.0")
        self.order = order_of(raw, "2.0.0", soak_s=60)
        (self.slots.incoming / f"{self.order.sha256[:16]}.ewb").write_bytes(raw)
        self.updater = Updater(
            TASK,
            Downloaded(self.order, len(raw)),
            self.slots,
            Journal(self.slots.root),
            self.live,
            self.clock,
            passes,
        )
        self.updater.boot()
        self.updater.order(self.order)
        self.live.safe = lambda: True  # type: ignore[method-assign]
        for _ in range(3):
            self.updater.turn()
            self.heard()
        assert self.updater.record.state is UpdateState.SOAKING

    def heard(self) -> None:
        """The process takes what it is told and says so; it is well."""
        for told in self.bundles.lives.due():
            facts = {"scores": 9, "failures": 0, "served": True, "down": False, "safe": True, "shadow": None}
            self.bundles.lives.heard("serving", {"task": TASK, "turn": told.turn, "sha256": told.sha256, **facts})

    def versions(self) -> tuple[str, str]:
        """Active in the slots, and in charge of the beds."""
        active, charge = self.slots.active(), self.live.charge
        assert active is not None
        assert charge is not None
        return active.version, charge.version


class Downloaded:
    """A fetcher whose bundle lies there already."""

    def __init__(self, order: Order, length: int) -> None:
        self._offer = Offer(TASK, order.version, order.sha256, length)

    def latest(self, name: str) -> Offer:
        return self._offer

    def download(self, offer: Offer, dest: Path, **_: object) -> DownloadReport:
        assert dest.is_file()
        return DownloadReport(offer.length, 0, 0)

    def patch(self, *_: object, **__: object) -> bool:
        return False


def test_a_refusal_before_the_commit_keeps_it_from_being_committed(bundles: WardBundles, tmp_path: Path) -> None:
    """Its soak held and nothing else speaks against it: beds have the one before again, and it is never taken again."""
    made = Soaking(bundles, tmp_path)
    assert made.versions() == ("1.0.0", "2.0.0")
    assert bundles.refused(TASK, made.order.sha256, "golden-failed") is None
    made.clock.advance(61)
    made.updater.turn()
    record = made.updater.record
    assert (record.state, record.why, record.code) == (UpdateState.ROLLED_BACK, Why.SOAK_FAILED, "golden-failed")
    assert made.versions() == ("1.0.0", "1.0.0")
    assert made.slots.refused(made.order.sha256) == "golden-failed"


def test_a_refusal_after_the_commit_returns_from_it(bundles: WardBundles, tmp_path: Path) -> None:
    """It was heard while the candidate was on trial, and comes to the slots when it is not any more."""
    made = Soaking(bundles, tmp_path)
    made.clock.advance(61)
    made.updater.turn()
    assert made.versions() == ("2.0.0", "2.0.0")
    assert bundles.refused(TASK, made.order.sha256, "golden-failed") is not None
    assert made.versions() == ("1.0.0", "1.0.0")
    assert made.slots.refused(made.order.sha256) == "golden-failed"


def test_a_refusal_in_the_midst_of_a_commit_waits_for_its_end(bundles: WardBundles, tmp_path: Path) -> None:
    """It never sees slots that say the one thing and are about to say the other."""
    made = Soaking(bundles, tmp_path)
    answers: list[object] = []

    def refuse() -> None:
        answers.append(bundles.refused(TASK, made.order.sha256, "golden-failed"))

    refusing = threading.Thread(target=refuse)
    with made.slots.unchanged():  # the commit has begun
        refusing.start()
        refusing.join(0.2)
        assert answers == []
        made.clock.advance(61)
        made.updater.turn()
        assert made.updater.record.state is UpdateState.COMMITTED
    refusing.join(20)
    assert answers != [None]
    assert made.versions() == ("1.0.0", "1.0.0")


def test_a_commit_that_comes_to_a_trial_just_refused_is_none(
    bundles: WardBundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes between the updater's look at the slot and its commit."""
    made = Soaking(bundles, tmp_path)
    real = made.slots.commit

    def late(slot: Slot) -> None:
        bundles.refused(TASK, slot.sha256, "golden-failed")
        real(slot)

    monkeypatch.setattr(made.slots, "commit", late)
    made.clock.advance(61)
    made.updater.turn()
    record = made.updater.record
    assert (record.state, record.code) == (UpdateState.ROLLED_BACK, "golden-failed")
    assert made.versions() == ("1.0.0", "1.0.0")
    assert made.slots.refused(made.order.sha256) == "golden-failed"


def test_a_refusal_of_what_is_in_charge_no_more_harms_nobody(bundles: WardBundles, tmp_path: Path) -> None:
    """It was said of 1.0.0, and 2.0.0 was committed before it was acted upon."""
    made = Soaking(bundles, tmp_path)
    old = made.slots.active()
    assert old is not None
    made.clock.advance(61)
    made.updater.turn()
    assert bundles.refused(TASK, old.sha256, "golden-failed") is None
    assert made.versions() == ("2.0.0", "2.0.0")
    assert bundles.refused("other", old.sha256, "golden-failed") is None


# --- the family of the ECG beds


BEDS = ("ICU 1", "ICU 2")


def test_ecg_beds_are_one_family_beside_the_assessment_s(tmp_path: Path, said: list[str]) -> None:
    """It has slots and an updater like any other; the assessment is not told of it, nor is a page of scores."""
    with WardBundles(tmp_path, ["other"], said.append, SystemClock(), ecg=BEDS) as made:
        assert made.tasks == ("other", FAMILY)
        assert [task["task"] for task in made.settings()["tasks"]] == ["other"]
        assert [row["task"] for row in made.shown()] == ["other"]
        assert made.lives.stream("ICU 2").settings().task == FAMILY
    with WardBundles(tmp_path, ["other"], said.append, SystemClock()) as none:
        assert none.tasks == ("other",)
        with pytest.raises(KeyError):
            none.lives.stream("ICU 1")


def test_a_bundle_that_two_streams_refuse_is_gone_back_from_once(tmp_path: Path, said: list[str]) -> None:
    """The second word is about a bundle that is gone; every stream is told the one before, the assessment nothing."""
    with WardBundles(tmp_path, [], said.append, SystemClock(), ecg=BEDS) as made:
        slots = made.slots(FAMILY)
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            file = tmp_path / "bundle.ewb"
            file.write_bytes(tiny_bundle(version))
            slots.commit(slots.stage(file))
        made.live(FAMILY).placed(slots.active(), slots.previous())
        refused = slots.active()
        assert refused is not None
        first, second = [made.refused(FAMILY, refused.sha256, "golden-failed") for _ in BEDS]
        assert first is not None
        assert (first.settings, second) == (None, None)
        active = slots.active()
        assert active is not None
        assert active.version == "1.1.0"
        assert [made.lives.stream(bed).settings().sha256 for bed in BEDS] == [active.sha256] * 2


def test_a_ward_of_the_version_before_keeps_what_served_its_ecg_beds(tmp_path: Path, said: list[str]) -> None:
    """Each bed had slots: the first whole one is taken over, once, and a damaged one is passed over with a word."""
    for number, version in enumerate(("0.9.0", "1.0.0")):
        with SlotStore(tmp_path / "ecg" / str(number) / "slots") as slots:
            file = tmp_path / "bundle.ewb"
            file.write_bytes(tiny_bundle(version))
            slots.commit(slots.stage(file))
            held = slots.active()
        if not number:
            assert held is not None
            held.path.write_bytes(tiny_bundle("6.6.6"))  # a bundle, and not the one that was proven
    with WardBundles(tmp_path, [], said.append, SystemClock(), ecg=BEDS) as made:
        active = made.slots(FAMILY).active()
        assert active is not None
        assert active.version == "1.0.0"
    assert "not taken over" in said[0]
    assert "taken over from" in said[1]
    with WardBundles(tmp_path, [], said.append, SystemClock(), ecg=BEDS):
        assert len(said) == 2
