"""What a new bundle costs a ward that is being watched: ``python bench/swap.py [-n 50] [--beds 8 64] [--seconds 20]``.

"Takeover and return": a rim with a real assessment process that scores eight beds by the shipped sepsis bundle. Each
round starts a candidate (the same model under another version), waits until it runs in the shadow, puts it in charge
and returns. The clock starts when the updater's thread asks. "told": until the rim has heard that the other bundle is
in charge; "scored": until a bed has an accepted score of its version, beds being scored every second in turn. "the
pause": how long the process is busy with the change itself, in which it can make no score, in this process.

"Shadow": the assessment in this process with engines of its own, at its usual pace of ten ticks a second, in turns
without and with a candidate in the shadow, so that whatever else the machine does falls on both. Beds are scored
``--faster`` times as often as at a bedside. "a score" is the whole tick of one due stay: window, engine, reading,
messages; "the shadow's part": what the candidate takes of the same thread for each score.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.assess import sepsis
from edgeward.bedside.assess.core import Assessor
from edgeward.bedside.assess.engines import Engines
from edgeward.bedside.assess.model import Model, read_model
from edgeward.bedside.assess.task import Task
from edgeward.bedside.assign import Beds
from edgeward.bedside.audit import Audit
from edgeward.bedside.charge.warm import WarmEngine
from edgeward.bedside.fallback import Mode
from edgeward.bedside.feed import Admitted, Measured, TaskSettings
from edgeward.bedside.lives import Lives
from edgeward.bedside.side import SideProcess
from edgeward.bedside.slot import Slot
from edgeward.bedside.source.reading import PatientRef, Reading
from edgeward.bedside.system import SystemClock
from edgeward.bedside.ward import ASSESS, THRESHOLDS, Ward
from edgeward.bundle.archive import read_bundle, write_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.inference.host import EngineHost
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.side import LocalSide

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.assess.port import Plan
    from edgeward.bedside.assess.shadow import Candidate

S = 1_000_000_000
TASK = "sepsis-risk"
WELL = {Kind.HR: 80.0, Kind.SPO2: 97.0, Kind.RR: 16.0, Kind.ABP_SYS: 120.0, Kind.ABP_MEAN: 85.0, Kind.TEMP: 37.0}
BEDS = 8
OFTEN_S = 1.0
TICK_S = 0.1
PATIENT_MS = 190.0
"""The bundles' deadline here: at the shipped one other jobs of the machine would cost engines all the time."""
PATCH = """\
import sys

if "edgeward.bedside.assess.process" in sys.orig_argv:
    from edgeward.bedside.assess import sepsis

    sepsis.SepsisPlan.__init__.__defaults__ = tuple(
        {period_ns} if value == sepsis.PERIOD_NS else value for value in sepsis.SepsisPlan.__init__.__defaults__
    )
"""


def bundles(folder: Path) -> tuple[Slot, Slot]:
    """The shipped bundle, and the same under another version."""
    slots = []
    for key, version in (("a", "1.0.0"), ("b", "1.0.1")):
        bundle = read_bundle(shipped_bundle(TASK).read_bytes())
        raw = write_bundle(replace(bundle.manifest, version=version, deadline_ms=PATIENT_MS), bundle.members)
        file = folder / f"{key}.ewb"
        file.write_bytes(raw)
        slots.append(Slot(key, TASK, version, read_bundle(raw).sha256, len(raw), file))
    return slots[0], slots[1]


def numerics(now: int) -> tuple[Numeric, ...]:
    return tuple(Numeric(kind, value, now) for kind, value in WELL.items())


# --- takeover and return


class Quiet:
    """A process behind the rim that checks nothing: what is measured is the other one."""

    def take(self, message: Any, now_ns: int) -> list[Any]:  # noqa: ARG002
        """Nothing follows."""
        return []

    def tick(self, now_ns: int) -> list[Any]:  # noqa: ARG002
        """Nothing happens."""
        return []


