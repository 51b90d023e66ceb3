"""After the canary devices have their turns as others commit, so that a bad release is on few when it first fails."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rollout_fleet import NEW, Fleet, begun, chosen

from edgeward.exchange.words import UpdateState
from edgeward.fleet.rollout.happening import Abort, Approve, Pause, Resume, Tick, Unheard
from edgeward.fleet.rollout.hours import Hours
from edgeward.fleet.rollout.plan import Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.turns import PROVEN
from edgeward.fleet.rollout.words import Cause, Standing, Status

CANARY = Stage("canary", Pick(count=3), Gate(errors=0, success=1_000_000))
PLAN = Plan(stages=(CANARY, Stage("the rest")))


def opened(plan: Plan = PLAN, size: int = 40) -> tuple[Fleet, int]:
    """A rollout whose three canaries have committed and whose second stage is open."""
    fleet, number = begun(plan, size)
    while fleet.rollouts[number].stage == 0 or fleet.rollouts[number].opening:
        fleet.round()
    return fleet, number


def ordered(fleet: Fleet) -> int:
    """Devices that ever had an order."""
    return sum(device.progress is not None for device in fleet.devices.values())


def finish(fleet: Fleet, number: int, standing: UpdateState, count: int) -> None:
    """Bring so many of those on the way to this end, one after the other."""
    names = [name for name in chosen(fleet, number) if fleet.standing(number, name) is Standing.WORKING][:count]
    for name in names:
        fleet.devices[name].will = standing
        fleet.visit(name)
        fleet.devices[name].work()
        fleet.visit(name)


def test_as_many_are_on_the_way_as_have_committed() -> None:
    """Three after three, then each commit lets two more have their turn, when they check in."""
    fleet, number = opened()
    rollout = fleet.rollouts[number]
    assert (rollout.counts[1].working, rollout.counts[1].waiting) == (3, 34)
    for name in fleet.devices:
        fleet.visit(name)
    assert ordered(fleet) == 6
    finish(fleet, number, UpdateState.COMMITTED, 1)
    for name in fleet.devices:
        fleet.visit(name)
    assert ordered(fleet) == 8
    assert fleet.rollouts[number].total.working == fleet.rollouts[number].total.committed == 4


def test_everybody_has_a_turn_in_the_end() -> None:
    """The ramp holds up no good release, whatever the size of the fleet; and it ends where enough have committed."""
    fleet, number = opened(size=200)
    seen = []
    while fleet.rollouts[number].status is Status.RUNNING:
        seen.append((fleet.rollouts[number].total.committed, fleet.rollouts[number].total.working))
        fleet.round()
    assert {device.held for device in fleet.devices.values()} == {NEW}
    assert all(working <= committed for committed, working in seen if committed < PROVEN)
    assert any(working > committed for committed, working in seen if committed >= PROVEN)


def test_waiting_devices_excuse_no_error() -> None:
    """Of forty, two may fail; but of the six that had their turn not one, and it halts before anybody else has."""
    fleet, number = opened()
    for name in fleet.devices:
        fleet.visit(name)
    finish(fleet, number, UpdateState.ROLLED_BACK, 1)
    assert (fleet.rollouts[number].status, fleet.rollouts[number].cause) == (Status.HALTED, Cause.TOO_MANY_ERRORS)
    for _ in range(3):
        fleet.round()
    assert fleet.standing(number, chosen(fleet, number)[-1]) is Standing.WITHDRAWN
    assert ordered(fleet) == 6


def test_errors_that_are_allowed_slow_it_down() -> None:
    """An error outweighs twenty commits: it goes on, with ten at a time, until as many have made up for it."""
    plan = replace(PLAN, stages=(replace(CANARY, pick=Pick(count=20)), Stage("the rest", gate=Gate(errors=200_000))))
    fleet, number = opened(plan, 200)
    assert fleet.rollouts[number].total.working == 20
    finish(fleet, number, UpdateState.FAILED, 1)
    finish(fleet, number, UpdateState.COMMITTED, 9)
    for name in fleet.devices:
        fleet.visit(name)
    assert fleet.rollouts[number].total.working == 10
    while fleet.rollouts[number].status is Status.RUNNING:
        fleet.round()
    assert fleet.rollouts[number].status is Status.COMPLETED


def test_stage_is_not_passed_while_devices_wait() -> None:
    """A success share that those on the way have reached says nothing of those whose turn is to come."""
    fleet, number = opened(
        replace(PLAN, stages=(CANARY, Stage("some", Pick(count=20), Gate(success=1)), Stage("rest")))
    )
    finish(fleet, number, UpdateState.COMMITTED, 2)
    fleet.look()
    assert (fleet.rollouts[number].stage, fleet.rollouts[number].counts[1].waiting > 0) == (1, True)


@pytest.mark.parametrize("deed", [Pause("ann"), Abort("ann")])
def test_nobody_has_a_turn_that_gets_no_order(deed: Pause | Abort) -> None:
    """Paused, they wait on; aborted, they are withdrawn without ever having been told."""
    fleet, number = opened()
    finish(fleet, number, UpdateState.COMMITTED, 3)
    before = ordered(fleet)
    fleet.happen(number, deed)
    for name in fleet.devices:
        assert fleet.visit(name) is None
    assert ordered(fleet) == before
    total = fleet.rollouts[number].total
    assert (total.waiting, total.withdrawn) == ((34, 0) if isinstance(deed, Pause) else (0, 34))
    if isinstance(deed, Pause):
        fleet.happen(number, Resume("ann"))
        for _ in range(12):
            fleet.round()
        assert fleet.rollouts[number].status is Status.COMPLETED


def test_turns_keep_to_the_maintenance_hours() -> None:
    """Outside them nobody's turn comes, however many have committed."""
    night = (Hours((0, 1, 2, 3, 4, 5, 6), 0, 60),)
    fleet = Fleet(40, now_s=1_000_000 - 1_000_000 % 86_400)
    number = fleet.draft(replace(PLAN, hours=night, silent_s=86_400))
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    while fleet.rollouts[number].stage == 0 or fleet.rollouts[number].opening:
        fleet.round()
    finish(fleet, number, UpdateState.COMMITTED, 3)
    waiting = fleet.rollouts[number].counts[1].waiting
    fleet.now_s += 3_600
    for name in fleet.devices:
        fleet.visit(name)
    assert fleet.rollouts[number].counts[1].waiting == waiting


def test_device_that_falls_silent_before_its_turn_is_no_error() -> None:
    """Nothing was ordered that could have silenced it: it follows later, and holds nothing up."""
    fleet, number = opened()
    quiet = next(name for name in chosen(fleet, number) if fleet.standing(number, name) is Standing.WAITING)
    for _ in range(3):
        fleet.now_s += 1_500
        for name in fleet.devices.keys() - {quiet}:
            fleet.visit(name)
    fleet.happen(number, Unheard(fleet.members[(number, quiet)]))
    assert fleet.standing(number, quiet) is Standing.OFFLINE
    assert fleet.rollouts[number].total.errors == 0
    for _ in range(12):
        fleet.round()
    assert (fleet.rollouts[number].status, fleet.rollouts[number].total.committed) == (Status.COMPLETED, 40)


def test_device_that_is_ended_before_its_turn_is_counted_apart() -> None:
    """As one on its way."""
    fleet, number = opened()
    name = chosen(fleet, number)[-1]
    assert fleet.standing(number, name) is Standing.WAITING
    fleet.end(name)
    assert fleet.standing(number, name) is Standing.ENDED
