"""INT8 by dynamic quantisation with ONNX Runtime, for recurrent networks.

An LSTM's weights become 8-bit whole numbers and its activations are scaled as they come, so nothing is calibrated and
no data are needed. Static quantisation does nothing for an LSTM in ONNX Runtime (it has no kernel for it); dynamic
quantisation ruins convolutions. Everything but the LSTM stays FP32: the head is a hundredth of the work. Weights use 7
of their 8 bits, for the reason that ``quantise`` gives.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeward.kernel.errors import BundleError
from edgeward.workshop.compress.quantise import quiet

QUANTISED_OPS = ("LSTM",)


def quantise_dynamic(model: bytes, *, reduce_range: bool = True) -> bytes:
    """The INT8 file of an FP32 ``model``. Same model → same bytes.

    Raises ``BundleError`` (``nothing-quantised``) when the graph holds no LSTM with constant weights.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-dynamic-") as folder, quiet():
        source, prepared, made = (Path(folder) / name for name in ("model.onnx", "prepared.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(made),
            op_types_to_quantize=list(QUANTISED_OPS),
            weight_type=QuantType.QInt8,
            reduce_range=reduce_range,
        )
        result = onnx.load_model_from_string(made.read_bytes())
    if not any(node.op_type == "DynamicQuantizeLSTM" for node in result.graph.node):
        raise BundleError("nothing-quantised", "the model holds no LSTM with constant weights; ship it as FP32")
    result.producer_name, result.producer_version = "edgeward", ""
    del result.metadata_props[:]
    return bytes(result.SerializeToString(deterministic=True))
