"""A TLS 1.3 endpoint on loopback that answers devices as a test wants: a small fleet, or a balancer before one."""

from __future__ import annotations

import http.client
import ssl
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

Reply = tuple[int, bytes, dict[str, str]]
"""Status, body and headers; a status of 0 hangs up without a word."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: ``shown`` is the SHA-256 of the client's certificate, "" where it showed none."""

    path: str
    body: bytes
    shown: str


def _nothing(_asked: Asked) -> Reply:
    return 404, b"{}", {}


@dataclass
class Endpoint:
    """Serves in a ``with`` block. ``pem``: key and chain of the server; ``ca``: whose client certificates are taken."""

    pem: Path
    ca: Path
    answer: Callable[[Asked], Reply] = _nothing
    heard: list[Asked] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.pem)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = _Server(("127.0.0.1", 0), self)
        # The handshake belongs to the connection's own thread.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def forwarded(upstream: str, header: str, asked: Asked) -> Reply:
    """The answer of the plain HTTP server ``upstream`` (HOST:PORT), which believes ``header`` from here."""
    connection = http.client.HTTPConnection(upstream, timeout=20)
    try:
        connection.request("POST", asked.path, asked.body, {header: asked.shown} if asked.shown else {})
        with connection.getresponse() as answer:
            return answer.status, answer.read(), {}
    finally:
        connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that fails is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """Hand it to the test and send what that says."""
        connection: Any = self.connection
        der = connection.getpeercert(binary_form=True)
        asked = Asked(
            self.path, self.rfile.read(int(self.headers["Content-Length"])), sha256(der).hexdigest() if der else ""
        )
        self.server.endpoint.heard.append(asked)
        status, said, headers = self.server.endpoint.answer(asked)
        if not status:
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Nothing: requests stand in ``heard``."""
