"""Time from ``kill -9`` of the engine to the next good scores: ``python bench/restart.py [BUNDLE] [-n N]``.

The stream asks every 10 ms, as a device with several beds would; the clock starts right before the kill. "idle" kills
between two requests, "running" in the middle of one (the worker is stopped first, so that it certainly holds it).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import edgeward
from edgeward.bundle.archive import read_bundle
from edgeward.inference.backoff import BackoffPolicy
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost

if TYPE_CHECKING:
    from edgeward.inference.backend import Array

EVERY_S = 0.010
SHIPPED = Path(edgeward.__file__).parent / "bundle" / "shipped" / "ecg-beat.ewb"
BUDGET_S = 0.050


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("-n", type=int, default=20, help="kills of each kind")
    arguments = parser.parse_args()
    path = arguments.bundle or (SHIPPED if SHIPPED.exists() else _made())
    vectors = read_golden(read_bundle(path.read_bytes()))
    window = {name: array[0] for name, array in vectors.inputs.items()}
    print(f"{arguments.n} kills of each kind; load average {os.getloadavg()[0]:.1f}")
    print(f"{'kill -9 → scores':<28}{'p50 ms':>10}{'max ms':>10}{'windows lost, p50':>20}")
    for standby in (True, False):
        with EngineHost(path, standby=standby, backoff=BackoffPolicy(free=1_000_000)) as host:
            for running in (False, True):
                took, lost = zip(*(_one(host, window, standby, running) for _ in range(arguments.n)), strict=True)
                name = f"{'with' if standby else 'without'} standby, {'running' if running else 'idle'}"
                print(f"{name:<28}{np.median(took):>10.1f}{max(took):>10.1f}{np.median(lost):>20.0f}")
    return 0


def _one(host: EngineHost, window: dict[str, Array], standby: bool, running: bool) -> tuple[float, int]:
    while not host.ready or (standby and not host.state.standby):
        time.sleep(0.01)
    pid = host.worker_pid or 0
    lost = 0
    if running:
        os.kill(pid, signal.SIGSTOP)
        killed_ns = [0]

        def kill() -> None:
            killed_ns[0] = time.perf_counter_ns()
            os.kill(pid, signal.SIGKILL)

        killer = threading.Timer(0.01, kill)
        killer.start()
        lost += host.infer(window, budget_s=1.0).failure is not None
        killer.join()
        begin = killed_ns[0]
    else:
        begin = time.perf_counter_ns()
        os.kill(pid, signal.SIGKILL)
    while host.infer(window, budget_s=BUDGET_S).failure is not None:
        lost += 1
        time.sleep(EVERY_S)
    return (time.perf_counter_ns() - begin) / 1e6, lost


def _made() -> Path:
    from edgeward.testing.bundles import tiny_bundle

    path = Path(tempfile.mkdtemp(prefix="edgeward-bench-")) / "conv.ewb"
    path.write_bytes(tiny_bundle(network="conv", channels=12, samples=1000))
    return path


if __name__ == "__main__":
    sys.exit(main())
