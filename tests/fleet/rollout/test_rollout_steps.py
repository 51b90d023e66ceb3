"""What a rollout does in the situations that a quality officer asks about."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rollout_fleet import GOOD, NEW, OLD, RELEASE, TWO, Fleet, begun, chosen

from edgeward.exchange.checkin import Deed, Evidence
from edgeward.exchange.words import UpdateState, Why
from edgeward.fleet.rollout.happening import Abort, Approve, Pause, Resume, Return, Tick
from edgeward.fleet.rollout.hours import Hours
from edgeward.fleet.rollout.plan import CatchUp, Gate, Pick, Plan, Stage, default_stages
from edgeward.fleet.rollout.words import Cause, Standing, Status
from edgeward.kernel.errors import RolloutError


def code_of(fleet: Fleet, number: int, deed: object) -> str:
    with pytest.raises(RolloutError) as caught:
        fleet.happen(number, deed)  # type: ignore[arg-type]
    return caught.value.code


def test_whole_road_ends_completed_on_every_device() -> None:
    """Canary first, the rest after it, and everybody runs the release at the end."""
    fleet, number = begun()
    assert len(chosen(fleet, number)) == 3
    for _ in range(6):
        fleet.round()
    assert fleet.rollouts[number].status is Status.COMPLETED
    assert {device.held for device in fleet.devices.values()} == {NEW}
    assert fleet.rollouts[number].total.committed == 12


def test_author_cannot_approve() -> None:
    """The second person is another one, and a draft that nobody approved never begins."""
    fleet = Fleet(5)
    number = fleet.draft(TWO)
    assert code_of(fleet, number, Approve("ann")) == "approval-own"
    fleet.happen(number, Tick())
    assert fleet.rollouts[number].status is Status.DRAFT
    fleet.happen(number, Approve("ben"))
    assert code_of(fleet, number, Approve("eve")) == "rollout-state"


def test_download_opens_nothing() -> None:
    """However many devices have verified, staged or activated it, only COMMITTED opens the next stage."""
    fleet, number = begun()
    for name in chosen(fleet, number):
        fleet.visit(name)
    for state in (UpdateState.VERIFIED, UpdateState.STAGED, UpdateState.ACTIVATED, UpdateState.SOAKING):
        for name in chosen(fleet, number):
            device = fleet.devices[name]
            assert device.progress is not None
            device.progress = replace(device.progress, state=state, percent=100)
            fleet.visit(name)
        fleet.look()
        assert (fleet.rollouts[number].stage, len(chosen(fleet, number))) == (0, 3)


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(),
        replace(GOOD, golden_vectors=0),
        replace(GOOD, latency_us=0),
        replace(GOOD, latency_us=5_000),
        replace(GOOD, soak_s=3_599),
        replace(GOOD, shadow_disagreed=2),
        replace(GOOD, shadow_windows=0, shadow_disagreed=1),
    ],
)
def test_commit_without_proof_is_an_error(evidence: Evidence) -> None:
    """Evidence that is missing, or breaks the plan, halts a canary as a failure would."""
    fleet, number = begun()
    for name in chosen(fleet, number):
        fleet.devices[name].evidence = evidence
    fleet.round()
    fleet.round()
    assert (fleet.rollouts[number].status, fleet.rollouts[number].cause) == (Status.HALTED, Cause.TOO_MANY_ERRORS)
    assert fleet.rollouts[number].total.unproven >= 1


def test_another_hash_under_the_same_rollout_is_no_success() -> None:
    """A commit of something else than the release, or with something else in use, does not count as one."""
    fleet, number = begun()
    name = chosen(fleet, number)[0]
    device = fleet.devices[name]
    fleet.visit(name)
    assert device.progress is not None
    device.progress = replace(device.progress, state=UpdateState.COMMITTED, sha256="c" * 64, evidence=GOOD)
    fleet.visit(name)
    assert fleet.standing(number, name) is Standing.WORKING
    device.progress = replace(device.progress, state=UpdateState.COMMITTED, sha256=NEW, evidence=GOOD)
    fleet.visit(name)
    assert fleet.standing(number, name) is Standing.UNPROVEN


def test_first_failure_among_few_halts_and_all_go_back() -> None:
    """One failing canary: nobody else is ordered, and those that had committed are ordered back to the old bundle."""
    fleet, number = begun()
    bad, *good = chosen(fleet, number)
    for name in good:
        fleet.visit(name)
        fleet.devices[name].work()
        fleet.visit(name)
    assert {fleet.devices[name].held for name in good} == {NEW}
    fleet.devices[bad].will = UpdateState.ROLLED_BACK
    for _ in range(2):
        fleet.visit(bad)
        fleet.devices[bad].work()
    assert fleet.rollouts[number].status is Status.HALTED
    assert len(chosen(fleet, number)) == 3
    back = fleet.rollouts[number + 1]
    assert (back.origin, back.undoes, back.release.sha256, back.approver) == (number, NEW, OLD, "ben")
    for _ in range(4):
        fleet.round()
    assert {device.held for device in fleet.devices.values()} == {OLD}
    assert fleet.rollouts[number + 1].status is Status.COMPLETED
    assert fleet.rollouts[number + 1].total.committed == 2


def test_silence_counts_against_the_stage() -> None:
    """A canary that is never heard again halts the rollout; silence is no success."""
    fleet, number = begun()
    lost = frozenset(chosen(fleet, number)[:1])
    for _ in range(6):
        fleet.round(900, away=lost)
    assert fleet.rollouts[number].status is Status.HALTED
    assert fleet.rollouts[number].total.silent == 1
    fleet.round()
    assert fleet.rollouts[number].status is Status.HALTED
    assert fleet.rollouts[number].total.silent == 0


def test_offline_devices_are_apart_and_caught_up() -> None:
    """Who was silent before its stage opened holds nothing up, and takes the release when it comes."""
    fleet = Fleet(12)
    away = frozenset(list(fleet.devices)[:4])
    fleet.now_s += 7_200
    for name in fleet.devices.keys() - away:
        fleet.devices[name].heard_s = fleet.now_s
    number = fleet.draft(replace(TWO, catch_up=CatchUp(at_once=1)))
    fleet.happen(number, Approve("ben"))
    for _ in range(6):
        fleet.round(away=away)
    assert fleet.rollouts[number].status is Status.COMPLETED
    assert (fleet.rollouts[number].total.committed, fleet.rollouts[number].total.offline) == (8, 4)
    fleet.round()
    assert fleet.rollouts[number].total.working == 1
    for _ in range(9):
        fleet.round()
    assert {device.held for device in fleet.devices.values()} == {NEW}
    assert fleet.rollouts[number].total.committed == 12


def test_failing_late_devices_stop_the_catching_up_alone() -> None:
    """Catch-up has a gate: then nobody more is ordered, and those that committed before keep what they have."""
    fleet = Fleet(30)
    away = frozenset(list(fleet.devices)[:10])
    fleet.now_s += 7_200
    for name in fleet.devices.keys() - away:
        fleet.devices[name].heard_s = fleet.now_s
    number = fleet.draft(replace(TWO, catch_up=CatchUp(at_once=1, errors_max=2)))
    fleet.happen(number, Approve("ben"))
    for _ in range(6):
        fleet.round(away=away)
    for name in away:
        fleet.devices[name].will = UpdateState.FAILED
    for _ in range(20):
        fleet.round()
    rollout = fleet.rollouts[number]
    assert (rollout.status, rollout.cause, rollout.total.errors) == (Status.HALTED, Cause.CATCH_UP_ERRORS, 3)
    assert rollout.total.committed == 20
    assert not [effect for _, effect in fleet.effects if isinstance(effect, Return)]


def test_pause_orders_nobody_and_resume_goes_on() -> None:
    """While paused no answer holds an order; afterwards it comes."""
    fleet, number = begun()
    fleet.happen(number, Pause("ann"))
    assert [fleet.visit(name) for name in fleet.devices] == [None] * 12
    assert code_of(fleet, number, Pause("ann")) == "rollout-state"
    fleet.happen(number, Resume("ann"))
    assert len([name for name in fleet.devices if fleet.visit(name)]) == 3


def test_abort_withdraws_from_those_that_have_an_order() -> None:
    """A device on the way is told to give up; one that never had its order is not told anything."""
    fleet, number = begun()
    first, *others = chosen(fleet, number)
    fleet.visit(first)
    fleet.happen(number, Abort("ann"))
    order = fleet.visit(first)
    assert order is not None
    assert order.deed is Deed.WITHDRAW
    assert [fleet.visit(name) for name in others] == [None, None]
    fleet.visit(first)
    assert {fleet.standing(number, name) for name in [first, *others]} == {Standing.WITHDRAWN}
    assert code_of(fleet, number, Resume("ann")) == "rollout-state"


@pytest.mark.parametrize("state", [UpdateState.FAILED, UpdateState.ROLLED_BACK])
def test_device_that_gives_up_when_asked_is_no_error(state: UpdateState) -> None:
    """Whether the candidate served already or not: who obeys is counted apart."""
    fleet, number = begun()
    name = chosen(fleet, number)[0]
    device = fleet.devices[name]
    fleet.visit(name)
    fleet.happen(number, Abort("ann"))
    fleet.visit(name)
    assert device.progress is not None
    device.progress = replace(device.progress, state=state, why=Why.WITHDRAWN)
    fleet.visit(name)
    assert fleet.standing(number, name) is Standing.WITHDRAWN


def test_withdrawn_without_being_asked_is_a_failure() -> None:
    """A device cannot take itself out of the count."""
    fleet, number = begun()
    name = chosen(fleet, number)[0]
    fleet.visit(name)
    device = fleet.devices[name]
    assert device.progress is not None
    device.obey(replace(fleet.visit(name), deed=Deed.WITHDRAW))  # type: ignore[type-var]
    fleet.visit(name)
    assert fleet.standing(number, name) is Standing.FAILED


def test_stuck_rollout_is_ended_by_a_newer_one() -> None:
    """A paused rollout blocks nothing: the next one of its family begins and takes its place."""
    fleet, number = begun()
    fleet.round()
    fleet.happen(number, Pause("ann"))
    newer = fleet.draft(TWO, release=replace(RELEASE, version="2.1.0", sha256="c" * 64))
    fleet.happen(newer, Approve("ben"))
    fleet.happen(newer, Tick())
    assert fleet.rollouts[newer].status is Status.RUNNING
    assert (fleet.rollouts[number].status, fleet.rollouts[number].cause) == (Status.ABORTED, Cause.SUPERSEDED)


def test_stage_that_takes_too_long_pauses() -> None:
    """Devices that answer and never get on do not hold a stage for ever unseen."""
    fleet, number = begun(replace(TWO, stage_s=10_000))
    for name in chosen(fleet, number):
        fleet.visit(name)
    for _ in range(12):
        fleet.now_s += 900
        for name in fleet.devices:
            fleet.visit(name)
        fleet.look()
    assert (fleet.rollouts[number].status, fleet.rollouts[number].cause) == (Status.PAUSED, Cause.STAGE_OVERDUE)
    fleet.happen(number, Resume("ann"))
    fleet.look()
    assert fleet.rollouts[number].status is Status.RUNNING


def test_canary_that_reaches_nobody_pauses() -> None:
    """Without a canary nobody gets an order, however many devices there are."""
    fleet = Fleet(5)
    fleet.now_s += 86_400
    number = fleet.draft(TWO)
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    assert (fleet.rollouts[number].status, fleet.rollouts[number].cause) == (Status.PAUSED, Cause.STAGE_EMPTY)
    for name in fleet.devices:
        fleet.devices[name].heard_s = fleet.now_s
    fleet.happen(number, Resume("ann"))
    fleet.happen(number, Tick())
    assert len(chosen(fleet, number)) == 3


def test_empty_fleet_completes_nothing() -> None:
    """No devices, no success: it waits, so that the first to come are a canary."""
    fleet, number = begun(size=0)
    assert fleet.rollouts[number].cause is Cause.STAGE_EMPTY


def test_devices_that_run_it_already_prove_nothing() -> None:
    """They are counted apart and are no canaries; where all run it there is nothing to do."""
    fleet = Fleet(8)
    for name in list(fleet.devices)[:5]:
        fleet.devices[name].held = NEW
    number = fleet.draft(TWO)
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    assert fleet.rollouts[number].counts[0].working == 3
    assert fleet.rollouts[number].counts[0].already == 5
    for device in fleet.devices.values():
        device.held = NEW
    again = fleet.draft(TWO)
    fleet.happen(again, Approve("ben"))
    fleet.happen(again, Tick())
    assert fleet.rollouts[again].status is Status.COMPLETED


def test_orders_keep_to_the_maintenance_hours() -> None:
    """Outside its maintenance hours a rollout neither begins, nor opens a stage, nor gives a first order."""
    night = (Hours((0, 1, 2, 3, 4, 5, 6), 60, 120),)
    fleet = Fleet(12, now_s=1_000_000 - 1_000_000 % 86_400)  # midnight
    number = fleet.draft(replace(TWO, hours=night, silent_s=86_400))
    fleet.happen(number, Approve("ben"))
    fleet.happen(number, Tick())
    assert fleet.rollouts[number].status is Status.APPROVED
    fleet.now_s += 3_600
    fleet.happen(number, Tick())
    assert len(chosen(fleet, number)) == 3
    fleet.now_s += 3_600
    assert [fleet.visit(name) for name in fleet.devices] == [None] * 12
    fleet.now_s += 23 * 3_600
    assert len([name for name in fleet.devices if fleet.visit(name)]) == 3


def test_default_plan_opens_a_hundredth_after_ten() -> None:
    """Ten, then one in a hundred, a tenth, half, all; a small fleet has a small canary."""
    sizes = {}
    for size in (1, 3, 40, 300, 10_000):
        chosen_so_far, taken = 0, []
        for stage in default_stages():
            room = stage.pick.room(size, chosen_so_far)
            chosen_so_far += room
            taken.append(room)
        assert chosen_so_far == size
        sizes[size] = taken
    assert sizes[10_000] == [10, 90, 900, 4_000, 5_000]
    assert sizes[300] == [10, 0, 20, 120, 150]
    assert sizes[40] == [4, 0, 0, 16, 20]
    assert sizes[3] == [1, 0, 0, 0, 2]
    assert sizes[1] == [1, 0, 0, 0, 0]


def test_gap_lies_between_success_and_the_next_stage() -> None:
    """The gap counts from the moment the stage has passed, and begins anew when it no longer has."""
    fleet, number = begun(replace(TWO, gap_s=600))
    fleet.round()
    fleet.round()
    assert fleet.rollouts[number].met_s == fleet.now_s
    fleet.round(540)
    assert fleet.rollouts[number].stage == 0
    fleet.round(60)
    assert fleet.rollouts[number].stage == 1


def test_stage_needs_its_whole_success_share() -> None:
    """With half of them committed, a stage that asks for three quarters stays the open one."""
    fleet, number = begun(Plan(stages=(Stage("four", Pick(count=4), Gate(success=750_000)), Stage("the rest"))))
    names = chosen(fleet, number)
    for committed, stage in ((2, 0), (3, 1)):
        for name in names[:committed]:
            fleet.visit(name)
            fleet.devices[name].work()
            fleet.visit(name)
        fleet.look()
        assert fleet.rollouts[number].stage == stage
