"""Applying a delta: streamed, in bounded memory and time, trusting nothing but the new bundle's hash.

Memory: one block of elements and its intermediate arrays, the plan, and for each kind of element one run's tables:
below 64 MB whatever the model's size (``bench/delta_memory.py`` measures it). Time: each byte written costs a bounded
amount of work, and how many bytes are written is bounded before the first one.
"""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bundle.delta.form import HEADER_BYTES, LITERAL, REPEAT, Header, Plan, Run, Unpacker, damaged, run_lengths
from edgeward.bundle.delta.rans import Decoder
from edgeward.bundle.delta.residual import KINDS, BitReader, contexts_of, exponents, join
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import DELTA_BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, Protocol

    from numpy.typing import NDArray

    from edgeward.bundle.delta.residual import Kind

    class Sink(Protocol):
        """Where the new bundle goes, and what of it is already there comes from."""

        def write(self, block: memoryview, /) -> int:
            """Take some of ``block`` and say how many bytes."""

        def seek(self, offset: int, /) -> int:
            """Go to byte ``offset``."""

        def read(self, count: int, /) -> bytes:
            """The next ``count`` bytes, fewer at the end."""


_BLOCK_ELEMENTS = DELTA_BLOCK_BYTES // 4
"""Elements made at a time; arrays of eight bytes for each of them come and go."""


def read_header(delta: BinaryIO) -> Header:
    """What a delta says of the two bundles. ``BundleError`` ``delta-not-delta`` or ``delta-too-large``."""
    delta.seek(0)
    return Header.unpack(delta.read(HEADER_BYTES))


def apply_delta(
    old: BinaryIO,
    delta: BinaryIO,
    out: Sink,
    *,
    sha256: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write the new bundle to ``out`` from the installed one; returns its SHA-256 in lower-case hex.

    ``out`` is written from its beginning to its end; what repeats itself is read back from it. ``sha256`` is the hash
    that the new bundle must have, from signed metadata; without it the delta's own word is taken, which finds damage
    but no malice. ``progress(done, total)`` hears of bytes read and written. What is in ``out`` counts for nothing
    until this returns.

    ``BundleError``: ``delta-not-delta``, ``delta-too-large``, ``delta-damaged``; ``delta-wrong-base`` when it was made
    for another installed bundle, ``delta-other-bundle`` when it makes another than ``sha256``. ``OSError``: the
    disk's.
    """
    header = read_header(delta)
    if sha256 is not None and header.new_sha256.hex() != sha256:
        raise BundleError("delta-other-bundle", "the delta makes another bundle than the one wanted; fetch that one's")
    plan, sections = _open(delta, header)
    tell = _Progress(progress, header.old_size + header.new_size)
    if header.old_size:  # 0: it holds the whole new bundle and suits any installed one
        _check_base(old, header, tell)
    made = hashlib.sha256()
    literals = Unpacker(sections[1])
    streams = _streams(plan, sections[2:])
    written = 0
    for step in plan.steps:
        if step.kind not in {LITERAL, REPEAT}:
            old.seek(step.offset)
        size = DELTA_BLOCK_BYTES if step.kind < 0 else _BLOCK_ELEMENTS * KINDS[step.kind].width
        for at in range(0, step.length, size):
            length = min(size, step.length - at)
            if step.kind == LITERAL:
                block = literals.take(length)
            elif step.kind == REPEAT:
                block = _read_back(out, step.offset + at, length, written)
            else:
                block = _read(old, length)
            if step.kind >= 0:
                block = streams[step.kind].make(block)
            made.update(block)
            _write(out, block)
            written += length
            tell.add(length)
    if made.digest() != header.new_sha256:
        raise damaged()
    return made.hexdigest()


class _Section:
    """Part of the delta's file, read from its beginning to its end beside the other parts."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._at, self._stop = file, start, start + size

    def __call__(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        self._file.seek(self._at)
        fresh = self._file.read(min(count, self._stop - self._at))
        self._at += len(fresh)
        return fresh


def _open(delta: BinaryIO, header: Header) -> tuple[Plan, list[_Section]]:
    packed = _Section(delta, HEADER_BYTES, header.plan_packed)
    plan = Plan.unpack(Unpacker(packed).take(header.plan_size), header)
    sizes = [header.plan_packed, header.literals_packed]
    for run in plan.runs:
        sizes += [run.table_packed, run.words, run.bits]
    sections, at = [], HEADER_BYTES
    for size in sizes:
        sections.append(_Section(delta, at, size))
        at += size
    if delta.seek(0, 2) != at:
        raise damaged()
    return plan, sections


def _check_base(old: BinaryIO, header: Header, tell: _Progress) -> None:
    wrong = BundleError(
        "delta-wrong-base", "the delta was made for another installed bundle; fetch the one for this, or the whole file"
    )
    if old.seek(0, 2) != header.old_size:
        raise wrong
    old.seek(0)
    found = hashlib.sha256()
    while block := old.read(DELTA_BLOCK_BYTES):
        found.update(block)
        tell.add(len(block))
    if found.digest() != header.old_sha256:
        raise wrong


def _streams(plan: Plan, sections: list[_Section]) -> dict[int, _Stream]:
    runs: dict[int, list[tuple[int, Run, list[_Section]]]] = {}
    for place, ((kind, count), run) in enumerate(zip(run_lengths(plan.steps), plan.runs, strict=True)):
        runs.setdefault(kind, []).append((count, run, sections[3 * place : 3 * place + 3]))
    return {kind: _Stream(KINDS[kind], iter(each)) for kind, each in runs.items()}


class _Stream:
    """All runs of one kind of element, one after the other."""

    def __init__(self, kind: Kind, runs: Iterator[tuple[int, Run, list[_Section]]]) -> None:
        self._kind, self._runs, self._left = kind, runs, 0

    def make(self, block: bytes) -> bytes:
        """The new elements of as many installed ones."""
        old = np.frombuffer(block, self._kind.dtype)
        made: list[NDArray[np.unsignedinteger]] = []
        while len(old):
            if not self._left:
                self._begin()
            part = old[: self._left]
            powers = exponents(self._kind, part) if self._kind.exponent_bits else np.zeros(len(part), np.uint8)
            symbols = self._decoder.take(contexts_of(self._run.top, powers, self._run.contexts))
            made.append(join(self._kind, part, symbols, self._bits))
            self._left -= len(part)
            old = old[len(part) :]
        return b"".join(each.tobytes() for each in made)

    def _begin(self) -> None:
        self._left, self._run, (table, words, bits) = next(self._runs)
        size = 2 * self._run.contexts * self._kind.symbols
        frequencies = np.frombuffer(Unpacker(table).take(size), "<u2")
        self._decoder = Decoder(words, self._left, frequencies.reshape(self._run.contexts, self._kind.symbols))
        self._bits = BitReader(bits)


class _Progress:
    def __init__(self, hear: Callable[[int, int], None] | None, total: int) -> None:
        self._hear, self._total, self._done = hear, total, 0

    def add(self, count: int) -> None:
        self._done += count
        if self._hear:
            self._hear(self._done, self._total)


def _read(old: BinaryIO, length: int) -> bytes:
    block = old.read(length)
    if len(block) != length:
        raise BundleError("delta-wrong-base", "the installed bundle shrank while the delta was applied; try it again")
    return block


def _read_back(out: Sink, offset: int, length: int, written: int) -> bytes:
    out.seek(offset)
    block = out.read(length)
    out.seek(written)
    if len(block) != length:
        raise OSError(errno.EIO, "what was just written does not read back")
    return block


def _write(out: Sink, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[out.write(view) :]