class Rim:
    """The rim in a thread of its own, as a ward's loop turns it: at once when woken or told, else every 100 ms."""

    def __init__(self, folder: Path, old: Slot) -> None:
        clock = SystemClock()
        self.lives = Lives(clock, dwell_s=0.1)
        self.lives.add(TASK, old, None)
        self.live = self.lives.of(TASK)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.lives.wake = lambda: os.eventfd_write(self._bell, 1)
        self.assess = SideProcess(ASSESS, "edgeward.bedside.assess.process", self.lives.settings(), clock)
        self.audit = Audit(folder / "audit.jsonl", clock)
        sides = {THRESHOLDS: LocalSide(THRESHOLDS, Quiet, clock), ASSESS: self.assess}
        self.ward = Ward(Beds(), sides, [self], self.audit, clock, tasks=[TASK], updates=self.lives)
        self.scored: dict[str, list[int]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """When each version had a score."""
        if kind == "score" and data["outcome"] == "accepted":
            self.scored.setdefault(data["version"], []).append(time.monotonic_ns())

    def close(self) -> None:
        """End it."""
        self._stopping = True
        self._thread.join(10)
        self.assess.close()
        self.audit.close()

    def start(self) -> None:
        """Begin."""
        self.assess.start()
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.register(self.assess.fileno(), select.POLLIN)
        tick_ns = fed_ns = 0
        while not self._stopping:
            woken = {fd for fd, _ in poll.poll(10)}
            now = time.monotonic_ns()
            if self._bell in woken:
                os.eventfd_read(self._bell)
                self.ward.arrange()
            if self.assess.fileno() in woken:
                self.ward.hear(ASSESS)
            if now - fed_ns >= S:
                fed_ns = now
                for bed in range(BEDS):
                    who = PatientRef(frozenset({f"P{bed}"}))
                    self.ward.take(Reading("hl7", f"ICU^^{bed}", "gw", now, who, numerics(now), None))
            if now - tick_ns >= TICK_S * S:
                tick_ns = now
                self.ward.tick()


def wait(what: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError("it did not come about")
        time.sleep(0.0002)


def takeovers(times: int) -> None:
    """A row for each figure."""
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old, new = bundles(folder)
        (folder / "sitecustomize.py").write_text(PATCH.format(period_ns=round(OFTEN_S * S)))
        source = Path(sepsis.__file__).resolve().parents[3]
        os.environ["PYTHONPATH"] = os.pathsep.join([name, str(source), os.environ.get("PYTHONPATH", "")])
        rim = Rim(folder, old)
        rim.start()
        live = rim.live
        wait(lambda: rim.scored.get("1.0.0"))
        for _ in range(times):
            live.begin_shadow(new)
            wait(lambda: live.shadow().windows >= 3 and live.safe())
            for words, call, other in (
                ("takeover", lambda: live.activate(new), new),
                ("return", live.go_back, old),
            ):
                rim.scored.clear()
                begin = time.monotonic_ns()
                call()
                wait(lambda other=other: live.serving().sha256 == other.sha256)
                told = time.monotonic_ns()
                wait(lambda other=other: rim.scored.get(other.version))
                took.setdefault(f"{words}, told", []).append((told - begin) / 1e6)
                took.setdefault(f"{words}, scored", []).append((rim.scored[other.version][0] - begin) / 1e6)
        rim.close()
        took |= pauses(old, new, times)
    print(f"\n{times} of each; load average {os.getloadavg()[0]:.1f}\n\n| ms | p50 | p99 | max |\n|---|---|---|---|")
    for words, values in took.items():
        print(f"| {words} | {np.median(values):.1f} | {np.percentile(values, 99):.1f} | {max(values):.1f} |")


def pauses(old: Slot, new: Slot, times: int) -> dict[str, list[float]]:
    """How long the change itself keeps the assessment's thread, with 64 beds."""
    driven = Driven(old, new, 64, 1.0)
    took: dict[str, list[float]] = {"takeover, the pause": [], "return, the pause": []}
    try:
        for _ in range(times):
            driven.want(shadow=True)
            driven.until(lambda: driven.candidate is not None and driven.candidate.windows > 0)
            for words, want in (("takeover, the pause", driven.take_over), ("return, the pause", driven.go_back)):
                begin = time.perf_counter_ns()
                while not want():
                    driven.step()
                    begin = time.perf_counter_ns()
                took[words].append((time.perf_counter_ns() - begin) / 1e6)
    finally:
        driven.task.close()
    return took


# --- the shadow's cost


class Driven:
    """One task with ``beds`` stays, in this process, with engines of its own; beds are scored ``faster`` than usual."""

    def __init__(self, old: Slot, new: Slot, beds: int, faster: float) -> None:
        self.old, self.new = old, new
        self._period_ns = round(sepsis.PERIOD_NS / faster)
        self._turn = 0
        current = self._model(read_model(TASK, str(old.path), old.sha256))
        engine = EngineHost(old.path)
        engine.start()
        current = replace(current, engine=engine)
        core = Assessor(current.plan, version=current.version, now_ns=time.monotonic_ns())
        engines = Engines(core, {Mode.LOCAL: engine})
        self.task = Task(core, engines, current, warm=self._warm)
        now = time.monotonic_ns()
        for stay in range(beds):
            self.task.take(Admitted(stay, f"Bed {stay}", now), now)
        self._beds, self._fed_ns = beds, 0
        self.scores: list[float] = []
        self.shadow: list[float] = []
        self.made = 0

    def _model(self, model: Model) -> Model:
        assert isinstance(model.plan, sepsis.SepsisPlan)
        return replace(model, plan=replace(model.plan, period_ns=self._period_ns))

    @property
    def candidate(self) -> Candidate | None:
        """The one in the shadow."""
        return self.task.charge.candidate

    def _warm(self, name: str, sha256: str) -> WarmEngine[Plan]:
        return WarmEngine(lambda: read_model(TASK, name, sha256), name)

    def want(self, *, shadow: bool) -> None:
        """The old bundle in charge, the new one in its shadow or not."""
        self._tell(self.old, self.new if shadow else None)

    def take_over(self) -> bool:
        """Whether the new one is in charge after it was told to be."""
        self._tell(self.new, None)
        return self.task.charge.current.sha256 == self.new.sha256

    def go_back(self) -> bool:
        """Whether the old one is."""
        self._tell(self.old, None)
        return self.task.charge.current.sha256 == self.old.sha256

    def _tell(self, charge: Slot, shadow: Slot | None) -> None:
        self._turn += 1
        beside = ("", "") if shadow is None else (str(shadow.path), shadow.sha256)
        told = TaskSettings(TASK, str(charge.path), charge.sha256, "", "", *beside, turn=self._turn)
        self.task.take(told, time.monotonic_ns())

    def step(self) -> None:
        """A turn of the process's loop."""
        now = time.monotonic_ns()
        if now - self._fed_ns >= S:
            self._fed_ns = now
            for stay in range(self._beds):
                self.task.take(Measured(stay, numerics(now)), now)
        begin = time.perf_counter_ns()
        told = sum(kind == "score" for kind, _ in self.task.tick(now))
        ticked = time.perf_counter_ns()
        self.task.afterwards(self.task.core.due_ns(), time.monotonic_ns())
        done = time.perf_counter_ns()
        if told:
            self.scores.append((ticked - begin) / told / 1e3)
        self.made += told
        self.shadow.append((done - ticked) / 1e3)
        time.sleep(max(0.0, TICK_S - (time.monotonic_ns() - now) / 1e9))

    def until(self, what: Callable[[], Any], seconds: float = 60.0) -> None:
        """Step until ``what``."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise TimeoutError("it did not come about")
            self.step()

    def run(self, seconds: float) -> tuple[list[float], float]:
        """Microseconds of each score, and of the shadow's part for each score."""
        self.scores, self.shadow, self.made = [], [], 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()
        return self.scores, sum(self.shadow) / max(1, self.made)


def shadow_cost(beds: int, seconds: float, rounds: int, faster: float) -> None:
    """A row: without and with a candidate in the shadow, in turns."""
    with tempfile.TemporaryDirectory() as name:
        old, new = bundles(Path(name))
        driven = Driven(old, new, beds, faster)
        alone: list[float] = []
        beside: list[float] = []
        parts: tuple[list[float], list[float]] = ([], [])
        windows = skipped = 0
        budget_us = read_bundle(shipped_bundle(TASK).read_bytes()).manifest.deadline_ms * 1000.0
        try:
            for _ in range(rounds):
                scores, part = driven.run(seconds)
                alone += scores
                parts[0].append(part)
                driven.want(shadow=True)
                driven.until(lambda: driven.candidate is not None and driven.candidate.windows > 0)
                scores, part = driven.run(seconds)
                beside += scores
                parts[1].append(part)
                if driven.candidate is not None:
                    windows += driven.candidate.windows
                    skipped += driven.candidate.skipped
                driven.want(shadow=False)
        finally:
            with contextlib.suppress(Exception):
                driven.task.close()
    p50, p99 = (np.percentile(beside, q) / np.percentile(alone, q) for q in (50, 99))
    part = float(np.mean(parts[1]) - np.mean(parts[0]))
    print(
        f"| {beds} | {len(alone)}, {len(beside)} | {np.median(alone):.0f}, {np.percentile(alone, 99):.0f} "
        f"| {np.median(beside):.0f}, {np.percentile(beside, 99):.0f} | {p50:.2f}, {p99:.2f} "
        f"| {part:.0f} | {100 * part / budget_us:.2f} | {windows}, {skipped} |",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=50, help="takeovers and returns; 0: none")
    parser.add_argument("--beds", type=int, nargs="*", default=[8, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn with and without a shadow")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--faster", type=float, default=4.0)
    arguments = parser.parse_args()
    if arguments.beds:
        print("| beds | ticks with scores | a score alone, µs p50, p99 | with a shadow | ratio, p50, p99 ", end="")
        print("| the shadow's part, µs | of the budget, % | windows, skipped |")
        print("|---|---|---|---|---|---|---|---|")
    for beds in arguments.beds:
        shadow_cost(beds, arguments.seconds, arguments.rounds, arguments.faster)
    if arguments.n:
        takeovers(arguments.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
