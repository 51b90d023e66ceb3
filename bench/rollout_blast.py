"""How far a bad model gets, and what rollouts cost: ``python bench/rollout_blast.py``.

Blast radius: fleets in which a share of the devices fails health, the default plan, many seeds; counted are devices
that were given the order, and that served the bad model at any time. Cost: one stage's opening and one check-in, pure.
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


def blast(size: int, share: float, seed: int) -> tuple[int, Status]:
    """Devices that were given the order until the rollout ended, and how it ended."""
    chance = random.Random(seed)
    fleet = Fleet(size, now_s=1_000_000 + seed * 1_000)
    number = 1_000 + seed  # the number decides who is a canary
    fleet.rollouts[number] = Rollout.draft(number, RELEASE, Plan(shadow_s=0, soak_s=0), "ann")
    for device in fleet.devices.values():
        bad = chance.random() < share
        device.will = chance.choice((UpdateState.FAILED, UpdateState.ROLLED_BACK)) if bad else UpdateState.COMMITTED
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    while fleet.rollouts[number].status is Status.RUNNING:
        names = [name for other, name in fleet.members if other == number]
        chance.shuffle(names)
        for name in names:
            fleet.devices[name].work()
            fleet.visit(name)
        fleet.happen(number, Tick())
    given = sum(member.given_s > 0 for (other, _), member in fleet.members.items() if other == number)
    return given, fleet.rollouts[number].status


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
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.02, 0.1, 0.3, 0.6], help="that fail health")
    chosen = parser.parse_args()
    for share in chosen.shares:
        ends = [blast(chosen.devices, share, seed) for seed in range(chosen.seeds)]
        given = sorted(number for number, _ in ends)
        halted = sum(status is Status.HALTED for _, status in ends)
        print(
            f"{share:.0%} of {chosen.devices} devices fail: given to {given[len(given) // 2]} (median), "
            f"{given[int(len(given) * 0.95)]} (95 %), {given[-1]} (worst of {chosen.seeds}); "
            f"at most the canary's ten: {sum(number <= 10 for number in given)}; halted {halted}",
            flush=True,
        )
    for size in (100, 1_000, chosen.devices):
        cost(size)
    database(chosen.devices)


if __name__ == "__main__":
    main()
