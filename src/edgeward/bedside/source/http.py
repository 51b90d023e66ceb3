"""A small HTTP(S) server on an asyncio loop, for what others post to a device: FHIR resources, SDC notifications.

Every wait and every size has a ceiling: connections, the time of a request, the bytes of head and body, the time that
an answer may take to be read. Nothing that a peer sends is logged. A handler that fails answers 500, and its message
is not taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from edgeward.kernel.errors import ConfigError
from edgeward.wire.http1 import CONTINUE, BadRequestError, Head, Request, RequestReader, Response, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable

CONNECTIONS_MAX = 256
REQUEST_S_MAX = 10.0
"""From the first byte of a request to its last."""
IDLE_S_MAX = 120.0
"""A kept connection without a request for so long is closed; the peer opens another."""
ANSWER_S_MAX = 5.0
_RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: its network address, and the subject of its certificate where it gave one."""

    host: str
    subject: str = ""


class Handler(Protocol):
    """What a server asks."""

    def admit(self, head: Head, peer: Peer) -> Response | None:
        """A refusal for a request whose body shall not even be read; None: go on."""
        ...

    def handle(self, request: Request, peer: Peer) -> Awaitable[Response]:
        """The answer to a request. Called on the loop; must not wait for anything but the loop."""
        ...

    def closed(self, peer: Peer) -> None:
        """A connection is gone."""
        ...

    def failed(self, response: Response) -> Response:
        """The answer in the handler's own format, for what the server itself refuses."""
        ...


class HttpServer:
    """Serves ``handler`` from ``start`` to ``close``, both on the loop that runs it.

    ``port`` 0 lets the system choose. ConfigError ``http-address`` where the address cannot be had.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        body_bytes_max: int,
    ) -> None:
        self._handler = handler
        self._host, self._port, self._tls = host, port, tls
        self._body_bytes_max = body_bytes_max
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0
        """Requests that were refused before a handler saw them, and connections beyond the ceiling."""

    @property
    def port(self) -> int:
        """The port in use once started."""
        return self._port

    async def start(self) -> None:
        """Begin to listen."""
        try:
            self._server = await asyncio.start_server(
                self._connected,
                self._host,
                self._port,
                ssl=self._tls,
                limit=_RECEIVE_BYTES,
                ssl_handshake_timeout=REQUEST_S_MAX if self._tls else None,
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(
                "http-address", "cannot listen at that address and port: choose a free port of this device"
            ) from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ANSWER_S_MAX)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = _peer(writer)
        try:
            if len(self._tasks) > CONNECTIONS_MAX:
                self.refused += 1
                busy = Response(HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "1"})
                await self._answer(writer, self._handler.failed(busy), keep_alive=False)
                await self._linger(reader, writer)
            else:
                await self._serve(reader, writer, peer)
            writer.close()
            async with asyncio.timeout(ANSWER_S_MAX):
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # the peer went away, was too slow, or the server closes: nothing was promised
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            self._handler.closed(peer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        requests = RequestReader(body_bytes_max=self._body_bytes_max)
        keep = True
        while keep:
            async with asyncio.timeout(IDLE_S_MAX):
                data = await reader.read(_RECEIVE_BYTES)
            if not data:
                return
            requests.feed(data)
            async with asyncio.timeout(REQUEST_S_MAX):
                keep = await self._drain(requests, reader, writer, peer)

    async def _drain(
        self, requests: RequestReader, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> bool:
        """Answer what was received, reading on in the middle of a request; False ends the connection."""
        while True:
            try:
                item = requests.next()
                refusal = self._handler.admit(item, peer) if isinstance(item, Head) else None
            except BadRequestError as error:
                item, refusal = None, Response(error.status, f"{error.why}\n".encode(), "text/plain")
            if refusal is not None:
                self.refused += 1
                await self._answer(writer, self._handler.failed(refusal), keep_alive=False)
                await self._linger(reader, writer)
                return False
            if item is None:
                if requests.idle:
                    return True
                data = await reader.read(_RECEIVE_BYTES)
                if not data:
                    return False
                requests.feed(data)
            elif isinstance(item, Head):
                if item.continue_wanted:
                    writer.write(CONTINUE)
            else:
                await self._answer(writer, await self._ask(item, peer), keep_alive=item.head.keep_alive)
                if not item.head.keep_alive:
                    return False

    async def _ask(self, request: Request, peer: Peer) -> Response:
        try:
            return await self._handler.handle(request, peer)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
            # A mistake of ours in reading one message must not end the server; the message is not acknowledged.
            self.refused += 1
            return self._handler.failed(Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"not taken\n", "text/plain"))

    async def _answer(self, writer: asyncio.StreamWriter, response: Response, *, keep_alive: bool) -> None:
        writer.write(encode(response, keep_alive=keep_alive))
        if writer.transport.get_write_buffer_size():  # usually the kernel took all of it
            async with asyncio.timeout(ANSWER_S_MAX):
                await writer.drain()

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the peer read the refusal: closing on unread bytes would reset the connection under it."""
        if writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while await reader.read(_RECEIVE_BYTES):
                    pass


def _peer(writer: asyncio.StreamWriter) -> Peer:
    address = writer.get_extra_info("peername")
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    found = writer.get_extra_info("peercert") or {}
    names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
    return Peer(host, names[0] if names else "")


def server_tls(certificate: str, key: str, *, client_ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer with the PEM files named; with ``client_ca`` every peer must show a certificate of it.

    Raises ``ConfigError`` (``tls-files``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise tls_files_error() from error
    return context


def tls_files_error() -> ConfigError:
    """What is said of certificates or keys that cannot be read."""
    return ConfigError(
        "tls-files", "a certificate or key cannot be read or does not fit its partner; check the files named"
    )
