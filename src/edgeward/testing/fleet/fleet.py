"""Thousands of simulated devices against a real server, over real HTTP, in one process and one event loop.

Devices are authenticated in one of two ways, which every report names: ``balancer``, as behind a balancer that ends TLS
and names each device's certificate in a header (for thousands), or ``mtls``, each with its own key over TLS 1.3 and the
device's own link code (for some dozens: each connection costs a handshake on either side).

Signed metadata are proven once per process, by the real client, and shared: what ten thousand proofs would cost is
theirs alone, each on its own machine. Bundles' bytes are fetched once and shared, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.fleet_link.core import Policy
from edgeward.exchange.checkin import ANSWER_BYTES_MAX, PATH, Answer
from edgeward.exchange.typed import decode, encode
from edgeward.kernel.errors import EdgewardError, InputError, TrustError
from edgeward.testing.fleet.device import SimulatedDevice, template_of
from edgeward.testing.fleet.faults import Faults, draw
from edgeward.testing.fleet.report import Figures, Traffic, figures, percentile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.testing.fleet.http import Pool
    from edgeward.trust.fetch import TrustClient
    from edgeward.trust.offer import Offer

REFRESH_S = 1.0
"""How often the shared client asks the repository; on the machine's clock."""
_SLICE_S = 0.01
_UNDER_WAY_MAX = 2_048


@dataclass(frozen=True, slots=True)
class Plan:
    """``devices`` that start within ``spread_s`` of each other, ``speed`` times life; ``length`` as for a device."""

    devices: int
    family: str
    speed: float = 1.0
    spread_s: float = 60.0
    length: int = 0
    faults: Faults = field(default_factory=Faults)


class FastClock:
    """The machine's clock, running ``speed`` times as fast; its wall time stays the machine's."""

    def __init__(self, speed: float) -> None:
        self._speed, self._began_ns = speed, time.monotonic_ns()

    def monotonic_ns(self) -> int:
        """Nanoseconds of simulated time."""
        return round((time.monotonic_ns() - self._began_ns) * self._speed) + 1

    def wall(self) -> datetime:
        """The machine's wall time: what the fleet compares a device's clock with."""
        return datetime.now(UTC)

    def real_s(self, simulated_ns: int) -> float:
        """Seconds of the machine's clock until ``simulated_ns``; negative when it is over."""
        return (simulated_ns - self.monotonic_ns()) / self._speed / 1e9


class SharedRepository:
    """One real client for all devices. ``named_ns``: when each version was first seen, on the machine's clock."""

    def __init__(self, client: TrustClient, family: str, folder: Path) -> None:
        self._client, self._family, self._folder = client, family, folder
        self._offer: Offer | TrustError = TrustError("repository-unreachable", "not asked yet")
        self._bytes: dict[str, bytes] = {}
        self.named_ns: dict[str, int] = {}
        self._one_at_a_time = threading.Lock()

    def refresh(self) -> None:
        """Prove the newest metadata and fetch what they name; from any thread."""
        with self._one_at_a_time:
            self._refresh()

    def _refresh(self) -> None:
        try:
            offer = self._client.latest(self._family)
            if offer.sha256 not in self._bytes:
                path = self._folder / f"{offer.sha256[:16]}.ewb"
                self._client.download(offer, path)
                raw = path.read_bytes()
                assert hashlib.sha256(raw).hexdigest() == offer.sha256, "the client checked it"
                self._bytes[offer.sha256] = raw
            self.named_ns.setdefault(offer.version, time.monotonic_ns())
            self._offer = offer
        except TrustError as error:
            self._offer = error

    def latest(self, name: str) -> Offer:
        """What was proven last."""
        if isinstance(self._offer, TrustError):
            raise self._offer
        if name != self._family:
            raise TrustError("bundle-not-published", f"this fleet simulates {self._family} alone")
        return self._offer

    def content(self, offer: Offer) -> bytes:
        """Its bytes."""
        return self._bytes[offer.sha256]


