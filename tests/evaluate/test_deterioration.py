"""``evaluate deterioration``: nobody is scored by a model that has seen them, and the figures are the definition's."""

# ruff: noqa: E402 - the imports below need the extra that the first lines ask for
from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

for _library in ("lightgbm", "pyarrow", "onnx", "torch", "matplotlib"):
    pytest.importorskip(_library, reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from small_recipes import SMALL

from edgeward.bundle.archive import read_bundle
from edgeward.cli import evaluate as cli
from edgeward.cli.main import build_parser
from edgeward.evaluate.deterioration import Run, Scored, run
from edgeward.evaluate.deterioration_plots import write_plots
from edgeward.evaluate.deterioration_report import figures_of, report
from edgeward.kernel.errors import BundleError, ConfigError, InputError
from edgeward.testing.bundles import tiny_bundle
from edgeward.testing.stays import made_stays, write_parquet, write_psv
from edgeward.workshop import sepsis_line, sepsis_recipes, sepsis_verify
from edgeward.workshop.evidence import Evidence
from edgeward.workshop.folder import BuildFolder
from edgeward.workshop.line import LineOptions
from edgeward.workshop.ranking import PatientDraws
from edgeward.workshop.sepsis_card import card_figures
from edgeward.workshop.sepsis_utility import utility_of
from edgeward.workshop.stay_table import read_stays
from edgeward.workshop.task import TrainOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop
RULES = ("threshold_alert", "news2_5", "news2_7", "qsofa_2")


@pytest.fixture(scope="module")
def stays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(made_stays(80, seed=1), tmp_path_factory.mktemp("stays") / "stays.parquet")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_psv(made_stays(60, seed=2), tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="module")
def bundle(stays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    easy = sepsis_verify.Bounds(0.5, -1.0, 1.0, -1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setattr(sepsis_line, "RECIPES", SMALL)
        patch.setattr(sepsis_line, "WORKERS", 1)
        patch.setattr(sepsis_verify, "Bounds", lambda: easy)
        options = LineOptions(TrainOptions(stays), latency_runs=20)
        return sepsis_line.SepsisLine(BuildFolder(folder), options).build()


def test_strangers_are_scored_by_the_shipped_model(strangers: Path, bundle: Path) -> None:
    """From a folder of the challenge's own files; the drift that was made into them is found."""
    found = run(strangers, bundle)
    told = report(found, draws=40).to_json()
    assert found.mode == "shipped-model"
    assert told["patients"] == 60
    assert told["auroc"]["value"] > 0.75
    assert told["auroc"]["ci"][0] < told["auroc"]["value"] < told["auroc"]["ci"][1]
    assert told["utility"]["value"] > 0
    assert set(told["beside"]) == {"vitals", "baseline", *RULES}
    assert told["baseline"] == told["beside"]["baseline"]
    assert told["lead_minutes"] == told["lead"]["threshold_alert"]["minutes"]
    json.dumps(told, allow_nan=False)
    text = report(found, draws=40).to_text()
    assert "columns that the table lacks" in text


def test_the_card_tells_the_evaluation(strangers: Path, bundle: Path) -> None:
    """The model's figures with their intervals, the baseline beside them, and the lead over each rule."""
    evidence = Evidence.from_json(read_bundle(bundle.read_bytes()).members["evidence.json"])
    told = report(run(strangers, bundle), draws=20).to_json()
    text = "".join(words for _, words in card_figures(evidence, told))
    for words in ("plain boosting", "vital signs alone", "NEWS2 ≥ 7", "threshold alerts", "95 % intervals by patient"):
        assert words in text
    low, high = told["baseline"]["auroc"]["ci"]
    assert f"{told['baseline']['auroc']['value']:.3f} ({low:.3f}–{high:.3f})" in text


def test_known_patients_are_cross_validated(stays: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's own patients are scored by forests that have not seen them, with every patient once."""
    monkeypatch.setattr(sepsis_recipes, "RECIPES", SMALL)
    found = run(stays, bundle, folds=3)
    assert found.mode == "cross-validated"
    assert found.seen == 80
    assert [each.name for each in found.scored] == ["full", "vitals", "baseline", *RULES]
    assert np.isfinite(found.scored[0].score).all()
    with pytest.raises(InputError) as caught:
        run(stays, bundle, mode="shipped")
    assert caught.value.code == "stays-seen"


def test_a_few_known_patients_are_left_out(stays: Path, bundle: Path, tmp_path: Path) -> None:
    """Strangers among whom some are known: the known ones are not scored, the model stays."""
    some, rest = made_stays(80, seed=1), made_stays(50, seed=4)
    kept = np.isin(some["patient"], np.unique(some["patient"])[:20])
    mixed = {name: np.concatenate([some[name][kept], rest[name]]) for name in some}
    found = run(write_parquet(mixed, tmp_path / "mixed.parquet"), bundle)
    assert found.mode == "shipped-model"
    assert (found.seen, found.left_out, len(found.table.patients)) == (20, 20, 50)


def test_figures_are_those_of_the_definitions() -> None:
    """Perfect predictions: AUROC of the label, utility 1, every alert right."""
    table = read_stays_of(made_stays(30, seed=7))
    utility = utility_of(table.labels, table.starts)
    scored = Scored("perfect", table.labels.astype(np.float64), utility.best)
    figures = figures_of(scored, table, utility, PatientDraws(30, draws=20))
    assert figures["auroc"].value == 1.0
    assert figures["auprc"].value == 1.0
    assert figures["utility"].value == pytest.approx(1.0)
    assert figures["ppv"].value == 1.0
    assert figures["alerts_per_patient_day"].value == pytest.approx(table.septic.sum() * 24 / len(table))


def read_stays_of(columns: dict[str, np.ndarray]) -> object:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return read_stays(write_parquet(columns, Path(folder) / "t.parquet"))


def test_plots_and_the_figures_behind_them(strangers: Path, bundle: Path, tmp_path: Path) -> None:
    """Every plot has its CSV."""
    paths = write_plots(run(strangers, bundle), tmp_path / "plots")
    assert {path.suffix for path in paths} == {".png", ".csv"}
    assert {path.stem for path in paths} == {"reliability", "burden", "lead"}
    assert all(path.stat().st_size > 50 for path in paths)


def test_the_command_prints_one_object_last(
    strangers: Path, bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 1 where a bound does not hold, and the object says so."""
    arguments = ["evaluate", "deterioration", "--data", str(strangers), "--bundle", str(bundle), "--json"]
    for bounds, code in (["utility=-5"], 0), (["utility=0.999", "auroc=0.1"], 1):
        parsed = build_parser().parse_args([*arguments, "--workers", "1", "--min", *bounds])
        assert parsed.run(parsed) == code
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["bounds_hold"] is (code == 0)
        assert {"auroc", "auprc", "utility", "alerts_per_patient_day", "ppv", "lead_minutes"} <= set(told)


@pytest.mark.parametrize("text", ["utility", "hunch=1", "utility=much", "utility=nan"])
def test_a_bound_that_is_none_is_refused(text: str) -> None:
    """Before any work is done."""
    with pytest.raises(ConfigError) as caught:
        cli.parse_figures([text])
    assert caught.value.code == "bound-invalid"


def test_another_bundle_is_refused(strangers: Path, tmp_path: Path) -> None:
    """A beat classifier knows nothing of sepsis; a file that is not there is named."""
    other = tmp_path / "beat.ewb"
    other.write_bytes(tiny_bundle())
    with pytest.raises(BundleError) as caught:
        run(strangers, other)
    assert caught.value.code == "task-mismatch"
    with pytest.raises(ConfigError) as missing:
        run(strangers, tmp_path / "none.ewb")
    assert missing.value.code == "bundle-missing"


def test_a_table_without_sepsis_has_no_utility(bundle: Path, tmp_path: Path) -> None:
    """A figure that is not defined is null, never a number."""
    path = write_parquet(made_stays(12, seed=5, septic_share=0.0), tmp_path / "well.parquet")
    found: Run = run(path, bundle)
    told = report(found, draws=10).to_json()
    assert told["utility"]["value"] is None
    assert told["auroc"]["value"] is None
    assert told["lead_minutes"]["value"] is None
    assert told["alerts_per_patient_day"]["value"] is not None
    json.dumps(told, allow_nan=False)
