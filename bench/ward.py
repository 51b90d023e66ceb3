"""What a ward costs on one core, and how soon people see that something of it has failed.

    python bench/ward.py [--beds 1 16 64] [--seconds 60] [-n 3] [--core 1] [--shipped]

Everything is ``edgeward ward run`` as a site runs it, fed over MLLP with ten vital signs per bed and second, with the
toy bundle of ``edgeward.testing.toy`` in its own engine: what is measured is the ward, not a model; with ``--shipped``,
the load alone, with the shipped bundles of sepsis risk and hypotension and an hour of each patient's past. "Load" pins
the ward with all of its processes to ``--core`` and lets it score every bed every 15 s. "Faults" scores every bed every
0.25 s, so that waiting for the next score hides little, and harms the ward ``-n`` times in each way. A notice's time
runs from just before the harm (for output that is corrupt or late: from when the monitor shows the heart rate that
brings it about, which it sends within 0.1 s) until the message stands on the ward's output. "Idle" is an engine that
hangs right after a score while the beds are scored every 15 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.assess.core import Ask, Assessor
from edgeward.bedside.fallback import Mode
from edgeward.bedside.feed import Admitted, Measured
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.ward import ASSESS, THRESHOLDS
from edgeward.cli.shipped import shipped_bundle
from edgeward.inference.host import EngineHost
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.assess import ToyPlan
from edgeward.testing.gateway import SimulatedBed
from edgeward.testing.toy import CORRUPT_HR, LATE_HR, TASK, toy_bundle
from edgeward.testing.ward_process import Monitors, Steady, WardProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = 1_000_000_000
SETTINGS = '[ward]\ntasks = ["sepsis-risk"]\ndwell_s = 0.5\n'
PERIOD_S = 15.0
OFTEN_S = 0.25
FAULT_BEDS = 16
SHIPPED = ("sepsis-risk", "hypotension")
HOUR_S = 3600.0
WELL = {
    "hr": 80.0, "pulse": 80.0, "spo2": 97.0, "rr": 14.0, "abp_sys": 120.0, "abp_dia": 70.0, "abp_mean": 85.0,
    "temp": 37.0, "etco2": 38.0, "cvp": 8.0,
}  # fmt: skip


def beds_of(count: int, past_s: float = 0.0) -> list[SimulatedBed]:
    return [
        SimulatedBed(f"ICU^^{number + 1}", Steady(**WELL), f"P{number}", begin_s=past_s, past_s=past_s)
        for number in range(count)
    ]


def install_shipped(folder: Path) -> None:
    """Put the shipped bundles of a ward into the slots that it will find."""
    for task in SHIPPED:
        with SlotStore(folder / "state" / "slots" / task) as slots:
            slots.commit(slots.stage(shipped_bundle(task)))


# --- load


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found, parents = [pid], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_s(pid: int) -> float:
    """Seconds of processor time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def role(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    for mark, name in (("thresholds.process", "thresholds"), ("assess.process", "assessment"), ("worker", "engines")):
        if mark in line:
            return name
    return "rim"


def load(count: int, seconds: float, core: int, *, shipped: bool) -> None:
    """One row: what ``count`` beds cost."""
    others = set(range(os.cpu_count() or 1)) - {core} or {core}
    os.sched_setaffinity(0, {core})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if shipped:
            install_shipped(folder)
            ward = stack.enter_context(
                WardProcess(folder, f"[ward]\ntasks = {list(SHIPPED)}\ndwell_s = 0.5\n", ahead=False)
            )
        else:
            ward = stack.enter_context(WardProcess(folder, SETTINGS, toy_period_s=PERIOD_S, ahead=False))
        os.sched_setaffinity(0, others)
        stack.enter_context(Monitors(beds_of(count, HOUR_S if shipped else 0.0), ward.hl7_port))
        for task in SHIPPED if shipped else (TASK,):
            ward.wait("score", lambda m, task=task: m["outcome"] == "accepted" and m["task"] == task, seconds=240)
        time.sleep(2 * PERIOD_S)
        pids = tree(ward.process.pid)
        before, since, began = {pid: cpu_s(pid) for pid in pids}, len(ward.heard), time.monotonic()
        time.sleep(seconds)
        wall = time.monotonic() - began
        shares: dict[str, float] = {}
        for pid in pids:
            shares[role(pid)] = shares.get(role(pid), 0.0) + (cpu_s(pid) - before[pid]) / wall * 100
        said = ward.heard[since:]
    at: dict[str, list[int]] = {}
    lost = 0
    for when, message in said:
        if message["kind"] == "score":
            at.setdefault(message["bed"] + message["task"], []).append(when)
            lost += message["outcome"] != "accepted"
    gaps = np.concatenate([np.diff(times) / 1e9 for times in at.values()]) if at else np.zeros(1)
    parts = " | ".join(f"{shares.get(name, 0.0):.1f}" for name in ("rim", "thresholds", "assessment", "engines"))
    total = sum(shares.values())
    scores = sum(map(len, at.values()))
    late = float(np.abs(gaps - PERIOD_S).max()) * 1000
    print(f"| {count} | {scores} | {lost} | {late:.0f} | {parts} | **{total:.1f}** |", flush=True)


def score_cost(core: int) -> None:
    """Microseconds of one score in the assessment process: window, the way to the engine and back, messages."""
    os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "toy.ewb"
        file.write_bytes(toy_bundle())
        plan = ToyPlan(TASK)
        assessor = Assessor(plan)
        stays = 64
        for stay in range(stays):
            assessor.take(Admitted(stay, f"Bed {stay}", 0), 0)
        now, spent = 0, []
        with EngineHost(file) as engine:
            while not engine.state.standby:
                time.sleep(0.05)
            for _ in range(40):
                for stay in range(stays):
                    assessor.take(Measured(stay, (Numeric(Kind.HR, 80.0, now),)), now)
                for _ in range(150):
                    now += S // 10
                    begin = time.perf_counter_ns()
                    asks = [effect for effect in assessor.tick(now) if isinstance(effect, Ask)]
                    for ask in asks:
                        scores = engine.infer(dict(ask.inputs), budget_s=0.2).scores
                        assessor.answered(ask.sequence, None if scores is None else scores.reshape(-1), None, now)
                    if asks:
                        spent.append((time.perf_counter_ns() - begin) / len(asks) / 1000)
        assert assessor.ladder.serving is Mode.LOCAL
    print(f"\none score of one bed: {np.median(spent):.0f} µs p50, {np.percentile(spent, 99):.0f} µs p99\n")


# --- faults


def faults(times: int) -> None:
    """A row for each way to fail, each in a ward of its own: replacements are started ever later."""
    kill, stop = signal.SIGKILL, signal.SIGSTOP
    ways: list[tuple[str, str, int, float]] = [
        ("the engine is killed", "engine", kill, 0.0),
        ("the engine hangs", "engine", stop, 0.0),
        ("its output is corrupt", "", 0, CORRUPT_HR),
        ("its output is late", "", 0, LATE_HR),
        ("the assessment is killed", ASSESS, kill, 0.0),
        ("the assessment hangs", ASSESS, stop, 0.0),
        ("the thresholds are killed", THRESHOLDS, kill, 0.0),
        ("the thresholds hang", THRESHOLDS, stop, 0.0),
    ]
    print("| | noticed after ms, p50 | max | whole again after s, p50 |\n|---|---|---|---|")
    for words, name, number, rate in ways:
        beds = beds_of(FAULT_BEDS)
        with standing(beds) as ward:
            noticed, restored = [], []
            for _ in range(times):
                since, began = len(ward.heard), time.monotonic_ns()
                if rate:
                    show(beds[0], rate)
                else:
                    os.kill(ward.pid(name), number)
                seen, again = story(ward, name, since, lambda beds=beds: show(beds[0], WELL["hr"]))
                noticed.append((ward.heard[seen][0] - began) / 1e6)
                restored.append((ward.heard[again][0] - began) / 1e9)
                time.sleep(3.0)  # a standby stands by again
            fault_row(words, noticed, restored)
    idle(times)
    beds = beds_of(FAULT_BEDS)
    with standing(beds) as ward:
        no_input(ward, beds)


def fault_row(words: str, noticed_ms: list[float], whole_s: list[float]) -> None:
    row = f"| {words} | {np.median(noticed_ms):.0f} | {max(noticed_ms):.0f} | {np.median(whole_s):.1f} |"
    print(row, flush=True)


def idle(times: int) -> None:
    """The engine hangs while nobody asks it for seconds to come."""
    with standing(beds_of(3), PERIOD_S) as ward:
        noticed, restored = [], []
        for _ in range(times):
            since = len(ward.heard)
            since = ward.wait("score", lambda m: m["outcome"] == "accepted", since, 60)
            began = time.monotonic_ns()
            os.kill(ward.pid("engine"), signal.SIGSTOP)
            seen, again = story(ward, "engine", since, lambda: None)
            noticed.append((ward.heard[seen][0] - began) / 1e6)
            restored.append((ward.heard[again][0] - began) / 1e9)
        fault_row("the engine hangs, idle", noticed, restored)


@contextmanager
def standing(beds: list[SimulatedBed], period_s: float = OFTEN_S) -> Iterator[WardProcess]:
    """A ward whose beds all have scores."""
    with (
        tempfile.TemporaryDirectory() as folder,
        WardProcess(Path(folder), SETTINGS, toy_period_s=period_s, ahead=False) as ward,
        Monitors(beds, ward.hl7_port, period_s=0.1),
    ):
        ward.wait("score", lambda m: m["outcome"] == "accepted", seconds=60)
        time.sleep(3.0)
        yield ward


def show(bed: SimulatedBed, rate: float) -> None:
    """A bed's monitor shows another heart rate from now on."""
    assert isinstance(bed.player, Steady)
    bed.player.values[Kind.HR] = rate


def story(ward: WardProcess, name: str, since: int, mend: Callable[[], None]) -> tuple[int, int]:
    """Which messages told of a fault, and that it is over."""
    if name == THRESHOLDS:
        seen = ward.wait("process", lambda m: m["name"] == name and m["what"] != "back", since, 60)
        return seen, ward.wait("process", lambda m: m["name"] == name and m["what"] == "back", seen, 60)
    seen = ward.wait("mode", lambda m: m["mode"] == "THRESHOLD_ONLY" and m["bed"] == "ICU 1", since, 60)
    mend()
    return seen, ward.wait("mode", lambda m: m["mode"] == "LOCAL" and m["bed"] == "ICU 1", seen, 60)


def no_input(ward: WardProcess, beds: list[SimulatedBed]) -> None:
    """The monitors of all beds fall silent, their connection stays."""
    since, began = len(ward.heard), time.monotonic_ns()
    for bed in beds:
        assert isinstance(bed.player, Steady)
        bed.player.off = True

    def after_s(kind: str, when: Callable[[Any], bool]) -> float:
        found = ward.wait(kind, lambda m: m["bed"] == "ICU 1" and when(m), since, seconds=120)
        return (ward.heard[found][0] - began) / 1e9

    rows = {
        "the bed says that it is silent": after_s("bed", lambda m: (m["silent_ms"] or 0) > 2_000),
        "technical alert": after_s("alert", lambda m: m["cause"] == "technical" and m["active"]),
        "its heart rate is dashes": after_s("vitals", lambda m: m["values"].get("hr", {}).get("state") == "stale"),
        "NO_AI": after_s("mode", lambda m: m["mode"] == "NO_AI"),
    }
    print("\n| no input | after s |\n|---|---|")
    for words, seconds in rows.items():
        print(f"| {words} | {seconds:.1f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--shipped", action="store_true")
    arguments = parser.parse_args()
    cores = os.sched_getaffinity(0)
    if arguments.beds:
        print("| beds | scores | not accepted | most off, ms | rim, % | thresholds | assessment | engines | all |")
        print("|---|---|---|---|---|---|---|---|---|")
        for count in arguments.beds:
            load(count, arguments.seconds, arguments.core, shipped=arguments.shipped)
    if arguments.shipped:
        return 0
    if arguments.beds:
        score_cost(arguments.core)
    os.sched_setaffinity(0, cores)
    faults(arguments.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
