"""Edgeward's small framed protocol for ECG over TCP: encoder and incremental decoder, pure.

A message is a 16-byte head and a payload, all little-endian::

    magic "EWE1" | kind u8 | zero u8 | zero u16 | payload length u32 | CRC-32 of the payload u32

    HELLO  1  JSON: leads, rate_hz, label, limits_mv (or null), simulated: first on every connection
    WAVE   2  start u64, channels u16, zero u16, samples u32, then float32 mV (C, n); NaN is missing
    IDLE   3  empty: "I am here and have no samples"
    END    4  empty: the stream is complete

Anything else is refused: a foreign peer is noticed at its first bytes, and no length is trusted before it is checked.
The protocol carries no patient data and no authentication: it is for a simulated monitor, or a gateway on the same host
or on a protected network.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import BLOCK_SAMPLES_MAX, LEADS_MAX, RATE_HZ_MAX, RATE_HZ_MIN
from edgeward.signal.lead import normalise

FloatArray = npt.NDArray[np.float32]

MAGIC = b"EWE1"
HELLO, WAVE, IDLE, END = 1, 2, 3, 4
HELLO_BYTES_MAX = 1 << 14
TEXT_MAX = 64
_HEAD = struct.Struct("<4sBBHII")
_WAVE_HEAD = struct.Struct("<QHHI")
_LENGTH_MAX = {
    HELLO: HELLO_BYTES_MAX,
    WAVE: _WAVE_HEAD.size + 4 * LEADS_MAX * BLOCK_SAMPLES_MAX,
    IDLE: 0,
    END: 0,
}
_START_MAX = 1 << 53


@dataclass(frozen=True, slots=True)
class Hello:
    """Who sends; the fields are those of a source's info."""

    leads: tuple[str, ...]
    rate_hz: float
    label: str
    limits_mv: tuple[tuple[float, float], ...] | None = None
    simulated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Wave:
    """``samples`` (C, n) float32 mV, NaN where missing; ``start``: the sender's index of the first."""

    samples: FloatArray
    start: int


@dataclass(frozen=True, slots=True)
class Idle:
    """The sender is there and has no samples."""


@dataclass(frozen=True, slots=True)
class End:
    """The stream is complete."""


Message = Hello | Wave | Idle | End


def encode(message: Message) -> bytes:
    """Bytes of one message; raises ``ValueError`` for one that the decoder would refuse."""
    match message:
        case Hello():
            fields = {
                "leads": list(message.leads),
                "rate_hz": message.rate_hz,
                "label": message.label,
                "limits_mv": None if message.limits_mv is None else [list(pair) for pair in message.limits_mv],
                "simulated": message.simulated,
            }
            payload = json.dumps(fields, allow_nan=False).encode()
            try:
                _hello(payload)
            except InputError as error:
                raise ValueError(str(error)) from error
            return _frame(HELLO, payload)
        case Wave():
            channels, count = message.samples.shape
            if not (1 <= channels <= LEADS_MAX and 1 <= count <= BLOCK_SAMPLES_MAX and 0 <= message.start < _START_MAX):
                raise ValueError("a wave message holds 1 to 16 leads and 1 to 65536 samples from index 0 on")
            head = _WAVE_HEAD.pack(message.start, channels, 0, count)
            return _frame(WAVE, head + np.ascontiguousarray(message.samples, dtype="<f4").tobytes())
        case Idle():
            return _frame(IDLE, b"")
        case End():
            return _frame(END, b"")


