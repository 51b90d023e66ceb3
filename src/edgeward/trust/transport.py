"""Opening a URL of a repository: ``http``, ``https``, ``file`` or a plain folder, and nothing else.

No redirect is followed and no proxy asked: what a device may reach is what its settings name. Every wait has a
timeout. Transport is not trusted with anything: signatures and hashes decide, so plain ``http`` inside a hospital
network costs secrecy of the bundle's bytes, not safety.
"""

from __future__ import annotations

import http.client
import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from edgeward.kernel.errors import ConfigError, TrustError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIMEOUT_S = 15.0
"""A server that sends nothing for this long is unreachable."""
_RANGE = re.compile(r"bytes=(\d+)-")


class UnreachableError(TrustError):
    """The server or folder cannot be reached now; the same call may work later."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "repository-unreachable",
            f"the repository cannot be reached ({why}); check the network and its address, "
            "the bundle in use stays in use",
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer: ``status`` 200, 206, 404, 416 …; header names in lower case; ``body`` to read from."""

    status: int
    headers: Mapping[str, str]
    body: IO[bytes] | http.client.HTTPResponse

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, empty at the end. Raises ``UnreachableError`` when the connection breaks."""
        try:
            if isinstance(self.body, http.client.HTTPResponse):
                return self.body.read1(size)
            return self.body.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(type(error).__name__) from error


def base_url(url_or_dir: str | Path) -> str:
    """``url_or_dir`` as a URL that ends in a slash. ``ConfigError`` for a scheme that is not on the list."""
    text = str(url_or_dir)
    scheme = _split(text).scheme if "://" in text else ""
    if scheme == "":
        text = Path(text).absolute().as_uri()
    elif scheme not in {"http", "https", "file"}:
        raise ConfigError("repository-url", "the repository's address must be a folder, file://, http:// or https://")
    return text if text.endswith("/") else text + "/"


@contextmanager
def opened(
    url: str, headers: Mapping[str, str] | None = None, *, timeout_s: float = TIMEOUT_S, ca: str = ""
) -> Iterator[Answer]:
    """Ask for ``url``. Raises ``UnreachableError``; any HTTP status is an ``Answer``, redirects included.

    ``ca``: a PEM file with the only authorities whose https certificates are taken; empty: those of the system.
    ``ConfigError`` (``repository-ca``) when it cannot be read.
    """
    if _split(url).scheme == "file":
        with _opened_file(url, headers or {}) as answer:
            yield answer
    else:
        with _opened_http(url, headers or {}, timeout_s, ca) as answer:
            yield answer


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise _no_url() from error


def _no_url() -> ConfigError:
    return ConfigError("repository-url", "the repository's address is not a valid URL; correct it in the settings")


@contextmanager
def _opened_file(url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
    path = Path(unquote(urlsplit(url).path))
    try:
        body = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        yield Answer(404, {}, BytesIO())
        return
    except OSError as error:
        raise UnreachableError(type(error).__name__) from error
    with body:
        size = path.stat().st_size
        wanted = _RANGE.fullmatch(headers.get("Range", ""))
        if wanted is None:
            yield Answer(200, {"content-length": str(size)}, body)
        elif int(wanted[1]) >= size:
            yield Answer(416, {"content-range": f"bytes */{size}"}, BytesIO())
        else:
            body.seek(int(wanted[1]))
            yield Answer(206, {"content-range": f"bytes {wanted[1]}-{size - 1}/{size}"}, body)


@contextmanager
def _opened_http(url: str, headers: Mapping[str, str], timeout_s: float, ca: str) -> Iterator[Answer]:
    parts = _split(url)
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout_s, context=_context(ca)
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    except (ValueError, http.client.InvalidURL) as error:
        raise _no_url() from error
    try:
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept-Encoding": "identity", "Connection": "close", **headers})
            response = connection.getresponse()
        except (http.client.InvalidURL, UnicodeError) as error:
            raise _no_url() from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(type(error).__name__) from error
        with response:
            yield Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response)
    finally:
        connection.close()


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "repository-ca", "the authority's certificate for the repository cannot be read; give a PEM file"
        ) from error
