"""Listening: TLS 1.3, the client's certificate handed to the application, and one process or several on one socket.

uvicorn does not give an application its peer's certificate; ``PeerProtocol`` does, as DER in the request's state.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeward.fleet.api.guard import PEER
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from fastapi import FastAPI

    from edgeward.fleet.settings import FleetSettings

BACKLOG = 1_024
KEEP_ALIVE_S = 75
"""Longer than a check-in's period: a device that keeps its connection pays for one handshake."""
GRACE_S = 20


class PeerProtocol(H11Protocol):
    """HTTP/1.1, with the peer's certificate where it showed one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the certificate before the first request is read."""
        super().connection_made(transport)
        secured = transport.get_extra_info("ssl_object")
        certificate = None if secured is None else secured.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, PEER: certificate}


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
    context.set_alpn_protocols(["http/1.1"])
    return context


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
        context = tls_context(settings)
        more["ssl_context_factory"] = lambda _config, _default: context
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
