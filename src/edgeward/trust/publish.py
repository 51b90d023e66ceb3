"""Publishing bundles in a signed TUF repository on disk.

One bundle name is one path, ``NAME.ewb``, whose custom fields carry the version. A version names one content forever;
going back to an older version is a new statement that says so (``return``), never old metadata shown again. Who signs
that statement depends on the repository: the role of the bundle's family where there are such roles
(``trust.ceremony``), else targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp

from edgeward.bundle.archive import read_bundle
from edgeward.bundle.delta.diff import make_delta
from edgeward.bundle.delta.patch import read_header
from edgeward.kernel.errors import ConfigError, EdgewardError, TrustError
from edgeward.trust.keys import Keys, Passphrases
from edgeward.trust.offer import Offer, delta_path
from edgeward.trust.repository import RepositoryFolder, State
from edgeward.trust.returns import HISTORY, Returns
from edgeward.trust.roles import ROLES, Expiry, wall_now

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Published:
    """What ``Publisher.add`` did. ``changed`` is False when the repository already said exactly this."""

    offer: Offer
    changed: bool


class Publisher:
    """Writes one repository with the private keys of ``keys_dir``, and of ``offline_keys`` where that is given.

    ``wall`` gives the time that expiry counts from. Raises ``ConfigError`` for keys kept inside the repository.
    """

    def __init__(
        self,
        repo_dir: Path,
        keys_dir: Path,
        *,
        offline_keys: Path | None = None,
        passphrases: Passphrases | None = None,
        expiry: Expiry | None = None,
        wall: Callable[[], datetime] = wall_now,
    ) -> None:
        self.folder = RepositoryFolder(repo_dir, Keys(keys_dir, offline_keys, passphrases), expiry=expiry, wall=wall)
        self.returns = Returns(self.folder)

    @property
    def root_path(self) -> Path:
        """The first root metadata: the file that every device must be given by another way than this repository."""
        return self.folder.metadata / "1.root.json"

    @property
    def is_initialised(self) -> bool:
        """Whether ``init`` came to its end here: only then is there something to publish into."""
        return self.folder.is_initialised

    def init(self) -> Path:
        """Make a small repository, one key for each role and no families; returns ``root_path``.

        For a trial or a demonstration; ``trust.ceremony`` makes one for a hospital. Goes on with the keys of an
        initialisation that was cut. Raises ``ConfigError``: ``repository-exists``, ``disk-full``.
        """
        folder = self.folder
        with folder.writing("making the repository"):
            folder.require_in_force()
            if self.is_initialised:
                raise repository_exists()
            root = Root(consistent_snapshot=True)
            for role in ROLES:
                folder.keys.make_missing(role, 1)
                for signer in folder.keys.signers(role):
                    root.add_key(signer.public_key, role)
            folder.write("root", root, "1.root.json")
            folder.commit(empty_state())
        return self.root_path

    def add(self, bundle_path: Path, *, allow_return: bool = False, with_return: str | None = None) -> Published:
        """Publish a bundle as the current one of its name; the same again changes nothing.

        ``with_return``: also sign the return to this version ("": the one published before), to be kept until it is
        needed (``trust.returns``).

        Raises ``BundleError`` (any: the bundle is read and checked first), ``TrustError`` (``version-taken``,
        ``bundle-older`` unless ``allow_return``), ``ConfigError`` (``repository-missing``, ``family-unknown``,
        ``return-version``, ``disk-full``, keys).
        """
        try:
            raw = bundle_path.read_bytes()
        except OSError as error:
            raise ConfigError(
                "bundle-unreadable", "the bundle file cannot be read; check its path and permissions"
            ) from error
        manifest = read_bundle(raw).manifest
        offer = Offer(manifest.name, manifest.version, sha256(raw).hexdigest(), len(raw))
        with self.folder.writing("publishing the bundle"):
            state = self.folder.current()
            holder = state.holder(offer.name)
            known = holder.targets.get(offer.path)
            if known is not None and known.hashes == {"sha256": offer.sha256}:
                if with_return is not None:
                    self.returns.sign(state, offer, with_return)
                return Published(offer, changed=False)
            if with_return is not None:
                with_return = with_return or (known.custom["version"] if known is not None else "")
                self.returns.length_of(holder, offer.name, with_return)
            _check_history(holder, f"{offer.name}/{offer.version}", offer.sha256)
            if known is not None and offer.is_older_than(known.custom["version"]):
                if not allow_return:
                    raise TrustError(
                        "bundle-older",
                        f"version {offer.version} is older than the published {known.custom['version']}; "
                        "raise the version, or say that a return is meant",
                    )
                offer = replace(offer, is_return=True)
            self.folder.put(f"{offer.sha256}.{offer.path}", raw)
            if known is not None:
                self._put_delta(f"{known.hashes['sha256']}.{offer.path}", offer, raw)
            custom = {"custom": offer.to_custom()}
            holder.targets[offer.path] = TargetFile(len(raw), {"sha256": offer.sha256}, offer.path, custom)
            holder.version += 1
            self.folder.commit(state)
            if with_return is not None:
                self.returns.sign(state, offer, with_return)
        return Published(offer, changed=True)

    def _put_delta(self, former: str, offer: Offer, raw: bytes) -> None:
        """Write the delta from the bundle before beside the new one, where that bundle is at hand and it saves bytes.

        It is a kindness to devices and signed by nobody: what keeps it from being made keeps nothing from being
        published.
        """
        old_path = self.folder.targets / former
        name = delta_path(former[:64], offer.sha256)
        if not old_path.exists() or (self.folder.targets / name).exists():
            return
        try:
            delta = make_delta(old_path.read_bytes(), raw)
        except (EdgewardError, MemoryError):
            return
        if read_header(BytesIO(delta)).old_size:  # else it is the new bundle packed, and needs no bundle before
            self.folder.put(name, delta)

    def refresh(self) -> list[str]:
        """Sign snapshot and timestamp anew, and targets and families when half their time is over.

        A family that waits for the first signature of a brought key is signed too where that key is at hand. Run it
        from a timer. Returns the roles whose half time is over and whose keys are not at hand.
        """
        with self.folder.writing("refreshing the repository"):
            state = self.folder.current()
            half = timedelta(days=self.folder.expiry.targets_days / 2)
            waiting = []
            for role, holder in state.holders().items():
                if holder.version == 0:  # its team has not signed yet: it names nothing that could expire
                    holder.version = int(self._can_sign(state, role))
                    continue
                is_due = holder.expires - self.folder.wall() < half
                if (is_due or self._passes(state, role)) and self._can_sign(state, role):
                    holder.version += 1
                    self.returns.renew(state, role)
                elif is_due:
                    waiting.append(role)
            self.folder.commit(state)
        return waiting

    def _passes(self, state: State, role: str) -> bool:
        """Whether a family passes to a key that was brought, is at hand and has not signed yet."""
        if role == "targets":
            return False
        signed = self.folder.load(f"{state.families[role].version}.{role}.json").signatures
        keyids = state.targets.get_delegated_role(role).keyids
        return any(keyid not in signed and self.folder.keys.has(role, keyid) for keyid in keyids)

    def _can_sign(self, state: State, role: str) -> bool:
        try:
            self.folder.signers(role, state.above(role) or self.folder.root().signed)
        except ConfigError as error:
            if error.code in {"key-missing", "key-locked"}:
                return False
            raise
        return True

    def published(self) -> list[Offer]:
        """What the repository names now, by name."""
        files = [file for holder in self.folder.current().holders().values() for file in holder.targets.values()]
        offers = [Offer.from_entry(f.custom["name"], f.length, f.hashes, f.custom) for f in files]
        return sorted(offers, key=lambda offer: offer.name)


def empty_state() -> State:
    """A state that names nothing yet; ``RepositoryFolder.commit`` counts snapshot and timestamp up to version 1."""
    snapshot, timestamp = Snapshot(meta={}), Timestamp()
    snapshot.version = timestamp.version = 0
    return State(Targets(), snapshot, timestamp)


def repository_exists() -> ConfigError:
    """Nothing is ever initialised twice."""
    return ConfigError(
        "repository-exists", "this folder already holds a repository; publish into it, or choose an empty folder"
    )


def _check_history(holder: Targets, release: str, digest: str) -> None:
    history = holder.unrecognized_fields.setdefault(HISTORY, {})
    if history.setdefault(release, digest) != digest:
        raise TrustError("version-taken", f"{release} was published with another content; raise the bundle's version")
