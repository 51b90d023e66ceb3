"""A simulated monitor on the network: sends any source's blocks over ``wire.ecgtcp``."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError
from edgeward.wire.ecgtcp import End, Hello, Wave, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.source.base import Source

_ACCEPT_TICK_S = 0.2
_SEND_TIMEOUT_S = 5.0


class MonitorServer:
    """Listens, and sends each device that connects a fresh source from ``make_source``, one device at a time.

    ``port`` 0 lets the system choose. Use as a context manager, or ``serve()`` in the foreground until ``close()``.
    """

    def __init__(self, make_source: Callable[[], Source], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._make_source = make_source
        self._closed = threading.Event()
        self._source: Source | None = None
        self._peer: socket.socket | None = None
        self._thread: threading.Thread | None = None
        try:
            self._listener = socket.create_server((host, port), backlog=4)
        except (OSError, OverflowError) as error:  # OverflowError: no port number at all
            reason = getattr(error, "strerror", None) or "refused"
            raise ConfigError("port", f"cannot listen there: {reason}; choose another port") from error
        self._listener.settimeout(_ACCEPT_TICK_S)
        self.host: str = host
        self.port: int = self._listener.getsockname()[1]

    def serve(self, *, once: bool = False) -> None:
        """Serve until closed; with ``once`` until one device has got the whole source."""
        while not self._closed.is_set():
            try:
                peer, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            complete = self._send_all(peer)
            if once and complete:
                return

    def __enter__(self) -> MonitorServer:
        self._thread = threading.Thread(target=self.serve, name="simulated monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hang_up(self) -> None:
        """Cut the present connection, as a network does."""
        peer = self._peer
        if peer is not None:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Stop sending and listening."""
        self._closed.set()
        source = self._source
        if source is not None:
            source.close()
        self.hang_up()
        self._listener.close()
        if self._thread is not None:
            self._thread.join(timeout=_SEND_TIMEOUT_S)

    def _send_all(self, peer: socket.socket) -> bool:
        """Whether the device got everything."""
        self._peer = peer
        source = self._source = self._make_source()
        try:
            peer.settimeout(_SEND_TIMEOUT_S)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            info = source.info
            peer.sendall(encode(Hello(info.leads, info.rate_hz, info.label, info.limits_mv, info.simulated)))
            for block in source.blocks():
                if self._closed.is_set():
                    return False
                peer.sendall(encode(Wave(block.samples, block.start)))
            peer.sendall(encode(End()))
        except OSError:
            return False
        else:
            return not self._closed.is_set()
        finally:
            source.close()
            peer.close()
            self._peer = None
