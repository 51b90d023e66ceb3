"""The gates measure what they say, and fail when they should."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from typing import TYPE_CHECKING

from toy_task import ToyTask, toy_network, toy_windows

from edgeward.workshop.compress.quantise import quantise
from edgeward.workshop.device_gates import Timed, latency_facts, latency_gates
from edgeward.workshop.export import export_onnx
from edgeward.workshop.metrics import class_figures, decide
from edgeward.workshop.pack import ModelFile, make_golden
from edgeward.workshop.verify import Bounds, Judged, judge_accuracy, verify

if TYPE_CHECKING:
    from edgeward.workshop.evidence import Evidence

pytestmark = pytest.mark.workshop
TASK = ToyTask()
OFFSETS = {"log_offsets": [0.0] * 5}


@pytest.fixture(scope="module")
def models() -> list[ModelFile]:
    fp32 = export_onnx(TASK.deployed(toy_network()), TASK.inputs, TASK.outputs)
    int8 = quantise(fp32, toy_windows(), held_out=(), fp32_inputs=("rhythm",)).model
    return [ModelFile("fp32", fp32, "fp32"), ModelFile("int8", int8, "int8")]


@pytest.fixture(scope="module")
def evidence(models: list[ModelFile]) -> Evidence:
    golden = make_golden(TASK, models)
    judged = Judged(toy_windows(seed=4), "held-out")
    return verify(
        TASK, TASK.deployed(toy_network()), models, golden, judged, decision=OFFSETS, facts={}, latency_runs=60,
        bounds=Bounds(agreement_min=0.9, macro_f1_drop_max=10.0, int8_bytes_max=0.9),
    )  # fmt: skip


def test_every_claim_has_its_gate(evidence: Evidence) -> None:
    """Parity on noise and on real windows, agreement, F1 losses, golden vectors, latency and size are all measured."""
    names = {(gate.name, gate.model) for gate in evidence.gates}
    assert names >= {
        ("parity-synthetic", "fp32"), ("parity-held-out", "fp32"), ("agreement", "int8"), ("macro-f1-drop", "int8"),
        ("f1-drop-v", "int8"), ("f1-drop-s", "int8"), ("golden", "fp32"), ("golden", "int8"), ("latency-p99", "fp32"),
        ("latency-p99", "int8"), ("size", "int8"),
    }  # fmt: skip
    figures = {(gate.name, gate.model): gate for gate in evidence.gates}
    assert figures["parity-held-out", "fp32"].passed
    assert figures["golden", "int8"].passed
    assert figures["agreement", "int8"].data_sha256 == toy_windows(seed=4).sha256()


def test_bounds_decide(models: list[ModelFile]) -> None:
    """An unreachable bound fails the gate, and a failed gate refuses."""
    judged = Judged(toy_windows(seed=4), "held-out")
    _, gates = judge_accuracy(TASK, models, judged, OFFSETS, Bounds(agreement_min=1.01))
    assert [gate.passed for gate in gates if gate.name == "agreement"] == [False]


def test_another_network_does_not_pass_as_int8(models: list[ModelFile]) -> None:
    """A file that decides otherwise than FP32 fails the accuracy gates."""
    other = export_onnx(TASK.deployed(toy_network(seed=9)), TASK.inputs, TASK.outputs)
    wrong = [models[0], ModelFile("int8", other, "int8")]
    _, gates = judge_accuracy(TASK, wrong, Judged(toy_windows(seed=4), "held-out"), OFFSETS, Bounds())
    assert not all(gate.passed for gate in gates)


def test_a_pruned_model_is_held_against_the_whole_one(models: list[ModelFile]) -> None:
    """With the file from before pruning, FP32 and INT8 of the bundle are both judged against that."""
    whole = export_onnx(TASK.deployed(toy_network(seed=9)), TASK.inputs, TASK.outputs)
    facts, gates = judge_accuracy(TASK, models, Judged(toy_windows(seed=4), "held-out"), OFFSETS, Bounds(), whole)
    assert {gate.model for gate in gates if gate.name == "agreement"} == {"fp32", "int8"}
    assert not all(gate.passed for gate in gates)
    assert set(facts["models"]) == {"whole", "fp32", "int8"}


def test_latency_leaves_interrupted_runs_out_and_counts_them() -> None:
    """A run from which the kernel took the processor says nothing of the model; too many of them fail the gate."""
    ns = np.full(100, 200_000, dtype=np.int64)
    ns[:3] = 9_000_000
    timed = Timed(ns, np.arange(100) < 3)
    gate = latency_gates(TASK, {"int8": timed})[0]
    assert gate.figure == 0.2
    assert "3 were interrupted" in gate.note
    assert latency_facts({"int8": timed})["int8"]["all"]["max_us"] == 9000.0
    mostly = Timed(ns, np.arange(100) < 50)
    assert latency_facts({"int8": mostly})["int8"]["undisturbed"]["p99_us"] is None
    assert not latency_gates(TASK, {"int8": mostly})[0].passed


def test_ec57_spares_fusion_called_ventricular() -> None:
    """F or Q called V is no false positive of V, and Q called S none of S; N called V is one."""
    labels = np.array([2, 3, 4, 0, 4, 1])
    called = np.array([2, 2, 2, 2, 1, 1])
    patients = np.array(list("aabbcc"))
    figures = {f.name: f for f in class_figures(labels, called, patients, TASK.classes, TASK.spared)}
    assert (figures["V"].se, figures["V"].ppv) == (1.0, 0.5)
    assert (figures["S"].se, figures["S"].ppv) == (1.0, 1.0)
    assert figures["N"].to_dict()["ppv"] is None
    assert 0.0 <= figures["V"].ppv_interval[0] <= figures["V"].ppv_interval[1] <= 1.0


def test_offsets_move_the_decision() -> None:
    """The class is the arg max of log-probability plus offset, also where a probability is zero."""
    scores = np.array([[0.6, 0.4, 0.0, 0.0, 0.0]], dtype=np.float32)
    assert list(decide(scores, [0.0] * 5)) == [0]
    assert list(decide(scores, [0.0, 1.0, 0.0, 0.0, 0.0])) == [1]
