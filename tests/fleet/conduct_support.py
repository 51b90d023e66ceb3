"""A fleet with rollouts in its database: devices that check in through the server's own door, and a clock to turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet_support import DeviceKeys, certificate_fingerprint
from rollout_fleet import NEW, OLD, Device
from sqlalchemy import select

from edgeward.exchange.checkin import Answer
from edgeward.exchange.typed import encode
from edgeward.fleet.checkin import Heard, take
from edgeward.fleet.conduct import people
from edgeward.fleet.conduct.book import Book
from edgeward.fleet.conduct.clock import Clock
from edgeward.fleet.conduct.rows import member_of, rollout_of
from edgeward.fleet.conduct.tables import RolloutDevice, RolloutRow
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.rollout.state import Counts
from edgeward.kernel.errors import ConfigError
from edgeward.trust.offer import Offer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_support import FleetKit

    from edgeward.exchange.checkin import Order
    from edgeward.fleet.rollout.plan import Plan
    from edgeward.fleet.rollout.state import Rollout

FAMILY = "ecg-beat"


@dataclass
class FakeDesk:
    """A repository that says what a test wants. ``refusal``: why the return cannot be put in force by itself."""

    current: str = NEW
    refusal: str = ""
    released: list[str] = field(default_factory=list)

    def offers(self) -> list[Offer]:
        return [Offer(FAMILY, "2.0.0" if self.current == NEW else "1.0.0", self.current, 2_000)]

    def prepared(self, family: str) -> Offer | None:
        return Offer(family, "1.0.0", OLD, 2_000, is_return=True)

    def go_back(self, family: str, sha256: str) -> None:
        if self.current == sha256:
            return
        if self.refusal:
            raise ConfigError(self.refusal, f"by hand: {family}")
        self.current = sha256
        self.released.append(family)


class Site:
    """Devices, a book, a clock; ``kit`` is the server."""

    def __init__(self, kit: FleetKit, size: int, *, groups: Iterable[str] = ()) -> None:
        self.kit = kit
        self.desk = FakeDesk()
        self.book = Book()
        self.clock = Clock(kit.store, self.desk, kit.clock, holder="one")
        self.devices: dict[str, Device] = {}
        self.fingerprints: dict[str, str] = {}
        named = list(groups)
        for number in range(size):
            group = named[number % len(named)] if named else ""
            _, credential = kit.enrolled(DeviceKeys(), Vouch(f"bed {number}", group))
            assert credential.device is not None
            self.devices[credential.device] = Device(credential.device)
            self.fingerprints[credential.device] = certificate_fingerprint(credential)
        for name in self.devices:
            self.visit(name)

    def draft(self, plan: Plan, *, by: str = "ann") -> int:
        return people.create(self.kit.store, self.desk, people.Wish(FAMILY, plan=plan), by=by, now_s=self.kit.now_s)

    def decide(self, number: int, deed: str, by: str = "ben", revision: int | None = None) -> None:
        people.decide(self.kit.store, number, deed, by=by, now_s=self.kit.now_s, revision=revision)

    def visit(self, name: str) -> Order | None:
        """One check-in and what its answer leads to."""
        device = self.devices[name]
        report = device.check_in()
        heard = Heard(self.fingerprints[name], report, encode(report).decode())
        with self.kit.store.writing() as session:
            (answer,) = take(session, [heard], self.book, now_s=self.kit.now_s, check_in_s=60)
        assert isinstance(answer, Answer)
        order = answer.orders[0] if answer.orders else None
        device.obey(order)
        return order

    def round(self, seconds: int = 60, *, away: Iterable[str] = ()) -> None:
        """Time passes, devices work and check in, the clock ticks."""
        self.kit.now_s += seconds
        for name in self.devices.keys() - set(away):
            self.devices[name].work()
            self.visit(name)
        self.clock.tick()

    def rollout(self, number: int) -> Rollout:
        with self.kit.store.reading() as session:
            row = session.get(RolloutRow, number)
            assert row is not None
            return rollout_of(row)

    def row(self, number: int) -> RolloutRow:
        with self.kit.store.reading() as session:
            row = session.get(RolloutRow, number)
            assert row is not None
            return row

    def places(self, number: int) -> dict[str, str]:
        """Standing by device."""
        with self.kit.store.reading() as session:
            query = select(RolloutDevice).where(RolloutDevice.rollout == number)
            return {row.device_id: row.standing for row in session.scalars(query)}

    def tally(self, number: int) -> tuple[Counts, ...]:
        """The counts, counted anew from the rows."""
        counts = [Counts() for _ in self.rollout(number).counts]
        with self.kit.store.reading() as session:
            for row in session.scalars(select(RolloutDevice).where(RolloutDevice.rollout == number)):
                member = member_of(row)
                counts[member.stage] = counts[member.stage].added(member.standing)
        return tuple(counts)
