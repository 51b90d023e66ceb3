"""What a sepsis score costs, in one run: ``python bench/trees.py [BUNDLE] [--model vitals] [--runs N]``.

Each round measures every path for a block of calls, in random order, so that whatever else the machine does falls on
all of them alike:

- ``score, numpy``: the trees walked by ``signal.trees``, the score alone
- ``score, ONNX Runtime``: the same trees as a TreeEnsembleRegressor, bound to preallocated buffers (needs onnx)
- ``score + effects``: the backend of the device, the score and the exact Shapley value of every feature
- ``LightGBM pred_contrib``: the library's own TreeSHAP of the same trees (needs lightgbm)
- ``Engine.infer``: in this process, inputs checked and copied, scores checked and copied
- ``EngineHost.infer``: the same across the process boundary
- ``features``: what the score is cut from, ``StayFeatures.vector`` of a stay of a hundred hours
- ``numeric``: one numeric into the features

Without a bundle it takes the one that is shipped.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import edgeward
from edgeward.bundle.archive import read_bundle
from edgeward.inference.backends.trees import load, read_trees
from edgeward.inference.engine import Buffers, Engine
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost
from edgeward.signal.history import NS_PER_S
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.stay_features import StayFeatures

if TYPE_CHECKING:
    from collections.abc import Callable

SHIPPED = Path(edgeward.__file__).parent / "bundle" / "shipped" / "sepsis-risk.ewb"
BLOCK = 20
BUDGET_S = 1.0
HOUR_NS = 3600 * NS_PER_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--model", help="model of the bundle (default: its own default)")
    parser.add_argument("--runs", type=int, default=1000)
    arguments = parser.parse_args()
    bundle = read_bundle(arguments.bundle.read_bytes())
    key = bundle.manifest.model(arguments.model).key
    raw = bundle.model_bytes(key)
    trees = read_trees(raw)
    rows = read_golden(bundle, key).inputs["features"]
    print(
        f"{bundle.manifest.name} {bundle.manifest.version} {key}: {len(trees.root)} trees, {len(trees.feature)} nodes"
    )
    print(f"{trees.features} features, {len(raw):,} bytes; load average {os.getloadavg()[0]:.1f}")
    start = time.perf_counter()
    buffers = Buffers.private(bundle.manifest)
    session = load(raw, buffers.inputs, buffers.outputs)
    print(f"loaded in {time.perf_counter() - start:.2f} s")
    engine = Engine.load(bundle, key)
    features, now_ns = _stay(tuple(bundle.manifest.preprocessing_params["features"]))

    def bound(row: np.ndarray) -> None:
        buffers.inputs["features"][0] = row
        session.run()

    def numeric(_: np.ndarray) -> None:
        features.update(Numeric(Kind.HR, 80.0, now_ns))

    with EngineHost(arguments.bundle, model=key, standby=False) as host:
        paths: dict[str, Callable[[np.ndarray], object]] = {
            "score, numpy": lambda row: trees.score(row.astype(np.float64)),
            "score + effects": bound,
            "Engine.infer": lambda row: engine.infer({"features": row}),
            "EngineHost.infer": lambda row: host.infer({"features": row}, budget_s=BUDGET_S),
            "features": lambda _: features.vector(now_ns),
            "numeric": numeric,
            **_onnxruntime(trees),
            **_library(trees),
        }
        _show(_measure(paths, rows, arguments.runs))


def _stay(names: tuple[str, ...]) -> tuple[StayFeatures, int]:
    features = StayFeatures(names)
    features.begin(0, 60.0, 1.0)
    for hour in range(100):
        for kind, value in ((Kind.HR, 90.0), (Kind.RR, 20.0), (Kind.SPO2, 96.0), (Kind.ABP_SYS, 110.0)):
            features.update(Numeric(kind, value + hour % 5, hour * HOUR_NS))
        if hour % 12 == 0:
            features.update(Numeric(Kind.LACTATE, 2.0, hour * HOUR_NS))
    return features, 100 * HOUR_NS


def _onnxruntime(trees: object) -> dict[str, Callable[[np.ndarray], object]]:
    try:
        from edgeward.workshop.tree_onnx import tree_graph
    except ModuleNotFoundError:
        return {}
    from edgeward.inference.backends.onnxruntime import load as load_onnx

    inputs = {"features": np.zeros((1, trees.features), np.float32)}  # type: ignore[attr-defined]
    outputs = {"scores": np.zeros((1, 1), np.float32)}
    session = load_onnx(tree_graph(trees), inputs, outputs)  # type: ignore[arg-type]

    def run(row: np.ndarray) -> None:
        inputs["features"][0] = row
        session.run()

    return {"score, ONNX Runtime": run}


def _library(trees: object) -> dict[str, Callable[[np.ndarray], object]]:
    """A forest of the library's own with as many nodes, grown on noise: it cannot read ours back."""
    try:
        import lightgbm
    except ModuleNotFoundError:
        return {}
    rng = np.random.default_rng(0)
    count = trees.features  # type: ignore[attr-defined]
    noise = rng.normal(size=(4000, count)).astype(np.float32)
    settings = {"objective": "regression", "num_leaves": 16, "num_threads": 1, "verbose": -1, "min_data_in_leaf": 20}
    rounds = len(trees.root)  # type: ignore[attr-defined]
    booster = lightgbm.train(settings, lightgbm.Dataset(noise, rng.normal(size=4000)), rounds)
    return {"LightGBM pred_contrib": lambda row: booster.predict(row[np.newaxis], pred_contrib=True, num_threads=1)}


def _measure(paths: dict[str, Callable[[np.ndarray], object]], rows: np.ndarray, runs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    took: dict[str, list[int]] = {name: [] for name in paths}
    for call in paths.values():
        for row in rows[:5]:
            call(row)
    while any(len(times) < runs for times in took.values()):
        for name in rng.permutation(list(paths)):
            for _ in range(BLOCK):
                row = rows[rng.integers(len(rows))]
                start = time.perf_counter_ns()
                paths[name](row)
                took[name].append(time.perf_counter_ns() - start)
    return {name: np.array(times) / 1000.0 for name, times in took.items()}


def _show(measured: dict[str, np.ndarray]) -> None:
    print(f"{'':24} {'p50 µs':>9} {'p95 µs':>9} {'p99 µs':>9}")
    for name, times in sorted(measured.items(), key=lambda item: float(np.median(item[1]))):
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        print(f"{name:24} {p50:9.0f} {p95:9.0f} {p99:9.0f}")


if __name__ == "__main__":
    main()
