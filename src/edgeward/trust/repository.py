"""A signed TUF repository on disk: reading its newest state, and writing the next one so that no reader sees half.

The repository is two folders, ``metadata`` and ``targets``, that any static server or file share may serve. A new
state becomes visible by one rename, that of ``timestamp.json``: bundle, then ``N.ROLE.json``, then
``N.snapshot.json`` are durable before it, so a reader sees the old state or the new one (TUF 6.2, consistent
snapshots). What a cut leaves behind has no name that a reader would ask for, and the next run writes over it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import fsync_folder, locked, storage_error, write_durably
from edgeward.trust.roles import WAITING, Expiry, wall_now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner

    from edgeward.trust.keys import Keys

Signed = Root | Targets | Snapshot | Timestamp


@dataclass
class State:
    """What the repository says now; raise the version of a role that names bundles to have it written anew.

    A family of version 0 has a role whose team has not signed yet: it names nothing, and is written to no file.
    """

    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp
    families: dict[str, Targets] = field(default_factory=dict)

    def holders(self) -> dict[str, Targets]:
        """Every role that names bundles: targets first, then the families."""
        return {"targets": self.targets, **self.families}

    def above(self, role: str) -> Targets | None:
        """Who names the keys of a role that names bundles: targets, or None for the root."""
        return None if role == "targets" else self.targets

    def role(self, name: str) -> str:
        """The name of the role that names the bundle ``name``; errors as ``holder``."""
        holder = self.holder(name)
        return next(role for role, other in self.holders().items() if other is holder)

    def holder(self, name: str) -> Targets:
        """The role that names the bundle ``name``. ``ConfigError`` ``family-unknown`` when no role may."""
        if name in self.families:
            return self.families[name]
        if self.targets.delegations is not None:
            raise ConfigError(
                "family-unknown",
                f"this repository has a role for each model family and none for {name!r}; make it with "
                f"edgeward trust delegate {name}",
            )
        return self.targets


class RepositoryFolder:
    """One repository and the keys that sign it. ``ConfigError`` for keys kept inside the repository."""

    def __init__(
        self, repo_dir: Path, keys: Keys, *, expiry: Expiry | None = None, wall: Callable[[], datetime] = wall_now
    ) -> None:
        if any(folder.resolve().is_relative_to(repo_dir.resolve()) for folder in (keys.online, keys.offline)):
            raise ConfigError(
                "keys-inside-repository", "the keys folder lies inside the repository and would be served; move it out"
            )
        self.metadata = repo_dir / "metadata"
        self.targets = repo_dir / "targets"
        self.keys = keys
        self.expiry = expiry or Expiry()
        self.wall = wall

    @property
    def is_initialised(self) -> bool:
        """Whether initialising came to its end here: only then is there something to publish into."""
        return (self.metadata / "timestamp.json").exists()

    @property
    def first_root(self) -> Path:
        """What is kept of a first root whose holders have yet to sign it (``trust.first``)."""
        return self.keys.online / "first-root.json"

    def begun(self) -> dict[str, Any] | None:
        """What is kept there; None where no first root waits. ``ConfigError`` ``repository-unreadable``."""
        damaged = ConfigError(
            "repository-unreadable", f"{self.first_root.name} among the keys cannot be read; restore it from its backup"
        )
        try:
            found = json.loads(self.first_root.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise damaged from error
        if not isinstance(found, dict) or not found.keys() >= {"root", "threshold", "families", "made"}:
            raise damaged
        return found

    def require_in_force(self) -> None:
        """``ConfigError`` ``root-not-in-force`` while the first root waits for its holders."""
        begun = self.begun()
        if begun is not None:
            raise ConfigError(
                "root-not-in-force",
                f"nothing can be published: version 1 of the root is not in force. {begun['threshold']} of its "
                f"{len(begun['root'])} key holders must sign the draft that init wrote (edgeward trust sign DRAFT "
                "--key FILE), and edgeward trust sign DRAFT --repo REPO --keys KEYS then puts it in force",
            )

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Hold the repository for one change; storage failures while ``what`` become ``ConfigError``."""
        try:
            self.metadata.mkdir(parents=True, exist_ok=True)
            self.targets.mkdir(exist_ok=True)
            self.keys.make_folders()
            with locked(self.keys.online / ".lock", "repository-in-use", "the repository's keys folder"):
                yield
        except OSError as error:
            raise storage_error(error, what) from error

    # --- the reading

    def root(self) -> Metadata[Root]:
        """The newest root. ``ConfigError`` ``repository-missing``, ``repository-unreadable``."""
        version = 1
        while (self.metadata / f"{version + 1}.root.json").exists():
            version += 1
        return self.load(f"{version}.root.json")

    def current(self) -> State:
        """The newest state that readers can see, found from ``timestamp.json`` down; errors as ``root``."""
        timestamp: Metadata[Timestamp] = self.load("timestamp.json")
        snapshot: Metadata[Snapshot] = self.load(f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
        meta = snapshot.signed.meta
        targets = self.load(f"{meta['targets.json'].version}.targets.json").signed
        delegations = targets.delegations
        names = list(delegations.roles or {}) if delegations is not None else []
        families = {
            name: self.load(f"{meta[f'{name}.json'].version}.{name}.json").signed
            if f"{name}.json" in meta
            else unsigned()
            for name in names
        }
        return State(targets, snapshot.signed, timestamp.signed, families)

    def load(self, name: str) -> Metadata[Any]:
        """One metadata file; errors as ``root``, and ``root-not-in-force``."""
        try:
            return Metadata.from_bytes((self.metadata / name).read_bytes())
        except FileNotFoundError as error:
            self.require_in_force()
            raise ConfigError(
                "repository-missing",
                f"this folder holds no repository ({name} is missing); publish a bundle into it to make one",
            ) from error
        except (RepositoryError, OSError) as error:
            raise ConfigError(
                "repository-unreadable", f"{name} of the repository cannot be read; restore the folder from its backup"
            ) from error

    # --- the writing

    def put(self, name: str, data: bytes) -> None:
        """Store a bundle, or a delta, under the name that readers will ask for once the metadata name the bundle."""
        path = self.targets / name
        path.parent.mkdir(exist_ok=True)
        write_durably(path, data)

    def commit(
        self, state: State, signed: Mapping[str, bytes] | None = None, *, following: Collection[str] = ()
    ) -> None:
        """Write what changed, the timestamp last: its rename is the moment at which readers see the new state.

        ``signed``: metadata of a role that were signed before, to be put in force as they are. ``following``: ids of
        keys that the next root will name, to sign with as well.
        """
        snapshot, timestamp = state.snapshot, state.timestamp
        state.targets.unrecognized_fields.pop(WAITING, None)
        waiting = [name for name, family in state.families.items() if family.version == 0]
        if waiting:  # written with the next version of targets, if this is one
            state.targets.unrecognized_fields[WAITING] = waiting
        for role, holder in state.holders().items():
            known = snapshot.meta.get(f"{role}.json")
            if holder.version and (known is None or known.version != holder.version):
                raw = (signed or {}).get(role) or self.sign(
                    role, holder, state.above(role), following if role == "targets" else ()
                )
                write_durably(self.metadata / f"{holder.version}.{role}.json", raw)
                snapshot.meta[f"{role}.json"] = MetaFile.from_data(holder.version, raw, ["sha256"])
        snapshot.version += 1
        raw = self.write("snapshot", snapshot, f"{snapshot.version}.snapshot.json")
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, raw, ["sha256"])
        timestamp.version += 1
        fsync_folder(self.targets)
        self.write("timestamp", timestamp, "timestamp.json")

    def write(self, role: str, signed: Signed, name: str) -> bytes:
        """Sign metadata of a top-level role as ``sign`` does, and write them."""
        raw = self.sign(role, signed)
        write_durably(self.metadata / name, raw)
        return raw

    def sign(
        self, role: str, signed: Signed, above: Root | Targets | None = None, following: Collection[str] = ()
    ) -> bytes:
        """Sign ``signed`` with every key of ``role`` at hand. ``above`` names the role's keys: the root by default.

        ``ConfigError`` ``key-wrong`` when readers would not accept it.
        """
        signed.expires = (self.wall() + timedelta(days=self.expiry.days(role))).replace(microsecond=0)
        metadata: Metadata[Any] = Metadata(signed)
        if above is None:
            above = signed if isinstance(signed, Root) else self.root().signed
        for signer in self.signers(role, above, following):
            metadata.sign(signer, append=True)
        try:
            above.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            raise ConfigError(
                "key-wrong",
                f"the keys at hand are not those that the repository names for role {role}, or too few; give the right "
                "ones, nothing was published",
            ) from error
        return metadata.to_bytes()

    def signers(self, role: str, above: Root | Targets, following: Collection[str] = ()) -> list[CryptoSigner]:
        """The keys of ``role`` at hand, by name or by the ids that ``above`` gives it; errors as ``Keys.signers``."""
        return self.keys.signers(role, {*above.get_delegated_role(role).keyids, *following})


def unsigned() -> Targets:
    """What stands for the metadata of a family whose team has not signed yet."""
    family = Targets()
    family.version = 0
    return family
