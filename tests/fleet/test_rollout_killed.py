"""A fleet server that is killed without warning, again and again, in the middle of a rollout."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from conduct_support import FAMILY, Site
from rollout_fleet import NEW

from edgeward.exchange.checkin import ANSWER_BYTES_MAX, PATH, Answer
from edgeward.exchange.typed import decode, encode
from edgeward.fleet.conduct import people
from edgeward.fleet.rollout.plan import Gate, Pick, Plan, Stage
from edgeward.fleet.rollout.words import Status
from edgeward.fleet.store import audit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet_support import FleetKit

    from edgeward.fleet.store.engine import Store

PLAN = Plan(
    stages=(
        Stage("canary", Pick(count=2), Gate(errors=0, success=1_000_000)),
        Stage("half", Pick(share=500_000)),
        Stage("the rest"),
    ),
    shadow_s=0,
    soak_s=0,
)
WAIT_S = 120.0


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    """SQLite is enough here."""
    return sqlite_store


class Server:
    """A server process on one port, with a proxy's header for the devices' certificates."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [
            sys.executable, "-m", "edgeward.cli.main", "fleet", "serve", "--folder", str(folder), "--no-tls",
            "--trusted-proxy", "127.0.0.1", "--port", str(self.port),
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the server never answered")

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is closed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_killed_server_loses_nothing(kit: FleetKit, server: Server) -> None:
    """Three kills, wherever they fall: every device ends on the release, each counted once, the audit whole."""
    kit.now_s = int(time.time())
    site = Site(kit, 6)
    wish = people.Wish(FAMILY, plan=replace(PLAN))
    number = people.create(kit.store, site.desk, wish, by="ann", now_s=kit.now_s)
    site.decide(number, "approve")
    stages_seen, kills, rounds = set(), 0, 0
    server.start()
    until = time.monotonic() + WAIT_S
    while site.rollout(number).status is not Status.COMPLETED and time.monotonic() < until:
        rounds += 1
        for place, name in enumerate(sorted(site.devices)):
            if kills < 3 and rounds % 2 == 0 and place == 2 * kills:
                server.kill()
                kills += 1
                server.start()
            _visit(site, server, name)
        stages_seen.add(site.rollout(number).stage)
        time.sleep(0.3)
    rollout = site.rollout(number)
    assert (rollout.status, kills) == (Status.COMPLETED, 3)
    assert {device.held for device in site.devices.values()} == {NEW}
    assert rollout.counts == site.tally(number)
    assert rollout.total.committed == 6
    assert stages_seen >= {0, 2}
    with kit.store.reading() as session:
        audit.verify(session)


def _visit(site: Site, server: Server, name: str) -> None:
    """A check-in over HTTP; a device whose server is away comes again later."""
    device = site.devices[name]
    device.work()
    headers = {"x-client-certificate-sha256": site.fingerprints[name], "content-type": "application/json"}
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{server.port}{PATH}", content=encode(device.check_in()), headers=headers, timeout=20
        )
    except httpx.TransportError:
        return
    assert answer.status_code == 200, answer.text
    for order in decode(Answer, answer.content, bytes_max=ANSWER_BYTES_MAX).orders:
        device.obey(order)
