"""Check-ins of a fleet: how many a second, how fast, and at which cost; SQLite and PostgreSQL side by side in one run.

A real server process (``edgeward fleet serve``) holds ``--devices`` devices. Two loads on it over loopback:

- *offered*: as many check-ins a second as the devices send at one a minute, each at its own moment whatever became
  of the others (an open loop, so that a stall is not hidden); times are from the moment it was due.
- *most*: 64 callers, each with its next check-in as soon as the last was answered.

Both as through a proxy that ends TLS (connections stay), and by mutual TLS 1.3 with a new connection for each check-in.
CPU is the server's own, all its threads. The caller runs on the same machine.

    python bench/fleet_checkin.py [--devices 10000] [--seconds 15] [--only sqlite|postgresql]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert

from edgeward.exchange.checkin import PATH, CheckIn, Facts, FamilyReport, Held
from edgeward.exchange.typed import encode
from edgeward.exchange.words import Accelerator, Machine, Rung
from edgeward.fleet.authority import DAY_S, Authority, read_request
from edgeward.fleet.settings import FleetSettings
from edgeward.fleet.setup import make_fleet
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.models import Certificate, Device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

HEADER = "x-client-certificate-sha256"
CALLERS = 64
WITH_KEYS = 200
"""Devices with a real key and certificate, for mutual TLS."""
FACTS = Facts(Machine.AARCH64, Accelerator.CUDA, 8, 15_000, 60_000, 4, "0.1.0")
FAMILIES = tuple(
    FamilyReport(name, Held("1.0.0", "a" * 64), Held("0.9.0", "b" * 64), None, Rung.LOCAL, 100, 2, 0, 900)
    for name in ("ecg-beat", "sepsis-risk", "hypotension")
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Fleet:
    """Devices in a database: by which fingerprint each is known, and TLS contexts of some of them."""

    fingerprints: list[str]
    contexts: list[ssl.SSLContext]
    sequences: list[int]


@dataclass(frozen=True)
class Figures:
    """What one load showed."""

    rate: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    cores: float
    refused: int

    def __str__(self) -> str:
        return (
            f"{self.rate:8.0f}/s  p50 {self.p50_ms:7.1f} ms  p99 {self.p99_ms:7.1f} ms  worst {self.worst_ms:7.1f} ms  "
            f"server {self.cores:4.2f} cores, {1e3 * self.cores / self.rate:5.2f} ms each  refused {self.refused}"
        )


def fill(settings: FleetSettings, count: int) -> Fleet:
    """A fleet of ``count`` devices that were accepted a day ago."""
    now_s = int(time.time())
    for _ in make_fleet(settings, now_s):
        pass
    authority = Authority.load(*settings.authority_files)
    fingerprints, contexts, devices, certificates = [], [], [], []
    for number in range(count):
        device, pem = f"d-{number:016x}", ""
        fingerprint = sha256(device.encode()).hexdigest()
        if number < WITH_KEYS:
            context, fingerprint, pem = _identity(authority, device, settings, now_s)
            contexts.append(context)
        fingerprints.append(fingerprint)
        devices.append(
            {
                "id": device, "state": "active", "label": f"bed {number}", "group": f"ward-{number % 40}",
                "enrolled_s": now_s, "key_fingerprint": fingerprint, "certificate": fingerprint, "serial": str(number),
                "expires_s": now_s + 45 * DAY_S, "machine": "aarch64", "accelerator": "cuda", "cores": 8,
                "memory_mib": 15_000, "disk_mib": 60_000, "beds": 4, "software": "0.1.0",
            }
        )  # fmt: skip
        certificates.append(
            {
                "fingerprint": fingerprint, "device_id": device, "key_fingerprint": fingerprint, "serial": str(number),
                "issued_s": now_s, "expires_s": now_s + 45 * DAY_S, "state": "current", "pem": pem,
            }
        )  # fmt: skip
    store = Store(settings.store_url)
    with store.writing() as session:
        session.execute(insert(Device), devices)
        session.execute(insert(Certificate), certificates)
    store.close()
    return Fleet(fingerprints, contexts, [0] * count)


def _identity(
    authority: Authority, device: str, settings: FleetSettings, now_s: int
) -> tuple[ssl.SSLContext, str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    issued = authority.issue_device(read_request(csr.public_bytes(serialization.Encoding.PEM).decode()), device, now_s)
    context = ssl.create_default_context(cafile=str(settings.authority_files[0]))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both = settings.folder / "one.pem"
    both.write_bytes(private + issued.pem.encode())
    context.load_cert_chain(both)
    return context, issued.fingerprint, issued.pem


@contextlib.contextmanager
def serving(settings: FleetSettings, *more: str) -> Iterator[tuple[int, int]]:
    """The server's process and port."""
    command = [
        sys.executable, "-m", "edgeward.cli.main", "fleet", "serve", "--folder", str(settings.folder),
        "--store", settings.store_url, "--port", "0", *more,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = re.search(r":(\d+)$", process.stdout.readline().strip())
        assert found is not None, "the server did not start"
        yield process.pid, int(found[1])
        process.send_signal(signal.SIGTERM)


def _template() -> bytes:
    """A check-in with marks where its sequence stands: encoding each anew would cost the caller more than sending."""
    families = tuple(replace(one, scores=1_234_567) for one in FAMILIES)
    said = CheckIn(1, 7_654_321, 600, int(time.time()), 9_000, FACTS, families)
    return encode(said).replace(b"7654321", b"%d").replace(b"1234567", b"%d")


TEMPLATE = _template()


def body_of(fleet: Fleet, number: int) -> bytes:
    """The next check-in of a device; its counts have risen."""
    fleet.sequences[number] += 1
    sequence = fleet.sequences[number]
    return TEMPLATE % (sequence, *(100 * sequence,) * len(FAMILIES))


class Caller:
    """Sends check-ins on a connection that stays, or on a new one each."""

    def __init__(self, fleet: Fleet, port: int, *, tls: bool) -> None:
        self._fleet, self._port, self._tls = fleet, port, tls
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.refused = 0

    def devices(self) -> int:
        """How many it can speak for."""
        return len(self._fleet.contexts) if self._tls else len(self._fleet.fingerprints)

    async def check_in(self, number: int) -> None:
        """One check-in of device ``number``, answered."""
        body = body_of(self._fleet, number)
        named = "" if self._tls else f"{HEADER}: {self._fleet.fingerprints[number]}\r\n"
        head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\n{named}content-length: {len(body)}\r\n\r\n"
        if self._tls:
            context = self._fleet.contexts[number]
            pair = await asyncio.open_connection("127.0.0.1", self._port, ssl=context, server_hostname="localhost")
        else:
            pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = pair
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        assert length is not None
        await reader.readexactly(int(length[1]))
        self.refused += not answer.startswith(b"HTTP/1.1 200")
        if self._tls:
            writer.close()
        else:
            self._idle.append(pair)

    def close(self) -> None:
        """Close what stayed open."""
        for _, writer in self._idle:
            writer.close()


async def offered(caller: Caller, rate: float, seconds: float) -> list[float]:
    """Check-ins at their own moments; seconds from each moment to its answer."""
    rng, took = random.Random(7), []
    began = time.perf_counter()

    async def one(due: float) -> None:
        await caller.check_in(rng.randrange(caller.devices()))
        took.append(time.perf_counter() - due)

    due, running = began, set()
    while due < began + seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return took


async def most(caller: Caller, seconds: float) -> list[float]:
    """As many as are answered."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def one(first: int) -> None:
        number = first
        while (began := time.perf_counter()) < end:
            await caller.check_in(number % caller.devices())
            took.append(time.perf_counter() - began)
            number += CALLERS

    await asyncio.gather(*(one(number) for number in range(CALLERS)))
    return took


async def measure(
    caller: Caller, pid: int, load: Callable[[Caller], Awaitable[list[float]]], warm: float = 1.0
) -> Figures:
    """One load, after a moment of the same that is not counted."""
    await most(caller, warm)
    caller.refused, cpu, began = 0, cpu_s(pid), time.perf_counter()
    took = sorted(await load(caller))
    wall = time.perf_counter() - began
    cores = (cpu_s(pid) - cpu) / wall
    caller.close()
    ms = [1e3 * one for one in took]
    return Figures(
        len(ms) / wall, ms[len(ms) // 2], ms[min(len(ms) - 1, int(0.99 * len(ms)))], ms[-1], cores, caller.refused
    )


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextlib.contextmanager
def databases(only: str) -> Iterator[dict[str, str | None]]:
    """URL by kind; None: the SQLite file of the folder. PostgreSQL as it is installed, durable, on this disk."""
    found: dict[str, str | None] = {"sqlite": None} if only in {"", "sqlite"} else {}
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if only == "sqlite" or not binaries:
        yield found
        return
    folder = Path(tempfile.mkdtemp(prefix="edgeward-pg-"))
    how: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        how |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run([binaries[-1] / "initdb", "-D", folder / "data", "-A", "trust", "-U", "edgeward"], **how)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = [binaries[-1] / "pg_ctl", "-D", folder / "data", "-w"]
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], **how)
    try:
        yield {**found, "postgresql": f"postgresql://edgeward@127.0.0.1:{port}/postgres"}
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], **how)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), default="")
    arguments = parser.parse_args()
    rate, seconds = arguments.devices / 60, arguments.seconds
    print(
        f"{arguments.devices} devices, one check-in a minute each: {rate:.0f}/s; {os.cpu_count()} cores; load: ", end=""
    )
    print(" ".join(f"{one:.1f}" for one in os.getloadavg()))
    with databases(arguments.only) as urls:
        for kind, url in urls.items():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "fleet"
                settings = FleetSettings(folder, store=url or "")
                fleet = fill(settings, arguments.devices)
                for way, tls, more in (
                    ("proxy", False, ("--no-tls", "--trusted-proxy", "127.0.0.1")),
                    ("mutual TLS, new connection each", True, ()),
                ):
                    loads: dict[str, Callable[[Caller], Awaitable[list[float]]]] = {
                        "offered": lambda caller: offered(caller, rate, seconds),
                        "most": lambda caller: most(caller, seconds),
                    }
                    for what, load in loads.items():
                        with serving(settings, *more) as (pid, port):
                            figures = asyncio.run(measure(Caller(fleet, port, tls=tls), pid, load))
                        print(f"{kind:10} {way:32} {what:8} {figures}  load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
