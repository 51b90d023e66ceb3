"""Where the signed repository lies: a folder, or a bucket of an S3-compatible store.

Nothing here is trusted: devices verify signatures and hashes (docs/trust.md). Metadata are read whole, because they are
small and their ETag is the hash of their content; bundles are streamed, and have their hash in their name.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeward.kernel.errors import ConfigError, EdgewardError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BLOCK_BYTES = 1 << 18
PIECE_BYTES = 4 << 20
"""What one request to a bucket brings."""
S3 = "s3://"
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")


class Blobs(Protocol):
    """Files by path, such as ``metadata/timestamp.json``. Everything raises ``BlobsError`` when the store fails."""

    async def size(self, path: str) -> int | None:
        """Bytes; None where there is no such file."""
        ...

    def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes from ``start`` to before ``end``, in blocks."""
        ...

    async def names(self, folder: str) -> list[str]:
        """Names in a folder."""
        ...


class BlobsError(EdgewardError):
    """The store of the repository does not answer."""

    def __init__(self) -> None:
        super().__init__("repository-store", "the store of the repository does not answer; check it and its settings")


def open_blobs(where: str, options: dict[str, str] | None = None) -> Blobs:
    """A folder, or ``s3://BUCKET/PREFIX`` (credentials, region and endpoint from ``AWS_…`` or ``options``).

    ``ConfigError``: ``repository-url``; ``extra-missing`` where obstore is not installed.
    """
    if not where.startswith(S3):
        if "://" in where:
            raise ConfigError("repository-url", "the repository to serve is a folder or s3://BUCKET/PREFIX")
        return FolderBlobs(Path(where))
    found = _BUCKET.fullmatch(where)
    if found is None:
        raise ConfigError("repository-url", "write the repository's bucket as s3://BUCKET/PREFIX")
    return BucketBlobs(found[1], (found[2] or "").strip("/"), options or {})


class FolderBlobs:
    """A folder, or a share that is mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    async def size(self, path: str) -> int | None:
        """As ``Blobs``; a link that leads out of the folder is no file of it."""
        return await asyncio.to_thread(self._size, path)

    def _size(self, path: str) -> int | None:
        try:
            file = (self._folder / path).resolve()
            return file.stat().st_size if file.is_relative_to(self._folder) and file.is_file() else None
        except OSError as error:
            raise BlobsError from error

    async def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """As ``Blobs``."""
        try:
            file = await asyncio.to_thread((self._folder / path).open, "rb")
            with file:
                file.seek(start)
                left = end - start
                while left > 0 and (block := await asyncio.to_thread(file.read, min(BLOCK_BYTES, left))):
                    yield block
                    left -= len(block)
        except OSError as error:
            raise BlobsError from error

    async def names(self, folder: str) -> list[str]:
        """As ``Blobs``."""

        def listed() -> list[str]:
            try:
                return sorted(one.name for one in (self._folder / folder).iterdir() if one.is_file())
            except FileNotFoundError:
                return []
            except OSError as error:
                raise BlobsError from error

        return await asyncio.to_thread(listed)


class BucketBlobs:
    """A prefix in a bucket."""

    def __init__(self, bucket: str, prefix: str, options: dict[str, str]) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ModuleNotFoundError as error:
            raise ConfigError(
                "extra-missing", "a repository in S3 needs obstore; install it: pip install 'edgeward[fleet]'"
            ) from error
        self._obstore: Any = obstore
        self._failed: type[Exception] = BaseError
        plain: Any = options
        allow_http = options.get("endpoint", "").startswith("http://")
        self._store: Any = S3Store(
            bucket, prefix=prefix or None, config=plain, client_options={"allow_http": allow_http}
        )

    async def size(self, path: str) -> int | None:
        """As ``Blobs``."""
        try:
            found = await self._obstore.head_async(self._store, path)
        except FileNotFoundError:
            return None
        except self._failed as error:
            raise BlobsError from error
        return int(found["size"])

    async def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """As ``Blobs``, in requests of a piece each: one for the whole would be cut off under a reader that is slow."""
        for at in range(start, end, PIECE_BYTES):
            last = min(at + PIECE_BYTES, end)
            try:
                piece = await self._obstore.get_range_async(self._store, path, start=at, end=last)
            except (self._failed, FileNotFoundError) as error:
                raise BlobsError from error
            yield bytes(piece)

    async def names(self, folder: str) -> list[str]:
        """As ``Blobs``."""
        try:
            found = await self._obstore.list_with_delimiter_async(self._store, folder)
        except self._failed as error:
            raise BlobsError from error
        return sorted(str(one["path"]).rpartition("/")[2] for one in found["objects"])
