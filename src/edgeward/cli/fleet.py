"""``edgeward fleet``: the hospital's server, on the machine that it runs on.

What an operator does from elsewhere goes over the server's REST interface (``cli.fleet_operate``). The verbs here read
the database and the authority's key, so whoever may run them is trusted with the fleet.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli import fleet_operate
from edgeward.cli.fleet_settings import fleet_arguments, load_fleet
from edgeward.cli.fleet_table import say_json
from edgeward.exchange.enrol import grouped, ungrouped
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from edgeward.fleet.settings import FleetSettings
    from edgeward.fleet.store.engine import Store

_ROLES = ("viewer", "operator", "approver", "auditor")


def register(verbs: Any) -> None:
    """Add ``fleet`` to the command line."""
    parser = verbs.add_parser("fleet", help="the hospital's server: devices, rollouts, who may do what")
    subjects = parser.add_subparsers(title="subjects", metavar="SUBJECT", required=True)
    _register_server(subjects)
    _register_people(subjects)
    _register_devices(subjects)
    fleet_operate.register(subjects)


def _register_server(subjects: Any) -> None:
    init = subjects.add_parser(
        "init",
        help="make a fleet: authority, server certificate, database",
        description="Makes the fleet's folder. What is there already is kept; a second run adds what is missing.",
        epilog="Example: edgeward fleet init --folder /var/lib/edgeward --name fleet.hospital.example",
    )
    fleet_arguments(init)
    init.add_argument(
        "--name", dest="names", action="append", help="DNS name or address of the server; may be repeated"
    )
    init.set_defaults(run=run_init)
    serve = subjects.add_parser(
        "serve",
        help="serve devices, browsers and programs over TLS 1.3",
        description="Serves until SIGTERM. Without TLS it listens on loopback, or behind the proxies that it is told "
        "to trust.",
        epilog="Example: edgeward fleet serve --folder /var/lib/edgeward --host 0.0.0.0 --workers 2",
    )
    fleet_arguments(serve)
    serve.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port, 0 for any free one (default: 8470)")
    serve.add_argument("--workers", type=int, help="processes on one socket (default: 1)")
    serve.add_argument("--migrate", action="store_true", help="bring the database to this version first; back it up")
    serve.add_argument("--no-tls", dest="tls", action="store_const", const=False, help="plain HTTP: a proxy ends TLS")
    serve.add_argument(
        "--trusted-proxy",
        dest="trusted_proxies",
        action="append",
        metavar="ADDRESS",
        help="proxy that names client certificates in a header; may be repeated",
    )
    serve.add_argument("--repository", help="folder or s3://BUCKET/PREFIX of the signed repository to serve")
    serve.add_argument("--trusted-root", help="the repository's first root.json: what releases are proven by")
    serve.add_argument("--online-keys", help="folder of the keys and prepared returns that put a return in force")
    serve.set_defaults(run=run_serve)
    audit = subjects.add_parser("audit", help="verify the audit on this machine's database, or read it over REST")
    deeds = audit.add_subparsers(title="deeds", metavar="DEED", required=True)
    verify = deeds.add_parser(
        "verify",
        help="compute every entry anew",
        description="Prints the head, SEQ:HASH; note it elsewhere. Exit code 4 names the first entry that fails.",
    )
    fleet_arguments(verify)
    verify.add_argument("--expect", metavar="SEQ:HASH", help="a head that was noted and must still be in the chain")
    verify.set_defaults(run=run_audit_verify)
    fleet_operate.register_audit(deeds)


def _register_people(subjects: Any) -> None:
    user = subjects.add_parser("user", help="users and their API tokens")
    deeds = user.add_subparsers(title="deeds", metavar="DEED", required=True)
    add = deeds.add_parser(
        "add",
        help="make a local user",
        description="Asks for the password twice, or reads it from --password-file.",
    )
    change = deeds.add_parser("change", help="another role or password, or lock the account; ends its sessions")
    change.add_argument("--disable", dest="disabled", action="store_const", const=True, help="lock the account")
    change.add_argument("--enable", dest="disabled", action="store_const", const=False, help="unlock it")
    change.add_argument("--password", action="store_true", help="ask for a new password")
    for one in (add, change):
        one.add_argument("name", help="the user's name")
        one.add_argument("--role", choices=_ROLES, required=one is add, help="what they may do")
        one.add_argument("--password-file", type=Path, help="file whose first line is the password; for scripts")
        fleet_arguments(one)
    add.set_defaults(run=run_user_add)
    change.set_defaults(run=run_user_change)
    shown = deeds.add_parser("list", help="every user")
    fleet_arguments(shown)
    shown.set_defaults(run=run_user_list)
    token = deeds.add_parser("token", help="an API token for a user, printed once")
    token.add_argument("name", help="the user's name")
    token.add_argument("--label", default="", help="what it is for")
    token.add_argument("--days", type=float, default=30.0, help="how long it is valid (default: 30)")
    fleet_arguments(token)
    token.set_defaults(run=run_user_token)


def _register_devices(subjects: Any) -> None:
    token = subjects.add_parser(
        "token", help="a one-time token that takes a device in", description="Printed once; its hash is kept."
    )
    token.add_argument("--days", type=float, default=1.0, help="how long it is valid (default: 1)")
    enrolments = subjects.add_parser("enrolments", help="applications: list, accept, reject")
    deeds = enrolments.add_subparsers(title="deeds", metavar="DEED", required=True)
    listed = deeds.add_parser("list", help="those that wait")
    listed.add_argument("--json", action="store_true", help="print one JSON list")
    accept = deeds.add_parser(
        "accept", help="take a device in", description="Compare the fingerprint with the one the device shows."
    )
    accept.add_argument("--as", dest="device_id", metavar="DEVICE", help="the device that it is, if it lost its key")
    reject = deeds.add_parser("reject", help="refuse a device")
    for one in (accept, reject):
        one.add_argument("fingerprint", help="SHA-256 of the device's key, 64 hex digits; in quotes if in groups")
    for one in (token, accept):
        one.add_argument("--label", default="", help="free text for people; no patient's name")
        one.add_argument("--group", default="", help="the device's group")
        one.add_argument("--tag", dest="tags", action="append", default=[], help="may be repeated")
    for one in (token, listed, accept, reject):
        fleet_arguments(one)
    token.set_defaults(run=run_token)
    listed.set_defaults(run=run_enrolments_list)
    accept.set_defaults(run=run_enrolments_accept)
    reject.set_defaults(run=run_enrolments_reject)


# --- the server


def run_init(arguments: argparse.Namespace) -> int:
    """The verb ``fleet init``."""
    settings = _settings(arguments)
    with _extra():
        from edgeward.fleet.setup import make_fleet

        for line in make_fleet(settings, int(time.time())):
            print(line)
    return 0


def run_serve(arguments: argparse.Namespace) -> int:
    """The verb ``fleet serve``."""
    settings = _settings(arguments)
    with _extra():
        from edgeward.cli.fleet_serve import serve

        return serve(settings, migrate=arguments.migrate)


def run_audit_verify(arguments: argparse.Namespace) -> int:
    """The verb ``fleet audit verify``."""
    with _store(arguments) as store:
        from edgeward.fleet.store import audit

        seq, _, digest = (arguments.expect or "0:").partition(":")
        if not seq.isdigit() or (arguments.expect and len(digest) != 64):
            raise ConfigError("audit-expect", "--expect takes SEQ:HASH, as 'edgeward fleet audit verify' prints it")
        with store.reading() as session:
            head = audit.verify(session, expect=audit.Head(int(seq), digest))
    print(f"{head.seq}:{head.hash}")
    return 0


# --- people


def run_user_add(arguments: argparse.Namespace) -> int:
    """The verb ``fleet user add``."""
    with _store(arguments) as store:
        from edgeward.fleet.accounts import Accounts, Role

        password = _password(arguments.password_file)
        Accounts(store).add_user(arguments.name, Role(arguments.role), password, actor=_actor(), now_s=int(time.time()))
    print(f"{arguments.name} is {arguments.role}")
    return 0


def run_user_change(arguments: argparse.Namespace) -> int:
    """The verb ``fleet user change``."""
    with _store(arguments) as store:
        from edgeward.fleet.accounts import Accounts, Role

        asked = arguments.password or arguments.password_file is not None
        Accounts(store).change_user(
            arguments.name,
            role=Role(arguments.role) if arguments.role else None,
            password=_password(arguments.password_file) if asked else None,
            disabled=arguments.disabled,
            actor=_actor(),
            now_s=int(time.time()),
        )
    print(f"{arguments.name} is changed and signed out everywhere")
    return 0


def run_user_list(arguments: argparse.Namespace) -> int:
    """The verb ``fleet user list``."""
    with _store(arguments) as store:
        from sqlalchemy import select

        from edgeward.fleet.store.models import User

        with store.reading() as session:
            for user in session.scalars(select(User).order_by(User.name)):
                print("\t".join((user.name, user.role, user.source, "locked" if user.disabled else "")))
    return 0


def run_user_token(arguments: argparse.Namespace) -> int:
    """The verb ``fleet user token``."""
    with _store(arguments) as store:
        from edgeward.fleet.accounts import Accounts

        secret, number = Accounts(store).make_token(
            arguments.name, label=arguments.label, days=arguments.days, actor=_actor(), now_s=int(time.time())
        )
    sys.stderr.write(f"token {number}; it is shown this once\n")
    print(secret)
    return 0


# --- devices


def run_token(arguments: argparse.Namespace) -> int:
    """The verb ``fleet token``."""
    with _enrolments(arguments) as (enrolments, vouch):
        token, number = enrolments.make_token(vouch, days=arguments.days, actor=_actor(), now_s=int(time.time()))
    sys.stderr.write(f"token {number}; it is shown this once\n")
    print(token)
    return 0


def run_enrolments_list(arguments: argparse.Namespace) -> int:
    """The verb ``fleet enrolments list``."""
    with _store(arguments) as store:
        from sqlalchemy import select

        from edgeward.fleet.store.models import Enrolment

        now_s = int(time.time())
        query = select(Enrolment).where(Enrolment.state == "pending").order_by(Enrolment.first_s)
        with store.reading() as session:
            waiting = [
                {"fingerprint": row.fingerprint, "waits_s": now_s - row.first_s, "device": row.device_id}
                | json.loads(row.facts)
                for row in session.scalars(query)
            ]
    if arguments.json:
        say_json(waiting)
        return 0
    for one in waiting:
        print(f"fingerprint  {grouped(one['fingerprint'])}")
        memory, disk = one["memory_mib"] / 1024, one["disk_mib"] / 1024
        print(
            f"  waits {one['waits_s']} s; {one['device'] or 'new'}; {one['machine']}, {one['cores']} cores, "
            f"{memory:.0f} GiB of memory, {disk:.0f} GiB of disk, accelerator {one['accelerator']}, {one['beds']} beds"
        )
    if not waiting:
        print("nobody waits to be accepted")
    return 0


def run_enrolments_accept(arguments: argparse.Namespace) -> int:
    """The verb ``fleet enrolments accept``."""
    with _enrolments(arguments) as (enrolments, vouch):
        print(enrolments.accept(ungrouped(arguments.fingerprint), vouch, actor=_actor(), now_s=int(time.time())))
    return 0


def run_enrolments_reject(arguments: argparse.Namespace) -> int:
    """The verb ``fleet enrolments reject``."""
    with _enrolments(arguments) as (enrolments, _):
        enrolments.reject(ungrouped(arguments.fingerprint), actor=_actor(), now_s=int(time.time()))
    return 0


# --- within


def _settings(arguments: argparse.Namespace) -> FleetSettings:
    names = ("folder", "store", "host", "port", "workers", "tls", "names", "trusted_proxies")
    served = ("repository", "trusted_root", "online_keys")
    given = {name: getattr(arguments, name, None) for name in (*names, *served)}
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return load_fleet(arguments.settings, lists)


@contextmanager
def _extra() -> Iterator[None]:
    """What is missing is said by the name of the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgeward"):
            raise
        raise ConfigError(
            "extra-missing", f"the fleet server needs {error.name}; install it: pip install 'edgeward[fleet]'"
        ) from error


