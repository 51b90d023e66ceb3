"""Lets time pass for the rollouts: beginnings, next stages, silences, and returns that are to be put in force.

Every worker has one and only the worker that holds the lease acts. Each rollout is looked at in a transaction of its
own, so that one that cannot be handled holds up no other.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from sqlalchemy import or_, select, update

from edgeward.fleet.conduct.conductor import SERVER, Conductor
from edgeward.fleet.conduct.rows import member_of, new_row, touch
from edgeward.fleet.conduct.tables import RolloutClock, RolloutDevice, RolloutRow
from edgeward.fleet.rollout.happening import Tick, Unheard
from edgeward.fleet.rollout.words import Standing, Status
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Device, Release
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from edgeward.fleet.conduct.desk import Desk
    from edgeward.fleet.store.engine import Store

PERIOD_S = 2
LEASE_S = 15
"""A worker that dies is followed by another after so long."""
ANEW_S = 30
"""How often a return that needs a hand is tried again."""
_TIMED = (Status.APPROVED, Status.RUNNING, Status.PAUSED, Status.COMPLETED)
_LOGGER = logging.getLogger("edgeward.fleet")


class Clock:
    """One worker's clock. ``holder``: a name that no other worker has; ``now_s``: the server's wall time."""

    def __init__(self, store: Store, desk: Desk, now_s: Callable[[], int], *, holder: str) -> None:
        self._store = store
        self._desk = desk
        self._now_s = now_s
        self._holder = holder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LEASE_S)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            try:
                self.tick()
            except Exception:
                _LOGGER.exception("the rollouts' clock failed; it goes on")

    def tick(self) -> bool:
        """Do what is due; False when another worker holds the lease."""
        now_s = self._now_s()
        if not self._leased(now_s):
            return False
        with self._store.reading() as session:
            open_ = or_(RolloutRow.live, RolloutRow.awake)
            query = select(RolloutRow.id).where(open_, RolloutRow.status.in_([one.value for one in _TIMED]))
            due = session.scalars(query.order_by(RolloutRow.id)).all()
            waiting = RolloutRow.way_back.in_(["pending", "by-hand"])
            returns = session.scalars(select(RolloutRow).where(waiting, RolloutRow.live)).all()
        for number in due:
            self._guarded(number, lambda number=number: self._pass_time(number, now_s))  # type: ignore[misc]
        for row in returns:
            if row.way_back == "pending" or now_s - row.changed_s >= ANEW_S:
                self._guarded(row.id, lambda number=row.id: self._go_back(number, now_s))  # type: ignore[misc]
        return True

    def _guarded(self, number: int, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            _LOGGER.exception("rollout %d could not be looked at; the others go on", number)

    def _leased(self, now_s: int) -> bool:
        mine = or_(RolloutClock.until_s <= now_s, RolloutClock.holder == self._holder)
        with self._store.writing() as session:
            taken = session.execute(
                update(RolloutClock)
                .where(RolloutClock.id == 1, mine)
                .values(holder=self._holder, until_s=now_s + LEASE_S)
            )
            return bool(taken.rowcount)  # type: ignore[attr-defined]

    def _pass_time(self, number: int, now_s: int) -> None:
        with self._store.writing() as session:
            conductor = Conductor(session, now_s, locked=True)
            if number not in conductor.kept:
                return
            self._silences(session, conductor, number, now_s)
            conductor.happen(number, Tick(), SERVER, now_s)

    def _silences(self, session: Session, conductor: Conductor, number: int, now_s: int) -> None:
        rollout = conductor.kept[number].rollout
        if rollout.total.working + rollout.total.waiting == 0 or rollout.withdraws:
            return
        before_s = now_s - rollout.plan.silent_s
        query = (
            select(RolloutDevice, Device.seen_s)
            .join(Device, Device.id == RolloutDevice.device_id)
            .where(
                RolloutDevice.rollout == number,
                RolloutDevice.standing.in_([Standing.WORKING.value, Standing.WAITING.value]),
                RolloutDevice.chosen_s < before_s,
                or_(Device.seen_s < before_s, Device.seen_s.is_(None)),
            )
            .order_by(RolloutDevice.device_id)
        )
        for row, seen_s in session.execute(query).all():
            member = replace(member_of(row), heard_s=seen_s or 0)
            conductor.happen(number, Unheard(member), SERVER, now_s)

    def _go_back(self, number: int, now_s: int) -> None:
        """Put the prepared return in force, which may be done already, then begin its rollout."""
        with self._store.reading() as session:
            release = Conductor(session, now_s, locked=False).kept[number].rollout.release
            named = session.get(Release, release.return_sha256)
        problem: EdgewardError | None = None
        try:
            if release.return_sha256 and (named is None or not named.current):
                self._desk.go_back(release.family, release.return_sha256)
        except EdgewardError as error:
            problem = error
        with self._store.writing() as session:
            conductor = Conductor(session, now_s, locked=True)
            kept = conductor.kept.get(number)
            if kept is None or kept.row.way_back not in {"pending", "by-hand"} or not kept.row.live:
                return
            try:
                if problem is not None:
                    raise problem
                back = new_row(session, kept.rollout.returned(0), label=f"return from rollout {number}", now_s=now_s)
            except EdgewardError as error:
                _wait_for_hand(session, kept.row, error, now_s)
                return
            kept.row.way_back, kept.row.return_code, kept.row.return_note = "done", "", ""
            conductor.add(back)
            _record(session, "rollout.return", number, now_s, rollout=back.id, version=release.return_version)
            conductor.happen(back.id, Tick(), SERVER, now_s)


def _wait_for_hand(session: Session, row: RolloutRow, error: EdgewardError, now_s: int) -> None:
    if (row.way_back, row.return_code) != ("by-hand", error.code):
        _record(session, "rollout.return-waits", row.id, now_s, code=error.code)
    row.way_back, row.return_code, row.return_note = "by-hand", error.code, str(error)
    touch(row, now_s)


def _record(session: Session, action: str, number: int, now_s: int, **detail: str | int) -> None:
    audit.record(session, actor=SERVER, action=action, subject=f"rollout:{number}", detail=detail, now_s=now_s)
