"""Publishing bundles in a signed TUF repository on disk.

The repository is two folders, ``metadata`` and ``targets``, that any static server or file share may serve. A new
state becomes visible by one rename, that of ``timestamp.json``: bundle, then ``N.targets.json``, then
``N.snapshot.json`` are durable before it, so a reader sees the old state or the new one (TUF 5.5.2, consistent
snapshots). What a cut leaves behind has no name that a reader would ask for, and the next run writes over it.

One bundle name is one path, ``NAME.ewb``, whose custom fields carry the version. A version names one content forever;
going back to an older version is a new statement that says so (``return``), never old metadata shown again.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from edgeward.bundle.archive import read_bundle
from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.trust.durable import fsync_folder, locked, storage_error, write_durably
from edgeward.trust.offer import Offer
from edgeward.trust.roles import ROLES, Expiry, create_keys, load_signers, wall_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

_HISTORY = "x-edgeward-versions"
"""Field of targets metadata: ``NAME/VERSION`` → SHA-256 of all ever published; a version stays one content."""


@dataclass(frozen=True, slots=True)
class Published:
    """What ``Publisher.add`` did. ``changed`` is False when the repository already said exactly this."""

    offer: Offer
    changed: bool


class Publisher:
    """Writes one repository with the private keys of one folder.

    ``wall`` gives the time that expiry counts from. Raises ``ConfigError`` for keys kept inside the repository.
    """

    def __init__(
        self,
        repo_dir: Path,
        keys_dir: Path,
        *,
        expiry: Expiry | None = None,
        wall: Callable[[], datetime] = wall_now,
    ) -> None:
        if keys_dir.resolve().is_relative_to(repo_dir.resolve()):
            raise ConfigError(
                "keys-inside-repository", "the keys folder lies inside the repository and would be served; move it out"
            )
        self._metadata = repo_dir / "metadata"
        self._targets = repo_dir / "targets"
        self._keys = keys_dir
        self._expiry = expiry or Expiry()
        self._wall = wall

    @property
    def root_path(self) -> Path:
        """The first root metadata: the file that every device must be given by another way than this repository."""
        return self._metadata / "1.root.json"

    @property
    def is_initialised(self) -> bool:
        """Whether ``init`` came to its end here: only then is there something to publish into."""
        return (self._metadata / "timestamp.json").exists()

    def init(self, *, root_keys: int = 1, root_threshold: int = 1) -> Path:
        """Make keys and an empty repository; returns ``root_path``.

        Raises ``ConfigError``: ``repository-exists``, ``root-threshold``, ``disk-full``.
        """
        if not 1 <= root_threshold <= root_keys:
            raise ConfigError("root-threshold", "the root threshold must lie between 1 and the number of root keys")
        with self._writing("making the repository"):
            if self.is_initialised:
                raise ConfigError(
                    "repository-exists",
                    "this folder already holds a repository; publish into it, or choose an empty folder",
                )
            create_keys(self._keys, root_keys=root_keys)
            root = Root(consistent_snapshot=True)
            for role in ROLES:
                for signer in load_signers(self._keys, role):
                    root.add_key(signer.public_key, role)
            root.roles["root"].threshold = root_threshold
            self._write("root", root, "1.root.json")
            snapshot, timestamp = Snapshot(meta={}), Timestamp()
            snapshot.version = timestamp.version = 0  # _commit counts up to the first version, 1
            self._commit(Targets(), snapshot, timestamp)
        return self.root_path

    def add(self, bundle_path: Path, *, allow_return: bool = False) -> Published:
        """Publish a bundle as the current one of its name; the same again changes nothing.

        Raises ``BundleError`` (any: the bundle is read and checked first), ``TrustError`` (``version-taken``,
        ``bundle-older`` unless ``allow_return``), ``ConfigError`` (``repository-missing``, ``disk-full``, keys).
        """
        try:
            raw = bundle_path.read_bytes()
        except OSError as error:
            raise ConfigError(
                "bundle-unreadable", "the bundle file cannot be read; check its path and permissions"
            ) from error
        manifest = read_bundle(raw).manifest
        offer = Offer(manifest.name, manifest.version, sha256(raw).hexdigest(), len(raw))
        with self._writing("publishing the bundle"):
            targets, snapshot, timestamp = self._current()
            known = targets.targets.get(offer.path)
            if known is not None and known.hashes == {"sha256": offer.sha256}:
                return Published(offer, changed=False)
            self._check_history(targets, f"{offer.name}/{offer.version}", offer.sha256)
            if known is not None and offer.is_older_than(known.custom["version"]):
                if not allow_return:
                    raise TrustError(
                        "bundle-older",
                        f"version {offer.version} is older than the published {known.custom['version']}; "
                        "raise the version, or say that a return is meant",
                    )
                offer = replace(offer, is_return=True)
            write_durably(self._targets / f"{offer.sha256}.{offer.path}", raw)
            custom = {"custom": offer.to_custom()}
            targets.targets[offer.path] = TargetFile(len(raw), {"sha256": offer.sha256}, offer.path, custom)
            targets.version += 1
            self._commit(targets, snapshot, timestamp)
        return Published(offer, changed=True)

    def refresh(self) -> None:
        """Sign snapshot and timestamp anew, and targets when half its time is over: run it from a timer."""
        with self._writing("refreshing the repository"):
            targets, snapshot, timestamp = self._current()
            left = targets.expires - self._wall()
            if left < timedelta(days=self._expiry.targets_days / 2):
                targets.version += 1
            self._commit(targets, snapshot, timestamp)

    def published(self) -> list[Offer]:
        """What the repository names now, by name."""
        targets, _, _ = self._current()
        return sorted(
            (Offer.from_entry(f.custom["name"], f.length, f.hashes, f.custom) for f in targets.targets.values()),
            key=lambda offer: offer.name,
        )

    # --- the writing

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            self._metadata.mkdir(parents=True, exist_ok=True)
            self._targets.mkdir(exist_ok=True)
            self._keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self._keys / ".lock", "repository-in-use", "the repository's keys folder"):
                yield
        except OSError as error:
            raise storage_error(error, what) from error

    def _check_history(self, targets: Targets, release: str, digest: str) -> None:
        history = targets.unrecognized_fields.setdefault(_HISTORY, {})
        if history.setdefault(release, digest) != digest:
            raise TrustError(
                "version-taken", f"{release} was published with another content; raise the bundle's version"
            )

    def _commit(self, targets: Targets, snapshot: Snapshot, timestamp: Timestamp) -> None:
        """Write what changed, the timestamp last: its rename is the moment at which readers see the new state."""
        known = snapshot.meta.get("targets.json")
        if known is None or known.version != targets.version:
            raw = self._write("targets", targets, f"{targets.version}.targets.json")
            snapshot.meta["targets.json"] = MetaFile.from_data(targets.version, raw, ["sha256"])
        snapshot.version += 1
        raw = self._write("snapshot", snapshot, f"{snapshot.version}.snapshot.json")
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, raw, ["sha256"])
        timestamp.version += 1
        fsync_folder(self._targets)
        self._write("timestamp", timestamp, "timestamp.json")

    def _write(self, role: str, signed: Root | Targets | Snapshot | Timestamp, name: str) -> bytes:
        signed.expires = (self._wall() + timedelta(days=self._expiry.days(role))).replace(microsecond=0)
        metadata: Metadata[Any] = Metadata(signed)
        for signer in load_signers(self._keys, role):
            metadata.sign(signer, append=True)
        raw = metadata.to_bytes()
        write_durably(self._metadata / name, raw)
        return raw

    # --- the reading

    def _current(self) -> tuple[Targets, Snapshot, Timestamp]:
        """The newest state that readers can see, found from ``timestamp.json`` down."""
        timestamp: Metadata[Timestamp] = self._load("timestamp.json")
        snapshot: Metadata[Snapshot] = self._load(f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
        version = snapshot.signed.meta["targets.json"].version
        targets: Metadata[Targets] = self._load(f"{version}.targets.json")
        return targets.signed, snapshot.signed, timestamp.signed

    def _load(self, name: str) -> Metadata[Any]:
        try:
            return Metadata.from_bytes((self._metadata / name).read_bytes())
        except FileNotFoundError as error:
            raise ConfigError(
                "repository-missing",
                f"this folder holds no repository ({name} is missing); publish a bundle into it to make one",
            ) from error
        except (RepositoryError, OSError) as error:
            raise ConfigError(
                "repository-unreadable", f"{name} of the repository cannot be read; restore the folder from its backup"
            ) from error
