"""``edgeward device``: a device's membership in its fleet."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError, TrustError

if TYPE_CHECKING:
    import argparse

    from edgeward.bedside.fleet_link.identity import Credentials, Identity
    from edgeward.bedside.fleet_link.link import Link
    from edgeward.bedside.fleet_link.settings import LinkSettings
    from edgeward.exchange.checkin import Facts
    from edgeward.exchange.enrol import Credential

_WAIT_S_MIN, _WAIT_S_MAX = 1, 60


def register(verbs: Any) -> None:
    """Add ``device`` to the command line."""
    parser = verbs.add_parser("device", help="this device's membership in its fleet")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    enrol = subjects.add_parser(
        "enrol",
        help="apply to the fleet, and show the fingerprint that its operator compares",
        description="Makes this device's key, shows its fingerprint and applies to the fleet. An operator accepts the "
        "application after comparing the fingerprint, or a one-time token does at once. The key never leaves the "
        "device. Nothing that watches patients is stopped for it, nor needed.",
        epilog="Exit codes: 0 accepted, or waiting; 4 rejected, or the fleet was not reached. Example: edgeward device "
        "enrol --url https://fleet.hospital.example:8470 --ca fleet-ca.pem --wait",
    )
    fleet_arguments(enrol)
    enrol.add_argument("--wait", action="store_true", help="ask until the application is accepted or rejected")
    enrol.add_argument("--token-file", type=Path, help="file with the one-time token of this device, mode 0600")
    enrol.add_argument(
        "--again",
        action="store_true",
        help="apply with a new key although this device has a certificate or was rejected: after revocation, expiry "
        "or loss; the certificate in use stays until there is another",
    )
    enrol.set_defaults(run=run_enrol)
    status = subjects.add_parser(
        "status", help="say how this device stands with its fleet", epilog="Example: edgeward device status"
    )
    fleet_arguments(status)
    status.set_defaults(run=run_status)


def fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the fleet is, where not the settings say it."""
    parser.add_argument("--settings", type=Path, help="TOML file with a [fleet] table")
    parser.add_argument("--url", help="the fleet, as https://HOST[:PORT]")
    parser.add_argument("--ca", help="PEM file of the fleet's authority, brought by hand")
    parser.add_argument("--folder", help="where key and certificate lie (default: fleet in the ward's state folder)")


def run_enrol(arguments: argparse.Namespace) -> int:
    """The verb ``device enrol``."""
    from edgeward.bedside.files import RealFiles
    from edgeward.bedside.fleet_link.agent import apply_once
    from edgeward.bedside.fleet_link.facts import facts_of
    from edgeward.bedside.fleet_link.identity import Identity
    from edgeward.bedside.fleet_link.link import Link
    from edgeward.bedside.fleet_link.notes import read_notes
    from edgeward.exchange.enrol import Standing, grouped

    settings, (folder, beds) = _fleet_of(arguments), _ward_of(arguments)
    token = _token(arguments.token_file) if arguments.token_file is not None else ""
    link = Link(settings.url, Path(settings.ca))
    with Identity(folder) as identity:
        current = _current(identity)
        standing = read_notes(folder, RealFiles()).phase
        if current is not None and not arguments.again and standing in {"", "member"}:
            print(f"enrolled as {current.device}, until {_day(current.ends)}; to apply again: --again")
            return 0
        identity.request(anew=arguments.again)
        print(f"fingerprint  {grouped(identity.asked_for())}", flush=True)
        credential = apply_once(identity, link, facts_of(folder, beds), token)
        if arguments.wait and credential.standing is Standing.PENDING:
            _say("waiting for an operator to accept this fingerprint (Ctrl-C: it stays applied for)")
        while arguments.wait and credential.standing is Standing.PENDING:
            credential = _asked_again(identity, link, facts_of(folder, beds), credential)
        return _told(credential, identity)


