"""A small fleet on loopback, with TLS 1.3, that answers as a test wants it to."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from edgeward.testing.fleet.authority import Issuer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Reply = tuple[int, bytes, dict[str, str]]


@dataclass
class StubFleet:
    """``answer`` gets path, body and whether a client certificate was shown; what arrived stands in ``heard``."""

    issuer: Issuer
    ca: Path
    answer: Callable[[str, bytes, bool], Reply] = lambda path, body, known: (404, b"{}", {})
    heard: list[tuple[str, bytes, bool]] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        known = bool(self.connection.getpeercert())  # type: ignore[attr-defined]
        fleet = self.server.fleet
        fleet.heard.append((self.path, body, known))
        status, said, headers = fleet.answer(self.path, body, known)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: object) -> None:
        pass


def serve(folder: Path, *, begins: datetime | None = None, life: timedelta = timedelta(days=30)) -> Iterator[StubFleet]:
    """Serve until the generator is closed; ``begins``: of the server's certificate."""
    issuer = Issuer()
    ca, pem = folder / "ca.pem", folder / "server.pem"
    ca.write_text(issuer.pem)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem.write_bytes(issuer.server(names, begins=begins or datetime.now(UTC) - timedelta(days=1), life=life))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(pem)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    fleet = StubFleet(issuer, ca, url=f"https://127.0.0.1:{server.server_address[1]}")
    server.fleet = fleet  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fleet
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[StubFleet]:
    """A fleet with a good certificate."""
    yield from serve(tmp_path)


@pytest.fixture
def fleet_of_another_time(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StubFleet]:
    """A fleet whose certificate is valid ``request.param`` away from now."""
    yield from serve(tmp_path, begins=datetime.now(UTC) + request.param)
