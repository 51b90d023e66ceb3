"""The draft of a root: one file that is carried from key holder to key holder.

It holds the root in force and the next one, so that each can see what would change without the repository. When enough
keys of both have signed (TUF 5.3.4), it becomes the next root. What is shown before signing must be all that changes:
whoever wrote the file may be an attacker.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import write_durably
from edgeward.trust.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner

NAMES = "x-edgeward-keys"
"""Field of root metadata: key id → the name of the key's file (``root-2``), so that people can speak of it.

A name is never given twice."""
DRAFT_BYTES_MAX = 1 << 20
_KEY_NAME = re.compile(r"[a-z0-9-]{1,80}")


@dataclass(frozen=True, slots=True)
class Signatures:
    """How far a draft is: valid signatures by keys of the root in force and of the next, of how many needed."""

    old: int
    old_needed: int
    new: int
    new_needed: int

    @property
    def is_enough(self) -> bool:
        """Whether the draft can become the next root."""
        return self.old >= self.old_needed and self.new >= self.new_needed


class Draft:
    """The next root beside the one in force.

    ``read`` raises ``ConfigError``: ``draft-unreadable``, ``draft-forged``.
    """

    def __init__(self, path: Path, previous: Metadata[Root], following: Metadata[Root]) -> None:
        self.path = path
        self.previous = previous
        self.following = following

    @classmethod
    def read(cls, path: Path) -> Draft:
        """The draft in the file ``path``."""
        unreadable = ConfigError(
            "draft-unreadable", f"{path.name} is not a draft of a root; give the file that rotate wrote"
        )
        try:
            raw = path.read_bytes()
            document = json.loads(raw if len(raw) <= DRAFT_BYTES_MAX else b"")
            previous, following = Metadata.from_dict(document["previous"]), Metadata.from_dict(document["next"])
            previous.signed.verify_delegate("root", previous.signed_bytes, previous.signatures)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RepositoryError) as error:
            raise unreadable from error
        if not isinstance(previous.signed, Root) or not isinstance(following.signed, Root):
            raise unreadable
        if following.signed.version != previous.signed.version + 1 or not _keys_are_what_they_say(previous, following):
            raise ConfigError(
                "draft-forged",
                f"{path.name} does not follow from the root in force; do not sign it, say who gave it",
            )
        return cls(path, previous, following)

    def write(self) -> None:
        """Keep the draft at its path."""
        document = {"previous": self.previous.to_dict(), "next": self.following.to_dict()}
        write_durably(self.path, json.dumps(document, indent=1).encode())

    def sign(self, signers: Sequence[CryptoSigner]) -> int:
        """Add the signatures of those ``signers`` that either root names; returns how many those are."""
        named = {*self.previous.signed.roles["root"].keyids, *self.following.signed.roles["root"].keyids}
        fitting = [signer for signer in signers if signer.public_key.keyid in named]
        for signer in fitting:
            self.following.sign(signer, append=True)
        return len(fitting)

    def signatures(self) -> Signatures:
        """How far it is."""
        raw, given = self.following.signed_bytes, self.following.signatures
        old = self.previous.signed.get_verification_result("root", raw, given)
        new = self.following.signed.get_verification_result("root", raw, given)
        return Signatures(len(old.signed), old.threshold, len(new.signed), new.threshold)

    def changes(self) -> list[str]:
        """What would change, in words for the person who is asked to sign."""
        before, after = self.previous.signed, self.following.signed
        lines = [f"root version {before.version} -> {after.version}, valid until {after.expires:%Y-%m-%d}"]
        for role in ROLES:
            old, new = before.roles[role], after.roles[role]
            gone = [_told(before, keyid) for keyid in old.keyids if keyid not in new.keyids]
            come = [_told(after, keyid) for keyid in new.keyids if keyid not in old.keyids]
            lines += [f"{role}: without {name}" for name in gone] + [f"{role}: with {name}" for name in come]
            if old.threshold != new.threshold:
                lines.append(f"{role}: {new.threshold} signatures needed instead of {old.threshold}")
        if after.consistent_snapshot != before.consistent_snapshot:
            lines.append(f"consistent snapshots: {after.consistent_snapshot}")
        return lines


def key_name(above: Root | Targets, keyid: str) -> str:
    """The key's name, or the beginning of its id where ``above`` was made without names."""
    name = above.unrecognized_fields.get(NAMES, {}).get(keyid)
    return name if isinstance(name, str) and _KEY_NAME.fullmatch(name) else keyid[:8]


def _told(root: Root, keyid: str) -> str:
    """Name and id: whoever wrote a draft chose the names, and nobody chooses an id."""
    return f"{key_name(root, keyid)} (id {keyid[:16]})"


def _keys_are_what_they_say(previous: Metadata[Root], following: Metadata[Root]) -> bool:
    """Whether no key hides under a known id, and every new id is the hash of its key (TUF 4.2)."""
    for keyid, key in following.signed.keys.items():
        known = previous.signed.keys.get(keyid)
        said = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
        if known is not None:
            if known != key:
                return False
        elif sha256((encode_canonical(said) or "").encode()).hexdigest() != keyid:
            return False
    return True
