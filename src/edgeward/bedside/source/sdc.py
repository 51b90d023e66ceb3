"""IEEE 11073 SDC monitors as a source of readings: numerics, patients and places of any number of devices.

Devices report on a thread of their own (``sdc_hub``); what they say is read there and crosses to the rim's asyncio
loop through one bounded queue, with one wake-up for however much has gathered. A rim that cannot take a reading now
gets it again a moment later. When the queue is full the oldest numerics go, and are counted; word of who lies where
is never dropped.

ECG waves do not pass through here: the process that judges them connects by itself (``sdc_waves``).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from edgeward.bedside.source.reading import Reading, Receipt, Refusal
from edgeward.bedside.source.sdc_hub import SdcHub, wall_ns
from edgeward.bedside.source.sdc_link import Listener, SdcLink
from edgeward.bedside.source.sdc_mdib import Need
from edgeward.bedside.source.sdc_numerics import WANTED, SdcNumerics
from edgeward.kernel.errors import ConfigError
from edgeward.wire.codes import CodeTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeward.bedside.source.reading import Rim
    from edgeward.bedside.source.sdc_link import SdcAddress
    from edgeward.bedside.source.sdc_session import SdcTls
    from edgeward.kernel.clock import Clock
    from edgeward.wire.sdc import Message

DEVICES_MAX = 128
QUEUE_MAX = 4_096
"""Readings that wait for the rim: a minute of 64 devices that report once a second."""
TURN_MAX = 128
"""Readings given in one turn of the rim's loop; then others have theirs."""
RETRY_S = 0.1
_Item = Reading | tuple[str, bool]


class SdcSource:
    """Listens to SDC devices and gives their readings to ``rim``, on the loop on which ``start`` is called.

    ``host``, ``port``: where devices reach this one. ``codes``: the site's table. ``ConfigError``: ``sdc-devices``,
    ``sdc-address``, ``sdc-not-installed``; from ``start`` also ``http-address``.
    """

    def __init__(
        self,
        addresses: Sequence[SdcAddress],
        rim: Rim,
        clock: Clock,
        *,
        codes: CodeTable | None = None,
        tls: SdcTls | None = None,
        host: str = "0.0.0.0",  # noqa: S104  # whichever interface a device is reached by; TLS says who may
        port: int = 0,
    ) -> None:
        from edgeward.bedside.source import sdc_session  # noqa: F401  # says at once that the library is missing

        if not 1 <= len(addresses) <= DEVICES_MAX or len({address.name for address in addresses}) < len(addresses):
            raise ConfigError("sdc-devices", f"name 1 to {DEVICES_MAX} SDC devices, each once")
        self._rim, self._clock = rim, clock
        self._hub = SdcHub(clock, host=host, port=port, tls=tls)
        self._queue: deque[_Item] = deque()
        self._lock = threading.Lock()
        self._woken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.dropped = 0
        """Readings that were lost because the rim did not keep up."""
        table = codes or CodeTable()
        self.devices = tuple(_Device(address, self.put, self._hub, clock, table, tls) for address in addresses)

    async def start(self) -> None:
        """Begin to listen and to connect."""
        self._loop = asyncio.get_running_loop()
        self._hub.start()
        for device in self.devices:
            device.link.start()

    async def close(self) -> None:
        """End all connections, for a bounded time; nothing is given to the rim after it."""
        loop, self._loop = self._loop, None
        if loop is not None:
            await asyncio.gather(*(loop.run_in_executor(None, device.link.close) for device in self.devices))
            await loop.run_in_executor(None, self._hub.close)
        else:
            self._hub.close()

    # --- the hand-over

    def put(self, item: _Item) -> None:
        """Queue one item for the rim and wake its loop; from the hub's thread."""
        with self._lock:
            if len(self._queue) >= QUEUE_MAX and not self._make_room():
                return
            self._queue.append(item)
            if self._woken:
                return
            self._woken = True
        self._wake(0.0)

    def _make_room(self) -> bool:
        self.dropped += 1
        for index, item in enumerate(self._queue):
            if isinstance(item, Reading) and item.change is None:
                del self._queue[index]
                return True
        return False  # thousands of patients came and went, and the rim took none of them

    def _wake(self, after_s: float) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            if after_s:
                loop.call_later(after_s, self._drain)
            else:
                loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the rim's loop has ended: nobody is left to tell
            self._loop = None

    def _drain(self) -> None:
        """On the rim's loop: give what is queued, a bounded number at a time."""
        for _ in range(TURN_MAX):
            with self._lock:
                if not self._queue or self._loop is None:
                    self._woken = False
                    return
                item = self._queue[0]
            if isinstance(item, Reading):
                if self._rim.take(item) is Receipt.LATER:
                    self._wake(RETRY_S)
                    return
            else:
                self._rim.peer("sdc", item[0], connected=item[1])
            with self._lock:
                if self._queue and self._queue[0] is item:
                    self._queue.popleft()
        self._wake(0.0)


class _Device(Listener):
    """One device: its link, and what its messages mean. Everything runs on the hub's thread."""

    def __init__(
        self,
        address: SdcAddress,
        put: Callable[[_Item], None],
        hub: SdcHub,
        clock: Clock,
        codes: CodeTable,
        tls: SdcTls | None,
    ) -> None:
        self._put, self._clock = put, clock
        self._name = address.name
        self._numerics = SdcNumerics(address.name, codes)
        self._connected = False
        self.link = SdcLink(address, self, hub, clock, wanted=WANTED, tls=tls)

    def asked(self) -> None:
        """The MDIB is about to be asked for."""
        self._numerics.asked()

    def loaded(self, answers: Sequence[Message], received_ns: int) -> None:
        """A fresh MDIB."""
        if not self._connected:
            self._connected = True
            self._put((self._name, True))
        self._give(self._numerics.load(answers, received_ns, wall_ns(self._clock)))

    def reported(self, message: Message, received_ns: int) -> None:
        """A report."""
        self._give(self._numerics.report(message, received_ns, wall_ns(self._clock)))

    def answered(self, message: Message, received_ns: int) -> None:
        """An answer to a question for states."""
        readings, silent = self._numerics.answer(message, received_ns, wall_ns(self._clock))
        self._give(readings)
        if silent:
            self.link.renew("sdc-silent")

    def lost(self, code: str) -> None:
        """The connection is given up."""
        self._numerics.lost()
        if self._connected:
            self._connected = False
            self._put((self._name, False))
        self.unreadable(code)

    def unreadable(self, code: str) -> None:
        """Something came, or failed to come, that the page of refusals should show."""
        now = self._clock.monotonic_ns()
        self._put(Reading("sdc", "", self._name, now, refusals=(Refusal(code),)))

    def of_interest(self) -> Sequence[str]:
        """Metrics that are read, and contexts."""
        return self._numerics.of_interest

    def _give(self, readings: list[Reading]) -> None:
        for reading in readings:
            self._put(reading)
        if self._numerics.need is Need.RELOAD:
            self.link.reload()
        elif self._numerics.need is Need.RECONNECT:
            self.link.renew("sdc-restarted")
