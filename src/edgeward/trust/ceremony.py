"""The key ceremony: making a repository's roles, delegating model families, and exchanging keys.

A root is changed by a draft (``trust.draft``), and made by one where its holders bring their public keys
(``trust.first``). Metadata of roles whose keys change are signed by the old and the new
keys before the next root appears, so there is no moment at which a device finds the repository unsigned.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets

from edgeward.kernel.errors import ConfigError
from edgeward.trust.draft import NAMES, Draft, add_key, key_name, known_ids
from edgeward.trust.durable import write_durably
from edgeward.trust.families import add_family, exchange_key, hand_over, require_family_name
from edgeward.trust.first import FirstRoot, require_threshold
from edgeward.trust.keys import ONLINE
from edgeward.trust.public import require_new
from edgeward.trust.publish import empty_state, repository_exists
from edgeward.trust.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer import Key

    from edgeward.trust.keys import Keys
    from edgeward.trust.repository import RepositoryFolder, Signed


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role: its keys by name and by id, how many must sign, the version in force and when it expires.

    Version 0: a family whose team has not signed yet.
    """

    role: str
    keys: tuple[str, ...]
    ids: tuple[str, ...]
    threshold: int
    version: int
    expires: datetime


class Ceremony:
    """Changes who may sign in one repository."""

    def __init__(self, folder: RepositoryFolder) -> None:
        self._folder = folder

    @property
    def keys(self) -> Keys:
        """The private keys at hand."""
        return self._folder.keys

    @property
    def first_root(self) -> Path:
        """The root file that every device must be given by another way than the repository."""
        return self._folder.metadata / "1.root.json"

    def init(self, *, families: Sequence[str] = (), root_keys: int = 3, root_threshold: int = 2) -> Path:
        """Make every key anew and an empty repository; returns the root file that devices need.

        Raises ``ConfigError``: ``repository-exists``, ``keys-exist``, ``root-keys``, ``root-threshold``,
        ``root-not-in-force``, ``family-name``, ``passphrase-short``, ``disk-full``.
        """
        folder, keys = self._folder, self.keys
        require_threshold(root_keys, root_threshold)
        for name in families:
            require_family_name(name)
        with folder.writing("making the repository"):
            folder.require_in_force()
            if folder.is_initialised or self.first_root.exists():
                raise repository_exists()
            if keys.any():
                raise ConfigError(
                    "keys-exist", "the keys folder holds keys already; none is written over: choose an empty folder"
                )
            try:
                root, state = Root(consistent_snapshot=True), empty_state()
                for role in ROLES:
                    for _ in range(root_keys if role == "root" else 1):
                        add_key(root, role, keys.make(role).public_key, keys.paths(role)[-1].stem)
                root.roles["root"].threshold = root_threshold
                for name in dict.fromkeys(families):
                    add_family(keys, state, name)
            except BaseException:  # a person gave up, or the disk is full: keys that sign nothing yet only confuse
                keys.remove_all()
                raise
            folder.write("root", root, "1.root.json")
            folder.commit(state)
        return self.first_root

    def begin(
        self, root_keys: Sequence[Key], draft: Path, *, families: Sequence[str] = (), root_threshold: int = 2
    ) -> Draft:
        """Begin a repository whose holders bring the root's public keys (``trust.first``); ``publish_root`` ends it."""
        return FirstRoot(self._folder).begin(root_keys, draft, families=families, threshold=root_threshold)

    def delegate(self, name: str, key: Key | None = None) -> bool:
        """Give the model family ``name`` a role and a key of its own; what targets say of it moves there.

        ``key``: one that the family's team brought. Returns whether the family's metadata are signed; else its team
        does so with its first bundle. Raises ``ConfigError``: ``family-exists``, ``family-name``, ``key-twice``, and of
        keys.
        """
        require_family_name(name)
        with self._folder.writing("delegating the family"):
            state = self._folder.current()
            if name in state.families:
                raise ConfigError("family-exists", f"{name} has a role already; exchange its key with rotate")
            if key is not None:
                require_new(key, known_ids(self._folder.root().signed) | known_ids(state.targets))
            add_family(self.keys, state, name, key)
            state.targets.version += 1
            self._folder.commit(state)
            return state.families[name].version > 0

    def rotate_family(self, name: str) -> str:
        """Exchange the key of a family for one made here, signed by targets; no root is needed. The new key's name.

        Raises ``ConfigError``: ``role-unknown``, and of keys.
        """
        return exchange_key(self._folder, name)

    def hand_over_family(self, name: str, key: Key) -> bool:
        """Exchange the key of a family for one that its team brought; see ``trust.families.hand_over``."""
        return hand_over(self._folder, name, key)

    def rotate(
        self, roles: Sequence[str], draft: Path, *, replace: Sequence[str] = (), brought: Sequence[Key] = ()
    ) -> Draft:
        """Draft the next root: new keys for ``roles`` of the top level, and for the root keys named in ``replace``.

        ``brought``: public keys to put there, in that order, instead of keys made here. ``root`` alone, with nothing to
        replace, only renews its time. Signs with the root keys at hand. Raises ``ConfigError``: ``draft-exists``,
        ``role-unknown``, ``key-unknown``, ``key-count``, ``key-online``, ``key-twice``, and of keys.
        """
        with self._folder.writing("drafting the root"):
            if draft.exists():
                raise ConfigError(
                    "draft-exists",
                    f"{draft.name} is there already; finish it with sign, or remove it, then rotate again",
                )
            for role in roles:
                if role not in ROLES:
                    raise ConfigError(
                        "role-unknown", f"there is no top-level role {role!r}; it is one of {', '.join(ROLES)}"
                    )
            previous = self._folder.root()
            root = copy.deepcopy(previous.signed)
            gone = [
                (role, keyid) for role in dict.fromkeys(roles) if role != "root" for keyid in root.roles[role].keyids
            ]
            gone += [("root", _keyid(root, name)) for name in dict.fromkeys(replace)]
            if brought:
                self._require_fitting(root, [role for role, _ in gone], brought)
            for index, (role, keyid) in enumerate(gone):
                self._exchange(root, role, keyid, brought[index] if brought else None)
            root.version += 1
            root.expires = (self._folder.wall() + timedelta(days=self._folder.expiry.root_days)).replace(microsecond=0)
            made = Draft(draft, previous, Metadata(root))
            if self.keys.paths("root"):
                made.sign(self.keys.signers("root"))
            made.write()
            return made

    def _require_fitting(self, root: Root, roles: Sequence[str], brought: Sequence[Key]) -> None:
        if len(roles) != len(brought):
            raise ConfigError(
                "key-count",
                f"{len(brought)} new keys are given and {len(roles)} are to be exchanged; give one for each",
            )
        if {*roles} & {*ONLINE}:
            raise ConfigError(
                "key-online", f"the keys of {' and '.join(ONLINE)} sign where publishing runs and are made there"
            )
        known = known_ids(root) | known_ids(self._folder.current().targets)
        for key in brought:
            require_new(key, known)
            known.add(key.keyid)

    def _exchange(self, root: Root, role: str, gone: str, brought: Key | None) -> None:
        root.revoke_key(gone, role)
        known = root.unrecognized_fields.get(NAMES, {}).values()
        if brought is not None:
            add_key(root, role, brought, self.keys.next_name(role, known))
        else:
            add_key(root, role, self.keys.make(role, known=known).public_key, self.keys.paths(role)[-1].stem)

    def publish_root(self, draft: Draft) -> int:
        """Make a draft that enough have signed the root in force, and retire the keys it no longer names.

        Returns the root's version. Raises ``ConfigError``: ``signatures-missing``, ``draft-stale``, ``draft-foreign``,
        and of keys.
        """
        following = draft.following.signed
        if draft.previous is None:
            FirstRoot(self._folder).put_in_force(draft)
            return 1
        with self._folder.writing("publishing the root"):
            current = self._folder.root()
            if current.to_bytes() != draft.following.to_bytes():  # else a run was cut after it
                if current.signed.version != draft.previous.signed.version or (
                    current.signed_bytes != draft.previous.signed_bytes
                ):
                    raise ConfigError(
                        "draft-stale", "the repository has another root than the draft began from; rotate again"
                    )
                if not draft.signatures().is_enough:
                    raise ConfigError(
                        "signatures-missing", "not enough root keys have signed this draft; see edgeward trust sign"
                    )
                self._sign_for_both(following)
                write_durably(self._folder.metadata / f"{following.version}.root.json", draft.following.to_bytes())
            self._sign_for_new(following)
            for role in _exchanged(draft.previous.signed, following):
                self.keys.retire_others(role, following.roles[role].keyids, following.unrecognized_fields.get(NAMES))
            draft.path.unlink(missing_ok=True)
        return int(following.version)

    def _sign_for_both(self, following: Root) -> None:
        """Sign so that devices on the old root and on the new one accept what they find.

        Where an old key is lost that cannot be: ``_sign_for_new`` follows as soon as the new root is written.
        """
        before = self._folder.root().signed
        exchanged = [role for role in _exchanged(before, following) if role != "root"]
        is_lost = False
        for role in exchanged:
            if len(self._at_hand(role, following)) < following.roles[role].threshold:
                raise ConfigError(
                    "key-missing",
                    f"the new key of {role} is not in the keys folder; bring it, the root stays as it was",
                )
            is_lost |= len(self._at_hand(role, before)) < before.roles[role].threshold
        if exchanged and not is_lost:
            state = self._folder.current()
            state.targets.version += int("targets" in exchanged)
            self._folder.commit(state, following=following.roles["targets"].keyids)

    def _at_hand(self, role: str, root: Root) -> set[str]:
        """The ids that ``root`` gives to ``role`` and whose private keys are here."""
        named = root.roles[role].keyids
        try:
            return {signer.public_key.keyid for signer in self.keys.signers(role, named)} & {*named}
        except ConfigError as error:
            if error.code == "key-missing":
                return set()
            raise

    def _sign_for_new(self, following: Root) -> None:
        """Sign by the new root's keys what does not hold under it yet."""
        state = self._folder.current()
        names = {"targets": f"{state.targets.version}.targets.json", "timestamp": "timestamp.json"}
        names["snapshot"] = f"{state.snapshot.version}.snapshot.json"
        lacking = set()
        for role, name in names.items():
            metadata: Metadata[Any] = self._folder.load(name)
            try:
                following.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError:
                lacking.add(role)
        if lacking:
            state.targets.version += int("targets" in lacking)
            self._folder.commit(state)

    def status(self) -> list[RoleStatus]:
        """Every role as the repository says it now."""
        root, state = self._folder.root().signed, self._folder.current()
        top: list[tuple[str, Signed]] = [("root", root), ("targets", state.targets)]
        top += [("snapshot", state.snapshot), ("timestamp", state.timestamp)]
        found = [_status(role, root, signed) for role, signed in top]
        return found + [_status(name, state.targets, family) for name, family in state.families.items()]


def _status(role: str, above: Root | Targets, signed: Signed) -> RoleStatus:
    said = above.get_delegated_role(role)
    names = tuple(key_name(above, keyid) for keyid in said.keyids)
    return RoleStatus(role, names, tuple(said.keyids), said.threshold, signed.version, signed.expires)


def _exchanged(before: Root, after: Root) -> list[str]:
    """The top-level roles whose keys differ."""
    return [role for role in ROLES if set(before.roles[role].keyids) != set(after.roles[role].keyids)]


def _keyid(root: Root, name: str) -> str:
    for keyid in root.roles["root"].keyids:
        if name in {key_name(root, keyid), keyid[:8], keyid}:
            return keyid
    known = ", ".join(key_name(root, keyid) for keyid in root.roles["root"].keyids)
    raise ConfigError("key-unknown", f"root has no key {name!r}; it has {known}")
