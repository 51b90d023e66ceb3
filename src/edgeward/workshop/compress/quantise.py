"""INT8 by static quantisation (QDQ) with ONNX Runtime.

Activations are unsigned 8 bit (on x86, ONNX Runtime has fast kernels for unsigned × signed only), weights signed, one
scale per output channel. Weights use 7 of their 8 bits by default: an x86 processor without VNNI adds pairs of products
in 16 bits, which saturates with 8-bit weights and then computes something else than the machine that passed the gates.
What lies downstream of an input named in ``fp32_inputs`` (the rhythm features) stays FP32, and so do fully connected
layers with less than 1 % of the weights (heads), and convolutions that read an input directly: they hold little of the
weight and most of the fine distinctions. Measured on three cross-validation folds of ecg-beat, a first convolution in
FP32 cut the divergence from FP32 to less than half for 4 µs; quantising additions between convolutions cost time and
gave nothing; 8-bit weights were no nearer to FP32 than 7-bit ones.

The calibration windows come from training patients only; a held-out patient among them is refused.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeward.kernel.errors import ConfigError
from edgeward.workshop.scorer import Scorer
from edgeward.workshop.windows import stratified

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from edgeward.workshop.scorer import FloatArray
    from edgeward.workshop.windows import LabelledWindows

# ONNX Runtime's own entropy settings (128 bins squeezed into 128) always give the whole range, so bins are stated here.
_BINS = {"num_bins": 2048}
METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "percentile-99.99": (CalibrationMethod.Percentile, {**_BINS, "percentile": 99.99}),
    "percentile-99.999": (CalibrationMethod.Percentile, {**_BINS, "percentile": 99.999}),
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 512, "num_quantized_bins": 255}),
}
"""How the range of each activation is found: the whole range, all but the outermost values, or least divergence."""
QUANTISED_OPS = ("Conv", "Gemm", "MatMul")
CALIBRATION_WINDOWS = 512
SELECTION_WINDOWS = 4096
_BATCH = 16
_SMALL_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Calibration:
    """How an INT8 file came about; stands in the evidence.

    ``divergence``: mean KL(FP32 ‖ INT8) in nats per method on the selection windows (training patients, not calibration
    windows), the figure that chose ``method``.
    """

    method: str
    patients: tuple[str, ...]
    windows: int
    windows_sha256: str
    quantised_ops: tuple[str, ...]
    kept_fp32: tuple[str, ...]
    reduce_range: bool
    divergence: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Quantised:
    """An INT8 file and its record."""

    model: bytes
    calibration: Calibration


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, windows: LabelledWindows) -> None:
        # The histogram calibrators take batches of one size only.
        size = next(size for size in range(_BATCH, 0, -1) if len(windows) % size == 0)
        self._batches: Iterator[dict[str, FloatArray]] = windows.batches(size)

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next batch, or None at the end."""
        return next(self._batches, None)


def calibration_windows(
    training: LabelledWindows, held_out: Collection[str], *, count: int = CALIBRATION_WINDOWS, seed: int = 0
) -> LabelledWindows:
    """About ``count`` windows of training patients, patients in turn and no class left out.

    Raises ``ConfigError`` (``calibration-leak``) when a held-out patient is among ``training``.
    """
    refuse_held_out(training, held_out)
    return training.take(stratified(training, count, seed, floor_per_class=8))


def refuse_held_out(windows: LabelledWindows, held_out: Collection[str]) -> None:
    """Raise ``ConfigError`` when a window belongs to a held-out patient."""
    leaked = set(windows.patient_ids()) & set(held_out)
    if leaked:
        raise ConfigError(
            "calibration-leak",
            f"{len(leaked)} held-out patient(s) are among the calibration windows; calibrate with training patients",
        )


