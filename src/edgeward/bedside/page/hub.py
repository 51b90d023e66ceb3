"""What runs on the page server's own thread: the state, the connections, and one request each.

Everything here belongs to one asyncio loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.request import REQUEST_BYTES_MAX, Refusal, admit, body_length, parse, refuse, stream_head
from edgeward.bedside.page.screen import event, json_answer, not_found, plain
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping

    from edgeward.bedside.page.request import Request
    from edgeward.bedside.page.screen import Screen

STREAMS_MAX = 32
"""Browsers that may follow the page at once."""
CONNECTIONS_MAX = 96
REQUEST_WAIT_S = 5.0
"""A connection that has not sent its request, or not read its answer, by then is closed."""
TICK_S = 0.04
"""How long a published datum may wait; short beside the strip's own 0.3 s."""
PING_S = 0.5
"""A browser that hears nothing for three of these says that it is no longer live."""
STREAM_BUFFER_BYTES_MAX = 262_144
STREAM_STUCK_S = 5.0
"""A browser whose buffer has not once been empty for so long is dropped; it comes back by itself and starts afresh."""
KERNEL_BUFFER_BYTES = 65_536
QUIET_S_MAX = 5.0
"""/healthz turns to 503 when nothing has been published for so long."""

Published = tuple[float, str, "Mapping[str, Any]"]
"""Monotonic ms, kind, datum."""


class Hub:
    """Hands what was published to the screen and answers browsers; lives on the loop's thread."""

    def __init__(self, screen: Screen, inbox: deque[Published], names: frozenset[str]) -> None:
        self.connections: set[Connection] = set()
        self.rejected = 0
        self.dropped_streams = 0
        self._streams: dict[str, set[Connection]] = {}
        self._inbox = inbox
        self._names = names
        self._screen = screen
        self._published_ms = self._pinged_ms = now_ms()
        self._boot = secrets.token_hex(8)

    def tick(self) -> None:
        """Take what has been published, and let every browser hear that the server lives; then again after TICK_S.

        The inbox is looked into rather than waited on: waking this thread would cost the publishing one a system call
        and the interpreter's lock (about 90 µs), for data that the strip holds back 300 ms anyway.
        """
        asyncio.get_running_loop().call_later(TICK_S, self.tick)
        self._drain()
        at_ms = now_ms()
        chunks: dict[str, list[bytes]] = {}
        for channel, kind, data in self._screen.news(self._streams.keys(), at_ms):
            chunks.setdefault(channel, []).append(event(kind, data))
        for channel, chunk in chunks.items():
            self._send(channel, b"".join(chunk), at_ms)
        if at_ms - self._pinged_ms >= PING_S * 1000:
            self._pinged_ms = at_ms
            for channel in tuple(self._streams):
                self._send(channel, self._ping_event(at_ms), at_ms)

    def _drain(self) -> None:
        for _ in range(len(self._inbox)):  # what comes meanwhile waits for the next tick
            at_ms, kind, data = self._inbox.popleft()
            self._published_ms = at_ms
            try:
                self._screen.apply(kind, plain(data), at_ms)
            except (InputError, TypeError, ValueError, LookupError, AttributeError, RecursionError):
                self.rejected += 1  # what cannot be shown never stops what can

    def _ping_event(self, at_ms: float) -> bytes:
        return event("ping", {"t_ms": round(at_ms, 1), "quiet_ms": round(at_ms - self._published_ms)})

    def _send(self, channel: str, chunk: bytes, at_ms: float) -> None:
        for stream in tuple(self._streams.get(channel, ())):
            if not stream.send(chunk, at_ms):
                self.dropped_streams += 1
                self._leave(stream)
                stream.drop()

    def _answer(self, request: Request) -> bytes:
        if request.path == "/clock":
            return json_answer({"t_ms": round(now_ms(), 1)})
        if request.path == "/healthz":
            return self._health()
        return self._screen.answer(request, now_ms()) or not_found()

    def _health(self) -> bytes:
        quiet_ms = round(now_ms() - self._published_ms)
        quiet = quiet_ms > QUIET_S_MAX * 1000
        body = {
            "status": "quiet" if quiet else "ok",
            "quiet_ms": quiet_ms,
            "streams": self._followers(),
            "rejected": self.rejected,
            "dropped_streams": self.dropped_streams,
        }
        return json_answer(body, HTTPStatus.SERVICE_UNAVAILABLE if quiet else HTTPStatus.OK)

    def _followers(self) -> int:
        return sum(len(streams) for streams in self._streams.values())

    def _first_chunk(self, channel: str) -> bytes:
        at_ms = now_ms()
        sync = {"t_ms": round(at_ms, 1), "boot": self._boot, **self._screen.greeting()}
        chunks = [event("sync", sync), *(event(kind, data) for kind, data in self._screen.joining(channel, at_ms))]
        return b"".join(chunks) + self._ping_event(at_ms)

    def admit(self, head: bytes) -> tuple[Request, int] | Refusal:
        """The request of a head and how many bytes of body it still needs; a Refusal where it gets no page."""
        request = parse(head)
        if isinstance(request, Refusal):
            return request
        page = self._screen.is_page(request.path)
        refusal = admit(request, self._names, page=page, methods=self._screen.methods)
        length = refusal or body_length(request)
        return length if isinstance(length, Refusal) else (request, length)

    def handle(self, connection: Connection, request: Request) -> None:
        """Answer one admitted request."""
        channel = self._screen.channel(request.path) if request.method == "GET" else None
        if channel is None:
            connection.finish(self._answer(request))
        elif self._followers() >= STREAMS_MAX:
            why = f"{STREAMS_MAX} browsers follow this device's pages already"
            connection.finish(refuse(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, why)))
        else:
            connection.start_stream(self._first_chunk(channel))
            self._streams.setdefault(channel, set()).add(connection)

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        for channel, streams in tuple(self._streams.items()):
            streams.discard(connection)
            if not streams:
                del self._streams[channel]


