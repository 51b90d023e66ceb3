"""The HL7 listener: monitors and gateways connect to a device by MLLP over TCP, with or without TLS.

Everything runs on the device's asyncio loop and nothing waits. A connection is read only as fast as its messages are
taken and its answers are read: a peer that floods, or does not read, slows itself. Per connection memory is bounded by
one message (``HL7_MESSAGE_BYTES_MAX``), one read, and the transport's write limit; the number of connections by
``connections_max``. A turn of the loop spends at most ``TURN_NS`` on a connection beyond the message at hand.

A connection that says nothing for ``mute_s``, or leaves a message half for ``half_s``, is dropped; the rim hears of it
through ``peer``. A connection that has spoken may then be silent for as long as it likes (an ADT feed at night):
whether a bed's numerics go stale is the rim's to see, and TCP keep-alive finds a peer that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.bedside.source.hl7_reading import SOURCE
from edgeward.bedside.source.hl7_receive import Receiver
from edgeward.bedside.source.hl7_settings import Hl7Settings
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.wire.codes import CodeTable
from edgeward.wire.mllp import Broken, Decoder

if TYPE_CHECKING:
    from edgeward.bedside.source.reading import Rim
    from edgeward.kernel.clock import Clock

TURN_NS = 20 * NS_PER_MS
WRITE_HIGH_BYTES = 1 << 16
DRAIN_S = 2.0
HANDSHAKE_S = 10.0
LINGER_S = 0.5
"""After the last answer the peer has this long to close first; what it still sends is not taken."""
_WATCH_S = 0.5
_BACKLOG = 64
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


@dataclass(slots=True)
class Hl7Listener:
    """Listens for one rim. ``start`` and ``close`` belong to the loop that serves it."""

    rim: Rim
    clock: Clock
    settings: Hl7Settings = field(default_factory=Hl7Settings)
    table: CodeTable = field(default_factory=CodeTable)
    receiver: Receiver = field(init=False)
    refused_connections: int = 0
    _server: asyncio.Server | None = None
    _connections: set[_Connection] = field(default_factory=set, repr=False)
    _peers: Counter[str] = field(default_factory=Counter, repr=False)

    def __post_init__(self) -> None:
        self.receiver = Receiver(self.rim, self.clock, self.table, self.settings.zone, self.settings.codec)

    async def start(self) -> None:
        """Begin to listen. Raises ``ConfigError`` (``hl7-address``, ``hl7-tls``)."""
        context = self.settings.tls.context() if self.settings.tls is not None else None
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self),
                self.settings.host,
                self.settings.port,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_S if context is not None else None,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise ConfigError(
                "hl7-address",
                f"the HL7 listener cannot use its host and port ({error.strerror or 'refused'}): "
                "name an address of this device and a free port",
            ) from error

    @property
    def port(self) -> int:
        """The port in use, once started."""
        assert self._server is not None, "start() comes first"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Stop listening, answer what was read, and let go of every connection within ``drain_s``."""
        if self._server is None:
            return
        server, self._server = self._server, None
        # asyncio leaks a socket that is being accepted while its server closes, so accepting ends first; what was being
        # accepted becomes a connection and is closed like the others.
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await asyncio.sleep(0)
        server.close()
        for connection in tuple(self._connections):
            connection.finish()
        deadline = self.clock.monotonic_ns() + round(drain_s * NS_PER_S)
        while self._connections and self.clock.monotonic_ns() < deadline:
            await asyncio.sleep(0.01)
        for connection in tuple(self._connections):
            connection.drop()
        await asyncio.sleep(0)

    def _joined(self, connection: _Connection) -> bool:
        """A connection came; False where there are too many."""
        if len(self._connections) >= self.settings.connections_max:
            self.refused_connections += 1
            return False
        self._connections.add(connection)
        self._peers[connection.peer] += 1
        if self._peers[connection.peer] == 1:
            self.rim.peer(SOURCE, connection.peer, connected=True)
        return True

    def _left(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._peers[connection.peer] -= 1
        if not self._peers[connection.peer]:
            del self._peers[connection.peer]
            self.rim.peer(SOURCE, connection.peer, connected=False)


class _Connection(asyncio.Protocol):
    """One peer: bytes in, whole messages to the receiver, answers out."""

    def __init__(self, listener: Hl7Listener) -> None:
        self._listener = listener
        self._decoder = Decoder()
        self._waiting: deque[bytes | Broken] = deque()
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._heard_all = False
        self._since_ns = 0  # when the message at hand began, or the connection
        self._spoken = False
        self._scheduled = False
        self._blocked_ns: int | None = None  # since when the peer does not read its answers
        self._ending_ns: int | None = None  # since when nothing more is read
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = _peer_name(transport)
        if not self._listener._joined(self):  # noqa: SLF001  (one class in two: the listener counts, this speaks)
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        _keep_alive(transport)
        self._since_ns = self._now()
        self._look()

    def data_received(self, data: bytes) -> None:
        """Bytes came; a message that is whole is taken in this turn of the loop or the next ones."""
        if self._ending_ns is not None:
            return
        was_pending = self._decoder.pending
        found = self._decoder.feed(data)
        if found or not was_pending:
            self._since_ns = self._now()
        self._waiting.extend(found)
        self._work()

    def eof_received(self) -> bool:
        """The peer sends no more: what was read is answered, then the connection closes."""
        if self._ending_ns is not None:
            return False
        self._heard_all = True
        self._give_up("mllp-no-end")
        # A TLS connection cannot stay half open; what is written by now is still sent.
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The peer has gone."""
        for timer in (self._watch, self._linger):
            if timer is not None:
                timer.cancel()
        self._waiting.clear()
        self._listener._left(self)  # noqa: SLF001

    def pause_writing(self) -> None:
        """The peer does not read its answers: nothing more is taken from it until it does."""
        self._blocked_ns = self._now()

    def resume_writing(self) -> None:
        """It reads again."""
        self._blocked_ns = None
        self._work()

    def finish(self) -> None:
        """Answer what was read, then close."""
        if self._ending_ns is not None or self._transport is None:
            return
        self._ending_ns = self._now()
        self._work()

    def drop(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Take waiting messages for at most ``TURN_NS``, then let others have their turn."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._scheduled:
            return
        end_ns = self._now() + TURN_NS
        while self._waiting and self._blocked_ns is None:
            item = self._waiting.popleft()
            receiver = self._listener.receiver
            if isinstance(item, Broken):
                answer = receiver.broken(item, self.peer)
            else:
                self._spoken = True
                answer = receiver.receive(item, self.peer)
            if answer:
                transport.write(answer)
            if self._now() >= end_ns and self._waiting:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._again)
                break
        if self._waiting:
            transport.pause_reading()
        elif self._blocked_ns is None:
            transport.resume_reading()
            if self._ending_ns is not None:
                self._shut(transport)

    def _shut(self, transport: asyncio.Transport) -> None:
        """Close so that the last answers arrive: bytes that nobody has read would turn a close into a reset."""
        if self._heard_all or not transport.can_write_eof():
            transport.close()
        elif self._linger is None:
            transport.write_eof()
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    def _again(self) -> None:
        self._scheduled = False
        self._work()

    def _look(self) -> None:
        """Twice a second: a connection that is mute, half, or does not read its answers is dropped."""
        settings = self._listener.settings
        now_ns = self._now()
        half_ns = round(settings.half_s * NS_PER_S)
        stuck = min((since for since in (self._blocked_ns, self._ending_ns) if since is not None), default=now_ns)
        if now_ns - stuck > half_ns:
            self.drop()
            return
        if self._ending_ns is None:
            if self._decoder.pending and now_ns - self._since_ns > half_ns:
                self._give_up("mllp-timeout")
            elif not self._spoken and now_ns - self._since_ns > settings.mute_s * NS_PER_S:
                self._waiting.append(Broken("mllp-mute", b""))
                self.finish()
        self._watch = asyncio.get_running_loop().call_later(_WATCH_S, self._look)

    def _give_up(self, why: str) -> None:
        if self._decoder.pending:
            self._waiting.append(Broken(why, self._decoder.held))
        self.finish()

    def _now(self) -> int:
        return self._listener.clock.monotonic_ns()


def _peer_name(transport: asyncio.Transport) -> str:
    """Whom the certificate names, else the address: neither holds a patient."""
    certificate = transport.get_extra_info("peercert") or {}
    for relative in certificate.get("subject", ()):
        for name, value in relative:
            if name == "commonName":
                return str(value)
    address = transport.get_extra_info("peername")
    return str(address[0]) if address else "unknown"


def _keep_alive(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
