"""Roles and their keys: who may say what about the bundles of a repository.

TUF gives every role its own Ed25519 key: ``root`` names the keys, ``targets`` names the bundles, ``snapshot`` says
which metadata belong together, ``timestamp`` says that this is the newest. Private keys are PEM files that only
their owner may read, in a folder outside the repository, so that serving the repository never serves a key.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import write_durably

if TYPE_CHECKING:
    from pathlib import Path

ROLES = ("root", "targets", "snapshot", "timestamp")
ROOT_KEYS_MAX = 9


@dataclass(frozen=True, slots=True)
class Expiry:
    """Days until each role's metadata expire. A short timestamp bounds how long a device can be kept on old news."""

    root_days: float = 365.0
    targets_days: float = 90.0
    snapshot_days: float = 14.0
    timestamp_days: float = 7.0

    def __post_init__(self) -> None:
        days = (self.timestamp_days, self.snapshot_days, self.targets_days, self.root_days)
        if days[0] <= 0 or list(days) != sorted(days):
            raise ConfigError(
                "expiry-order", "expiry must be positive and rise from timestamp over snapshot and targets to root"
            )

    def days(self, role: str) -> float:
        """Days of ``role``, one of ``ROLES``."""
        return {
            "root": self.root_days,
            "targets": self.targets_days,
            "snapshot": self.snapshot_days,
            "timestamp": self.timestamp_days,
        }[role]


def wall_now() -> datetime:
    """Wall time at the rim, UTC: what expiry counts from."""
    return datetime.now(UTC)


def key_paths(keys_dir: Path, role: str) -> list[Path]:
    """The key files of ``role`` that are there: ``root-1.pem root-2.pem …``, sorted."""
    return sorted(keys_dir.glob(f"{role}-[1-9].pem"))


def create_keys(keys_dir: Path, *, root_keys: int = 1) -> None:
    """Make the keys that are missing: ``root_keys`` for root, one for every other role; keep those that are there.

    Raises ``ConfigError`` for a number of root keys outside 1 to ``ROOT_KEYS_MAX``.
    """
    if not 1 <= root_keys <= ROOT_KEYS_MAX:
        raise ConfigError("root-keys", f"the number of root keys must lie in 1 to {ROOT_KEYS_MAX}")
    keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    for role in ROLES:
        for number in range(1, (root_keys if role == "root" else 1) + 1):
            path = keys_dir / f"{role}-{number}.pem"
            if not path.exists():
                write_durably(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)


def load_signers(keys_dir: Path, role: str) -> list[CryptoSigner]:
    """The signers of ``role``. ``ConfigError`` when there is none, or one is unreadable or open to others."""
    paths = key_paths(keys_dir, role)
    if not paths:
        raise ConfigError(
            "key-missing",
            f"there is no private key for role {role} in the keys folder; give the one the repository was made with",
        )
    return [_load(path, role) for path in paths]


def _load(path: Path, role: str) -> CryptoSigner:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and os.name == "posix":
            raise ConfigError(
                "key-permissions", f"others may read the private key {path.name}; run chmod 600 on it, and replace it"
            )
        key = load_pem_private_key(path.read_bytes(), None)
        return CryptoSigner(key)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            "key-unreadable", f"the private key {path.name} of role {role} cannot be read; restore it from its backup"
        ) from error
