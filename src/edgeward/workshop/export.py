"""torch → ONNX, checked: same names and shapes as the manifest, full onnx.checker, parity with torch.

The exporter is torch's own, based on ``torch.export``; the TorchScript one gives the same graph and is deprecated. What
it writes into the file beside the graph (stack traces with file paths, docstrings) is taken out, so that the same
weights give the same bytes on every machine.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.shape_inference
import torch

from edgeward.bundle.manifest import BATCH
from edgeward.kernel.errors import BundleError
from edgeward.workshop.evidence import Gate, GateFailed
from edgeward.workshop.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.bundle.manifest import TensorSpec
    from edgeward.workshop.scorer import FloatArray

OPSET = 18
"""ONNX operator set of every exported file: the newest that the exporter writes without conversion."""
IR_VERSION = 10
PARITY_BOUND = 1e-5
"""Largest absolute difference between torch's scores and the ONNX file's, over every window and class."""
PARITY_BATCHES = (1, 2, 7, 64)
PARITY_WINDOWS = 256
_BATCH_MAX = 4096


def export_onnx(
    network: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, seed: int = 0
) -> bytes:
    """The ONNX file of ``network`` in evaluation mode, with a dynamic batch axis.

    Raises ``BundleError`` when the graph is not what the specs say. Same weights → same bytes.
    """
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    example = tuple(torch.randn((2, *spec.shape[1:]), generator=generator) for spec in inputs)
    batch = torch.export.Dim("batch", min=1, max=_BATCH_MAX)
    with _quiet():
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    check_interface(model, inputs, outputs)
    return bytes(model.SerializeToString(deterministic=True))


def check_interface(model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise ``BundleError`` unless the graph's inputs and outputs are exactly the specs', batch axis dynamic."""
    for values, specs, side in ((model.graph.input, inputs, "inputs"), (model.graph.output, outputs, "outputs")):
        found = [(value.name, _shape(value), value.type.tensor_type.elem_type) for value in values]
        wanted = [(spec.name, spec.shape, onnx.TensorProto.FLOAT) for spec in specs]
        if found != wanted:
            said = ", ".join(f"{name} {shape}" for name, shape, _ in found)
            want = ", ".join(f"{name} {shape}" for name, shape, _ in wanted)
            raise BundleError(
                "model-interface", f"the model's {side} are {said}, but the task says {want}; correct the network"
            )


def random_inputs(specs: Sequence[TensorSpec], count: int, seed: int) -> dict[str, FloatArray]:
    """``count`` random windows (standard normal × 2) for the parity check."""
    rng = np.random.default_rng(seed)
    return {spec.name: 2 * rng.standard_normal((count, *spec.shape[1:])).astype(np.float32) for spec in specs}


def parity(network: torch.nn.Module, model: bytes, inputs: Mapping[str, FloatArray]) -> float:
    """Largest absolute difference of any score between torch and the ONNX file, over several batch sizes.

    ``inputs`` in the order of the network's arguments. NaN anywhere gives infinity.
    """
    network.eval()
    scorer = Scorer(model)
    with torch.no_grad():
        reference = network(*(torch.from_numpy(array) for array in inputs.values())).numpy()
    worst = 0.0
    for batch in PARITY_BATCHES:
        difference = float(np.max(np.abs(scorer.scores(inputs, batch=batch) - reference), initial=0.0))
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def parity_gate(
    network: torch.nn.Module, model: bytes, inputs: Mapping[str, FloatArray], *, data: str, data_sha256: str = ""
) -> Gate:
    """The parity of one model file as a gate."""
    count = len(next(iter(inputs.values())))
    note = f"{count} windows, batch sizes {', '.join(map(str, PARITY_BATCHES))}"
    return Gate(
        f"parity-{data}", "fp32", parity(network, model, inputs), "<=", PARITY_BOUND, "1", data, data_sha256, note
    )


def require(gate: Gate) -> None:
    """Raise ``GateFailed`` when the gate does not hold."""
    if not gate.passed:
        raise GateFailed("gate-failed", f"{gate.line()}; the exported file does not compute what the network does")


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(BATCH if dim.dim_param else int(dim.dim_value) for dim in dims)


def _strip(model: onnx.ModelProto) -> None:
    """Take out everything but the graph: traces, docstrings, tool versions; name the nodes by position."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.domain, model.doc_string = "edgeward", "", "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "main", ""
    del graph.metadata_props[:]
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"{node.op_type}_{number}", ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The exporter prints and warns about its own parts; what matters of its result is checked afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
