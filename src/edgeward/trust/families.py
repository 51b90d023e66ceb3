"""The roles of model families: what targets say of them, and how a family's key changes hands without a gap.

A key is made here, or its team brings a public one and signs at the next publishing. While a family passes to a key
that is not at hand, targets name the old key and the new one, either of which may sign; once the new one has signed,
the old one is ended. So no device ever finds the family unsigned.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Targets

from edgeward.bundle.manifest import is_bundle_name
from edgeward.kernel.errors import ConfigError
from edgeward.trust.draft import NAMES, known_ids
from edgeward.trust.offer import entry_path
from edgeward.trust.public import require_new
from edgeward.trust.repository import unsigned
from edgeward.trust.returns import HISTORY
from edgeward.trust.roles import ROLES

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from edgeward.trust.keys import Keys
    from edgeward.trust.repository import RepositoryFolder, State


def require_family_name(name: str) -> None:
    """``ConfigError`` ``family-name`` for what cannot be a family's role."""
    if not is_bundle_name(name) or name in ROLES:
        raise ConfigError(
            "family-name",
            f"{name!r} cannot name a model family; use a bundle's name: lower-case words joined by hyphens",
        )


def add_family(keys: Keys, state: State, name: str, brought: Key | None = None) -> None:
    """Give the family ``name`` a role; what targets say of it moves there.

    The family's key is ``brought``, else one made here. Raises ``ConfigError``: ``key-missing`` when something moves
    and the private key is not at hand to sign it.
    """
    targets = state.targets
    if targets.delegations is None:
        targets.delegations = Delegations({}, roles={})
    assert targets.delegations.roles is not None
    targets.delegations.roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=[entry_path(name)])
    moved = targets.targets.pop(entry_path(name), None)
    if brought is not None:
        _name_key(state, keys, name, brought)
    else:
        made = keys.signers(name) if keys.paths(name) else [keys.make(name)]  # a cut left a key
        _name_key(state, keys, name, made[-1].public_key, called=keys.paths(name)[-1].stem)
    family = Targets() if brought is None or keys.has(name, brought.keyid) else unsigned()
    if moved is not None:
        if family.version == 0:
            raise ConfigError(
                "key-missing",
                f"what targets say of {name} moves to the family's role, and its key must sign it: put the team's "
                "private key with its public key file into the offline keys, or delegate without --key and exchange "
                "the key later",
            )
        family.targets[moved.path] = moved
    history = targets.unrecognized_fields.get(HISTORY, {})
    ours = {release: history.pop(release) for release in list(history) if release.rpartition("/")[0] == name}
    family.unrecognized_fields[HISTORY] = ours
    state.families[name] = family


def exchange_key(folder: RepositoryFolder, name: str) -> str:
    """Exchange the key of a family for one made here; the new key's name."""
    with folder.writing("exchanging the family's key"):
        state = folder.current()
        known = _names(state)
        keyids = _keyids(state, name)
        signer = folder.keys.make(name, known=known.values())
        _end(state, name, keyids)
        _name_key(state, folder.keys, name, signer.public_key, called=folder.keys.paths(name)[-1].stem)
        _commit(folder, state, name, sign_anew=True)
        _retire(folder.keys, state, name)
        return folder.keys.paths(name)[-1].stem


def hand_over(folder: RepositoryFolder, name: str, brought: Key) -> bool:
    """Exchange the key of a family for one that its team brought, signed by targets; whether the old one is ended.

    It is ended when the new key has signed for the family, or is at hand to sign, or nothing was signed yet; otherwise
    both keys are named until this is called again. Raises ``ConfigError``: ``role-unknown``, ``key-twice``, and of
    keys.
    """
    with folder.writing("exchanging the family's key"):
        state = folder.current()
        keyids = _keyids(state, name)
        is_named = brought.keyid in keyids
        if not is_named:
            require_new(brought, known_ids(folder.root().signed) | known_ids(state.targets))
            _name_key(state, folder.keys, name, brought)
        others = [keyid for keyid in keyids if keyid != brought.keyid]
        version = state.families[name].version
        has_signed = version == 0 or (is_named and _has_signed(folder, state, name, others))
        is_at_hand = folder.keys.has(name, brought.keyid)
        is_done = has_signed or is_at_hand
        if is_done:
            _end(state, name, others)
        if (is_done and others) or not is_named:
            _commit(folder, state, name, sign_anew=is_at_hand)
        if is_done:
            _retire(folder.keys, state, name)
        return is_done


def _commit(folder: RepositoryFolder, state: State, name: str, *, sign_anew: bool) -> None:
    state.targets.version += 1
    state.families[name].version += int(sign_anew)
    folder.commit(state)


def _has_signed(folder: RepositoryFolder, state: State, name: str, others: list[str]) -> bool:
    """Whether the family's metadata in force would hold without the keys ``others``."""
    after = copy.deepcopy(state.targets)
    for keyid in others:
        after.revoke_key(keyid, name)
    metadata = folder.load(f"{state.families[name].version}.{name}.json")
    try:
        after.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError:
        return False
    return True


def _end(state: State, name: str, keyids: list[str]) -> None:
    for keyid in keyids:
        state.targets.revoke_key(keyid, name)


def _retire(keys: Keys, state: State, name: str) -> None:
    keys.retire_others(name, _keyids(state, name), _names(state))


def _keyids(state: State, name: str) -> list[str]:
    """The ids of a family's keys. ``ConfigError`` ``role-unknown``."""
    if name not in state.families:
        raise ConfigError("role-unknown", f"this repository has no role {name!r}; see edgeward trust show")
    return list(state.targets.get_delegated_role(name).keyids)


def _names(state: State) -> dict[str, str]:
    """Key id → name of every key that a family has or had."""
    names: dict[str, str] = state.targets.unrecognized_fields.setdefault(NAMES, {})
    return names


def _name_key(state: State, keys: Keys, name: str, key: Key, *, called: str = "") -> None:
    state.targets.add_key(key, name)
    names = _names(state)
    names[key.keyid] = called or keys.next_name(name, names.values())
