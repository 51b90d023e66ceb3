"""What the hypotension model costs a device per stay: update, window, memory, its engine on 1 and 2 threads.

``python bench/forecast.py [BUNDLE] [RUNS]``. Engines are timed by turns in one run, so that all meet the same load.
Runs during which the kernel gave the processor to other work are counted and left out of the percentiles beside
"undisturbed".
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from edgeward.bundle.archive import read_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.inference.engine import Engine
from edgeward.inference.golden import read_golden
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.vitals_grid import MINUTE_NS, Grid
from edgeward.workshop.device_gates import latency_facts, time_engines

KINDS = {Kind.HR: 80.0, Kind.RR: 16.0, Kind.ABP_SYS: 118.0, Kind.ABP_DIA: 58.0, Kind.ABP_MEAN: 78.0, Kind.SPO2: 97.0}
SECONDS = 5


def stay(hours: float) -> Grid:
    """A stay of ``hours`` with numerics each five seconds."""
    grid = Grid(70.0)
    rng = np.random.default_rng(0)
    for second in range(0, round(hours * 3600), SECONDS):
        for kind, value in KINDS.items():
            grid.update(Numeric(kind, value + float(rng.normal()), second * 1_000_000_000))
    return grid


def timed(act: object, runs: int) -> tuple[float, float]:
    """p50 and p99 in microseconds."""
    took = np.empty(runs)
    for run in range(runs):
        start = time.perf_counter_ns()
        act(run)  # type: ignore[operator]
        took[run] = (time.perf_counter_ns() - start) / 1e3
    return float(np.percentile(took, 50)), float(np.percentile(took, 99))


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_bundle("hypotension")
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    print("grid, µs p50 / p99")
    for hours in (1, 6, 24):
        grid, now = stay(hours), round(hours * 60) * MINUTE_NS
        numerics = [Numeric(kind, value, now + k) for k in range(500) for kind, value in KINDS.items()]
        update = timed(lambda run, g=grid, n=numerics: g.update(n[run % len(n)]), runs)
        window = timed(lambda run, g=grid, t=now: g.window(t + run * 1000), runs)
        memory = timed(lambda _, g=grid: g.to_memory(), 100)
        kept = len(json.dumps(grid.to_memory(), separators=(",", ":")))
        print(
            f"  {hours:>2} h stay: update {update[0]:.1f} / {update[1]:.1f}, window {window[0]:.0f} / {window[1]:.0f}, "
            f"memory {memory[0]:.0f} ({kept} bytes of JSON)"
        )
    bundle = read_bundle(path.read_bytes())
    vectors = read_golden(bundle)
    inputs = {name: array[:1] for name, array in vectors.inputs.items()}
    names = [(spec.key, threads) for spec in bundle.manifest.models for threads in (1, 2)]
    engines = {f"{key} {threads}t": Engine.load(bundle, key, threads=threads) for key, threads in names}
    facts = latency_facts(time_engines(engines, inputs, runs))
    print(f"engine, ms, {runs} runs each by turns")
    for name, fact in facts.items():
        quiet, every = fact["undisturbed"], fact["all"]
        print(
            f"  {name}: undisturbed p50 {quiet['p50_us'] / 1e3:.2f} p95 {quiet['p95_us'] / 1e3:.2f} p99 "
            f"{quiet['p99_us'] / 1e3:.2f}; all p50 {every['p50_us'] / 1e3:.2f} p99 {every['p99_us'] / 1e3:.2f} "
            f"({fact['interrupted']} interrupted)"
        )
    print("  bytes: " + ", ".join(f"{s.key} {len(bundle.model_bytes(s.key))}" for s in bundle.manifest.models))


if __name__ == "__main__":
    main()
