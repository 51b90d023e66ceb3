"""One transaction's view of the rollouts: what happens to one goes through ``step``, and is kept and audited.

Rollouts are read without a lock, because most check-ins change none. Whoever changes one locks all that are open, in
the order of their numbers, reads them anew and decides again (PostgreSQL; SQLite has one writer anyway). Check-ins hold
their devices' rows before that; nobody who holds rollouts asks for a device's row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import insert, or_, select

from edgeward.fleet.conduct.rows import differs, member_of, member_values, rollout_of, write_member, write_rollout
from edgeward.fleet.conduct.tables import RolloutDevice, RolloutRow
from edgeward.fleet.rollout.happening import (
    Came,
    Choose,
    Effect,
    Ended,
    Happening,
    Heard,
    Return,
    Scope,
    Step,
    Supersede,
    Superseded,
    Unheard,
)
from edgeward.fleet.rollout.state import Candidate
from edgeward.fleet.rollout.step import step
from edgeward.fleet.rollout.words import ERRORS, Standing, Status
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Device, DeviceFamily, DeviceTag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from edgeward.fleet.rollout.state import Member, Rollout

_INFO = "rollouts"
SERVER = "server"


@dataclass(slots=True)
class Kept:
    """A rollout with the row that keeps it."""

    row: RolloutRow
    rollout: Rollout


class Conductor:
    """The open rollouts, as ``session`` sees them: those that no newer one superseded, or that are awake."""

    def __init__(self, session: Session, now_s: int, *, locked: bool) -> None:
        self._session = session
        self._now_s = now_s
        bind = session.get_bind()
        self._locked = locked or bind.dialect.name == "sqlite"
        self.kept = self._load(lock=locked)

    @classmethod
    def of(cls, session: Session, now_s: int = 0) -> Conductor:
        """The transaction's one; it is locked when something changes."""
        found: Conductor | None = session.info.get(_INFO)
        if found is None:
            found = session.info[_INFO] = cls(session, now_s, locked=False)
        return found

    def _load(self, *, lock: bool) -> dict[int, Kept]:
        query = select(RolloutRow).where(or_(RolloutRow.live, RolloutRow.awake)).order_by(RolloutRow.id)
        if lock:
            query = query.with_for_update().execution_options(populate_existing=True)
        return {row.id: Kept(row, rollout_of(row)) for row in self._session.scalars(query)}

    def awake(self) -> list[Kept]:
        """Those that check-ins concern, the oldest first."""
        return [kept for kept in self.kept.values() if kept.row.awake]

    def add(self, row: RolloutRow) -> Kept:
        """A rollout that was just made."""
        kept = self.kept[row.id] = Kept(row, rollout_of(row))
        return kept

    def lock(self) -> None:
        """Keep others from changing any of them until the transaction ends."""
        if not self._locked:
            self._session.flush()
            self.kept = self._load(lock=True)
            self._locked = True

    def happen(self, number: int, happening: Happening, actor: str, now_s: int) -> Step:
        """What comes of it, kept. Raises what ``step`` does."""
        self._now_s = now_s
        kept = self.kept[number]
        done = step(kept.rollout, happening, now_s)
        if not self._locked and (done.rollout != kept.rollout or self._are_news(number, done.members)):
            self.lock()
            done = step(self.kept[number].rollout, self._anew(number, happening), now_s)
            kept = self.kept[number]
        before, kept.rollout = kept.rollout, done.rollout
        self._keep_members(number, happening, done.members)
        if done.rollout != before:
            write_rollout(kept.row, done.rollout, now_s)
            self._note(before, done.rollout, actor)
        for effect in done.effects:
            self._follow(number, effect)
        return done

    def _are_news(self, number: int, members: Iterable[Member]) -> bool:
        """Whether a device's place would be written: the clock writes places too, and holds the rollouts before."""
        return any(differs(self._session.get(RolloutDevice, (number, one.device)), one) for one in members)

    def _anew(self, number: int, happening: Happening) -> Happening:
        """The same with the device's place as it is now that nobody else changes it."""
        if not isinstance(happening, Came | Heard | Unheard | Ended):
            return happening
        device = happening.device.device if isinstance(happening, Came) else happening.member.device
        row = self._session.get(RolloutDevice, (number, device), populate_existing=True)
        if isinstance(happening, Came):
            return replace(happening, member=None if row is None else member_of(row))
        assert row is not None, "a device in a rollout stays in it"
        member = replace(member_of(row), heard_s=happening.member.heard_s)
        return replace(happening, member=member)

    def _keep_members(self, number: int, happening: Happening, members: tuple[Member, ...]) -> None:
        if isinstance(happening, Scope):  # all of them are new
            rows = [
                {"rollout": number, "device_id": one.device, "changed_s": self._now_s, **member_values(one)}
                for one in members
            ]
            if rows:
                self._session.execute(insert(RolloutDevice), rows)
            return
        for member in members:
            row = self._session.get(RolloutDevice, (number, member.device))
            was = None if row is None else row.standing
            write_member(self._session, row, number, member, self._now_s)
            if member.standing in {*ERRORS, Standing.ENDED} and was != member.standing.value:
                why = member.why.value if member.why is not None else ""
                detail = {"rollout": number, "standing": member.standing.value, "why": why}
                audit.record(
                    self._session,
                    actor=SERVER,
                    action="rollout.device",
                    subject=member.device,
                    detail=detail,
                    now_s=self._now_s,
                )

    def _note(self, before: Rollout, after: Rollout, actor: str) -> None:
        """Audit what people ask about: its status, and each stage that opens."""
        if after.status is not before.status:
            detail: dict[str, str | int] = {"family": after.release.family, "version": after.release.version}
            if after.cause is not None:
                detail["cause"] = after.cause.value
            self._record(after, f"rollout.{after.status.value}", actor, detail)
        if before.opening and not after.opening and after.status in {Status.RUNNING, Status.COMPLETED}:
            counts = after.counts[after.stage]
            opened: dict[str, str | int] = {"stage": after.open_stage.name, "devices": counts.stands}
            self._record(after, "rollout.stage", actor, opened)

    def _record(self, rollout: Rollout, action: str, actor: str, detail: Mapping[str, str | int]) -> None:
        subject = f"rollout:{rollout.id}"
        audit.record(self._session, actor=actor, action=action, subject=subject, detail=detail, now_s=self._now_s)

    def _follow(self, number: int, effect: Effect) -> None:
        mine = self.kept[number]
        match effect:
            case Supersede():
                for other, kept in list(self.kept.items()):
                    waits = kept.rollout.status is Status.APPROVED and other > number
                    if other != number and kept.row.family == mine.row.family and not waits:
                        self.happen(other, Superseded(number), SERVER, self._now_s)
            case Choose():
                self.happen(number, Scope(self._scope(mine.rollout)), SERVER, self._now_s)
            case Return():
                mine.row.way_back = "pending"

    def _scope(self, rollout: Rollout) -> list[Candidate]:
        """Every active device that reports the family, as its newest check-in says."""
        query = (
            select(Device.id, Device.seen_s, Device.group, DeviceFamily.sha256)
            .join(DeviceFamily, DeviceFamily.device_id == Device.id)
            .where(DeviceFamily.family == rollout.release.family, Device.state == "active")
        )
        if rollout.undoes:
            query = query.where(DeviceFamily.sha256 == rollout.undoes)
        if rollout.plan.group is not None:
            query = query.where(Device.group == rollout.plan.group)
        chosen = set(self._session.scalars(select(RolloutDevice.device_id).where(RolloutDevice.rollout == rollout.id)))
        tags = self._tags({stage.pick.tag for stage in rollout.plan.stages if stage.pick.tag is not None})
        return [
            Candidate(
                row[0], row[1] or 0, row[3], row[0] in chosen, frozenset({row[2]}), frozenset(tags.get(row[0], ()))
            )
            for row in self._session.execute(query)
        ]

    def _tags(self, wanted: Iterable[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        named = sorted(wanted)
        if named:
            query = select(DeviceTag.device_id, DeviceTag.tag).where(DeviceTag.tag.in_(named))
            for device, tag in self._session.execute(query):
                found.setdefault(device, set()).add(tag)
        return found
