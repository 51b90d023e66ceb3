"""The framed ECG protocol: round trip however the bytes are cut, and refusal of everything else."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.ecgtcp import Decoder, End, Hello, Idle, Message, Wave, encode

HELLO = Hello(("II", "V1"), 250.0, "bed monitor", ((-5.0, 5.0), (-5.0, 5.0)))
WAVE = Wave(np.array([[1.0, np.nan, -0.25], [0.5, 2.0, 3.0]], dtype=np.float32), 42)


def _raw(
    kind: int, payload: bytes, *, magic: bytes = b"EWE1", length: int | None = None, crc: int | None = None
) -> bytes:
    length = len(payload) if length is None else length
    return struct.pack("<4sBBHII", magic, kind, 0, 0, length, zlib.crc32(payload) if crc is None else crc) + payload


def _feed_all(decoder: Decoder, data: bytes) -> list[Message]:
    """Messages before wrong bytes are given out first; the empty feed after them raises."""
    return decoder.feed(data) + decoder.feed(b"")


def _same(a: Message, b: Message) -> None:
    assert type(a) is type(b)
    if isinstance(a, Wave):
        assert isinstance(b, Wave)
        assert a.start == b.start
        np.testing.assert_array_equal(a.samples, b.samples)
    else:
        assert a == b


@given(st.lists(st.integers(1, 60), max_size=40))
def test_messages_survive_however_they_are_cut(cuts: list[int]) -> None:
    """The same messages come out whatever pieces TCP delivers."""
    sent: list[Message] = [HELLO, WAVE, Idle(), Wave(WAVE.samples[:, :1], 45), End()]
    stream = b"".join(encode(m) for m in sent)
    decoder = Decoder()
    got: list[Message] = []
    for cut in cuts:
        got += decoder.feed(stream[:cut])
        stream = stream[cut:]
    got += decoder.feed(stream)
    assert len(got) == len(sent)
    for a, b in zip(got, sent, strict=True):
        _same(a, b)


def test_the_bytes_are_those_of_the_specification() -> None:
    """A wave message by hand, so that another language can speak it."""
    payload = struct.pack("<QHHI", 7, 1, 0, 2) + struct.pack("<2f", 1.5, -2.0)
    assert encode(Wave(np.array([[1.5, -2.0]], dtype=np.float32), 7)) == _raw(2, payload)


def _hello(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "leads": ["II", "V1"],
        "rate_hz": 250,
        "label": "x",
        "limits_mv": None,
        "simulated": False,
    }
    return _raw(1, json.dumps({**fields, **changes}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"leads": []},
        {"leads": ["II"] * 17},
        {"leads": ["II", "ECG II"]},
        {"leads": "II"},
        {"leads": [1]},
        {"leads": ["II\n"]},
        {"leads": ["x" * 65]},
        {"rate_hz": 0},
        {"rate_hz": 1e9},
        {"rate_hz": "250"},
        {"rate_hz": True},
        {"rate_hz": float("nan")},
        {"label": ""},
        {"label": None},
        {"simulated": 1},
        {"limits_mv": []},
        {"limits_mv": [[-5, 5]]},
        {"limits_mv": [[5, -5], [-5, 5]]},
        {"limits_mv": [[-5, float("inf")], [-5, 5]]},
        {"limits_mv": [[-5, 5, 6], [-5, 5]]},
        {"patient": "someone"},
    ],
)
def test_a_malformed_introduction_is_refused(changes: dict[str, object]) -> None:
    """Each field is checked, and no further field is let in."""
    assert Decoder().feed(_hello())
    with pytest.raises(InputError) as caught:
        Decoder().feed(_hello(**changes))
    assert caught.value.code == "ecgtcp-hello"


_WAVE_HEAD = struct.pack("<QHHI", 0, 2, 0, 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n", "ecgtcp-foreign"),
        (b"G", "ecgtcp-foreign"),
        (b"\x16\x03\x01", "ecgtcp-foreign"),
        (_raw(9, b""), "ecgtcp-foreign"),
        (_raw(1, b"", length=1 << 31), "ecgtcp-oversize"),
        (_raw(2, b"", length=0xFFFFFFFF), "ecgtcp-oversize"),
        (_raw(3, b"x"), "ecgtcp-oversize"),
        (_raw(1, b"{}", crc=1), "ecgtcp-damaged"),
        (_raw(1, b"[" * 10_000), "ecgtcp-hello"),
        (_raw(1, b"\xff\xfe"), "ecgtcp-hello"),
        (_raw(2, _WAVE_HEAD + bytes(8)), "ecgtcp-order"),
        (_raw(3, b""), "ecgtcp-order"),
        (_hello() + _hello(), "ecgtcp-order"),
        (_hello() + _raw(2, b"short"), "ecgtcp-wave"),
        (_hello() + _raw(2, struct.pack("<QHHI", 0, 1, 0, 1) + bytes(4)), "ecgtcp-wave"),
        (_hello() + _raw(2, struct.pack("<QHHI", 0, 2, 0, 0)), "ecgtcp-wave"),
        (_hello() + _raw(2, struct.pack("<QHHI", 0, 2, 0, 2) + bytes(8)), "ecgtcp-wave"),
        (_hello() + _raw(2, struct.pack("<QHHI", 1 << 60, 2, 0, 1) + bytes(8)), "ecgtcp-wave"),
        (_hello() + _raw(2, _WAVE_HEAD + struct.pack("<2f", float("inf"), 0.0)), "ecgtcp-wave"),
    ],
)
def test_what_is_not_the_protocol_is_refused(data: bytes, code: str) -> None:
    """Each kind of wrongness has its code, and the decoder stays broken."""
    decoder = Decoder()
    with pytest.raises(InputError) as caught:
        _feed_all(decoder, data)
    assert decoder.broken
    assert caught.value.code == code
    with pytest.raises(InputError):
        decoder.feed(encode(HELLO))


def test_messages_before_wrong_bytes_are_given_out() -> None:
    """Good samples are not thrown away with what follows them."""
    decoder = Decoder()
    assert len(decoder.feed(encode(HELLO) + encode(WAVE) + b"garbage")) == 2
    with pytest.raises(InputError):
        decoder.feed(b"")


def test_an_announced_length_is_not_allocated() -> None:
    """Only bytes that arrived are held."""
    decoder = Decoder()
    assert decoder.feed(_raw(1, b"", length=1 << 14)) == []


@settings(max_examples=60)
@given(st.data())
def test_mutated_streams_are_read_or_refused(data: st.DataObject) -> None:
    """Nothing but an InputError comes out."""
    stream = bytearray(encode(HELLO) + encode(WAVE) + encode(End()))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    decoder = Decoder()
    try:
        messages = decoder.feed(bytes(stream))
        messages += decoder.feed(b"")
    except InputError:
        return
    assert len(messages) < 3


@pytest.mark.parametrize(
    "message",
    [
        Hello((), 250.0, "x"),
        Hello(("II",), float("nan"), "x"),
        Hello(("II",), 250.0, ""),
        Wave(np.zeros((0, 5), dtype=np.float32), 0),
        Wave(np.zeros((1, 0), dtype=np.float32), 0),
        Wave(np.zeros((1, 1), dtype=np.float32), -1),
    ],
)
def test_the_encoder_writes_nothing_that_the_decoder_refuses(message: Message) -> None:
    """A sender learns of its mistake at once."""
    with pytest.raises(ValueError):
        encode(message)
