"""A small reader of the page's server: one GET, or the stream of server-sent events."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence


def get(url: str, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """One request; header names with ``_`` for ``-``."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def post(
    url: str, path: str, fields: Sequence[tuple[str, str]], **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """One form, as a page of this origin sends it unless ``headers`` say otherwise."""
    where = urlsplit(url)
    usual = {"Origin": url.rstrip("/"), "Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
    usual |= {"Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body=urlencode(fields), headers={**usual, **given})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


class Stream:
    """Follows a stream of events."""

    def __init__(self, url: str, path: str = "/events") -> None:
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=10)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        while self._file.readline() not in (b"\r\n", b""):
            pass

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next event; None at the end of the stream."""
        name = b""
        while line := self._file.readline():
            if line.startswith(b"event: "):
                name = line[7:].strip()
            elif line.startswith(b"data: "):
                return name.decode(), json.loads(line[6:])
        return None

    def until(self, kind: str, count: int = 1) -> list[tuple[str, dict[str, Any]]]:
        """Everything up to the count-th event of a kind."""
        found: list[tuple[str, dict[str, Any]]] = []
        deadline = time.monotonic() + 10
        while sum(name == kind for name, _ in found) < count:
            assert time.monotonic() < deadline, f"{count} × {kind} never came"
            event = self.next()
            assert event is not None, f"the stream ended before {kind}"
            found.append(event)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()
