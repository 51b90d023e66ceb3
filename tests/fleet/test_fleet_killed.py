"""A server that is killed while devices check in and an operator works: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from fleet_support import DeviceKeys, FleetKit, certificate_fingerprint, report

from edgeward.exchange.checkin import PATH
from edgeward.exchange.typed import encode
from edgeward.fleet.accounts import Role
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.parts import wall_s
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Device, DeviceTag

if TYPE_CHECKING:
    from edgeward.exchange.enrol import Credential

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3


def served(kit: FleetKit) -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable, "-m", "edgeward.cli.main", "fleet", "serve", "--no-tls", "--trusted-proxy", "127.0.0.1",
        "--port", "0", "--folder", str(kit.settings.folder), "--store", kit.settings.store_url,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    return process, process.stdout.readline().strip().removeprefix("fleet: ")


class Crowd:
    """Devices that check in and an operator who tags them, until the server is gone; what was acknowledged to them."""

    def __init__(self, kit: FleetKit) -> None:
        self.store = kit.store
        self.enrolled = [kit.enrolled(DeviceKeys(), Vouch(label=f"bed {number}"))[1] for number in range(6)]
        self.token = kit.token("olga", Role.OPERATOR)
        self.check_ins = dict.fromkeys((str(one.device) for one in self.enrolled), (0, 0))
        self.tags: dict[str, int] = {}

    def device(self, url: str, boot: int, credential: Credential) -> None:
        headers = {"x-client-certificate-sha256": certificate_fingerprint(credential)}
        with httpx.Client(base_url=url, timeout=20) as client, contextlib.suppress(httpx.TransportError):
            for sequence in range(1, 100_000):
                answer = client.post(PATH, content=encode(report(sequence, boot)), headers=headers)
                assert answer.status_code == 200, answer.text
                self.check_ins[str(credential.device)] = (boot, sequence)

    def operator(self, url: str, boot: int) -> None:
        headers = {"authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=url, timeout=20) as client, contextlib.suppress(httpx.TransportError):
            for number in range(boot * 100_000, (boot + 1) * 100_000):
                where = str(self.enrolled[number % len(self.enrolled)].device)
                answer = client.patch(f"/api/v1/devices/{where}", json={"tags": [f"n{number}"]}, headers=headers)
                assert answer.status_code == 204, answer.text
                self.tags[where] = number

    def has_worked(self, boot: int) -> bool:
        tagged = max(self.tags.values(), default=0) > boot * 100_000
        return tagged and all(pair >= (boot, 2) for pair in self.check_ins.values())

    def until_killed(self, kit: FleetKit, boot: int) -> None:
        """One life of a server: killed at a random moment after everybody has been answered twice."""
        process, url = served(kit)
        with process:
            threads = [threading.Thread(target=self.device, args=(url, boot, one)) for one in self.enrolled]
            threads.append(threading.Thread(target=self.operator, args=(url, boot)))
            for thread in threads:
                thread.start()
            while not self.has_worked(boot) and any(thread.is_alive() for thread in threads):
                time.sleep(0.01)
            time.sleep(random.Random(boot).random() / 20)
            process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()

    def require_kept(self) -> None:
        with self.store.reading() as session:
            audit.verify(session)
            for name, pair in self.check_ins.items():
                row = session.get_one(Device, name)
                assert pair <= (row.boot, row.sequence), "acknowledged, and lost"
            for name, number in self.tags.items():
                kept = [one.tag for one in session.query(DeviceTag).filter_by(device_id=name)]
                assert max(int(tag[1:]) for tag in kept) >= number, "acknowledged, and lost"


def test_what_a_killed_server_acknowledged_is_there_and_its_audit_is_whole(kit: FleetKit) -> None:
    kit.now_s = wall_s()
    crowd = Crowd(kit)
    for boot in range(1, ROUNDS + 1):
        crowd.until_killed(kit, boot)
        assert crowd.has_worked(boot)
        crowd.require_kept()
