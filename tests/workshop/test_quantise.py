"""INT8: smaller, near to FP32, calibrated on training patients only."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from toy_task import ToyTask, toy_network, toy_windows

from edgeward.kernel.errors import ConfigError
from edgeward.workshop.compress import quantise as q
from edgeward.workshop.export import export_onnx
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.windows import LabelledWindows, stratified

pytestmark = pytest.mark.workshop
TASK = ToyTask()


@pytest.fixture(scope="module")
def model() -> bytes:
    return export_onnx(TASK.deployed(toy_network(width=32)), TASK.inputs, TASK.outputs)


@pytest.fixture(scope="module")
def windows() -> LabelledWindows:
    return toy_windows()


def test_int8_stays_near_fp32(model: bytes, windows: LabelledWindows) -> None:
    """Scores of the INT8 file differ little from FP32's, and the file is smaller."""
    made = q.quantise(model, windows, held_out=(), fp32_inputs=("rhythm",))
    other = toy_windows(seed=5)
    difference = np.abs(Scorer(made.model).scores(other.inputs) - Scorer(model).scores(other.inputs))
    assert 0 < difference.max() < 0.05
    assert len(made.model) < 0.6 * len(model)


def test_activations_are_unsigned_weights_signed_per_channel(model: bytes, windows: LabelledWindows) -> None:
    """Zero points of activations are uint8, weights int8 with a scale per output channel."""
    graph = onnx.load_model_from_string(q.quantise(model, windows, held_out=()).model).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    acting = [tensors[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert acting
    assert all(zero.dtype == np.uint8 for zero in acting)
    weights = [tensor for name, tensor in tensors.items() if tensor.dtype == np.int8 and tensor.ndim == 3]
    scales = [tensor for name, tensor in tensors.items() if tensor.ndim == 1 and name.endswith("_scale")]
    assert len(weights) == 1  # of two convolutions the one that does not read the input
    assert {len(weight) for weight in weights} <= {len(scale) for scale in scales}


def test_weights_use_seven_bits_unless_asked_otherwise(model: bytes, windows: LabelledWindows) -> None:
    """With the default, no weight is beyond ±64, so that processors without VNNI do not saturate."""

    def largest(reduce_range: bool) -> int:
        made = q.quantise(model, windows, held_out=(), reduce_range=reduce_range)
        tensors = onnx.load_model_from_string(made.model).graph.initializer
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
        return max(int(np.abs(array.astype(int)).max()) for array in arrays if array.dtype == np.int8)

    assert largest(reduce_range=True) <= 64
    assert largest(reduce_range=False) > 64


def test_what_the_rhythm_flows_into_stays_fp32(windows: LabelledWindows) -> None:
    """First layers, what is downstream of an FP32 input and small heads keep floats, and the record names them."""
    narrow = export_onnx(TASK.deployed(toy_network()), TASK.inputs, TASK.outputs)
    kinds = {node.name: node.op_type for node in onnx.load_model_from_string(narrow).graph.node}
    whole = q.quantise(narrow, windows, held_out=()).calibration.kept_fp32
    spared = q.quantise(narrow, windows, held_out=(), fp32_inputs=("rhythm",)).calibration.kept_fp32
    assert [kinds[name] for name in whole] == ["Conv", "Gemm"]  # the first layer; the rhythm layer, under 1 %
    assert set(whole) < set(spared)
    assert [kinds[name] for name in spared] == ["Conv", "Gemm", "Gemm"]  # and the head; not what is over the wave


def test_same_input_gives_the_same_bytes(model: bytes, windows: LabelledWindows) -> None:
    """Quantising twice changes no byte."""
    assert q.quantise(model, windows, held_out=()).model == q.quantise(model, windows, held_out=()).model


def test_a_held_out_patient_is_refused(model: bytes, windows: LabelledWindows) -> None:
    """Neither calibrating nor choosing windows or a method may touch a held-out patient."""
    for act in (
        lambda: q.quantise(model, windows, held_out=("c",)),
        lambda: q.best_method(model, windows, held_out=("c",)),
        lambda: q.calibration_windows(windows, ("c",)),
    ):
        with pytest.raises(ConfigError) as caught:
            act()
        assert caught.value.code == "calibration-leak"


def test_the_record_names_patients_and_data(model: bytes, windows: LabelledWindows) -> None:
    """Evidence says whose windows calibrated, how many and which."""
    training = windows.of_patients({"a", "b"})
    record = q.quantise(model, training, held_out=("c",)).calibration.to_dict()
    assert record["patients"] == ["a", "b"]
    assert record["windows"] == len(training)
    assert record["windows_sha256"] == training.sha256()


def test_the_method_nearest_to_fp32_is_kept(model: bytes, windows: LabelledWindows) -> None:
    """Of the methods tried, the one with the least divergence is the one recorded and returned."""
    methods = ("minmax", "percentile-99.99")
    made = q.best_method(model, windows, held_out=(), methods=methods, count=100)
    divergence = made.calibration.divergence
    assert set(divergence) == set(methods)
    assert divergence[made.calibration.method] == min(divergence.values())


def test_every_method_runs(model: bytes, windows: LabelledWindows) -> None:
    """Each named method gives a file of its own range, within reach of FP32."""
    reference = Scorer(model).scores(windows.inputs)
    few = toy_windows(37)  # a prime: the histogram methods take no uneven batch
    for method in q.METHODS:
        made = q.quantise(model, few, held_out=(), method=method)
        assert q.mean_divergence(reference, Scorer(made.model).scores(windows.inputs)) < 0.2, method


def test_unknown_method_and_no_windows_are_refused(model: bytes, windows: LabelledWindows) -> None:
    """A wrong word or an empty set is the operator's error."""
    with pytest.raises(ConfigError, match="unknown calibration method"):
        q.quantise(model, windows, held_out=(), method="magic")
    with pytest.raises(ConfigError, match="no calibration windows"):
        q.quantise(model, windows.of_patients(()), held_out=())


def test_stratified_windows_take_patients_in_turn() -> None:
    """A patient with ten times the windows gets no more than the others while those last; no class is lost."""
    many = toy_windows(600)
    patients = np.where(np.arange(600) < 500, "a", np.where(np.arange(600) < 550, "b", "c"))
    labels = np.zeros(600, dtype=np.int64)
    labels[599] = 3
    windows = LabelledWindows(many.inputs, labels, patients)
    taken = windows.take(stratified(windows, 90, seed=1))
    counts = [int(np.sum(taken.patients == name)) for name in "abc"]
    assert sum(counts) == 90
    assert max(counts) - min(counts) <= 1
    assert 3 in taken.labels
