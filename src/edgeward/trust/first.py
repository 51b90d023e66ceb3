"""The first root of a repository whose holders bring the root's public keys: no machine ever holds two root keys.

Where publishing runs, the other keys are made, targets and families are signed, and a draft of root version 1 goes from
hand to hand. When enough holders have signed it, it is put in force here. What was begun is kept beside the online keys
(``RepositoryFolder.first_root``) until then: it is what the draft that comes back is held against, since no root in
force can tell a draft that was changed on its way; and it is what a run that was cut goes on from.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from edgeward.kernel.errors import ConfigError
from edgeward.trust.draft import Draft, add_key
from edgeward.trust.durable import fsync_folder, write_durably
from edgeward.trust.families import add_family, require_family_name
from edgeward.trust.public import require_new
from edgeward.trust.publish import empty_state, repository_exists
from edgeward.trust.roles import ROLES, ROOT_KEYS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from securesystemslib.signer import Key

    from edgeward.trust.repository import RepositoryFolder, State


def require_threshold(keys: int, threshold: int) -> None:
    """``ConfigError`` ``root-keys`` or ``root-threshold`` for numbers that can never, or always, be met."""
    if not 1 <= keys <= ROOT_KEYS_MAX:
        raise ConfigError("root-keys", f"the number of root keys must lie in 1 to {ROOT_KEYS_MAX}")
    if not 1 <= threshold <= keys:
        raise ConfigError("root-threshold", "the root threshold must lie between 1 and the number of root keys")


class FirstRoot:
    """Begins such a repository, and puts its first root in force."""

    def __init__(self, folder: RepositoryFolder) -> None:
        self._folder = folder

    def begin(self, root_keys: Sequence[Key], draft: Path, *, families: Sequence[str], threshold: int) -> Draft:
        """Make every other key, sign targets and families, and write the draft of root version 1.

        Run again after a cut, it goes on with what was begun. Raises ``ConfigError``: ``repository-exists``,
        ``keys-exist``, ``draft-exists``, ``init-unfinished``, ``root-keys``, ``root-threshold``, ``key-twice``,
        ``family-name``, and of keys.
        """
        require_threshold(len(root_keys), threshold)
        names = list(dict.fromkeys(families))
        for name in names:
            require_family_name(name)
        ids: list[str] = []
        for key in root_keys:
            require_new(key, ids)
            ids.append(key.keyid)
        plan = {"root": ids, "threshold": threshold, "families": names}
        with self._folder.writing("making the repository"):
            begun = self._folder.begun()
            if begun is None:
                self._require_room(draft)
                begun = {**plan, "made": None}
                self._keep(begun)
            elif any(begun.get(part) != said for part, said in plan.items()):
                raise ConfigError(
                    "init-unfinished",
                    "these folders hold a repository that was begun with other root keys, families or threshold; run "
                    "init as it was run then, or choose empty folders",
                )
            if begun["made"] is None:
                begun["made"] = Metadata(self._make(root_keys, threshold, names)).to_dict()
                self._keep(begun)
            return self._hand_out(Metadata.from_dict(begun["made"]), draft)

    def _require_room(self, draft: Path) -> None:
        if self._folder.is_initialised or (self._folder.metadata / "1.root.json").exists():
            raise repository_exists()
        if self._folder.keys.any():
            raise ConfigError(
                "keys-exist", "the keys folder holds keys already; none is written over: choose an empty folder"
            )
        if draft.exists():
            raise _draft_exists(draft)

    def _make(self, root_keys: Sequence[Key], threshold: int, families: Sequence[str]) -> Root:
        folder, keys = self._folder, self._folder.keys
        root, state = Root(consistent_snapshot=True), empty_state()
        for number, key in enumerate(root_keys, 1):
            add_key(root, "root", key, f"root-{number}")
        root.roles["root"].threshold = threshold
        root.expires = (folder.wall() + timedelta(days=folder.expiry.root_days)).replace(microsecond=0)
        for role in ROLES[1:]:
            keys.make_missing(role, 1)
            add_key(root, role, keys.signers(role)[0].public_key, f"{role}-1")
        for name in families:
            add_family(keys, state, name)
        for role, holder in state.holders().items():
            write_durably(folder.metadata / f"1.{role}.json", folder.sign(role, holder, state.above(role) or root))
        return root

    def _hand_out(self, following: Metadata[Root], path: Path) -> Draft:
        made = Draft(path, None, following)
        if not path.exists():
            made.write()
            return made
        there = Draft.read(path)
        if there.following.signed_bytes != following.signed_bytes:
            raise _draft_exists(path)
        return there

    def put_in_force(self, draft: Draft) -> None:
        """Make a draft that enough holders have signed root version 1, with the online keys alone.

        Run again after a cut, it goes on. Raises ``ConfigError``: ``draft-foreign``, ``signatures-missing``,
        ``repository-unreadable``, and of keys.
        """
        folder = self._folder
        with folder.writing("publishing the first root"):
            path, following = folder.metadata / "1.root.json", draft.following
            begun = self._folder.begun()
            if begun is None and path.exists() and folder.load(path.name).signed_bytes == following.signed_bytes:
                draft.path.unlink(missing_ok=True)  # a run was cut after it
                return
            made = begun["made"] if begun is not None else None
            if made is None or Metadata.from_dict(made).signed_bytes != following.signed_bytes:
                raise ConfigError(
                    "draft-foreign",
                    f"{draft.path.name} is not the draft that init wrote here: it is another repository's, or was "
                    "changed on its way; do not use it, ask who had it in hand",
                )
            if not draft.signatures().is_enough:
                raise ConfigError(
                    "signatures-missing", "not enough root keys have signed this draft; see edgeward trust sign"
                )
            state, signed = self._staged(following.signed)
            if not path.exists():
                write_durably(path, following.to_bytes())
            if not folder.is_initialised:
                folder.commit(state, signed)
            folder.first_root.unlink()
            fsync_folder(folder.first_root.parent)
            draft.path.unlink(missing_ok=True)

    def _staged(self, root: Root) -> tuple[State, dict[str, bytes]]:
        """What init signed of targets and families, proved as a device would."""
        state = empty_state()
        try:
            signed = {"targets": self._raw("targets")}
            targets: Metadata[Any] = Metadata.from_bytes(signed["targets"])
            root.verify_delegate("targets", targets.signed_bytes, targets.signatures)
            state.targets = targets.signed
            delegations = state.targets.delegations
            for name in (delegations.roles or {}) if delegations is not None else {}:
                signed[name] = self._raw(name)
                family: Metadata[Any] = Metadata.from_bytes(signed[name])
                state.targets.verify_delegate(name, family.signed_bytes, family.signatures)
                state.families[name] = family.signed
        except (RepositoryError, FileNotFoundError) as error:
            raise ConfigError(
                "repository-unreadable",
                "what init signed of targets and families is missing from the repository or was changed; restore the "
                "folder from its backup, or begin again in empty folders",
            ) from error
        return state, signed

    def _raw(self, role: str) -> bytes:
        return (self._folder.metadata / f"1.{role}.json").read_bytes()

    def _keep(self, begun: dict[str, Any]) -> None:
        write_durably(self._folder.first_root, json.dumps(begun).encode())


def _draft_exists(draft: Path) -> ConfigError:
    return ConfigError("draft-exists", f"{draft.name} is there already and is another draft; name another --draft")