class Connection(asyncio.Protocol):
    """One browser connection: a single request, then its answer or the stream."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._received = bytearray()
        self._request: Request | None = None
        self._body_length = 0
        self._answered = False
        self._empty_ms = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request, but not for ever."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_WAIT_S, self.drop)
        self._hub.connections.add(self)
        if len(self._hub.connections) > CONNECTIONS_MAX:
            self.drop()

    def data_received(self, data: bytes) -> None:
        """Gather the request: its head, and a body only where one is wanted."""
        if self._answered:
            return  # neither pipelining nor an unwanted body is spoken here
        self._received += data
        if self._request is None and not self._take_head():
            return
        if self._request is not None and len(self._received) >= self._body_length:
            self._hub.handle(self, replace(self._request, body=bytes(self._received[: self._body_length])))

    def _take_head(self) -> bool:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if len(head) > REQUEST_BYTES_MAX:
            self.finish(refuse(Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long")))
        elif end:
            admitted = self._hub.admit(bytes(head))
            if isinstance(admitted, Refusal):
                self.finish(refuse(admitted))
                return False
            self._request, self._body_length = admitted
            self._received = rest
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The browser has gone."""
        self._deadline.cancel()
        self._hub.forget(self)

    def finish(self, whole_answer: bytes) -> None:
        """Send the answer and close; the deadline still holds for a browser that does not read it."""
        self._answered = True
        self._transport.write(whole_answer)
        self._transport.close()

    def start_stream(self, first_chunk: bytes) -> None:
        """Begin the stream of server-sent events."""
        self._answered = True
        self._deadline.cancel()
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        self._empty_ms = now_ms()
        self._transport.write(
            stream_head(HTTPStatus.OK, "text/event-stream", "X-Accel-Buffering: no\r\n") + first_chunk
        )

    def send(self, chunk: bytes, at_ms: float) -> bool:
        """Hand a chunk to the browser; False where it has not read for too long and must be dropped."""
        waiting = self._transport.get_write_buffer_size()
        if waiting == 0:
            self._empty_ms = at_ms
        elif waiting > STREAM_BUFFER_BYTES_MAX or at_ms - self._empty_ms > STREAM_STUCK_S * 1000:
            return False
        self._transport.write(chunk)
        return True

    def drop(self) -> None:
        """End the connection at once, unsent bytes or not."""
        self._transport.abort()


def now_ms() -> float:
    """Monotonic milliseconds of this device."""
    return time.monotonic_ns() / 1e6
