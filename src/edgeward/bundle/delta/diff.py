"""Making a delta. It runs where there is room (a workshop or a fleet server); both bundles are given as bytes."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bundle.delta.form import (
    COPY,
    FILTERS,
    HEADER_BYTES,
    LITERAL,
    REPEAT,
    Header,
    Plan,
    Run,
    Step,
    compress,
    run_lengths,
)
from edgeward.bundle.delta.match import Matcher
from edgeward.bundle.delta.rans import encode, quantise
from edgeward.bundle.delta.residual import (
    CONTEXTS_MAX,
    KINDS,
    contexts_of,
    exponents,
    pack_bits,
    rest_bits,
    split,
)
from edgeward.bundle.delta.tensors import Tensor, members, tensors
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import BUNDLE_BYTES_MAX, DELTA_BLOCK_BYTES, DELTA_PLAN_BYTES_MAX, DELTA_STEPS_MAX

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from edgeward.bundle.delta.residual import Kind

_CONTEXTS = ((1 << 16, CONTEXTS_MAX), (1 << 12, 4), (0, 1))
"""Elements of a run from which on so many contexts are worth their frequencies."""
_TOP_SHARE = 1000
"""One element in so many may lie above the highest exponent that has a context of its own."""


def make_delta(
    old: bytes | mmap.mmap, new: bytes | mmap.mmap, progress: Callable[[int, int], None] | None = None
) -> bytes:
    """The delta that makes the bundle ``new`` out of the installed bundle ``old``; never longer than ``new`` packed.

    ``progress(done, total)`` hears of bytes. Both are whole files; a file that is no bundle is compared as bytes.
    Holds the delta, and about 200 MB for each run; reads the files through the buffers given. Raises ``BundleError``
    ``bundle-too-large``.
    """
    if max(len(old), len(new)) > BUNDLE_BYTES_MAX:
        raise BundleError("bundle-too-large", f"a bundle is larger than {BUNDLE_BYTES_MAX} bytes; refuse it")
    tell = progress or (lambda _done, _total: None)
    with memoryview(old) as before, memoryview(new) as after:
        new_sha256 = hashlib.sha256(after).digest()
        steps = _steps(old, new, before, after)
        delta = _changes(before, after, steps, tell, new_sha256) if len(steps) <= DELTA_STEPS_MAX else None
        if delta is None:
            return _whole(after, new_sha256)
        return _whole(after, new_sha256, len(delta)) or delta


def _changes(
    old: memoryview, new: memoryview, steps: list[Step], tell: Callable[[int, int], None], new_sha256: bytes
) -> bytes | None:
    literals, at = bytearray(), 0
    for step in steps:
        if step.kind == LITERAL:
            literals += new[at : at + step.length]
        at += step.length
    runs, bodies, earlier = [], [], Counter[int]()
    for number, count in run_lengths(steps):
        run, body = _run(KINDS[number], count, _pairs(old, new, steps, number, earlier[number], count))
        runs.append(run)
        bodies.append(body)
        earlier[number] += count
        tell(sum(KINDS[kind].width * made for kind, made in earlier.items()), len(new))
    plan = Plan(tuple(steps), tuple(runs)).pack()
    if len(plan) > DELTA_PLAN_BYTES_MAX:
        return None
    packed, packed_literals = compress(plan), compress(literals)
    header = Header(
        len(old), hashlib.sha256(old).digest(), len(new), new_sha256, len(packed), len(plan), len(packed_literals)
    )
    return header.pack() + packed + packed_literals + b"".join(bodies)


def _whole(new: memoryview, new_sha256: bytes, limit: int = BUNDLE_BYTES_MAX * 2) -> bytes:
    """The delta that needs no installed bundle; empty as soon as it is certain not to be below ``limit`` bytes."""
    plan = Plan((Step(LITERAL, len(new)),) if len(new) else (), ()).pack()
    packed = compress(plan)
    compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=FILTERS)
    literals = bytearray()
    for at in range(0, len(new), DELTA_BLOCK_BYTES):
        literals += compressor.compress(new[at : at + DELTA_BLOCK_BYTES])
        if HEADER_BYTES + len(packed) + len(literals) >= limit:
            return b""
    literals += compressor.flush()
    header = Header(0, hashlib.sha256().digest(), len(new), new_sha256, len(packed), len(plan), len(literals))
    whole = header.pack() + packed + literals
    return whole if len(whole) < limit else b""


@dataclass(frozen=True, slots=True)
class _Piece:
    """New bytes ``start`` to ``stop``, and where in the installed bundle what they come from begins.

    ``kind`` is ``LITERAL`` for bytes to search, else a place among ``KINDS``; ``here`` is ``None`` for a tensor
    that the installed bundle does not have.
    """

    kind: int
    start: int
    stop: int
    here: int | None


def _steps(old_file: bytes | mmap.mmap, new_file: bytes | mmap.mmap, old: memoryview, new: memoryview) -> list[Step]:
    pieces, ranges = _pieces(_members(old_file), _members(new_file), old, new)
    matcher = Matcher(old, ranges)
    steps: list[Step] = []
    written: dict[bytes, int] = {}  # SHA-256 of a tensor → its first place in the new bundle
    for piece in pieces:
        fresh = new[piece.start : piece.stop]
        if piece.kind == LITERAL and piece.here is not None:
            found = matcher.steps(fresh, piece.here)
        elif piece.here is not None and fresh == old[piece.here : piece.here + len(fresh)]:
            found = [Step(COPY, len(fresh), piece.here)]
        elif (place := written.setdefault(hashlib.sha256(fresh).digest(), piece.start)) != piece.start:
            found = [Step(REPEAT, len(fresh), place)]
        else:
            found = [Step(LITERAL, len(fresh)) if piece.here is None else Step(piece.kind, len(fresh), piece.here)]
        for step in found:
            _append(steps, step)
    return steps


def _append(steps: list[Step], step: Step) -> None:
    last = steps[-1] if steps else None
    goes_on = last and last.kind == step.kind and (step.kind == LITERAL or last.offset + last.length == step.offset)
    if last and goes_on:
        steps[-1] = Step(last.kind, last.length + step.length, last.offset)
    elif step.length:
        steps.append(step)


def _members(file: bytes | mmap.mmap) -> list[tuple[str, int, int]]:
    return members(io.BytesIO(file) if isinstance(file, bytes) else file, len(file))  # type: ignore[arg-type]


def _pieces(
    old_members: list[tuple[str, int, int]],
    new_members: list[tuple[str, int, int]],
    old: memoryview,
    new: memoryview,
) -> tuple[list[_Piece], list[tuple[int, int]]]:
    """The new file cut into tensors and the bytes between; and the installed bundle's bytes that are no tensors."""
    places = {name: (start, stop) for name, start, stop in old_members}
    known = {name: _tensors(old, name, start, stop) for name, (start, stop) in places.items()}
    pieces: list[_Piece] = []
    at = here = 0
    for name, start, stop in new_members:
        first, last = places.get(name, (here + start - at, here + start - at))
        pieces.append(_Piece(LITERAL, at, start, max(0, first - (start - at))))
        at, here = start, first
        partners = {(each.name, each.kind, each.stop - each.start): each for each in known.get(name, [])}
        for tensor in _tensors(new, name, start, stop):
            partner = partners.get((tensor.name, tensor.kind, tensor.stop - tensor.start))
            pieces.append(_Piece(LITERAL, at, tensor.start, here))
            pieces.append(_Piece(tensor.kind, tensor.start, tensor.stop, partner.start if partner else None))
            at, here = tensor.stop, partner.stop if partner else here
        pieces.append(_Piece(LITERAL, at, stop, here))
        at, here = stop, last
    pieces.append(_Piece(LITERAL, at, len(new), here))
    edges = [0, *(edge for name in places for each in known[name] for edge in (each.start, each.stop)), len(old)]
    edges.sort()
    return pieces, list(zip(edges[::2], edges[1::2], strict=True))


