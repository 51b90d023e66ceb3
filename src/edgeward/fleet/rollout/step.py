"""A rollout's transitions: ``step(rollout, happening, now_s)`` gives the rollout after it and what follows. Pure.

Nothing here counts devices: whatever happens to one device moves it from one count to another, so that a rollout over
ten thousand devices costs as much for each check-in as one over ten. What is said twice, or late, changes nothing; the
fleet may stop between any two calls and go on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.fleet.rollout.choose import came, choose
from edgeward.fleet.rollout.gates import by_time, judged
from edgeward.fleet.rollout.happening import (
    Abort,
    Approve,
    Came,
    Ended,
    Happening,
    Heard,
    Pause,
    Resume,
    Scope,
    Step,
    Superseded,
    Tick,
    Unheard,
)
from edgeward.fleet.rollout.hear import ended, heard, unheard
from edgeward.fleet.rollout.words import Cause, Status
from edgeward.kernel.errors import RolloutError

if TYPE_CHECKING:
    from edgeward.fleet.rollout.state import Rollout

ENDABLE = frozenset({Status.DRAFT, Status.APPROVED, Status.RUNNING, Status.PAUSED})
"""What can be aborted."""


def step(rollout: Rollout, happening: Happening, now_s: int) -> Step:
    """The next state. ``RolloutError`` when a person asks for what cannot be now; nothing else is ever refused."""
    match happening:
        case Approve(by):
            return Step(_approved(rollout, by))
        case Pause():
            _require(rollout, "pause", Status.RUNNING, Status.APPROVED)
            return Step(replace(rollout, status=Status.PAUSED, cause=Cause.BY_HAND))
        case Resume():
            return Step(_resumed(rollout, now_s))
        case Abort():
            _require(rollout, "abort", *ENDABLE)
            return Step(replace(rollout, status=Status.ABORTED, cause=Cause.BY_HAND))
        case Superseded():
            return Step(_superseded(rollout))
        case Tick():
            return by_time(rollout, now_s)
        case Scope(devices):
            return choose(rollout, devices, now_s)
        case Came(device, member):
            return came(rollout, device, member, now_s)
        case Heard(member, report):
            return judged(heard(rollout, member, report, now_s), now_s)
        case Unheard(member):
            return judged(unheard(rollout, member, now_s), now_s)
        case Ended(member):
            return judged(ended(rollout, member), now_s)


def _approved(rollout: Rollout, by: str) -> Rollout:
    _require(rollout, "approve", Status.DRAFT)
    if by == rollout.author:
        raise RolloutError(
            "approval-own",
            f"{by} drafted rollout {rollout.id} and cannot approve it: ask a second person who may approve",
        )
    return replace(rollout, status=Status.APPROVED, approver=by)


def _resumed(rollout: Rollout, now_s: int) -> Rollout:
    """Time that it stood still is not held against its stage."""
    _require(rollout, "resume", Status.PAUSED)
    status = Status.RUNNING if rollout.opened_s or rollout.opening else Status.APPROVED
    return replace(rollout, status=status, cause=None, opened_s=now_s if rollout.opened_s else 0)


def _superseded(rollout: Rollout) -> Rollout:
    if rollout.status is Status.DRAFT:
        return rollout
    if rollout.status in ENDABLE:
        return replace(rollout, status=Status.ABORTED, cause=Cause.SUPERSEDED, live=False)
    return replace(rollout, live=False)


def _require(rollout: Rollout, deed: str, *allowed: Status) -> None:
    if rollout.status not in allowed or not rollout.live:
        words = " or ".join(sorted(allowed))
        raise RolloutError(
            "rollout-state",
            f"rollout {rollout.id} is {rollout.status}: {deed} needs one that is {words}; look at it again and decide",
        )
