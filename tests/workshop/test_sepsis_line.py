"""The sepsis line on made-up stays: one bundle that a device can run, whose figures come from unseen patients."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")
pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")
pytest.importorskip("onnx", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")
pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from small_recipes import SMALL

from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.inference.engine import Engine
from edgeward.inference.host import EngineHost
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.testing.stays import made_stays, write_parquet
from edgeward.workshop import sepsis_line, sepsis_verify
from edgeward.workshop.evidence import GateFailed
from edgeward.workshop.folder import BuildFolder
from edgeward.workshop.line import LineOptions
from edgeward.workshop.sepsis_line import SepsisLine
from edgeward.workshop.sepsis_task import TASK
from edgeward.workshop.sepsis_train import best_threshold, grow
from edgeward.workshop.sepsis_utility import utility_of
from edgeward.workshop.stay_replay import replay
from edgeward.workshop.stay_table import StayTable, read_stays
from edgeward.workshop.task import TrainOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop
EASY = sepsis_verify.Bounds(auroc_min=0.6, utility_min=0.0, calibration_error_max=0.2, auroc_gain_min=-0.2)


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setattr(sepsis_line, "RECIPES", SMALL)
    monkeypatch.setattr(sepsis_line, "WORKERS", 1)
    monkeypatch.setattr(sepsis_verify, "Bounds", lambda: EASY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(made_stays(90, seed=3), tmp_path_factory.mktemp("stays") / "stays.parquet")


def line(data: Path, folder: Path) -> SepsisLine:
    return SepsisLine(BuildFolder(folder), LineOptions(TrainOptions(data), latency_runs=30))


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setattr(sepsis_line, "RECIPES", SMALL)
        patch.setattr(sepsis_line, "WORKERS", 1)
        patch.setattr(sepsis_verify, "Bounds", lambda: EASY)
        return line(data, folder).build()


@pytest.fixture(scope="module")
def bundle(built: Path) -> Bundle:
    return read_bundle(built.read_bytes())


def test_the_bundle_says_what_it_is(bundle: Bundle) -> None:
    """Two models of one input, a decision in plain numbers, evidence of unseen patients, a card with attribution."""
    manifest = bundle.manifest
    assert manifest.task == "sepsis-risk"
    assert [spec.key for spec in manifest.models] == ["full", "vitals"]
    assert manifest.model().backend == "trees"
    assert manifest.inputs[0].missing
    assert manifest.decision["watch"] <= manifest.decision["act"]
    evidence = json.loads(bundle.members["evidence.json"])
    assert {"auroc", "utility", "brier", "calibration-error", "auroc-gain"} <= {
        gate["name"] for gate in evidence["gates"] if gate["data"] == "held-out"
    }
    assert "patient_ids" not in evidence["facts"]["training"]
    card = bundle.members["card.md"].decode()
    found = evidence["facts"]["out_of_fold"]["full"]["reliability"]
    assert f"| {found[-1][0]} | {found[-1][1]:.4f} | {found[-1][2]:.4f} |" in card
    for words in ("CC-BY-4.0", "Reyna", "Not a medical device", "Reliability", "59th hour"):
        assert words in card


def test_a_device_runs_it_in_its_own_process(built: Path, bundle: Bundle) -> None:
    """Golden vectors pass in a worker, a row with gaps is scored, and the effects sum to the score less its base."""
    rows = TASK.synthetic(5, 9)["features"]
    assert np.isnan(rows).any()
    engine = Engine.load(bundle)
    with EngineHost(built, standby=False) as host:
        assert host.golden().passed
        result = host.infer({"features": rows[0]}, budget_s=5.0)
    assert result.scores is not None
    np.testing.assert_array_equal(result.scores, engine.infer({"features": rows[0]}))
    rest = [scores[0] - scores[1:].sum() for scores in (engine.infer({"features": row}) for row in rows)]
    np.testing.assert_allclose(rest, rest[0], atol=1e-4)


def test_vital_signs_alone_ask_for_nothing_else(bundle: Bundle) -> None:
    """In the second model no laboratory value has any effect."""
    engine = Engine.load(bundle, "vitals")
    names = bundle.manifest.preprocessing_params["features"]
    lactate = [index for index, name in enumerate(names) if name.startswith("lactate")]
    for row in TASK.synthetic(5, 9)["features"]:
        assert not engine.infer({"features": row})[1:][lactate].any()


def test_the_bundle_holds_no_patient_but_knows_whom_it_saw(data: Path, bundle: Bundle) -> None:
    """Fingerprints of the training stays travel; golden vectors are made up."""
    seen = np.load(io.BytesIO(bundle.members["seen.npy"]))
    np.testing.assert_array_equal(seen, np.sort(read_stays(data).fingerprints()))


def test_unchanged_steps_are_not_repeated_and_bytes_repeat(data: Path, built: Path) -> None:
    """A second build trains nothing and packs the same models."""
    said: list[tuple[str, str]] = []
    again = SepsisLine(
        BuildFolder(built.parents[1]),
        LineOptions(TrainOptions(data), latency_runs=30),
        lambda step, text: said.append((step, text)),
    )
    again.train()
    again.export()
    assert [step for step, text in said if text == "unchanged"] == ["train", "export"]
    first = read_bundle(built.read_bytes())
    assert read_bundle(again.pack().read_bytes()).model_bytes() == first.model_bytes()


def test_a_failed_gate_makes_no_bundle(
    data: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is not worth it is measured, kept for reading, and not packed."""
    monkeypatch.setattr(sepsis_verify, "Bounds", lambda: replace(EASY, utility_min=2.0))
    with pytest.raises(GateFailed, match="utility"):
        line(data, built.parents[1]).verify()
    monkeypatch.setattr(sepsis_verify, "Bounds", lambda: EASY)
    line(data, built.parents[1]).verify()


