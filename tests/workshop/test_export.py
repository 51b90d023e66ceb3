# ruff: noqa: E402 - the imports below need the extra that the first lines ask for
"""torch → ONNX: what is written computes what the network does, and says what the manifest says."""

from __future__ import annotations

import onnx
import pytest

torch = pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from toy_task import FEATURES, SAMPLES, ToyTask, toy_network

from edgeward.bundle.manifest import TensorSpec
from edgeward.kernel.errors import BundleError
from edgeward.workshop import export
from edgeward.workshop.evidence import GateFailed

pytestmark = pytest.mark.workshop
TASK = ToyTask()


@pytest.fixture(scope="module")
def deployed() -> torch.nn.Module:
    return TASK.deployed(toy_network())


@pytest.fixture(scope="module")
def model(deployed: torch.nn.Module) -> bytes:
    return export.export_onnx(deployed, TASK.inputs, TASK.outputs)


def test_onnx_computes_what_torch_does(deployed: torch.nn.Module, model: bytes) -> None:
    """Parity holds within 1e-5 for batches of 1, 2, 7 and 64."""
    gate = export.parity_gate(deployed, model, export.random_inputs(TASK.inputs, 130, seed=2), data="synthetic")
    assert gate.passed
    assert gate.bound == 1e-5


def test_the_file_says_what_the_manifest_says(model: bytes) -> None:
    """Names, shapes and the dynamic batch axis of the graph are the specs'."""
    export.check_interface(onnx.load_model_from_string(model), TASK.inputs, TASK.outputs)


def test_same_weights_give_the_same_bytes(model: bytes) -> None:
    """Exporting equal weights again, from another network object, changes no byte."""
    assert export.export_onnx(TASK.deployed(toy_network()), TASK.inputs, TASK.outputs) == model


def test_other_weights_give_other_bytes(model: bytes) -> None:
    """The file depends on the weights."""
    assert export.export_onnx(TASK.deployed(toy_network(seed=1)), TASK.inputs, TASK.outputs) != model


def test_the_file_holds_no_path_of_this_machine(model: bytes) -> None:
    """The exporter's stack traces do not travel."""
    assert b".py" not in model
    assert not onnx.load_model_from_string(model).metadata_props


def test_broken_parity_is_a_failed_gate(model: bytes) -> None:
    """A file of other weights does not pass for this network's."""
    other = TASK.deployed(toy_network(seed=1))
    gate = export.parity_gate(other, model, export.random_inputs(TASK.inputs, 20, seed=2), data="synthetic")
    with pytest.raises(GateFailed, match="parity"):
        export.require(gate)


def test_scores_that_are_not_numbers_break_parity(model: bytes) -> None:
    """NaN on both sides is no agreement."""
    broken = toy_network()
    broken.head.bias.data.fill_(float("nan"))
    assert export.parity(TASK.deployed(broken), model, export.random_inputs(TASK.inputs, 3, seed=2)) == float("inf")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((TensorSpec("wave", (-1, 2, SAMPLES + 1)), TASK.inputs[1]), TASK.outputs),
        ((TASK.inputs[1], TASK.inputs[0]), TASK.outputs),
        (TASK.inputs, (TensorSpec("scores", (-1, 4)),)),
        (TASK.inputs, (TensorSpec("logits", (-1, 5)),)),
        ((TASK.inputs[0], TensorSpec("rhythm", (1, FEATURES))), TASK.outputs),
    ],
    ids=["samples", "order", "classes", "name", "fixed-batch"],
)
def test_a_graph_that_says_something_else_is_refused(
    model: bytes, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> None:
    """A name, shape, order or batch axis other than the manifest's is a BundleError."""
    with pytest.raises(BundleError) as caught:
        export.check_interface(onnx.load_model_from_string(model), inputs, outputs)
    assert caught.value.code == "model-interface"
