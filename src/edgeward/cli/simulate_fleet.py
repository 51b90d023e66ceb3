"""``edgeward simulate fleet``: thousands of devices for a fleet server that has none."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeward.cli.repository import trust_client
from edgeward.kernel.errors import ConfigError, TrustError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from edgeward.testing.fleet.fleet import Exchange, Plan, SharedRepository, SimulatedFleet
    from edgeward.testing.fleet.report import Figures

DEVICES_MAX = 50_000
_BAR = 30
_TELL_S = 1.0


def register(subjects: Any) -> None:
    """Add ``fleet`` to the subjects of ``simulate``."""
    parser = subjects.add_parser(
        "fleet",
        help="thousands of devices against a real fleet server, with faults that a seed repeats",
        description="Every device runs the real link core, updater, slots and journal on a disk in memory; links, "
        "wards, trials' verdicts and faults are simulated. Signed metadata are proven once, by the real client, for "
        "all. With a server at http:// devices are named by a header, as behind a balancer that ends TLS (the server "
        "must trust this address as a proxy); with https:// each has mutual TLS of its own, for some dozens.",
        epilog="Example: edgeward simulate fleet --devices 1000 --server http://127.0.0.1:8470 --tokens tokens.txt "
        "--repository repository --trusted-root 1.root.json --bad 0.3 --bad-version 1.2.0 --for 300",
    )
    parser.add_argument("--devices", type=int, default=100, help=f"how many, up to {DEVICES_MAX:,} (default: 100)")
    parser.add_argument("--server", required=True, metavar="URL", help="the fleet server")
    parser.add_argument("--ca", type=Path, help="PEM file of the fleet's authority, for https")
    parser.add_argument("--tokens", type=Path, required=True, help="file with a one-time token per line and device")
    parser.add_argument("--repository", required=True, help="folder or URL of the signed repository")
    parser.add_argument("--trusted-root", type=Path, required=True, help="the repository's first root.json")
    parser.add_argument("--family", default="ecg-beat", help="the model family they run (default: ecg-beat)")
    parser.add_argument("--speed", type=float, default=1.0, help="devices live so many times faster (default: 1)")
    parser.add_argument("--spread", type=float, default=60.0, metavar="S", help="they start within S of each other")
    parser.add_argument("--bundle-kib", type=int, default=8_192, help="downloads are reckoned with this length")
    parser.add_argument("--for", type=float, dest="seconds", metavar="S", help="end after S seconds; else by Ctrl-C")
    parser.add_argument(
        "--header", default="x-client-certificate-sha256", help="by which the server is told a device's certificate"
    )
    faults = parser.add_argument_group("faults", "shares are from 0 to 1")
    faults.add_argument("--bad", type=float, default=0.0, help="devices on which a bad version fails its gates")
    faults.add_argument("--bad-version", action="append", default=[], help="a version that is bad; may be repeated")
    faults.add_argument("--silent", type=float, default=0.0, help="devices that fall silent over an update")
    faults.add_argument("--slow", type=float, default=0.0, help="devices behind a link of 16 KiB/s")
    faults.add_argument("--reboots", type=float, default=0.0, help="power cuts per device and hour")
    faults.add_argument("--wrong-clocks", type=float, default=0.0, help="devices whose clock jumps ten years")
    faults.add_argument("--lost", type=float, default=0.0, help="answers that never arrive")
    faults.add_argument("--doubled", type=float, default=0.0, help="check-ins that arrive twice")
    faults.add_argument("--seed", type=int, default=1, help="what goes wrong where (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run_fleet)


def run_fleet(arguments: argparse.Namespace) -> int:
    """The verb ``simulate fleet``."""
    plan = _plan(arguments)
    tokens = _tokens(arguments.tokens, plan.devices)
    with tempfile.TemporaryDirectory(prefix="edgeward-fleet-") as folder:
        repository = _repository(arguments, Path(folder))
        found = asyncio.run(_run(arguments, plan, tokens, repository, Path(folder)))
    if arguments.json:
        print(json.dumps(found.to_json()))
    else:
        from edgeward.testing.fleet.report import table

        print(table(found))
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from edgeward.testing.fleet.faults import Faults
    from edgeward.testing.fleet.fleet import Plan

    if not 1 <= arguments.devices <= DEVICES_MAX or not 0 < arguments.speed <= 1_000 or arguments.bundle_kib < 0:
        raise ConfigError(
            "setting-invalid",
            f"--devices lies between 1 and {DEVICES_MAX}, --speed between 0 and 1000, --bundle-kib from 0 on",
        )
    if not 0 <= arguments.spread <= 86_400:
        raise ConfigError("setting-invalid", "--spread lies between 0 and 86400 seconds")
    names = ("bad", "silent", "slow", "reboots", "wrong_clocks", "lost", "doubled", "seed")
    faults = Faults(**{name: getattr(arguments, name) for name in names})
    faults = replace(faults, bad_versions=frozenset(arguments.bad_version))
    return Plan(
        arguments.devices, arguments.family, arguments.speed, arguments.spread, arguments.bundle_kib << 10, faults
    )


def _tokens(path: Path, count: int) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text("ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("tokens-unreadable", f"cannot read the tokens in {path}; check it") from error
    if len(found) < count:
        raise ConfigError("tokens-few", f"{path} holds {len(found)} tokens and {count} devices need one each")
    return found[:count]


def _repository(arguments: argparse.Namespace, folder: Path) -> SharedRepository:
    from edgeward.testing.fleet.fleet import SharedRepository

    ca = str(arguments.ca) if arguments.ca is not None else ""
    client = trust_client(arguments.repository, arguments.trusted_root, folder / "trust", ca)
    repository = SharedRepository(client, arguments.family, folder)
    repository.refresh()
    repository.latest(arguments.family)
    return repository


async def _run(
    arguments: argparse.Namespace, plan: Plan, tokens: Sequence[str], repository: SharedRepository, folder: Path
) -> Figures:
    from edgeward.testing.fleet.fleet import SimulatedFleet

    exchange, certificates = await _members(arguments, tokens, folder)
    fleet = SimulatedFleet(plan, repository, exchange, certificates)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    began = time.monotonic()
    telling = asyncio.create_task(_tell(fleet, arguments.seconds))
    try:
        await fleet.run(
            lambda: stop.is_set() or (arguments.seconds is not None and time.monotonic() - began >= arguments.seconds)
        )
    finally:
        telling.cancel()
        _say("\n")
    return fleet.figures()


async def _members(arguments: argparse.Namespace, tokens: Sequence[str], folder: Path) -> tuple[Exchange, list[str]]:
    from edgeward.testing.fleet.fleet import BalancerExchange
    from edgeward.testing.fleet.http import Pool
    from edgeward.testing.fleet.members import MutualTls, enrol

    def done(count: int) -> None:
        if count % 50 == 0 or count == len(tokens):
            _say(f"\r{_bar(count / len(tokens))} {count:,} of {len(tokens):,} enrolled")

    parts = urlsplit(arguments.server)
    try:
        if parts.scheme == "https" and arguments.ca is not None:
            tls = MutualTls(arguments.server, arguments.ca, folder / "devices")
            certificates = []
            for number, token in enumerate(tokens):
                certificates.append(await asyncio.to_thread(tls.enrol, number, token))
                done(number + 1)
            return tls, certificates
        if parts.scheme != "http" or not parts.port:
            raise ConfigError("server-url", "--server takes http://HOST:PORT, or https://HOST[:PORT] with --ca")
        pool = Pool(arguments.server.rstrip("/"))
        try:
            return BalancerExchange(pool, arguments.header), await enrol(pool, tokens, done)
        except BaseException:
            await pool.close()
            raise
    except OSError as error:
        raise TrustError(
            "fleet-unreachable", f"the fleet server cannot be reached ({type(error).__name__}); check --server"
        ) from error
    finally:
        _say("\n")


async def _tell(fleet: SimulatedFleet, seconds: float | None) -> None:
    """A line that is written over each second, where a person looks on."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(_TELL_S)
        passed = time.monotonic() - began
        bar = _bar(passed / seconds) if seconds else f"{passed:6.0f} s"
        _say(f"\r{bar} {fleet.glance()}   ")


def _bar(share: float) -> str:
    full = round(_BAR * min(share, 1.0))
    return f"[{'#' * full}{'-' * (_BAR - full)}]"


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
