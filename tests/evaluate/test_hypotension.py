"""The hypotension evaluation: what is scored, beside what, with which counts; and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: torch")
pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: lightgbm")
pytest.importorskip("onnx", reason="WORKSHOP EXTRA ABSENT: onnx")
pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pyarrow")

from hypotension_bundle import small_bundle
from hypotension_stays import stays, write

from edgeward.cli.evaluate_hypotension import broken_bounds, parse_bounds
from edgeward.cli.main import main
from edgeward.evaluate import hypotension
from edgeward.evaluate.hypotension import run
from edgeward.evaluate.hypotension_figures import Scored, judge
from edgeward.evaluate.hypotension_report import render
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.workshop.hypotension_data import examples

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "hypotension.ewb"
    path.write_bytes(small_bundle())
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "stays.parquet", stays(40))


def test_the_shipped_model_is_scored_beside_its_floors(data: Path, bundle: Path, tmp_path: Path) -> None:
    """Every figure with its interval; the counts add up; the same run twice gives the same figures."""
    result = run([data], bundle, tmp_path)
    told = result.to_dict()
    assert told["mode"] == "shipped-model"
    assert set(told["baseline"]) == {"last MAP", "MAP trend"}
    for name in ("auroc", "auprc", "recall_at_1_per_day", "alerts_per_patient_day", "ppv", "lead_minutes"):
        assert name in told
        assert name in told["ci"]
    low, high = told["ci"]["auroc"]
    assert low <= told["auroc"] <= high
    assert told["patients"] == 40
    assert result.counts["positives"] >= result.counts["events"] >= result.counts["patients_with_events"] > 0
    assert len(result.errors) > 0
    assert run([data], bundle, tmp_path).to_dict() == told
    text = render(result)
    assert "last MAP" in text
    assert "censored" not in text
    json.dumps(told, allow_nan=False)


def test_stays_that_trained_the_model_are_never_scored_by_it(
    data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known by what they hold, not by name: left out with --mode shipped, and crossed by default."""
    made = stays(40)
    known = frozenset(stay.fingerprint for stay in made[:20])
    monkeypatch.setattr(hypotension, "trained_on", lambda _: known)
    result = run([data], bundle, tmp_path, mode="shipped")
    assert (result.seen, result.left_out) == (20, 20)
    assert result.counts["stays"] == 20
    crossed: list[int] = []

    def refuse(*_: object) -> Scored:
        crossed.append(1)
        raise ConfigError("stop", "stop")

    monkeypatch.setattr(hypotension, "_cross_validated", refuse)
    with pytest.raises(ConfigError):
        run([data], bundle, tmp_path)
    assert crossed
    monkeypatch.setattr(hypotension, "trained_on", lambda _: frozenset(stay.fingerprint for stay in made))
    with pytest.raises(InputError) as caught:
        run([data], bundle, tmp_path, mode="shipped")
    assert caught.value.code == "stays-seen"


def test_a_perfect_score_is_found_perfect() -> None:
    """AUROC 1, every episode called in time at no false advisory; the reversed score is worth nothing."""
    made = stays(40)
    points = examples(made, learn=False)
    truth = np.where(points.outcome == 1, 6.0, np.where(points.outcome == 2, 5.0, -6.0))
    best = judge(Scored(points, {"oracle": truth}, None), made, threshold=0.0, mode="shipped-model")
    assert best.ranks["oracle"][0].value == 1.0
    assert best.at_budget["oracle"].recall.value == 1.0
    assert best.at_threshold is not None
    assert best.at_threshold.false_per_day.value == 0.0
    worst = judge(Scored(points, {"oracle": -truth}, None), made, threshold=None, mode="shipped-model")
    assert worst.ranks["oracle"][0].value == 0.0
    assert worst.brier.value > worst.brier_of_share > best.brier.value  # type: ignore[operator]


def test_stays_without_both_outcomes_cannot_be_scored() -> None:
    """A figure of nothing is refused, not printed."""
    made = [stay for index, stay in enumerate(stays(6)) if index % 2 == 1]
    points = examples(made, learn=False)
    with pytest.raises(InputError) as caught:
        judge(Scored(points, {"x": np.zeros(len(points))}, None), made, threshold=None, mode="shipped-model")
    assert caught.value.code == "points-missing"


def test_the_command_prints_one_object_last(
    data: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 where a bound does not hold; the plot and the figures lie in --out."""
    pytest.importorskip("matplotlib", reason="WORKSHOP EXTRA ABSENT: matplotlib")
    words = ["evaluate", "hypotension", "--data", str(data), "--bundle", str(bundle), "--json"]
    assert main([*words, "--min", "auroc=0.5", "--out", str(tmp_path / "out")]) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert told["bounds_hold"] is True
    assert (tmp_path / "out" / "hypotension.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "out" / "hypotension.json").read_text())["auroc"] == told["auroc"]
    assert main([*words, "--min", "auroc=1.1"]) == 1
    assert "BOUND BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["auroc", "auroc=high", "speed=1", "auroc=nan"])
def test_bounds_that_cannot_be_read_are_refused(text: str) -> None:
    """Before minutes of work, not after."""
    with pytest.raises(ConfigError):
        parse_bounds([text])


def test_an_undefined_figure_holds_no_bound() -> None:
    """None is not good enough."""
    assert parse_bounds(["auroc=0.7,ppv=0.3", "auprc=0.1"]) == {"auroc": 0.7, "ppv": 0.3, "auprc": 0.1}
    assert broken_bounds({"ppv": None, "auroc": 0.71}, {"ppv": 0.1, "auroc": 0.7}) == ["ppv is not defined, bound 0.1"]
