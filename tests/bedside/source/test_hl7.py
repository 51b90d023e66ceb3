"""The HL7 listener on a real loopback socket: many peers, bad peers, slow peers, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hl7_seeds import seed

from edgeward.bedside.source import hl7
from edgeward.bedside.source.hl7 import Hl7Listener
from edgeward.bedside.source.hl7_settings import Hl7Settings, Hl7Tls
from edgeward.bedside.source.reading import Receipt
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import HL7_MESSAGE_BYTES_MAX
from edgeward.testing.rim import RecordingRim
from edgeward.wire import mllp
from edgeward.wire.hl7v2 import parse
from edgeward.wire.mllp import Decoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

NOW = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000").encode()
A01 = mllp.encode(seed("adt_a01"))
ORU = mllp.encode(re.sub(rb"202603041\d+\+0100", NOW, seed("pcd01_gateway_ucum")))
WAIT_S = 20.0


def _run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


@asynccontextmanager
async def _listening(
    rim: RecordingRim | None = None, **settings: Any
) -> AsyncIterator[tuple[Hl7Listener, RecordingRim]]:
    rim = rim or RecordingRim()
    listener = Hl7Listener(rim, SystemClock(), Hl7Settings(port=0, **settings))
    await listener.start()
    try:
        yield listener, rim
    finally:
        await listener.close()


class _Monitor:
    """A peer on a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._answers: list[str] = []

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self) -> str:
        """MSA-1 of the next answer; "" where the connection ends first."""
        while not self._answers:
            data = await asyncio.wait_for(self.reader.read(1 << 16), WAIT_S)
            if not data:
                return ""
            for content in self._decoder.feed(data):
                assert isinstance(content, bytes)
                self._answers.append(parse(content).rows[1][1])
        return self._answers.pop(0)

    async def ended(self) -> bool:
        """Whether the device has closed the connection (answers before that are passed over)."""
        with contextlib.suppress(ConnectionError):
            while await asyncio.wait_for(self.reader.read(1 << 16), WAIT_S):
                pass
        return True


