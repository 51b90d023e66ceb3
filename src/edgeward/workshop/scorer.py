"""Raw ONNX Runtime on one thread: the workshop's yardstick for what a model file computes.

The device's own engine (``edgeward.inference``) is measured by the latency and golden gates; this one serves parity,
calibration and accuracy, where batches and other graph-optimisation levels are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edgeward.kernel.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

FloatArray = npt.NDArray[np.float32]

BATCH = 256

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class Scorer:
    """One model file, loaded on one thread of the processor. ``optimise``: "all", "basic" or "none".

    Raises ``BundleError`` when ONNX Runtime refuses the file.
    """

    def __init__(self, model: bytes, *, optimise: str = "all") -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = _LEVELS[optimise]
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise BundleError("model-refused", "ONNX Runtime refuses the model file; export it again") from error
        self._names = [item.name for item in self._session.get_inputs()]

    def scores(self, inputs: Mapping[str, npt.NDArray[np.floating]], *, batch: int = BATCH) -> FloatArray:
        """Scores (N, classes) of N windows, computed ``batch`` at a time."""
        total = len(inputs[self._names[0]])
        parts = []
        for start in range(0, total, batch):
            feed = {
                name: np.ascontiguousarray(inputs[name][start : start + batch], dtype=np.float32)
                for name in self._names
            }
            parts.append(self._session.run(None, feed)[0])
        return np.concatenate(parts).astype(np.float32, copy=False)
