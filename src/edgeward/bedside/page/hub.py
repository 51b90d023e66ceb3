"""What runs on the page server's own thread: the state, the connections, and one request each.

Everything here belongs to one asyncio loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import socket
import time
from http import HTTPStatus
from string import Template
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.html import STATIC_TYPES, render, static_bytes
from edgeward.bedside.page.request import REQUEST_BYTES_MAX, Refusal, Request, admit, answer, parse, refuse, stream_head
from edgeward.bedside.page.state import PageState
from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping

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

_JSON = "application/json"

Published = tuple[float, str, "Mapping[str, Any]"]
"""Monotonic ms, kind, datum."""


class Hub:
    """Takes what was published, keeps the state and answers browsers; lives on the loop's thread."""

    def __init__(self, hello: Mapping[str, Any], inbox: deque[Published], names: frozenset[str]) -> None:
        self.connections: set[Connection] = set()
        self.rejected = 0
        self.dropped_streams = 0
        self._streams: set[Connection] = set()
        self._inbox = inbox
        self._names = names
        self._state = PageState(hello, now_ms())
        self._published_ms = self._pinged_ms = now_ms()
        self._boot = secrets.token_hex(8)
        self._static = {name: static_bytes(name) for name in STATIC_TYPES}
        page = static_bytes("page.html")
        self._template = Template(page.decode())
        self._look = hashlib.sha256(page + b"".join(self._static.values())).hexdigest()[:12]

    def tick(self) -> None:
        """Take what has been published, and let every browser hear that the server lives; then again after TICK_S.

        The inbox is looked into rather than waited on: waking this thread would cost the publishing one a system call
        and the interpreter's lock (about 90 µs), for data that the strip holds back 300 ms anyway.
        """
        asyncio.get_running_loop().call_later(TICK_S, self.tick)
        self._drain()
        at_ms = now_ms()
        if at_ms - self._pinged_ms >= PING_S * 1000:
            self._pinged_ms = at_ms
            self._send_all(self._ping_event(at_ms))

    def _drain(self) -> None:
        chunks: list[bytes] = []
        for _ in range(len(self._inbox)):  # what comes meanwhile waits for the next tick
            at_ms, kind, data = self._inbox.popleft()
            self._published_ms = at_ms
            try:
                chunks.append(_event(kind, self._state.apply(kind, data, at_ms)))
            except (InputError, TypeError, ValueError, LookupError, AttributeError):
                self.rejected += 1  # what cannot be shown never stops what can
        if chunks:
            self._send_all(b"".join(chunks))

    def _ping_event(self, at_ms: float) -> bytes:
        return _event("ping", {"t_ms": round(at_ms, 1), "quiet_ms": round(at_ms - self._published_ms)})

    def _send_all(self, chunk: bytes) -> None:
        at_ms = now_ms()
        for stream in tuple(self._streams):
            if not stream.send(chunk, at_ms):
                self.dropped_streams += 1
                self._streams.discard(stream)
                stream.drop()

    def _answer(self, request: Request) -> bytes | None:
        """The answer to an admitted request; None for the stream."""
        path = request.path
        if path == "/events":
            return None
        if path == "/":
            page = render(self._template, self._state.as_json(now_ms()))
            return answer(HTTPStatus.OK, "text/html; charset=utf-8", page)
        if path == "/state.json":
            return answer(HTTPStatus.OK, _JSON, _json(self._state.as_json(now_ms())))
        if path == "/clock":
            return answer(HTTPStatus.OK, _JSON, _json({"t_ms": round(now_ms(), 1)}))
        if path == "/healthz":
            return self._health()
        name = path.removeprefix("/static/")
        if name != path and name in self._static:
            return answer(HTTPStatus.OK, STATIC_TYPES[name], self._static[name])
        return refuse(Refusal(HTTPStatus.NOT_FOUND, "no such page"))

    def _health(self) -> bytes:
        quiet_ms = round(now_ms() - self._published_ms)
        quiet = quiet_ms > QUIET_S_MAX * 1000
        status = HTTPStatus.SERVICE_UNAVAILABLE if quiet else HTTPStatus.OK
        body = {
            "status": "quiet" if quiet else "ok",
            "quiet_ms": quiet_ms,
            "streams": len(self._streams),
            "rejected": self.rejected,
            "dropped_streams": self.dropped_streams,
        }
        return answer(status, _JSON, _json(body))

    def _first_chunk(self) -> bytes:
        at_ms = now_ms()
        sync = {"t_ms": round(at_ms, 1), "boot": self._boot, "look": self._look}
        chunks = [_event("sync", sync), *(_event(kind, data) for kind, data in self._state.joining(at_ms))]
        return b"".join(chunks) + self._ping_event(at_ms)

    def handle(self, connection: Connection, head: bytes) -> None:
        """Answer one request."""
        parsed = parse(head)
        refusal = parsed if isinstance(parsed, Refusal) else admit(parsed, self._names)
        if refusal is None and isinstance(parsed, Request):
            body = self._answer(parsed)
            if body is not None:
                connection.finish(body)
                return
            if len(self._streams) < STREAMS_MAX:
                connection.start_stream(self._first_chunk())
                self._streams.add(connection)
                return
            refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{STREAMS_MAX} browsers follow this page already")
        assert refusal is not None
        connection.finish(refuse(refusal))

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._streams.discard(connection)


class Connection(asyncio.Protocol):
    """One browser connection: a single request, then its answer or the stream."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._head = bytearray()
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
        """Gather the request's head; a body is never read."""
        if self._answered:
            return  # neither pipelining nor a body is spoken here
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if len(head) > REQUEST_BYTES_MAX:
            self.finish(refuse(Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long")))
        elif end:
            self._hub.handle(self, bytes(head))

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


def _event(kind: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _json(data))


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """Numpy's scalars and arrays, without importing numpy; TypeError for everything else."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError("not JSON")
