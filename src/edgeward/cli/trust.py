"""The verb ``trust``: the key ceremony of a signed repository (docs/trust.md goes through it step by step)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from edgeward.trust.ceremony import Ceremony
    from edgeward.trust.draft import Draft
    from edgeward.trust.keys import Passphrases

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

    init = _verb(verbs, "init", "make every key and an empty repository", "--family ecg-beat --family sepsis-risk")
    init.add_argument("--family", action="append", default=[], metavar="NAME", help="a model family with its own role")
    init.add_argument("--root-keys", type=int, default=3, metavar="N", help="root keys, one a holder (default: 3)")
    init.add_argument("--root-threshold", type=int, default=2, metavar="N", help="how many must sign (default: 2)")
    init.add_argument("--yes", action="store_true", help="do not ask before making the keys")
    init.add_argument("--no-passphrase", action="store_true", help="keys without passphrases: for a trial only")
    init.set_defaults(run=run_init)

    delegate = _verb(verbs, "delegate", "give a model family a role and a key of its own", "ecg-beat")
    delegate.add_argument("family", metavar="NAME", help="the family: the name of its bundles")
    delegate.set_defaults(run=run_delegate)

    rotate = _verb(verbs, "rotate", "exchange the keys of roles", "snapshot timestamp")
    rotate.add_argument("roles", nargs="+", metavar="ROLE", help="root, targets, snapshot, timestamp, or one family")
    rotate.add_argument("--replace", action="append", default=[], metavar="KEY", help="with root: the key to exchange")
    rotate.add_argument("--draft", type=Path, metavar="FILE", help=f"where the draft goes (default: KEYS/{_DRAFT})")
    rotate.set_defaults(run=run_rotate)

    sign = verbs.add_parser(
        "sign",
        help="sign a draft of the next root, and put it in force once enough have",
        description="Sign a draft of the next root. With --repo and --keys it is put in force once enough have signed.",
        epilog=f"Example: edgeward trust sign root-draft.json --key root-2.pem. {_EXIT_CODES}",
    )
    sign.add_argument("draft", type=Path, metavar="DRAFT", help="the file that rotate wrote")
    sign.add_argument("--key", type=Path, action="append", default=[], metavar="FILE", help="a root key to sign with")
    sign.add_argument("--repo", type=Path, help="the repository in which to put it in force")
    sign.add_argument("--keys", type=Path, metavar="DIR", help="the repository's private keys")
    sign.add_argument("--yes", action="store_true", help="do not ask after showing what changes")
    key_arguments(sign)
    sign.set_defaults(run=run_sign)

    show = _verb(verbs, "show", "roles, keys, versions and expiry", "--json")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=run_show)


def key_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments by which keys with passphrases are used."""
    parser.add_argument(
        "--offline-keys", type=Path, metavar="DIR", help="keys of root, targets and families, where they lie apart"
    )
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="the keys' passphrase, instead of asking at the terminal"
    )


def passphrases(arguments: argparse.Namespace) -> Passphrases | None:
    """Where passphrases come from: the file named, else the terminal; None where there is neither."""
    if arguments.passphrase_file is not None:
        return _FromFile(arguments.passphrase_file)
    return _FromTerminal() if sys.stdin is not None and sys.stdin.isatty() else None


def run_init(arguments: argparse.Namespace) -> int:
    """The verb ``init``."""
    if not arguments.no_passphrase and passphrases(arguments) is None:
        raise ConfigError(
            "passphrase-missing", "new keys need passphrases: run it at a terminal, or give --passphrase-file"
        )
    _say(
        f"This makes {arguments.root_keys} root keys, of which {arguments.root_threshold} must sign, and one key for "
        f"each of targets, snapshot, timestamp{''.join(', ' + name for name in arguments.family)}."
    )
    _confirm("Make them now?", assumed=arguments.yes)
    ceremony = _ceremony(arguments, protect=not arguments.no_passphrase)
    root = ceremony.init(
        families=arguments.family, root_keys=arguments.root_keys, root_threshold=arguments.root_threshold
    )
    print(root)
    _say("Next: give this root file to every device by another way than the repository.")
    _say(f"Move each root-N.pem out of {ceremony.keys.offline} to its holder's own medium, with a copy in a safe.")
    _say("Keep targets and family keys apart too; snapshot and timestamp stay where publishing runs.")
    return 0


