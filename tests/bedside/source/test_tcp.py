"""A monitor over TCP: nothing lost, nothing invented, every silence marked, every foreign peer refused."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bedside.source.simulator import SimulatorSource
from edgeward.bedside.source.tcp import TcpAddress, TcpSource
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.testing.clock import ManualClock
from edgeward.testing.monitor import MonitorServer
from edgeward.wire.ecgtcp import End, Hello, Idle, Wave, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeward.bedside.source.base import Block

HELLO = encode(Hello(("II", "V1"), 250.0, "monitor"))
CLOCK = SystemClock()


def _wave(start: int, count: int = 5, value: float = 1.0) -> bytes:
    return encode(Wave(np.full((2, count), value, dtype=np.float32), start))


class _Peer:
    """Sends one list of byte strings per connection, then hangs up, or waits at the end of the last."""

    def __init__(self, *connections: list[bytes]) -> None:
        self._connections = connections
        self._done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = TcpAddress("127.0.0.1", self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for k, parts in enumerate(self._connections):
            with contextlib.suppress(OSError):
                peer, _ = self._listener.accept()
                with peer:
                    for part in parts:
                        peer.sendall(part)
                    if k == len(self._connections) - 1:
                        self._done.wait(20)

    def __enter__(self) -> _Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._listener.close()
        self._thread.join(5)


@contextlib.contextmanager
def _source(address: TcpAddress, **options: bool) -> Iterator[TcpSource]:
    source = TcpSource(address, CLOCK, **options)
    try:
        yield source
    finally:
        source.close()


def _until(source: TcpSource, enough: Callable[[Block], bool], *, most: int = 80) -> list[Block]:
    got = []
    for block in source.blocks():
        got.append(block)
        if enough(block) or len(got) >= most:
            break
    return got


def _present(block: Block) -> bool:
    return not np.isnan(block.samples).all()


def test_everything_sent_arrives_once_and_in_order() -> None:
    """A whole simulated stream over TCP is the stream itself."""

    def make() -> SimulatorSource:
        return SimulatorSource(ManualClock(), speed=0, duration_s=20.0, rate_hz=250.0)

    expected = np.concatenate([b.samples for b in make().blocks()], axis=1)
    with MonitorServer(make) as monitor, _source(TcpAddress("127.0.0.1", monitor.port), once=True) as source:
        info = source.open()
        blocks = list(source.blocks())
    assert (info.leads, info.rate_hz, info.simulated) == (make().info.leads, 250.0, True)
    assert info.limits_mv == make().info.limits_mv
    np.testing.assert_array_equal(np.concatenate([b.samples for b in blocks], axis=1), expected)
    assert [b.start for b in blocks] == list(range(0, 5000, 5))


def test_a_lost_message_is_a_jump_of_the_index() -> None:
    """Samples that never arrived leave a hole exactly as long as they were."""
    with _Peer([HELLO, _wave(1000), _wave(1005), _wave(1060)]) as peer, _source(peer.address) as source:
        blocks = _until(source, lambda b: b.start >= 60)
    assert [b.start for b in blocks] == [0, 5, 60]


def test_a_sender_that_counts_anew_does_not_go_back() -> None:
    """The index only grows, whatever the sender counts."""
    with _Peer([HELLO, _wave(1000), _wave(0), _wave(5)]) as peer, _source(peer.address) as source:
        blocks = _until(source, lambda b: b.start >= 10)
    assert [b.start for b in blocks] == [0, 5, 10]


def test_a_hang_up_is_a_gap_and_the_stream_goes_on() -> None:
    """After a reconnect the index has moved on over the time that was lost."""
    with _Peer([HELLO, _wave(0)], [HELLO, _wave(0, value=2.0)]) as peer, _source(peer.address) as source:
        blocks = [b for b in _until(source, lambda b: bool(b.samples[0, 0] == 2.0)) if _present(b)]
        assert source.connections == 2
        assert source.last_error == "connection-lost"
    assert blocks[-1].start > blocks[0].start + 5


@pytest.mark.parametrize(
    ("noise", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "ecgtcp-foreign"),
        (b"EWE1\x02\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00", "ecgtcp-oversize"),
        (HELLO[:-1] + b"!", "ecgtcp-damaged"),
    ],
)
def test_a_foreign_peer_is_dropped_and_tried_again(noise: bytes, code: str) -> None:
    """Wrong bytes end a connection with their code; the next one may be right."""
    seen: list[str | None] = []
    with _Peer([noise], [HELLO, _wave(0)]) as peer, _source(peer.address) as source:
        source.open()
        seen.append(source.last_error)
        assert _present(_until(source, _present)[-1])
    assert seen == [code]


def test_wrong_bytes_in_mid_stream_do_not_end_the_stream() -> None:
    """The connection is dropped, and what follows it is taken."""
    with _Peer([HELLO, _wave(0), b"garbage"], [HELLO, _wave(0, value=3.0)]) as peer, _source(peer.address) as source:
        blocks = _until(source, lambda b: bool(b.samples[0, 0] == 3.0))
        assert source.connections == 2
    assert blocks[-1].samples[0, 0] == 3.0


def test_a_silent_peer_gives_missing_samples() -> None:
    """A monitor that says nothing, or only that it is there, is a gap and not a standstill."""
    with _Peer([HELLO, _wave(0), encode(Idle())]) as peer, _source(peer.address) as source:
        blocks = _until(source, lambda b: not _present(b))
    missing = blocks[-1]
    assert np.isnan(missing.samples).all()
    assert missing.start == 5
    assert 100 <= missing.samples.shape[1] <= 250  # half a second to a second at 250 Hz


def test_samples_after_a_silence_follow_it() -> None:
    """What comes late is not written over what was given away as missing."""
    gate = threading.Event()

    class _Late(_Peer):
        def _run(self) -> None:
            peer, _ = self._listener.accept()
            with peer:
                peer.sendall(HELLO + _wave(0))
                gate.wait(20)
                peer.sendall(_wave(5))
                self._done.wait(20)

    with _Late() as peer, _source(peer.address) as source:
        stream = source.blocks()
        blocks = [next(stream), next(stream)]
        gate.set()
        while not _present(blocks[-1]):
            blocks.append(next(stream))
    for before, after in itertools.pairwise(blocks):
        assert after.start == before.start + before.samples.shape[1]


def test_a_peer_that_comes_back_different_ends_the_source() -> None:
    """Other leads are another source: the bed must start anew."""
    other = encode(Hello(("V5",), 250.0, "monitor"))
    with _Peer([HELLO, _wave(0)], [other]) as peer, _source(peer.address) as source:
        with pytest.raises(InputError) as caught:
            _until(source, lambda _: False)
        assert caught.value.code == "leads-changed"


def test_nobody_there_is_an_input_error() -> None:
    """Opening gives up in its time and says what failed last."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with _source(TcpAddress("127.0.0.1", port)) as source:
        with pytest.raises(InputError, match="connection-refused") as caught:
            source.open(timeout_s=0.3)
        assert caught.value.code == "source-silent"
        with pytest.raises(InputError):
            _ = source.info


