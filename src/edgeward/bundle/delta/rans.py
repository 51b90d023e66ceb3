"""Entropy coding of symbols: rANS in numpy, many lanes side by side.

Range asymmetric numeral systems (J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, 2013), interleaved as in
F. Giesen, "Interleaved entropy coders", arXiv:1402.3392, 2014: 32-bit states, 16-bit words, frequencies of 14 bits.
Symbol ``i`` of a run belongs to lane ``i mod lanes``, and one numpy operation advances all lanes, so that Python's
slowness is paid once for 2,048 symbols. The order of the words is the order of the symbols; a run can therefore be
decoded in portions of any length. Every symbol may have a context, which chooses its frequencies.

Nothing that a hostile stream holds makes the decoder do more: a symbol takes at most one word, tables have one size,
and a state of any value is a number like any other. What comes out may be wrong; the bundle's hash tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import DELTA_LANE_SYMBOLS, DELTA_LANES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SYMBOLS_MAX = 256
SCALE_BITS = 14
SCALE = 1 << SCALE_BITS
_LOW = 1 << 16
STATE_BYTES = 4
WORD_BYTES = 2


def lanes_of(count: int) -> int:
    """Lanes of a run of ``count`` symbols: few for a short one, whose states would outweigh its symbols."""
    return max(1, min(DELTA_LANES_MAX, count // DELTA_LANE_SYMBOLS))


def quantise(counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Frequencies (contexts, symbols) that sum to ``SCALE`` in each context that occurs, from counts of that shape.

    A symbol that occurs keeps at least 1; a context that does not occur is all zero.
    """
    table = np.zeros(counts.shape, np.int64)
    for row, count in zip(table, counts, strict=True):
        total = int(count.sum())
        if not total:
            continue
        row[:] = np.where(count > 0, np.maximum(1, count * SCALE // total), 0)
        while excess := int(row.sum()) - SCALE:
            largest = int(row.argmax())
            row[largest] -= min(excess, int(row[largest]) - 1) if excess > 0 else excess
    return table.astype(np.uint16)


def encode(symbols: NDArray[np.uint8], contexts: NDArray[np.uint8], table: NDArray[np.uint16]) -> bytes:
    """States and words of one run: ``symbols`` and ``contexts`` (N,) under the frequencies (contexts, symbols)."""
    lanes = lanes_of(len(symbols))
    frequency = table.astype(np.uint64)
    start = np.cumsum(frequency, axis=1, dtype=np.uint64) - frequency
    state = np.full(lanes, _LOW, np.uint64)
    words: list[bytes] = []
    for first in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        symbol, context = symbols[first : first + lanes], contexts[first : first + lanes]
        active = state[: len(symbol)]
        width, offset = frequency[context, symbol], start[context, symbol]
        full = active >= width << np.uint64(32 - SCALE_BITS)
        words.append((active[full] & np.uint64(0xFFFF)).astype("<u2").tobytes())
        active[full] >>= np.uint64(16)
        quotient = active // width
        active[:] = (quotient << np.uint64(SCALE_BITS)) + (active - quotient * width) + offset
    return state.astype("<u4").tobytes() + b"".join(reversed(words))


class Decoder:
    """One run, decoded in portions. ``read(n)`` gives the next bytes of states and words, fewer at their end."""

    def __init__(self, read: Callable[[int], bytes], count: int, table: NDArray[np.uint16]) -> None:
        """``table``: frequencies (contexts, symbols). ``BundleError`` when they do not sum up or the states lack."""
        sums = table.sum(axis=1, dtype=np.int64)
        if not np.isin(sums, (0, SCALE)).all():
            raise BundleError("delta-damaged", "the delta's frequencies do not sum up; fetch the delta again")
        symbols = np.zeros((len(table), SCALE), np.uint8)
        steps = np.zeros((len(table), SCALE), np.uint32)  # frequency in the high half, place within it in the low
        for symbol, step, row in zip(symbols, steps, table.astype(np.int64), strict=True):
            if row.any():
                symbol[:] = np.repeat(np.arange(len(row), dtype=np.uint8), row)
                place = np.arange(SCALE) - np.repeat(np.cumsum(row) - row, row)
                step[:] = np.repeat(row, row) << 16 | place
        self._symbol, self._step = symbols.reshape(-1), steps.reshape(-1)
        self._read = read
        self._words = np.zeros(0, np.uint32)
        self._at = 0
        self._lane = 0
        states = read(STATE_BYTES * lanes_of(count))
        if len(states) != STATE_BYTES * lanes_of(count):
            raise _short()
        self._state = np.frombuffer(states, "<u4").astype(np.uint32)

    def take(self, contexts: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The next symbols, one for each context (N,). ``BundleError`` when the words run out."""
        symbols = np.empty(len(contexts), np.uint8)
        base = contexts.astype(np.uint32) << np.uint32(SCALE_BITS)
        done = 0
        while done < len(symbols):
            turn = min(len(self._state) - self._lane, len(symbols) - done)
            state = self._state[self._lane : self._lane + turn]
            slot = (state & np.uint32(SCALE - 1)) | base[done : done + turn]
            symbols[done : done + turn] = self._symbol[slot]
            step = self._step[slot]
            state >>= np.uint32(SCALE_BITS)
            state *= step >> np.uint32(16)
            state += step & np.uint32(0xFFFF)
            empty = np.flatnonzero(state < _LOW)
            if len(empty):
                state[empty] = state[empty] << np.uint32(16) | self._next(len(empty))
            done += turn
            self._lane = (self._lane + turn) % len(self._state)
        return symbols

    def _next(self, count: int) -> NDArray[np.uint32]:
        if self._at + count > len(self._words):
            raw = self._read(WORD_BYTES * DELTA_LANES_MAX * 8)
            fresh = np.frombuffer(raw, "<u2", len(raw) // WORD_BYTES).astype(np.uint32)
            self._words = np.concatenate((self._words[self._at :], fresh))
            self._at = 0
            if count > len(self._words):
                raise _short()
        self._at += count
        return self._words[self._at - count : self._at]


def _short() -> BundleError:
    return BundleError("delta-damaged", "the delta ends before its tensors do; fetch the delta again")
