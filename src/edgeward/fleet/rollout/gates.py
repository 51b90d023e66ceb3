"""The gates: when a stage has passed, when the next one opens, and when everything stops."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.fleet.rollout.happening import Choose, Effect, Return, Step, Supersede
from edgeward.fleet.rollout.plan import WHOLE
from edgeward.fleet.rollout.words import Cause, Status

if TYPE_CHECKING:
    from edgeward.fleet.rollout.state import Rollout


def judged(step: Step, now_s: int) -> Step:
    """``step`` with its rollout halted where a gate is broken, and with the time noted at which a gate was reached."""
    rollout = step.rollout
    cause = _broken(rollout)
    if cause is not None:
        return _halted(step, cause)
    if rollout.status not in {Status.RUNNING, Status.PAUSED} or rollout.opening:
        return step
    nothing = _nothing_to_judge(rollout)
    if nothing is not None:
        return replace(step, rollout=replace(rollout, status=Status.PAUSED, cause=nothing, opening=True, met_s=0))
    met = now_s if _is_met(rollout) else 0
    if bool(met) != bool(rollout.met_s):
        rollout = replace(rollout, met_s=met)
    return replace(step, rollout=rollout)


def by_time(rollout: Rollout, now_s: int) -> Step:
    """What becomes due by itself: the beginning, the next stage, the end, and a stage that takes too long."""
    if rollout.status is Status.APPROVED and rollout.plan.is_open(now_s):
        begun = replace(rollout, status=Status.RUNNING, opening=True)
        return Step(begun, effects=(Supersede(), Choose()))
    step = judged(Step(rollout), now_s)
    rollout = step.rollout
    if rollout.status is not Status.RUNNING:
        return step
    if rollout.opening:
        return Step(rollout, effects=(Choose(),) if rollout.plan.is_open(now_s) else ())
    return _advanced(step, now_s) if rollout.met_s else _waited(step, now_s)


def _advanced(step: Step, now_s: int) -> Step:
    rollout = step.rollout
    plan = rollout.plan
    if rollout.stage == len(plan.stages) - 1:
        done = rollout.total.working == 0
        return replace(step, rollout=replace(rollout, status=Status.COMPLETED)) if done else _waited(step, now_s)
    if now_s - rollout.met_s < plan.gap_s or not plan.is_open(now_s):
        return step
    following = replace(rollout, stage=rollout.stage + 1, opening=True, met_s=0)
    return replace(step, rollout=following, effects=(*step.effects, Choose()))


def _waited(step: Step, now_s: int) -> Step:
    """A stage that takes too long pauses: its devices may only be waiting for their beds, and nobody knows."""
    rollout = step.rollout
    if not rollout.plan.stage_s or rollout.undoes or now_s - rollout.opened_s <= rollout.plan.stage_s:
        return step
    return replace(step, rollout=replace(rollout, status=Status.PAUSED, cause=Cause.STAGE_OVERDUE))


def _nothing_to_judge(rollout: Rollout) -> Cause | None:
    """Why the open stage has no device left that it could be judged by: resumed, it opens anew, with others."""
    counts = rollout.counts[rollout.stage]
    if rollout.undoes or counts.stands > 0:
        return None
    if counts.ended > 0:
        return Cause.STAGE_ENDED
    is_last = rollout.stage == len(rollout.plan.stages) - 1
    return Cause.STAGE_EMPTY if counts.offline > 0 and not is_last else None


def _is_met(rollout: Rollout) -> bool:
    counts = rollout.counts[rollout.stage]
    if rollout.undoes:  # a return is over when nobody is on the way any more
        return counts.working == 0
    if counts.waiting > 0:
        return False
    if counts.counted == 0:  # an empty last stage, after others that passed
        return rollout.stage > 0
    return rollout.gate(rollout.stage).is_reached(counts.committed, counts.counted)


def _broken(rollout: Rollout) -> Cause | None:
    """Why a rollout that gives orders, or may again, has to stop for good."""
    if rollout.undoes or not rollout.live:
        return None  # a return only ever makes it better
    if rollout.status not in {Status.RUNNING, Status.PAUSED, Status.COMPLETED}:
        return None
    if len(rollout.counts) != len(rollout.plan.stages) + 1 or not all(part.is_sound for part in rollout.counts):
        return Cause.COUNTS_BROKEN
    for number, stage in enumerate(rollout.plan.stages):
        part = rollout.counts[number]
        # Devices whose turn has not come excuse no error: it is held against all whose turn has come so far.
        among = min(part.stands, rollout.total.counted) if part.waiting else part.counted
        if not stage.gate.allows(part.errors, among):
            return Cause.TOO_MANY_ERRORS
        if (part.stands - part.errors) * WHOLE < stage.gate.success * part.stands:
            return Cause.SUCCESS_UNREACHABLE
    late = rollout.counts[rollout.caught_up]
    return None if rollout.plan.catch_up.allows(late.errors, late.counted) else Cause.CATCH_UP_ERRORS


def _halted(step: Step, cause: Cause) -> Step:
    """Late devices that fail stop the catching up; the many that committed before them are no worse for it."""
    rollout = replace(step.rollout, status=Status.HALTED, cause=cause, opening=False)
    back: tuple[Effect, ...] = () if cause is Cause.CATCH_UP_ERRORS else (Return(),)
    return replace(step, rollout=rollout, effects=(*step.effects, *back), order=None)
