"""``ecg-beat`` on the line: its folds, its decision, its made-up golden windows, its exported network."""

# ruff: noqa: E402 - the imports below need the extra that the first lines ask for
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from edgeward.kernel.errors import ConfigError
from edgeward.signal.beat import BeatClass
from edgeward.workshop.compress.prune import prune
from edgeward.workshop.ecg_beat_task import (
    LOG_OFFSETS,
    MITDB,
    OTHER,
    PTBXL,
    TASK,
    held_out_patients,
    record_names,
    sources_read,
)
from edgeward.workshop.export import export_onnx, parity, random_inputs
from edgeward.workshop.golden_wave import golden_wave
from edgeward.workshop.models.ecg_beat import EcgBeatCommittee, EcgBeatConfig
from edgeward.workshop.task import TASKS, TrainOptions, find_task

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop
NAMES = ("100", "201", "202", "203", "205")


def _network() -> EcgBeatCommittee:
    torch.manual_seed(0)
    small = EcgBeatConfig(
        widths=(16, 16, 16, 16, 16), wave_out=16, rhythm_hidden=16, head_hidden=16, members=2, trees=10
    )
    network = EcgBeatCommittee(small).eval()
    assert network.trees is not None
    network.trees.feature.random_(small.rhythm_len)
    network.trees.threshold.normal_()
    network.trees.leaf.normal_()
    return network


def test_every_task_is_found_by_its_name() -> None:
    """The registry's names lead to objects that carry them."""
    for name in TASKS:
        assert find_task(name).name == name


def test_folds_part_patients_and_cover_all() -> None:
    """Each patient is held out exactly once; records 201 and 202, one person, never part."""
    folds = [held_out_patients(NAMES, (k, 3)) for k in (1, 2, 3)]
    assert sorted(patient for fold in folds for patient in fold) == ["100", "201", "203", "205"]
    assert held_out_patients(NAMES, None) == ()
    for fold in ((0, 3), (4, 3), (1, 5)):
        with pytest.raises(ConfigError, match="--fold"):
            held_out_patients(NAMES, fold)


def test_missing_data_are_told(tmp_path: Path) -> None:
    """An empty folder, or a record that is not there, is the operator's error; the message names --download."""
    with pytest.raises(ConfigError, match="--download"):
        record_names(tmp_path)
    for name in NAMES:
        (tmp_path / f"{name}.hea").touch()
        (tmp_path / f"{name}.atr").touch()
    (tmp_path / "999.hea").touch()
    assert record_names(tmp_path) == NAMES
    assert record_names(tmp_path, ("203",)) == ("203",)
    with pytest.raises(ConfigError):
        record_names(tmp_path, ("203", "999"))


def test_the_sources_are_those_that_were_read(tmp_path: Path) -> None:
    """PTB-XL is named when its folder was given, MIT-BIH by its records, and a maker's own records as what they are."""
    assert sources_read(TrainOptions(tmp_path), NAMES) == (MITDB,)
    assert sources_read(TrainOptions(tmp_path, extra=tmp_path), NAMES) == (MITDB, PTBXL)
    assert sources_read(TrainOptions(tmp_path), ("I01", "110")) == (OTHER,)
    assert sources_read(TrainOptions(tmp_path), ("100", "I01")) == (MITDB, OTHER)


def test_the_decision_is_five_finite_offsets() -> None:
    """Nothing given means the shipped ones; anything else must be five finite numbers and nothing more."""
    assert TASK.decision({}) == {"log_offsets": list(LOG_OFFSETS)}
    assert TASK.decision({"log_offsets": [0, -1, 0, 0, 0]}) == {"log_offsets": [0.0, -1.0, 0.0, 0.0, 0.0]}
    nan = float("nan")
    for wrong in ({"log_offsets": [0.0] * 4}, {"log_offsets": [nan] * 5}, {"other": 1}, {"log_offsets": "12345"}):
        with pytest.raises(ConfigError):
            TASK.decision(wrong)


def test_golden_windows_are_made_up_and_repeatable() -> None:
    """They have the manifest's shapes, hold finite values, do not depend on the run, and early beats among them."""
    made = TASK.synthetic(40, 3)
    assert {name: array.shape[1:] for name, array in made.items()} == {
        spec.name: spec.shape[1:] for spec in TASK.inputs
    }
    assert all(np.isfinite(array).all() and len(array) == 40 for array in made.values())
    again = TASK.synthetic(40, 3)
    assert all(np.array_equal(again[name], array) for name, array in made.items())
    wave, beats, labels = golden_wave(60, 1)
    assert set(labels) == {int(item) for item in BeatClass}
    assert (np.diff(beats) > 0).all()
    assert wave.shape[0] == 2
    assert np.abs(wave).max() < 5.0


def test_the_network_exports_as_probabilities() -> None:
    """The ONNX file computes torch's probabilities: rows sum to one."""
    deployed = TASK.deployed(_network())
    model = export_onnx(deployed, TASK.inputs, TASK.outputs)
    inputs = random_inputs(TASK.inputs, 20, seed=1)
    assert parity(deployed, model, inputs) <= 1e-5
    with torch.no_grad():
        rows = deployed(*(torch.from_numpy(array) for array in inputs.values())).sum(dim=1)
    torch.testing.assert_close(rows, torch.ones(20))


def test_weights_pruned_or_not_are_restored(tmp_path: Path) -> None:
    """``save`` and ``load`` give the same network back, also after channels were taken out."""
    example = [torch.from_numpy(array) for array in random_inputs(TASK.inputs, 2, seed=0).values()]
    pruned = prune(_network(), example, 0.5)
    assert pruned.weights_after < pruned.weights_before
    for network in (_network(), pruned.network):
        TASK.save(network, tmp_path / "weights.pt")
        restored = TASK.load(tmp_path / "weights.pt")
        with torch.no_grad():
            assert torch.equal(restored(*example), network(*example))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
def test_a_damaged_weights_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """Anything that is not an ecg-beat's weights is the operator's error, and is never unpickled."""
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        TASK.load(tmp_path / "weights.pt")
    assert caught.value.code == "weights-unreadable"
