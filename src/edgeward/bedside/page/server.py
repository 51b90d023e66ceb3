"""The pages' server: one thread, one asyncio loop, standard library only.

``publish`` appends to a bounded inbox and returns: no system call, no lock. The server's own thread looks into the
inbox every TICK_S, encodes and sends. A browser that does not read is dropped, never waited for.

Plain HTTP without a login: meant for the device's own screen (loopback). Another host is a decision of the site, which
then stands behind a network of its own or a proxy that encrypts; only names given in ``names`` are answered.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from edgeward.bedside.page.deed import SUSPEND_MINUTES_MAX
from edgeward.bedside.page.hub import Connection, Hub, Published, now_ms
from edgeward.bedside.page.request import LOOPBACK_NAMES, host_name
from edgeward.bedside.page.state import KINDS
from edgeward.bedside.page.strip_screen import StripScreen
from edgeward.bedside.page.ward import WARD_KINDS
from edgeward.bedside.page.ward_screen import Act, WardScreen
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeward.bedside.page.screen import Screen

INBOX_MAX = 4_096
"""Data that wait for the server's thread: minutes of them; should it stall longer, the oldest are lost."""
CLOSE_S_MAX = 3.0
CLOSE_ROUNDS_MAX = 100


class Server:
    """Serves one screen at ``url`` from construction until ``close``.

    ``kinds``: what may be published. ``names``: further Host names that are answered besides loopback and ``host``
    itself. ConfigError ``page-port-in-use`` or ``page-address`` where the address cannot be had.
    """

    def __init__(self, host: str, port: int, screen: Screen, kinds: frozenset[str], names: Iterable[str]) -> None:
        self._kinds = kinds
        self._inbox: deque[Published] = deque(maxlen=INBOX_MAX)
        shown = f"[{host}]" if ":" in host else host
        known = LOOPBACK_NAMES | {host_name(shown)} | {host_name(name) for name in names}
        self._hub = Hub(screen, self._inbox, known)
        self._socket = _listen(host, port)
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"
        self._closed = False
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="edgeward-page", daemon=True)
        self._thread.start()

    @property
    def rejected(self) -> int:
        """Data that could not be shown: a field missing, of another type, or not JSON."""
        return self._hub.rejected

    @property
    def dropped_streams(self) -> int:
        """Browsers dropped because they did not read."""
        return self._hub.dropped_streams

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        """Hand over one datum and return at once; any thread; it must not be changed afterwards.

        Its cost does not depend on the browsers. A datum that cannot be shown is counted in ``rejected``; after
        ``close`` nothing happens. ConfigError ``page-kind`` for a kind that the page does not know: a caller's mistake.
        """
        if kind not in self._kinds:
            raise ConfigError(
                "page-kind", f"the page knows no such kind of datum; use one of {', '.join(sorted(self._kinds))}"
            )
        if not self._closed:
            self._inbox.append((now_ms(), kind, data))

    def close(self) -> None:
        """Stop serving within CLOSE_S_MAX, whoever is connected. May be called twice."""
        self._closed = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_S_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        hub = self._hub
        server = await self._loop.create_server(lambda: Connection(hub), sock=self._socket, backlog=64)
        hub.tick()
        await self._stop.wait()
        # asyncio leaks a socket that is being accepted while its server closes (the transport's _attach asserts), so
        # accepting ends first; what was being accepted becomes a connection and is closed like the others.
        self._loop.remove_reader(self._socket)
        for _ in range(CLOSE_ROUNDS_MAX):
            for connection in tuple(hub.connections):
                connection.drop()
            await asyncio.sleep(0)
            if len(asyncio.all_tasks()) == 1 and not hub.connections:
                break
        server.close()


class PageServer(Server):
    """Serves the page of one bed with an ECG; read-only: no request changes anything on the device.

    ``hello`` as in the page's interface: site, bed, leads (at most two are shown), bundle, budget_ms, simulated, and
    optionally rate_ttl_ms. ``host``, ``port``, ``names`` and errors as for ``Server``.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        hello: Mapping[str, Any] | None = None,
        *,
        names: Iterable[str] = (),
    ) -> None:
        super().__init__(host, port, StripScreen(hello or {}, now_ms()), KINDS, names)


class WardServer(Server):
    """Serves a ward's page at ``url`` and each bed's at ``beds/<bed>`` below it.

    ``hello`` and everything published as in docs/messages.md. ``act`` (see ``Act``): without it the pages change
    nothing on the device. ``suspend_minutes``: what a person may choose from, the first being offered. ``host``,
    ``port``, ``names`` and errors as for ``Server``; ConfigError ``page-suspend-minutes`` for minutes outside 1 to 60.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        hello: Mapping[str, Any] | None = None,
        *,
        names: Iterable[str] = (),
        act: Act | None = None,
        suspend_minutes: Iterable[int] = (2, 5, 10),
    ) -> None:
        minutes = tuple(suspend_minutes)
        if not minutes or not all(1 <= choice <= SUSPEND_MINUTES_MAX for choice in minutes):
            raise ConfigError(
                "page-suspend-minutes",
                f"alerts are suspended for 1 to {SUSPEND_MINUTES_MAX} minutes: give at least one such choice",
            )
        self._screen = WardScreen(hello or {}, now_ms(), act, minutes)
        super().__init__(host, port, self._screen, WARD_KINDS, names)

    @property
    def failed_acts(self) -> int:
        """How often ``act`` ended in a fault that is no ``EdgewardError``."""
        return self._screen.failed_acts


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    refused = ConfigError(
        "page-address",
        "the page cannot listen at its host and port: use an address of this device and a port from 1024 to 65535",
    )
    if not 0 <= port <= 65_535:
        raise refused
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                "page-port-in-use",
                f"port {port} is in use: stop the other process or choose another port for the page (0 takes any)",
            ) from error
        raise refused from error
