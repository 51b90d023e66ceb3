"""``edgeward bedside slots``: what lies in the slots and how the last update ended, for a look."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.local import update_now
from edgeward.cli.bedside import show_slots
from edgeward.testing.repository import RepositoryLab
from edgeward.testing.updates import FAMILY, passes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_slots_and_the_last_update_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Active and previous with their versions; a refused update with its reason."""
    lab = RepositoryLab(tmp_path)
    with SlotStore(tmp_path / "slots") as slots:
        for version in ("1.0.0", "1.1.0"):
            lab.publish(version)
            update_now(lab.client(), slots, FAMILY, passes, SystemClock())
        arguments = argparse.Namespace(state_dir=tmp_path)
        assert show_slots(arguments) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].startswith("active    slot b: ecg-beat 1.1.0 ")
        assert shown[1].startswith("previous  slot a: ecg-beat 1.0.0 ")
        assert shown[2:] == ["trial     -", "update    ecg-beat 1.1.0 committed"]
        lab.publish("1.2.0")
        update_now(lab.client(), slots, FAMILY, lambda _: TrialResult(False, "golden-failed", "no"), SystemClock())
        show_slots(arguments)
        assert capsys.readouterr().out.splitlines()[-1] == "update    ecg-beat 1.2.0 failed: no [golden-failed]"


def test_the_slots_of_a_ward_are_shown_family_by_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has slots of its own in the ward's state folder."""
    for family in ("sepsis-risk", FAMILY):
        with SlotStore(tmp_path / "slots" / family):
            pass
    lab = RepositoryLab(tmp_path)
    lab.publish("1.0.0")
    with SlotStore(tmp_path / "slots" / FAMILY) as slots:
        update_now(lab.client(), slots, FAMILY, passes, SystemClock())
    show_slots(argparse.Namespace(state_dir=tmp_path))
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == FAMILY
    assert shown[1].startswith(f"active    slot a: {FAMILY} 1.0.0 ")
    assert shown[5:7] == ["", "sepsis-risk"]
    assert shown[7:] == ["active    -", "previous  -", "trial     -"]
