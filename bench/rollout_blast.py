"""How far a bad model gets, and what rollouts cost: ``python bench/rollout_blast.py``.

Blast radius: fleets in which a share of the devices fails health, the default plan, many seeds; counted are devices
that were given the order. Length: simulated hours of a good rollout. Cost: one stage's opening and one check-in, pure.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fleet" / "rollout"))

from rollout_fleet import RELEASE, Fleet

from edgeward.exchange.words import UpdateState
from edgeward.fleet.rollout.happening import Approve, Heard, Scope, Tick
from edgeward.fleet.rollout.plan import Plan
from edgeward.fleet.rollout.state import Rollout
from edgeward.fleet.rollout.step import step
from edgeward.fleet.rollout.words import Status

STEP_S = 300
"""Time between two looks of the simulation."""


def play(size: int, share: float, seed: int) -> tuple[int, Status, float]:
    """Devices that were given the order until the rollout ended, how it ended, and after how many hours.

    A good device takes two hours and up to half an hour until a bed lets it. A bad one fails evenly at golden vectors,
    latency (minutes after its order), the end of the shadow, or at any time of the soak.
    """
    chance = random.Random(seed)
    fleet = Fleet(size, now_s=1_000_000 + seed * 1_000)
    number = 1_000 + seed  # the number decides who is a canary
    fleet.rollouts[number] = Rollout.draft(number, RELEASE, Plan(silent_s=30 * 86_400), "ann")
    takes_s, due_s = {}, {}
    for name, device in fleet.devices.items():
        bad = chance.random() < share
        device.will = chance.choice((UpdateState.FAILED, UpdateState.ROLLED_BACK)) if bad else UpdateState.COMMITTED
        ends_s = chance.choice((300, 300, 3_600, chance.uniform(3_600, 7_200))) if bad else 7_200
        takes_s[name] = ends_s + (chance.uniform(0, 1_800) if ends_s > STEP_S else 0)
    began_s = fleet.now_s
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    open_ = {name for other, name in fleet.members if other == number}
    known = len(fleet.members)
    while fleet.rollouts[number].status is Status.RUNNING:
        fleet.now_s += STEP_S
        names = [name for name in sorted(open_) if due_s.get(name, 0) <= fleet.now_s]
        chance.shuffle(names)
        for name in names:
            if name in due_s:
                fleet.devices[name].work()
                open_.discard(name)
            if fleet.visit(name) is not None:
                due_s.setdefault(name, fleet.now_s + takes_s[name])
        fleet.happen(number, Tick())
        if len(fleet.members) != known:
            open_ |= {name for other, name in list(fleet.members)[known:] if other == number}
            known = len(fleet.members)
    given = sum(member.given_s > 0 for (other, _), member in fleet.members.items() if other == number)
    return given, fleet.rollouts[number].status, (fleet.now_s - began_s) / 3_600


def spread(size: int, share: float, seeds: int) -> None:
    """How far a release gets that fails on a share of the devices."""
    ends = [play(size, share, seed) for seed in range(seeds)]
    given = sorted(number for number, _, _ in ends)
    halted = sum(status is Status.HALTED for _, status, _ in ends)
    print(
        f"{share:.0%} of {size} devices fail: given to {given[len(given) // 2]} (median), "
        f"{sum(given) / seeds:.0f} (mean), {given[int(seeds * 0.95)]} (95 %), {given[-1]} (worst of {seeds}); "
        f"more than ten: {sum(number > 10 for number in given)}; "
        f"more than ten and 1 %: {sum(number > max(10, size // 100) for number in given)}; halted {halted}",
        flush=True,
    )


def cost(size: int) -> None:
    """Time of one opening over ``size`` devices, and of one check-in in such a rollout."""
    fleet = Fleet(size)
    number = fleet.draft(Plan(shadow_s=0, soak_s=0))
    fleet.happen(number, Approve("ben"))
    begun = step(fleet.rollouts[number], Tick(), fleet.now_s).rollout
    scope = Scope(fleet.scope(number))
    began = time.perf_counter()
    opened = step(begun, scope, fleet.now_s)
    opening_ms = (time.perf_counter() - began) * 1e3
    member = opened.members[0]
    reports = [fleet.devices[member.device].check_in() for _ in range(2_000)]
    rollout = opened.rollout
    began = time.perf_counter()
    for report in reports:
        done = step(rollout, Heard(member, report), fleet.now_s)
        rollout, member = done.rollout, done.members[0]
    heard_us = (time.perf_counter() - began) / len(reports) * 1e6
    print(f"{size} devices: opening a stage {opening_ms:.0f} ms, a check-in {heard_us:.0f} us")


def database(size: int) -> None:
    """The same through the database (SQLite): what a check-in's transaction pays for rollouts, and an opening."""
    from console_preview import Preview

    with tempfile.TemporaryDirectory() as folder:
        preview = Preview(Path(folder), size)
        preview.draft("ecg-beat", "", {"stage": [{"name": "all", "success": "50 %", "errors": "50 %"}]})
        began = time.perf_counter()
        preview.clock.tick()
        print(f"{size} devices in SQLite: opening a stage over all {time.perf_counter() - began:.2f} s", flush=True)
        preview.away = set()
        for what in ("taking the order", "nothing new"):
            told = [(one, one.report()) for one in preview.devices[:2_560]]
            began = time.perf_counter()
            for start in range(0, len(told), 256):
                with preview.fleet.store.writing() as session:
                    for one, report in told[start : start + 256]:
                        for order in preview.book.heard(session, one.id, report, preview.now_s):
                            one.obey(order)
            each_ms = (time.perf_counter() - began) / len(told) * 1e3
            print(f"  a check-in, {what}: {each_ms:.2f} ms of its transaction", flush=True)
            if what == "taking the order":
                for one, report in [(one, one.report()) for one, _ in told]:
                    with preview.fleet.store.writing() as session:
                        preview.book.heard(session, one.id, report, preview.now_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="*", default=[200, 2_000, 10_000])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.05, 0.1, 0.3, 0.6], help="that fail health")
    parser.add_argument("--no-cost", action="store_true", help="only how far and how long")
    chosen = parser.parse_args()
    for size in chosen.devices:
        _, status, hours = play(size, 0.0, 0)
        print(f"{size} devices, none fails: {status.value} after {hours:.1f} h", flush=True)
        for share in chosen.shares:
            spread(size, share, chosen.seeds)
    if chosen.no_cost:
        return
    for size in (100, 1_000, chosen.devices[-1]):
        cost(size)
    database(chosen.devices[-1])


if __name__ == "__main__":
    main()