class Exchange(Protocol):
    """How a check-in gets to the server."""

    name: str

    async def check_in(self, device: SimulatedDevice, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; ``OSError`` when there is none."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(slots=True)
class BalancerExchange:
    """Plain HTTP over a few kept connections, the device's certificate named in ``header``."""

    pool: Pool
    header: str
    name: str = "authenticated as behind a balancer that ends TLS"

    async def check_in(self, device: SimulatedDevice, body: bytes) -> tuple[int, bytes]:
        """One request."""
        return await self.pool.post(PATH, body, {self.header: device.certificate})

    async def close(self) -> None:
        """Close the pool."""
        await self.pool.close()


class SimulatedFleet:
    """All devices of ``plan``; ``certificates``: SHA-256 of each one's, in their order."""

    def __init__(self, plan: Plan, repository: SharedRepository, exchange: Exchange, certificates: list[str]) -> None:
        self._plan, self._repository, self._exchange = plan, repository, exchange
        self.clock = FastClock(plan.speed)
        self.traffic = Traffic()
        self._dice = random.Random(f"{plan.faults.seed}/messages")
        template = template_of(repository.content(repository.latest(plan.family)))
        policy = Policy(first_s=plan.spread_s)
        self.devices = [
            SimulatedDevice(
                number,
                plan.family,
                template,
                repository,
                self.clock,
                plan.faults,
                draw(plan.faults, number),
                policy=policy,
                length=plan.length,
                real_ns=time.monotonic_ns,
            )
            for number in range(plan.devices)
        ]
        for device, certificate in zip(self.devices, certificates, strict=True):
            device.certificate = certificate
        self._began = time.monotonic()
        self._queue: list[tuple[int, int, int]] = []
        self._ticket: dict[int, int] = {}
        self._tickets = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def figures(self) -> Figures:
        """What it came to so far."""
        return figures(
            self.devices,
            self.traffic,
            self._repository.named_ns,
            seconds=time.monotonic() - self._began,
            speed=self._plan.speed,
            authenticated=self._exchange.name,
        )

    def glance(self) -> str:
        """How it goes, in a line."""
        versions = Counter(slot.version for device in self.devices if (slot := device.slots.active()) is not None)
        running = ", ".join(f"{version} on {count:,}" for version, count in sorted(versions.items()))
        lately = self.traffic.ms[-1_000:]
        failed = sum(self.traffic.failures.values())
        return f"{running}; {len(self.traffic.ms):,} check-ins, p99 {percentile(lately, 0.99):g} ms, failed {failed:,}"

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Until ``is_over``, which is asked some times a second; connections are closed then."""
        self._began = time.monotonic()
        refreshing = asyncio.create_task(self._refresh())
        try:
            for device in self.devices:
                self._schedule(device)
            while not is_over():
                await self._turn()
        finally:
            for task in (refreshing, *self._tasks):
                task.cancel()
            await asyncio.gather(refreshing, *self._tasks, return_exceptions=True)
            await self._exchange.close()

    async def _turn(self) -> None:
        """Whatever is due, a slice at a time, so that answers are heard between."""
        until = time.monotonic() + _SLICE_S
        wait_s = 0.25
        while self._queue and time.monotonic() < until:
            due_ns, ticket, number = self._queue[0]
            if self._ticket[number] != ticket:
                heapq.heappop(self._queue)  # it was scheduled anew meanwhile
                continue
            left_s = self.clock.real_s(due_ns)
            if left_s > 0 or len(self._tasks) >= _UNDER_WAY_MAX:
                wait_s = min(max(left_s, 0.001), wait_s)
                break
            heapq.heappop(self._queue)
            self._serve(self.devices[number], -left_s)
        else:
            wait_s = 0.0 if self._queue else wait_s
        self._changed.clear()
        began = time.monotonic()
        if wait_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)
        else:
            await asyncio.sleep(0)
        self.traffic.lag_ms.append(max(0.0, 1_000.0 * (time.monotonic() - began - wait_s)))

    def _serve(self, device: SimulatedDevice, late_s: float) -> None:
        message = device.turn()
        if message is not None:
            if device.knows_time:
                body = encode(message)
                task = asyncio.create_task(self._send(device, body, time.monotonic() - late_s))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self.traffic.failures["clock-wrong"] += 1  # TLS would not come about
                device.failed()
        self._schedule(device)

    def _schedule(self, device: SimulatedDevice) -> None:
        ticket = self._ticket[device.number] = next(self._tickets)
        heapq.heappush(self._queue, (device.due_ns, ticket, device.number))

    async def _send(self, device: SimulatedDevice, body: bytes, due: float) -> None:
        boots, faults = device.boots, self._plan.faults
        is_lost, is_doubled = self._dice.random() < faults.lost, self._dice.random() < faults.doubled
        try:
            if is_doubled:
                await self._exchange.check_in(device, body)
            status, said = await self._exchange.check_in(device, body)
        except OSError as error:
            status, said = 0, type(error).__name__.encode()
        ms = 1_000.0 * (time.monotonic() - due)
        if device.boots != boots:
            return  # the device lost power while it waited
        if is_lost:
            status, said = 0, b"lost"
        self._heard(device, status, said, ms)
        self._schedule(device)
        self._changed.set()

    def _heard(self, device: SimulatedDevice, status: int, said: bytes, ms: float) -> None:
        if status == 200:
            try:
                answer = decode(Answer, said, bytes_max=ANSWER_BYTES_MAX)
            except InputError:
                self.traffic.failures["unreadable"] += 1
                device.failed()
                return
            self.traffic.ms.append(ms)
            device.answered(answer)
            return
        self.traffic.failures[said.decode(errors="replace") if not status else f"http-{status}"] += 1
        device.failed(shut_out=status in {401, 403})

    async def _refresh(self) -> None:
        while True:
            with contextlib.suppress(EdgewardError):
                await asyncio.to_thread(self._repository.refresh)
            await asyncio.sleep(REFRESH_S)
