"""What happens to one HL7 message that came in: decoded, given to the rim, answered. No I/O of its own.

A message is acknowledged after the rim has taken it, and not before; of several patients in one message, those that do
not lie here are no reason to refuse the others. One that was taken and comes again, because
its acknowledgement was lost, is acknowledged again and not taken twice. Whatever stands in a message, ``receive``
returns within a bounded time and raises nothing; what goes wrong inside is answered and counted as ``internal``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from edgeward.bedside.source.hl7_reading import Arrival, readings, refusal_of
from edgeward.bedside.source.reading import Receipt
from edgeward.kernel.clock import NS_PER_S
from edgeward.wire import hl7v2, hl7v2_ack, mllp
from edgeward.wire.hl7v2 import Hl7Error
from edgeward.wire.hl7v2_ack import BUSY, NOT_HERE, Judgement
from edgeward.wire.hl7v2_clock import PeerClock
from edgeward.wire.hl7v2_decode import decode
from edgeward.wire.hl7v2_header import read_header
from edgeward.wire.hl7v2_observation import Reader

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from edgeward.bedside.source.reading import Rim
    from edgeward.kernel.clock import Clock
    from edgeward.wire.codes import CodeTable
    from edgeward.wire.hl7v2 import Message
    from edgeward.wire.hl7v2_header import Header
    from edgeward.wire.mllp import Broken

SENDERS_MAX = 256
"""Systems whose clocks are remembered; beyond it the one not heard for longest is forgotten."""
SEEN_MAX = 4_096
SEEN_NS = 3_600 * NS_PER_S
"""For how long a message that was taken is known again."""


@dataclass(slots=True)
class Counts:
    """What became of messages since the start."""

    taken: int = 0
    repeated: int = 0
    refused: int = 0
    busy: int = 0
    elsewhere: int = 0
    broken: int = 0
    internal: int = 0


@dataclass(slots=True)
class Receiver:
    """Takes whole messages for one rim. ``zone``: the site's; ``codec``: for messages that name no character set."""

    rim: Rim
    clock: Clock
    table: CodeTable
    zone: tzinfo = UTC
    codec: str = "utf-8"
    counts: Counts = field(default_factory=Counts)
    _reader: Reader = field(init=False, repr=False)
    _clocks: OrderedDict[tuple[str, str], PeerClock] = field(default_factory=OrderedDict, repr=False)
    _seen: OrderedDict[bytes, int] = field(default_factory=OrderedDict, repr=False)
    _answers: int = 0

    def __post_init__(self) -> None:
        self._reader = Reader(self.table)

    def receive(self, content: bytes, peer: str) -> bytes:
        """Take what stood in one MLLP block from ``peer``; the bytes to send back (none where none are wanted)."""
        arrival = self._arrival(peer)
        return b"".join(self._one(part, arrival) for part in hl7v2.split(content))

    def broken(self, broken: Broken, peer: str) -> bytes:
        """Report bytes that are no message; the bytes to send back, none where nobody can be answered."""
        self.counts.broken += 1
        arrival = self._arrival(peer)
        self.rim.take(refusal_of(broken.code, "", arrival))
        heard = hl7v2_ack.salvage(broken.head)
        if heard is None or broken.code not in hl7v2_ack.CONDITIONS:
            return b""
        return self._reply(heard, Judgement(broken.code))

    def _one(self, content: bytes, arrival: Arrival) -> bytes:
        heard: tuple[Message, Header] | None = None
        try:
            message = hl7v2.parse(content, self.codec)
            heard = message, read_header(message)
            judgement = self._judge(*heard, content, arrival)
        except Hl7Error as error:
            self.counts.refused += 1
            judgement = Judgement(error.code, error.where)
            heard = heard or hl7v2_ack.salvage(content)
        except Exception:  # noqa: BLE001  (one message must not end a connection, whatever is wrong with it or with us)
            self.counts.internal += 1
            judgement = Judgement("internal")
        if judgement.code not in {"", BUSY, NOT_HERE}:  # of these the rim knows
            self.rim.take(refusal_of(judgement.code, judgement.where, arrival))
        return self._reply(heard, judgement)

    def _judge(self, message: Message, header: Header, content: bytes, arrival: Arrival) -> Judgement:
        key = _key(header, content)
        if key is not None and self._is_repeated(key, arrival.received_ns):
            self.counts.repeated += 1
            return Judgement()
        decoded = decode(message, header, self._reader, arrival.wall_ns)
        clock = self._clock_of(arrival.peer, header.sender)
        receipts = []
        for reading in readings(decoded, clock, arrival, self.zone):
            receipts.append(self.rim.take(reading))
            if receipts[-1] is Receipt.LATER:
                self.counts.busy += 1
                return Judgement(BUSY)
        if Receipt.TAKEN not in receipts and not decoded.unused:
            self.counts.elsewhere += 1
            return Judgement(NOT_HERE, "PV1-3")
        self.counts.taken += 1
        if key is not None:
            self._seen[key] = arrival.received_ns
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
        return Judgement()

    def _is_repeated(self, key: bytes, now_ns: int) -> bool:
        while self._seen:
            oldest = next(iter(self._seen))
            if now_ns - self._seen[oldest] <= SEEN_NS:
                break
            del self._seen[oldest]
        return key in self._seen

    def _clock_of(self, peer: str, sender: str) -> PeerClock:
        key = (peer, sender)
        clock = self._clocks.pop(key, None) or PeerClock()
        self._clocks[key] = clock
        if len(self._clocks) > SENDERS_MAX:
            self._clocks.popitem(last=False)
        return clock

    def _reply(self, heard: tuple[Message, Header] | None, judgement: Judgement) -> bytes:
        codes = ["AR"] if heard is None else hl7v2_ack.replies(heard[1], judgement)
        return b"".join(mllp.encode(self._ack(heard, judgement, code)) for code in codes)

    def _ack(self, heard: tuple[Message, Header] | None, judgement: Judgement, code: str) -> bytes:
        now = self.clock.wall()
        self._answers += 1
        control = f"EW{int(now.timestamp())}.{self._answers}"
        content = hl7v2_ack.encode_ack(heard, judgement, code, now=now, control=control)
        return content.replace(mllp.START, b"").replace(mllp.END, b"")

    def _arrival(self, peer: str) -> Arrival:
        return Arrival(peer, self.clock.monotonic_ns(), _utc_ns(self.clock.wall()))


def _key(header: Header, content: bytes) -> bytes | None:
    """What tells a repeated message: who sent it, its control id and all of its bytes.

    None where it has no control id or no time: a monitor that writes the same id each time and no time may well send
    the same bytes twice and mean two measurements.
    """
    if not header.control or header.stamp is None:
        return None
    return hashlib.blake2b(content, digest_size=16, key=hashlib.sha256(header.sender.encode()).digest()).digest()


def _utc_ns(wall: datetime) -> int:
    return int(wall.timestamp() * 1_000_000) * 1_000
