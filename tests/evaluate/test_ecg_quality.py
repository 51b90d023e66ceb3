"""The acceptability evaluation: what is scored, on what, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.cli.main import main
from edgeward.evaluate import ecg_quality
from edgeward.evaluate.ecg_quality import QualityResult, assign_folds, auroc, render, run
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.workshop.ecg_quality_data import load

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 2500


def one(acceptable: bool, rng: np.random.Generator) -> np.ndarray:
    """A recording (12, n) in converter units: beats on every lead, or beats with two leads gone."""
    phase = (np.arange(SAMPLES) / 500 + rng.random()) % 0.8
    beat = 240 * np.exp(-0.5 * ((phase - 0.3) / 0.012) ** 2) + 60 * np.exp(-0.5 * ((phase - 0.6) / 0.05) ** 2)
    units = np.outer(rng.uniform(0.5, 1.5, 12), beat) + 3 * rng.standard_normal((12, SAMPLES))
    if not acceptable:
        units[rng.choice(12, 2, replace=False)] = rng.choice([0, 16000])
    return units.astype(np.int16)


def write(path: Path, labels: list[int], seed: int = 1, **extra: object) -> Path:
    rng = np.random.default_rng(seed)
    units = np.stack([one(label != 0, rng) for label in labels])
    np.savez(path, adu=units, acceptable=np.array(labels, dtype=np.int8), **extra)
    return path


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    return write(tmp_path / "unseen.npz", [1] * 12 + [0] * 6 + [-1], fs=500)


def remember(monkeypatch: pytest.MonkeyPatch, path: Path, which: slice) -> None:
    """Make the shipped model one that was trained with some recordings of ``path``."""
    model = dataclasses.replace(ecg_quality.shipped_model(), seen=frozenset(load(path).fingerprints[which]))
    monkeypatch.setattr(ecg_quality, "shipped_model", lambda: model)


def test_unseen_recordings_are_judged_by_the_shipped_model(unseen: Path) -> None:
    """Without overlap the model is scored as it is, on the judged recordings only."""
    result = run(unseen)
    assert result.mode == "shipped-model"
    assert (result.n, result.unacceptable, result.seen, result.folds) == (18, 6, 0, None)
    assert result.majority_accuracy == pytest.approx(12 / 18)
    assert result.rule_accuracy == 1.0
    assert result.accuracy > 0.9
    assert result.ci[0] <= result.accuracy <= result.ci[1]
    assert run(unseen) == result


def test_the_shipped_model_needs_no_training_library(unseen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without the workshop extra can score the shipped model; cross-validation says what is missing."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.delitem(sys.modules, "edgeward.workshop.ecg_quality_train", raising=False)
    assert run(unseen, mode="shipped").n == 18
    with pytest.raises(ConfigError) as caught:
        run(unseen, mode="cross-validate", folds=2)
    assert caught.value.code == "workshop-missing"


def test_shipped_never_scores_what_trained_it(unseen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings of the training set are left out, and where nothing is left the run is refused."""
    remember(monkeypatch, unseen, slice(10, 14))
    result = run(unseen, mode="shipped")
    assert (result.n, result.seen, result.left_out) == (14, 4, 4)
    assert "4 recordings that trained it were left out" in render(result)
    remember(monkeypatch, unseen, slice(None))
    with pytest.raises(InputError) as caught:
        run(unseen, mode="shipped")
    assert caught.value.code == "quality-seen"


