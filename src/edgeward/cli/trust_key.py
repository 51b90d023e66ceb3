"""The verbs ``trust key``: a key holder's own key, made on the holder's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.people import passphrase_argument, passphrases, require_passphrases, say

if TYPE_CHECKING:
    import argparse


def register(verbs: Any) -> None:
    """Add ``key`` to the verbs of ``trust``."""
    key = verbs.add_parser(
        "key",
        help="a key holder's own key: make it, read out its id",
        description="A key holder's own key. It is made on the holder's machine, which it never leaves; what is handed "
        "over is the public key file.",
    )
    inner = key.add_subparsers(metavar="VERB", required=True)
    new = inner.add_parser(
        "new",
        help="make a key and its public key file",
        description="Make an Ed25519 key under a passphrase, mode 0600, and its public key file beside it. Nothing is "
        "written over; after a cut the same command writes what is missing.",
        epilog="Example: edgeward trust key new ada.pem, which also writes ada.pub.pem.",
    )
    new.add_argument("file", type=Path, metavar="FILE", help="where the private key goes: NAME.pem")
    new.add_argument("--no-passphrase", action="store_true", help="a key without a passphrase: for a trial only")
    passphrase_argument(new)
    new.set_defaults(run=run_new)

    show = inner.add_parser(
        "show",
        help="the id of a key, to be read aloud",
        description="Print the id of a key: of a public key file, or of a private key, whose passphrase it asks for.",
        epilog="Example: edgeward trust key show ada.pub.pem",
    )
    show.add_argument("file", type=Path, metavar="FILE", help="a public key file or a private key")
    passphrase_argument(show)
    show.set_defaults(run=run_show)


def run_new(arguments: argparse.Namespace) -> int:
    """The verb ``new``."""
    from edgeward.trust.keys import Keys
    from edgeward.trust.public import public_path

    require_passphrases(arguments)
    private: Path = arguments.file
    secrets = None if arguments.no_passphrase else passphrases(arguments)
    key = Keys(private.parent, passphrases=secrets).make_pair(private)
    print(f"public key  {public_path(private)}")
    print(id_line(key.keyid))
    say(f"{private.name} is the private key: it stays with you, with a copy in a safe. Hand over the public key alone.")
    say("Write the id down: you read it out when the key is given its place, and compare it before you sign.")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """The verb ``show``."""
    from edgeward.trust.keys import Keys, is_private_key
    from edgeward.trust.public import read_public

    path: Path = arguments.file
    if is_private_key(path):
        print(id_line(Keys(path.parent, passphrases=passphrases(arguments)).load(path).public_key.keyid))
        say(f"{path.name} is a private key: it stays where it is.")
    else:
        print(id_line(read_public(path).keyid))
    return 0


def id_line(keyid: str, name: str = "id") -> str:
    """A key's name and its id in groups of four, as it is read aloud."""
    from edgeward.exchange.enrol import grouped

    return f"{name:11} {grouped(keyid)}"
