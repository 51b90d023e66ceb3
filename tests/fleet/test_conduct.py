"""Rollouts in the database: they outlive the server, two operators do not overrun each other, and devices go back."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from conduct_support import FAMILY, FakeDesk, Site
from rollout_fleet import NEW, OLD
from sqlalchemy import select, update
from sqlalchemy.event import listen, remove

from edgeward.exchange.checkin import Deed
from edgeward.exchange.words import UpdateState
from edgeward.fleet import devices
from edgeward.fleet.conduct import people
from edgeward.fleet.conduct.clock import LEASE_S, Clock
from edgeward.fleet.conduct.tables import RolloutRow
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.rollout.plan import CatchUp, Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.words import Cause, Status
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import AuditEntry, Base, Device
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from fleet_support import FleetKit

TWO = Plan(
    stages=(Stage("canary", Pick(count=2), Gate(errors=0, success=1_000_000)), Stage("the rest")),
    catch_up=CatchUp(at_once=1),
)


def begun(kit: FleetKit, plan: Plan = TWO, size: int = 6) -> tuple[Site, int]:
    site = Site(kit, size)
    number = site.draft(plan)
    site.decide(number, "approve")
    site.clock.tick()
    return site, number


def code_of(action: object, *arguments: object, **named: object) -> str:
    with pytest.raises(EdgewardError) as caught:
        action(*arguments, **named)  # type: ignore[operator]
    return caught.value.code


def actions(kit: FleetKit, prefix: str = "rollout.") -> list[str]:
    with kit.store.reading() as session:
        audit.verify(session)
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.seq)).all()
    return [row.action for row in rows if row.action.startswith(prefix)]


def test_whole_road_in_the_database(kit: FleetKit) -> None:
    """From draft to every device, with what people ask about in the audit."""
    site, number = begun(kit)
    assert len(site.places(number)) == 2
    for _ in range(8):
        site.round()
    assert site.rollout(number).status is Status.COMPLETED
    assert {device.held for device in site.devices.values()} == {NEW}
    assert site.rollout(number).counts == site.tally(number)
    assert actions(kit) == [
        "rollout.draft", "rollout.approved", "rollout.running", "rollout.stage", "rollout.stage", "rollout.completed",
    ]  # fmt: skip


def test_server_killed_in_the_middle_goes_on(kit: FleetKit) -> None:
    """A new server finds everything in the database: same stage, same devices, nothing given twice."""
    site, number = begun(kit)
    site.round()
    places = site.places(number)
    site.clock = Clock(kit.store, site.desk, kit.clock, holder="another")
    kit.now_s += LEASE_S + 1
    site.clock.tick()
    assert site.places(number) == places
    for _ in range(8):
        site.round()
    assert site.rollout(number).status is Status.COMPLETED


def test_transaction_that_fails_leaves_nothing(kit: FleetKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies while a stage opens has opened nothing; the next tick opens it whole."""
    site = Site(kit, 6)
    number = site.draft(TWO)
    site.decide(number, "approve")
    monkeypatch.setattr(audit, "flush", lambda _session: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError):
        site.clock._pass_time(number, kit.now_s)
    monkeypatch.undo()
    assert (site.rollout(number).status, site.places(number)) == (Status.APPROVED, {})
    site.clock.tick()
    assert (site.rollout(number).status, len(site.places(number))) == (Status.RUNNING, 2)


def test_failing_canary_halts_and_devices_go_back(kit: FleetKit) -> None:
    """The prepared return is put in force, and devices that committed get an order for it."""
    site, number = begun(kit)
    bad, good = sorted(site.places(number))
    for _ in range(2):
        site.visit(good)
        site.devices[good].work()
    site.visit(good)
    assert site.devices[good].held == NEW
    site.devices[bad].will = UpdateState.ROLLED_BACK
    for _ in range(6):
        site.round()
    halted = site.rollout(number)
    assert (halted.status, halted.cause) == (Status.HALTED, Cause.TOO_MANY_ERRORS)
    assert site.desk.released == [FAMILY]
    assert {device.held for device in site.devices.values()} == {OLD}
    back = site.rollout(number + 1)
    assert (back.status, back.undoes, back.approver) == (Status.COMPLETED, NEW, "ben")
    assert set(site.places(number)) == {bad, good}
    assert "rollout.device" in actions(kit)
    assert "rollout.return" in actions(kit)


def test_return_that_needs_a_hand_says_what_to_do_and_goes_on_after_it(kit: FleetKit) -> None:
    """Without the online keys the halted rollout waits; once somebody put the return in force, it begins."""
    site, number = begun(kit)
    site.desk.refusal = "return-by-hand"
    for name in site.places(number):
        site.devices[name].will = UpdateState.FAILED
    for _ in range(3):
        site.round()
    row = site.row(number)
    assert (row.status, row.way_back, row.return_note) == ("halted", "by-hand", f"by hand: {FAMILY}")
    assert actions(kit).count("rollout.return-waits") == 1
    site.desk.current = OLD
    site.round()
    assert site.row(number).way_back == "done"
    assert site.rollout(number + 1).undoes == NEW


