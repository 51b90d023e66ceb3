"""The delta file: header, plan, literals, runs; everything bounded before it is unpacked.

::

    header    magic, size and SHA-256 of the installed and of the new bundle, sizes of the next two     fixed
    plan      the steps that write the new bundle from its first byte to its last; runs' directory      LZMA
    literals  the bytes that no step takes from elsewhere, in order                                     LZMA
    runs      for each kind of tensor element in turn: frequencies (LZMA), states and words, bits

A step is COPY (so many bytes of the installed bundle from there), REPEAT (so many of the new bundle from there, already
written: models share tensors), LITERAL (so many of the literals) or a kind of tensor element (so many bytes, each
element made of the installed one there and the next residual of that kind). A run is up to 2^24 elements of one kind;
how many runs there are follows from the steps. A delta that holds the whole new bundle is the one step LITERAL.

The header's hashes protect against mistakes, not against people: what the new bundle's hash has to be, a device knows
from signed metadata.
"""

from __future__ import annotations

import lzma
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bundle.delta.residual import CONTEXTS_MAX, KINDS
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import (
    BUNDLE_BYTES_MAX,
    DELTA_DICTIONARY_BYTES,
    DELTA_PLAN_BYTES_MAX,
    DELTA_RUN_SYMBOLS,
    DELTA_STEPS_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX = ".ewd"
_MAGIC = b"EWDELTA1"
_HEADER = struct.Struct("<8sQ32sQ32sIIQ")
HEADER_BYTES = _HEADER.size
FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": DELTA_DICTIONARY_BYTES},)
"""LZMA as all is packed that is no residual: raw, so that a delta cannot ask for a larger dictionary."""
COPY = -1
LITERAL = -2
REPEAT = -3
_FIRST_KIND = REPEAT
_VARINT_BYTES_MAX = 5
_PORTION_BYTES = 1 << 14  # of packed bytes read at a time


@dataclass(frozen=True, slots=True)
class Header:
    """The beginning of a delta: sizes in bytes, hashes as 32 bytes."""

    old_size: int
    old_sha256: bytes
    new_size: int
    new_sha256: bytes
    plan_packed: int
    plan_size: int
    literals_packed: int

    def pack(self) -> bytes:
        """Its ``HEADER_BYTES`` bytes."""
        return _HEADER.pack(
            _MAGIC,
            self.old_size,
            self.old_sha256,
            self.new_size,
            self.new_sha256,
            self.plan_packed,
            self.plan_size,
            self.literals_packed,
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Header:
        """Read it; ``BundleError`` ``delta-not-delta`` or ``delta-too-large``."""
        if len(raw) != HEADER_BYTES or raw[: len(_MAGIC)] != _MAGIC:
            raise BundleError("delta-not-delta", "the file is not a delta that this Edgeward reads; fetch it again")
        header = cls(*_HEADER.unpack(raw)[1:])
        if max(header.old_size, header.new_size) > BUNDLE_BYTES_MAX or header.plan_size > DELTA_PLAN_BYTES_MAX:
            raise BundleError(
                "delta-too-large",
                f"the delta speaks of a bundle over {BUNDLE_BYTES_MAX} bytes or a plan over {DELTA_PLAN_BYTES_MAX}; "
                "refuse it",
            )
        return header


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``kind`` (``COPY``, ``REPEAT``, ``LITERAL`` or a place in ``KINDS``), bytes written, first one taken.

    ``offset`` counts in the installed bundle; in the new one for ``REPEAT``; it is 0 for a literal.
    """

    kind: int
    length: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Directory entry of a run: highest exponent and number of contexts, bytes of its three parts."""

    top: int
    contexts: int
    table_packed: int
    words: int
    bits: int

    @property
    def size(self) -> int:
        """Bytes of the run in the delta."""
        return self.table_packed + self.words + self.bits


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps in the order of the new bundle, and the runs by kind, then in order."""

    steps: tuple[Step, ...]
    runs: tuple[Run, ...]

    def pack(self) -> bytes:
        """Column by column, so that what is alike lies together; ``BundleError`` over ``DELTA_STEPS_MAX``."""
        if len(self.steps) > DELTA_STEPS_MAX:
            raise BundleError("delta-too-large", f"the delta would have more than {DELTA_STEPS_MAX} steps")
        kinds, lengths, offsets = bytearray(_varint(len(self.steps))), bytearray(), bytearray()
        at = expected = 0
        for step in self.steps:
            kinds.append(step.kind - _FIRST_KIND)
            lengths += _varint(step.length)
            if step.kind == REPEAT:
                offsets += _varint(at - step.offset)
            elif step.kind != LITERAL:
                distance = step.offset - expected
                offsets += _varint(distance << 1 if distance >= 0 else ~distance << 1 | 1)
                expected = step.offset
            expected += step.length  # a literal most often stands for as many bytes of the installed bundle
            at += step.length
        runs = (_varint(n) for run in self.runs for n in (run.top, run.contexts, run.table_packed, run.words, run.bits))
        return bytes(kinds + lengths + offsets) + b"".join(runs)

    @classmethod
    def unpack(cls, raw: bytes, header: Header) -> Plan:
        """Read and check it against ``header``; ``BundleError`` ``delta-damaged`` for any step outside the bundles."""
        reader = _Reader(raw)
        count = reader.number()
        _hold(count <= DELTA_STEPS_MAX)
        kinds = [code + _FIRST_KIND for code in reader.take(count)]
        _hold(all(kind < len(KINDS) for kind in kinds))
        lengths = [reader.number() for _ in kinds]
        _hold(all(lengths) and sum(lengths) == header.new_size)
        steps: list[Step] = []
        at = expected = 0
        for kind, length in zip(kinds, lengths, strict=True):
            if kind == LITERAL:
                steps.append(Step(kind, length))
            elif kind == REPEAT:
                distance = reader.number()
                _hold(length <= distance <= at)
                steps.append(Step(kind, length, at - distance))
            else:
                folded = reader.number()
                offset = expected + ((folded >> 1) ^ -(folded & 1))
                _hold(offset >= 0 and offset + length <= header.old_size)
                _hold(kind < 0 or length % KINDS[kind].width == 0)
                steps.append(Step(kind, length, offset))
                expected = offset
            expected += length
            at += length
        runs = [Run(*(reader.number() for _ in range(5))) for _ in run_lengths(steps)]
        _hold(all(1 <= run.contexts <= CONTEXTS_MAX and run.top < 256 for run in runs))
        _hold(reader.at_end())
        return cls(tuple(steps), tuple(runs))


def run_lengths(steps: tuple[Step, ...] | list[Step]) -> list[tuple[int, int]]:
    """Kind and number of elements of every run that ``steps`` need, by kind, then in order."""
    lengths: list[tuple[int, int]] = []
    for number, kind in enumerate(KINDS):
        left = sum(step.length for step in steps if step.kind == number) // kind.width
        while left:
            lengths.append((number, min(left, DELTA_RUN_SYMBOLS)))
            left -= lengths[-1][1]
    return lengths


def compress(raw: bytes | bytearray) -> bytes:
    """LZMA as ``Unpacker`` unpacks it."""
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=FILTERS)


class Unpacker:
    """LZMA unpacked in portions: never more than is asked for, whatever the packed bytes would swell to."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """``read(n)`` gives the next packed bytes, fewer at their end."""
        self._read = read
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)

    def take(self, count: int) -> bytes:
        """Exactly the next ``count`` bytes; ``BundleError`` when they run out."""
        out = bytearray()
        while len(out) < count:
            packed = b""
            if self._lzma.needs_input:
                packed = self._read(_PORTION_BYTES)
                if not packed:
                    raise damaged()
            try:
                out += self._lzma.decompress(packed, count - len(out))
            except (lzma.LZMAError, EOFError, ValueError) as error:
                raise damaged() from error
        return bytes(out)


def damaged() -> BundleError:
    """The error for a delta that does not hold together."""
    return BundleError("delta-damaged", "the delta is damaged or was made by a stranger; fetch it again")


def _hold(condition: bool) -> None:
    if not condition:
        raise damaged()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def take(self, count: int) -> bytes:
        _hold(self._at + count <= len(self._raw))
        self._at += count
        return self._raw[self._at - count : self._at]

    def number(self) -> int:
        value = 0
        for place in range(_VARINT_BYTES_MAX):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise damaged()

    def at_end(self) -> bool:
        return self._at == len(self._raw)