def _tensors(file: memoryview, name: str, start: int, stop: int) -> list[Tensor]:
    """The tensors of a member, if they lie one after the other."""
    found = tensors(file[start:stop], start) if name.endswith(".onnx") else []
    edges = [edge for each in found for edge in (each.start, each.stop)]
    return [
        Tensor(each.name, each.kind, each.start, each.stop - (each.stop - each.start) % KINDS[each.kind].width)
        for each in (found if edges == sorted(edges) else [])
    ]


def _pairs(
    old: memoryview, new: memoryview, steps: list[Step], number: int, skip: int, count: int
) -> Iterator[tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]]:
    """Installed and new elements of kind ``number``, a block at a time: ``count`` of them after the first ``skip``."""
    dtype, at = KINDS[number].dtype, 0
    for step in steps:
        if step.kind == number:
            elements = step.length // dtype.itemsize
            first, last = max(0, skip), min(elements, skip + count)
            for begin in range(first, last, DELTA_BLOCK_BYTES):
                size = min(DELTA_BLOCK_BYTES, last - begin)
                shift = begin * dtype.itemsize
                yield (
                    np.frombuffer(old, dtype, size, step.offset + shift),
                    np.frombuffer(new, dtype, size, at + shift),
                )
            skip -= elements
        at += step.length


def _run(
    kind: Kind, count: int, pairs: Iterator[tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger]]]
) -> tuple[Run, bytes]:
    symbols, powers = np.empty(count, np.uint8), np.zeros(count, np.uint8)
    bits, left, at = bytearray(), np.zeros(0, np.uint8), 0
    for old, new in pairs:
        part = slice(at, at + len(old))
        symbols[part], folded = split(kind, old, new)
        if kind.exponent_bits:
            powers[part] = exponents(kind, old)
        left = np.concatenate((left, pack_bits(folded, rest_bits(kind, symbols[part]))))
        whole = len(left) // 8 * 8
        bits += np.packbits(left[:whole], bitorder="little").tobytes()
        left, at = left[whole:], at + len(old)
    bits += np.packbits(left, bitorder="little").tobytes()
    contexts = next(number for least, number in _CONTEXTS if count >= least) if kind.exponent_bits else 1
    above = np.cumsum(np.bincount(powers, minlength=256)[::-1])
    top = 255 - int(np.argmax(above * _TOP_SHARE >= count))
    context = contexts_of(top, powers, contexts)
    counts = np.bincount(context.astype(np.int64) * kind.symbols + symbols, minlength=contexts * kind.symbols)
    table = quantise(counts.reshape(contexts, kind.symbols))
    table_packed = compress(table.astype("<u2").tobytes())
    words = encode(symbols, context, table)
    return Run(top, contexts, len(table_packed), len(words), len(bits)), table_packed + words + bits
