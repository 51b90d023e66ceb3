"""Tracking keeps what a run was made of, and never stops one."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("mlflow", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from typing import TYPE_CHECKING

from edgeward.workshop.track import Tracker, environment, flat, git_commit

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mlruns"


def _only(folder: Path, pattern: str) -> Path:
    found = [path for path in folder.rglob(pattern) if path.is_file()]
    assert len(found) == 1
    return found[0]


def test_a_run_is_kept_in_the_local_file_store(store: Path) -> None:
    """Settings, figures per epoch, the data-set hash and the environment lie in ./mlruns."""
    with Tracker("ecg-beat", {"seed": 20, "net": {"width": 8}}, {"data_sha256": "ab" * 32}) as tracker:
        assert tracker.tracking
        tracker.metrics({"loss": 0.5, "gone": float("nan")}, step=1)
        tracker.metrics({"loss": 0.25}, step=2)
        tracker.facts("training", {"windows": 7})
    assert _only(store, "net.width").read_text() == "8"
    assert _only(store, "data_sha256").read_text() == "ab" * 32
    lines = _only(store, "loss").read_text().split("\n")
    assert [line.split()[1:] for line in lines if line] == [["0.5", "1"], ["0.25", "2"]]
    assert '"windows": 7' in _only(store, "training.json").read_text()
    assert '"numpy"' in _only(store, "environment.json").read_text()
    assert not list(store.rglob("gone"))


def test_the_address_of_mlflow_is_respected(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI names another store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    with Tracker("ecg-beat", {}, {}):
        pass
    assert not store.exists()
    assert list((tmp_path / "elsewhere").rglob("environment.json"))


def test_a_store_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Trouble with the store is said once, and the training goes on."""
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (blocked / "mlruns").as_uri())
    with caplog.at_level(logging.WARNING, "edgeward.workshop.track"), Tracker("ecg-beat", {}, {}) as tracker:
        assert not tracker.tracking
        tracker.metrics({"loss": 1.0}, step=1)
    assert len([record for record in caplog.records if record.name == "edgeward.workshop.track"]) == 1


def test_trouble_midway_stops_nothing(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store lost during the run switches tracking off with one warning."""

    class Lost:
        def log_metric(self, *_: object, **__: object) -> None:
            raise ConnectionError

    with Tracker("ecg-beat", {}, {}) as tracker:
        tracker._client = Lost()
        tracker.metrics({"loss": 1.0}, step=1)
        tracker.metrics({"loss": 1.0}, step=2)
    assert [record.levelname for record in caplog.records if record.name == "edgeward.workshop.track"] == ["WARNING"]


def test_an_error_in_training_passes_through(store: Path) -> None:
    """Tracking marks the run as failed and swallows nothing of the caller's."""
    with pytest.raises(ValueError, match="mine"), Tracker("ecg-beat", {}, {}):
        raise ValueError("mine")
    assert "status: 4" in "".join(path.read_text() for path in store.rglob("meta.yaml"))


def test_facts_about_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit outside a repository; versions without host or user; nested settings get dotted names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    assert {"python", "numpy", "architecture"} <= set(environment())
    assert flat({"a": 1, "b": {"c": {"d": 2}}}) == {"a": 1, "b.c.d": 2}
