"""The draft of a root: one file that is carried from key holder to key holder.

It holds the root in force and the next one, so that each can see what would change without the repository. When enough
keys of both have signed (TUF 5.3.4), it becomes the next root. The draft of a first root has none in force beside it.
What is shown before signing must be all that changes: whoever wrote the file may be an attacker.
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
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner, Key

NAMES = "x-edgeward-keys"
"""Field of root metadata: key id → the name of the key's file (``root-2``), so that people can speak of it.

A name is never given twice."""
DRAFT_BYTES_MAX = 1 << 20
_KEY_NAME = re.compile(r"[a-z0-9-]{1,80}")


@dataclass(frozen=True, slots=True)
class Signatures:
    """How far a draft is: valid signatures by keys of the root in force and of the next, of how many needed.

    A first root needs none by a root in force.
    """

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

    def __init__(self, path: Path, previous: Metadata[Root] | None, following: Metadata[Root]) -> None:
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
            previous = None if document["previous"] is None else Metadata.from_dict(document["previous"])
            following = Metadata.from_dict(document["next"])
            if previous is not None:
                previous.signed.verify_delegate("root", previous.signed_bytes, previous.signatures)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RepositoryError) as error:
            raise unreadable from error
        if not isinstance(following.signed, Root) or not (previous is None or isinstance(previous.signed, Root)):
            raise unreadable
        version = 1 if previous is None else previous.signed.version + 1
        if following.signed.version != version or not _keys_are_what_they_say(previous, following):
            raise ConfigError(
                "draft-forged",
                f"{path.name} does not follow from the root in force; do not sign it, say who gave it",
            )
        return cls(path, previous, following)

    @property
    def is_first(self) -> bool:
        """Whether it is of a new repository's first root."""
        return self.previous is None

    def write(self) -> None:
        """Keep the draft at its path."""
        previous = self.previous.to_dict() if self.previous is not None else None
        document = {"previous": previous, "next": self.following.to_dict()}
        write_durably(self.path, json.dumps(document, indent=1).encode())

    def sign(self, signers: Sequence[CryptoSigner]) -> int:
        """Add the signatures of those ``signers`` that either root names; returns how many those are."""
        roots = [self.following] if self.previous is None else [self.previous, self.following]
        named = {keyid for root in roots for keyid in root.signed.roles["root"].keyids}
        fitting = [signer for signer in signers if signer.public_key.keyid in named]
        for signer in fitting:
            self.following.sign(signer, append=True)
        return len(fitting)

    def signatures(self) -> Signatures:
        """How far it is."""
        raw, given = self.following.signed_bytes, self.following.signatures
        new = self.following.signed.get_verification_result("root", raw, given)
        if self.previous is None:
            return Signatures(0, 0, len(new.signed), new.threshold)
        old = self.previous.signed.get_verification_result("root", raw, given)
        return Signatures(len(old.signed), old.threshold, len(new.signed), new.threshold)

    def changes(self, shown: Callable[[str], str] = str) -> list[str]:
        """What would change, in words for the person who is asked to sign; ``shown`` says how a key's id is written."""
        before, after = self.previous.signed if self.previous is not None else None, self.following.signed
        until = f"valid until {after.expires:%Y-%m-%d}"
        lines = [
            f"root version {before.version} -> {after.version}, {until}"
            if before is not None
            else f"root version 1, the FIRST of a new repository, {until}"
        ]
        for role in ROLES:
            old, new = before.roles[role] if before is not None else None, after.roles[role]
            if before is not None and old is not None:
                gone = [keyid for keyid in old.keyids if keyid not in new.keyids]
                lines += [f"{role}: without {_told(before, keyid, shown)}" for keyid in gone]
            come = [keyid for keyid in new.keyids if old is None or keyid not in old.keyids]
            lines += [f"{role}: with {_told(after, keyid, shown)}" for keyid in come]
            if old is None:
                lines.append(f"{role}: {new.threshold} of {len(new.keyids)} signatures needed")
            elif old.threshold != new.threshold:
                lines.append(f"{role}: {new.threshold} signatures needed instead of {old.threshold}")
        if before is not None and after.consistent_snapshot != before.consistent_snapshot:
            lines.append(f"consistent snapshots: {after.consistent_snapshot}")
        return lines


def key_name(above: Root | Targets, keyid: str) -> str:
    """The key's name, or the beginning of its id where ``above`` was made without names."""
    name = above.unrecognized_fields.get(NAMES, {}).get(keyid)
    return name if isinstance(name, str) and _KEY_NAME.fullmatch(name) else keyid[:8]


def add_key(root: Root, role: str, key: Key, name: str) -> None:
    """Give ``role`` the key, and the key its name."""
    root.add_key(key, role)
    root.unrecognized_fields.setdefault(NAMES, {})[key.keyid] = name


def known_ids(above: Root | Targets) -> set[str]:
    """The ids of every key that ``above`` names, and of those it named before as far as it tells."""
    named = above.keys if isinstance(above, Root) else above.delegations.keys if above.delegations is not None else {}
    return {*named, *above.unrecognized_fields.get(NAMES, {})}


def _told(root: Root, keyid: str, shown: Callable[[str], str]) -> str:
    """Name and id: whoever wrote a draft chose the names, and nobody chooses an id."""
    return f"{key_name(root, keyid)} (id {shown(keyid)})"


def _keys_are_what_they_say(previous: Metadata[Root] | None, following: Metadata[Root]) -> bool:
    """Whether no key hides under a known id, and every new id is the hash of its key (TUF 4.2)."""
    for keyid, key in following.signed.keys.items():
        known = previous.signed.keys.get(keyid) if previous is not None else None
        said = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
        if known is not None:
            if known != key:
                return False
        elif sha256((encode_canonical(said) or "").encode()).hexdigest() != keyid:
            return False
    return True
