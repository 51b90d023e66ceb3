"""The bundles of a ward: the slots are the disk's, what is in charge is told at once, whoever holds the slots."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.system import SystemClock
from edgeward.bedside.ward_bundles import WardBundles
from edgeward.kernel.errors import ConfigError
from edgeward.testing.repository import tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.slot import Slot

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


def charge_of(bundles: WardBundles) -> str:
    charge = bundles.live(TASK).charge
    assert charge is not None
    return charge.sha256


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

    with bundles.lock:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(20)
        assert asked == ["1.0.0"]


def test_a_bundle_that_the_assessment_refuses_is_gone_back_from(
    bundles: WardBundles, tmp_path: Path, said: list[str]
) -> None:
    """The process starts anew with the one before; where there is none, it stays as it is and people are told."""
    committed(bundles, tmp_path, "1.0.0", "1.1.0")
    settings = bundles.refused(TASK, "golden-failed", charge_of(bundles))
    assert settings is not None
    active = bundles.slots(TASK).active()
    assert active is not None
    assert (active.version, settings["tasks"][0]["sha256"]) == ("1.0.0", active.sha256)
    assert bundles.shown()[0]["version"] == "1.0.0"
    assert bundles.refused(TASK, "golden-failed", charge_of(bundles)) is None
    assert "none to return to" in said[-1]


def test_a_candidate_that_took_over_and_is_refused_is_its_updater_s_matter(
    bundles: WardBundles, tmp_path: Path
) -> None:
    """The slots still call the one before active: refusing that for the candidate's fault would be the wrong one."""
    committed(bundles, tmp_path, "1.0.0")
    candidate = staged(bundles, tmp_path, "2.0.0")
    live = bundles.live(TASK)
    live.activate(candidate)
    (told,) = bundles.lives.due()
    facts = {"scores": 0, "failures": 0, "served": False, "down": False, "safe": True, "shadow": None}
    bundles.lives.heard("serving", {"task": TASK, "turn": told.turn, "sha256": candidate.sha256, **facts})
    assert live.charge == candidate
    assert bundles.refused(TASK, "golden-failed", charge_of(bundles)) is None
    active = bundles.slots(TASK).active()
    assert active is not None
    assert active.version == "1.0.0"
    assert bundles.refused("other", "golden-failed", candidate.sha256) is None
