"""The one TUF client: proves a repository's metadata (TUF 5.3 to 5.6) and keeps on the disk what it proved.

python-tuf verifies (signatures with thresholds, no rollback, no freeze, no mix-and-match); this module gives it a
transport, fsynced files, the clock of the caller and errors that say what to do. The root of trust is a file that came
by another way; it is pinned at first use. Devices (``trust.fetch``) and ``edgeward-tuf-client`` both stand on it.

A device's clock can be wrong. It never stops the bundle in use; it only stops new ones: a clock before the last time
that was proven good (``clock-behind``), or so far ahead that everything looks expired (``repository-expired``).
"""

from __future__ import annotations

import json
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edgeward.kernel.errors import TrustError
from edgeward.kernel.limits import METADATA_BYTES_MAX
from edgeward.trust.download import Blob
from edgeward.trust.durable import locked, storage_error, write_durably
from edgeward.trust.roles import WAITING, wall_now
from edgeward.trust.transport import TIMEOUT_S, UnreachableError, base_url, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

CLOCK_TOLERANCE = timedelta(days=1)
"""A clock this far behind the last proven time is set back, not merely corrected."""
CLOCK_EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before this, Edgeward did not exist: the clock was never set."""

METADATA_S_MAX = 60.0
"""One metadata file takes at most this long, however slowly a server drips it (TUF's slow-retrieval attack)."""

HASHES = ("sha256", "sha512")
"""Hash functions of signed files that are known here, the preferred one first."""

STAY = "the bundle in use stays in use"


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A file that signed metadata name: ``length`` in bytes, ``hashes`` by function, ``custom`` as published.

    ``is_prefixed``: the repository keeps it under its hash (TUF 6.2, consistent snapshots).
    """

    path: str
    length: int
    hashes: Mapping[str, str]
    custom: object
    is_prefixed: bool

    def blob(self, url: str) -> Blob:
        """What to download below ``url``. ``TrustError`` ``hash-unknown`` when no known hash function was signed."""
        algorithm = next((name for name in HASHES if name in self.hashes), None)
        if algorithm is None:
            raise TrustError(
                "hash-unknown",
                f"the signed entry of {self.path!r} has no {' or '.join(HASHES)}; publish it again with one",
            )
        digest = self.hashes[algorithm]
        folder, slash, name = self.path.rpartition("/")
        stored = f"{folder}{slash}{digest}.{name}" if self.is_prefixed else self.path
        return Blob(base_url(url) + quote(stored), self.length, digest, algorithm)


class MetadataClient:
    """Proves the metadata at ``metadata_url`` and keeps the newest proven ones in ``metadata_dir``.

    ``state_dir`` holds the pinned root, the proven time and the lock. ``root`` is the bytes of the trusted root file,
    needed at first use. ``wall`` gives the time for expiry. ``ca`` as in ``trust.transport.opened``.
    """

    def __init__(
        self,
        metadata_url: str | Path,
        metadata_dir: Path,
        state_dir: Path,
        *,
        root: bytes | None = None,
        wall: Callable[[], datetime] = wall_now,
        timeout_s: float = TIMEOUT_S,
        ca: str = "",
    ) -> None:
        self._url = base_url(metadata_url)
        self._dir = metadata_dir
        self._state = state_dir
        self._given_root = root
        self._wall = wall
        self._fetcher = _Fetcher(timeout_s, ca)

    def pin(self) -> None:
        """Make the root given the one that is trusted, without asking the repository; errors as ``refresh``."""
        with self._keeping(), _explained():
            self._client(self._root(), self._wall())

    def refresh(self, path: str | None = None) -> SignedFile | None:
        """Prove everything anew; returns what is signed about ``path``, None when it is not named or not asked for.

        Raises ``TrustError``: ``repository-unreachable``, ``repository-expired``, ``repository-rolled-back``,
        ``repository-mixed``, ``signature-invalid``, ``metadata-too-large``, ``metadata-malformed``, ``root-missing``,
        ``root-changed``, ``root-unreadable``, ``clock-behind``; ``ConfigError``: ``trust-in-use``, ``disk-full``,
        ``disk-error``.
        """
        with self._keeping():
            root, now = self._root(), self._reference_time()
            with _explained():
                client = self._client(root, now)
                client.refresh()
                found = None if path is None or client.has_no_author(path) else client.get_targetinfo(path)
            self._raise_floor(now)
            if found is None:
                return None
            return SignedFile(found.path, found.length, found.hashes, found.custom, client.keeps_by_hash)

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            for folder in (self._state, self._dir):
                folder.mkdir(parents=True, exist_ok=True)
            with locked(self._state / ".lock", "trust-in-use", "the trust folder"):
                yield
        except OSError as error:
            raise storage_error(error, "keeping the repository's metadata") from error

    def _client(self, root: bytes, now: datetime) -> _Client:
        return _Client(self._dir, self._url, root, now, self._fetcher)

    def _root(self) -> bytes:
        path = self._state / "pinned-root.json"
        given = self._given_root
        if not path.exists():
            if given is None:
                raise TrustError(
                    "root-missing", "this device has no root of trust yet; give it the publisher's root file once"
                )
            _require_root(given)
            write_durably(path, given)
            return given
        pinned = path.read_bytes()
        _require_root(pinned)
        if given is not None and given != pinned and not self._is_known_root(given):
            raise TrustError(
                "root-changed",
                "the root file given is not the one this device trusts; if the repository was made anew on purpose, "
                f"remove the trust folder by hand, {STAY}",
            )
        return pinned

    def _is_known_root(self, given: bytes) -> bool:
        return any(path.read_bytes() == given for path in (self._dir / "root_history").glob("*.json"))

    # --- the clock

    def _floor(self) -> datetime:
        try:
            stamp = json.loads((self._state / "clock-floor.json").read_bytes())["proven"]
            return max(datetime.fromtimestamp(int(stamp), UTC), CLOCK_EARLIEST)
        except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError):
            return CLOCK_EARLIEST

    def _reference_time(self) -> datetime:
        now, floor = self._wall(), self._floor()
        if now < floor - CLOCK_TOLERANCE:
            raise TrustError(
                "clock-behind",
                f"the device's clock is before {floor:%Y-%m-%d}, a time already proven past; set the clock, {STAY}",
            )
        return max(now, floor)

    def _raise_floor(self, now: datetime) -> None:
        """Only a time at which fresh signed metadata held becomes the floor: a clock far ahead cannot poison it."""
        if now > self._floor():
            write_durably(self._state / "clock-floor.json", json.dumps({"proven": int(now.timestamp())}).encode())


def _require_root(raw: bytes) -> None:
    """``TrustError`` ``root-unreadable`` unless ``raw`` is root metadata signed by itself."""
    try:
        metadata: Metadata[Root] = Metadata.from_bytes(raw)
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except (tuf_errors.RepositoryError, ValueError, AttributeError) as error:  # the latter two: not a root at all
        raise TrustError(
            "root-unreadable",
            "the root of trust is damaged or not a root file; remove the trust folder and give the publisher's root "
            f"file again, {STAY}",
        ) from error


class _Client(Updater):
    """python-tuf's client with our transport, fsynced files and an injected time."""

    def __init__(self, folder: Path, url: str, root: bytes, now: datetime, fetcher: _Fetcher) -> None:
        super().__init__(
            str(folder),
            url,
            fetcher=fetcher,
            config=UpdaterConfig(targets_max_length=METADATA_BYTES_MAX),
            bootstrap=root,
        )
        # ngclient 7.0 has no argument for it; its own test suite sets the same attribute.
        self._trusted_set.reference_time = now

    @property
    def keeps_by_hash(self) -> bool:
        """Whether the repository has consistent snapshots (TUF 6.2)."""
        return bool(self._trusted_set.root.consistent_snapshot)

    def has_no_author(self, path: str) -> bool:
        """Whether ``path`` is a role's to name that targets say has yet to sign, and that has no metadata."""
        targets, known = self._trusted_set.targets, self._trusted_set.snapshot.meta
        waiting = targets.unrecognized_fields.get(WAITING)
        if targets.delegations is None or path in targets.targets or not isinstance(waiting, list):
            return False
        role, _ = next(iter(targets.delegations.get_roles_for_target(path)), ("", False))
        return role in waiting and f"{role}.json" not in known

    def _persist_file(self, filename: str, data: bytes) -> None:
        _keep(Path(filename), data)

    def _update_root_symlink(self) -> None:
        """A copy, not a link: remove-then-link is not safe against a power cut. We start from the pinned root."""
        folder = Path(self._dir)
        _keep(
            folder / "root.json", (folder / "root_history" / f"{self._trusted_set.root.version}.root.json").read_bytes()
        )


def _keep(path: Path, data: bytes) -> None:
    """Write ``path`` unless it already says exactly this: a device's flash wears with every write."""
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    write_durably(path, data)


class _Fetcher(FetcherInterface):
    """Metadata over our transport, in memory and bounded."""

    def __init__(self, timeout_s: float, ca: str) -> None:
        self._timeout_s = timeout_s
        self._ca = ca

    def _fetch(self, url: str) -> Generator[bytes, None, None]:
        began = time.monotonic()
        with opened(url, timeout_s=self._timeout_s, ca=self._ca) as answer:
            if answer.status != 200:
                raise tuf_errors.DownloadHTTPError(f"HTTP {answer.status}", answer.status)
            while chunk := answer.read(1 << 16):
                yield chunk
                if time.monotonic() - began > METADATA_S_MAX:
                    raise tuf_errors.SlowRetrievalError(f"longer than {METADATA_S_MAX} s")

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The whole file; ``DownloadLengthMismatchError`` once it passes ``max_length`` bytes."""
        data = bytearray()
        with closing(self._fetch(url)) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > max_length:
                    raise tuf_errors.DownloadLengthMismatchError(f"more than {max_length} bytes")
        return bytes(data)


@contextmanager
def _explained() -> Iterator[None]:
    """Say each failure of TUF's client workflow in our words: which rule, and what to do."""
    try:
        yield
    except tuf_errors.ExpiredMetadataError as error:
        raise TrustError(
            "repository-expired",
            "the repository's metadata have expired; sign them anew (edgeward publish --refresh), or set this device's "
            f"clock; {STAY}",
        ) from error
    except tuf_errors.UnsignedMetadataError as error:
        raise TrustError(
            "signature-invalid",
            f"the repository is not signed by enough of the keys this device trusts; do not install from it, {STAY}",
        ) from error
    except tuf_errors.BadVersionNumberError as error:
        raise TrustError(
            "repository-rolled-back",
            f"the repository shows an older state than this device has seen; restore its newest state, {STAY}",
        ) from error
    except tuf_errors.LengthOrHashMismatchError as error:
        raise TrustError(
            "repository-mixed",
            f"the repository's metadata do not belong together; copy the whole repository again, {STAY}",
        ) from error
    except tuf_errors.DownloadLengthMismatchError as error:
        raise TrustError(
            "metadata-too-large",
            f"the repository's metadata are larger than was signed or is allowed; do not install from it, {STAY}",
        ) from error
    except tuf_errors.DownloadHTTPError as error:
        raise UnreachableError(f"HTTP {error.status_code} for its metadata") from error
    except tuf_errors.DownloadError as error:
        raise UnreachableError("its metadata could not be read") from error
    except tuf_errors.RepositoryError as error:
        raise TrustError(
            "metadata-malformed", f"the repository's metadata cannot be understood; do not install from it, {STAY}"
        ) from error
