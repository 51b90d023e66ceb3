"""Where SDC devices report to: one thread, one asyncio loop, one HTTP(S) server for all of them.

A report is read on this thread and handed to whoever registered its path; questions to devices are asked elsewhere
(``sdc_link``), and their answers come here too, so that everything known of a device lives on one thread.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.source.http import HttpServer, Peer
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.wire.http1 import Head, Request, Response
from edgeward.wire.sdc import Message, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.source.sdc_session import SdcTls
    from edgeward.kernel.clock import Clock

REPORT_BYTES_MAX = 1 << 20
"""A report of every metric of a large monitor takes about 200 kB."""
CLOSE_S_MAX = 5.0
_TAKEN = Response(HTTPStatus.ACCEPTED)
_NOBODY = Response(HTTPStatus.NOT_FOUND)


class Subscriber(Protocol):
    """Who is reported to, on the hub's thread."""

    def reported(self, message: Message, received_ns: int) -> None:
        """A report came."""
        ...

    def unreadable(self, code: str) -> None:
        """A report came that cannot be read."""
        ...

    def hung_up(self) -> None:
        """A connection over which reports came is gone: the device may be, too."""
        ...


class SdcHub:
    """The thread. ``host`` and ``port``: where devices reach this one; port 0 lets the system choose.

    ConfigError ``http-address`` from ``start`` where the address cannot be had.
    """

    def __init__(self, clock: Clock, *, host: str = "0.0.0.0", port: int = 0, tls: SdcTls | None = None) -> None:  # noqa: S104
        self._clock = clock
        self._subscribers: dict[str, Subscriber] = {}
        self._paths: dict[int, str] = {}  # of the connection (its Peer's id) over which a subscriber was reported to
        self._scheme = "http" if tls is None else "https"
        self._server = HttpServer(
            self, host=host, port=port, tls=tls.server_context if tls else None, body_bytes_max=REPORT_BYTES_MAX
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="sdc-hub", daemon=True)
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self.foreign = 0
        """Requests that were for nobody."""

    @property
    def address(self) -> str:
        """What a device is told, but for the host, which depends on the way to it."""
        return f"{self._scheme}://0.0.0.0:{self._server.port}/"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._loop = self._started.result()

    def close(self) -> None:
        """Stop listening and end the thread. May be called twice, and before ``start``."""
        if self._thread.is_alive():
            self.call(self._closing.set)
            self._thread.join(CLOSE_S_MAX)

    def call(self, what: Callable[..., None], *arguments: object) -> None:
        """Have ``what`` called on the hub's thread; nothing happens before ``start`` and after ``close``."""
        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            if loop is None or not loop.is_closed():
                raise

    def register(self, path: str, subscriber: Subscriber) -> None:
        """Give every report under ``/path/`` to ``subscriber``. Any thread."""
        self._subscribers[path] = subscriber

    def unregister(self, path: str) -> None:
        """Give none any more. Any thread."""
        self._subscribers.pop(path, None)

    # --- the server's handler

    def admit(self, head: Head, peer: Peer) -> Response | None:  # noqa: ARG002
        """Refuse whatever is no report for somebody."""
        if head.method != "POST" or self._path(head) not in self._subscribers:
            self.foreign += 1
            return _NOBODY
        return None

    async def handle(self, request: Request, peer: Peer) -> Response:
        """Take one report. It is acknowledged before it is acted on: a slow rim must not slow the device."""
        received_ns = self._clock.monotonic_ns()
        path = self._path(request.head)
        subscriber = self._subscribers.get(path)
        if subscriber is None:
            return _NOBODY
        self._paths[id(peer)] = path
        try:
            message = decode(request.body)
        except InputError as error:
            subscriber.unreadable(error.code)
            return Response(HTTPStatus.BAD_REQUEST)
        subscriber.reported(message, received_ns)
        return _TAKEN

    def closed(self, peer: Peer) -> None:
        """A connection is gone."""
        subscriber = self._subscribers.get(self._paths.pop(id(peer), ""))
        if subscriber is not None:
            subscriber.hung_up()

    def failed(self, response: Response) -> Response:
        """Refusals carry no body: SOAP faults would say no more."""
        return Response(response.status)

    @staticmethod
    def _path(head: Head) -> str:
        return head.path.split("/", 2)[1]

    # --- the thread

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.start()
        except ConfigError as error:
            self._started.set_exception(error)
            return
        self._started.set_result(asyncio.get_running_loop())
        await self._closing.wait()
        await self._server.close()


def wall_ns(clock: Clock) -> int:
    """Wall time in ns since 1970: what a device's timestamps are compared with."""
    return round(clock.wall().timestamp() * 1e9)