class Decoder:
    """Turns received bytes into messages, however they were cut.

    Holds one incomplete message at most. Messages that stand before wrong bytes are given out; the ``InputError``
    (codes ``ecgtcp-…``) follows at the next ``feed``, which may be empty. After it the stream cannot be trusted any
    more: drop the connection and use a new decoder.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._channels: int | None = None
        self._error: InputError | None = None

    @property
    def broken(self) -> bool:
        """Whether wrong bytes have been met; the next ``feed`` raises."""
        return self._error is not None

    def feed(self, data: bytes) -> list[Message]:
        """Messages completed by ``data``, in order."""
        if self._error is not None:
            raise self._error
        self._buffer += data
        out: list[Message] = []
        try:
            self._take(out)
        except InputError as error:
            self._error = error
            self._buffer.clear()
            if not out:
                raise
        return out

    def _take(self, out: list[Message]) -> None:
        at = 0
        buffer = self._buffer
        while True:
            _check_magic(buffer, at)
            if len(buffer) - at < _HEAD.size:
                break
            _, kind, zero, zeros, length, crc = _HEAD.unpack_from(buffer, at)
            if kind not in _LENGTH_MAX or zero or zeros:
                raise InputError("ecgtcp-foreign", "the peer sent a message kind that is not in this protocol")
            if length > _LENGTH_MAX[kind]:
                raise InputError(
                    "ecgtcp-oversize", f"the peer announced a message over the limit of {_LENGTH_MAX[kind]} bytes"
                )
            if len(buffer) - at < _HEAD.size + length:
                break
            payload = bytes(memoryview(buffer)[at + _HEAD.size : at + _HEAD.size + length])
            at += _HEAD.size + length
            if zlib.crc32(payload) != crc:
                raise InputError("ecgtcp-damaged", "a message's CRC-32 does not hold; the connection is dropped")
            out.append(self._message(kind, payload))
        del buffer[:at]

    def _message(self, kind: int, payload: bytes) -> Message:
        if kind == HELLO:
            if self._channels is not None:
                raise InputError("ecgtcp-order", "the peer introduced itself twice on one connection")
            hello = _hello(payload)
            self._channels = len(hello.leads)
            return hello
        if self._channels is None:
            raise InputError("ecgtcp-order", "the peer sent samples before it introduced itself")
        if kind == WAVE:
            return _wave(payload, self._channels)
        return Idle() if kind == IDLE else End()


def _frame(kind: int, payload: bytes) -> bytes:
    return _HEAD.pack(MAGIC, kind, 0, 0, len(payload), zlib.crc32(payload)) + payload


def _check_magic(buffer: bytearray, at: int) -> None:
    seen = bytes(buffer[at : at + len(MAGIC)])
    if not MAGIC.startswith(seen):
        raise InputError("ecgtcp-foreign", "the peer does not speak this protocol; check the address and the port")


def _wave(payload: bytes, channels: int) -> Wave:
    if len(payload) < _WAVE_HEAD.size:
        raise InputError("ecgtcp-wave", "a wave message is shorter than its head")
    start, stated, zero, count = _WAVE_HEAD.unpack_from(payload)
    if stated != channels or zero:
        raise InputError("ecgtcp-wave", "a wave message has another number of leads than the peer introduced")
    if not 1 <= count <= BLOCK_SAMPLES_MAX or start >= _START_MAX:
        raise InputError("ecgtcp-wave", f"a wave message holds 1 to {BLOCK_SAMPLES_MAX} samples")
    if len(payload) != _WAVE_HEAD.size + 4 * channels * count:
        raise InputError("ecgtcp-wave", "a wave message's length does not fit its number of samples")
    samples = np.frombuffer(payload, dtype="<f4", offset=_WAVE_HEAD.size).reshape(channels, count)  # (C, n)
    if np.isinf(samples).any():
        raise InputError("ecgtcp-wave", "a wave message holds an infinite sample; a missing one is NaN")
    return Wave(samples.astype(np.float32), start)


def _hello(payload: bytes) -> Hello:
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise _bad_hello("is not JSON") from error
    if not isinstance(fields, dict) or fields.keys() != {"leads", "rate_hz", "label", "limits_mv", "simulated"}:
        raise _bad_hello("does not hold exactly leads, rate_hz, label, limits_mv, simulated")
    leads, rate, label, simulated = (fields[name] for name in ("leads", "rate_hz", "label", "simulated"))
    if not isinstance(leads, list) or not 1 <= len(leads) <= LEADS_MAX or not all(_is_text(name) for name in leads):
        raise _bad_hello(f"does not name 1 to {LEADS_MAX} leads")
    if len({normalise(name) for name in leads}) != len(leads):
        raise _bad_hello("names a lead twice")
    if not _is_number(rate) or not RATE_HZ_MIN <= rate <= RATE_HZ_MAX:
        raise _bad_hello(f"states a rate outside {RATE_HZ_MIN:g} to {RATE_HZ_MAX:g} Hz")
    if not _is_text(label) or not isinstance(simulated, bool):
        raise _bad_hello("has a malformed label or mark")
    return Hello(tuple(leads), float(rate), label, _rails(fields["limits_mv"], len(leads)), simulated)


def _rails(value: object, channels: int) -> tuple[tuple[float, float], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != channels:
        raise _bad_hello("does not state one pair of rails per lead")
    pairs: list[tuple[float, float]] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_number(x) for x in pair) or pair[0] >= pair[1]:
            raise _bad_hello("states rails that are not a low and a high value")
        pairs.append((float(pair[0]), float(pair[1])))
    return tuple(pairs)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= TEXT_MAX and value.isprintable()


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e9 and math.isfinite(value)


def _bad_hello(why: str) -> InputError:
    return InputError("ecgtcp-hello", f"the peer's introduction {why}; use a sender of this protocol's version")