def run_delegate(arguments: argparse.Namespace) -> int:
    """The verb ``delegate``."""
    _ceremony(arguments).delegate(arguments.family)
    print(f"{arguments.family} has a role of its own; its bundles are signed by its key alone")
    return 0


def run_rotate(arguments: argparse.Namespace) -> int:
    """The verb ``rotate``."""
    from edgeward.trust.roles import ROLES

    families = [role for role in arguments.roles if role not in ROLES]
    if families and (len(arguments.roles) > 1 or arguments.replace):
        raise ConfigError("rotate-arguments", "exchange the key of one family at a time, and without --replace")
    if arguments.replace and "root" not in arguments.roles:
        raise ConfigError("rotate-arguments", "--replace names root keys; name the role root with it")
    ceremony = _ceremony(arguments)
    if families:
        print(f"{families[0]} is signed by {ceremony.rotate_family(families[0])} from now on")
        return 0
    path = arguments.draft or ceremony.keys.offline / _DRAFT
    draft = ceremony.rotate(arguments.roles, path, replace=arguments.replace)
    _tell(draft)
    return _finish(ceremony, draft)


def run_sign(arguments: argparse.Namespace) -> int:
    """The verb ``sign``: exit code 1 while signatures are missing."""
    from edgeward.trust.draft import Draft
    from edgeward.trust.keys import Keys

    if (arguments.repo is None) != (arguments.keys is None):
        raise ConfigError("sign-arguments", "--repo and --keys belong together; give both or none")
    draft = Draft.read(arguments.draft)
    _tell(draft)
    if arguments.key:
        _confirm("Sign this?", assumed=arguments.yes)
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
        print(f"{row.role:20} {need:12} {row.version:7}  {row.expires:%Y-%m-%d}  {', '.join(row.keys)}")
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
    print(f"root {ceremony.publish_root(draft)} is in force; devices take it at their next check-in")
    return 0


def _counted(draft: Draft) -> int:
    have = draft.signatures()
    print(
        f"{draft.path}: {have.old} of {have.old_needed} signatures by the root in force, "
        f"{have.new} of {have.new_needed} by the next"
    )
    if have.is_enough:
        _say(f"Enough have signed. Put it in force: edgeward trust sign {draft.path.name} --repo REPO --keys KEYS")
        return 0
    _say(f"Carry it to the next holder: edgeward trust sign {draft.path.name} --key root-N.pem")
    return 1


def _tell(draft: Draft) -> None:
    for line in draft.changes():
        _say(f"  {line}")


def _say(text: str) -> None:
    """Prompts and advice go to stderr, so that stdout holds results only."""
    print(text, file=sys.stderr, flush=True)


def _confirm(question: str, *, assumed: bool) -> None:
    if assumed:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("not-confirmed", "nobody is at the terminal to say yes; say it by --yes")
    _say(f"{question} Type yes:")
    if sys.stdin.readline().strip() != "yes":
        raise ConfigError("not-confirmed", "the answer was not yes; nothing was made or changed")


class _FromFile:
    """One passphrase for all keys, from the first line of a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def choose(self, key: str) -> str:
        return self.ask(key)

    def ask(self, key: str) -> str:
        try:
            if self._path.stat().st_mode & 0o077:
                raise ConfigError("passphrase-permissions", "others may read the passphrase file; run chmod 600 on it")
            lines = self._path.read_text().splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError("passphrase-file", f"the passphrase of {key} cannot be read from its file") from error
        if not lines or not lines[0]:
            raise ConfigError("passphrase-file", "the passphrase file is empty; put the passphrase on its first line")
        return lines[0]


class _FromTerminal:
    """Asks the person at the terminal, without showing what is typed."""

    def choose(self, key: str) -> str:
        from edgeward.trust.keys import PASSPHRASE_CHARS_MIN

        while True:
            chosen = _unseen(f"New passphrase for {key} (at least {PASSPHRASE_CHARS_MIN} characters): ")
            if len(chosen) < PASSPHRASE_CHARS_MIN:
                _say("That is too short.")
            elif _unseen(f"The passphrase for {key} again: ") != chosen:
                _say("The two differ.")
            else:
                return chosen

    def ask(self, key: str) -> str:
        return _unseen(f"Passphrase of {key}: ")


def _unseen(prompt: str) -> str:
    from getpass import getpass

    try:
        return getpass(prompt)
    except EOFError as error:
        raise ConfigError("passphrase-missing", "no passphrase was given; run it again when it is at hand") from error
