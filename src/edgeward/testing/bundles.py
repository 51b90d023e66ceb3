"""Small real bundles for tests, benchmarks and plug-ins: made in milliseconds, without torch.

Needs the ``onnx`` package (extra ``workshop``); it is imported only when a bundle is made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bundle.archive import hash_members, write_bundle
from edgeward.bundle.manifest import GoldenSpec, Manifest, ModelSpec, TensorSpec
from edgeward.inference.golden import write_golden
from edgeward.signal.preprocess import BeatWindowSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.inference.backend import Array

CLASSES = ("N", "S", "V", "F", "Q")
GOLDEN_COUNT = 4
NAN_ABOVE = 1e6
"""A bundle made with ``nan_switch=True`` gives NaN scores when the first rhythm feature lies above this."""


def tiny_bundle(
    *,
    channels: int = 2,
    samples: int = 250,
    rhythm: int = 8,
    seed: int = 0,
    network: str = "linear",
    nan_switch: bool = False,
    model: bytes | None = None,
    golden_shift: float = 0.0,
    name: str = "tiny-beat",
    version: str = "0.1.0",
    deadline_ms: float = 4.0,
    keys: Sequence[str] = ("fp32",),
    backend: str = "onnxruntime",
    preprocessing_params: Mapping[str, Any] | None = None,
    decision: Mapping[str, Any] | None = None,
    extra_members: Mapping[str, bytes] | None = None,
) -> bytes:
    """A whole bundle for task ``ecg-beat-aami``: wave (−1, channels, samples), rhythm (−1, rhythm) → scores (−1, 5).

    ``network``: "linear" (microseconds) or "conv" (about 500 K weights, for benchmarks). ``model`` replaces the model
    file by any bytes (to test refusal); ``golden_shift`` moves the expected scores, so that the golden vectors fail.
    ``keys``: one model file per key, all alike, for ``backend``.
    """
    rng = np.random.default_rng(seed)
    inputs = {
        "wave": rng.standard_normal((GOLDEN_COUNT, channels, samples)).astype(np.float32),
        "rhythm": rng.standard_normal((GOLDEN_COUNT, rhythm)).astype(np.float32),
    }
    graph = tiny_model(
        channels=channels, samples=samples, rhythm=rhythm, seed=seed, network=network, nan_switch=nan_switch
    )
    expected = _reference_scores(graph, inputs) + np.float32(golden_shift)
    members = {f"models/{key}.onnx": model if model is not None else graph for key in keys}
    members["golden.npz"] = write_golden(inputs, dict.fromkeys(keys, expected))
    members |= dict(extra_members or {})
    manifest = Manifest(
        name=name,
        version=version,
        task="ecg-beat-aami",
        inputs=(TensorSpec("wave", (-1, channels, samples), unit="mV"), TensorSpec("rhythm", (-1, rhythm))),
        outputs=(TensorSpec("scores", (-1, len(CLASSES)), meaning="probability per AAMI class"),),
        classes=CLASSES,
        preprocessing="beat-window-2",
        preprocessing_params=dict(preprocessing_params or {}),
        decision=dict(decision or {}),
        deadline_ms=deadline_ms,
        default_model=keys[0],
        models=tuple(ModelSpec(key, f"models/{key}.onnx", backend, "fp32") for key in keys),
        golden=GoldenSpec("golden.npz", GOLDEN_COUNT, dict.fromkeys(keys, 1e-4)),
        hashes=hash_members(members),
    )
    return write_bundle(manifest, members)


def ecg_bundle(
    version: str = "1.0.0",
    *,
    spec: BeatWindowSpec | None = None,
    log_offsets: Sequence[float] = (0.0,) * 5,
    deadline_ms: float = 150.0,
    **more: Any,
) -> bytes:
    """A tiny bundle that an ECG bed can run: of the family ``ecg-beat``, with the windows of ``spec``.

    ``more``: as for ``tiny_bundle``. The deadline is one that no busy machine misses.
    """
    seen = spec or BeatWindowSpec()
    channels, samples = seen.wave_shape
    shape = {"channels": channels, "samples": samples, "rhythm": seen.rhythm_len}
    means = {"preprocessing_params": seen.to_params(), "decision": {"log_offsets": list(log_offsets)}}
    return tiny_bundle(**{"name": "ecg-beat", "version": version, "deadline_ms": deadline_ms, **shape, **means, **more})


def tiny_model(
    *,
    channels: int = 2,
    samples: int = 250,
    rhythm: int = 8,
    seed: int = 0,
    network: str = "linear",
    nan_switch: bool = False,
) -> bytes:
    """The ONNX file of ``tiny_bundle``: softmax over a linear or convolutional network with a dynamic batch."""
    from onnx import TensorProto, checker, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    nodes: list[Any] = []
    if network == "linear":
        features, width = "wave", channels * samples
    elif network == "conv":
        nodes, features, width = _convolutions(rng, weights, channels)
    else:
        raise ValueError(f"network must be 'linear' or 'conv', not {network!r}")
    classes = len(CLASSES)
    weights["w_wave"] = _normal(rng, width, (width, classes))
    weights["w_rhythm"] = _normal(rng, rhythm, (rhythm, classes))
    nodes += [
        helper.make_node("Flatten", [features], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w_wave"], ["from_wave"]),
        helper.make_node("MatMul", ["rhythm", "w_rhythm"], ["from_rhythm"]),
        helper.make_node("Add", ["from_wave", "from_rhythm"], ["logits"]),
    ]
    if nan_switch:  # √(limit − feature) · 0 is 0 below the limit and NaN above it
        weights["limit"], weights["zero"] = np.array([NAN_ABOVE], np.float32), np.zeros(1, np.float32)
        weights["first"] = np.zeros(1, np.int64)
        nodes += [
            helper.make_node("Gather", ["rhythm", "first"], ["feature"], axis=1),
            helper.make_node("Sub", ["limit", "feature"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["logits", "nothing"], ["switched"]),
        ]
    nodes.append(helper.make_node("Softmax", ["switched" if nan_switch else "logits"], ["scores"], axis=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", channels, samples]),
            helper.make_tensor_value_info("rhythm", TensorProto.FLOAT, ["batch", rhythm]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(array, label) for label, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _convolutions(rng: np.random.Generator, weights: dict[str, Any], channels: int) -> tuple[list[Any], str, int]:
    """Four strided convolutions and a global mean: nodes, the name of the features and how many there are."""
    from onnx import helper

    nodes: list[Any] = []
    features, before = "wave", channels
    for index, after in enumerate((64, 128, 192, 192)):
        weights[f"conv{index}"] = _normal(rng, before * 7, (after, before, 7))
        nodes += [
            helper.make_node("Conv", [features, f"conv{index}"], [f"c{index}"], strides=[2], pads=[3, 3]),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"]),
        ]
        features, before = f"r{index}", after
    nodes.append(helper.make_node("GlobalAveragePool", [features], ["pooled"]))
    return nodes, "pooled", before


def _normal(rng: np.random.Generator, fan_in: int, shape: tuple[int, ...]) -> Array:
    return (rng.standard_normal(shape) / math.sqrt(fan_in)).astype(np.float32)


def _reference_scores(model: bytes, inputs: Mapping[str, Array]) -> Array:
    """Scores by ONNX's own reference evaluator: independent of every backend under test."""
    from onnx import load_model_from_string
    from onnx.reference import ReferenceEvaluator

    scores: Any = ReferenceEvaluator(load_model_from_string(model)).run(["scores"], dict(inputs))
    return np.asarray(scores[0], dtype=np.float32)
