"""A monitor or gateway over TCP (``wire.ecgtcp``): connects or listens, reconnects, and marks every gap.

What the network can do to a stream, and what the bed then sees:

* the peer is silent for ``SILENCE_S``, or away: blocks of missing samples as time passes;
* samples were lost: the index jumps, and the pipeline fills the hole with missing samples;
* foreign, oversize or damaged bytes: an ``InputError`` ends the connection, its code stays in ``last_error``, and the
  source reconnects, waiting twice as long each time up to ``BACKOFF_MAX_S``;
* the peer returns as something else (other leads or rate): ``InputError`` (``leads-changed``); the bed must begin anew.

A silence shifts what follows to a later index: time given away as missing is never given to samples that come late.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.source.base import SILENCE_S, Block, Silence, SourceInfo
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.wire.ecgtcp import Decoder, End, Hello, Message, Wave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.kernel.clock import Clock

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0
CONNECT_TIMEOUT_S = 2.0
PEER_DEAD_S = 10.0
"""A connection without a byte for this long is dropped: a monitor that has nothing to say sends IDLE."""
_TICK_S = 0.1
_RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Where the peer is (``listen`` False), or where to wait for it."""

    host: str
    port: int
    listen: bool = False


class TcpSource:
    """One monitor over TCP. ``open()`` waits for its introduction; ``info`` is known from then on.

    With ``once`` the source ends when the peer says END; else it waits for the peer to return.
    """

    def __init__(
        self, address: TcpAddress, clock: Clock, *, once: bool = False, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._address = address
        self._clock = clock
        self._sleep = sleep
        self._once = once
        self._closed = False
        self._info: SourceInfo | None = None
        self._connection: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._decoder = Decoder()
        self._held: list[Message] = []  # what came with the introduction
        self._backoff_s = BACKOFF_MIN_S
        self._retry_ns = 0
        self._heard_ns = 0  # when the last byte came
        self._silence = Silence(1, 1.0)
        self._next = 0  # index of the next sample given out
        self._offset: int | None = None  # our index minus the sender's; None until the first wave of a connection
        self.last_error: str | None = None
        """Code of the latest failure of a connection, for the log."""
        self.connections = 0
        """How many peers have introduced themselves so far."""

    @property
    def info(self) -> SourceInfo:
        """Who sends; raises ``InputError`` (``source-not-open``) before ``open()`` has succeeded."""
        if self._info is None:
            raise InputError("source-not-open", "the peer has not introduced itself yet; open the source first")
        return self._info

    @property
    def port(self) -> int:
        """The port in use; with ``listen`` and port 0, the one the system chose (after ``open`` has begun)."""
        return self._listener.getsockname()[1] if self._listener is not None else self._address.port

    def listen(self) -> None:
        """Begin to listen, as ``open`` does (``listen`` addresses only). Raises ``InputError`` (``source-port``)."""
        if not self._address.listen or self._listener is not None:
            return
        try:
            self._listener = socket.create_server((self._address.host, self._address.port), backlog=1)
        except OSError as error:
            raise InputError("source-port", f"cannot listen on that port: {error.strerror or 'refused'}") from error
        self._listener.setblocking(False)

    def open(self, timeout_s: float = 30.0) -> SourceInfo:
        """Wait for a peer and its introduction. Raises ``InputError`` (``source-silent``) after ``timeout_s``."""
        self.listen()
        deadline = self._clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        while self._info is None and not self._closed:
            now = self._clock.monotonic_ns()
            if now >= deadline:
                last = f" (last failure: {self.last_error})" if self.last_error else ""
                raise InputError("source-silent", f"no monitor introduced itself within {timeout_s:.3g} s{last}")
            self._held += self._turn(now)
        self._silence = Silence(len(self.info.leads), self.info.rate_hz)
        self._silence.broken(self._clock.monotonic_ns())
        return self.info

    def blocks(self) -> Iterator[Block]:
        """Blocks as they arrive, and blocks of missing samples while nothing does. Opens the source if needed."""
        if self._info is None:
            self.open()
        while not self._closed:
            now = self._clock.monotonic_ns()
            held, self._held = self._held, []
            for message in held or self._turn(now):
                if self._closed:  # meanwhile: several had come at once
                    return
                if isinstance(message, Wave):
                    yield self._take(message)
                elif isinstance(message, End) and self._once:
                    self.close()
                    return
            missing = self._missing(self._clock.monotonic_ns())
            if missing is not None and not self._closed:
                yield missing

    def close(self) -> None:
        """Close the connection and the listener."""
        self._closed = True
        self._drop()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # --- one turn: connect or receive, never longer than a tick

    def _turn(self, now: int) -> list[Message]:
        if self._connection is None:
            if now < self._retry_ns:
                self._sleep(min(_TICK_S, (self._retry_ns - now) / NS_PER_S))
                return []
            self._connect(now)
            return []
        try:
            messages = self._receive(now)
            return [m for m in messages if not self._is_introduction(m)]
        except InputError as error:
            self._fail(error.code)
            if error.code == "leads-changed":
                raise
        except (OSError, ValueError):  # ValueError: select on a socket that another thread has closed
            self._fail("connection-lost")
        return []

    def _connect(self, now: int) -> None:
        try:
            if self._listener is not None:
                ready, _, _ = select.select([self._listener], [], [], _TICK_S)
                if not ready:
                    return
                self._connection, _ = self._listener.accept()
            else:
                # The wait stays below the silence limit, so that a bed keeps hearing about the gap.
                limit = CONNECT_TIMEOUT_S if self._info is None else SILENCE_S / 2
                self._connection = socket.create_connection((self._address.host, self._address.port), timeout=limit)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.setblocking(False)
        except (OSError, ValueError):
            self._fail("connection-refused")
            return
        if self._closed:
            self._drop()
        self._decoder = Decoder()
        self._offset = None
        self._heard_ns = now

    def _receive(self, now: int) -> list[Message]:
        connection = self._connection
        if connection is None:
            return []
        if self._decoder.broken:
            return self._decoder.feed(b"")  # raises what stopped it
        ready, _, _ = select.select([connection], [], [], _TICK_S)
        if not ready:
            if now - self._heard_ns > PEER_DEAD_S * NS_PER_S:
                raise InputError(
                    "peer-silent", f"the peer said nothing for {PEER_DEAD_S:g} s; the connection is dropped"
                )
            return []
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError
        self._heard_ns = self._clock.monotonic_ns()
        return self._decoder.feed(data)

    def _is_introduction(self, message: Message) -> bool:
        if not isinstance(message, Hello):
            return False
        fresh = SourceInfo(message.leads, message.rate_hz, message.label, message.limits_mv, message.simulated)
        if self._info is None:
            self._info = fresh
        elif (fresh.leads, fresh.rate_hz) != (self._info.leads, self._info.rate_hz):
            raise InputError(
                "leads-changed", "the peer came back with other leads or another rate; start it as a new source"
            )
        self.connections += 1
        self._backoff_s = BACKOFF_MIN_S
        return True

    def _fail(self, code: str) -> None:
        self.last_error = code
        self._drop()
        self._retry_ns = self._clock.monotonic_ns() + round(self._backoff_s * NS_PER_S)
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- samples and gaps

    def _take(self, wave: Wave) -> Block:
        now = self._clock.monotonic_ns()
        if self._offset is None:  # first wave of a connection: it follows whatever gap there was
            self._fill_index(now)
            self._offset = self._next - wave.start
        start = wave.start + self._offset
        if start < self._next:
            # Time was given away as missing while these samples were on their way, or the sender began again.
            self._offset = self._next - wave.start
            start = self._next
        self._next = start + wave.samples.shape[1]
        self._silence.broken(now)
        return Block(wave.samples, start, now)

    def _fill_index(self, now: int) -> None:
        """Move the index over time that no sample accounts for (from the second connection on)."""
        if self.connections > 1:
            self._next += max(1, self._silence.owed(now))
            self._silence.broken(now)

    def _missing(self, now: int) -> Block | None:
        given = self._silence.block(self._next, now)
        if given is None:
            return None
        block, self._next = given
        return block
