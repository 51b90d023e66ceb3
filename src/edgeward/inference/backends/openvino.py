"""OpenVINO on the CPU, bound to preallocated buffers.

One stream, hinted for latency, at full FP32 precision: on processors with BF16 units OpenVINO would otherwise compute
an FP32 model in BF16, and the golden vectors would fail there and pass elsewhere.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import openvino as ov

from edgeward.inference.backend import check_graph
from edgeward.kernel.errors import BundleError, ConfigError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.inference.backend import Array

THREADS_MAX = 64


class OpenVinoSession:
    """A compiled model bound to its buffers; the tensors keep the arrays alive."""

    def __init__(self, request: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self._request = request
        self._tensors = []
        for name, array in (*inputs.items(), *outputs.items()):
            tensor = ov.Tensor(array, shared_memory=True)
            request.set_tensor(name, tensor)
            self._tensors.append((tensor, array))

    def run(self) -> None:
        """Read the bound inputs, write the bound outputs. Raises ``EngineError`` (``run-failed``)."""
        try:
            self._request.infer()
        except Exception as error:  # the library's errors share no base class
            raise EngineError(
                "run-failed", f"OpenVINO could not run the model ({type(error).__name__}); return to the other slot"
            ) from error


def load(
    model: bytes, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, threads: int = 1
) -> OpenVinoSession:
    """Load an ONNX ``model`` for batch 1 and bind it; errors as ``edgeward.inference.backend.Backend.load`` says."""
    if not 1 <= threads <= THREADS_MAX:
        raise ConfigError("threads", f"an engine takes 1 to {THREADS_MAX} threads")
    core = _core()
    graph = _attempt(lambda: core.read_model(model=model, weights=b""))
    check_graph("input", {port.get_any_name(): _described(port) for port in graph.inputs}, inputs)
    check_graph("output", {port.get_any_name(): _described(port) for port in graph.outputs}, outputs)
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": "NO",
    }

    def compiled() -> Any:
        graph.reshape({name: list(array.shape) for name, array in inputs.items()})
        return core.compile_model(graph, "CPU", config).create_infer_request()

    return OpenVinoSession(_attempt(compiled), inputs, outputs)


@functools.cache
def _core() -> Any:
    return ov.Core()


def _attempt(step: Any) -> Any:
    try:
        return step()
    except Exception as error:
        raise BundleError(
            "model-refused", f"OpenVINO refuses the model file ({type(error).__name__}); pack the bundle again"
        ) from error


def _described(port: Any) -> tuple[bool, list[Any]]:
    dims = [dim.get_length() if dim.is_static else None for dim in port.get_partial_shape()]
    return port.get_element_type() == ov.Type.f32, dims
