"""Public key files: what leaves a key holder's machine, and how one that is brought is read.

One PEM block (SubjectPublicKeyInfo) of an Ed25519 key. Its id is the one that metadata name the key by (TUF 4.2):
SHA-256 over its value and kind. Nobody chooses an id, so two people who read one to each other have the same key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import SSlibKey

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from securesystemslib.signer import Key

PUBLIC_SUFFIX = ".pub.pem"
PUBLIC_BYTES_MAX = 8192  # an RSA key of 16,384 bits still gets its own refusal


def public_path(private: Path) -> Path:
    """The public key file that lies beside a private key: ``ada.pem`` → ``ada.pub.pem``."""
    return private.with_name(f"{private.stem}{PUBLIC_SUFFIX}")


def public_pem(key: Key) -> bytes:
    """What a public key file holds."""
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_public(path: Path) -> Key:
    """The key in a public key file.

    Raises ``ConfigError``: ``public-key-unreadable``, ``key-is-private``, ``public-key-malformed``,
    ``public-key-kind``.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(PUBLIC_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            "public-key-unreadable", f"the public key file {path.name} cannot be read; check its path and permissions"
        ) from error
    if b"PRIVATE KEY" in raw:
        raise ConfigError(
            "key-is-private",
            f"STOP: {path.name} holds a PRIVATE key, which never leaves its holder's machine. Give the file "
            f"{public_path(path).name} that key new wrote beside it. If {path.name} came here from somebody else, its "
            "key is worth nothing any more: destroy it, and let its holder make another",
        )
    malformed = ConfigError(
        "public-key-malformed",
        f"{path.name} is not a public key file (one PEM block PUBLIC KEY); ask its holder for the {PUBLIC_SUFFIX} file "
        "that key new wrote",
    )
    try:
        public = serialization.load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise malformed from error
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError(
            "public-key-kind",
            f"the key in {path.name} is not an Ed25519 key, the one kind in use here; make one with edgeward trust key "
            "new",
        )
    key = SSlibKey.from_crypto(public)
    if (
        len(raw) > PUBLIC_BYTES_MAX or raw.split() != public_pem(key).split()
    ):  # a second key, text around it, other base64
        raise malformed
    return key


def read_publics(paths: Sequence[Path]) -> list[Key]:
    """The keys in public key files, no two alike; errors as ``read_public`` and ``key-twice``."""
    keys: dict[str, Key] = {}
    for path in paths:
        key = read_public(path)
        require_new(key, keys)
        keys[key.keyid] = key
    return list(keys.values())


def require_new(key: Key, known: Iterable[str]) -> None:
    """``ConfigError`` ``key-twice`` when the key's id is among the ``known``: one key has one place."""
    if key.keyid in known:
        raise ConfigError(
            "key-twice",
            f"the key with id {key.keyid[:16]}… is given twice, or has or had a place here already; each place needs a "
            "key of its own, made for it",
        )