@contextmanager
def _store(arguments: argparse.Namespace) -> Iterator[Store]:
    settings = _settings(arguments)
    with _extra():
        from edgeward.fleet.store.engine import Store
        from edgeward.fleet.store.migrate import require_current

        store = Store(settings.store_url)
        try:
            require_current(store)
            yield store
        finally:
            store.close()


@contextmanager
def _enrolments(arguments: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    settings = _settings(arguments)
    with _store(arguments) as store:
        from edgeward.fleet.api.shapes import Accept, fitting
        from edgeward.fleet.authority import Authority
        from edgeward.fleet.enrol import Enrolments, Vouch

        authority = Authority.load(*settings.authority_files)
        given = {name: getattr(arguments, name) for name in Accept.model_fields if hasattr(arguments, name)}
        how = fitting(Accept, given)
        vouch = Vouch(how.label, how.group, tuple(how.tags), how.device_id)
        yield Enrolments(store, authority, days=settings.days), vouch


def _actor() -> str:
    """Whoever runs a verb on the server's machine, as the audit names them."""
    try:
        return f"cli:{getpass.getuser()[:64]}"
    except (OSError, KeyError):
        return f"cli:{os.getuid()}"


def _password(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text("utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("password-unreadable", f"cannot read the password file {file}") from error
    if not sys.stdin.isatty():
        raise ConfigError("password-unasked", "there is no terminal to ask for the password at; give --password-file")
    first, second = getpass.getpass("password: "), getpass.getpass("again: ")
    if first != second:
        raise ConfigError("password-differs", "the two are not the same; nothing was changed")
    return first