@asynccontextmanager
async def _monitor(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[_Monitor]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield _Monitor(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


async def _turned_away(port: int, context: ssl.SSLContext) -> bool:
    """Whether a peer with this context gets no answer."""
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        async with _monitor(port, context) as monitor:
            await monitor.send(A01)
            return not await monitor.answer()
    return True


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


def test_a_monitor_is_heard_and_answered() -> None:
    """Whole, in single bytes, and several at once."""

    async def test() -> None:
        async with _listening() as (listener, rim), _monitor(listener.port) as monitor:
            await monitor.send(A01)
            assert await monitor.answer() == "CA"
            await monitor.send(*(bytes([byte]) for byte in ORU))
            assert await monitor.answer() == "CA"
            many = b"".join(A01.replace(b"HIS-A01-1", b"HIS-%d" % n) for n in range(200))
            await monitor.send(b"\x00\x00" + many)
            assert [await monitor.answer() for _ in range(200)] == ["CA"] * 200
            assert len(rim.readings) == 202
            assert rim.peers == [("127.0.0.1", True)]

    _run(test())


def test_many_monitors_at_once() -> None:
    """Their messages do not mix, and one peer name stands for all connections of one address."""

    async def test() -> None:
        async with _listening() as (listener, rim):

            async def one(number: int) -> None:
                async with _monitor(listener.port) as monitor:
                    for n in range(20):
                        message = ORU.replace(b"a1f0c3d2e4b5", b"id-%d-%d" % (number, n))
                        await monitor.send(message[:100], message[100:])
                        assert await monitor.answer() == "CA"

            await asyncio.gather(*(one(number) for number in range(30)))
            assert len(rim.readings) == 600
            await _until(lambda: listener.connections == 0)
            assert rim.peers[0] == ("127.0.0.1", True)
            assert rim.peers[-1] == ("127.0.0.1", False)

    _run(test())


def test_connections_over_the_ceiling_are_turned_away() -> None:
    """Those that are there stay."""

    async def test() -> None:
        async with (
            _listening(connections_max=2) as (listener, _),
            _monitor(listener.port) as one,
            _monitor(listener.port) as two,
        ):
            for monitor in (one, two):
                await monitor.send(A01)
                assert await monitor.answer() == "CA"
            async with _monitor(listener.port) as three:
                assert await three.ended()
            assert listener.refused_connections == 1
            await one.send(ORU)
            assert await one.answer() == "CA"

    _run(test())


def test_a_peer_that_says_nothing_is_told_of_and_dropped() -> None:
    """It connects and is mute."""

    async def test() -> None:
        async with _listening(mute_s=1.0) as (listener, rim), _monitor(listener.port) as monitor:
            assert await monitor.ended()
            await _until(lambda: rim.peers == [("127.0.0.1", True), ("127.0.0.1", False)])
            assert rim.refusals == ["mllp-mute"]

    _run(test())


def test_a_peer_that_has_spoken_may_be_silent() -> None:
    """An ADT feed at night."""

    async def test() -> None:
        async with _listening(mute_s=1.0, half_s=1.0) as (listener, rim), _monitor(listener.port) as monitor:
            await monitor.send(A01)
            assert await monitor.answer() == "CA"
            await asyncio.sleep(2.5)
            await monitor.send(ORU)
            assert await monitor.answer() == "CA"
            assert rim.peers == [("127.0.0.1", True)]

    _run(test())


def test_a_half_message_is_given_up_and_answered() -> None:
    """The sender hears that its message was not taken; it can connect again."""

    async def test() -> None:
        async with _listening(half_s=1.0) as (listener, rim):
            async with _monitor(listener.port) as monitor:
                await monitor.send(ORU[:300])
                assert await monitor.answer() == "CR"
                assert await monitor.answer() == ""
            assert rim.refusals == ["mllp-timeout"]
            async with _monitor(listener.port) as monitor:
                await monitor.send(ORU)
                assert await monitor.answer() == "CA"

    _run(test())


def test_bytes_that_drip_are_given_up_too() -> None:
    """A byte now and then does not keep a half message alive."""

    async def test() -> None:
        async with _listening(half_s=1.0) as (listener, rim), _monitor(listener.port) as monitor:
            with contextlib.suppress(ConnectionError):
                for byte in ORU:
                    await monitor.send(bytes([byte]))
                    await asyncio.sleep(0.05)
            assert "mllp-timeout" in rim.refusals
            assert not [reading for reading in rim.readings if reading.numerics]

    _run(test())


def test_a_hang_up_in_mid_message_is_told() -> None:
    """And what was whole before is taken."""

    async def test() -> None:
        async with _listening() as (listener, rim):
            async with _monitor(listener.port) as monitor:
                await monitor.send(A01 + ORU[:200])
                assert await monitor.answer() == "CA"
                monitor.writer.write_eof()
                assert await monitor.answer() == "CR"
                assert await monitor.answer() == ""
            assert rim.refusals == ["mllp-no-end"]

    _run(test())


def test_foreign_and_oversize_bytes_cost_only_themselves() -> None:
    """A browser, a flood without an end, and then a monitor on the same connection."""

    async def test() -> None:
        async with _listening() as (listener, rim), _monitor(listener.port) as monitor:
            await monitor.send(b"GET / HTTP/1.1\r\n\r\n" + A01)
            assert await monitor.answer() == "CA"
            piece = b"x" * 65_536
            await monitor.send(b"\x0b" + seed("adt_a03"), *[piece] * (HL7_MESSAGE_BYTES_MAX // len(piece) + 3))
            assert await monitor.answer() == "CR"
            await monitor.send(b"\x1c\r" + ORU)
            assert await monitor.answer() == "CA"
            assert rim.refusals == ["mllp-noise", "mllp-oversize"]

    _run(test())


def test_a_rim_that_cannot_take_slows_nobody_else() -> None:
    """It is told at once, and may send again."""

    async def test() -> None:
        rim = RecordingRim(receipt=Receipt.LATER)
        async with _listening(rim) as (listener, _), _monitor(listener.port) as monitor:
            await monitor.send(ORU)
            assert await monitor.answer() == "CE"
            rim.receipt = Receipt.TAKEN
            await monitor.send(ORU)
            assert await monitor.answer() == "CA"

    _run(test())


def test_a_peer_that_does_not_read_its_answers_is_not_read_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded; after its time it is dropped."""
    monkeypatch.setattr(hl7, "WRITE_HIGH_BYTES", 4096)

    async def test() -> None:
        async with _listening(half_s=1.0) as (listener, rim):
            async with _monitor(listener.port) as monitor:
                monitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
                flood = b"".join(A01.replace(b"HIS-A01-1", b"HIS-%d" % n) for n in range(2000))
                sent = 0
                with contextlib.suppress(TimeoutError, ConnectionError):
                    for _ in range(100):
                        monitor.writer.write(flood)
                        await asyncio.wait_for(monitor.writer.drain(), 3)
                        sent += 2000
                assert sent < 200_000, "the peer should have been slowed"
                await _until(lambda: listener.connections == 0)
                monitor.writer.transport.abort()
            assert len(rim.readings) < 200_000

    _run(test())


def test_one_busy_peer_does_not_starve_another() -> None:
    """While one floods, another is answered."""

    async def test() -> None:
        async with _listening() as (listener, _), _monitor(listener.port) as busy, _monitor(listener.port) as calm:
            many = 10_000  # longer than five questions take on a machine that does other things too
            flood = b"".join(ORU.replace(b"a1f0c3d2e4b5", b"id-%d" % n) for n in range(many))

            async def drown() -> None:
                await busy.send(flood)
                for _ in range(many):
                    assert await busy.answer() == "CA"

            drowning = asyncio.create_task(drown())
            await asyncio.sleep(0.05)
            for n in range(5):
                await calm.send(A01.replace(b"HIS-A01-1", b"calm-%d" % n))
                assert await calm.answer() == "CA"
            assert not drowning.done()
            await drowning

    _run(test())


def test_closing_answers_what_was_read_and_lets_go() -> None:
    """Nothing that was acknowledged is lost, and no connection is left."""

    async def test() -> None:
        async with _listening() as (listener, rim), _monitor(listener.port) as monitor:
            await monitor.send(b"".join(ORU.replace(b"a1f0c3d2e4b5", b"id-%d" % n) for n in range(300)))
            assert await monitor.answer() == "CA"
            port = listener.port
            await listener.close()
            answered = 1
            while await monitor.answer():
                answered += 1
            assert answered == len([reading for reading in rim.readings if reading.numerics])
            assert listener.connections == 0
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", port)
            await listener.close()

    _run(test())


def test_a_port_in_use_is_said_at_once() -> None:
    """With what to do."""

    async def test() -> None:
        async with _listening() as (listener, _):
            other = Hl7Listener(RecordingRim(), SystemClock(), Hl7Settings(port=listener.port))
            with pytest.raises(ConfigError) as refused:
                await other.start()
            assert refused.value.code == "hl7-address"

    _run(test())


@pytest.mark.parametrize("client", [True, False])
def test_tls_with_and_without_client_certificates(tmp_path: Path, client: bool) -> None:
    """A peer's certificate names it; without one, where one is asked for, there is no connection."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca = tmp_path / "ca.pem" if client else None
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def test() -> None:
        tls = Hl7Tls(tmp_path / "cert.pem", tmp_path / "key.pem", ca)
        async with _listening(tls=tls) as (listener, rim):
            if client:
                assert await _turned_away(listener.port, trusting)
                assert rim.readings == []
                authority.issue_cert("gateway-1.ward", common_name="gateway-1").configure_cert(trusting)
            async with _monitor(listener.port, trusting) as monitor:
                await monitor.send(A01[:50], A01[50:])
                assert await monitor.answer() == "CA"
            assert rim.readings[0].peer == ("gateway-1" if client else "127.0.0.1")

    _run(test())


def test_wrong_tls_files_and_settings_are_refused(tmp_path: Path) -> None:
    """Before anything listens."""
    (tmp_path / "bad.pem").write_text("not a certificate")

    async def test(make: Callable[[], Awaitable[None]]) -> None:
        await make()

    tls = Hl7Tls(tmp_path / "bad.pem", tmp_path / "absent.pem")
    with pytest.raises(ConfigError) as refused:
        _run(test(Hl7Listener(RecordingRim(), SystemClock(), Hl7Settings(port=0, tls=tls)).start))
    assert refused.value.code == "hl7-tls"
    for wrong in ({"port": 70_000}, {"connections_max": 0}, {"mute_s": float("nan")}, {"half_s": 0.0}):
        with pytest.raises(ConfigError):
            Hl7Settings(**wrong)  # type: ignore[arg-type]
