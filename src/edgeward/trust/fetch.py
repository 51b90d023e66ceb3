"""The device's side of a repository: which bundle is current, as signed metadata say, and its bytes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from edgeward.bundle.delta.patch import apply_delta
from edgeward.kernel.errors import EdgewardError, TrustError
from edgeward.trust.client import STAY, MetadataClient
from edgeward.trust.download import Blob, DownloadReport, download, fetch_unsigned, held_bytes
from edgeward.trust.durable import replacing
from edgeward.trust.offer import Offer, delta_path, entry_path
from edgeward.trust.roles import wall_now
from edgeward.trust.transport import TIMEOUT_S, base_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from edgeward.trust.download import Pace


class TrustClient:
    """Asks one repository for bundles and keeps what it proved in ``trust_dir``.

    ``url_or_dir`` is a folder or a ``file``, ``http`` or ``https`` URL that holds ``metadata/`` and ``targets/``.
    ``root`` is the bytes of the trusted root file, needed at first use. ``wall`` gives the time for expiry. ``ca``: a
    PEM file with the authority of an https repository that has one of its own, such as the fleet's.
    """

    def __init__(
        self,
        url_or_dir: str | Path,
        trust_dir: Path,
        *,
        root: bytes | None = None,
        wall: Callable[[], datetime] = wall_now,
        timeout_s: float = TIMEOUT_S,
        ca: str = "",
    ) -> None:
        self._base = base_url(url_or_dir)
        self._timeout_s = timeout_s
        self._ca = ca
        self._metadata = MetadataClient(
            f"{self._base}metadata/",
            trust_dir / "metadata",
            trust_dir,
            root=root,
            wall=wall,
            timeout_s=timeout_s,
            ca=ca,
        )

    def latest(self, name: str) -> Offer:
        """The current bundle of ``name``. Proves everything anew; keeps the newest proven metadata on disk.

        Raises what ``MetadataClient.refresh`` does, and ``TrustError`` ``bundle-not-published``, ``offer-malformed``.
        """
        found = self._metadata.refresh(entry_path(name))
        if found is None:
            raise TrustError("bundle-not-published", f"the repository names no bundle {name!r}; check the name, {STAY}")
        return Offer.from_entry(name, found.length, found.hashes, found.custom)

    def download(
        self, offer: Offer, dest: Path, *, progress: Callable[[int], None] | None = None, pace: Pace | None = None
    ) -> DownloadReport:
        """Put the offered bundle at ``dest``, resuming an earlier try; errors as ``trust.download.download``."""
        url = f"{self._base}targets/{offer.sha256}.{offer.path}"
        blob = Blob(url, offer.length, offer.sha256, ca=self._ca)
        return download(blob, dest, timeout_s=self._timeout_s, progress=progress, pace=pace)

    def patch(
        self,
        offer: Offer,
        base: Path,
        base_sha256: str,
        dest: Path,
        *,
        progress: Callable[[int], None] | None = None,
        pace: Pace | None = None,
    ) -> bool:
        """Make the offered bundle at ``dest`` from the installed one at ``base`` and a delta that lies beside it.

        False when there is no delta, when one does not give exactly the signed bytes, or when a download of the whole
        bundle has begun: fetch it whole then. Nothing is left at ``dest`` in that case. Only ``StoppedError`` of
        ``progress`` or ``pace`` passes through.
        """
        delta = dest.with_name(f"{dest.name}.delta")
        url = f"{self._base}targets/{delta_path(base_sha256, offer.sha256)}"
        try:
            if dest.exists() or held_bytes(dest):
                return False
            fetch_unsigned(
                url, delta, offer.length, timeout_s=self._timeout_s, ca=self._ca, progress=progress, pace=pace
            )
            with base.open("rb") as old, delta.open("rb") as file, replacing(dest) as draft:
                apply_delta(old, file, draft, sha256=offer.sha256)
        except (EdgewardError, OSError):
            return False
        finally:
            with contextlib.suppress(OSError):
                delta.unlink(missing_ok=True)
        return True


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
