"""``edgeward sdc``: which IEEE 11073 SDC devices are on a network, for the engineer who connects a ward."""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError, InputError

if TYPE_CHECKING:
    import argparse


def register(verbs: Any) -> None:
    """Add ``sdc`` to the command line."""
    parser = verbs.add_parser("sdc", help="find IEEE 11073 SDC devices on a network")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    find = subjects.add_parser(
        "find",
        help="list every SDC device that answers to WS-Discovery",
        description="Asks by WS-Discovery (UDP multicast, port 3702) and prints each device as the settings name it "
        "(devices of [[sdc]], --source sdc:…), with the address that it gives. Nothing is asked of a device itself.",
        epilog="Exit codes: 0 found, 3 nobody answers. Example: edgeward sdc find --adapter 10.0.0.1",
    )
    find.add_argument("--adapter", required=True, metavar="ADDRESS", help="our own IPv4 address on that network")
    find.add_argument("--for", dest="seconds", type=float, default=2.0, metavar="S", help="wait so long (default: 2)")
    find.set_defaults(run=run_find)


def run_find(arguments: argparse.Namespace) -> int:
    """The verb ``sdc find``."""
    from edgeward.bedside.source.sdc_session import discover  # the library is needed for SDC alone

    if not 0 < arguments.seconds <= 60:
        raise ConfigError("sdc-seconds", "--for takes seconds, more than 0 and at most 60")
    _require_ours(arguments.adapter)
    found = discover(arguments.adapter, arguments.seconds)
    for epr, url in found:
        sys.stdout.write(f"{_shown(epr)}?adapter={arguments.adapter}\t{_shown(url)}\n")
    if not found:
        raise InputError(
            "sdc-not-found", "no SDC device answered; is it on, is it on this network, and may multicast pass?"
        )
    return 0


def _require_ours(adapter: str) -> None:
    """``ConfigError`` for an address to which nothing here can be bound."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
            tried.bind((str(IPv4Address(adapter)), 0))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "sdc-adapter", f"{adapter!r} is no IPv4 address of this machine; name one that is, without a port"
        ) from error


def _shown(text: str) -> str:
    """What a stranger on the network wrote, without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
