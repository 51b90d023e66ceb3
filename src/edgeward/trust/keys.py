"""Private keys of a repository's roles: Ed25519, one PEM file each, read by their owner alone.

``ROLE-N.pem``: the N-th key that the role ever had. Keys of the online roles may sign unattended and have no
passphrase; those of root, targets and the families are made with one, and belong on media that are kept apart. A key
that its role no longer names is renamed to ``ROLE-N.pem.retired``, so that it signs nothing more.

A key that its holder brought is found by its id, whatever its file is called: by the public key file beside it, or,
where it has no passphrase, by looking.

PKCS #8 stretches a passphrase little (PBKDF2, some thousand rounds), so a short one is refused.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import fsync_folder, storage_error, write_durably
from edgeward.trust.public import PUBLIC_BYTES_MAX, PUBLIC_SUFFIX, public_path, public_pem, read_public

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from securesystemslib.signer import Key

ONLINE = ("snapshot", "timestamp")
"""Roles that sign unattended, every day."""
PASSPHRASE_CHARS_MIN = 16
_FILE = re.compile(r"(.+)-([1-9]\d{0,3})\.pem")
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class Passphrases(Protocol):
    """Where passphrases come from: a person, or a file."""

    def choose(self, key: str) -> str:
        """A passphrase for the new key of this name, such as ``root-2``; "" for none."""
        ...

    def ask(self, key: str) -> str:
        """The passphrase that the key of this name was made with."""
        ...


class Keys:
    """The private keys in ``online`` and, of every role but ``ONLINE``, in ``offline`` (the same folder by default).

    Without ``passphrases`` keys are made without one, and a key that has one cannot be used (``key-locked``).
    """

    def __init__(self, online: Path, offline: Path | None = None, passphrases: Passphrases | None = None) -> None:
        self.online = online
        self.offline = offline or online
        self._passphrases = passphrases
        self._opened: dict[Path, CryptoSigner] = {}  # by passphrase: nobody is asked twice

    @property
    def are_of_a_ceremony(self) -> bool:
        """Whether offline keys were named apart, or passphrases given: no small repository is meant."""
        return self.offline != self.online or any(
            path.read_bytes().startswith(_ENCRYPTED) for path in self.online.glob("*.pem")
        )

    def folder(self, role: str) -> Path:
        """Where the keys of ``role`` lie."""
        return self.online if role in ONLINE else self.offline

    def paths(self, role: str) -> list[Path]:
        """The key files of ``role`` that are there, the oldest first."""
        found = [path for path in self.folder(role).glob(f"{role}-*.pem") if _role_of(path.name) == role]
        return sorted(found, key=lambda path: _number(path.name))

    def make_folders(self) -> None:
        """Make both folders, for their owner only."""
        for folder in (self.online, self.offline):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def any(self) -> bool:
        """Whether either folder holds a key, retired ones too."""
        return any(_is_private(path) for folder in {self.online, self.offline} for path in folder.glob("*.pem*"))

    def remove_all(self) -> None:
        """Remove every key in both folders: only for keys just made that nothing names yet."""
        for folder in {self.online, self.offline}:
            for path in folder.glob("*.pem"):
                if _is_private(path):
                    path.unlink()

    def next_name(self, role: str, known: Iterable[str] = ()) -> str:
        """The name of the next key of ``role``: after every one here and after those ``known`` by name elsewhere."""
        here = [path.name.removesuffix(".retired") for path in self.folder(role).glob(f"{role}-*")]
        names = [*here, *(f"{name}.pem" for name in known)]
        return f"{role}-{max([0, *(_number(name) for name in names if _role_of(name) == role)]) + 1}"

    def make(self, role: str, *, known: Iterable[str] = ()) -> CryptoSigner:
        """Make the next key of ``role``, named as ``next_name`` says.

        Never writes over a file: ``ConfigError`` ``key-exists``.
        """
        return self._make(self.folder(role) / f"{self.next_name(role, known)}.pem", protect=role not in ONLINE)

    def make_missing(self, role: str, count: int) -> None:
        """Make keys 1 to ``count`` of ``role`` unless they are there: what a cut initialisation goes on with."""
        for number in range(1, count + 1):
            path = self.folder(role) / f"{role}-{number}.pem"
            if not path.exists():
                self._make(path, protect=role not in ONLINE)

    def make_pair(self, private: Path) -> Key:
        """Make a holder's own key at ``private`` and its public key file beside it; returns the public key.

        After a cut between the two the private key is opened, and the file that is missing is written. Raises
        ``ConfigError``: ``key-name``, ``key-exists``, ``passphrase-short``, ``disk-full``, ``disk-error``, and of
        opening a key.
        """
        if private.suffix != ".pem" or private.name.endswith(PUBLIC_SUFFIX):
            raise ConfigError(
                "key-name", f"name the private key's file, such as ada.pem; ada{PUBLIC_SUFFIX} comes by it"
            )
        public = public_path(private)
        if public.exists():
            raise ConfigError(
                "key-exists", f"there is a {public.name} already; no key is written over: choose another name"
            )
        try:
            signer = self.load(private) if private.exists() else self._make(private, protect=True)
            write_durably(public, public_pem(signer.public_key))
        except OSError as error:
            raise storage_error(error, "making the key") from error
        return signer.public_key

    def _make(self, path: Path, *, protect: bool) -> CryptoSigner:
        if path.exists():
            raise ConfigError("key-exists", f"there is a key {path.name} already; choose an empty folder for new keys")
        chosen = self._passphrases.choose(path.stem) if self._passphrases and protect else ""
        if chosen and len(chosen) < PASSPHRASE_CHARS_MIN:
            raise ConfigError(
                "passphrase-short", f"a passphrase has {PASSPHRASE_CHARS_MIN} characters or more; choose a longer one"
            )
        private = Ed25519PrivateKey.generate()
        lock = serialization.BestAvailableEncryption(chosen.encode()) if chosen else serialization.NoEncryption()
        raw = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        write_durably(path, raw, mode=0o600)
        signer = CryptoSigner(private)
        if chosen:
            self._opened[path] = signer
        return signer

    def signers(self, role: str, named: Collection[str] = ()) -> list[CryptoSigner]:
        """The signers of ``role``, the oldest key first, and those brought whose ids are ``named``.

        ``ConfigError``: ``key-missing``, ``key-unreadable``, ``key-permissions``, ``key-locked``, ``passphrase-wrong``.
        """
        paths = self.paths(role)
        found = [self.load(path) for path in paths]
        lacking = {*named} - {signer.public_key.keyid for signer in found}
        found += [self.load(path) for path in self._brought(role, lacking) if path not in paths]
        if not found:
            raise ConfigError(
                "key-missing",
                f"the keys folder holds no private key for role {role}; bring the one the repository was made with, or "
                f"the team's own with its public key file ({PUBLIC_SUFFIX}) beside it",
            )
        return found

    def has(self, role: str, keyid: str) -> bool:
        """Whether the private key with this id is at hand for ``role``: only one that was brought is found."""
        return bool(self._brought(role, {keyid}))

    def _brought(self, role: str, ids: Collection[str]) -> list[Path]:
        """Private keys whose ids are ``ids``, by any file name."""
        files = sorted(self.folder(role).glob("*.pem")) if ids else []
        return [path for path in files if _is_private(path) and self._id(path) in ids]

    def _id(self, path: Path) -> str:
        """The id of a private key, as far as it can be told without its passphrase; "" where it cannot."""
        try:
            if public_path(path).exists():
                return read_public(public_path(path)).keyid
            return "" if path.read_bytes().startswith(_ENCRYPTED) else self.load(path).public_key.keyid
        except (
            ConfigError,
            OSError,
        ):  # whoever's key it is, it is not needed here, or signing says that one is missing
            return ""

    def load(self, path: Path) -> CryptoSigner:
        """The signer of one key file; errors as ``signers``."""
        return self._opened.get(path) or CryptoSigner(self._private(path))

    def _private(self, path: Path) -> Ed25519PrivateKey:
        damaged = ConfigError(
            "key-unreadable", f"the private key {path.name} cannot be read; restore it from its backup"
        )
        try:
            raw = path.read_bytes()
            if b"PUBLIC KEY" in raw and b"PRIVATE KEY" not in raw:
                raise ConfigError(
                    "key-is-public", f"{path.name} is a public key, which signs nothing; give the private key beside it"
                )
            if stat.S_IMODE(path.stat().st_mode) & 0o077 and os.name == "posix":
                raise ConfigError(
                    "key-permissions",
                    f"others may read the private key {path.name}; run chmod 600 on it, and replace it",
                )
        except OSError as error:
            raise damaged from error
        secret = None
        if raw.startswith(_ENCRYPTED):
            if self._passphrases is None:
                raise ConfigError(
                    "key-locked", f"the key {path.name} has a passphrase; give it by --passphrase-file or at a terminal"
                )
            secret = self._passphrases.ask(path.stem).encode()
        try:
            key = serialization.load_pem_private_key(raw, secret)
        except (ValueError, TypeError) as error:
            if secret is not None:
                raise ConfigError(
                    "passphrase-wrong", f"this is not the passphrase of {path.name}, or the file is damaged; try again"
                ) from error
            raise damaged from error
        if not isinstance(key, Ed25519PrivateKey):
            raise damaged
        if secret is not None:
            self._opened[path] = CryptoSigner(key)
        return key

    def retire_others(self, role: str, named: Collection[str], names: Mapping[str, str] | None = None) -> None:
        """Rename the keys of ``role`` that it does not name any more.

        ``named``: the ids of its keys. ``names``: key id → name of the key's file, where that is known; without it
        each key is opened to see its id. A key that was brought may have a file of any name and is kept by its id.
        """
        stems = {(names or {}).get(keyid) for keyid in named}
        if None in stems:
            gone = [path for path in self.paths(role) if self.load(path).public_key.keyid not in named]
        else:
            gone = [path for path in self.paths(role) if path.stem not in stems and self._id(path) not in named]
        for path in gone:
            path.rename(path.with_name(f"{path.name}.retired"))
        if gone:
            fsync_folder(self.folder(role))


def is_private_key(path: Path) -> bool:
    """Whether the file says that it holds a private key; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return b"PRIVATE KEY" in file.read(PUBLIC_BYTES_MAX)
    except OSError:
        return False


def _is_private(path: Path) -> bool:
    return not path.name.endswith(PUBLIC_SUFFIX)


def _role_of(name: str) -> str:
    found = _FILE.fullmatch(name)
    return found[1] if found else ""


def _number(name: str) -> int:
    found = _FILE.fullmatch(name)
    return int(found[2]) if found else 0
