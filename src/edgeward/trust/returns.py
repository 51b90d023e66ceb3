"""The prepared return: a family's statement that the bundle before is current again, signed before it is needed.

A family's key is offline, and a model that fails its rollout at night must not wait for it. So whoever publishes a
bundle signs the next statement as well, and it is kept beside the online keys, unpublished: ``returns/ROLE.json``. To
put it in force takes snapshot's and timestamp's keys alone. It can say one thing only, that which the family's team
signed: go back to this version. It fits one state of the repository; whatever is published after it makes it void.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, TargetFile, Targets

from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import write_durably
from edgeward.trust.offer import Offer, entry_path

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.trust.repository import RepositoryFolder, State

HISTORY = "x-edgeward-versions"
"""Field of targets metadata: ``NAME/VERSION`` → SHA-256 of all ever published; a version stays one content."""


class Returns:
    """The prepared returns of one repository, at most one for each role that names bundles."""

    def __init__(self, folder: RepositoryFolder) -> None:
        self._folder = folder

    def length_of(self, holder: Targets, name: str, version: str) -> int:
        """Bytes of a version that can be gone back to. ``ConfigError`` ``return-version`` when there is no such one."""
        digest = holder.unrecognized_fields.get(HISTORY, {}).get(f"{name}/{version}")
        stored = self._folder.targets / f"{digest}.{entry_path(name)}"
        if not version or digest is None or not stored.exists():
            raise ConfigError(
                "return-version",
                f"this repository holds no version {version or 'before this one'} of {name} to go back to; name one "
                "that was published here, or publish without a return",
            )
        return stored.stat().st_size

    def sign(self, state: State, current: Offer, version: str) -> Offer:
        """Sign the return from ``current`` to ``version``, while the repository is held. Errors of keys too."""
        role, holder = state.role(current.name), copy.deepcopy(state.holder(current.name))
        length = self.length_of(holder, current.name, version)
        digest = holder.unrecognized_fields[HISTORY][f"{current.name}/{version}"]
        back = Offer(current.name, version, digest, length)
        back = Offer(current.name, version, digest, length, is_return=back.is_older_than(current.version))
        holder.targets[back.path] = TargetFile(length, {"sha256": digest}, back.path, {"custom": back.to_custom()})
        self._keep(state, role, holder)
        return back

    def renew(self, state: State, role: str) -> None:
        """Sign a kept return anew for the role's next version, while the repository is held."""
        if self._path(role).exists():
            self._keep(state, role, self._read(role).signed)

    def _keep(self, state: State, role: str, holder: Targets) -> None:
        holder.version = state.holders()[role].version + 1
        raw = self._folder.sign(role, holder, state.above(role))
        self._path(role).parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._path(role), raw, mode=0o600)

    def prepared(self, name: str) -> Offer | None:
        """What the kept return of a bundle's name says; None when there is none that fits the repository now."""
        try:
            return self._fitting(self._folder.current(), name)[0]
        except ConfigError:
            return None

    def release(self, name: str) -> Offer:
        """Put the kept return in force, with the online keys alone. Again: nothing changes.

        Raises ``ConfigError``: ``return-missing``, ``return-void``, ``return-expired``, ``repository-in-use``, and of
        keys.
        """
        with self._folder.writing("putting the return in force"):
            state = self._folder.current()
            offer, raw, holder = self._fitting(state, name)
            role = state.role(name)
            if role == "targets":
                state.targets = holder
            else:
                state.families[role] = holder
            self._folder.commit(state, {role: raw})
            self._path(role).unlink()
            return offer

    def _fitting(self, state: State, name: str) -> tuple[Offer, bytes, Targets]:
        """The return that would be taken by every device that knows the repository's present state."""
        role = state.role(name)
        metadata = self._read(role)
        holder = metadata.signed
        file = holder.targets.get(entry_path(name))
        above = state.above(role) or self._folder.root().signed
        try:
            above.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            raise _void(name, f"the key of {role} was exchanged since") from error
        if holder.version != state.holders()[role].version + 1 or file is None:
            raise _void(name, "something was published or signed anew since")
        if holder.expires <= self._folder.wall():
            raise ConfigError("return-expired", f"the prepared return of {name} has expired; {_again(name)}")
        offer = Offer.from_entry(name, file.length, file.hashes, file.custom)
        self.length_of(holder, name, offer.version)
        return offer, self._path(role).read_bytes(), holder

    def _path(self, role: str) -> Path:
        return self._folder.keys.online / "returns" / f"{role}.json"

    def _read(self, role: str) -> Metadata[Targets]:
        try:
            return Metadata[Targets].from_bytes(self._path(role).read_bytes())
        except OSError as error:
            raise ConfigError(
                "return-missing",
                f"no return is prepared for {role} beside the online keys; {_again(role)}",
            ) from error
        except RepositoryError as error:
            raise _void(role, "it cannot be read") from error


def _void(name: str, why: str) -> ConfigError:
    return ConfigError("return-void", f"the prepared return of {name} does not fit any more: {why}; {_again(name)}")


def _again(name: str) -> str:
    return (
        f"with the key of {name} at hand run edgeward publish OLD-BUNDLE --allow-return to go back, or publish the "
        "present bundle again --with-return VERSION to prepare a return"
    )
