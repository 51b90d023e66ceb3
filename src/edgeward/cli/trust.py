"""The verb ``trust``: the key ceremony of a signed repository (docs/trust.md goes through it step by step)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli import trust_key
from edgeward.cli.people import confirm, key_arguments, passphrases, require_passphrases, say
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from securesystemslib.signer import Key

    from edgeward.trust.ceremony import Ceremony
    from edgeward.trust.draft import Draft

_DRAFT = "root-draft.json"
_EXIT_CODES = "Exit codes: 0 done, 1 more signatures are needed, 2 arguments, keys or files."


def register(subparsers: Any) -> None:
    """Add the verb to the command line."""
    trust = subparsers.add_parser(
        "trust",
        help="the key ceremony: roles, model families, exchanging keys",
        description="Makes and changes who may sign what devices install. docs/trust.md has the ceremony step by step.",
    )
    verbs = trust.add_subparsers(metavar="VERB", required=True)

    trust_key.register(verbs)

    init = _verb(verbs, "init", "make an empty repository and its keys", "--root-key a.pub.pem --root-key b.pub.pem")
    init.add_argument("--family", action="append", default=[], metavar="NAME", help="a model family with its own role")
    init.add_argument(
        "--root-key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a root holder's public key, each once",
    )
    init.add_argument(
        "--root-keys", type=int, metavar="N", help="without --root-key: root keys to make on this machine (default: 3)"
    )
    init.add_argument("--root-threshold", type=int, default=2, metavar="N", help="how many must sign (default: 2)")
    init.add_argument("--draft", type=Path, metavar="FILE", help=f"with --root-key: its draft (default: KEYS/{_DRAFT})")
    init.add_argument("--yes", action="store_true", help="do not ask before making the keys")
    init.add_argument("--no-passphrase", action="store_true", help="keys without passphrases: for a trial only")
    init.set_defaults(run=run_init)

    delegate = _verb(verbs, "delegate", "give a model family a role and a key of its own", "ecg-beat")
    delegate.add_argument("family", metavar="NAME", help="the family: the name of its bundles")
    delegate.add_argument(
        "--key", type=Path, metavar="FILE", help="the public key of the family's team (default: make one)"
    )
    delegate.add_argument("--yes", action="store_true", help="do not ask whose key it is")
    delegate.set_defaults(run=run_delegate)

    rotate = _verb(verbs, "rotate", "exchange the keys of roles", "snapshot timestamp")
    rotate.add_argument("roles", nargs="+", metavar="ROLE", help="root, targets, snapshot, timestamp, or one family")
    rotate.add_argument("--replace", action="append", default=[], metavar="KEY", help="with root: the key to exchange")
    rotate.add_argument(
        "--with",
        dest="brought",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the new holder's public key, one for each key exchanged (default: make them here)",
    )
    rotate.add_argument("--draft", type=Path, metavar="FILE", help=f"where the draft goes (default: KEYS/{_DRAFT})")
    rotate.add_argument("--yes", action="store_true", help="do not ask whose keys --with names")
    rotate.set_defaults(run=run_rotate)

    _register_sign(verbs)

    show = _verb(verbs, "show", "roles, keys, versions and expiry", "--ids")
    show.add_argument(
        "--ids", action="store_true", help="print the id of every key too: what a ceremony's record keeps"
    )
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=run_show)


def _register_sign(verbs: Any) -> None:
    sign = verbs.add_parser(
        "sign",
        help="sign a draft of the first or next root, and put it in force once enough have",
        description="Sign a draft of a root. With --repo and --keys it is put in force once enough have signed.",
        epilog=f"Example: edgeward trust sign root-draft.json --key root-2.pem. {_EXIT_CODES}",
    )
    sign.add_argument("draft", type=Path, metavar="DRAFT", help="the file that init or rotate wrote")
    sign.add_argument(
        "--key", type=Path, action="append", default=[], metavar="FILE", help="a private root key to sign with"
    )
    sign.add_argument("--repo", type=Path, help="the repository in which to put it in force")
    sign.add_argument("--keys", type=Path, metavar="DIR", help="the repository's private keys")
    sign.add_argument("--yes", action="store_true", help="do not ask after showing what changes")
    key_arguments(sign)
    sign.set_defaults(run=run_sign)


def run_init(arguments: argparse.Namespace) -> int:
    """The verb ``init``: exit code 1 when root holders must sign before the repository is one."""
    require_passphrases(arguments)
    brought = _brought(arguments.root_key)
    if brought and arguments.root_keys is not None:
        raise ConfigError(
            "init-arguments", "--root-key brings root keys, --root-keys makes them here; give one of the two"
        )
    if arguments.draft is not None and not brought:
        raise ConfigError("init-arguments", "--draft belongs to --root-key: without it there is nothing to carry")
    count = len(brought) or (3 if arguments.root_keys is None else arguments.root_keys)
    others = f"one key for each of targets, snapshot, timestamp{''.join(', ' + name for name in arguments.family)}"
    ceremony = _ceremony(arguments, protect=not arguments.no_passphrase)
    if brought:
        say(f"This makes {others}, and a draft that {arguments.root_threshold} of {count} root holders must sign.")
        _confirm_ids(arguments, brought, [f"root-{number}" for number in range(1, count + 1)])
        path = arguments.draft or ceremony.keys.offline / _DRAFT
        draft = ceremony.begin(brought, path, families=arguments.family, root_threshold=arguments.root_threshold)
        say("The draft, for the ceremony's record: each holder compares it before signing.")
        _tell(draft)
        return _counted(draft)
    say(f"This makes {count} root keys, of which {arguments.root_threshold} must sign, and {others}.")
    confirm("Make them now?", assumed=arguments.yes)
    print(ceremony.init(families=arguments.family, root_keys=count, root_threshold=arguments.root_threshold))
    _say_what_devices_need()
    say(f"Move each root-N.pem out of {ceremony.keys.offline} to its holder's own medium, with a copy in a safe.")
    _say_where_keys_go()
    return 0


def run_delegate(arguments: argparse.Namespace) -> int:
    """The verb ``delegate``."""
    brought = _brought([arguments.key] if arguments.key is not None else [])
    _confirm_ids(arguments, brought, [arguments.family])
    is_signed = _ceremony(arguments).delegate(arguments.family, *brought)
    print(f"{arguments.family} has a role of its own; its bundles are signed by its key alone")
    if not is_signed:
        say("Nothing is published of it until its team signs the first bundle: edgeward publish --offline-keys DIR")
    return 0


def run_rotate(arguments: argparse.Namespace) -> int:
    """The verb ``rotate``: exit code 1 while signatures are missing."""
    from edgeward.trust.roles import ROLES

    families = [role for role in arguments.roles if role not in ROLES]
    if families and (len(arguments.roles) > 1 or arguments.replace or len(arguments.brought) > 1):
        raise ConfigError("rotate-arguments", "exchange the key of one family at a time, and without --replace")
    if arguments.replace and "root" not in arguments.roles:
        raise ConfigError("rotate-arguments", "--replace names root keys; name the role root with it")
    if arguments.brought and len({*arguments.roles}) > 1:
        raise ConfigError("rotate-arguments", "--with brings keys for one role; exchange the others by themselves")
    brought = _brought(arguments.brought)
    _confirm_ids(arguments, brought, families[: len(brought)] or ["new key"] * len(brought))
    ceremony = _ceremony(arguments)
    if families and brought:
        return _handed_over(families[0], is_done=ceremony.hand_over_family(families[0], brought[0]))
    if families:
        print(f"{families[0]} is signed by {ceremony.rotate_family(families[0])} from now on")
        return 0
    path = arguments.draft or ceremony.keys.offline / _DRAFT
    draft = ceremony.rotate(arguments.roles, path, replace=arguments.replace, brought=brought)
    _tell(draft)
    return _finish(ceremony, draft)


def _handed_over(family: str, *, is_done: bool) -> int:
    if is_done:
        print(f"{family} is signed by its team's key alone from now on")
        return 0
    print(f"{family} may be signed by the key before and by its team's; the one before is not ended yet")
    say("Next, the team signs with its own key: edgeward publish BUNDLE, or --refresh, with --offline-keys DIR.")
    say("Then run this command again: it ends the key before. If that one is stolen, rotate without --with at once.")
    return 1


def run_sign(arguments: argparse.Namespace) -> int:
    """The verb ``sign``: exit code 1 while signatures are missing."""
    from edgeward.trust.draft import Draft
    from edgeward.trust.keys import Keys

    if (arguments.repo is None) != (arguments.keys is None):
        raise ConfigError("sign-arguments", "--repo and --keys belong together; give both or none")
    draft = Draft.read(arguments.draft)
    _tell(draft)
    if arguments.key:
        confirm("Sign this?", assumed=arguments.yes)
        keys = Keys(arguments.draft.parent, passphrases=passphrases(arguments))
        if draft.sign([keys.load(path) for path in arguments.key]) < len(arguments.key):
            raise ConfigError("key-foreign", "a key given is not a root key before or after; bring the right one")
        draft.write()
    if arguments.repo is None:
        return _counted(draft)
    return _finish(_ceremony(arguments), draft)


def run_show(arguments: argparse.Namespace) -> int:
    """The verb ``show``."""
    rows = _ceremony(arguments).status()
    if arguments.json:
        import json

        print(json.dumps([
            {
                "role": row.role,
                "keys": row.keys,
                "ids": row.ids,
                "threshold": row.threshold,
                "version": row.version,
                "expires": row.expires.isoformat(),
            }
            for row in rows
        ]))  # fmt: skip
        return 0
    print(f"{'role':20} {'signatures':12} {'version':>7}  {'expires':10}  keys")
    for row in rows:
        need = f"{row.threshold} of {len(row.keys)}"
        until = f"{row.expires:%Y-%m-%d}" if row.version else "unsigned"
        print(f"{row.role:20} {need:12} {row.version:7}  {until:10}  {', '.join(row.keys)}")
    if arguments.ids:
        for row in rows:
            for name, keyid in zip(row.keys, row.ids, strict=True):
                print(trust_key.id_line(keyid, name))
    return 0


# --- what they share


def _verb(verbs: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"Example: edgeward trust {name} {example} --repo repo --keys keys. {_EXIT_CODES}",
    )
    parser.add_argument("--repo", type=Path, required=True, help="the repository's folder")
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR", help="its private keys, outside of it")
    key_arguments(parser)
    return parser


def _ceremony(arguments: argparse.Namespace, *, protect: bool = True) -> Ceremony:
    from edgeward.trust.ceremony import Ceremony
    from edgeward.trust.keys import Keys
    from edgeward.trust.repository import RepositoryFolder

    secrets = passphrases(arguments) if protect else None
    return Ceremony(RepositoryFolder(arguments.repo, Keys(arguments.keys, arguments.offline_keys, secrets)))


def _finish(ceremony: Ceremony, draft: Draft) -> int:
    if not draft.signatures().is_enough:
        return _counted(draft)
    version = ceremony.publish_root(draft)
    if draft.is_first:
        print(f"root {version} is in force: {ceremony.first_root}")
        _say_what_devices_need()
        _say_where_keys_go()
    else:
        print(f"root {version} is in force; devices take it at their next check-in")
    return 0


def _counted(draft: Draft) -> int:
    have = draft.signatures()
    following = f"{have.new} of {have.new_needed}"
    if draft.is_first:
        print(f"{draft.path}: {following} signatures needed by the first root's holders")
    else:
        print(f"{draft.path}: {have.old} of {have.old_needed} signatures by the root in force, {following} by the next")
    if have.is_enough:
        say(f"Enough have signed. Put it in force: edgeward trust sign {draft.path.name} --repo REPO --keys KEYS")
        return 0
    say(f"Carry it to the next holder: edgeward trust sign {draft.path.name} --key FILE")
    return 1


def _tell(draft: Draft) -> None:
    from edgeward.exchange.enrol import grouped

    for line in draft.changes(grouped):
        say(f"  {line}")


def _brought(files: Sequence[Path]) -> list[Key]:
    from edgeward.trust.public import read_publics

    return read_publics(files)


def _confirm_ids(arguments: argparse.Namespace, keys: Sequence[Key], names: Sequence[str]) -> None:
    """A public key file may have been exchanged on its way: its holder's voice says whose it is."""
    for key, name in zip(keys, names, strict=True):
        say(trust_key.id_line(key.keyid, name))
    if keys:
        confirm("Has the holder of each key read out the same id?", assumed=arguments.yes)


def _say_what_devices_need() -> None:
    say("Next: give this root file to every device by another way than the repository.")


def _say_where_keys_go() -> None:
    say("Keep targets and family keys apart too; snapshot and timestamp stay where publishing runs.")
