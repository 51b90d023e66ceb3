"""What the engine costs over the bare library, in one run: ``python bench/engine.py [BUNDLE] [--runs N]``.

Each round measures every path for a block of calls, in random order, so that whatever else the machine does falls on
all of them alike (``--block 1`` makes each call find the caches of another path, as after a pause):

- ``session.run``: ONNX Runtime as its tutorial shows it, arrays in, fresh arrays out
- ``io-bound``: the same session options, inputs and outputs bound to preallocated buffers
- ``Engine.infer``: in this process, inputs checked (shape, NaN) and copied, scores checked and copied
- ``EngineHost.infer``: the same across the process boundary, through shared memory and two pipes

Without a bundle it takes the one that is shipped, or makes a network of about 500 K weights over 12 leads × 1000
samples where none is (needs the workshop extra).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

import edgeward
from edgeward.bundle.archive import read_bundle
from edgeward.inference.backends.onnxruntime import load, session_options
from edgeward.inference.engine import Buffers, Engine
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost
from edgeward.inference.latency import LatencyHistogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bundle.archive import Bundle
    from edgeward.inference.backend import Array

SHIPPED = Path(edgeward.__file__).parent / "bundle" / "shipped" / "ecg-beat.ewb"
BUDGET_S = 1.0


def main() -> int:
    """Measure and print; the exit code is 1 when the host failed to answer at all."""
    arguments = _arguments()
    path = arguments.bundle or (SHIPPED if SHIPPED.exists() else _made())
    bundle = read_bundle(path.read_bytes())
    vectors = read_golden(bundle, arguments.model)
    windows = [{name: array[index] for name, array in vectors.inputs.items()} for index in range(len(vectors))]
    shapes = ", ".join(f"{spec.name} {'×'.join(map(str, spec.shape[1:]))}" for spec in bundle.manifest.inputs)
    key = bundle.manifest.model(arguments.model).key
    print(f"{bundle.manifest.name} {bundle.manifest.version} {key}: {shapes}; threads {arguments.threads}")
    print(f"{arguments.runs} calls of each, {arguments.pause_ms:g} ms apart; load average {os.getloadavg()[0]:.1f}")
    failures = 0
    inside = LatencyHistogram()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    with EngineHost(path, model=arguments.model, threads=arguments.threads, cpu=arguments.cpu) as host:
        while not host.state.standby:
            time.sleep(0.05)

        def across(window: dict[str, Array]) -> None:
            nonlocal failures
            result = host.infer(window, budget_s=BUDGET_S)
            failures += result.failure is not None
            inside.record(result.run_ns)

        paths = {**_inside(bundle, arguments.model, arguments.threads, windows[0]), "EngineHost.infer": across}
        measured = _measure(paths, windows, arguments)
    _show({**measured, "  worker's run": inside})
    if failures:
        print(f"{failures} calls across the boundary failed")
    return 1 if failures else 0


def _inside(
    bundle: Bundle, key: str | None, threads: int, window: dict[str, Array]
) -> dict[str, Callable[..., object]]:
    model = bundle.model_bytes(key)
    raw = ort.InferenceSession(model, session_options(threads), providers=["CPUExecutionProvider"])
    buffers = Buffers.private(bundle.manifest)
    buffers.fill(window)
    bound = load(model, buffers.inputs, buffers.outputs, threads=threads)
    engine = Engine.load(bundle, key, threads=threads)
    return {
        "session.run": lambda window: raw.run(None, {name: array[None] for name, array in window.items()}),
        "io-bound": lambda window: bound.run(),  # noqa: ARG005
        "Engine.infer": engine.infer,
    }


def _measure(
    paths: dict[str, Callable[..., object]], windows: list[dict[str, Array]], arguments: argparse.Namespace
) -> dict[str, LatencyHistogram]:
    names = list(paths)
    measured = {name: LatencyHistogram() for name in names}
    order = np.random.default_rng(0)
    for _ in range(max(1, arguments.runs // arguments.block)):
        for index in order.permutation(len(names)):
            call, histogram = paths[names[index]], measured[names[index]]
            for run in range(arguments.block):
                if arguments.pause_ms:
                    time.sleep(arguments.pause_ms / 1e3)
                window = windows[run % len(windows)]
                begin = time.perf_counter_ns()
                call(window)
                histogram.record(time.perf_counter_ns() - begin)
    return measured


def _show(measured: dict[str, LatencyHistogram]) -> None:
    raw = measured["session.run"].snapshot()
    print(f"{'µs':<17}{'p50':>9}{'p99':>10}{'p99.9':>10}{'max':>10}{'p50 over session.run':>24}")
    for name, histogram in measured.items():
        figures = histogram.snapshot()
        extra = f"{figures.p50_us - raw.p50_us:+.0f} µs  ×{figures.p50_us / raw.p50_us:.2f}"
        print(
            f"{name:<17}{figures.p50_us:>9.1f}{figures.p99_us:>10.1f}{figures.p999_us:>10.1f}{figures.max_us:>10.1f}"
            f"{extra:>24}"
        )


def _made() -> Path:
    from edgeward.testing.bundles import tiny_bundle

    path = Path(tempfile.mkdtemp(prefix="edgeward-bench-")) / "conv.ewb"
    path.write_bytes(tiny_bundle(network="conv", channels=12, samples=1000))
    return path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--model", help="model key (default: the manifest's)")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--block", type=int, default=20, help="calls of one path in a row")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", type=int, help="keep this process and the worker on one processor")
    parser.add_argument(
        "--pause-ms", type=float, default=0.0, help="idle time before each call (a bed's are 600 ms apart)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
