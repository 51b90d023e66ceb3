"""FP32 against INT8: EC57 figures on the stream, file size, and the ratio of their latencies in one run.

    python bench/precision.py DATA [--records 101 106 …] [--bundle FILE]

Records that the bundle was trained on say how alike the two precisions are, not how good they are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from edgeward.bundle.archive import read_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.evaluate.beat_report import percent
from edgeward.evaluate.ecg_beat import Job, evaluate, find_records
from edgeward.inference.engine import Engine
from edgeward.inference.golden import read_golden

ROUNDS = 400


def latency(bundle_path: Path, keys: list[str]) -> dict[str, np.ndarray]:
    """Durations in µs of ``Engine.infer`` per model, the models taking turns so that noise falls on all alike."""
    bundle = read_bundle(bundle_path.read_bytes())
    engines = {key: Engine.load(bundle, key) for key in keys}
    vectors = read_golden(bundle, keys[0])
    took: dict[str, list[float]] = {key: [] for key in keys}
    for k in range(ROUNDS):
        inputs = {name: array[k % len(vectors)] for name, array in vectors.inputs.items()}
        for key, engine in engines.items():
            begin = time.perf_counter_ns()
            engine.infer(inputs)
            took[key].append((time.perf_counter_ns() - begin) / 1e3)
    return {key: np.array(values) for key, values in took.items()}


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--records", nargs="+")
    parser.add_argument("--bundle", type=Path)
    arguments = parser.parse_args()
    path = arguments.bundle or shipped_bundle("ecg-beat")
    bundle = read_bundle(path.read_bytes())
    models = bundle.manifest.models
    times = latency(path, [model.key for model in models])
    records = find_records(arguments.data, arguments.records, "atr").records
    print(f"{'model':8}{'bytes':>10}{'p50 µs':>9}{'p99 µs':>9}   VEB Se/+P        SVEB Se/+P")
    for model in models:
        jobs = [Job(record, arguments.data, path, "atr", 300.0, model=model.key) for record in records]
        report = evaluate(jobs, on_record=lambda _: None)
        veb, sveb = report.gross("veb"), report.gross("sveb")
        took = times[model.key]
        print(
            f"{model.key:8}{len(bundle.members[model.member]):>10}{np.percentile(took, 50):>9.0f}"
            f"{np.percentile(took, 99):>9.0f}   {percent(veb.se)}/{percent(veb.ppv)}      "
            f"{percent(sveb.se)}/{percent(sveb.ppv)}"
        )
    first, *others = models
    for model in others:
        ratio = np.median(times[model.key] / times[first.key])
        print(f"latency {model.key} / {first.key}: {ratio:.2f} (median of pairs)")


if __name__ == "__main__":
    main()
