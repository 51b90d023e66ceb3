"""A small static HTTP server for a repository: GET and HEAD, one byte range, ETags. Standard library only.

It serves ``metadata/``, ``targets/`` and ``targets/deltas/`` of one folder and nothing else: no listing, no dot files,
no link that leads out. Bundles carry their SHA-256 as ETag (their name says it), metadata the hash of their content.
"""

from __future__ import annotations

import re
import threading
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import IO, Self

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%-]*")
_RANGE = re.compile(r"bytes=(\d{1,12})-(\d{0,12})")
_HASHED = re.compile(r"([0-9a-f]{64})\.")
_CHUNK_BYTES = 1 << 16


class RepositoryServer:
    """Serves ``repo_dir`` from a background thread; ``port`` 0 takes a free one. Use it in a ``with`` block."""

    def __init__(
        self,
        repo_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        handler: type[RepositoryHandler] | None = None,
    ) -> None:
        bound = type("Handler", (handler or RepositoryHandler,), {"repo_dir": repo_dir.resolve()})
        try:
            self._server = ThreadingHTTPServer((host, port), bound)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                "serve-address", f"the repository cannot be served at {host}:{port}; choose another address or port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="repository", daemon=True)

    @property
    def url(self) -> str:
        """The address to give to a device."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RepositoryHandler(BaseHTTPRequestHandler):
    """Answers one request; ``repo_dir`` is set by the server."""

    repo_dir: ClassVar[Path]
    timeout = 30.0
    server_version = "edgeward"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send a file or a part of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send the headers only."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: the caller sees what devices installed in their reports."""

    def _find(self) -> Path | None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        *folder, name = parts
        if folder not in (["metadata"], ["targets"], ["targets", "deltas"]) or not _NAME.fullmatch(name):
            return None
        path = self.repo_dir.joinpath(*parts).resolve()
        return path if path.is_relative_to(self.repo_dir) and path.is_file() else None

    def _answer(self, *, with_body: bool) -> None:
        path = self._find()
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            size = path.stat().st_size
            hashed = _HASHED.match(path.name)
            tag = hashed[1] if hashed else sha256(file.read()).hexdigest()
            start, end = self._wanted(size, f'"{tag}"')
            if start >= size > 0:
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}")
                return
            partial = (start, end) != (0, size)
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start))
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Cache-Control", "public, max-age=31536000, immutable" if hashed else "no-cache")
            self.end_headers()
            if with_body:
                file.seek(start)
                self._send(file, end - start)

    def _wanted(self, size: int, tag: str) -> tuple[int, int]:
        """The half-open byte range asked for; everything when there is none, or ``If-Range`` names another content."""
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        if found is None or self.headers.get("If-Range", tag) != tag:
            return 0, size
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        return (start, end) if start < end or start >= size else (0, size)

    def _send(self, file: IO[bytes], left: int) -> None:
        while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
            try:
                self.wfile.write(chunk)
            except OSError:  # the device went away; it resumes later
                self.close_connection = True
                return
            left -= len(chunk)

    def _refuse(self, status: HTTPStatus, content_range: str = "") -> None:
        self.send_response(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", "0")
        self.end_headers()
