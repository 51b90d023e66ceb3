"""One device in a rollout: what its check-in changes, what its silence changes, and the order it is answered with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.exchange.checkin import Deed, Order
from edgeward.fleet.rollout.evidence import held_by, progress_in, standing_of
from edgeward.fleet.rollout.happening import Step
from edgeward.fleet.rollout.turns import turns
from edgeward.fleet.rollout.words import Standing

if TYPE_CHECKING:
    from edgeward.exchange.checkin import CheckIn
    from edgeward.fleet.rollout.state import Member, Rollout

_UNHEARD = {Standing.WORKING: Standing.SILENT, Standing.WAITING: Standing.OFFLINE}
"""Where a device stands that is not at an end, and where it stands when it is heard no more."""


def heard(rollout: Rollout, member: Member, report: CheckIn, now_s: int) -> Step:
    """Take a check-in. One that is older than the newest taken changes nothing and is answered the same."""
    if (report.boot, report.sequence) <= (member.boot, member.sequence):
        return Step(rollout, order=order_for(rollout, member, now_s))
    after = replace(member, heard_s=max(now_s, member.heard_s), boot=report.boot, sequence=report.sequence)
    progress = progress_in(rollout, report)
    if progress is not None:
        after = replace(
            after,
            standing=standing_of(rollout, progress, held_by(report, rollout.release.family)),
            state=progress.state,
            why=progress.why,
            attempt=progress.attempt,
            percent=progress.percent,
            evidence=progress.evidence,
        )
    elif member.standing is Standing.WAITING:
        after = replace(after, standing=_turn(rollout, now_s))
    elif member.standing in {Standing.WORKING, Standing.SILENT}:
        # It never had the order, or the answer that held it was lost: there is nothing left to withdraw.
        after = replace(after, standing=Standing.WITHDRAWN if rollout.withdraws else Standing.WORKING)
    rollout = rollout.moved(member, after)
    order = order_for(rollout, after, now_s)
    if order is not None and order.deed is Deed.INSTALL and not after.given_s:
        after = replace(after, given_s=now_s)
    return Step(rollout, (after,), order=order)


def _turn(rollout: Rollout, now_s: int) -> Standing:
    """Where a device stands that has waited until now."""
    if rollout.withdraws:
        return Standing.WITHDRAWN
    is_open = rollout.gives and rollout.plan.is_open(now_s)
    return Standing.WORKING if is_open and turns(rollout) != 0 else Standing.WAITING


def ended(rollout: Rollout, member: Member) -> Step:
    """Count a device apart that was on its way. What was judged before stays: ending a device undoes no error."""
    if member.standing not in _UNHEARD:
        return Step(rollout)
    after = replace(member, standing=Standing.ENDED)
    return Step(rollout.moved(member, after), (after,))


def unheard(rollout: Rollout, member: Member, now_s: int) -> Step:
    """Count a device as silent when nothing was heard of it for the plan's limit since it was chosen.

    One whose turn had not come has no order that could have silenced it: it follows later.
    """
    since = max(member.chosen_s, member.heard_s)
    becomes = _UNHEARD.get(member.standing)
    if becomes is None or rollout.withdraws or now_s - since <= rollout.plan.silent_s:
        return Step(rollout)
    after = replace(member, standing=becomes)
    return Step(rollout.moved(member, after), (after,))


def order_for(rollout: Rollout, member: Member, now_s: int) -> Order | None:
    """What the device shall do for this rollout now; None: nothing, or nothing new."""
    if member.standing is not Standing.WORKING:
        return None
    if rollout.withdraws:
        return _order(rollout, Deed.WITHDRAW)
    if not rollout.gives or not (member.given_s or rollout.plan.is_open(now_s)):
        return None
    return _order(rollout, Deed.INSTALL)


def _order(rollout: Rollout, deed: Deed) -> Order:
    release, plan = rollout.release, rollout.plan
    return Order(
        rollout=rollout.id,
        family=release.family,
        deed=deed,
        version=release.version,
        sha256=release.sha256,
        attempts=plan.attempts,
        shadow_s=plan.shadow_s,
        soak_s=plan.soak_s,
        disagree=plan.disagree,
        rate_kib_s=plan.rate_kib_s,
    )
