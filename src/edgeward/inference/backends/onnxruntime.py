"""ONNX Runtime on the CPU, bound to preallocated buffers.

Sequential execution: the graphs here are chains, so a second inter-op thread has nothing to do. Worker threads do not
spin: a spinning thread takes its core from the sources and thresholds beside it, and with one thread there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from edgeward.inference.backend import check_graph
from edgeward.kernel.errors import BundleError, ConfigError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.inference.backend import Array

THREADS_MAX = 64
_FATAL = 4
_PROVIDERS = ["CPUExecutionProvider"]


class OrtSession:
    """A model bound to its buffers; it keeps them alive, because the binding holds bare addresses."""

    def __init__(self, session: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self._buffers = (dict(inputs), dict(outputs))
        self._session = session
        self._binding = session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Read the bound inputs, write the bound outputs. Raises ``EngineError`` (``run-failed``)."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # the library's errors share no base class
            raise EngineError(
                "run-failed", f"ONNX Runtime could not run the model ({type(error).__name__}); return to the other slot"
            ) from error


def load(model: bytes, inputs: Mapping[str, Array], outputs: Mapping[str, Array], *, threads: int = 1) -> OrtSession:
    """Load ``model`` for batch 1 and bind it; see ``edgeward.inference.backend.Backend.load`` for the errors."""
    options = session_options(threads)
    try:
        session = ort.InferenceSession(model, options, providers=_PROVIDERS)
    except Exception as error:
        raise BundleError(
            "model-refused", f"ONNX Runtime refuses the model file ({type(error).__name__}); pack the bundle again"
        ) from error
    check_graph("input", {node.name: _described(node) for node in session.get_inputs()}, inputs)
    check_graph("output", {node.name: _described(node) for node in session.get_outputs()}, outputs)
    return OrtSession(session, inputs, outputs)


def session_options(threads: int) -> Any:
    """The options of every session on a device; ``ConfigError`` when ``threads`` is not in 1..64."""
    if not 1 <= threads <= THREADS_MAX:
        raise ConfigError("threads", f"an engine takes 1 to {THREADS_MAX} threads")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _described(node: Any) -> tuple[bool, list[Any]]:
    return node.type == "tensor(float)", list(node.shape)
