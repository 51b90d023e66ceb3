"""What an ECG bed makes of the bundles in its slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.bedside.files import RealFiles
from edgeward.bedside.model import serve
from edgeward.bedside.slot import SlotStore
from edgeward.bundle import manifest
from edgeward.bundle.archive import read_bundle
from edgeward.testing.repository import tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_after_an_upgrade_a_bundle_of_the_version_before_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model would be fed features it never learnt: nothing is served, and the bed knows why."""
    (tmp_path / "old.ewb").write_bytes(tiny_bundle("1.0.0"))
    assert read_bundle((tmp_path / "old.ewb").read_bytes()).manifest.preprocessing == "beat-window-2"
    with SlotStore(tmp_path / "slots", RealFiles()) as slots:
        slots.commit(slots.stage(tmp_path / "old.ewb"))
        monkeypatch.setattr(manifest, "PREPROCESSING_FORMER", frozenset({"beat-window-2"}))
        served = serve(slots, threads=1)
        assert (served.engine, served.why) == (None, "preprocessing-former")
        assert not served.rungs
