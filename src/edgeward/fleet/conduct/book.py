"""What a check-in is told to and where its orders come from: the ``Rollouts`` port of the fleet server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from edgeward.exchange.checkin import Deed
from edgeward.fleet.conduct.conductor import Conductor
from edgeward.fleet.conduct.rows import member_of
from edgeward.fleet.conduct.tables import RolloutDevice
from edgeward.fleet.rollout.choose import FOLLOWS
from edgeward.fleet.rollout.evidence import held_by, progress_in
from edgeward.fleet.rollout.happening import Came, Ended, Heard
from edgeward.fleet.rollout.state import Candidate
from edgeward.fleet.rollout.words import Status
from edgeward.fleet.store.models import Device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from edgeward.exchange.checkin import CheckIn, Order
    from edgeward.fleet.conduct.conductor import Kept
    from edgeward.fleet.rollout.state import Member


@dataclass(frozen=True, slots=True)
class Book:
    """The rollouts, asked by check-ins."""

    def watched(self, session: Session) -> frozenset[str]:
        """Families with a rollout that a check-in may change or need an order of."""
        return frozenset(kept.row.family for kept in Conductor.of(session).awake())

    def heard(self, session: Session, device_id: str, report: CheckIn, now_s: int) -> list[Order]:
        """The orders that stand for the device, at most one per family: the newest, and to install before to give up.

        What it says of a rollout is kept; a device that follows later joins here. One that was ended and taken in again
        may say something of a rollout that waits for nobody any more.
        """
        conductor = Conductor.of(session, now_s)
        families = {family.family for family in report.families}
        concerned = [
            kept
            for kept in conductor.kept.values()
            if kept.row.family in families
            and (kept.row.awake or progress_in(kept.rollout, report) is not None)
            and not _is_settled(kept, report)
        ]
        if not concerned:
            return []
        places = _places(session, device_id, concerned)
        orders: dict[str, Order] = {}
        for kept in concerned:
            order = _told(session, conductor, kept, places.get(kept.row.id), device_id, report, now_s)
            if order is not None and (order.deed is Deed.INSTALL or order.family not in orders):
                orders[order.family] = order
        return [orders[family] for family in sorted(orders)]

    def ended(self, session: Session, device_id: str, actor: str, now_s: int) -> None:
        """A device that an operator revoked or called lost is counted apart wherever it was on its way."""
        conductor = Conductor(session, now_s, locked=True)
        for number, member in sorted(_places(session, device_id, conductor.awake()).items()):
            conductor.happen(number, Ended(member), actor, now_s)


def _places(session: Session, device_id: str, among: Iterable[Kept]) -> dict[int, Member]:
    """Where the device stands, by the number of the rollout."""
    query = select(RolloutDevice).where(
        RolloutDevice.device_id == device_id, RolloutDevice.rollout.in_([kept.row.id for kept in among])
    )
    return {row.rollout: member_of(row) for row in session.scalars(query)}


def _is_settled(kept: Kept, report: CheckIn) -> bool:
    """Whether nothing can come of it: all is over and well, and the device holds the release. Most check-ins are so."""
    rollout = kept.rollout
    if rollout.status is not Status.COMPLETED or held_by(report, kept.row.family) != rollout.release.sha256:
        return False
    return rollout.total.working == 0 and rollout.total.errors == 0


def _told(
    session: Session,
    conductor: Conductor,
    kept: Kept,
    member: Member | None,
    device_id: str,
    report: CheckIn,
    now_s: int,
) -> Order | None:
    number, actor = kept.row.id, f"device:{device_id}"
    if member is None or member.standing in FOLLOWS:
        rollout = conductor.kept[number].rollout
        groups: frozenset[str] = frozenset()
        if rollout.plan.group is not None:
            group = session.scalar(select(Device.group).where(Device.id == device_id))
            groups = frozenset({group or ""})
        device = Candidate(device_id, now_s, held_by(report, kept.row.family), member is not None, groups)
        joined = conductor.happen(number, Came(device, member), actor, now_s).members
        member = joined[0] if joined else member
    if member is None:
        return None
    return conductor.happen(number, Heard(member, report), actor, now_s).order
