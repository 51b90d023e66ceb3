"""``/repository``: the signed repository, for devices and for caches between. It needs no certificate: it is signed."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from edgeward.fleet.api.guard import TheFleet
from edgeward.fleet.blobs import Blobs
from edgeward.fleet.refused import RefusedError
from edgeward.kernel.limits import METADATA_BYTES_MAX

router = APIRouter(tags=["repository"])
_HASHED = re.compile(r"([0-9a-f]{64})\.")
_DELTA = re.compile(r"([0-9a-f]{16}-[0-9a-f]{16})\.ewd")
_NUMBERED = re.compile(r"\d+\.")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$")]


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    tag: str
    body: bytes | None
    is_lasting: bool
    """What has this name never changes: a cache may keep it for ever."""


@router.head("/repository/{kind}/{name}", include_in_schema=False)
@router.get("/repository/{kind}/{name}", summary="A file of the signed repository")
async def file(fleet: TheFleet, request: Request, kind: Literal["metadata", "targets"], name: _Name) -> Response:
    """Whole, or one range of it (``Range``, ``If-Range``), so that a download that broke goes on."""
    return await _send(fleet, request, kind, name)


@router.head("/repository/targets/deltas/{name}", include_in_schema=False)
@router.get("/repository/targets/deltas/{name}", summary="A delta between two bundles")
async def delta(fleet: TheFleet, request: Request, name: _Name) -> Response:
    """As the files of the repository. It is not signed: what it makes must have the hash that is."""
    return await _send(fleet, request, "targets/deltas", name)


async def _send(fleet: TheFleet, request: Request, kind: str, name: str) -> Response:
    if fleet.blobs is None:
        raise RefusedError(404, "no-repository", "this server serves no repository; set [fleet] repository")
    found = await _find(fleet.blobs, kind, name)
    tag = f'"{found.tag}"'
    headers = {
        "accept-ranges": "bytes",
        "etag": tag,
        "cache-control": "public, max-age=31536000, immutable" if found.is_lasting else "no-cache",
    }
    if tag in re.split(r",\s*", request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    start, end, status = _wanted(request, found.size, tag)
    if status == 416:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{found.size}"})
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{found.size}"
    headers["content-length"] = str(end - start)
    media = "application/json" if kind == "metadata" else "application/octet-stream"
    if request.method == "HEAD" or found.body is not None:
        content = b"" if request.method == "HEAD" or found.body is None else found.body[start:end]
        return Response(content, status_code=status, headers=headers, media_type=media)
    return StreamingResponse(
        fleet.blobs.read(found.path, start, end), status_code=status, headers=headers, media_type=media
    )


async def _find(blobs: Blobs, kind: str, name: str) -> _File:
    hashed = (_DELTA.fullmatch if kind == "targets/deltas" else _HASHED.match)(name)
    path = f"{kind}/{name}"
    size = await blobs.size(path) if hashed or kind == "metadata" else None
    if size is None:
        raise RefusedError(404, "no-such-file", "the repository has no such file")
    if hashed:
        return _File(path, size, hashed[1], None, is_lasting=True)
    if size > METADATA_BYTES_MAX:
        raise RefusedError(404, "no-such-file", f"metadata may have {METADATA_BYTES_MAX} bytes")
    body = await read_whole(blobs.read(path, 0, size))
    return _File(path, len(body), sha256(body).hexdigest(), body, is_lasting=bool(_NUMBERED.match(name)))


async def read_whole(blocks: AsyncIterator[bytes]) -> bytes:
    """The blocks as one."""
    return b"".join([block async for block in blocks])


def _wanted(request: Request, size: int, tag: str) -> tuple[int, int, int]:
    """The half-open range to send, and the status: 200, 206 or 416. Several ranges at once are answered whole."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", tag) != tag or not (found[1] or found[2]):
        return 0, size, 200
    if not found[1]:  # the last so many bytes
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < int(found[1]):
            return 0, size, 200
    return (0, 0, 416) if start >= end else (start, end, 206)