def test_two_operators_at_once_one_is_told(kit: FleetKit) -> None:
    """Both saw it running; the second learns that it changed, whatever the first did."""
    site, number = begun(kit)
    seen = site.row(number).revision
    site.decide(number, "pause", by="ann", revision=seen)
    assert code_of(site.decide, number, "abort", by="cyd", revision=seen) == "rollout-changed"
    assert site.rollout(number).status is Status.PAUSED
    site.decide(number, "abort", by="cyd", revision=site.row(number).revision)
    assert site.rollout(number).status is Status.ABORTED


def test_counting_is_no_change_that_a_person_must_see(kit: FleetKit) -> None:
    """Devices that get on do not make an operator's page stale; a stage that opens does."""
    site, number = begun(kit)
    seen = site.row(number)
    for name in site.places(number):
        site.visit(name)
    site.devices[name].work()
    site.visit(name)
    now = site.row(number)
    assert now.pulse > seen.pulse
    assert now.revision == seen.revision


def test_two_operators_in_the_same_moment(kit: FleetKit) -> None:
    """Two threads, one picture, two deeds: exactly one succeeds."""
    site, number = begun(kit)
    seen = site.row(number).revision
    barrier, codes = threading.Barrier(2), []

    def act(deed: str, by: str) -> None:
        barrier.wait()
        try:
            site.decide(number, deed, by=by, revision=seen)
            codes.append("done")
        except RefusedError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=act, args=one) for one in (("pause", "ann"), ("abort", "cyd"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == ["done", "rollout-changed"]


def test_author_cannot_approve_and_unknown_is_said(kit: FleetKit) -> None:
    """Refusals have a status and a code of their own."""
    site = Site(kit, 2)
    number = site.draft(TWO)
    assert code_of(site.decide, number, "approve", by="ann") == "approval-own"
    assert code_of(site.decide, 99, "approve") == "rollout-unknown"
    assert code_of(site.draft, replace(TWO, group="no such ward")) == "group-unknown"
    wish = people.Wish(FAMILY, sha256="c" * 64)
    assert code_of(people.create, kit.store, FakeDesk(), wish, by="ann", now_s=kit.now_s) == "release-unknown"


def test_only_one_clock_ticks_at_a_time(kit: FleetKit) -> None:
    """The lease is one worker's until it runs out."""
    first, second = (Clock(kit.store, FakeDesk(), kit.clock, holder=name) for name in ("first", "second"))
    assert first.tick()
    assert not second.tick()
    assert first.tick()
    kit.now_s += LEASE_S
    assert second.tick()
    assert not first.tick()


def test_silence_is_seen_by_the_clock(kit: FleetKit) -> None:
    """A canary that is heard no more counts against its stage, by the check-ins that the server knows."""
    site, number = begun(kit)
    lost = sorted(site.places(number))[0]
    site.round(away=[lost])
    site.round(3_000, away=[lost])
    assert site.rollout(number).status is Status.RUNNING
    site.round(1_200, away=[lost])
    assert (site.rollout(number).status, site.rollout(number).total.silent) == (Status.HALTED, 1)


def test_stuck_rollout_of_one_family_holds_up_no_other(kit: FleetKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout that the clock cannot even look at is logged, and the next one is looked at."""
    site, number = begun(kit)
    with kit.store.writing() as session:
        session.execute(update(RolloutRow).where(RolloutRow.id == number).values(family="sepsis-risk"))
    other = site.draft(TWO)
    site.decide(other, "approve")
    real = Clock._silences

    def broken(self: Clock, session: object, conductor: object, which: int, now_s: int) -> None:
        if which == number:
            raise RuntimeError("stuck")
        real(self, session, conductor, which, now_s)  # type: ignore[arg-type]

    monkeypatch.setattr(Clock, "_silences", broken)
    site.clock.tick()
    assert site.rollout(other).status is Status.RUNNING


def test_newer_rollout_takes_the_place_of_a_paused_one(kit: FleetKit) -> None:
    """It begins although the older one is stuck, and devices of the older one are told to give up or get the new."""
    site, number = begun(kit)
    first = sorted(site.places(number))[0]
    site.visit(first)
    site.decide(number, "pause", by="ann")
    newer = site.draft(replace(TWO, stages=(Stage("canary", Pick(count=1)), Stage("rest"))))
    site.decide(newer, "approve")
    site.clock.tick()
    assert (site.rollout(number).status, site.rollout(number).cause) == (Status.ABORTED, Cause.SUPERSEDED)
    order = site.visit(first)
    assert order is not None
    if first in site.places(newer):
        assert (order.rollout, order.deed) == (newer, Deed.INSTALL)
    else:
        assert (order.rollout, order.deed) == (number, Deed.WITHDRAW)
    for name in site.devices:
        site.visit(name)
        site.visit(name)
    assert site.rollout(number).total.working == 0
    assert not site.row(number).awake


def test_return_by_hand_of_a_completed_rollout(kit: FleetKit) -> None:
    """One person may send a completed rollout back; twice is refused."""
    site, number = begun(kit)
    assert code_of(people.ask_return, kit.store, number, by="ann", now_s=kit.now_s) == "rollout-state"
    for _ in range(8):
        site.round()
    people.ask_return(kit.store, number, by="ann", now_s=kit.now_s)
    assert code_of(people.ask_return, kit.store, number, by="cyd", now_s=kit.now_s) == "rollout-state"
    for _ in range(6):
        site.round()
    assert {device.held for device in site.devices.values()} == {OLD}
    assert site.rollout(number + 1).total.committed == 6


def test_late_device_is_caught_up_through_the_database(kit: FleetKit) -> None:
    """A device that was away, and one that is new, take the completed release."""
    site = Site(kit, 5)
    away = sorted(site.devices)[0]
    kit.now_s += 7_200
    for name in site.devices.keys() - {away}:
        site.visit(name)
    number = site.draft(TWO)
    site.decide(number, "approve")
    for _ in range(8):
        site.round(away=[away])
    assert site.rollout(number).status is Status.COMPLETED
    assert site.places(number)[away] == "offline"
    for _ in range(6):
        site.round()
    assert site.devices[away].held == NEW
    assert site.rollout(number).counts == site.tally(number)


def test_rollouts_of_a_group_leave_others_alone(kit: FleetKit) -> None:
    """A plan for one ward orders nobody else, not even when catching up."""
    site = Site(kit, 6, groups=("icu", "ward"))
    number = site.draft(replace(TWO, group="icu"))
    site.decide(number, "approve")
    for _ in range(9):
        site.round()
    with kit.store.reading() as session:
        icu = set(session.scalars(select(Device.id).where(Device.group == "icu")))
    assert {name for name, device in site.devices.items() if device.held == NEW} == icu


def test_workers_and_clock_at_once_lose_nothing(kit: FleetKit) -> None:
    """Check-ins on several workers and the clock, all at the same time: every device ends counted once."""
    plan = replace(TWO, stages=(Stage("canary", Pick(count=2)), Stage("half", Pick(share=500_000)), Stage("the rest")))
    site = Site(kit, 12)
    number = site.draft(plan)
    site.decide(number, "approve")
    names = sorted(site.devices)
    site.devices[names[0]].will = UpdateState.COMMITTED
    failed: list[BaseException] = []

    def worker(mine: list[str]) -> None:
        try:
            for _ in range(12):
                for name in mine:
                    site.devices[name].work()
                    site.visit(name)
        except BaseException as error:  # noqa: BLE001 - told by the assertion below
            failed.append(error)

    def clock() -> None:
        try:
            for _ in range(40):
                site.clock.tick()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=worker, args=(names[start::3],)) for start in range(3)]
    threads.append(threading.Thread(target=clock))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    for _ in range(9):
        site.round()
    assert site.rollout(number).counts == site.tally(number)
    assert site.rollout(number).total.committed == 12
    assert site.rollout(number).status is Status.COMPLETED
    actions(kit)


def test_canary_by_tag(kit: FleetKit) -> None:
    """The devices that somebody marked go first, and only they."""
    site = Site(kit, 5)
    marked = set(sorted(site.devices)[1:3])
    with kit.store.writing() as session:
        for name in marked:
            devices.describe(session, name, tags=["canary"], actor="user:ann", now_s=kit.now_s)
    plan = replace(TWO, stages=(Stage("canary", Pick(tag="canary")), Stage("the rest")))
    number = site.draft(plan)
    site.decide(number, "approve")
    site.clock.tick()
    assert set(site.places(number)) == marked
    no_such = replace(TWO, stages=(Stage("canary", Pick(tag="no such tag")), Stage("the rest")))
    assert code_of(site.draft, no_such) == "tag-unknown"


def test_settled_fleet_asks_for_no_places(kit: FleetKit) -> None:
    """Once all is over and well, a check-in reads no row of its device; a device that lost the release is heard."""
    site, number = begun(kit, size=4)
    for _ in range(8):
        site.round()
    assert site.rollout(number).status is Status.COMPLETED
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    listen(kit.store.engine, "before_cursor_execute", note)
    name = sorted(site.devices)[0]
    site.visit(name)
    assert asked
    assert not [statement for statement in asked if "rollout_devices" in statement]
    site.devices[name].held = OLD
    site.devices[name].progress = None
    site.visit(name)
    assert [statement for statement in asked if "rollout_devices" in statement]
    remove(kit.store.engine, "before_cursor_execute", note)


def test_tables_are_what_the_migration_makes(kit: FleetKit) -> None:
    """The steps end in exactly the tables that the code declares."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with kit.store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
