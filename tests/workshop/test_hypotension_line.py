"""The line of the hypotension bundle, on made-up stays with a small network: every step, every gate, one bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypotension_stays import stays, write

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: torch")
pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: lightgbm")
pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pyarrow")

from edgeward.bedside.assess.hypotension import plan_of
from edgeward.bundle.archive import read_bundle
from edgeward.inference.engine import Engine
from edgeward.kernel.errors import ConfigError
from edgeward.testing.vitals_table import write_simulated
from edgeward.workshop import hypotension_line, hypotension_verify
from edgeward.workshop.evidence import Evidence, GateFailed
from edgeward.workshop.folder import BuildFolder
from edgeward.workshop.hypotension_cross import cross, prepare
from edgeward.workshop.hypotension_line import HypotensionLine
from edgeward.workshop.hypotension_train import ForecasterTraining, TreesTraining
from edgeward.workshop.hypotension_verify import Bounds
from edgeward.workshop.line import LineOptions
from edgeward.workshop.models.hypotension import ForecasterConfig
from edgeward.workshop.task import TrainOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop
SMALL = ForecasterTraining(epochs=2, batch=32, bfloat16=False, network=ForecasterConfig(hidden=24))
FEW = TreesTraining(seeds=(1,), rounds=40, leaf_rows=10)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[HypotensionLine, Path, list[str]]:
    folder = tmp_path_factory.mktemp("hypotension")
    data = write(folder / "stays.parquet", stays(60))
    said: list[str] = []
    patch = pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
    # Few made-up stays: the gates of worth are not what is tried here.
    bounds = Bounds(auroc_gain_min=-1.0, mae_ratio_max=10.0, int8_bytes_max=1.0, auroc_drop_max=0.1, agreement_min=0.5)
    for module in (hypotension_line, hypotension_verify):
        patch.setattr(module, "Bounds", lambda: bounds)
    line = HypotensionLine(
        BuildFolder(folder / "build"),
        LineOptions(train=TrainOptions(data=data), version="1.2.3", latency_runs=100),
        lambda step, text: said.append(f"{step} {text}"),
    )
    line.settings = (SMALL, FEW)
    path = line.build()
    patch.undo()
    return line, path, said


def test_the_bundle_is_read_by_a_bedside(built: tuple[HypotensionLine, Path, list[str]]) -> None:
    """Its plan, INT8 alone, and its golden vectors on the device's engine."""
    bundle = read_bundle(built[1].read_bytes())
    plan = plan_of(bundle.manifest)
    assert plan.layout.scores == 181
    assert bundle.manifest.default_model == "int8"
    assert bundle.manifest.version == "1.2.3"
    assert [model.key for model in bundle.manifest.models] == ["int8"]
    assert Engine.load(bundle).golden().passed


def test_the_evidence_names_who_trained_it(built: tuple[HypotensionLine, Path, list[str]]) -> None:
    """Fingerprints of the stays, never their names; figures out of fold; the licence's attribution in card and file."""
    bundle = read_bundle(built[1].read_bytes())
    evidence = Evidence.from_json(bundle.members["evidence.json"])
    training = evidence.facts["training"]
    assert training["patients"] == 60
    assert training["patient_ids"] == sorted(stay.fingerprint for stay in built[0].data.stays)
    assert set(evidence.facts["out_of_fold"]["auroc"]) == {"last MAP", "LSTM", "trees", "both"}
    assert evidence.facts["out_of_fold"]["chosen"] in {"LSTM", "trees", "both"}
    assert {"auroc-gain", "latency-p99", "golden", "parity-training"} <= {gate.name for gate in evidence.gates}
    assert b"ODC-By-1.0" in bundle.members["card.md"]
    assert b"Silva I" in bundle.members["licences.txt"]


def test_unchanged_steps_are_not_repeated(built: tuple[HypotensionLine, Path, list[str]]) -> None:
    """A second run over the same folder trains nothing."""
    line, _, said = built
    said.clear()
    line.train()
    line.export()
    line.compress()
    assert [text for text in said if not text.startswith("data")] == [
        "train unchanged",
        "export unchanged",
        "compress unchanged",
    ]


def test_a_model_that_earns_nothing_is_not_packed(
    built: tuple[HypotensionLine, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates of worth refuse a bundle that ranks no better than the last pressure."""
    monkeypatch.setattr(hypotension_line, "Bounds", lambda: Bounds(auroc_gain_min=0.9))
    with pytest.raises(GateFailed, match="auroc-gain"):
        built[0].verify()


def test_folds_judge_patients_that_their_parts_have_not_seen(
    built: tuple[HypotensionLine, Path, list[str]], tmp_path: Path
) -> None:
    """Each stay's scores come from the fold that held it out, and a second run takes up what was kept."""
    line = built[0]
    told: list[int] = []
    data = prepare([line.options.train.data], tmp_path / "cache", lambda _: None)
    crossed = cross(data, tmp_path / "folds", folds=2, settings=(replace(SMALL, epochs=1), FEW),
                    on_epoch=lambda fold, _, __: told.append(fold))  # fmt: skip
    assert told == [1, 2]
    points = data.examples.decisions()
    _, odds = crossed.odds(points)
    for k, parts in enumerate(crossed.parts, 1):
        mine = np.flatnonzero(crossed.fold[points.stay] == k)
        assert np.allclose(parts.odds(points.take(mine))[1], odds[mine])
    again = cross(data, tmp_path / "folds", folds=2, settings=(replace(SMALL, epochs=1), FEW),
                  on_epoch=lambda fold, _, __: told.append(fold))  # fmt: skip
    assert told == [1, 2]
    assert np.allclose(again.odds(points)[1], odds)
    made = json.loads((tmp_path / "folds" / "fold-1-of-2" / "made.json").read_text())
    assert made["data"] == data.sha256


def test_what_it_does_not_take_is_refused(tmp_path: Path) -> None:
    """It crosses by itself, and an LSTM is not pruned here."""
    train = TrainOptions(data=tmp_path / "stays.parquet", fold=(1, 5))
    with pytest.raises(ConfigError):
        HypotensionLine(BuildFolder(tmp_path), LineOptions(train=train))


def test_what_is_made_of_simulated_patients_bears_another_name_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "simulated.parquet"
    write_simulated(data, patients=2, seed=0)
    line = HypotensionLine(BuildFolder(tmp_path / "build"), LineOptions(train=TrainOptions(data=data)))
    assert line.task.name == "hypotension-simulated"
    assert "Simulated" in line.task.sources[0].title
    assert "Never for a patient" in line.task.intended_use
    real = HypotensionLine(
        BuildFolder(tmp_path / "other"), LineOptions(train=TrainOptions(data=write(tmp_path / "s.parquet", stays(2))))
    )
    assert real.task.name == "hypotension"
