"""The device's small HTTP server: strict, bounded, and on its feet whatever is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import trustme

from edgeward.bedside.source import http
from edgeward.bedside.source.http import HttpServer, Peer, server_tls
from edgeward.kernel.errors import ConfigError
from edgeward.wire.http1 import Head, Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


class _Echo:
    """Answers with what was sent; refuses /no, fails on /fail."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.peers: list[Peer] = []
        self.gone = 0

    def admit(self, head: Head, peer: Peer) -> Response | None:
        self.peers.append(peer)
        return Response(HTTPStatus.FORBIDDEN) if head.path == "/no" else None

    async def handle(self, request: Request, peer: Peer) -> Response:
        if request.head.path == "/fail":
            raise KeyError("secret")
        self.bodies.append(request.body)
        return Response(HTTPStatus.OK, request.body, "text/plain")

    def closed(self, peer: Peer) -> None:
        self.gone += 1

    def failed(self, response: Response) -> Response:
        return response


def _serve(
    work: Callable[[HttpServer, _Echo], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> tuple[HttpServer, _Echo]:
    async def run() -> tuple[HttpServer, _Echo]:
        echo = _Echo()
        server = HttpServer(echo, tls=tls, body_bytes_max=1000)
        await server.start()
        try:
            await work(server, echo)
        finally:
            await server.close()
        return server, echo

    return asyncio.run(run())


async def _talk(server: HttpServer, data: bytes, *, tls: ssl.SSLContext | None = None) -> bytes:
    """Send, and read until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


def test_requests_on_one_connection_are_answered_in_order() -> None:
    """Kept alive, pipelined, then closed as asked."""

    async def work(server: HttpServer, _: _Echo) -> None:
        answer = await _talk(server, POST * 3 + POST.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert answer.count(b"HTTP/1.1 200 OK") == 4
        assert answer.count(b"hi") == 4

    _, echo = _serve(work)
    assert echo.bodies == [b"hi"] * 4
    assert echo.gone == 1


def test_a_sender_that_waits_for_a_word_gets_it() -> None:
    """100 Continue before the body is sent."""

    async def work(server: HttpServer, _: _Echo) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert b"200 OK" in await reader.readuntil(b"hi")
        writer.close()

    _serve(work)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (POST.replace(b"/a", b"/no"), b"403"),
        (POST.replace(b"Content-Length: 2", b"Content-Length: 2000"), b"413"),
        (POST.replace(b"/a", b"/fail").replace(b"Host: x", b"Host: x\r\nConnection: close"), b"500"),
    ],
)
def test_what_is_refused_is_told_and_the_server_goes_on(data: bytes, status: bytes) -> None:
    """The peer reads the reason before the connection ends, and nothing of what failed inside."""

    async def work(server: HttpServer, _: _Echo) -> None:
        answer = await _talk(server, data + b"x" * 5000)
        assert answer.split()[1] == status
        assert b"secret" not in answer
        assert b"200" in await _talk(server, POST.replace(b"Host: x", b"Host: x\r\nConnection: close"))

    server, _ = _serve(work)
    assert server.refused >= 1


def test_a_slow_request_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that never ends holds no connection for long."""
    monkeypatch.setattr(http, "REQUEST_S_MAX", 0.2)

    async def work(server: HttpServer, echo: _Echo) -> None:
        assert await _talk(server, POST[:-1]) == b""
        assert echo.bodies == []

    _serve(work)


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while without a request."""
    monkeypatch.setattr(http, "IDLE_S_MAX", 0.2)

    async def work(server: HttpServer, _: _Echo) -> None:
        assert await _talk(server, b"") == b""

    _serve(work)


def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the ceiling a connection is told to come again."""
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)

    async def work(server: HttpServer, _: _Echo) -> None:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await asyncio.sleep(0.1)
        answer = await _talk(server, POST)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in answer
        for _, writer in held:
            writer.close()

    assert _serve(work)[0].refused == 1


def test_tls_asks_for_a_certificate_where_it_is_told_to(tmp_path: Path) -> None:
    """Whoever has one is known by its name; whoever has none is nobody."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    own = str(tmp_path / "own.pem")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    bare = ssl.create_default_context()
    authority.configure_trust(bare)
    authority.issue_cert("gateway.hospital", common_name="gateway").configure_cert(client)
    close = POST.replace(b"Host: x", b"Host: x\r\nConnection: close")

    async def work(server: HttpServer, echo: _Echo) -> None:
        assert b"200 OK" in await _talk(server, close, tls=client)
        assert [peer.subject for peer in echo.peers] == ["gateway"]
        with contextlib.suppress(OSError):  # a refusal of TLS 1.3 shows on the first read
            assert await _talk(server, close, tls=bare) == b""
        assert len(echo.peers) == 1

    _serve(work, server_tls(own, own, client_ca=str(tmp_path / "ca.pem")))


def test_an_address_that_cannot_be_had_is_said() -> None:
    """A port in use, and files that are no certificates."""

    async def work(server: HttpServer, echo: _Echo) -> None:
        with pytest.raises(ConfigError) as refused:
            await HttpServer(echo, port=server.port, body_bytes_max=1).start()
        assert refused.value.code == "http-address"

    _serve(work)
    with pytest.raises(ConfigError):
        server_tls("none", "none")
