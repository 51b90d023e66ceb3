"""Which bundles there are: what signed metadata of the repository name, proven as a device proves it.

The server trusts its own repository no more than a device does: it has the same pinned root, and what is not signed is
not listed, so nobody can roll out what devices would refuse.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from tuf.api.metadata import Metadata, Targets

from edgeward.bundle.archive import SUFFIX
from edgeward.fleet.blobs import S3
from edgeward.fleet.store import audit
from edgeward.fleet.store.engine import insert_missing
from edgeward.fleet.store.models import Release
from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.kernel.limits import METADATA_BYTES_MAX
from edgeward.trust.client import MetadataClient
from edgeward.trust.durable import storage_error, write_durably
from edgeward.trust.fetch import TrustClient
from edgeward.trust.transport import base_url

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from edgeward.fleet.blobs import Blobs
    from edgeward.fleet.store.engine import Store
    from edgeward.trust.offer import Offer

LOOK_S = 60
"""How often a server looks by itself."""
SEEN_S = 3_600
"""That a release is still named is noted no more often than this."""
WAITS, WAIT_S = 25, 0.2
"""Another worker that looks at this moment is waited for so often, so long each time."""
_FILES_MAX = 10_000


class Releases:
    """Looks at the repository ``where`` (a folder or ``s3://…``, read by ``blobs``) with the pinned ``root``.

    ``folder`` keeps what was proven, and a copy of the metadata of a bucket.
    """

    def __init__(self, store: Store, blobs: Blobs, where: str, root: Path, folder: Path) -> None:
        self._store = store
        self._blobs = blobs
        self._where = where
        self._root = root
        self._folder = folder
        self._looking = asyncio.Lock()
        self._at_work = threading.Lock()
        self._is_closed = False

    async def renew(self, now_s: int) -> list[str]:
        """Copy and prove what is new; the families that are named. Errors as ``look``; other workers are waited for."""
        async with self._looking:
            await self._mirror()
            for _ in range(WAITS):
                try:
                    return await asyncio.to_thread(self.look, now_s)
                except ConfigError as error:
                    if error.code != "trust-in-use":
                        raise
                await asyncio.sleep(WAIT_S)
            return await asyncio.to_thread(self.look, now_s)

    async def _mirror(self) -> None:
        """Copy what is new of a bucket's metadata beside the proofs; a folder is read where it lies."""
        if not self._where.startswith(S3):
            return
        target = self._folder / "mirror" / "metadata"
        try:
            target.mkdir(parents=True, exist_ok=True)
            names = await self._blobs.names("metadata")
            for name in [*(one for one in names if one != "timestamp.json"), "timestamp.json"][:_FILES_MAX]:
                size = await self._blobs.size(f"metadata/{name}") or 0
                if size > METADATA_BYTES_MAX or ((target / name).exists() and name != "timestamp.json"):
                    continue
                body = b"".join([block async for block in self._blobs.read(f"metadata/{name}", 0, size)])
                write_durably(target / name, body)
        except OSError as error:
            raise storage_error(error, "copying the repository's metadata") from error

    def look(self, now_s: int) -> list[str]:
        """Prove the metadata and note what they name; the families. Errors as ``trust.client`` raises them."""
        try:
            root = self._root.read_bytes()
        except OSError as error:
            raise ConfigError("root-unreadable", f"cannot read the trusted root {self._root}") from error
        where = str(self._folder / "mirror") if self._where.startswith(S3) else self._where
        proofs = self._folder / "proofs"
        MetadataClient(f"{base_url(where)}metadata/", proofs / "metadata", proofs, root=root).refresh()
        client = TrustClient(where, proofs, root=root)
        offers = []
        for family in _families(proofs / "metadata" / "targets.json"):
            try:
                offers.append(client.latest(family))
            except TrustError as error:  # a role that names nothing yet
                if error.code not in {"bundle-not-published", "offer-malformed"}:
                    raise
        with self._at_work:
            if not self._is_closed:
                with self._store.writing() as session:
                    for offer in offers:
                        _note(session, offer, now_s)
        return sorted(offer.name for offer in offers)

    def close(self) -> None:
        """Wait for a look whose caller has gone: the store may be closed after it."""
        with self._at_work:
            self._is_closed = True


def _families(targets: Path) -> list[str]:
    """Names that the proven ``targets.json`` gives to a role or names itself."""
    signed = Metadata[Targets].from_bytes(targets.read_bytes()).signed
    roles = (signed.delegations.roles or {}) if signed.delegations is not None else {}
    return sorted({*roles, *(path.removesuffix(SUFFIX) for path in signed.targets if path.endswith(SUFFIX))})


def _note(session: Session, offer: Offer, now_s: int) -> None:
    is_new = insert_missing(
        session,
        Release,
        sha256=offer.sha256,
        family=offer.name,
        version=offer.version,
        length=offer.length,
        first_s=now_s,
        seen_s=now_s,
        current=True,
    )
    if is_new:
        detail: dict[str, audit.Fact] = {"family": offer.name, "version": offer.version}
        audit.record(session, actor="server", action="release.seen", subject=offer.sha256, detail=detail, now_s=now_s)
    row = session.get_one(Release, offer.sha256)
    if is_new or not row.current or now_s - row.seen_s >= SEEN_S:
        row.current, row.seen_s = True, now_s
        session.execute(
            update(Release).where(Release.family == offer.name, Release.sha256 != offer.sha256).values(current=False)
        )


def listed(session: Session, family: str = "") -> list[Release]:
    """Releases, the newest first; of one family where it is named."""
    query = select(Release).order_by(Release.family, Release.first_s.desc())
    return list(session.scalars(query.where(Release.family == family) if family else query))
