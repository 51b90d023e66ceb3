"""WFDB signal files: every format by hand and by property, and damage that never becomes samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.wfdb_header import Header, SignalSpec
from edgeward.wire.wfdb_signals import checksum, decode_channels, decode_signals, encode_samples


def _header(fmt: int, samples: int | None, channels: int = 1, **fields: int | None) -> Header:
    spec = SignalSpec("r.dat", fmt, gain=1.0, **fields)  # type: ignore[arg-type]
    return Header("r", 250.0, samples, (spec,) * channels)


def _decode(fmt: int, data: bytes, samples: int | None, channels: int = 1) -> list[list[float]]:
    return decode_signals(_header(fmt, samples, channels), {"r.dat": data}).tolist()


@pytest.mark.parametrize(
    ("fmt", "data", "values"),
    [
        (16, b"\x01\x00\xff\xff\x00\x81", [1, -1, -32512]),
        (61, b"\x00\x01\xff\xff\x81\x00", [1, -1, -32512]),
        (24, b"\x01\x00\x00\xff\xff\xff\x00\x00\x81", [1, -1, -8323072]),
        (32, b"\x01\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x01", [1, -1, 16777216]),
        (80, b"\x81\x7f\x01", [1, -1, -127]),
        (160, b"\x01\x80\xff\x7f\x01\x00", [1, -1, -32767]),
        (212, bytes([0x01, 0xF0, 0xFF]), [1, -1]),  # 0x001, then 0xFFF
        (212, bytes([0x01, 0xF0, 0xFF, 0x34, 0x02]), [1, -1, 0x234]),  # an odd number ends in two bytes
        # 310: bits 1–10 of two little-endian words, and their top five bits: 5 | -3 → 0x3FD | 0b00001_00010 = 34
        (
            310,
            ((5 << 1) | (2 << 11)).to_bytes(2, "little") + ((0x3FD << 1) | (1 << 11)).to_bytes(2, "little"),
            [5, -3, 34],
        ),
        # 311: three times ten bits of one little-endian 32-bit word
        (311, (5 | (0x3FD << 10) | (34 << 20)).to_bytes(4, "little"), [5, -3, 34]),
    ],
)
def test_formats_by_hand(fmt: int, data: bytes, values: list[int]) -> None:
    """Bytes worked out from signal(5) give the samples they stand for."""
    assert _decode(fmt, data, len(values)) == [[float(v) for v in values]]


def test_first_differences() -> None:
    """Format 8 adds up from the header's initial value, each signal its own."""
    specs = (SignalSpec("r.dat", 8, gain=1.0, initial=10), SignalSpec("r.dat", 8, gain=1.0, initial=-5))
    data = np.array([1, 2, -3, 4], dtype=np.int8).tobytes()
    assert decode_signals(Header("r", 250.0, 2, specs), {"r.dat": data}).tolist() == [[11.0, 8.0], [-3.0, 1.0]]


@pytest.mark.parametrize(
    ("fmt", "data"),
    [
        (16, b"\x00\x80"),
        (61, b"\x80\x00"),
        (24, b"\x00\x00\x80"),
        (32, b"\x00\x00\x00\x80"),
        (80, b"\x00"),
        (160, b"\x00\x00"),
        (212, b"\x00\x08\x00"),
        (310, b"\x00\x04\x00\x00"),
        (311, b"\x00\x02\x00\x00"),
    ],
)
def test_an_invalid_sample_is_missing(fmt: int, data: bytes) -> None:
    """The lowest code of a format is NaN, never a number."""
    assert np.isnan(_decode(fmt, data, 1)[0][0])


def test_physical_values() -> None:
    """Millivolts are (adu − baseline) ÷ gain in the header's unit."""
    spec = SignalSpec("r.dat", 16, gain=2.0, baseline=10, units="uV")
    mv = decode_signals(Header("r", 250.0, 2, (spec,)), {"r.dat": encode_samples([[10, 2010]])})
    assert mv.dtype == np.float32
    assert mv[0] == pytest.approx([0.0, 1.0])


def test_signals_in_several_files_and_behind_an_offset() -> None:
    """Each file is read from its own offset; signals of one file stand interleaved."""
    specs = (
        SignalSpec("a.dat", 16, gain=1.0, byte_offset=4),
        SignalSpec("b.dat", 212, gain=1.0),
        SignalSpec("b.dat", 212, gain=1.0),
    )
    files = {"a.dat": b"HEAD" + encode_samples([[1, 2]]), "b.dat": encode_samples([[3, 4], [5, 6]], 212)}
    assert decode_signals(Header("r", 250.0, 2, specs), files).tolist() == [[1, 2], [3, 4], [5, 6]]


def test_skew_moves_a_signal_earlier_and_leaves_its_end_missing() -> None:
    """A skew of one reads the signal one sample later in the file."""
    specs = (SignalSpec("r.dat", 16, gain=1.0), SignalSpec("r.dat", 16, gain=1.0, skew=1))
    mv = decode_signals(Header("r", 250.0, 3, specs), {"r.dat": encode_samples([[1, 2, 3], [0, 4, 5]])})
    np.testing.assert_array_equal(mv, [[1, 2, 3], [4, 5, np.nan]])


