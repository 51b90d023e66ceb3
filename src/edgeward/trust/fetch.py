"""The device's side of a repository: which bundle is current, as signed metadata say, and its bytes.

python-tuf verifies the metadata (TUF 5.3: signatures with thresholds, no rollback, no freeze, no mix-and-match); this
module gives it a transport, fsynced files, the clock of the caller and errors that say what to do. The root of trust
is a file that reached the device by another way; it is pinned in the trust folder at first use.

A device's clock can be wrong. It never stops the bundle in use; it only stops new ones: a clock before the last time
that was proven good (``clock-behind``), or so far ahead that everything looks expired (``repository-expired``).
"""

from __future__ import annotations

import json
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, TargetFile, Updater, UpdaterConfig

from edgeward.kernel.errors import TrustError
from edgeward.kernel.limits import METADATA_BYTES_MAX
from edgeward.trust.download import Blob, DownloadReport, download
from edgeward.trust.durable import locked, storage_error, write_durably
from edgeward.trust.offer import Offer, entry_path
from edgeward.trust.roles import wall_now
from edgeward.trust.transport import TIMEOUT_S, UnreachableError, base_url, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

CLOCK_TOLERANCE = timedelta(days=1)
"""A clock this far behind the last proven time is set back, not merely corrected."""
CLOCK_EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before this, Edgeward did not exist: the clock was never set."""

METADATA_S_MAX = 60.0
"""One metadata file takes at most this long, however slowly a server drips it (TUF's slow-retrieval attack)."""

_STAY = "the bundle in use stays in use"


class TrustClient:
    """Asks one repository for bundles and keeps what it proved in ``trust_dir``.

    ``url_or_dir`` is a folder or a ``file``, ``http`` or ``https`` URL that holds ``metadata/`` and ``targets/``.
    ``root`` is the bytes of the trusted root file, needed at first use. ``wall`` gives the time for expiry.
    """

    def __init__(
        self,
        url_or_dir: str | Path,
        trust_dir: Path,
        *,
        root: bytes | None = None,
        wall: Callable[[], datetime] = wall_now,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._base = base_url(url_or_dir)
        self._dir = trust_dir
        self._given_root = root
        self._wall = wall
        self._timeout_s = timeout_s

    def latest(self, name: str) -> Offer:
        """The current bundle of ``name``. Proves everything anew; keeps the newest proven metadata on disk.

        Raises ``TrustError``: ``repository-unreachable``, ``repository-expired``, ``repository-rolled-back``,
        ``repository-mixed``, ``signature-invalid``, ``metadata-too-large``, ``metadata-malformed``,
        ``bundle-not-published``, ``offer-malformed``, ``root-missing``, ``root-changed``, ``root-unreadable``,
        ``clock-behind``; ``ConfigError``: ``trust-in-use``, ``disk-full``, ``disk-error``.
        """
        try:
            self._dir.mkdir(parents=True, exist_ok=True)
            with locked(self._dir / ".lock", "trust-in-use", "the trust folder"):
                root = self._pinned_root()
                now = self._reference_time()
                found = self._refresh(name, root, now)
                self._raise_floor(now)
        except OSError as error:
            raise storage_error(error, "keeping the repository's metadata") from error
        if found is None:
            raise TrustError(
                "bundle-not-published", f"the repository names no bundle {name!r}; check the name, {_STAY}"
            )
        return Offer.from_entry(name, found.length, found.hashes, found.custom)

    def download(self, offer: Offer, dest: Path, *, progress: Callable[[int], None] | None = None) -> DownloadReport:
        """Put the offered bundle at ``dest``, resuming an earlier try; errors as ``trust.download.download``."""
        url = f"{self._base}targets/{offer.sha256}.{offer.path}"
        blob = Blob(url, offer.length, offer.sha256)
        return download(blob, dest, timeout_s=self._timeout_s, progress=progress)

    def _pinned_root(self) -> bytes:
        path = self._dir / "pinned-root.json"
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
                f"remove the trust folder by hand, {_STAY}",
            )
        return pinned

    def _is_known_root(self, given: bytes) -> bool:
        return any(path.read_bytes() == given for path in (self._dir / "metadata" / "root_history").glob("*.json"))

    def _refresh(self, name: str, root: bytes, now: datetime) -> TargetFile | None:
        with _explained():
            client = _Client(self._dir, self._base, root, now, self._timeout_s)
            client.refresh()
            return client.get_targetinfo(entry_path(name))

    # --- the clock

    def _floor(self) -> datetime:
        try:
            stamp = json.loads((self._dir / "clock-floor.json").read_bytes())["proven"]
            return max(datetime.fromtimestamp(int(stamp), UTC), CLOCK_EARLIEST)
        except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError):
            return CLOCK_EARLIEST

    def _reference_time(self) -> datetime:
        now, floor = self._wall(), self._floor()
        if now < floor - CLOCK_TOLERANCE:
            raise TrustError(
                "clock-behind",
                f"the device's clock is before {floor:%Y-%m-%d}, a time already proven past; set the clock, {_STAY}",
            )
        return max(now, floor)

    def _raise_floor(self, now: datetime) -> None:
        """Only a time at which fresh signed metadata held becomes the floor: a clock far ahead cannot poison it."""
        if now > self._floor():
            write_durably(self._dir / "clock-floor.json", json.dumps({"proven": int(now.timestamp())}).encode())


