"""What people do to rollouts. Each deed is one transaction; whoever decides on an old picture is told so.

``revision`` is what the person saw: when the rollout's status or stage is another by now, the deed is refused
(409 ``rollout-changed``), so that of two operators at once one acts and the other looks again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select

from edgeward.fleet.conduct import look
from edgeward.fleet.conduct.conductor import Conductor
from edgeward.fleet.conduct.rows import new_row, rollout_of, touch
from edgeward.fleet.conduct.tables import RolloutRow
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.rollout.happening import Abort, Approve, Happening, Pause, Resume
from edgeward.fleet.rollout.plan import Plan
from edgeward.fleet.rollout.plan import Release as Planned
from edgeward.fleet.rollout.state import Rollout
from edgeward.fleet.rollout.words import Status
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Device, DeviceTag
from edgeward.kernel.errors import EdgewardError, RolloutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from edgeward.fleet.conduct.desk import Desk
    from edgeward.fleet.store.engine import Store

DEEDS: dict[str, Callable[[str], Happening]] = {"approve": Approve, "pause": Pause, "resume": Resume, "abort": Abort}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants rolled out. ``sha256`` "": the bundle that the repository names for the family now."""

    family: str
    sha256: str = ""
    label: str = ""
    plan: Plan = field(default_factory=Plan)


def create(store: Store, desk: Desk, wish: Wish, *, by: str, now_s: int) -> int:
    """Draft a rollout; its number.

    ``RefusedError``: 404 ``release-unknown``, 422 ``group-unknown``, ``tag-unknown``, and of plans.
    """
    with store.writing() as session:
        release = _release(session, desk, wish)
        _require_known(session, wish.plan)
        try:
            draft = Rollout.draft(0, release, wish.plan, by)
        except RolloutError as error:
            raise RefusedError(422, error.code, str(error)) from error
        row = new_row(session, draft, label=wish.label, now_s=now_s)
        detail = {"family": release.family, "version": release.version, "sha256": release.sha256}
        _record(session, f"user:{by}", "draft", row.id, now_s, **detail)
        return row.id


def decide(store: Store, number: int, deed: str, *, by: str, now_s: int, revision: int | None = None) -> None:
    """Approve, pause, resume or abort.

    ``RefusedError``: 404 ``rollout-unknown``, 409 ``rollout-changed``, ``rollout-state``, 403 ``approval-own``.
    """
    with store.writing() as session:
        conductor = Conductor(session, now_s, locked=True)
        row = _seen(session, conductor, number, revision)
        if row.id not in conductor.kept:
            raise RefusedError(409, "rollout-state", f"rollout {number} is over ({row.status}); make a new one")
        try:
            conductor.happen(number, DEEDS[deed](by), f"user:{by}", now_s)
        except RolloutError as error:
            raise RefusedError(403 if error.code == "approval-own" else 409, error.code, str(error)) from error


def ask_return(store: Store, number: int, *, by: str, now_s: int, revision: int | None = None) -> None:
    """Let devices that committed go back, after the rollout has ended; the clock puts it in force.

    One person is enough: it goes to a bundle that served before. ``RefusedError``: as ``decide``, and 409
    ``return-missing``.
    """
    with store.writing() as session:
        conductor = Conductor(session, now_s, locked=True)
        row = _seen(session, conductor, number, revision)
        kept = conductor.kept.get(number)
        ended = {Status.HALTED, Status.ABORTED, Status.COMPLETED}
        if kept is None or not row.live or kept.rollout.status not in ended or row.way_back in {"pending", "done"}:
            raise RefusedError(
                409,
                "rollout-state",
                f"rollout {number} is {row.status}: a return needs one that was aborted, halted or completed, that no "
                "newer one followed and that is not going back already",
            )
        if not kept.rollout.release.return_sha256 or kept.rollout.undoes:
            raise RefusedError(
                409,
                "return-missing",
                f"rollout {number} names no bundle to go back to: publish one with --allow-return, and roll it out",
            )
        row.way_back = "pending"
        touch(row, now_s)
        _record(session, f"user:{by}", "return-asked", number, now_s)


def _seen(session: Session, conductor: Conductor, number: int, revision: int | None) -> RolloutRow:
    kept = conductor.kept.get(number)
    row = kept.row if kept is not None else session.get(RolloutRow, number)
    if row is None:
        raise RefusedError(404, "rollout-unknown", f"there is no rollout {number}")
    if revision is not None and row.revision != revision:
        raise RefusedError(
            409,
            "rollout-changed",
            f"rollout {number} has changed since you looked: it is {row.status} now; look again and decide",
        )
    return row


def _release(session: Session, desk: Desk, wish: Wish) -> Planned:
    """What signed metadata name now: anything else no device would take."""
    try:
        known = {sha256: version for family, version, sha256 in look.releases(session, desk) if family == wish.family}
        prepared = desk.prepared(wish.family)
    except EdgewardError as error:
        raise RefusedError(409, error.code, str(error)) from error
    sha256 = wish.sha256 or next(iter(known), "")
    if sha256 not in known:
        raise RefusedError(
            404,
            "release-unknown",
            f"the repository does not name {'this bundle' if wish.sha256 else 'a bundle'} of {wish.family} as current; "
            "publish it first (edgeward publish)",
        )
    if prepared is not None:
        return Planned(wish.family, known[sha256], sha256, prepared.version, prepared.sha256)
    before = _before(session, wish.family, sha256)
    return Planned(wish.family, known[sha256], sha256, *before)


def _before(session: Session, family: str, sha256: str) -> tuple[str, str]:
    """The release of the family's newest rollout that completed with another bundle."""
    query = (
        select(RolloutRow)
        .where(RolloutRow.family == family, RolloutRow.status == Status.COMPLETED.value)
        .order_by(RolloutRow.id.desc())
    )
    for row in session.scalars(query.limit(20)):
        release = rollout_of(row).release
        if release.sha256 != sha256:
            return release.version, release.sha256
    return "", ""


def _require_known(session: Session, plan: Plan) -> None:
    """A misspelt group must not make a stage that nobody is in."""
    groups = {stage.pick.group for stage in plan.stages} | {plan.group}
    for group in sorted(one for one in groups if one is not None):
        if session.scalar(select(Device.id).where(Device.group == group).limit(1)) is None:
            raise RefusedError(422, "group-unknown", f"no device is in group {group!r}; correct the plan")
    for tag in sorted({stage.pick.tag for stage in plan.stages if stage.pick.tag is not None}):
        if session.scalar(select(DeviceTag.device_id).where(DeviceTag.tag == tag).limit(1)) is None:
            raise RefusedError(422, "tag-unknown", f"no device has the tag {tag!r}; correct the plan")


def _record(session: Session, actor: str, deed: str, number: int, now_s: int, **detail: str) -> None:
    audit.record(
        session, actor=actor, action=f"rollout.{deed}", subject=f"rollout:{number}", detail=detail, now_s=now_s
    )
