"""A single ECG bed's own bundles: what it starts with, what it is told, and what it goes back from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from edgeward.bedside.model import FAMILY
from edgeward.bedside.own_bundles import OwnBundles
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.system import SystemClock
from edgeward.bundle import manifest
from edgeward.kernel.errors import ConfigError
from edgeward.testing.bundles import ecg_bundle
from edgeward.testing.repository import tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


class Own:
    """A device's bundles and what it said of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.bundles = OwnBundles(folder / "slots", FAMILY, self.said.append, SystemClock())

    def install(self, *raws: bytes) -> None:
        with SlotStore(self.folder / "slots") as slots:
            for raw in raws:
                (self.folder / "bundle.ewb").write_bytes(raw)
                slots.commit(slots.stage(self.folder / "bundle.ewb"))


def stop(started: Any) -> None:
    for model in (started.current, started.before):
        if model is not None and model.engine is not None:
            model.engine.stop()


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


def test_a_device_without_a_bundle_starts_without_one(own: Own) -> None:
    """And nobody else may hold its slots meanwhile."""
    with own.bundles:
        told, started = own.bundles.start(1)
        assert (told.task, told.bundle, started.why) == (FAMILY, "", "no-bundle")
        assert own.bundles.due() is None
        with pytest.raises(ConfigError), OwnBundles(own.folder / "slots", FAMILY, own.said.append, SystemClock()):
            pass
    assert own.said == []


def test_after_an_upgrade_a_bundle_of_the_version_before_is_not_run(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model would be fed features it never learnt: nothing is served, and the bed knows why."""
    own.install(tiny_bundle("1.0.0"))
    monkeypatch.setattr(manifest, "PREPROCESSING_FORMER", frozenset({"beat-window-2"}))
    with own.bundles:
        _, started = own.bundles.start(1)
        assert (started.current.engine, started.why) == (None, "preprocessing-former")
    assert "none to return to" in own.said[-1]


@pytest.mark.workshop
def test_a_bundle_that_cannot_run_here_is_returned_from_before_a_beat_is_judged(own: Own) -> None:
    """The one before serves, and the other is refused for good."""
    own.install(ecg_bundle("1.0.0"), ecg_bundle("2.0.0", golden_shift=1.0))
    with own.bundles:
        told, started = own.bundles.start(1)
        try:
            active = own.bundles.slots(FAMILY).active()
            assert active is not None
            assert (active.version, told.sha256, started.current.sha256) == ("1.0.0", active.sha256, active.sha256)
            assert started.current.engine is not None
            assert "returned to" in own.said[-1]
        finally:
            stop(started)


@pytest.mark.workshop
def test_a_bundle_that_turns_out_to_be_none_while_it_runs_is_gone_back_from(own: Own) -> None:
    """The stream is told the one before, at once."""
    own.install(ecg_bundle("1.0.0"), ecg_bundle("2.0.0"))
    with own.bundles:
        told, started = own.bundles.start(1)
        try:
            own.bundles.heard("refused", {"task": FAMILY, "code": "golden-failed", "sha256": told.sha256})
            end = time.monotonic() + 20
            while (now := own.bundles.due()) is None:
                assert time.monotonic() < end
                time.sleep(0.01)
            assert now.sha256 == told.previous_sha256
            assert now.at_once
        finally:
            stop(started)


def test_a_takeover_is_said(own: Own) -> None:
    """By version, and why."""
    own.install(tiny_bundle("1.0.0"))
    with own.bundles:
        (own.folder / "new.ewb").write_bytes(tiny_bundle("2.0.0"))
        slot = own.bundles.slots(FAMILY).stage(own.folder / "new.ewb")
        live = own.bundles.live(FAMILY)
        live.activate(slot)
        told = own.bundles.due()
        assert told is not None
        facts = {"scores": 0, "failures": 0, "served": False, "down": False, "safe": True, "shadow": None}
        own.bundles.heard("serving", {"turn": told.turn, "sha256": slot.sha256, **facts})
        assert own.said == ["update: ecg-beat 2.0.0 is in charge (update)"]
