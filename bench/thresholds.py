"""What the threshold checks cost, how soon an alert is heard, and how soon they are back when their process is killed.

    python bench/thresholds.py [--beds 64] [--seconds 20] [-n 20] [--core 1]

"Cost" calls the pure core in place. "Load" runs the real process on one core with ``--beds`` stays of ten numerics a
second each, as a ward's rim feeds it; an alert's time runs from ``feed`` of the numeric that breaks a limit without a
delay (a cuff) to the alert's arrival in ``hear``. "Fault" kills (SIGKILL) and stops (SIGSTOP) the process under that
load: noticed is when ``check`` says so, back is when the next process has taken everything and told its alerts again.
The rim looks when its descriptor is readable and at least every 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgeward.bedside.feed import Admitted, Measured
from edgeward.bedside.side import PATIENCE, Place, SideProcess, What
from edgeward.bedside.system import SystemClock
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.process import MODULE
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.inference.backoff import BackoffPolicy
from edgeward.signal.numeric import Kind, Numeric

S = 1_000_000_000
WELL = {
    Kind.HR: 80.0,
    Kind.PULSE: 80.0,
    Kind.SPO2: 97.0,
    Kind.RR: 14.0,
    Kind.ABP_SYS: 120.0,
    Kind.ABP_DIA: 70.0,
    Kind.ABP_MEAN: 85.0,
    Kind.TEMP: 37.0,
    Kind.ETCO2: 38.0,
    Kind.CVP: 8.0,
}
LINE = (Kind.ABP_SYS, Kind.ABP_DIA, Kind.ABP_MEAN)
CUFF = (Kind.NIBP_SYS, Kind.NIBP_DIA, Kind.NIBP_MEAN)
LOOK_S = 0.05


def _numerics(at: int) -> tuple[Numeric, ...]:
    return tuple(Numeric(kind, value, at) for kind, value in WELL.items())


def cost() -> None:
    """Microseconds in the core, and bytes of a stay."""
    core = ThresholdCore(ThresholdSettings())
    core.take(Admitted(1, "bed", 0), 0)
    rounds = 20_000
    marks = [time.perf_counter()]
    for k in range(rounds):
        core.take(Measured(1, (Numeric(Kind.SPO2, 97.0, k * S // 10),)), k * S // 10)
    marks.append(time.perf_counter())
    at = rounds * S // 10
    for k in range(rounds // 10):
        core.take(Measured(1, _numerics(at + k * S)), at + k * S)
    marks.append(time.perf_counter())
    at += rounds // 10 * S
    for k in range(rounds):
        core.tick(at + k * S // 10)
    marks.append(time.perf_counter())
    single, ten, tick = (b - a for a, b in pairwise(marks))
    memory = next(
        data for kind, data in core.take(Measured(1, _numerics(at + 9000 * S)), at + 9000 * S) if kind == "memory"
    )
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    many = ThresholdCore(ThresholdSettings())
    for stay in range(64):
        many.take(Admitted(stay, "bed", 0), 0)
        many.take(Measured(stay, _numerics(S)), S)
    grown = (tracemalloc.get_traced_memory()[0] - before) / 64
    tracemalloc.stop()
    print(f"{'numeric, in a message of its own':<44}{single / rounds * 1e6:>10.1f} µs")
    print(f"{'numeric, ten to a message':<44}{ten / rounds * 1e6:>10.1f} µs")
    print(f"{'tick of a stay with ten kinds':<44}{tick / rounds * 1e6:>10.1f} µs")
    print(f"{'stay with ten kinds':<44}{grown / 1024:>10.1f} KiB")
    print(f"{'its memory as a line':<44}{len(json.dumps(memory)) / 1024:>10.1f} KiB")


class Ward:
    """A rim's loop around the real process: ``beds`` stays, each fed once a second, spread over the second."""

    def __init__(self, beds: int, backoff: BackoffPolicy = PATIENCE) -> None:
        self.beds = beds
        self.clock = SystemClock()
        settings = ThresholdSettings().to_json()
        self.side = SideProcess("thresholds", MODULE, settings, self.clock, place=Place(), backoff=backoff)
        self.side.start()
        now = self.clock.monotonic_ns()
        for stay in range(beds):
            self.side.feed(Admitted(stay, f"bed {stay}", now))
        self._next = now
        self._turn = 0
        self.broken: dict[int, int] = {}
        self.latencies_us: list[float] = []
        self.happened: list[tuple[What, int]] = []
        self.alerts = 0

    def run(self, seconds: float, *, until: What | None = None) -> None:
        """Feed and hear for ``seconds``, or until something happens to the process."""
        end = self.clock.monotonic_ns() + round(seconds * S)
        poll = select.poll()
        poll.register(self.side.fileno(), select.POLLIN)
        while (now := self.clock.monotonic_ns()) < end:
            while now >= self._next:
                self._feed(now)
            wait_s = min(LOOK_S, max(0.0, (self._next - now) / S))
            poll.poll(round(wait_s * 1000))
            for kind, data in self.side.hear():
                self._heard(kind, data)
            for happening in self.side.check(self.clock.monotonic_ns()):
                self.happened.append((happening.what, happening.at_ns))
                if happening.what is until:
                    return

    def _feed(self, now: int) -> None:
        stay = self._turn % self.beds
        self._turn += 1
        self._next += S // self.beds
        numerics = _numerics(now)
        if stay % 4 == 0:  # one bed in four has a cuff instead of a line, and a shock in every second round
            shock = (self._turn // self.beds) % 2 == 1
            numerics = tuple(n for n in numerics if n.kind not in LINE)
            numerics += tuple(Numeric(kind, 40.0 if shock else 85.0, now) for kind in CUFF)
            if shock:
                self.broken[stay] = self.clock.monotonic_ns()
        self.side.feed(Measured(stay, numerics))

    def _heard(self, kind: str, data: dict) -> None:
        if kind != "alert":
            return
        self.alerts += 1
        if data["active"] and data["code"] == "mean-extreme-low" and data["stay"] in self.broken:
            self.latencies_us.append((self.clock.monotonic_ns() - self.broken.pop(data["stay"])) / 1e3)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(beds: int, seconds: float) -> None:
    """The real process under a ward's load."""
    ward = Ward(beds)
    try:
        ward.run(10.0, until=What.BACK)
        ward.run(4.0)
        ward.latencies_us.clear()
        pid = ward.side.pid
        assert pid is not None
        before, began = _cpu_s(pid), time.monotonic()
        own = time.process_time()
        ward.run(seconds)
        busy = (_cpu_s(pid) - before) / (time.monotonic() - began)
        rim = (time.process_time() - own) / (time.monotonic() - began)
        rss_kib = int(
            next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")).split()[1]
        )
        p50, p99, top = np.percentile(ward.latencies_us, [50, 99, 100])
        print(f"{beds} beds × 10 numerics/s, {seconds:g} s, one core")
        print(
            f"  the process: busy {100 * busy:.1f} %, {rss_kib / 1024:.0f} MiB; the rim's end: busy {100 * rim:.1f} %"
        )
        print(f"  numeric fed → alert heard: p50 {p50:.0f}, p99 {p99:.0f}, max {top:.0f} µs ({len(ward.latencies_us)})")
        assert [what for what, _ in ward.happened] == [What.BACK]
    finally:
        ward.side.close()


def fault(beds: int, times: int) -> None:
    """Kill and stop it, again and again."""
    for number, name in ((signal.SIGKILL, "SIGKILL"), (signal.SIGSTOP, "SIGSTOP")):
        ward = Ward(beds, BackoffPolicy(free=1_000_000))
        noticed, back = [], []
        try:
            ward.run(10.0, until=What.BACK)
            for _ in range(times):
                ward.run(2.2)
                assert ward.side.pid is not None
                mark = ward.clock.monotonic_ns()
                os.kill(ward.side.pid, number)
                ward.happened.clear()
                ward.run(10.0, until=What.BACK)
                noticed.append((ward.happened[0][1] - mark) / 1e6)
                back.append((ward.happened[-1][1] - mark) / 1e6)
        finally:
            ward.side.close()
        print(
            f"{name}, {times} times: noticed p50 {np.median(noticed):.0f}, max {max(noticed):.0f} ms; "
            f"alerts again p50 {np.median(back):.0f}, max {max(back):.0f} ms"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beds", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("-n", type=int, default=20, help="faults of each kind")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})  # the process inherits it
    print(f"core {arguments.core}; load average {os.getloadavg()[0]:.1f}")
    cost()
    load(arguments.beds, arguments.seconds)
    fault(arguments.beds, arguments.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