def test_the_same_seed_grows_the_same_trees(data: Path) -> None:
    """Training repeats itself, and another seed is another forest."""
    table = read_stays(data)
    values = replay(table, TASK.feature_names)
    everybody = np.ones(len(table.patients), dtype=np.bool_)
    scores = [
        grow(replace(SMALL[0], seed=seed), values, TASK.feature_names, table, everybody).scores(values)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_a_replayed_table_is_the_same_from_several_processes(data: Path) -> None:
    """Work is shared by stays; nothing depends on who did it."""
    table = read_stays(data).take(np.arange(12))
    np.testing.assert_array_equal(replay(table, TASK.feature_names), replay(table, TASK.feature_names, workers=2))


def test_training_needs_both_kinds_of_patients(data: Path) -> None:
    """Nobody septic: there is nothing to learn."""
    table = read_stays(data)
    with pytest.raises(InputError) as caught:
        grow(
            SMALL[0],
            np.zeros((len(table), len(TASK.feature_names)), np.float32),
            TASK.feature_names,
            table,
            ~table.septic,
        )
    assert caught.value.code == "stays-septic"


def test_what_the_line_does_not_take_is_said(data: Path, tmp_path: Path) -> None:
    """A fold, weights or a decision from outside would be silently ignored."""
    with pytest.raises(ConfigError) as caught:
        SepsisLine(BuildFolder(tmp_path), LineOptions(TrainOptions(data, fold=(1, 5))))
    assert caught.value.code == "setting-invalid"


def test_the_threshold_is_where_predicting_pays() -> None:
    """On scores that rank rows by their gain it lies between what pays and what costs."""
    starts = np.arange(0, 4000, 40)
    labels = np.zeros(4000, np.int8)
    for start in starts[::2]:
        labels[start + 30 : start + 40] = 1
    table = StayTable(("",) * 100, starts, np.arange(4000) % 40, np.zeros((4000, 1)), {}, labels, ())  # type: ignore[arg-type]
    utility = utility_of(labels, starts)
    threshold = best_threshold(utility.gain, utility, table.patient_of_row)
    assert utility.normalised(utility.gain >= threshold) > 0.98


@pytest.mark.parametrize(
    "spoil",
    [{"watch": 9.0}, {"calibration": {"log_odds": [0.0], "probability": [0.5]}}, {"burden": {}}, {"extra": 1}],
)
def test_a_decision_that_makes_no_sense_is_refused(bundle: Bundle, spoil: dict[str, object]) -> None:
    """Levels in order, knots that grow."""
    with pytest.raises(ConfigError) as caught:
        TASK.decision({**bundle.manifest.decision, **spoil})
    assert caught.value.code == "decision-malformed"
    assert TASK.decision(bundle.manifest.decision) == bundle.manifest.decision