def test_a_few_seen_recordings_are_left_out(unseen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One known recording among new ones must not replace the shipped model by one that was grown on the new ones."""
    remember(monkeypatch, unseen, slice(0, 1))
    result = run(unseen)
    assert (result.mode, result.n, result.seen, result.left_out) == ("shipped-model", 17, 1, 1)
    assert "1 recording that trained it was left out" in render(result)


@pytest.mark.workshop
def test_mostly_seen_recordings_turn_auto_into_cross_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Auto never applies the model to its own training recordings, and says so."""
    pytest.importorskip("lightgbm")
    data = write(tmp_path / "seen.npz", [1] * 40 + [0] * 30)
    remember(monkeypatch, data, slice(0, 35))
    result = run(data, folds=3)
    assert (result.mode, result.seen, result.left_out, result.folds) == ("cross-validated", 35, 0, 3)
    assert result.n == 70
    assert result.accuracy > 0.8
    assert "is not scored on them" in render(result)


@pytest.mark.workshop
def test_a_small_file_is_cross_validated_in_as_many_folds_as_it_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four unacceptable recordings give four folds; a single one gives a sentence that says what is missing."""
    pytest.importorskip("lightgbm")
    data = write(tmp_path / "few.npz", [1] * 30 + [0] * 4)
    remember(monkeypatch, data, slice(None))
    assert run(data).folds == 4
    lone = write(tmp_path / "lone.npz", [1] * 30 + [0])
    remember(monkeypatch, lone, slice(None))
    with pytest.raises(ConfigError, match="two different ones of each label") as caught:
        run(lone)
    assert caught.value.code == "quality-folds"


@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64", ">i2"])
def test_wider_arrays_of_the_same_numbers_give_the_same_figures(unseen: Path, tmp_path: Path, kind: str) -> None:
    """Who saves the arrays anew may widen them; what they hold counts, and seen recordings are still recognised."""
    with np.load(unseen) as archive:
        units, labels = archive["adu"], archive["acceptable"]
    np.savez(tmp_path / "wide.npz", adu=units.astype(kind), acceptable=labels.astype(kind))
    assert load(tmp_path / "wide.npz").fingerprints == load(unseen).fingerprints
    assert run(tmp_path / "wide.npz") == run(unseen)
    judged = labels >= 0
    np.savez(tmp_path / "yes.npz", adu=units[judged], acceptable=labels[judged] == 1)
    assert run(tmp_path / "yes.npz") == run(unseen)


def test_the_bound_decides_the_exit_code(unseen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound that holds is 0, a broken one 1 with a line and a word in the object, one that is no accuracy 2."""
    verb = ["evaluate", "ecg-quality", "--data", str(unseen), "--json"]
    assert main([*verb, "--min", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bounds_hold"] is True
    np.savez(unseen, adu=load(unseen).units, acceptable=1 - np.abs(load(unseen).acceptable))  # all judged wrong
    assert main([*verb, "--min", "95"]) == 1
    printed = capsys.readouterr().out
    assert "BOUND BROKEN: accuracy is " in printed
    assert json.loads(printed.splitlines()[-1])["bounds_hold"] is False
    for wrong in ("nan", "-1", "101"):
        assert main([*verb, "--min", wrong]) == 2
    assert main([*verb, "--seed", "-1"]) == 2


@pytest.mark.workshop
def test_the_training_recordings_of_the_shipped_model_are_recognised(shared_data: Path, tmp_path: Path) -> None:
    """The real training recordings are found again, so that they are cross-validated."""
    pytest.importorskip("lightgbm")
    with np.load(shared_data / "cinc2011" / "quality_dev.npz", allow_pickle=False) as archive:
        units, acceptable = archive["adu"], archive["acceptable"]
    chosen = np.concatenate((np.flatnonzero(acceptable == 1)[:60], np.flatnonzero(acceptable == 0)[:30]))
    np.savez(tmp_path / "part.npz", adu=units[chosen], acceptable=acceptable[chosen])
    result = run(tmp_path / "part.npz", folds=3)
    assert result.mode == "cross-validated"
    assert result.seen >= 60
    assert result.accuracy > result.majority_accuracy


def test_the_json_object_has_the_promised_keys(unseen: Path) -> None:
    """What ``--json`` prints can be read back and names every figure."""
    found = json.loads(json.dumps(run(unseen).to_dict()))
    promised = {"accuracy", "ci", "sensitivity", "specificity", "auroc", "n", "mode", "baseline_accuracy"}
    assert promised <= found.keys()
    assert len(found["ci"]) == 2


def test_figures_that_are_not_defined_are_not_made_up(tmp_path: Path) -> None:
    """Without an unacceptable recording there is no sensitivity and no AUROC."""
    result = run(write(tmp_path / "good.npz", [1, 1, 1]))
    assert (result.sensitivity, result.auroc) == (None, None)
    assert render(result).count("not defined") == 2


def test_the_table_shows_the_baselines() -> None:
    """A reader sees the figure beside what a rule without learning reaches."""
    table = render(QualityResult("cross-validated", 0.9, (0.85, 0.94), 0.8, 0.95, 0.97, 100, 24, 0.76, 0.89, 0, 0, 10))
    for text in ("0.900  (95 % CI 0.850 to 0.940)", "0.760", "0.890", "100, 24 unacceptable", "10-fold"):
        assert text in table


@pytest.mark.parametrize(
    "change",
    [
        {"adu": np.full((3, 12, 2500), 40_000, dtype=np.int32)},
        {"adu": np.full((3, 12, 2500), 0.5)},
        {"adu": np.full((3, 12, 2500), np.nan)},
        {"adu": np.zeros((3, 12, 2500), dtype=np.complex64)},
        {"acceptable": np.array([1.0, 0.0, np.nan])},
        {"acceptable": np.array([257, 0, 1])},
        {"adu": np.zeros((3, 11, 2500), dtype=np.int16)},
        {"adu": np.zeros((3, 12, 100), dtype=np.int16)},
        {"acceptable": np.array([1, 0])},
        {"acceptable": np.array([1, 0, 2])},
        {"adu": np.array([None, {}, 3], dtype=object)},
        {"fs": np.array(250)},
        {"fs": np.array("x")},
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    """Wrong arrays, another rate and pickled content end in an InputError."""
    arrays = {"adu": np.zeros((3, 12, 2500), dtype=np.int16), "acceptable": np.array([1, 0, 1]), **change}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError) as caught:
        run(tmp_path / "x.npz")
    assert caught.value.code == "quality-data"


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """A missing file, a text file, an array alone and an archive without the arrays are refused."""
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "empty.npz", other=np.zeros(3))
    for name in ("absent.npz", "text.npz", "array.npy", "empty.npz"):
        with pytest.raises(InputError) as caught:
            run(tmp_path / name)
        assert caught.value.code == "quality-data"


def test_recordings_without_labels_are_refused(tmp_path: Path) -> None:
    """Nothing can be scored without a label."""
    with pytest.raises(InputError) as caught:
        run(write(tmp_path / "x.npz", [-1, -1]))
    assert caught.value.code == "quality-labels"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 99), folds=st.integers(2, 5), copies=st.integers(1, 6))
def test_folds_keep_copies_together_and_labels_even(seed: int, folds: int, copies: int) -> None:
    """Identical recordings never stand on both sides, and each fold holds its share of both labels."""
    labels = np.array([0] * copies + [0] * 20 + [1] * 40)
    groups = ["copy"] * copies + [str(i) for i in range(60)]
    fold_of = assign_folds(labels, groups, folds, seed)
    assert len(set(fold_of[:copies])) == 1
    for label in (0, 1):
        held = np.bincount(fold_of[labels == label], minlength=folds)
        assert held.max() - held.min() <= copies
    np.testing.assert_array_equal(fold_of, assign_folds(labels, groups, folds, seed))


@pytest.mark.parametrize("folds", [0, 1, 4])
def test_impossible_folds_are_refused(folds: int) -> None:
    """Every fold needs a recording of each label."""
    with pytest.raises(ConfigError) as caught:
        assign_folds(np.array([0, 0, 0, 1, 1, 1, 1]), list("abcdefg"), folds, 0)
    assert caught.value.code == "quality-folds"


def test_auroc_counts_pairs() -> None:
    """Half a point for a tie, a full one for the right order."""
    assert auroc(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1])) == 0.875
