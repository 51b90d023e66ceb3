"""HTTP/1.1 as a device's own small servers need it: an incremental reader of requests, and a writer of answers. Pure.

Strict where servers have disagreed with each other to somebody's harm: a length stated twice or in two ways, white
space before a colon, folded lines and bare line feeds are refused rather than read one way (RFC 9112, 5.1, 5.2, 6.3).
Bodies come whole, with a length or in chunks, and never beyond a ceiling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_BYTES_MAX = 8_192
HEADERS_MAX = 64
CHUNK_LINE_BYTES_MAX = 64
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,12}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_SINGLE = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "authorization", "content-encoding"}
)


class BadRequestError(InputError):
    """Bytes that are no request that is taken; ``status`` answers them, and the connection ends."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__("http-refused", f"a request was refused: {why}")
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True)
class Head:
    """All of a request but its body: ``headers`` by lower-case name; ``continue_wanted``: the sender waits for it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    keep_alive: bool
    continue_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request."""

    head: Head
    body: bytes = field(repr=False)


class _Stage(Enum):
    HEAD = auto()
    LENGTH = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    TRAILER = auto()


class RequestReader:
    """Turns received bytes into requests, however they were cut: ``feed`` them, then ask ``next`` until None.

    ``next`` gives a ``Head`` as soon as it stands, so that a sender without right is refused before its body is held,
    then the ``Request``. Raises ``BadRequestError``; nothing can be read after it.
    """

    def __init__(self, *, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._buffer = bytearray()
        self._stage = _Stage.HEAD
        self._head: Head | None = None
        self._body = bytearray()
        self._left = 0

    @property
    def idle(self) -> bool:
        """Whether the reader stands between two requests."""
        return self._stage is _Stage.HEAD and not self._buffer

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._buffer += data

    def next(self) -> Head | Request | None:
        """The next head or request; None: more bytes are needed."""
        while True:
            if self._stage is _Stage.HEAD:
                return self._read_head()
            if self._stage in {_Stage.LENGTH, _Stage.CHUNK}:
                taken = self._buffer[: self._left]
                del self._buffer[: self._left]
                self._body += taken
                self._left -= len(taken)
                if self._left:
                    return None
                if self._stage is _Stage.LENGTH:
                    return self._whole()
                if not b"\r\n".startswith(self._buffer[:2]):
                    raise BadRequestError(HTTPStatus.BAD_REQUEST, "a chunk is longer than it says")
                if len(self._buffer) < 2:
                    return None
                del self._buffer[:2]
                self._stage = _Stage.CHUNK_SIZE
            line = self._line()
            if line is None:
                return None
            if self._stage is _Stage.TRAILER:
                if not line:
                    return self._whole()
                continue
            self._chunk(line)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        limit = HEAD_BYTES_MAX if self._stage is _Stage.TRAILER else CHUNK_LINE_BYTES_MAX
        if end < 0 and len(self._buffer) <= limit:
            return None
        if not 0 <= end <= limit:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a chunk's head is malformed")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _chunk(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a chunk's head is malformed")
        self._left = int(found[1], 16)
        if len(self._body) + self._left > self._body_bytes_max:
            raise self._too_large()
        self._stage = _Stage.CHUNK if self._left else _Stage.TRAILER

    def _too_large(self) -> BadRequestError:
        return BadRequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a body is longer than {self._body_bytes_max} bytes; send less at once",
        )

    def _whole(self) -> Request:
        assert self._head is not None
        request = Request(self._head, bytes(self._body))
        self._body.clear()
        self._head = None
        self._stage = _Stage.HEAD
        return request

    def _read_head(self) -> Head | None:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: an empty line before a request is no part of it
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if not 0 <= end <= HEAD_BYTES_MAX:
            if end < 0 and len(self._buffer) <= HEAD_BYTES_MAX:
                return None
            raise BadRequestError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head is longer than {HEAD_BYTES_MAX} bytes"
            )
        text = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 4]
        self._head = head = _parse(text)
        self._begin_body(head)
        return head

    def _begin_body(self, head: Head) -> None:
        coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadRequestError(HTTPStatus.BAD_REQUEST, "a body's length is stated in two ways, or in none known")
            self._stage = _Stage.CHUNK_SIZE
            return
        if length is not None and not _LENGTH.fullmatch(length):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a body's length is no number")
        self._left = int(length or "0")
        if self._left > self._body_bytes_max:
            raise self._too_large()
        self._stage = _Stage.LENGTH


def _parse(text: str) -> Head:
    lines = text.split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"} or not _TOKEN.fullmatch(words[0]):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "it is not an HTTP/1.1 request")
    if not words[1].startswith("/") or not words[1].isprintable():
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "its path is malformed")
    if len(lines) > HEADERS_MAX + 1:
        raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"it has more than {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key, value = name.lower(), value.strip(" \t")
        bad = not colon or not _TOKEN.fullmatch(name) or "\n" in value or "\r" in value or "\0" in value
        if bad or (key in headers and key in _SINGLE):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a header is malformed or stated twice")
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    newer = words[2] == "HTTP/1.1"
    if newer and "host" not in headers:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "it has no Host header (RFC 9112, 3.2)")
    options = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    path, _, query = words[1].partition("?")
    return Head(
        words[0],
        path,
        query,
        headers,
        keep_alive="close" not in options and (newer or "keep-alive" in options),
        continue_wanted=newer and headers.get("expect", "").lower() == "100-continue",
    )


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. ``headers`` beside Content-Type and Content-Length."""

    status: HTTPStatus
    body: bytes = field(default=b"", repr=False)
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def encode(response: Response, *, keep_alive: bool) -> bytes:
    """The bytes of one answer. Raises ``ValueError`` for a header that would break its line."""
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}", f"Content-Length: {len(response.body)}"]
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}")
    for name, value in response.headers.items():
        if not _TOKEN.fullmatch(name) or not value.isprintable():
            raise ValueError("a header's value does not fit one line")
        lines.append(f"{name}: {value}")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + response.body
