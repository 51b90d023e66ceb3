"""Which devices a stage takes, and which follow later.

The order among devices is that of a hash of rollout and device: no device is the canary of every rollout, nobody can
choose one, and the same question has the same answer after a restart.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from edgeward.fleet.rollout.happening import Choose, Step
from edgeward.fleet.rollout.state import Member
from edgeward.fleet.rollout.turns import turns
from edgeward.fleet.rollout.words import Cause, Standing, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.fleet.rollout.plan import Pick
    from edgeward.fleet.rollout.state import Candidate, Rollout

FOLLOWS = frozenset({Standing.OFFLINE, Standing.ENDED})
"""Where a device stands that takes the release after completion, when it is heard again."""


def rank(rollout: int, device: str) -> bytes:
    """What devices of a rollout are sorted by."""
    return sha256(f"{rollout}/{device}".encode()).digest()


def choose(rollout: Rollout, devices: Sequence[Candidate], now_s: int) -> Step:
    """Open the stage that waits for its devices; a later stage for which nothing is left is passed over.

    A stage that would take devices but reaches none pauses the rollout, and a first stage is never passed over while
    any device could be one: without a canary nobody else gets an order.
    """
    if rollout.status is not Status.RUNNING or not rollout.opening:
        return Step(rollout)
    rollout = replace(rollout, size=len(devices))
    free = sorted((one for one in devices if not one.chosen), key=lambda one: rank(rollout.id, one.device))
    is_last = rollout.stage == len(rollout.plan.stages) - 1
    matching = [one for one in free if _matches(rollout.open_stage.pick, one)]
    already = [one for one in matching if one.held == rollout.release.sha256]
    wanting = [one for one in matching if one.held != rollout.release.sha256]
    reachable = [one for one in wanting if now_s - one.heard_s <= rollout.plan.silent_s]
    chosen = rollout.total.counted + rollout.total.waiting + rollout.total.withdrawn
    mine = rollout.counts[rollout.stage].stands  # it opens anew, and devices that it took came back
    size = rollout.size - rollout.total.already - len(already)
    taken = reachable[: rollout.open_stage.pick.room(size, chosen, mine)]
    apart = [(one, Standing.ALREADY) for one in already]
    if is_last:
        away = {one.device for one in reachable}
        apart += [(one, Standing.OFFLINE) for one in wanting if one.device not in away]
    may_pass = _may_pass(rollout, free, is_last=is_last, unreached=bool(wanting) and not reachable)
    if not taken and not mine and not may_pass:
        return Step(replace(rollout, status=Status.PAUSED, cause=Cause.STAGE_EMPTY))
    first = turns(rollout)
    rows = [(one, Standing.WORKING) for one in taken[:first]] + apart
    rows += [(one, Standing.WAITING) for one in taken[len(taken) if first is None else first :]]
    members = tuple(Member(one.device, rollout.stage, standing, now_s) for one, standing in rows)
    for member in members:
        rollout = rollout.moved(None, member)
    return _opened(rollout, members, now_s, passed=not taken and not mine)


def _may_pass(rollout: Rollout, free: Sequence[Candidate], *, is_last: bool, unreached: bool) -> bool:
    """Whether a stage that takes nobody may be passed over. ``unreached``: it wants devices and reaches none."""
    if rollout.undoes:
        return True
    if rollout.total.committed == 0:
        return rollout.size > 0 and all(one.held == rollout.release.sha256 for one in free)
    return is_last or not unreached


def _opened(rollout: Rollout, members: tuple[Member, ...], now_s: int, *, passed: bool) -> Step:
    is_last = rollout.stage == len(rollout.plan.stages) - 1
    if not passed or (rollout.undoes and is_last):
        return Step(replace(rollout, opening=False, opened_s=now_s, met_s=0), members)
    if not is_last:
        return Step(replace(rollout, stage=rollout.stage + 1), members, (Choose(),))
    done = rollout.total.working == 0
    opened = replace(rollout, opening=False, opened_s=now_s, met_s=now_s)
    return Step(replace(opened, status=Status.COMPLETED) if done else opened, members)


def _matches(pick: Pick, device: Candidate) -> bool:
    return (pick.group is None or pick.group in device.groups) and (pick.tag is None or pick.tag in device.tags)


def came(rollout: Rollout, device: Candidate, member: Member | None, now_s: int) -> Step:
    """A device that follows after completion (it was offline, was ended, or is new), or that a return seeks."""
    if member is not None and member.standing not in FOLLOWS:
        return Step(rollout)
    if not rollout.gives or not rollout.plan.is_open(now_s) or device.held == rollout.release.sha256:
        return Step(rollout)
    if rollout.undoes:
        wanted = device.held == rollout.undoes
    else:
        group = rollout.plan.group
        wanted = rollout.status is Status.COMPLETED and (group is None or group in device.groups)
        wanted = wanted and rollout.counts[rollout.caught_up].working < rollout.plan.catch_up.at_once
    if not wanted:
        return Step(rollout)
    after = Member(device.device, rollout.caught_up, Standing.WORKING, now_s)
    return Step(rollout.moved(member, after), (after,))
