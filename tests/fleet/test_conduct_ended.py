"""Revoking a device that is on its way in a rollout, and taking it in again, in the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conduct_support import Site
from fleet_support import DeviceKeys, certificate_fingerprint
from sqlalchemy import select

from edgeward.exchange.checkin import Deed
from edgeward.fleet import devices
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.rollout.plan import CatchUp, Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.words import Cause, Status
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import AuditEntry

if TYPE_CHECKING:
    from fleet_support import FleetKit

CANARY = Stage("canary", Pick(count=2), Gate(errors=0, success=1_000_000))
TWO = Plan(stages=(CANARY, Stage("the rest")), catch_up=CatchUp(at_once=1))


def begun(kit: FleetKit) -> tuple[Site, int, list[str]]:
    """A site, its running rollout, and the two of its canary, who have their orders."""
    site = Site(kit, 6)
    number = site.draft(TWO)
    site.decide(number, "approve")
    site.clock.tick()
    canary = sorted(site.places(number))
    for name in canary:
        site.visit(name)
    return site, number, canary


def end(site: Site, name: str, state: str = "lost") -> None:
    with site.kit.store.writing() as session:
        devices.end(session, site.book, name, state, actor="user:ann", now_s=site.kit.now_s)


def take_in_again(site: Site, name: str) -> None:
    """It applies with another key and is accepted as itself."""
    keys, kit = DeviceKeys(), site.kit
    kit.enrolments.apply(keys.application(), kit.now_s)
    kit.enrolments.accept(keys.fingerprint, Vouch(device_id=name), actor="user:ann", now_s=kit.now_s)
    site.fingerprints[name] = certificate_fingerprint(kit.enrolments.apply(keys.application(), kit.now_s))


def test_lost_device_on_its_way_is_counted_apart(kit: FleetKit) -> None:
    """It never falls silent, the audit says what became of it, and the rollout goes on with those that remain."""
    site, number, (gone, other) = begun(kit)
    end(site, gone)
    assert site.places(number) == {gone: "ended", other: "working"}
    for _ in range(3):
        site.round(1_500, away=[gone])
    for _ in range(7):
        site.round(away=[gone])
    rollout = site.rollout(number)
    assert (rollout.status, rollout.total.committed, rollout.total.ended) == (Status.COMPLETED, 5, 1)
    assert site.tally(number) == rollout.counts
    with kit.store.reading() as session:
        audit.verify(session)
        rows = session.scalars(select(AuditEntry).where(AuditEntry.subject == gone)).all()
        said = [(row.actor, row.action, json.loads(row.detail).get("standing")) for row in rows]
    assert ("user:ann", "device.lost", None) in said
    assert [one[1:] for one in said if one[1] == "rollout.device"] == [("rollout.device", "ended")]


def test_canary_that_is_all_revoked_waits_for_a_person(kit: FleetKit) -> None:
    """Nothing can be judged: it pauses with its reason, and resumed it takes two others."""
    site, number, canary = begun(kit)
    for name in canary:
        end(site, name, "revoked")
    rollout = site.rollout(number)
    assert (rollout.status, rollout.cause) == (Status.PAUSED, Cause.STAGE_ENDED)
    site.round(away=canary)
    assert len(site.places(number)) == 2
    site.decide(number, "resume", by="ann")
    for _ in range(9):
        site.round(away=canary)
    rollout = site.rollout(number)
    assert (rollout.status, rollout.counts[0].committed, rollout.total.ended) == (Status.COMPLETED, 2, 2)
    assert site.tally(number) == rollout.counts


def test_device_taken_in_again_tells_how_it_went(kit: FleetKit) -> None:
    """It committed while nobody listened; what it says with another key counts where it stood."""
    site, number, (gone, _) = begun(kit)
    end(site, gone)
    site.devices[gone].work()
    take_in_again(site, gone)
    site.visit(gone)
    assert site.places(number)[gone] == "committed"


def test_other_hardware_in_its_place_follows_later(kit: FleetKit) -> None:
    """It knows nothing of the order: it takes the release after completion, through the gate of those that follow."""
    site, number, (gone, _) = begun(kit)
    end(site, gone)
    site.devices[gone].progress = None
    take_in_again(site, gone)
    assert site.visit(gone) is None
    assert site.places(number)[gone] == "ended"
    for _ in range(10):
        site.round()
    rollout = site.rollout(number)
    assert (rollout.status, rollout.total.committed, rollout.total.ended) == (Status.COMPLETED, 6, 0)
    assert rollout.counts[rollout.caught_up].committed == 1


def test_device_taken_in_again_after_an_abort_gives_up(kit: FleetKit) -> None:
    """Nobody else is on the way in it any more, so the server asks what the device names."""
    site, number, canary = begun(kit)
    for name in canary:
        end(site, name)
    site.decide(number, "abort")
    assert not site.row(number).awake
    for _ in range(2):
        site.kit.now_s += 60
    take_in_again(site, canary[0])
    progress = site.devices[canary[0]].progress
    assert progress is not None
    order = site.visit(canary[0])
    assert order is not None
    assert (order.rollout, order.deed) == (number, Deed.WITHDRAW)
    site.visit(canary[0])
    assert site.places(number)[canary[0]] == "withdrawn"
