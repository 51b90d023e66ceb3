"""MLLP: whole messages come out of any stream, and what is no message is named once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.wire.mllp import HEAD_BYTES, Broken, Decoder, encode

A = b"MSH|^~\\&|A\rPID|1\r"
B = b"MSH|^~\\&|B\r"


def _all(data: bytes, limit: int = 1000) -> list[bytes | Broken]:
    return Decoder(limit).feed(data)


def test_a_message_stands_between_its_blocks() -> None:
    """What is encoded is decoded, several in one read."""
    assert encode(A) == b"\x0b" + A + b"\x1c\r"
    assert _all(encode(A) + encode(B)) == [A, B]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00" + encode(A) + b"\x00\r\n  \x00" + encode(B) + b"\x00",
        b"\x0b" + A + b"\x1c\x0b" + B + b"\x1c",  # no carriage return behind the end block
        b"\x0b" + A + b"\x1c\n\x0b" + B + b"\x1c\n",
        A + b"\x1c\r" + B + b"\x1c\r",  # no start block
        b"\x0b\x1c\r" + encode(A) + b"\x1c\x1c\r" + encode(B),  # empty blocks and doubled end blocks
        b"\x0b\x00 \r\x1c\r" + encode(A) + encode(B),
    ],
)
def test_what_gateways_put_between_messages_is_passed_over(data: bytes) -> None:
    """NULs, line ends, missing or doubled block characters cost no message."""
    assert _all(data) == [A, B]


def test_a_message_without_its_end_is_named_and_the_next_is_taken() -> None:
    """A start block inside a message breaks the first, not the second."""
    assert _all(b"\x0b" + A[:10] + encode(B)) == [Broken("mllp-no-end", A[:10]), B]


def test_noise_is_named_and_the_next_message_is_taken() -> None:
    """Bytes that are no message, before a start block or ended by an end block, are noise."""
    assert _all(b"GET / HTTP/1.1\r\n\r\n" + encode(A)) == [Broken("mllp-noise", b"GET / HTTP/1.1\r\n\r\n"), A]
    assert _all(b"PID|1\r\x1c\r" + encode(A)) == [Broken("mllp-noise", b"PID|1\r"), A]


def test_a_stray_end_block_cuts_a_message_and_the_rest_is_noise() -> None:
    """What stands behind it never becomes part of another message."""
    assert _all(b"\x0b" + A[:8] + b"\x1c" + A[8:] + b"\x1c\r" + encode(B)) == [A[:8], Broken("mllp-noise", A[8:]), B]


@pytest.mark.parametrize("end", [b"\x1c\r", b""])
def test_a_message_over_the_limit_is_named_once_and_skipped(end: bytes) -> None:
    """Memory stays bounded however long it is, and the next message is taken."""
    decoder = Decoder(limit=6000)
    found: list[bytes | Broken] = []
    for piece in [b"\x0b", *[b"x" * 700] * 50, end, encode(A)]:
        found += decoder.feed(piece)
        assert len(decoder.held) <= HEAD_BYTES
    assert found == [Broken("mllp-oversize", b"x" * HEAD_BYTES), A]
    assert not decoder.pending


def test_the_limit_itself_is_allowed() -> None:
    """A message of exactly the limit is whole; one byte more is too many."""
    assert _all(encode(b"MSH" + b"x" * 7), limit=10) == [b"MSH" + b"x" * 7]
    assert _all(encode(b"MSH" + b"x" * 8), limit=10) == [Broken("mllp-oversize", b"MSH" + b"x" * 7)]


def test_a_half_message_is_pending() -> None:
    """The listener can see that something has begun, and how it begins."""
    decoder = Decoder()
    assert not decoder.pending
    assert decoder.feed(b"\x0bMSH|") == []
    assert decoder.pending
    assert decoder.held == b"MSH|"
    assert decoder.feed(b"\x1c") == [b"MSH|"]
    assert not decoder.pending


def test_block_characters_are_not_encoded() -> None:
    """A message that holds a block character cannot be sent."""
    for bad in (b"\x0b", b"\x1c"):
        with pytest.raises(ValueError, match="0x0B"):
            encode(b"MSH" + bad)


_PIECES = st.lists(st.sampled_from([b"\x0b", b"\x1c", b"\r", b"\x00", b"MSH|1", b"PID|", b"x" * 30]), max_size=40)


@given(_PIECES, st.lists(st.integers(0, 400), max_size=12))
def test_pieces_do_not_matter(pieces: list[bytes], cuts: list[int]) -> None:
    """However the stream is cut, the same comes out: nothing invented, nothing lost, bounded by the limit."""
    data = b"".join(pieces)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    decoder = Decoder(limit=50)
    found = [item for a, b in itertools.pairwise(edges) for item in decoder.feed(data[a:b])]
    assert found == _all(data, limit=50)
    for item in found:
        content = item if isinstance(item, bytes) else item.head
        assert len(content) <= 50
        assert content in data


@given(st.lists(st.binary(min_size=1, max_size=200).filter(lambda c: not {0x0B, 0x1C} & set(c)), max_size=5))
def test_what_is_encoded_is_decoded(contents: list[bytes]) -> None:
    """Any content without block characters comes back, unless it is padding alone."""
    assert _all(b"".join(map(encode, contents))) == [c for c in contents if c.strip(b"\x00\t\n\r ")]
