"""A device under fire for ten minutes: engines killed and stopped at random, and not one block of the stream lost.

    python bench/soak.py [--seconds 600] [--bundle FILE] [--seed 1]

Checks at the end: every sample was taken, no block refused, windows accepted after the last fault, memory
bounded, no worker left.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from edgeward.bedside.bed import Rung
from edgeward.bedside.device import bed_of, quiet_interpreter
from edgeward.bedside.fallback import Climb, Mode
from edgeward.bedside.model import plan_of
from edgeward.bedside.source.simulator import SimulatorSource
from edgeward.bedside.system import SystemClock
from edgeward.bundle.archive import read_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.cli.sources import scenario
from edgeward.inference.host import EngineHost

_QUIET_S = 60.0  # longer than the longest wait before a worker that failed again and again is replaced


def main() -> int:
    """Run the soak; exit code 1 when a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    path = arguments.bundle or shipped_bundle("ecg-beat")
    rng = random.Random(arguments.seed)
    clock = SystemClock()
    source = SimulatorSource(
        clock, rate_hz=250.0, scenario=scenario("ectopy", 60.0), duration_s=arguments.seconds, block_ms=4.0
    )
    plan = plan_of(read_bundle(path.read_bytes()))
    with EngineHost(path) as host, quiet_interpreter(realtime=True):
        rungs = {Mode.LOCAL: Rung(host, plan.decision)}
        bed, latency = bed_of(source.info, plan, rungs, [], clock, climb=Climb(dwell_ns=5_000_000_000))
        next_fault = clock.monotonic_ns() + 5_000_000_000
        faults, samples, started_rss = 0, 0, 0
        accepted_then = 0
        for block in source.blocks():
            samples += block.samples.shape[1]
            bed.block(block)
            if not started_rss and samples > 250 * 30:
                started_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            quiet = samples > 250 * (arguments.seconds - _QUIET_S)  # the end shows whether it came back
            if not quiet:
                accepted_then = bed.counts["accepted"]
            if not quiet and clock.monotonic_ns() >= next_fault and host.worker_pid is not None:
                os.kill(host.worker_pid, rng.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV]))
                faults += 1
                next_fault = clock.monotonic_ns() + round(rng.uniform(2.0, 20.0) * 1e9)
        state = host.state
        pids = {host.worker_pid, host.standby_pid} - {None}
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started_rss
    total = latency.histogram("total").snapshot()
    verdicts = sum(bed.counts[key] for key in ("accepted", "withheld", "fallback"))
    print(f"{samples} samples, {verdicts} verdicts {bed.counts}, {faults} faults, {state.restarts} restarts")
    print(
        f"last sample to scores: p50 {total.p50_us:.0f}, p99 {total.p99_us:.0f}, max {total.max_us:.0f} µs; "
        f"late {latency.late}"
    )
    print(f"memory grew by {grown_kib} KiB after the first 30 s")
    time.sleep(0.5)
    checks = {
        "every sample was taken": samples >= 250 * arguments.seconds - 1,
        "no block was refused": bed.counts["refused_blocks"] == 0,
        "windows were accepted after the last fault": bed.counts["accepted"] > accepted_then,
        "no worker is left": not any(Path(f"/proc/{pid}").exists() for pid in pids),
        "memory is bounded": grown_kib < 64 * 1024,
    }
    for name, held in checks.items():
        print(("ok   " if held else "FAIL ") + name)
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