def test_faster_signals_keep_their_rate_where_all_have_it() -> None:
    """Two samples per frame double the rate; beside a slower signal they are averaged, as the WFDB library does."""
    fast = SignalSpec("r.dat", 16, gain=1.0, samples_per_frame=2)
    slow = SignalSpec("r.dat", 16, gain=1.0)
    frames = np.array([1, 3, 10, 5, 7, 20], dtype="<i2").tobytes()
    header = Header("r", 250.0, 2, (fast, slow))
    alone = decode_channels(header, {"r.dat": frames}, [0])
    assert (alone.rate_hz, alone.millivolts.tolist()) == (500.0, [[1, 3, 5, 7]])
    both = decode_channels(header, {"r.dat": frames}, [0, 1])
    assert (both.rate_hz, both.millivolts.tolist()) == (250.0, [[2, 6], [10, 20]])


@pytest.mark.parametrize("fmt", [16, 61, 80, 160, 212, 24, 32, 310, 311, 8])
def test_a_short_file_is_refused_or_marked(fmt: int) -> None:
    """A file that holds less than the header says is refused with both numbers, or goes on with what is there."""
    data = bytes(range(1, 61))
    whole = decode_channels(_header(fmt, None), {"r.dat": data}, [0]).millivolts.shape[1]
    header = _header(fmt, whole + 7)
    with pytest.raises(InputError, match=rf"{whole} of {whole + 7} samples") as caught:
        decode_signals(header, {"r.dat": data})
    assert caught.value.code == "wfdb-truncated"
    allowed = decode_channels(header, {"r.dat": data}, [0], allow_truncated=True)
    assert (allowed.millivolts.shape[1], allowed.missing_samples) == (whole, 7)


def test_an_absent_tail_of_one_file_is_missing_in_its_channel_only() -> None:
    """With truncation allowed, the longer file goes on and the shorter is NaN."""
    specs = (SignalSpec("a.dat", 16, gain=1.0), SignalSpec("b.dat", 16, gain=1.0))
    files = {"a.dat": encode_samples([[1, 2, 3]]), "b.dat": encode_samples([[4]])}
    decoded = decode_channels(Header("r", 250.0, 3, specs), files, [0, 1], allow_truncated=True)
    np.testing.assert_array_equal(decoded.millivolts, [[1, 2, 3], [4, np.nan, np.nan]])


@pytest.mark.parametrize("stated", ["signed", "unsigned"])
def test_one_flipped_bit_breaks_the_checksum(stated: str) -> None:
    """The header's checksum, signed or not, is verified on every sample of the record."""
    adu = [[100, -200, 300, -32000]]
    sum_ = checksum(adu[0])
    assert sum_ < 0
    header = _header(16, 4, checksum=sum_ if stated == "signed" else sum_ + 65536)
    data = bytearray(encode_samples(adu))
    assert decode_signals(header, {"r.dat": bytes(data)}).tolist() == [[100, -200, 300, -32000]]
    data[2] ^= 1
    with pytest.raises(InputError, match="signal 0") as caught:
        decode_signals(header, {"r.dat": bytes(data)})
    assert caught.value.code == "wfdb-checksum"


@pytest.mark.parametrize(("fmt", "words"), [(516, "FLAC"), (508, "FLAC"), (7, "formats read here")])
def test_other_formats_are_refused_by_name(fmt: int, words: str) -> None:
    """A format that is not read says so and what to do."""
    with pytest.raises(InputError, match=words) as caught:
        _decode(fmt, b"\x00" * 100, 10)
    assert caught.value.code == "wfdb-format"


def test_a_header_that_lies_about_the_length_costs_nothing() -> None:
    """A length of a quadrillion samples is refused, or marked, without allocating it."""
    header = _header(16, 10**15)
    with pytest.raises(InputError):
        decode_signals(header, {"r.dat": b"\x00\x00"})
    assert decode_channels(header, {"r.dat": b"\x00\x00"}, [0], allow_truncated=True).missing_samples == 10**15 - 1


@settings(max_examples=60)
@given(st.sampled_from([16, 212]), st.integers(1, 4), st.integers(0, 40), st.randoms(use_true_random=False))
def test_written_samples_read_back(fmt: int, channels: int, count: int, random: object) -> None:
    """encode, then decode, gives the same samples; the invalid code gives NaN."""
    half = 1 << ({16: 15, 212: 11}[fmt])
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    adu = rng.integers(-half, half, (channels, count))
    expected = np.where(adu == -half, np.nan, adu)
    data = encode_samples(adu, fmt)
    if count:
        np.testing.assert_array_equal(decode_signals(_header(fmt, count, channels), {"r.dat": data}), expected)


@pytest.mark.parametrize(("fmt", "value"), [(16, 32768), (16, -32769), (212, 2048), (212, -2049)])
def test_a_sample_that_does_not_fit_is_not_written(fmt: int, value: int) -> None:
    """Nothing wraps around."""
    with pytest.raises(ValueError, match="does not fit"):
        encode_samples([[value]], fmt)


@settings(max_examples=150)
@given(
    st.sampled_from([8, 16, 24, 32, 61, 80, 160, 212, 310, 311]),
    st.binary(max_size=64),
    st.one_of(st.none(), st.integers(1, 30)),
    st.integers(1, 3),
    st.integers(0, 5),
    st.integers(0, 70),
    st.integers(1, 3),
    st.booleans(),
)
def test_any_bytes_are_decoded_or_refused(
    fmt: int, data: bytes, samples: int | None, channels: int, skew: int, offset: int, spf: int, allow: bool
) -> None:
    """Whatever the file holds: samples of the stated length, or an InputError."""
    header = _header(fmt, samples, channels, skew=skew, byte_offset=offset, samples_per_frame=spf, checksum=None)
    try:
        decoded = decode_channels(header, {"r.dat": data}, range(channels), allow_truncated=allow)
    except InputError:
        assert samples is not None
        return
    if samples is not None:
        assert decoded.millivolts.shape[1] + decoded.missing_samples == samples * spf
