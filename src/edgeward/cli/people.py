"""Asking people at the terminal: passphrases, unseen, and a yes before anything is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from edgeward.trust.keys import Passphrases


def key_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments by which keys with passphrases are used."""
    parser.add_argument(
        "--offline-keys", type=Path, metavar="DIR", help="keys of root, targets and families, where they lie apart"
    )
    passphrase_argument(parser)


def passphrase_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that names a file with the passphrase."""
    parser.add_argument(
        "--passphrase-file", type=Path, metavar="FILE", help="the keys' passphrase, instead of asking at the terminal"
    )


def passphrases(arguments: argparse.Namespace) -> Passphrases | None:
    """Where passphrases come from: the file named, else the terminal; None where there is neither."""
    if arguments.passphrase_file is not None:
        return _FromFile(arguments.passphrase_file)
    return _FromTerminal() if sys.stdin is not None and sys.stdin.isatty() else None


def require_passphrases(arguments: argparse.Namespace) -> None:
    """``ConfigError`` ``passphrase-missing`` where new keys would be made without passphrases and nobody said so."""
    if not arguments.no_passphrase and passphrases(arguments) is None:
        raise ConfigError(
            "passphrase-missing", "new keys need passphrases: run it at a terminal, or give --passphrase-file"
        )


def say(text: str) -> None:
    """Prompts and advice go to stderr, so that stdout holds results only."""
    print(text, file=sys.stderr, flush=True)


def confirm(question: str, *, assumed: bool) -> None:
    """Ask the person at the terminal. ``ConfigError`` ``not-confirmed`` unless the answer is yes, or is ``assumed``."""
    if assumed:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("not-confirmed", "nobody is at the terminal to say yes; say it by --yes")
    say(f"{question} Type yes:")
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
                say("That is too short.")
            elif _unseen(f"The passphrase for {key} again: ") != chosen:
                say("The two differ.")
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
