"""An ECG bed takes another bundle while it is watched: what a shadow costs a beat, how long a takeover takes.

One bed in this process with the shipped bundle, real engines and a simulated heart at 250 Hz in blocks of 4 ms. In
turns without and with a candidate (the same model under another version) in its shadow, so that whatever else the
machine does falls on both; then takeovers and returns, each ordered at another moment. ``block``: how long the stream's
thread is kept by one block; ``beat``: last sample to scores, as the page shows it. Last, what cutting other windows
beside costs.

    python bench/ecg_swap.py [--seconds 120] [--swaps 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.bed_charge import BedCharge, start
from edgeward.bedside.charge.charge import SERVING
from edgeward.bedside.device import bed_of, quiet_interpreter, warm_up
from edgeward.bedside.effects import SamplesArrived, Scored, ScoreWindow
from edgeward.bedside.fallback import Climb
from edgeward.bedside.feed import TaskSettings
from edgeward.bedside.model import FAMILY, plan_of
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.source.simulator import SimulatorSource
from edgeward.bedside.stage_timer import NoTimer
from edgeward.bedside.system import SystemClock
from edgeward.bundle.archive import read_bundle, write_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.cli.sources import scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bedside.bed import Bed
    from edgeward.bedside.fallback import Ladder
    from edgeward.bedside.source.base import Block

TURN_S = 15.0
BEATS_OUT = 3
"""Beats after a turn's begin that are left out."""


@dataclass
class Heard:
    """What the bed told: latencies of beats, and which bundle is in charge."""

    beats: list[float] = field(default_factory=list)
    accepted_ns: list[int] = field(default_factory=list)
    serving: dict[str, Any] = field(default_factory=dict)
    serving_ns: int = 0
    withheld: int = 0

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Take one message."""
        if kind == "beat" and data["verdict"] == "accepted":
            self.beats.append(float(data["latency_us"]))
            self.accepted_ns.append(time.monotonic_ns())
        elif kind == "beat":
            self.withheld += 1
        elif kind == SERVING:
            self.serving, self.serving_ns = data, time.monotonic_ns()

    def close(self) -> None:
        """Nothing is held."""


class Driven:
    """One bed at work."""

    def __init__(self, files: tuple[Path, Path], seconds: float) -> None:
        self.clock = SystemClock()
        self.heard = Heard()
        self.files = [(str(file), read_bundle(file.read_bytes()).sha256) for file in files]
        self.turn = 0
        self.mail: TaskSettings | None = None
        told = TaskSettings(FAMILY, *self.files[0])
        climb = Climb(dwell_ns=1_000_000_000)
        self.charge = BedCharge(told, start(told, 1), self._due, self.heard.write, self.clock, climb)
        self.source = SimulatorSource(
            self.clock, rate_hz=250.0, scenario=scenario("normal", 60.0), duration_s=seconds, block_ms=4.0
        )
        self.blocks: Iterator[Block] = iter(self.source.blocks())
        info = self.source.info
        self.charge.warmed(lambda plan, rungs: warm_up(info, plan, rungs))

    def _due(self) -> TaskSettings | None:
        told, self.mail = self.mail, None
        return told

    def want(self, charge: int, *, shadow: bool = False, at_once: bool = False) -> None:
        """A bundle in charge, the other one in its shadow or not."""
        self.turn += 1
        name, sha256 = self.files[charge]
        beside = self.files[1 - charge] if shadow else ("", "")
        self.mail = TaskSettings(FAMILY, name, sha256, "", "", *beside, at_once, self.turn)

    def bed(self, ladder: Ladder) -> Bed:
        """The bed."""
        plan, rungs = self.charge.plan, self.charge.rungs
        made, _ = bed_of(
            self.source.info,
            plan,
            rungs,
            [self.heard],
            self.clock,
            climb=Climb(dwell_ns=1_000_000_000),
            ladder=ladder,
            charged=self.charge,
        )
        return made

    def step(self, bed: Bed) -> float:
        """One block: how long the stream's thread was kept, in µs."""
        block = next(self.blocks)
        began = time.perf_counter_ns()
        bed.block(block)
        return (time.perf_counter_ns() - began) / 1000.0

    def run(self, bed: Bed, seconds: float) -> list[float]:
        """Blocks for so long."""
        end = time.monotonic() + seconds
        took = []
        while time.monotonic() < end:
            took.append(self.step(bed))
        return took

    def until_serving(self, bed: Bed, charge: int) -> tuple[int, list[float]]:
        """Blocks until that bundle is in charge: when, and how long they took."""
        took = []
        while self.heard.serving.get("turn") != self.turn or self.heard.serving["sha256"] != self.files[charge][1]:
            took.append(self.step(bed))
        return self.heard.serving_ns, took