def fetch(
    url_or_dir: str | Path,
    trust_dir: Path,
    name: str,
    dest: Path,
    *,
    root: bytes | None = None,
    wall: Callable[[], datetime] = wall_now,
) -> Offer:
    """Put the current bundle of ``name`` at ``dest``; errors as ``TrustClient.latest`` and ``download``."""
    client = TrustClient(url_or_dir, trust_dir, root=root, wall=wall)
    offer = client.latest(name)
    client.download(offer, dest)
    return offer


def _require_root(raw: bytes) -> None:
    """``TrustError`` ``root-unreadable`` unless ``raw`` is root metadata signed by itself."""
    try:
        metadata: Metadata[Root] = Metadata.from_bytes(raw)
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except (tuf_errors.RepositoryError, ValueError, AttributeError) as error:  # the latter two: not a root at all
        raise TrustError(
            "root-unreadable",
            "the root of trust is damaged or not a root file; remove the trust folder and give the publisher's root "
            f"file again, {_STAY}",
        ) from error


class _Client(Updater):
    """python-tuf's client with our transport, fsynced files and an injected time."""

    def __init__(self, trust_dir: Path, base: str, root: bytes, now: datetime, timeout_s: float) -> None:
        folder = trust_dir / "metadata"
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            str(folder),
            f"{base}metadata/",
            fetcher=_Fetcher(timeout_s),
            config=UpdaterConfig(targets_max_length=METADATA_BYTES_MAX),
            bootstrap=root,
        )
        # ngclient 7.0 has no argument for it; its own test suite sets the same attribute.
        self._trusted_set.reference_time = now

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_durably(Path(filename), data)

    def _update_root_symlink(self) -> None:
        """Nothing: we always start from the pinned root, and remove-then-link is not safe against a power cut."""


class _Fetcher(FetcherInterface):
    """Metadata over our transport, in memory and bounded."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    def _fetch(self, url: str) -> Generator[bytes, None, None]:
        began = time.monotonic()
        with opened(url, timeout_s=self._timeout_s) as answer:
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
            f"clock; {_STAY}",
        ) from error
    except tuf_errors.UnsignedMetadataError as error:
        raise TrustError(
            "signature-invalid",
            f"the repository is not signed by enough of the keys this device trusts; do not install from it, {_STAY}",
        ) from error
    except tuf_errors.BadVersionNumberError as error:
        raise TrustError(
            "repository-rolled-back",
            f"the repository shows an older state than this device has seen; restore its newest state, {_STAY}",
        ) from error
    except tuf_errors.LengthOrHashMismatchError as error:
        raise TrustError(
            "repository-mixed",
            f"the repository's metadata do not belong together; copy the whole repository again, {_STAY}",
        ) from error
    except tuf_errors.DownloadLengthMismatchError as error:
        raise TrustError(
            "metadata-too-large",
            f"the repository's metadata are larger than was signed or is allowed; do not install from it, {_STAY}",
        ) from error
    except tuf_errors.DownloadHTTPError as error:
        raise UnreachableError(f"HTTP {error.status_code} for its metadata") from error
    except tuf_errors.DownloadError as error:
        raise UnreachableError("its metadata could not be read") from error
    except tuf_errors.RepositoryError as error:
        raise TrustError(
            "metadata-malformed", f"the repository's metadata cannot be understood; do not install from it, {_STAY}"
        ) from error
