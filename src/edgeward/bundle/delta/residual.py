"""What changed in a tensor, element by element: kinds of elements, and the symbols and bits of their residuals.

A residual is the new element minus the installed one, both taken as whole numbers. The bits of a floating-point number,
with the negatives turned round, are such a number in the order of its value: a step of one is a step to the next
representable weight. Fine-tuning moves all weights by about the same amount, so a residual's size depends on the
installed weight's exponent; that exponent is therefore the context in which a float's residual is coded.

A residual becomes a *symbol* (its size, as an Elias–Gamma code with one or more bits after the first) and *bits* (the
rest, which nothing predicts and which are stored as they are).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CONTEXTS_MAX = 16
_REST_BITS_MAX = 32


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of element, little endian: 1, 2 or 4 bytes; bits of its exponent, 0 for a whole number; bits kept.

    ``kept_bits``: how many bits of a residual its symbol keeps after the first one.
    """

    width: int
    exponent_bits: int
    kept_bits: int

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The unsigned numpy type of its bits."""
        return np.dtype(f"<u{self.width}")

    @property
    def symbols(self) -> int:
        """How many symbols its residuals can have."""
        rest = 8 * self.width - 1 - self.kept_bits
        return (rest << self.kept_bits) + (2 << self.kept_bits)


KINDS = (
    Kind(width=1, exponent_bits=0, kept_bits=7),  # INT8
    Kind(width=2, exponent_bits=5, kept_bits=3),  # FP16
    Kind(width=2, exponent_bits=8, kept_bits=3),  # BF16
    Kind(width=4, exponent_bits=8, kept_bits=1),  # FP32
    Kind(width=4, exponent_bits=0, kept_bits=1),  # INT32
)
"""Every kind; a delta names one by its place here."""
INT8, FP16, BF16, FP32, INT32 = range(len(KINDS))


def exponents(kind: Kind, elements: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """The biased exponent (N,) of floating-point elements given by their bits; 0 for whole numbers."""
    mantissa_bits = 8 * kind.width - 1 - kind.exponent_bits
    return ((elements >> mantissa_bits) & ((1 << kind.exponent_bits) - 1)).astype(np.uint8)


def contexts_of(top: int, powers: NDArray[np.uint8], contexts: int) -> NDArray[np.uint8]:
    """The context (N,) of each element: how far the exponent of the installed one lies below ``top``, cut."""
    return np.clip(top - powers.astype(np.int16), 0, contexts - 1).astype(np.uint8)


def split(
    kind: Kind, old: NDArray[np.unsignedinteger], new: NDArray[np.unsignedinteger]
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Symbols and folded residuals (N,) between elements given by their bits."""
    difference = (_ordered(kind, new) - _ordered(kind, old)).astype(kind.dtype)
    sign = difference >> (8 * kind.width - 1)
    folded = ((difference << 1) ^ (0 - sign)).astype(kind.dtype).astype(np.uint32)  # 0, −1, 1, −2 … → 0, 1, 2, 3 …
    rest = np.maximum(_bit_length(folded) - 1 - kind.kept_bits, 0)
    return ((rest << kind.kept_bits) + (folded >> rest.astype(np.uint32))).astype(np.uint8), folded


def join(
    kind: Kind, old: NDArray[np.unsignedinteger], symbols: NDArray[np.uint8], bits: BitReader
) -> NDArray[np.unsignedinteger]:
    """The new elements (N,), by their bits, of the installed ones, the symbols and what ``bits`` gives next."""
    rest = rest_bits(kind, symbols)
    top = symbols.astype(np.uint32) - (rest << kind.kept_bits).astype(np.uint32)
    folded = (top << rest.astype(np.uint32) | bits.take(rest)).astype(kind.dtype)
    difference = (folded >> 1) ^ (0 - (folded & 1)).astype(kind.dtype)
    return _ordered(kind, (_ordered(kind, old) + difference).astype(kind.dtype))


def rest_bits(kind: Kind, symbols: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many bits (N,) follow each symbol: at most 30."""
    rest: NDArray[np.int64] = (symbols.astype(np.int64) >> kind.kept_bits) - 1
    return np.maximum(rest, 0)


def pack_bits(folded: NDArray[np.uint32], rest: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The lowest ``rest`` bits of each residual, one after the other, as an array of 0 and 1 (sum of rest,)."""
    owner = np.repeat(np.arange(len(rest)), rest)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(rest) - rest, rest)
    return ((folded[owner] >> place.astype(np.uint32)) & 1).astype(np.uint8)


class BitReader:
    """Bits out of bytes, lowest first. ``read(n)`` gives the next bytes, fewer at their end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = b""
        self._skip = 0  # bits of the first byte of ``_left`` that are used up

    def take(self, widths: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The next numbers (N,), each of its width in bits. ``BundleError`` when the bytes run out."""
        ends = np.cumsum(widths) + self._skip
        stop = int(ends[-1]) if len(ends) else self._skip
        whole = (stop + 7) // 8
        raw = self._left + self._read(whole - len(self._left))
        if len(raw) < whole:
            raise BundleError("delta-damaged", "the delta ends before its tensors do; fetch the delta again")
        self._left, self._skip = raw[stop // 8 :], stop % 8
        buffer = np.frombuffer(raw + bytes(8), np.uint8).astype(np.uint64)
        starts = ends - widths
        byte = starts >> 3
        value = np.zeros(len(widths), np.uint64)
        for place in range((_REST_BITS_MAX + 7 + 7) // 8):
            value |= buffer[byte + place] << np.uint64(8 * place)
        value >>= (starts & 7).astype(np.uint64)
        return (value & ((np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1))).astype(np.uint32)


def _ordered(kind: Kind, bits: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Floats in the order of their value, wrapping (its own inverse): −x lies as far below −0 as x above +0."""
    if not kind.exponent_bits:
        return bits
    flip = ((1 << (8 * kind.width - 1)) - 1) * (bits >> (8 * kind.width - 1))
    return (bits ^ flip).astype(kind.dtype)


def _bit_length(numbers: NDArray[np.uint32]) -> NDArray[np.int64]:
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
