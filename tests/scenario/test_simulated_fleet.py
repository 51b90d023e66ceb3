"""Simulated devices against the real server: what the fleet believes is what the devices are."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi", reason="the fleet extra is not installed")

from fleet_served import Running, Served
from sqlalchemy import select

from edgeward.cli.main import main
from edgeward.exchange.checkin import CheckIn, Deed, Order
from edgeward.exchange.words import UpdateState
from edgeward.fleet.store.models import Device, DeviceFamily
from edgeward.testing.fleet.faults import Faults
from edgeward.testing.fleet.fleet import BalancerExchange, Plan, SharedRepository, SimulatedFleet
from edgeward.testing.fleet.http import Pool
from edgeward.testing.fleet.members import MutualTls, enrol
from edgeward.testing.repository import tiny_bundle
from edgeward.trust.fetch import TrustClient
from edgeward.trust.publish import Publisher

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

FAMILY = "ecg-beat"
HEADER = "x-client-certificate-sha256"


class Everybody:
    """Rollouts that order the newest bundle of everybody at once: the port alone, without stages."""

    def __init__(self) -> None:
        self.order: Order | None = None

    def watched(self, session: Session) -> frozenset[str]:
        return frozenset({FAMILY})

    def heard(self, session: Session, device_id: str, report: CheckIn, now_s: int) -> list[Order]:
        return [self.order] if self.order is not None else []


class Published:
    """A signed repository with one bundle, and more when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "repository", folder / "keys")
        self.root = self.publisher.init()
        self.publish("1.0.0")

    def publish(self, version: str) -> Order:
        path = self.folder / f"{version}.ewb"
        path.write_bytes(tiny_bundle(version))
        offer = self.publisher.add(path).offer
        return Order(1, FAMILY, Deed.INSTALL, version, offer.sha256, attempts=5, soak_s=30)

    def shared(self) -> SharedRepository:
        client = TrustClient(self.folder / "repository", self.folder / "trust", root=self.root.read_bytes())
        made = SharedRepository(client, FAMILY, self.folder)
        made.refresh()
        return made


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def run_until(fleet: SimulatedFleet, running: Running, state: UpdateState, *, seconds: float = 90.0) -> None:
    """Run until nothing of the newest order is under way on any device and the server knows it."""
    deadline = time.monotonic() + seconds

    def is_over() -> bool:
        ended = all(device.stories and device.updater.record.ended for device in fleet.devices)
        return time.monotonic() > deadline or (ended and states(running) == truth(fleet))

    asyncio.run(fleet.run(is_over))
    assert time.monotonic() <= deadline, f"{states(running)} is not {truth(fleet)}"
    assert state in {device.updater.record.state for device in fleet.devices}


def states(running: Running) -> list[tuple[str, str]]:
    """What the server believes: version in use and state of the update, of every device."""
    with running.fleet.store.reading() as session:
        return sorted((row.version, row.update_state) for row in session.scalars(select(DeviceFamily)))


def truth(fleet: SimulatedFleet) -> list[tuple[str, str]]:
    """What the devices are."""
    rows = []
    for device in fleet.devices:
        active = device.slots.active()
        rows.append((active.version if active else "", device.updater.record.state.value))
    return sorted(rows)


def balanced(running: Running, plan: Plan, repository: SharedRepository) -> SimulatedFleet:
    async def members() -> list[str]:
        pool = Pool(running.url, 8)
        found = await enrol(pool, running.tokens(plan.devices), lambda count: None)
        await pool.close()
        return found

    certificates = asyncio.run(members())
    return SimulatedFleet(plan, repository, BalancerExchange(Pool(running.url, 8), HEADER), certificates)


def test_lost_and_doubled_messages_power_cuts_and_bad_models_leave_the_fleet_with_the_truth(
    tmp_path: Path, published: Published
) -> None:
    rollouts = Everybody()
    with Served(tmp_path / "fleet", tls=False, rollouts=rollouts, check_in_s=10) as running:
        bad = Faults(bad=0.4, bad_versions=frozenset({"1.1.0"}), reboots=30.0, lost=0.1, doubled=0.1, seed=5)
        plan = Plan(24, FAMILY, speed=20.0, spread_s=5.0, length=1 << 20, faults=bad)
        repository = published.shared()
        fleet = balanced(running, plan, repository)
        rollouts.order = published.publish("1.1.0")
        repository.refresh()
        run_until(fleet, running, UpdateState.COMMITTED)
        found = fleet.figures()
    (version,) = [one for one in found.versions if one.version == "1.1.0"]
    drew_bad = sum(device.lot.bad_at is not None for device in fleet.devices)
    assert 0 < version.adopted <= plan.devices - drew_bad
    assert version.tried >= version.served >= version.adopted
    assert found.failures.get("lost", 0) > 0
    assert found.reboots > 0
    with running.fleet.store.reading() as session:
        assert {row.boot for row in session.scalars(select(Device))} != {1}


def test_each_device_may_have_mutual_tls_of_its_own(tmp_path: Path, published: Published) -> None:
    rollouts = Everybody()
    with Served(tmp_path / "fleet", rollouts=rollouts, check_in_s=10) as running:
        tls = MutualTls(running.url, running.ca, tmp_path / "devices")
        certificates = [tls.enrol(number, token) for number, token in enumerate(running.tokens(3))]
        repository = published.shared()
        plan = Plan(3, FAMILY, speed=20.0, spread_s=1.0)
        fleet = SimulatedFleet(plan, repository, tls, certificates)
        rollouts.order = published.publish("1.1.0")
        repository.refresh()
        run_until(fleet, running, UpdateState.COMMITTED)
    assert states(running) == [("1.1.0", "committed")] * 3


def test_the_verb_tells_what_it_came_to(
    tmp_path: Path, published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    with Served(tmp_path / "fleet", tls=False) as running:
        tokens = tmp_path / "tokens"
        tokens.write_text("\n".join(running.tokens(4)))
        command = ["simulate", "fleet", "--devices", "4", "--server", running.url, "--tokens", str(tokens)]
        command += ["--repository", str(published.folder / "repository"), "--trusted-root", str(published.root)]
        assert main([*command, "--for", "1.5", "--spread", "0.5", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["devices"], found["check_ins"], found["failures"]) == (4, 4, {})
        assert found["authenticated"].startswith("authenticated as behind a balancer")
        assert main([*command, "--for", "1.5"]) == 2, "a token takes in one device"
        assert "simulation-not-enrolled" in capsys.readouterr().err
        assert main([*command[:3], "9", *command[4:]]) == 2
        assert "tokens-few" in capsys.readouterr().err
