"""Between rows and the pure values of ``fleet.rollout``."""

from __future__ import annotations

import json
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

from edgeward.exchange.checkin import Evidence
from edgeward.exchange.typed import decode, encode
from edgeward.exchange.words import UpdateState, Why
from edgeward.fleet.conduct.tables import RolloutDevice, RolloutRow
from edgeward.fleet.rollout.plan import Plan, Release
from edgeward.fleet.rollout.state import Counts, Member, Rollout
from edgeward.fleet.rollout.words import Cause, Standing, Status

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_BYTES_MAX = 1 << 20
_PLAIN = ("author", "approver", "stage", "opening", "opened_s", "met_s", "size", "origin", "undoes", "live")
_TOLD = ("stage", "chosen_s", "given_s", "attempt", "percent")


def rollout_of(row: RolloutRow) -> Rollout:
    """The rollout that a row holds."""
    return Rollout(
        id=row.id,
        release=decode(Release, row.release.encode(), bytes_max=_BYTES_MAX),
        plan=decode(Plan, row.plan.encode(), bytes_max=_BYTES_MAX),
        counts=tuple(Counts(*part) for part in json.loads(row.counts)),
        status=Status(row.status),
        cause=Cause(row.cause) if row.cause else None,
        **{name: getattr(row, name) for name in _PLAIN},
    )


def write_rollout(row: RolloutRow, rollout: Rollout, now_s: int) -> None:
    """Put what changed into the row and count it."""
    told = (row.status, row.cause, row.stage, row.live)
    row.status, row.cause = rollout.status.value, rollout.cause.value if rollout.cause else ""
    row.counts = json.dumps([astuple(part) for part in rollout.counts], separators=(",", ":"))
    for name in _PLAIN:
        setattr(row, name, getattr(rollout, name))
    row.awake = is_awake(rollout)
    row.changed_s = now_s
    row.pulse += 1
    if told != (row.status, row.cause, row.stage, row.live):
        row.revision += 1


def touch(row: RolloutRow, now_s: int) -> None:
    """Count a change beside the rollout's own state that people must know of."""
    row.changed_s = now_s
    row.pulse += 1
    row.revision += 1


def new_row(session: Session, rollout: Rollout, *, label: str, now_s: int) -> RolloutRow:
    """The row of a rollout that has no number yet: it gets one."""
    row = RolloutRow(
        family=rollout.release.family,
        label=label,
        release=encode(rollout.release).decode(),
        plan=encode(rollout.plan).decode(),
        made_s=now_s,
        revision=0,
        pulse=0,
        stage=0,
        status="",
        cause="",
        live=True,
    )
    write_rollout(row, rollout, now_s)
    session.add(row)
    session.flush()
    return row


def is_awake(rollout: Rollout) -> bool:
    """Whether a check-in of a device that it concerns may change it or need an order of it."""
    if rollout.status in {Status.RUNNING, Status.PAUSED} or (rollout.status is Status.COMPLETED and rollout.live):
        return True
    return rollout.total.working + rollout.total.waiting > 0


def member_of(row: RolloutDevice) -> Member:
    """The device's place that a row holds. Check-ins are sorted before they come here, so none of them is old."""
    return Member(
        device=row.device_id,
        standing=Standing(row.standing),
        state=UpdateState(row.state) if row.state else None,
        why=Why(row.why) if row.why else None,
        evidence=decode(Evidence, row.evidence.encode(), bytes_max=_BYTES_MAX) if row.evidence else None,
        **{name: getattr(row, name) for name in _TOLD},
    )


def member_values(member: Member) -> dict[str, Any]:
    """The columns of a device's place."""
    return {
        "standing": member.standing.value,
        "state": member.state.value if member.state else "",
        "why": member.why.value if member.why else "",
        "evidence": encode(member.evidence).decode() if member.evidence else "",
        **{name: getattr(member, name) for name in _TOLD},
    }


def differs(row: RolloutDevice | None, member: Member) -> bool:
    """Whether a row says something else, or nothing yet, of a device's place."""
    return row is None or any(getattr(row, name) != value for name, value in member_values(member).items())


def write_member(session: Session, row: RolloutDevice | None, rollout: int, member: Member, now_s: int) -> None:
    """Keep a device's place; a row that says it already is left alone."""
    values = member_values(member)
    if row is None:
        session.add(RolloutDevice(rollout=rollout, device_id=member.device, changed_s=now_s, **values))
    elif differs(row, member):
        for name, value in values.items():
            setattr(row, name, value)
        row.changed_s = now_s


assert len(fields(Counts)) == len(Standing)
