"""The link at work, against a fleet on loopback: it says each thing once and goes on whatever it meets."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.fleet_link.agent import FleetAgent
from edgeward.bedside.fleet_link.core import Policy
from edgeward.bedside.fleet_link.facts import facts_of
from edgeward.bedside.fleet_link.identity import Identity
from edgeward.bedside.fleet_link.link import Link
from edgeward.bedside.system import SystemClock
from edgeward.exchange.checkin import PATH, Answer, CheckIn, Deed, Order
from edgeward.exchange.enrol import ENROL_PATH, RENEW_PATH, Application, Credential, Renewal, Standing
from edgeward.exchange.typed import decode, encode
from edgeward.kernel.errors import ConfigError
from edgeward.testing.fleet.authority import DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import StubFleet
    from edgeward.exchange.checkin import FamilyReport

SHA = "ab" * 32
ORDER = Order(3, "ecg-beat", Deed.INSTALL, "1.2.0", SHA)
QUICK = Policy(first_s=0.0, hurry_s=0.05, retry_s=0.02, retry_s_max=0.1, shut_out_s=0.1, renew_s=0.0)


@dataclass
class NotedUpdates:
    orders: list[tuple[Order, ...]] = field(default_factory=list)

    def reports(self) -> tuple[FamilyReport, ...]:
        return ()

    def obey(self, orders: tuple[Order, ...]) -> None:
        self.orders.append(orders)


@dataclass
class Fleet:
    """What the stub answers: ``standing`` to applications, ``refuses`` to check-ins, ``renew`` in answers."""

    stub: StubFleet
    standing: Standing = Standing.PENDING
    refuses: str = ""
    renew: bool = False
    stray_answers: bool = False
    check_ins: list[CheckIn] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.stub.answer = self.answer

    def answer(self, path: str, body: bytes, known: bool) -> tuple[int, bytes, dict[str, str]]:
        if path == ENROL_PATH:
            application = decode(Application, body, bytes_max=1 << 15)
            return self.credential(application.csr, self.standing)
        if self.refuses or not known:
            return 403, f'{{"code": "{self.refuses}"}}'.encode(), {}
        if path == RENEW_PATH:
            self.renew = False
            return self.credential(decode(Renewal, body, bytes_max=1 << 15).csr, Standing.ACCEPTED)
        assert path == PATH
        check_in = decode(CheckIn, body, bytes_max=1 << 16)
        self.check_ins.append(check_in)
        return 200, encode(Answer(check_in.sequence, 3_600, self.renew, (ORDER,))), {}

    def credential(self, csr: str, standing: Standing) -> tuple[int, bytes, dict[str, str]]:
        if standing is not Standing.ACCEPTED:
            return 200, encode(Credential(standing, SHA, None, "", 1)), {}
        pem = self.stub.issuer.certificate(csr, begins=datetime.now(UTC) - timedelta(days=1))
        return 200, encode(Credential(standing, SHA, DEVICE, pem, 60)), {}


@dataclass
class Running:
    agent: FleetAgent
    identity: Identity
    updates: NotedUpdates
    said: list[str]


@pytest.fixture
def start(fleet: StubFleet, tmp_path: Path) -> Iterator[Callable[[], Running]]:
    running: list[FleetAgent] = []

    def begin() -> Running:
        said: list[str] = []
        identity, updates = Identity(tmp_path / "me"), NotedUpdates()
        agent = FleetAgent(
            identity,
            lambda pem: Link(fleet.url, fleet.ca, pem),
            lambda: facts_of(tmp_path, 4),
            updates,
            SystemClock(),
            dice=lambda: 0.0,
            say=said.append,
            policy=QUICK,
        )
        running.append(agent)
        return Running(agent, identity, updates, said)

    yield begin
    for agent in running:
        agent.close()


def until(true: Callable[[], object]) -> None:
    """Wait until it holds; a busy machine gets its time."""
    for _ in range(1_000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to hold")


def test_a_device_applies_waits_is_accepted_and_checks_in(fleet: StubFleet, start: Callable[[], Running]) -> None:
    """All of it by itself: a person only compares the fingerprint, once, and accepts."""
    stub = Fleet(fleet)
    device = start()
    until(lambda: len(fleet.heard) > 1)
    assert device.identity.look() is None
    assert [line for line in device.said if "fingerprint abab abab" in line] == device.said
    stub.standing = Standing.ACCEPTED
    until(lambda: device.updates.orders)
    assert device.updates.orders == [(ORDER,)]
    assert (stub.check_ins[0].boot, stub.check_ins[0].sequence, stub.check_ins[0].facts.beds) == (1, 1, 4)
    assert device.agent.notes.phase == "member"


def test_every_start_counts(fleet: StubFleet, start: Callable[[], Running]) -> None:
    stub = Fleet(fleet, Standing.ACCEPTED)
    for boot in (1, 2, 3):
        device = start()
        until(lambda device=device: device.updates.orders)
        device.agent.close()
        assert (stub.check_ins[-1].boot, stub.check_ins[-1].sequence) == (boot, 1)


def test_a_change_is_told_soon(fleet: StubFleet, start: Callable[[], Running]) -> None:
    stub = Fleet(fleet, Standing.ACCEPTED)
    device = start()
    until(lambda: stub.check_ins)
    device.agent.changed()
    until(lambda: len(stub.check_ins) == 2)
    assert [one.sequence for one in stub.check_ins] == [1, 2]


def test_a_renewal_is_another_key_and_is_used_at_once(fleet: StubFleet, start: Callable[[], Running]) -> None:
    stub = Fleet(fleet, Standing.ACCEPTED)
    device = start()
    until(lambda: device.updates.orders)
    first = device.identity.look()
    stub.renew = True
    device.agent.changed()
    until(lambda: device.identity.look() != first)
    device.agent.changed()
    until(lambda: len(stub.check_ins) > 2)
    assert device.identity.asked_for() == ""


def test_a_lost_renewal_is_asked_for_again_with_the_same_key(fleet: StubFleet, start: Callable[[], Running]) -> None:
    """The fleet signed, the answer got lost: the same request gets it, and no key is left without a certificate."""
    stub = Fleet(fleet, Standing.ACCEPTED)
    device = start()
    until(lambda: device.updates.orders)
    asked: list[bytes] = []

    def lose(path: str, body: bytes, known: bool) -> tuple[int, bytes, dict[str, str]]:
        if path != RENEW_PATH:
            stub.renew = True
        elif len(asked) < 3:
            asked.append(body)
            return 500, b"", {}
        else:
            asked.append(body)
        return stub.answer(path, body, known)

    fleet.answer = lose
    before = device.identity.look()

    def renewed() -> bool:
        device.agent.changed()
        return device.identity.look() != before

    until(renewed)
    assert asked[0] == asked[1] == asked[2] == asked[3]


def test_a_revoked_device_says_so_once_and_comes_back_when_it_is_enrolled_again(
    fleet: StubFleet, start: Callable[[], Running]
) -> None:
    """Beside the running device, with the same folder: nothing is stopped for it."""
    stub = Fleet(fleet, Standing.ACCEPTED)
    device = start()
    until(lambda: device.updates.orders)
    stub.refuses = "certificate-revoked"
    device.agent.changed()
    until(lambda: device.agent.notes.phase == "shut-out")
    count = len(fleet.heard)
    until(lambda: len(fleet.heard) > count + 2)
    assert len([line for line in device.said if "certificate-revoked" in line]) == 1
    assert "edgeward device enrol --again" in device.said[-1]
    stub.refuses = ""
    with device.identity as identity:
        csr = identity.request(anew=True)
        identity.accept(fleet.issuer.certificate(csr, begins=datetime.now(UTC)))
    until(lambda: device.said[-1] == "fleet: reached again")
    assert device.agent.notes.phase == "member"


def test_an_unreachable_fleet_is_said_once_and_tried_again(fleet: StubFleet, start: Callable[[], Running]) -> None:
    stub = Fleet(fleet, Standing.ACCEPTED)
    fleet.answer = lambda path, body, known: (500, b"", {})
    device = start()
    until(lambda: len(fleet.heard) > 3)
    assert len(device.said) == 1
    fleet.answer = stub.answer
    until(lambda: device.updates.orders)


def test_a_rejected_device_asks_no_more_and_takes_a_certificate_that_a_person_gets(
    fleet: StubFleet, start: Callable[[], Running]
) -> None:
    stub = Fleet(fleet, Standing.REJECTED)
    device = start()
    until(lambda: device.agent.notes.phase == "rejected")
    count = len(fleet.heard)
    device.agent.changed()
    time.sleep(0.3)
    assert len(fleet.heard) == count
    with device.identity as identity:
        identity.accept(fleet.issuer.certificate(identity.request(anew=True), begins=datetime.now(UTC)))
    until(lambda: stub.check_ins)


def test_two_agents_do_not_share_an_identity(fleet: StubFleet, start: Callable[[], Running]) -> None:
    Fleet(fleet)
    first = start()
    with pytest.raises(ConfigError) as caught:
        start()
    assert caught.value.code == "identity-in-use"
    first.agent.close()
    start()


def test_updates_that_stumble_do_not_end_the_link(fleet: StubFleet, start: Callable[[], Running]) -> None:
    stub = Fleet(fleet, Standing.ACCEPTED)
    device = start()
    until(lambda: device.updates.orders)
    broken = threading.Event()

    def stumble(orders: tuple[Order, ...]) -> None:
        broken.set()
        raise RuntimeError("payload that nobody may read")

    device.updates.obey = stumble  # type: ignore[method-assign]
    device.agent.changed()
    until(broken.is_set)
    count = len(stub.check_ins)
    device.agent.changed()
    until(lambda: len(stub.check_ins) > count)
    assert not any("payload" in line for line in device.said)