def row(words: str, values: list[float], unit: float = 1.0) -> None:
    """A line of the table."""
    scaled = np.asarray(values) / unit
    print(
        f"| {words} | {np.median(scaled):,.0f} | {np.percentile(scaled, 99):,.0f} | {scaled.max():,.0f} |", flush=True
    )


def compare(driven: Driven, bed: Bed, seconds: float) -> None:
    """Without and with a shadow, in turns."""
    beats: tuple[list[float], list[float]] = ([], [])
    blocks: tuple[list[float], list[float]] = ([], [])
    facts: dict[str, Any] = {}
    for turn in range(round(seconds / TURN_S)):
        beside = turn % 2
        driven.want(0, shadow=bool(beside))
        driven.run(bed, 3.0)  # the candidate's engine starts
        since = len(driven.heard.beats) + BEATS_OUT
        blocks[beside].extend(driven.run(bed, TURN_S))
        beats[beside].extend(driven.heard.beats[since:])
        if beside:
            facts = driven.heard.serving["shadow"]
    driven.want(0)
    driven.run(bed, 1.0)
    print("| µs | p50 | p99 | max |\n|---|---|---|---|")
    for words, pair in (("beat", beats), ("block", blocks)):
        row(f"{words}, alone ({len(pair[0])})", pair[0])
        row(f"{words}, with a shadow ({len(pair[1])})", pair[1])
    ratio = np.median(beats[1]) / np.median(beats[0])
    print(f"\nbeat with / without, medians: {ratio:.3f}; the last shadow: {facts}\n", flush=True)


def swap(driven: Driven, bed: Bed, times: int) -> None:
    """Takeovers out of a shadow, and returns."""
    waits: dict[str, list[float]] = {"takeover": [], "return": [], "return, to its first beat": []}
    kept: dict[str, list[float]] = {"takeover, the longest block": [], "return, the longest block": []}
    lost = driven.heard.withheld
    rng = np.random.default_rng(1)
    for _ in range(times):
        driven.want(0, shadow=True)
        driven.run(bed, 4.0 + rng.random())
        for charge, word, at_once in ((1, "takeover", False), (0, "return", True)):
            began = time.monotonic_ns()
            driven.want(charge, at_once=at_once)
            done, took = driven.until_serving(bed, charge)
            waits[word].append(done - began)
            kept[f"{word}, the longest block"].append(max(took))
            driven.run(bed, 1.5)
            if word == "return":
                waits["return, to its first beat"].append(
                    next(at for at in driven.heard.accepted_ns if at > done) - began
                )
    print("| ms from the order | p50 | p99 | max |\n|---|---|---|---|")
    for words, values in waits.items():
        row(words, values, 1e6)
    print("\n| µs | p50 | p99 | max |\n|---|---|---|---|")
    for words, values in kept.items():
        row(words, values)
    print(f"\nbeats without a class while {times} takeovers and returns happened: {driven.heard.withheld - lost}\n")


def other_windows(seconds: float) -> None:
    """What cutting the windows of another spec beside costs the pipeline, as a share of its own work."""
    plan = plan_of(read_bundle(shipped_bundle(FAMILY).read_bytes()))
    other = replace(plan.spec, before_s=0.7, after_s=0.5)
    clock = SystemClock()
    source = SimulatorSource(clock, rate_hz=250.0, scenario=[], duration_s=seconds, block_ms=4.0, speed=0.0)
    pipelines = []
    for beside in (None, other):
        made = EcgPipeline(source.info.leads, 250.0, plan.spec, plan.decision, deadline_ms=4.0, timer=NoTimer())
        made.see_as(beside)
        pipelines.append(made)
    spent = [0, 0]
    scores = np.full(5, 0.2, np.float32)
    for block in source.blocks():
        for which, one in enumerate(pipelines):
            began = time.perf_counter_ns()
            effects = one.step(SamplesArrived(block.samples, block.start, 0), 0)
            for effect in effects:
                if isinstance(effect, ScoreWindow):
                    one.step(Scored(effect.sequence, scores, None), 0)
            spent[which] += time.perf_counter_ns() - began
    print(f"pipeline with other windows cut beside / without: {spent[1] / spent[0]:.2f} ({seconds:.0f} s of ECG)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--swaps", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = (Path(name) / "a.ewb", Path(name) / "b.ewb")
        bundle = read_bundle(shipped_bundle(FAMILY).read_bytes())
        for file, version in zip(files, ("1.1.0", "1.1.1"), strict=True):
            file.write_bytes(write_bundle(replace(bundle.manifest, version=version), bundle.members))
        with quiet_interpreter(realtime=True) as granted:
            print(f"real-time priority {'granted' if granted else 'not granted'}\n")
            driven = Driven(files, 3_600.0)
            with driven.charge.at_work(), driven.charge.beside(driven.bed) as bed:
                compare(driven, bed, chosen.seconds)
                swap(driven, bed, chosen.swaps)
    other_windows(chosen.seconds)


if __name__ == "__main__":
    main()
