"""What people see of rollouts: read from the database, changing nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from edgeward.fleet.conduct.rows import rollout_of
from edgeward.fleet.conduct.tables import RolloutDevice, RolloutRow
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.rollout.words import ERRORS, Standing
from edgeward.fleet.store.models import Device, Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from edgeward.fleet.conduct.desk import Desk
    from edgeward.fleet.rollout.state import Counts, Rollout

PAGE_MAX = 500
PROVEN = "evidence-unproven"
"""The reason shown for a device that says committed without proof; ``Why`` has no word for it."""
UNHEARD = "silent"


@dataclass(frozen=True, slots=True)
class StageSeen:
    """A stage as people see it; ``state``: waiting, open, passed, stopped, or skipped where nobody was left for it."""

    name: str
    counts: Counts
    state: str
    success: int
    errors: int
    errors_max: int | None


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason of failures, how many devices gave it, and one of them."""

    standing: Standing
    why: str
    devices: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A rollout with its row, its stages and the reason of every failure."""

    row: RolloutRow
    rollout: Rollout
    stages: Sequence[StageSeen]
    reasons: Sequence[Reason]


@dataclass(frozen=True, slots=True)
class Place:
    """A device in a rollout, with its label and group."""

    row: RolloutDevice
    label: str
    group: str

    @property
    def why(self) -> str:
        """Why it failed, or what it waits for."""
        return reason_of(self.row.standing, self.row.why)


def reason_of(standing: str, why: str) -> str:
    """The reason in one word, also where the device gave none."""
    if standing == Standing.SILENT.value:
        return UNHEARD
    return PROVEN if standing == Standing.UNPROVEN.value and not why else why


def listed(
    session: Session, *, family: str = "", status: str = "", before: int | None = None, count: int = 100
) -> list[tuple[RolloutRow, Rollout]]:
    """Rollouts, the newest first."""
    query = select(RolloutRow).order_by(RolloutRow.id.desc()).limit(min(count, PAGE_MAX))
    if family:
        query = query.where(RolloutRow.family == family)
    if status:
        query = query.where(RolloutRow.status == status)
    if before is not None:
        query = query.where(RolloutRow.id < before)
    return [(row, rollout_of(row)) for row in session.scalars(query)]


def one(session: Session, number: int) -> Seen:
    """A rollout whole; ``RefusedError`` (404 ``rollout-unknown``)."""
    row = session.get(RolloutRow, number)
    if row is None:
        raise RefusedError(404, "rollout-unknown", f"there is no rollout {number}")
    rollout = rollout_of(row)
    return Seen(row, rollout, stages_of(rollout), _reasons(session, number))


def stages_of(rollout: Rollout) -> list[StageSeen]:
    """Its stages in order, and those caught up last, once there are any."""
    seen = []
    for number, stage in enumerate(rollout.plan.stages):
        gate, state = stage.gate, _state(rollout, number)
        seen.append(StageSeen(stage.name, rollout.counts[number], state, gate.success, gate.errors, gate.errors_max))
    late, limit = rollout.counts[rollout.caught_up], rollout.plan.catch_up
    if late.total:
        seen.append(StageSeen("caught up", late, "open", 0, limit.errors, limit.errors_max))
    return seen


def _state(rollout: Rollout, number: int) -> str:
    if not rollout.opened_s or number > rollout.stage or (number == rollout.stage and rollout.opening):
        return "waiting"
    if number < rollout.stage or rollout.met_s:
        return "passed" if rollout.counts[number].total else "skipped"
    return "stopped" if rollout.withdraws else "open"


def _reasons(session: Session, number: int) -> list[Reason]:
    query = (
        select(RolloutDevice.standing, RolloutDevice.why, func.count())
        .where(RolloutDevice.rollout == number, RolloutDevice.standing.in_([one.value for one in ERRORS]))
        .group_by(RolloutDevice.standing, RolloutDevice.why)
    )
    found = [Reason(Standing(row[0]), reason_of(row[0], row[1]), row[2]) for row in session.execute(query)]
    return sorted(found, key=lambda reason: (-reason.devices, reason.why))


def places(
    session: Session,
    number: int,
    *,
    standing: str = "",
    stage: int | None = None,
    errors: bool = False,
    after: str = "",
    count: int = 100,
) -> list[Place]:
    """Devices of a rollout in the order of their ids. ``errors``: only those that count as one."""
    query = (
        select(RolloutDevice, Device.label, Device.group)
        .outerjoin(Device, Device.id == RolloutDevice.device_id)
        .where(RolloutDevice.rollout == number, RolloutDevice.device_id > after)
        .order_by(RolloutDevice.device_id)
        .limit(min(count, PAGE_MAX))
    )
    if standing:
        query = query.where(RolloutDevice.standing == standing)
    if errors:
        query = query.where(RolloutDevice.standing.in_([one.value for one in ERRORS]))
    if stage is not None:
        query = query.where(RolloutDevice.stage == stage)
    return [Place(row, label or "", group or "") for row, label, group in session.execute(query)]


def of_device(session: Session, device_id: str) -> list[tuple[RolloutDevice, RolloutRow]]:
    """The rollouts that a device was in, the newest first."""
    query = (
        select(RolloutDevice, RolloutRow)
        .join(RolloutRow, RolloutRow.id == RolloutDevice.rollout)
        .where(RolloutDevice.device_id == device_id)
        .order_by(RolloutDevice.rollout.desc())
        .limit(PAGE_MAX)
    )
    return [(place, row) for place, row in session.execute(query)]


def evidence_of(row: RolloutDevice) -> dict[str, Any]:
    """The device's evidence by name, empty where it gave none."""
    found: dict[str, Any] = json.loads(row.evidence) if row.evidence else {}
    return found


def releases(session: Session, desk: Desk) -> list[tuple[str, str, str]]:
    """What can be rolled out: family, version and hash of every bundle that signed metadata name now.

    What the server has proven (``fleet.releases``); where it has no root to prove by, what the repository says: a
    device proves it in any case.
    """
    query = select(Release.family, Release.version, Release.sha256).where(Release.current.is_(True))
    proven = {(row[0], row[1], row[2]) for row in session.execute(query)}
    return sorted(proven or {(offer.name, offer.version, offer.sha256) for offer in desk.offers()})


def pulse(session: Session, number: int) -> int:
    """A number that is another after every change of a rollout; 0 for one that is not there."""
    return session.scalar(select(RolloutRow.pulse).where(RolloutRow.id == number)) or 0


def pulses(session: Session) -> tuple[int, int]:
    """The same for all rollouts together: how many there are, and all their changes."""
    row = session.execute(select(func.count(), func.coalesce(func.sum(RolloutRow.pulse), 0)).select_from(RolloutRow))
    number, changes = row.one()
    return number, int(changes)
