"""Made-up monitors that speak SDC: one for each bed of a ward, or one for an ECG. All they send says Demo.

Needs the extra ``sdc``. SDC has no gateway: a device connects to each monitor at an address of its own.
"""

from __future__ import annotations

import math
import threading
import uuid
from typing import TYPE_CHECKING, Self

import numpy as np

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import BEDS_MAX
from edgeward.testing.sdc_provider import LEADS, METRICS, SdcMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeward.bedside.source.base import Block, FloatArray, Source
    from edgeward.kernel.clock import Clock
    from edgeward.testing.gateway import SimulatedBed

_PORT_MAX = 65_535
_REPORT_S = 0.1
"""How much of an ECG a report holds: what monitors send."""
_SHORTEST_S = 0.05
"""A period of the course below this is not told faster: a provider makes XML of every value."""


class SdcWard:
    """A monitor for each of ``beds`` at ``urls`` from construction until ``close``; ``run`` plays them.

    ``port``: of the first bed, the others follow; 0 lets the system choose. ``speed``: seconds of the course per
    second. Raises ``ConfigError`` (``port``) where it cannot listen.
    """

    def __init__(
        self, beds: Sequence[SimulatedBed], clock: Clock, *, host: str, port: int, period_s: float, speed: float
    ) -> None:
        self._beds, self._clock = beds, clock
        self._period_s, self._speed = max(period_s, _SHORTEST_S), speed
        self._closed = threading.Event()
        self._monitors: list[SdcMonitor] = []
        self.sent = 0
        try:
            for number, bed in enumerate(beds):
                monitor = _monitor(host, port + number if port else 0, leads=())
                self._monitors.append(monitor)
                monitor.set_patient(bed.identifier)
                point_of_care, room, name = ([*bed.place.split("^"), "", ""])[:3]
                monitor.set_location(poc=point_of_care, room=room, bed=name)
        except BaseException:
            self.close()
            raise

    @property
    def urls(self) -> list[str]:
        """Where a device finds each bed."""
        return [monitor.url for monitor in self._monitors]

    def run(self, seconds: float | None = None) -> None:
        """Play until closed, or for ``seconds``."""
        began_ns, turn = self._clock.monotonic_ns(), 0
        while not self._closed.is_set():
            gone_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            if seconds is not None and gone_s >= seconds:
                return
            for bed, monitor in zip(self._beds, self._monitors, strict=True):
                self._say(bed, monitor, bed.begin_s + gone_s * self._speed)
            turn = max(turn + 1, math.ceil(gone_s / self._period_s))  # late: skip, do not hurry
            self._closed.wait(max(0.0, turn * self._period_s - (self._clock.monotonic_ns() - began_ns) / NS_PER_S))

    def _say(self, bed: SimulatedBed, monitor: SdcMonitor, at_s: float) -> None:
        values = {kind: value for kind, value in bed.player.at(at_s).items() if kind in METRICS}
        if values and not bed.player.silent(at_s):
            monitor.set_numerics(values)
            self.sent += 1

    def close(self) -> None:
        """Stop all monitors; may be called twice."""
        self._closed.set()
        while self._monitors:
            self._monitors.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SdcEcg:
    """A monitor at ``url`` that shows the ECG of ``source`` from construction until ``close``; ``run`` plays it.

    Raises ``ConfigError``: ``leads-unknown`` for leads without an MDC code, ``port`` where it cannot listen.
    """

    def __init__(self, source: Source, *, host: str, port: int) -> None:
        unknown = [lead for lead in source.info.leads if lead not in LEADS]
        if unknown:
            raise ConfigError("leads-unknown", f"SDC has no code for the lead {unknown[0]!r}; choose another source")
        self._source = source
        self._report = round(_REPORT_S * source.info.rate_hz)
        self._monitor = _monitor(host, port, leads=source.info.leads, rate_hz=source.info.rate_hz)
        self.url = self._monitor.url

    def run(self) -> None:
        """Send each block as it comes, until the source ends or is closed. What is missing is sent as invalid."""
        leads = self._source.info.leads
        for samples in self._reports():
            whole = np.isfinite(samples).all(axis=1)
            for valid, validity in ((True, "Vld"), (False, "Inv")):
                rows = np.flatnonzero(whole == valid)
                if rows.size:
                    self._monitor.send_waves(
                        np.nan_to_num(samples[rows]), validity=validity, leads=[leads[row] for row in rows]
                    )

    def _reports(self) -> Iterator[FloatArray]:
        """Samples (C, n) of about _REPORT_S each; a report never spans a gap."""
        held: list[Block] = []
        for block in self._source.blocks():
            follows = held and block.start == held[-1].start + held[-1].samples.shape[1]
            if held and (not follows or sum(one.samples.shape[1] for one in held) >= self._report):
                yield np.concatenate([one.samples for one in held], axis=1)
                held.clear()
            held.append(block)
        if held:
            yield np.concatenate([one.samples for one in held], axis=1)

    def close(self) -> None:
        """Stop the source and the monitor."""
        self._source.close()
        self._monitor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _monitor(host: str, port: int, *, leads: Sequence[str], rate_hz: float = 250.0) -> SdcMonitor:
    if not 0 <= port <= _PORT_MAX:
        raise ConfigError("port", f"there is no port {port}; choose one below {_PORT_MAX - BEDS_MAX}")
    # At a port of one's own choice the address is the same each time, so that it can stand in a device's settings.
    epr = uuid.uuid5(uuid.NAMESPACE_URL, f"sdc://{host}:{port}") if port else None
    try:
        return SdcMonitor(host=host, port=port, leads=leads, rate_hz=rate_hz, demo=True, epr=epr)
    except OSError as error:
        raise ConfigError("port", f"cannot listen at {host}:{port}: {error.strerror}; choose another port") from error
