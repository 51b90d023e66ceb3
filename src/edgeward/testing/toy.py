"""A toy bundle for a ward, to harm: its probability rises with the heart rate, and some heart rates break it.

It stands in for a trained bundle, with slots, golden vectors and engines of its own as every bundle has; heart rates
that no heart has make its output corrupt, or late. Only the plan that reads it (``assess.ToyPlan``) is put in place of
the real one, in a ward's own processes, by a ``sitecustomize`` on their path. Needs the ``onnx`` package (extra
``workshop``), which is imported when a bundle is made.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edgeward.bedside.slot import SlotStore
from edgeward.bundle.archive import hash_members, write_bundle
from edgeward.bundle.manifest import GoldenSpec, Manifest, ModelSpec, TensorSpec
from edgeward.inference.golden import write_golden

TASK = "sepsis-risk"
"""The task that the toy stands in for."""
CENTRE_HR = 100.0
"""The heart rate at which the toy's probability is a half."""
CORRUPT_HR, LATE_HR = 260.0, 290.0
"""Heart rates at which the toy's output is NaN, and at which it computes for seconds."""
_CORRUPT_FROM, _LATE_FROM = 250.0, 280.0
_LATE_ROUNDS = 400.0
_GOLDEN_HR = (60.0, 80.0, 100.0, 140.0)
_PATCH = """\
import sys

if "edgeward.cli.main" in sys.orig_argv or "edgeward.bedside.assess.process" in sys.orig_argv:
    from edgeward.bedside.assess import plans
    from edgeward.testing.assess import ToyPlan

    def plan_of(manifest, task):
        return ToyPlan(task, period_ns={period_ns}, ttl_ns=60_000_000_000, deadline_ms=500.0)

    plans.plan_of = plan_of
"""


def toy_bundle(version: str = "1.0.0", *, centre: float = CENTRE_HR, corrupt_from: float = _CORRUPT_FROM) -> bytes:
    """A bundle of ``TASK``: heart rate (−1, 1) → probability (−1, 1).

    ``centre``: the heart rate at which the probability is a half; from ``corrupt_from`` on the output is NaN.
    """
    rates = np.array([rate for rate in _GOLDEN_HR if rate < corrupt_from], np.float32).reshape(-1, 1)
    expected = (1.0 / (1.0 + np.exp(-(rates - centre) / 10.0))).astype(np.float32)
    members = {
        "models/fp32.onnx": _toy_model(centre, corrupt_from),
        "golden.npz": write_golden({"features": rates}, {"fp32": expected}),
    }
    manifest = Manifest(
        name=TASK,
        version=version,
        task=TASK,
        inputs=(TensorSpec("features", (-1, 1)),),
        outputs=(TensorSpec("scores", (-1, 1), meaning="probability"),),
        classes=("risk",),
        preprocessing="stay-features-1",
        preprocessing_params={},
        decision={},
        deadline_ms=150.0,
        default_model="fp32",
        models=(ModelSpec("fp32", "models/fp32.onnx", "onnxruntime", "fp32"),),
        golden=GoldenSpec("golden.npz", len(rates), {"fp32": 1e-4}),
        hashes=hash_members(members),
    )
    return write_bundle(manifest, members)


def _toy_model(centre: float, corrupt_from: float) -> bytes:
    """Logistic in the heart rate. √(limit − rate) · 0 is NaN above one limit; above the other a loop takes seconds."""
    from onnx import TensorProto, checker, helper, numpy_helper

    constants = {
        "centre": np.float32(centre),
        "scale": np.float32(10.0),
        "corrupt_from": np.float32(corrupt_from),
        "late_from": np.float32(_LATE_FROM),
        "rounds": np.float32(_LATE_ROUNDS),
        "zero": np.float32(0.0),
        "yes": np.bool_(True),
        "matrix": np.full((512, 512), 1.0 / 512.0, np.float32),
    }
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("MatMul", ["before", "before"], ["after"]),
        ],
        "slow",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [512, 512]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [512, 512]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["highest"], keepdims=0),
        helper.make_node("Sub", ["highest", "late_from"], ["beyond"]),
        helper.make_node("Sub", ["corrupt_from", "highest"], ["room"]),
        helper.make_node("Mul", ["beyond", "rounds"], ["wished"]),
        helper.make_node("Max", ["wished", "zero"], ["bounded"]),
        helper.make_node("Cast", ["bounded"], ["trips"], to=TensorProto.INT64),
        helper.make_node("Loop", ["trips", "yes", "matrix"], ["mixed"], body=body),
        helper.make_node("ReduceMean", ["mixed"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Sqrt", ["room"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["switch"]),
        helper.make_node("Sub", ["features", "centre"], ["shifted"]),
        helper.make_node("Div", ["shifted", "scale"], ["logit"]),
        helper.make_node("Add", ["logit", "nothing"], ["timed"]),
        helper.make_node("Add", ["timed", "switch"], ["switched"]),
        helper.make_node("Sigmoid", ["switched"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def install_toy(state_dir: Path, folder: Path, period_s: float, *, installed: bool = True) -> str:
    """Put the toy's bundle into a ward's slots; returns the PYTHONPATH on which its processes find the toy's plan.

    ``folder`` keeps what is needed for that; each bed is scored every ``period_s``. Not ``installed``: the plan alone.
    """
    with SlotStore(state_dir / "slots" / TASK) as slots:
        if installed and slots.active() is None:
            file = folder / "toy.ewb"
            file.write_bytes(toy_bundle())
            slots.commit(slots.stage(file))
    place = folder / "site"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_PATCH.format(period_ns=round(period_s * 1e9)))
    package = Path(__file__).resolve().parents[2]
    return os.pathsep.join([str(place), str(package), os.environ.get("PYTHONPATH", "")])