def quantise(
    model: bytes,
    calibration: LabelledWindows,
    *,
    held_out: Collection[str],
    method: str = "minmax",
    ops: Sequence[str] = QUANTISED_OPS,
    fp32_inputs: Sequence[str] = (),
    reduce_range: bool = True,
) -> Quantised:
    """The INT8 file of an FP32 ``model``. ``fp32_inputs``: everything downstream of these inputs stays FP32.

    Same model, windows and options → same bytes. Raises ``ConfigError`` for an unknown method, no windows, or a
    held-out patient among the windows.
    """
    if method not in METHODS:
        raise ConfigError("calibration-method", f"unknown calibration method {method!r}; choose {', '.join(METHODS)}")
    if len(calibration) == 0:
        raise ConfigError("calibration-empty", "there are no calibration windows; load training data first")
    refuse_held_out(calibration, held_out)
    with tempfile.TemporaryDirectory(prefix="edgeward-quantise-") as folder, quiet():
        source, prepared = Path(folder) / "model.onnx", Path(folder) / "prepared.onnx"
        source.write_bytes(model)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        kind, settings = METHODS[method]
        calibrator = create_calibrator(
            prepared,
            list(ops),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=kind,
            extra_options=settings,
        )
        calibrator.collect_data(_Reader(calibration))
        ranges = calibrator.compute_data()
        loaded = onnx.load_model_from_string(prepared.read_bytes())
        exclude = (*downstream(loaded, fp32_inputs), *small_layers(loaded), *first_layers(loaded))
        quantizer = QDQQuantizer(
            loaded,
            True,  # a scale per output channel
            reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            [],
            list(exclude),
            list(ops),
            {},
        )
        quantizer.quantize_model()
        result = quantizer.model.model
    result.producer_name, result.producer_version = "edgeward", ""
    del result.metadata_props[:]
    record = Calibration(
        method=method,
        patients=calibration.patient_ids(),
        windows=len(calibration),
        windows_sha256=calibration.sha256(),
        quantised_ops=tuple(ops),
        kept_fp32=_kept(result, ops, exclude),
        reduce_range=reduce_range,
        divergence={},
    )
    return Quantised(bytes(result.SerializeToString(deterministic=True)), record)


def best_method(
    model: bytes,
    training: LabelledWindows,
    *,
    held_out: Collection[str],
    methods: Sequence[str] = tuple(METHODS),
    fp32_inputs: Sequence[str] = (),
    count: int = CALIBRATION_WINDOWS,
    seed: int = 0,
    reduce_range: bool = True,
) -> Quantised:
    """Quantise by each method and keep the one whose scores stay nearest to FP32 (mean KL divergence).

    The choice is made on training windows beside the calibration windows: no held-out patient takes part in it.
    """
    refuse_held_out(training, held_out)
    taken = stratified(training, count, seed, floor_per_class=8)
    calibration = training.take(taken)
    rest = training.take(np.setdiff1d(np.arange(len(training)), taken))
    selection = rest.take(stratified(rest, SELECTION_WINDOWS, seed + 1)) if len(rest) else calibration
    reference = Scorer(model).scores(selection.inputs)
    made: dict[str, Quantised] = {}
    divergence: dict[str, float] = {}
    for method in methods:
        made[method] = quantise(
            model, calibration, held_out=held_out, method=method, fp32_inputs=fp32_inputs, reduce_range=reduce_range
        )
        divergence[method] = mean_divergence(reference, Scorer(made[method].model).scores(selection.inputs))
    chosen = made[min(divergence, key=lambda name: divergence[name])]
    fields = {name: getattr(chosen.calibration, name) for name in Calibration.__slots__}
    return Quantised(chosen.model, Calibration(**{**fields, "divergence": divergence}))


def mean_divergence(reference: FloatArray, other: FloatArray) -> float:
    """Mean KL divergence in nats between rows of class probabilities (N, classes)."""
    p = np.clip(reference.astype(np.float64), 1e-7, 1.0)
    q = np.clip(other.astype(np.float64), 1e-7, 1.0)
    return float(np.mean(np.sum(p * (np.log(p) - np.log(q)), axis=1)))


def downstream(model: onnx.ModelProto, inputs: Collection[str]) -> tuple[str, ...]:
    """Names of the nodes that ``inputs`` of the graph flow into, directly or through others."""
    reached = set(inputs)
    names = []
    for node in model.graph.node:  # ONNX keeps nodes in topological order
        if reached & set(node.input):
            reached |= set(node.output)
            names.append(node.name)
    return tuple(names)


def small_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the fully connected layers with less than ``_SMALL_SHARE`` of the graph's weights."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    least = _SMALL_SHARE * sum(sizes.values())
    layers = [node for node in model.graph.node if node.op_type in {"Gemm", "MatMul"}]
    return tuple(node.name for node in layers if sum(sizes.get(name, 0) for name in node.input) < least)


def first_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the convolutions that read an input of the graph."""
    inputs = {value.name for value in model.graph.input}
    return tuple(node.name for node in model.graph.node if node.op_type == "Conv" and node.input[0] in inputs)


def _kept(model: onnx.ModelProto, ops: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    """Names of weight-bearing nodes left in FP32."""
    bearing = {"Conv", "Gemm", "MatMul", "LSTM", "GRU"}
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in bearing and (node.op_type not in ops or node.name in exclude)
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """ONNX Runtime's quantiser prints its progress and warns through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
