"""A device that an operator revokes or calls lost while it is on its way is counted apart, and may come back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rollout_fleet import TWO, begun, chosen

from edgeward.exchange.checkin import Deed
from edgeward.exchange.words import UpdateState
from edgeward.fleet.rollout.happening import Abort, Resume, Unheard
from edgeward.fleet.rollout.plan import Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.words import Cause, Standing, Status


def test_ended_device_is_neither_success_nor_error() -> None:
    """A canary of three of which one was stolen is judged by the two that remain."""
    fleet, number = begun()
    stolen, *others = chosen(fleet, number)
    fleet.visit(stolen)
    fleet.end(stolen)
    assert fleet.standing(number, stolen) is Standing.ENDED
    assert (fleet.rollouts[number].total.errors, fleet.rollouts[number].total.counted) == (0, 2)
    fleet.now_s += 2 * TWO.silent_s
    for name in others:
        fleet.visit(name)
    fleet.look()
    assert fleet.standing(number, stolen) is Standing.ENDED, "it never falls silent"
    for _ in range(6):
        fleet.round()
    assert fleet.rollouts[number].status is Status.COMPLETED
    assert (fleet.rollouts[number].total.committed, fleet.rollouts[number].total.ended) == (11, 1)


@pytest.mark.parametrize("will", [UpdateState.COMMITTED, UpdateState.FAILED, UpdateState.ROLLED_BACK])
def test_ending_a_device_undoes_nothing_that_was_judged(will: UpdateState) -> None:
    """Who calls a device lost cannot take its failure out of the count, nor its silence, nor its success."""
    lenient = Plan(stages=(Stage("four", Pick(count=4), Gate(success=1, errors=900_000)), Stage("the rest")))
    fleet, number = begun(lenient)
    name, quiet, *_ = chosen(fleet, number)
    fleet.devices[name].will = will
    fleet.visit(name)
    fleet.devices[name].work()
    fleet.visit(name)
    fleet.now_s += 2 * lenient.silent_s
    fleet.happen(number, Unheard(fleet.members[(number, quiet)]))
    before = fleet.rollouts[number]
    fleet.end(name)
    fleet.end(quiet)
    assert fleet.standing(number, quiet) is Standing.SILENT
    assert fleet.rollouts[number] == before


@pytest.mark.parametrize("stage", [0, 1])
def test_stage_whose_every_device_ended_pauses_and_takes_others(stage: int) -> None:
    """Nothing can be judged: it says so, orders nobody, and resumed it opens with other devices."""
    stages = tuple(Stage(f"stage {one}", Pick(count=2), Gate(errors=0, success=1_000_000)) for one in range(2))
    fleet, number = begun(Plan(stages=(*stages, Stage("the rest")), shadow_s=0, soak_s=0))
    while fleet.rollouts[number].stage < stage or fleet.rollouts[number].opening:
        fleet.round()
    gone = [name for name in chosen(fleet, number) if fleet.members[(number, name)].stage == stage]
    for name in gone:
        fleet.end(name)
    rollout = fleet.rollouts[number]
    assert (rollout.status, rollout.cause, rollout.stage) == (Status.PAUSED, Cause.STAGE_ENDED, stage)
    for _ in range(3):
        fleet.round()
    assert len(chosen(fleet, number)) == 2 * (stage + 1), "nobody else has an order"
    fleet.happen(number, Resume("ann"))
    fleet.look()
    rollout = fleet.rollouts[number]
    assert (rollout.status, rollout.counts[stage].working, rollout.counts[stage].ended) == (Status.RUNNING, 2, 2)
    for _ in range(8):
        fleet.round()
    assert fleet.rollouts[number].status is Status.COMPLETED
    assert fleet.rollouts[number].total.committed == 10


def test_ended_devices_are_all_of_the_last_stage() -> None:
    """The last stage does not pass by that either; resumed, nobody is left for it and the rollout completes."""
    fleet, number = begun(size=5)
    for _ in range(2):
        fleet.round()
    last = [name for name in chosen(fleet, number) if fleet.members[(number, name)].stage == 1]
    for name in last:
        fleet.end(name)
    assert (fleet.rollouts[number].status, fleet.rollouts[number].cause) == (Status.PAUSED, Cause.STAGE_ENDED)
    fleet.happen(number, Resume("ann"))
    fleet.look()
    fleet.look()
    assert fleet.rollouts[number].status is Status.COMPLETED


def test_device_taken_in_again_counts_by_what_it_says() -> None:
    """It went on without the fleet: a failure is not hidden by having been revoked, a proven commit is one."""
    for will, standing in ((UpdateState.COMMITTED, Standing.COMMITTED), (UpdateState.FAILED, Standing.FAILED)):
        fleet, number = begun()
        name = chosen(fleet, number)[0]
        fleet.devices[name].will = will
        fleet.visit(name)
        fleet.end(name)
        fleet.devices[name].work()
        fleet.visit(name)
        assert fleet.standing(number, name) is Standing.ENDED, "no request of it is taken"
        fleet.ended.clear()
        fleet.visit(name)
        assert fleet.standing(number, name) is standing
        assert (fleet.rollouts[number].status is Status.HALTED) == (will is UpdateState.FAILED)


def test_device_taken_in_again_that_knows_nothing_follows_later() -> None:
    """Other hardware in its place gets no order of the stage, which may be over, but is caught up after completion."""
    fleet, number = begun()
    name = chosen(fleet, number)[0]
    fleet.visit(name)
    fleet.end(name)
    fleet.ended.clear()
    fleet.devices[name] = replace(fleet.devices[name], progress=None)
    assert fleet.visit(name) is None
    assert fleet.standing(number, name) is Standing.ENDED
    for _ in range(9):
        fleet.round()
    rollout = fleet.rollouts[number]
    assert (rollout.status, rollout.total.committed) == (Status.COMPLETED, 12)
    assert (rollout.counts[rollout.caught_up].committed, rollout.total.ended) == (1, 0)


def test_device_taken_in_again_after_an_abort_gives_up() -> None:
    """It is still on its way with a bundle that nobody shall take any more."""
    fleet, number = begun()
    name = chosen(fleet, number)[0]
    fleet.visit(name)
    fleet.end(name)
    fleet.happen(number, Abort("ann"))
    fleet.ended.clear()
    order = fleet.visit(name)
    assert order is not None
    assert order.deed is Deed.WITHDRAW
    fleet.visit(name)
    assert fleet.standing(number, name) is Standing.WITHDRAWN


def test_ended_device_holds_up_no_return() -> None:
    """A return is over when nobody is on the way any more, and a device that is gone is not."""
    fleet, number = begun()
    bad, *good = chosen(fleet, number)
    for name in good:
        fleet.visit(name)
        fleet.devices[name].work()
        fleet.visit(name)
    fleet.devices[bad].will = UpdateState.FAILED
    for _ in range(2):
        fleet.visit(bad)
        fleet.devices[bad].work()
    assert fleet.rollouts[number].status is Status.HALTED
    fleet.end(good[0])
    for _ in range(4):
        fleet.round()
    assert fleet.rollouts[number + 1].status is Status.COMPLETED
    assert fleet.standing(number + 1, good[0]) is Standing.ENDED