def test_a_monitor_may_connect_to_the_device() -> None:
    """With ``listen`` the device waits for the monitor."""
    with _source(TcpAddress("127.0.0.1", 0, listen=True), once=True) as source:
        source.listen()
        with socket.create_connection(("127.0.0.1", source.port)) as monitor:
            monitor.sendall(HELLO + _wave(0) + _wave(5) + encode(End()))
            assert [b.start for b in source.blocks()] == [0, 5]


def test_a_port_in_use_is_said_at_once() -> None:
    """Neither side waits for a port that it cannot have."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _source(TcpAddress("127.0.0.1", port, listen=True)) as source, pytest.raises(InputError) as caught:
            source.listen()
        assert caught.value.code == "source-port"
        with pytest.raises(ConfigError):
            MonitorServer(lambda: SimulatorSource(CLOCK), port=port)


def test_close_from_another_thread_ends_the_stream() -> None:
    """A stream that waits for its peer ends when the source is closed."""
    with _Peer([HELLO, _wave(0)]) as peer, _source(peer.address) as source:
        stream = source.blocks()
        next(stream)
        threading.Timer(0.05, source.close).start()
        assert not [b for b in stream if _present(b)]


def test_what_came_at_once_is_given_out_no_more_after_the_end() -> None:
    """A fast monitor's samples arrive many at a time; a source that is closed between two of them ends there."""
    clock = SystemClock()
    with MonitorServer(lambda: SimulatorSource(clock, speed=0.0, duration_s=600.0)) as monitor:
        source = TcpSource(TcpAddress("127.0.0.1", monitor.port), clock)
        stream = source.blocks()
        assert next(stream, None) is not None
        source.close()
        assert next(stream, None) is None