def run_status(arguments: argparse.Namespace) -> int:
    """The verb ``device status``."""
    from edgeward.bedside.files import RealFiles
    from edgeward.bedside.fleet_link.identity import Identity
    from edgeward.bedside.fleet_link.notes import read_notes
    from edgeward.exchange.enrol import grouped

    folder, _ = _ward_of(arguments)
    identity, now = Identity(folder), datetime.now(UTC)
    try:
        current = identity.look()
    except TrustError as error:
        print(f"device       {error}")
        current = None
    else:
        print(f"device       {_standing(current, now)}")
    if current is not None:
        print(f"fingerprint  {grouped(current.fingerprint)}")
    if identity.asked_for():
        print(f"applied for  {grouped(identity.asked_for())}")
    notes = read_notes(folder, RealFiles())
    heard = f"{_day(datetime.fromtimestamp(notes.heard_s, UTC))} (by this device's clock)" if notes.heard_s else "never"
    print(f"last heard   {heard}")
    print(f"link         {_link_words(notes.phase, notes.trouble)}; {notes.boot} starts")
    return 0


def _fleet_of(arguments: argparse.Namespace) -> LinkSettings:
    """Settings of the link; arguments over the file."""
    from edgeward.cli.ward_settings import load_link

    given = {name: getattr(arguments, name) for name in ("url", "ca", "folder") if getattr(arguments, name)}
    settings = load_link(arguments.settings, given)
    if settings is None:
        raise ConfigError("setting-incomplete", "name the fleet: --url and --ca, or a [fleet] table in --settings")
    return settings


def _ward_of(arguments: argparse.Namespace) -> tuple[Path, int]:
    """The identity's folder and the number of beds, as the ward of the same settings has them."""
    from edgeward.cli.ward_settings import load_ward

    ward = load_ward(arguments.settings, {})
    return Path(arguments.folder) if arguments.folder else ward.fleet_folder, len(ward.beds)


def _current(identity: Identity) -> Credentials | None:
    try:
        return identity.look()
    except TrustError as error:
        _say(str(error))
        return None


def _asked_again(identity: Identity, link: Link, facts: Facts, before: Credential) -> Credential:
    """Ask once more when it is time; a fleet that cannot be reached meanwhile is tried again."""
    from edgeward.bedside.fleet_link.agent import apply_once
    from edgeward.bedside.fleet_link.link import LinkError

    time.sleep(min(max(before.next_s, _WAIT_S_MIN), _WAIT_S_MAX))
    try:
        return apply_once(identity, link, facts)
    except LinkError as error:
        _say(str(error))
        return before


def _told(credential: Credential, identity: Identity) -> int:
    from edgeward.exchange.enrol import Standing

    match credential.standing:
        case Standing.ACCEPTED:
            found = identity.look()
            until = f", until {_day(found.ends)}" if found is not None else ""
            print(f"accepted as {credential.device}{until}")
            return 0
        case Standing.PENDING:
            print("pending: an operator compares the fingerprint and accepts; ask again with --wait")
            return 0
        case Standing.REJECTED:
            identity.give_up_request()
            _say("rejected by the fleet; to apply with another key: --again")
            return TrustError.exit_code


def _standing(current: Credentials | None, now: datetime) -> str:
    if current is None:
        return "not enrolled; to apply: edgeward device enrol"
    if current.expired(now):
        return f"{current.device}, its certificate expired on {_day(current.ends)}; edgeward device enrol --again"
    if now < current.begins:
        return f"{current.device}, its certificate begins on {_day(current.begins)}: this device's clock is behind"
    due = "renewal is due" if current.renewal_due(now) else "not yet due for renewal"
    return f"{current.device}, certificate until {_day(current.ends)}, {due}"


def _link_words(phase: str, trouble: str) -> str:
    words = {
        "": "never started; edgeward ward run with a [fleet] table starts it",
        "applying": "applying",
        "member": "a member",
        "shut-out": "shut out (revoked or expired); edgeward device enrol --again",
        "rejected": "rejected; edgeward device enrol --again",
    }.get(phase, phase)
    return f"{words}, last trouble: {trouble}" if trouble else words


def _token(path: Path) -> str:
    try:
        text = path.read_text("ascii").strip()
        if path.stat().st_mode & 0o077:
            raise ConfigError("token-open", f"others may read the token in {path}; run chmod 600 on it")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("token-unreadable", f"cannot read the one-time token in {path}; check it") from error
    if not text or not text.replace("-", "").replace("_", "").isalnum() or len(text) > 128:
        raise ConfigError("token-unreadable", f"{path} holds no one-time token; ask the fleet's operator for another")
    return text


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _say(text: str) -> None:
    sys.stderr.write(f"edgeward: {text}\n")
