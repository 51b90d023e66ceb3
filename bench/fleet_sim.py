"""A fleet's figures: check-ins, how fast a good bundle spreads, how far a bad one gets. SQLite, then PostgreSQL.

Starts ``edgeward fleet serve`` as a process of its own, with a signed repository, and simulated devices in this one
(``testing.fleet``). Devices are put into the database in bulk, so enrolment is not measured; they are authenticated as
behind a balancer that ends TLS. First a good bundle is published and rolled out by the default stages with shorter
times (``PLAN``), then one that fails its health gates on 30 % of devices. Both processes share the machine's cores.

    python bench/fleet_sim.py [--devices 2000] [--speed 1] [--stores sqlite postgresql] [--rollouts good bad]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from edgeward.fleet.accounts import Accounts, Role
from edgeward.fleet.settings import FleetSettings
from edgeward.fleet.setup import make_fleet
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.models import Certificate, Device
from edgeward.testing.fleet.device import FACTS
from edgeward.testing.fleet.faults import Faults
from edgeward.testing.fleet.fleet import BalancerExchange, Plan, SharedRepository, SimulatedFleet
from edgeward.testing.fleet.http import Pool
from edgeward.testing.fleet.report import Figures, table
from edgeward.testing.postgresql import NoPostgresqlError, temporary_postgresql
from edgeward.testing.repository import tiny_bundle
from edgeward.trust.fetch import TrustClient
from edgeward.trust.publish import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAMILY = "ecg-beat"
FIRST, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"
BAD_SHARE = 0.3
PLAN = {"silent": "5 min", "shadow": "20 s", "soak": "30 s"}
"""The default stages (canary of 10 in which nothing may fail, 1 %, 10 %, 50 %, the rest) with times for a bench."""
CHECK_IN_S = 60
HEADER = "x-client-certificate-sha256"


@dataclass
class Server:
    """The server's process, and what an operator does over its REST interface."""

    folder: Path
    store: str
    tokens: dict[str, str] = field(default_factory=dict)
    url: str = ""

    def prepare(self, devices: int) -> list[str]:
        """Make the fleet with its people and members; the SHA-256 of each member's certificate."""
        settings = FleetSettings(self.folder, store=self.store)
        list(make_fleet(settings, int(time.time())))
        store = Store(settings.store_url)
        now_s = int(time.time())
        accounts = Accounts(store)
        for name, role in (("olga", Role.OPERATOR), ("anna", Role.APPROVER)):
            accounts.add_user(name, role, secrets.token_hex(16), actor="bench", now_s=now_s)
            self.tokens[name], _ = accounts.make_token(name, label="bench", days=1, actor="bench", now_s=now_s)
        certificates = [hashlib.sha256(f"certificate {number}".encode()).hexdigest() for number in range(devices)]
        rows = [(f"d-{number:016x}", one) for number, one in enumerate(certificates)]
        common = {name: getattr(FACTS, name) for name in ("cores", "memory_mib", "disk_mib", "beds", "software")}
        common |= {"machine": FACTS.machine.value, "accelerator": FACTS.accelerator.value}
        until_s = now_s + 45 * 86_400
        with store.writing() as session:
            session.execute(
                insert(Device),
                [
                    {
                        "id": name, "state": "active", "enrolled_s": now_s, "key_fingerprint": one, "certificate": one,
                        "expires_s": until_s, **common,
                    }
                    for name, one in rows
                ],
            )  # fmt: skip
            session.execute(
                insert(Certificate),
                [
                    {
                        "fingerprint": one, "device_id": name, "key_fingerprint": one, "serial": one[:40],
                        "issued_s": now_s, "expires_s": until_s, "state": "current", "pem": "",
                    }
                    for name, one in rows
                ],
            )  # fmt: skip
        store.close()
        return certificates

    @contextmanager
    def serving(self, repository: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
        """Run it."""
        lines = [
            f'folder = "{self.folder}"', f'store = "{self.store}"', "tls = false", 'trusted_proxies = ["127.0.0.1"]',
            f'repository = "{repository}"', f'trusted_root = "{root}"', f"check_in_s = {CHECK_IN_S}", "port = 0",
            f'online_keys = "{repository.with_name("keys")}"',
        ]  # fmt: skip
        file = self.folder / "fleet.toml"
        file.write_text("\n".join(["[fleet]", *lines]) + "\n")
        command = [sys.executable, "-m", "edgeward.cli.main", "fleet", "serve", "--settings", str(file)]
        with (
            (self.folder / "log").open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line.startswith("fleet: "), (self.folder / "log").read_text()
                self.url = line.removeprefix("fleet: ").strip()
                yield process
            finally:
                process.terminate()

    def call(self, who: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A request of a person's program; POST where there is a body."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as answer:
            said = answer.read()
        return json.loads(said) if said else None

    def roll_out(self) -> int:
        """Draft a rollout of what the repository names now, and approve it."""
        with suppress(OSError):
            self.call("olga", "/api/v1/releases/look", {})
        number = int(self.call("olga", "/api/v1/rollouts", {"family": FAMILY, "plan": PLAN})["id"])
        self.call("anna", f"/api/v1/rollouts/{number}/approve", {})
        return number


class Bench:
    """One store."""

    def __init__(self, folder: Path, store: str, arguments: argparse.Namespace) -> None:
        self.folder, self.limit_s, self.devices = folder, arguments.limit, arguments.devices
        self.speed = arguments.speed
        self.seed = arguments.seed
        self.rollouts = [{"good": GOOD, "bad": BAD}[name] for name in arguments.rollouts]
        self.server = Server(folder / "fleet", store)
        self.publisher = Publisher(folder / "repository", folder / "keys")
        self.root = self.publisher.init()
        self.notes: list[str] = []

    def run(self) -> tuple[Figures, list[str]]:
        """Figures, and what happened on the way."""
        certificates = self.server.prepare(self.devices)
        self._publish(FIRST)
        with self.server.serving(self.folder / "repository", self.root) as process:
            found = asyncio.run(self._devices(certificates))
            self.notes.append(_usage(process.pid))
        return found, self.notes

    async def _devices(self, certificates: list[str]) -> Figures:
        client = TrustClient(f"{self.server.url}/repository", self.folder / "trust", root=self.root.read_bytes())
        repository = SharedRepository(client, FAMILY, self.folder)
        repository.refresh()
        faults = Faults(bad=BAD_SHARE, bad_versions=frozenset({BAD}), seed=self.seed)
        plan = Plan(self.devices, FAMILY, self.speed, float(CHECK_IN_S), 8 << 20, faults)
        fleet = SimulatedFleet(plan, repository, BalancerExchange(Pool(self.server.url), HEADER), certificates)
        over = asyncio.Event()
        running = asyncio.create_task(fleet.run(over.is_set))
        try:
            await self._wait(fleet, lambda: len(fleet.traffic.ms) >= self.devices, "every device was heard")
            await self._wait(fleet, _after(CHECK_IN_S / self.speed), "a period without a rollout")
            fleet.traffic.mark("idle")
            for version in self.rollouts:
                await self._spread(fleet, repository, version)
                fleet.traffic.mark(f"rollout of {version}")
        except TimeoutError as error:
            self.notes.append(str(error))
        finally:
            over.set()
            await running
        return fleet.figures()

    async def _spread(self, fleet: SimulatedFleet, repository: SharedRepository, version: str) -> None:
        self._publish(version)
        await asyncio.to_thread(repository.refresh)
        began = time.monotonic()
        number = await asyncio.to_thread(self.server.roll_out)
        seen: dict[str, Any] = {}

        async def look() -> None:
            while seen.get("status") not in {"completed", "halted", "aborted", "paused"}:
                found = await asyncio.to_thread(self.server.call, "olga", f"/api/v1/rollouts/{number}")
                seen.update(found["rollout"], stages_seen=found["stages"])
                await asyncio.sleep(1.0)

        looking = asyncio.create_task(look())
        try:
            await self._wait(fleet, looking.done, f"rollout of {version}")
        finally:
            looking.cancel()
        took_s = time.monotonic() - began
        # What had begun when the rollout ended is seen to its end: it counts towards the blast radius.
        busy = _under_way(fleet, version)
        await self._wait(fleet, lambda: not busy(), f"devices at {version} have ended", needed=False)
        self.notes.append(
            f"{version}: {seen.get('status')} ({seen.get('cause') or 'no cause'}) after {took_s:.0f} s, "
            f"in stage {seen.get('stage')!r}"
        )
        for stage in seen.get("stages_seen", []):
            counts = {name: count for name, count in stage["counts"].items() if count}
            self.notes.append(f"{version}, stage {stage['name']!r} ({stage['state']}): {counts}")
        if seen.get("status") == "halted":
            gone = f"no device runs {version} any more"
            await self._wait(fleet, lambda: not _running(fleet, version), gone, needed=False)
            after_s = time.monotonic() - began
            self.notes.append(f"{version}: runs on {_running(fleet, version)} devices, {after_s:.0f} s after its start")

    def _publish(self, version: str) -> None:
        path = self.folder / f"{version}.ewb"
        path.write_bytes(tiny_bundle(version))
        self.publisher.add(path, with_return=None if version == FIRST else "")

    async def _wait(self, fleet: SimulatedFleet, true: Callable[[], bool], what: str, *, needed: bool = True) -> None:
        began = time.monotonic()
        limit_s = self.limit_s if needed else 300.0
        while not true():
            if time.monotonic() - began > limit_s:
                if needed:
                    raise TimeoutError(f"{what}: not within {limit_s:g} s")
                self.notes.append(f"{what}: not within {limit_s:g} s")
                return
            sys.stderr.write(f"\r{what}: {fleet.glance()}        ")
            sys.stderr.flush()
            await asyncio.sleep(0.5)
        sys.stderr.write("\n")


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _under_way(fleet: SimulatedFleet, version: str) -> Callable[[], bool]:
    return lambda: any(version in device.stories and not device.updater.record.ended for device in fleet.devices)


def _running(fleet: SimulatedFleet, version: str) -> int:
    held = [device.slots.active() for device in fleet.devices]
    return sum(slot is not None and slot.version == version for slot in held)


def _usage(pid: int) -> str:
    """What the server's process used."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"server: {cpu_s:.0f} s of processor time, {int(peak) >> 10} MiB at most; the machine's load now: {load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=2_000)
    parser.add_argument("--speed", type=float, default=1.0, help="devices live so many times faster")
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--limit", type=float, default=1_800.0, help="seconds that each part may take; then it is said")
    parser.add_argument("--rollouts", nargs="*", default=["good", "bad"], choices=["good", "bad"])
    parser.add_argument("--seed", type=int, default=1, help="on which devices the bad bundle fails, and where")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for kind in arguments.stores:
        with tempfile.TemporaryDirectory(prefix="edgeward-bench-") as folder, ExitStack() as stack:
            store = ""
            if kind == "postgresql":
                try:
                    store = f"{stack.enter_context(temporary_postgresql())}postgres"
                except NoPostgresqlError as error:
                    print(f"\n{kind}: not run ({error})")
                    continue
            bench = Bench(Path(folder), store, arguments)
            found, notes = bench.run()
            if arguments.json:
                print(json.dumps({"store": kind, **found.to_json(), "notes": notes}))
                continue
            print(f"\n{kind}")
            print(table(found))
            for note in notes:
                print(f"  {note}")


if __name__ == "__main__":
    main()
