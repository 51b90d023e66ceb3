"""Listening: TLS 1.3, the client's certificate handed to the application, and one process or several on one socket.

uvicorn does not give an application its peer's certificate; ``PeerProtocol`` does, as DER in the request's state.
"""

from __future__ import annotations

import logging
import resource
import socket
import ssl
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeward.fleet.api.guard import PEER
from edgeward.fleet.logs import log
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from fastapi import FastAPI

    from edgeward.fleet.settings import FleetSettings

BACKLOG = 1_024
KEEP_ALIVE_S = 10
"""Shorter than a check-in's period on purpose: ten thousand idle connections cost more than their handshakes."""
STALLED_S = 20.0
"""A client that sends nothing of what it began, or takes nothing of its answer, for so long is dropped."""
GRACE_S = 20


class PeerProtocol(H11Protocol):
    """HTTP/1.1, with the peer's certificate where it showed one, and without patience for a peer that stalls.

    uvicorn waits for ever for a first request, for the rest of a body, and for a reader.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the certificate before the first request is read."""
        super().connection_made(transport)
        secured = transport.get_extra_info("ssl_object")
        certificate = None if secured is None else secured.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, PEER: certificate}
        self._received = self._taken = 0
        self._seen = (0, 0, 0)
        self._watch = self.loop.call_later(STALLED_S, self._look)

    def data_received(self, data: bytes) -> None:
        """As uvicorn, and count."""
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        """As uvicorn: the reader has taken what was too much at once; count it."""
        self._taken += 1
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Drop the connection if it should have moved since the last look and has not."""
        waiting = self.transport.get_write_buffer_size()
        is_between = self.cycle is not None and self.cycle.response_complete
        receives = (
            self.cycle is None  # its first request is not here
            or self.conn.their_state is h11.SEND_BODY
            or (is_between and self.timeout_keep_alive_task is None)  # another has begun
        )
        seen = (self._received, waiting, self._taken)
        if (receives or waiting) and seen == self._seen:
            self.transport.abort()
            return
        self._seen = seen
        self._watch = self.loop.call_later(STALLED_S, self._look)


def allow_files() -> None:
    """As many connections as the system allows: the usual soft limit of 1,024 files is for programs that have few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def tls_context(settings: FleetSettings) -> ssl.SSLContext:
    """TLS 1.3; a client certificate is not asked of browsers, and where shown must be of this fleet's authority.

    ``ConfigError`` (``server-certificate``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    chain, key = settings.server_files
    try:
        context.load_cert_chain(chain, key)
        context.load_verify_locations(settings.authority_files[0])
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "server-certificate",
            f"the server's certificate {chain} and key {key} cannot be used; run 'edgeward fleet init', or give PEM "
            "files that belong together",
        ) from error
    context.verify_mode = ssl.CERT_OPTIONAL
    # The authority may be one below the hospital's root: it alone vouches for devices, and it ends the chain here.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context


class Certificate:
    """The server's certificate, read again when its file is another one: new connections get the new one."""

    def __init__(self, settings: FleetSettings) -> None:
        self.context = tls_context(settings)
        self._files = settings.server_files
        self._stamp = self._stamped()

    async def look(self) -> None:
        """Look at the files; what cannot be used is logged, and the one in use stays in use."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.context.load_cert_chain(*self._files)
            log("server certificate read again")
        except (OSError, ssl.SSLError):
            log("server certificate unusable", level=logging.WARNING)

    def _stamped(self) -> tuple[int, ...]:
        try:
            return tuple(path.stat().st_mtime_ns for path in self._files)
        except OSError:
            return ()


def listen(settings: FleetSettings) -> socket.socket:
    """The socket that every worker accepts from; ``ConfigError`` (``fleet-port``)."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            "fleet-port", f"cannot listen at {settings.host}, port {settings.port}; choose another address or port"
        ) from error
    listener.set_inheritable(True)
    return listener


def url_of(settings: FleetSettings, listener: socket.socket) -> str:
    """The address to give to a browser or device."""
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls else 'http'}://{shown}:{listener.getsockname()[1]}"


def server_of(app: FastAPI, settings: FleetSettings) -> uvicorn.Server:
    """A server for ``app``; ``run(sockets=[listener])`` serves until it is told to stop."""
    more: dict[str, Any] = {}
    if settings.tls:
        certificate = Certificate(settings)
        more["ssl_context_factory"] = lambda _config, _default: certificate.context
        more["callback_notify"] = certificate.look
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        **more,
    )
    return uvicorn.Server(config)
