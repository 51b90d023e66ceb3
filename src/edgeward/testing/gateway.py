"""A made-up gateway: the monitors of several beds as one HL7 v2 sender over MLLP, as hospitals have them.

Each bed plays somebody who gives numerics by time (``patients.Patient`` or a replayed stay). The gateway admits its
patients, sends an ORU^R01 per bed and period, waits for each acknowledgement, connects again when the line is lost, and
says "T" (training) in MSH-11, so that whatever it sends is known to be simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from edgeward.kernel.clock import NS_PER_S
from edgeward.wire.hl7v2_encode import Person, Sender, adt, observation, oru_r01
from edgeward.wire.mllp import Decoder, encode

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from edgeward.kernel.clock import Clock
    from edgeward.signal.numeric import Kind

ACK_S = 10.0
PAST_STEP_S = 60.0
"""Between two sets of values of a past that is brought along."""
AGAIN_S = 1.0
_READ_BYTES = 65_536


class Player(Protocol):
    """Somebody whose vitals can be asked for by time."""

    def at(self, at_s: float) -> Mapping[Kind, float | None]:
        """What the monitor shows ``at_s`` seconds into the course."""
        ...

    def silent(self, at_s: float) -> bool:
        """Whether nothing comes at all."""
        ...


@dataclass(slots=True)
class SimulatedBed:
    """One bed of the gateway: ``place`` as PV1-3 says it, who lies there, and from where in the course it is played.

    ``past_s``: so much of the course before ``begin_s`` is brought along, as a gateway does that kept what it measured
    while nobody listened.
    """

    place: str
    player: Player
    identifier: str
    begin_s: float = 0.0
    past_s: float = 0.0


@dataclass(slots=True)
class Gateway:
    """Sends to ``host:port`` every ``period_s`` until cancelled; ``speed``: seconds of the course per second.

    ``acks`` counts acknowledgement codes, ``lost`` connections that were lost or refused.
    """

    beds: list[SimulatedBed]
    host: str
    port: int
    clock: Clock
    period_s: float = 1.0
    speed: float = 1.0
    tls: ssl.SSLContext | None = None
    name: str = "EDGEWARD_SIM"
    acks: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    sent: int = 0
    told: Callable[[str], None] = lambda text: None  # noqa: ARG005
    _control: int = 0

    async def run(self, seconds: float | None = None) -> None:
        """Play; ends after ``seconds`` where they are given."""
        began_ns = self.clock.monotonic_ns()
        admitted = False
        while True:
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
            except OSError:
                self.lost += 1
                if self._over(began_ns, seconds):
                    return
                await asyncio.sleep(AGAIN_S)
                continue
            self.told(f"connected to {self.host}:{self.port}")
            try:
                line = _Line(reader, writer, self.acks)
                if not admitted:
                    await self._admit(line)
                    admitted = True  # a line lost from here on loses the rest of the past: a course does not go back
                    await self._bring_past(line)
                    began_ns = self.clock.monotonic_ns()
                await self._play(line, began_ns, seconds)
                return
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self.lost += 1
                self.told("the connection was lost; connecting again")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            if self._over(began_ns, seconds):
                return
            await asyncio.sleep(AGAIN_S)

    async def _admit(self, line: _Line) -> None:
        for bed in self.beds:
            content = adt(self._sender, self._next(), self.clock.wall(), "A01", bed.place, _person(bed))
            await line.send(content)

    async def _bring_past(self, line: _Line) -> None:
        for bed in self.beds:
            for step in range(int(bed.past_s / PAST_STEP_S), 0, -1):
                ago_s = step * PAST_STEP_S
                await self._say(line, bed, bed.begin_s - ago_s, ago_s)

    async def _play(self, line: _Line, began_ns: int, seconds: float | None) -> None:
        turn = 0
        while not self._over(began_ns, seconds):
            due_ns = began_ns + round(turn * self.period_s * NS_PER_S)
            now_ns = self.clock.monotonic_ns()
            if now_ns < due_ns:
                await asyncio.sleep((due_ns - now_ns) / NS_PER_S)
            else:
                turn = max(turn, int((now_ns - began_ns) / (self.period_s * NS_PER_S)))  # late: skip, do not hurry
            at_s = (self.clock.monotonic_ns() - began_ns) / NS_PER_S * self.speed
            for bed in self.beds:
                await self._say(line, bed, bed.begin_s + at_s)
            turn += 1

    async def _say(self, line: _Line, bed: SimulatedBed, at_s: float, ago_s: float = 0.0) -> None:
        shown = bed.player.at(at_s)
        if bed.player.silent(at_s) or not shown:
            return
        now = self.clock.wall()
        measured = now - timedelta(seconds=ago_s)
        rows = [observation(kind, value, measured) for kind, value in shown.items()]
        await line.send(oru_r01(self._sender, self._next(), now, bed.place, rows, person=_person(bed)))
        self.sent += 1

    @property
    def _sender(self) -> Sender:
        return Sender(self.name, "SIMULATED", "T")

    def _next(self) -> str:
        self._control += 1
        return f"{self.name}{self._control}"

    def _over(self, began_ns: int, seconds: float | None) -> bool:
        return seconds is not None and self.clock.monotonic_ns() - began_ns >= seconds * NS_PER_S


@dataclass(slots=True)
class _Line:
    """One connection: a message out, its acknowledgement in."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    acks: Counter[str]
    _decoder: Decoder = field(default_factory=Decoder)

    async def send(self, content: bytes) -> None:
        """Send and wait for the answer; ``TimeoutError`` where none comes, ``OSError`` where the line is lost."""
        self.writer.write(encode(content))
        await self.writer.drain()
        async with asyncio.timeout(ACK_S):
            while True:
                data = await self.reader.read(_READ_BYTES)
                if not data:
                    raise ConnectionResetError
                for answer in self._decoder.feed(data):
                    if isinstance(answer, bytes):
                        self.acks[_code(answer)] += 1
                        return


def replay(rows: Iterable[tuple[float, Kind, float]]) -> Replay:
    """A recorded stay as a player: ``rows`` are (seconds, kind, value)."""
    return Replay(sorted(rows, key=lambda row: row[0]))


@dataclass(slots=True)
class Replay:
    """Plays recorded values once each, when their time has come."""

    rows: list[tuple[float, Kind, float]]
    _next: int = 0

    def at(self, at_s: float) -> Mapping[Kind, float | None]:
        """What was measured since it was asked last; of each kind the newest."""
        shown: dict[Kind, float | None] = {}
        while self._next < len(self.rows) and self.rows[self._next][0] <= at_s:
            _, kind, value = self.rows[self._next]
            shown[kind] = value
            self._next += 1
        return shown

    def silent(self, at_s: float) -> bool:  # noqa: ARG002
        """Never: a pause in a record is a pause."""
        return False


def born(age_y: float, today: datetime) -> str:
    """PID-7 for an age in years."""
    return f"{today - timedelta(days=age_y * 365.25):%Y%m%d}"


def _person(bed: SimulatedBed) -> Person:
    return Person((f"{bed.identifier}^^^EDGEWARD^PI",))


def _code(answer: bytes) -> str:
    """MSA-1 of an acknowledgement."""
    for segment in answer.split(b"\r"):
        if segment.startswith(b"MSA"):
            return segment.split(segment[3:4])[1].decode("ascii", "replace")
    return "?"
