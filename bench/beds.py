"""How many 12-lead beds one core sustains without a late window, and what each stage costs.

Every bed is a simulated 12-lead ECG at 250 Hz (3,000 samples/s) in blocks of 40 ms. Blocks fall due at fixed instants,
spread over the beds; a window's latency counts from the instant its last block fell due, so waiting behind other beds
counts too. Pipeline and engine process share one core (``--core``). Run it on a machine with nothing else to do.

    python bench/beds.py [--beds 1 8 16 24 32] [--seconds 30] [--core 1] [--bundle FILE]
"""

from __future__ import annotations

import argparse
import heapq
import os
import time
from pathlib import Path

import numpy as np

from edgeward.bedside.bed import Bed, Rung
from edgeward.bedside.device import quiet_interpreter
from edgeward.bedside.fallback import Mode
from edgeward.bedside.health import STAGES, StageLatency
from edgeward.bedside.model import plan_of
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.source.base import Block
from edgeward.bedside.source.simulator import SimulatorSource
from edgeward.bedside.system import SystemClock
from edgeward.bundle.archive import read_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.cli.sources import scenario
from edgeward.inference.host import EngineHost

RATE_HZ = 250
BLOCK = 10
BLOCK_NS = 1_000_000_000 * BLOCK // RATE_HZ
WARM_S = 5


def recordings(count: int, seconds: int) -> list[np.ndarray]:
    """``count`` simulated 12-lead ECGs (12, n) with ectopic beats, made beforehand: the monitor's work is not ours."""
    made = []
    for seed in range(count):
        source = SimulatorSource(
            SystemClock(), rate_hz=RATE_HZ, seed=seed, scenario=scenario("ectopy", 60.0), duration_s=seconds, speed=0.0
        )
        made.append(np.concatenate([block.samples for block in source.blocks()], axis=1))
    return made


def measure(beds: int, seconds: int, bundle: Path) -> tuple[StageLatency, dict[str, int], float]:
    """Run ``beds`` beds; gives the stage latencies of all of them, their verdict counts and the core's busy share."""
    clock = SystemClock()
    plan = plan_of(read_bundle(bundle.read_bytes()))
    waves = recordings(min(beds, 8), seconds)
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    latency = StageLatency(clock)
    with EngineHost(bundle) as host:
        while not host.state.standby:  # a standby that is still loading would be measured as a neighbour
            time.sleep(0.05)

        def bed() -> Bed:
            pipeline = EcgPipeline(
                leads, RATE_HZ, plan.spec, plan.decision, deadline_ms=plan.deadline_ms, timer=latency
            )
            rungs = {Mode.LOCAL: Rung(host, plan.decision)}
            return Bed(pipeline, rungs, [], clock, latency, budget_ms=plan.deadline_ms)

        running = [bed() for _ in range(beds)]
        began = clock.monotonic_ns() + 200_000_000
        due = [(began + BLOCK_NS * number // beds, number, 0) for number in range(beds)]
        heapq.heapify(due)
        busy_ns, warm = 0, False
        while due:
            at, number, start = heapq.heappop(due)
            now = clock.monotonic_ns()
            if now < at:
                time.sleep((at - now) / 1e9)
            if not warm and at - began > WARM_S * 1_000_000_000:
                warm = True  # the first seconds meet cold code; they are not measured
                latency.reset()
                busy_ns = 0
                for each in running:
                    each.counts.update(dict.fromkeys(each.counts, 0))
            mark = time.process_time_ns()
            wave = waves[number % len(waves)]
            running[number].block(Block(wave[:, start : start + BLOCK], start, at))
            busy_ns += time.process_time_ns() - mark
            if start + 2 * BLOCK <= wave.shape[1]:
                heapq.heappush(due, (at + BLOCK_NS, number, start + BLOCK))
        counts = {key: sum(each.counts[key] for each in running) for key in running[0].counts}
    return latency, counts, busy_ns / ((seconds - WARM_S) * 1e9)


def main() -> None:
    """Print one table per number of beds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", type=int, nargs="+", default=[1, 8, 16, 24, 32])
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--bundle", type=Path)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})  # the engine's processes inherit it
    bundle = arguments.bundle or shipped_bundle("ecg-beat")
    with quiet_interpreter(realtime=True) as granted:
        print(f"core {arguments.core}, real-time priority {'granted' if granted else 'not granted'}, {bundle.name}")
        for beds in arguments.beds:
            latency, counts, busy = measure(beds, arguments.seconds, bundle)
            late = latency.late
            print(f"\n{beds} beds: {counts['accepted']} accepted, {late} late, stream process busy {100 * busy:.0f} %")
            print(f"  {'stage':10}{'count':>9}{'p50 µs':>9}{'p99 µs':>9}{'p99.9 µs':>10}{'max µs':>9}")
            for stage in STAGES:
                s = latency.histogram(stage).snapshot()
                print(f"  {stage:10}{s.count:>9}{s.p50_us:>9.0f}{s.p99_us:>9.0f}{s.p999_us:>10.0f}{s.max_us:>9.0f}")


if __name__ == "__main__":
    main()
