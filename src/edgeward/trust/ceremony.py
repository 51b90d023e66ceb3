"""The key ceremony: making a repository's roles, delegating model families, and exchanging keys.

A root is changed by a draft (``trust.draft``). Metadata of roles whose keys change are signed by the old and the new
keys before the next root appears, so there is no moment at which a device finds the repository unsigned.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

from edgeward.bundle.manifest import is_bundle_name
from edgeward.kernel.errors import ConfigError
from edgeward.trust.draft import NAMES, Draft, key_name
from edgeward.trust.durable import write_durably
from edgeward.trust.offer import entry_path
from edgeward.trust.publish import empty_state, repository_exists
from edgeward.trust.returns import HISTORY
from edgeward.trust.roles import ROLES, ROOT_KEYS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner

    from edgeward.trust.keys import Keys
    from edgeward.trust.repository import RepositoryFolder, State


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role: its keys by name, how many must sign, the version in force and when it expires."""

    role: str
    keys: tuple[str, ...]
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

    def init(self, *, families: Sequence[str] = (), root_keys: int = 3, root_threshold: int = 2) -> Path:
        """Make every key anew and an empty repository; returns the root file that devices need.

        Raises ``ConfigError``: ``repository-exists``, ``keys-exist``, ``root-keys``, ``root-threshold``,
        ``family-name``, ``passphrase-short``, ``disk-full``.
        """
        folder, keys = self._folder, self.keys
        if not 1 <= root_keys <= ROOT_KEYS_MAX:
            raise ConfigError("root-keys", f"the number of root keys must lie in 1 to {ROOT_KEYS_MAX}")
        if not 1 <= root_threshold <= root_keys:
            raise ConfigError("root-threshold", "the root threshold must lie between 1 and the number of root keys")
        for name in families:
            _require_family_name(name)
        with folder.writing("making the repository"):
            if folder.is_initialised or (folder.metadata / "1.root.json").exists():
                raise repository_exists()
            if keys.any():
                raise ConfigError(
                    "keys-exist", "the keys folder holds keys already; none is written over: choose an empty folder"
                )
            try:
                root, state = Root(consistent_snapshot=True), empty_state()
                for role in ROLES:
                    for _ in range(root_keys if role == "root" else 1):
                        _add_key(root, role, keys.make(role), keys)
                root.roles["root"].threshold = root_threshold
                for name in dict.fromkeys(families):
                    self._delegate(state, name)
            except BaseException:  # a person gave up, or the disk is full: keys that sign nothing yet only confuse
                keys.remove_all()
                raise
            folder.write("root", root, "1.root.json")
            folder.commit(state)
        return folder.metadata / "1.root.json"

    def delegate(self, name: str) -> None:
        """Give the model family ``name`` a role and a key of its own; what targets say of it moves there.

        Raises ``ConfigError``: ``family-exists``, ``family-name``, and of keys.
        """
        _require_family_name(name)
        with self._folder.writing("delegating the family"):
            state = self._folder.current()
            if name in state.families:
                raise ConfigError("family-exists", f"{name} has a role already; exchange its key with rotate")
            self._delegate(state, name)
            state.targets.version += 1
            self._folder.commit(state)

    def _delegate(self, state: State, name: str) -> None:
        made = self.keys.signers(name) if self.keys.paths(name) else [self.keys.make(name)]  # a cut left a key
        targets, family = state.targets, Targets()
        if targets.delegations is None:
            targets.delegations = Delegations({}, roles={})
        assert targets.delegations.roles is not None
        targets.delegations.roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=[entry_path(name)])
        self._name_family(targets, name, made[-1])
        moved = targets.targets.pop(entry_path(name), None)
        if moved is not None:
            family.targets[moved.path] = moved
        history = targets.unrecognized_fields.get(HISTORY, {})
        ours = {release: history.pop(release) for release in list(history) if release.rpartition("/")[0] == name}
        family.unrecognized_fields[HISTORY] = ours
        state.families[name] = family

    def _name_family(self, targets: Targets, name: str, signer: CryptoSigner) -> None:
        targets.add_key(signer.public_key, name)
        targets.unrecognized_fields.setdefault(NAMES, {})[signer.public_key.keyid] = self.keys.paths(name)[-1].stem

    def rotate_family(self, name: str) -> str:
        """Exchange the key of a family, signed by targets; no root is needed. Returns the new key's name.

        Raises ``ConfigError``: ``role-unknown``, and of keys.
        """
        with self._folder.writing("exchanging the family's key"):
            state = self._folder.current()
            if name not in state.families:
                raise ConfigError("role-unknown", f"this repository has no role {name!r}; see edgeward trust show")
            delegations = state.targets.delegations
            assert delegations is not None
            assert delegations.roles is not None
            role = delegations.roles[name]
            names = state.targets.unrecognized_fields.get(NAMES, {})
            signer = self.keys.make(name, known=names.values())
            for keyid in list(role.keyids):
                state.targets.revoke_key(keyid, name)
            self._name_family(state.targets, name, signer)
            state.targets.version += 1
            state.families[name].version += 1
            self._folder.commit(state)
            self.keys.retire_others(name, role.keyids, state.targets.unrecognized_fields[NAMES])
            return self.keys.paths(name)[-1].stem

    def rotate(self, roles: Sequence[str], draft: Path, *, replace: Sequence[str] = ()) -> Draft:
        """Draft the next root: new keys for ``roles`` of the top level, and for the root keys named in ``replace``.

        ``root`` alone, with nothing to replace, only renews its time. Signs with the root keys at hand. Raises
        ``ConfigError``: ``draft-exists``, ``role-unknown``, ``key-unknown``, and of keys.
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
            for role in dict.fromkeys(roles):
                gone = list(root.roles[role].keyids) if role != "root" else []
                self._exchange(root, role, gone)
            for name in dict.fromkeys(replace):
                self._exchange(root, "root", [_keyid(root, name)])
            root.version += 1
            root.expires = (self._folder.wall() + timedelta(days=self._folder.expiry.root_days)).replace(microsecond=0)
            made = Draft(draft, previous, Metadata(root))
            if self.keys.paths("root"):
                made.sign(self.keys.signers("root"))
            made.write()
            return made

    def _exchange(self, root: Root, role: str, gone: Sequence[str]) -> None:
        for keyid in gone:
            root.revoke_key(keyid, role)
            known = root.unrecognized_fields.get(NAMES, {}).values()
            _add_key(root, role, self.keys.make(role, known=known), self.keys)

    def publish_root(self, draft: Draft) -> int:
        """Make a draft that enough have signed the root in force, and retire the keys it no longer names.

        Returns the root's version. Raises ``ConfigError``: ``signatures-missing``, ``draft-stale``, and of keys.
        """
        following = draft.following.signed
        with self._folder.writing("publishing the root"):
            current = self._folder.root()
            if current.to_bytes() != draft.following.to_bytes():  # else a run was cut after it: only tidying is left
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
            for role in _exchanged(draft.previous.signed, following):
                self.keys.retire_others(role, following.roles[role].keyids, following.unrecognized_fields.get(NAMES))
            draft.path.unlink(missing_ok=True)
        return int(following.version)

    def _sign_for_both(self, following: Root) -> None:
        """Sign so that devices on the old root and on the new one accept what they find."""
        folder = self._folder
        exchanged = _exchanged(folder.root().signed, following)
        if not {*exchanged} - {"root"}:
            return
        state = folder.current()
        if "targets" in exchanged:
            state.targets.version += 1
        folder.commit(state)
        names = {"snapshot": f"{state.snapshot.version}.snapshot.json", "timestamp": "timestamp.json"}
        for role, name in {**names, "targets": f"{state.targets.version}.targets.json"}.items():
            metadata: Metadata[Any] = folder.load(name)
            try:
                following.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError as error:
                raise ConfigError(
                    "key-missing",
                    f"the new key of {role} is not in the keys folder; bring it, the root stays as it was",
                ) from error

    def status(self) -> list[RoleStatus]:
        """Every role as the repository says it now."""
        root, state = self._folder.root().signed, self._folder.current()
        top = {"root": root, "targets": state.targets, "snapshot": state.snapshot, "timestamp": state.timestamp}
        found = []
        for role, signed in top.items():
            said = root.roles[role]
            names = tuple(key_name(root, keyid) for keyid in said.keyids)
            found.append(RoleStatus(role, names, said.threshold, signed.version, signed.expires))
        for name, family in state.families.items():
            delegated = state.targets.get_delegated_role(name)
            names = tuple(key_name(state.targets, keyid) for keyid in delegated.keyids)
            found.append(RoleStatus(name, names, delegated.threshold, family.version, family.expires))
        return found


def _exchanged(before: Root, after: Root) -> list[str]:
    """The top-level roles whose keys differ."""
    return [role for role in ROLES if set(before.roles[role].keyids) != set(after.roles[role].keyids)]


def _require_family_name(name: str) -> None:
    if not is_bundle_name(name) or name in ROLES:
        raise ConfigError(
            "family-name",
            f"{name!r} cannot name a model family; use a bundle's name: lower-case words joined by hyphens",
        )


def _add_key(root: Root, role: str, signer: CryptoSigner, keys: Keys) -> None:
    root.add_key(signer.public_key, role)
    root.unrecognized_fields.setdefault(NAMES, {})[signer.public_key.keyid] = keys.paths(role)[-1].stem


def _keyid(root: Root, name: str) -> str:
    for keyid in root.roles["root"].keyids:
        if name in {key_name(root, keyid), keyid[:8], keyid}:
            return keyid
    known = ", ".join(key_name(root, keyid) for keyid in root.roles["root"].keyids)
    raise ConfigError("key-unknown", f"root has no key {name!r}; it has {known}")
