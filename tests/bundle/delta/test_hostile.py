"""A malicious or corrupt delta costs at most a failed hash: bounded memory, bounded work, one class of error."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import lzma
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.bundle.delta.diff import make_delta
from edgeward.bundle.delta.form import COPY, HEADER_BYTES, LITERAL, REPEAT, Header, Plan, Run, Step, compress
from edgeward.bundle.delta.patch import apply_delta, read_header
from edgeward.bundle.delta.residual import FP32, INT8
from edgeward.kernel.errors import BundleError
from edgeward.kernel.limits import BUNDLE_BYTES_MAX, DELTA_PLAN_BYTES_MAX, DELTA_STEPS_MAX

RNG = np.random.default_rng(0)


def _field(number: int, data: bytes) -> bytes:
    size, out = len(data), bytearray([number << 3 | 2])
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size]) + data


def _file(scale: float) -> bytes:
    """An archive with FP32 and INT8 tensors, moved by ``scale``, and text."""
    rng = np.random.default_rng(1)
    floats = rng.normal(0, 0.02, 300).astype("<f4")
    floats = (floats + scale * np.random.default_rng(2).normal(0, 1, 300)).astype("<f4")
    whole = np.clip(np.rint(floats / 6e-4), -127, 127).astype(np.int8)
    graph = b"".join(
        _field(5, bytes([2 << 3, kind]) + _field(8, name) + _field(9, raw))
        for name, kind, raw in ((b"f", 1, floats.tobytes()), (b"i", 3, whole.tobytes()))
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("a.txt", b"text " * 200 + str(scale).encode()), ("m.onnx", _field(7, graph))):
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


OLD, NEW = _file(0.0), _file(1e-4)
DELTA = make_delta(OLD, NEW)


class Counting(io.BytesIO):
    """An output that says how much was written to it."""

    total = 0

    def write(self, block: object, /) -> int:
        size = super().write(block)  # type: ignore[arg-type]
        self.total += size
        return size


def attempt(delta: bytes, old: bytes = OLD, sha256: str | None = None) -> tuple[str, int]:
    """The refusal's code ("" if the new bundle came out) and the bytes written until then."""
    out = Counting()
    try:
        made = apply_delta(io.BytesIO(old), io.BytesIO(delta), out, sha256=sha256)
    except BundleError as error:
        return error.code, out.total
    assert made == hashlib.sha256(out.getvalue()).hexdigest()
    return "", out.total


def forged(
    steps: list[Step], new_size: int, runs: tuple[Run, ...] = (), literals: bytes = b"", body: bytes = b""
) -> bytes:
    """A delta of these steps for ``OLD``, well formed but for what they say."""
    plan = Plan(tuple(steps), runs).pack()
    packed = compress(plan)
    header = Header(len(OLD), hashlib.sha256(OLD).digest(), new_size, bytes(32), len(packed), len(plan), len(literals))
    return header.pack() + packed + literals + body


def test_the_honest_delta_holds_every_kind_of_step() -> None:
    """What the tests below damage is a delta with residuals, and it works."""
    assert read_header(io.BytesIO(DELTA)).old_size
    assert attempt(DELTA) == ("", len(NEW))


def test_every_flipped_byte_is_a_refusal_or_harmless() -> None:
    """Whichever byte is damaged, the wanted bundle comes out or a BundleError does, and nothing is written past it."""
    wanted = hashlib.sha256(NEW).hexdigest()
    for mask, first in ((0x01, 0), (0x80, 1), (0xFF, 2)):
        for index in range(first, len(DELTA), 5):
            damaged = DELTA[:index] + bytes([DELTA[index] ^ mask]) + DELTA[index + 1 :]
            code, written = attempt(damaged, sha256=wanted)
            assert code in {
                "",
                "delta-damaged",
                "delta-not-delta",
                "delta-too-large",
                "delta-wrong-base",
                "delta-other-bundle",
            }
            assert written <= len(NEW)


def test_every_truncation_is_refused() -> None:
    """A delta cut anywhere, or with bytes behind it, is refused before anything is written."""
    for length in range(0, len(DELTA), 11):
        code, written = attempt(DELTA[:length])
        assert code in {"delta-damaged", "delta-not-delta"}
        assert not written
    assert attempt(DELTA + b"\0")[0] == "delta-damaged"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_deltas_end_in_a_bundle_error(data: st.DataObject) -> None:
    """Bytes overwritten, cut out and doubled: a BundleError, or the very bundle that the header names."""
    raw = bytearray(DELTA)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=24))
        match data.draw(st.sampled_from(["over", "cut", "twice"])):
            case "over":
                raw[at : at + len(patch)] = patch
            case "cut":
                del raw[at : at + len(patch)]
            case _:
                raw[at:at] = raw[at : at + len(patch)]
        if not raw:
            return
    code, written = attempt(bytes(raw))
    assert code or hashlib.sha256(NEW).digest() in raw
    assert written <= BUNDLE_BYTES_MAX


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_plan_is_read_or_refused(raw: bytes) -> None:
    """Arbitrary bytes as a plan are a BundleError, or steps that stay inside both bundles."""
    header = dataclasses.replace(read_header(io.BytesIO(DELTA)), new_size=len(raw))
    try:
        plan = Plan.unpack(raw, header)
    except BundleError as error:
        assert error.code == "delta-damaged"  # noqa: PT017  (either outcome is right)
        return
    assert sum(step.length for step in plan.steps) == header.new_size
    assert all(step.offset >= 0 for step in plan.steps)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 255), st.integers(1, 16), st.sampled_from([INT8, FP32]))
def test_any_bytes_as_a_run_are_decoded_or_refused(body: bytes, top: int, contexts: int, kind: int) -> None:
    """States, words and bits of a stranger give wrong elements, and the hash says so."""
    symbols = {INT8: 256, FP32: 64}[kind]
    table = np.zeros((contexts, symbols), "<u2")
    table[:, : symbols // 2] = (1 << 14) // (symbols // 2)
    packed = compress(table.tobytes())
    half = len(body) // 2
    run = Run(top, contexts, len(packed), half, len(body) - half)
    assert attempt(forged([Step(kind, 400, 0)], 400, (run,), body=packed + body))[0] == "delta-damaged"


@pytest.mark.parametrize("fill", [0, 1, 0x4000, 0xFFFF])
def test_frequencies_that_do_not_sum_up_are_refused(fill: int) -> None:
    """A table is whole or it is no table; one of zeros decodes to nothing that the hash would pass."""
    packed = compress(np.full((1, 256), fill, "<u2").tobytes())
    run = Run(0, 1, len(packed), 4, 0)
    assert attempt(forged([Step(INT8, 100, 0)], 100, (run,), body=packed + bytes(4)))[0] == "delta-damaged"


@pytest.mark.parametrize(
    ("steps", "size"),
    [
        ([Step(COPY, 10, len(OLD) - 5)], 10),
        ([Step(COPY, 1 << 34, 0)], 1 << 34),
        ([Step(FP32, 10, 0)], 10),
        ([Step(INT8, 10, len(OLD))], 10),
        ([Step(COPY, 5, 0)], 10),
        ([Step(COPY, 5, 0), Step(REPEAT, 6, 0)], 11),
        ([Step(REPEAT, 5, 0)], 5),
        ([Step(COPY, 0, 0), Step(COPY, 5, 0)], 5),
        ([Step(LITERAL, 5)], 5),
        ([], 5),
    ],
)
def test_steps_outside_the_bundles_are_refused(steps: list[Step], size: int) -> None:
    """Nothing is read beyond the installed bundle, repeated before it is written, or left unsaid."""
    runs = tuple(Run(0, 1, 0, 0, 0) for step in steps if step.kind >= 0)
    code, written = attempt(forged(steps, size, runs))
    assert code in {"delta-damaged", "delta-too-large"}
    assert not written


def test_too_many_steps_are_refused() -> None:
    """The number of steps has a ceiling, and the plan of a delta has one in bytes."""
    many = Plan.pack
    with pytest.raises(BundleError, match="steps"):
        many(Plan((Step(COPY, 1, 0),) * (DELTA_STEPS_MAX + 1), ()))
    header = dataclasses.replace(read_header(io.BytesIO(DELTA)), plan_size=DELTA_PLAN_BYTES_MAX + 1)
    assert attempt(header.pack() + DELTA[HEADER_BYTES:])[0] == "delta-too-large"
    header = dataclasses.replace(header, plan_size=10, new_size=BUNDLE_BYTES_MAX + 1)
    assert attempt(header.pack() + DELTA[HEADER_BYTES:])[0] == "delta-too-large"


def test_a_decompression_bomb_unpacks_no_more_than_was_said() -> None:
    """Literals that would swell to 256 MB give the few bytes that the plan says, in little memory."""
    bomb = lzma.compress(bytes(1 << 28), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    delta = forged([Step(LITERAL, 1000)], 1000, literals=bomb)
    tracemalloc.start()
    try:
        code, written = attempt(delta)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert code == "delta-damaged"  # the forged hash does not hold
    assert written == 1000
    assert peak < 16 << 20


def test_memory_does_not_grow_with_the_bundle() -> None:
    """Making 24 MB of weights holds a few MB of Python and numpy, as making 4 MB does."""
    peaks = []
    for size in (4 << 20, 24 << 20):
        old = RNG.integers(-100, 100, size).astype(np.int8)
        new = old.copy()
        new[::4097] += 1
        files = [
            _field(7, _field(5, bytes([2 << 3, 3]) + _field(8, b"w") + _field(9, a.tobytes()))) for a in (old, new)
        ]
        archives = []
        for file in files:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(zipfile.ZipInfo("m.onnx"), file)
            archives.append(buffer.getvalue())
        delta = make_delta(*archives)
        assert read_header(io.BytesIO(delta)).old_size
        base, given_delta, out = io.BytesIO(archives[0]), io.BytesIO(delta), Sink()
        tracemalloc.start()
        try:
            apply_delta(base, given_delta, out)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert max(peaks) < 32 << 20
    assert peaks[1] < peaks[0] + (4 << 20)


class Sink:
    """An output that keeps nothing."""

    def write(self, block: memoryview, /) -> int:
        return len(block)

    def seek(self, offset: int, /) -> int:
        return offset

    def read(self, count: int, /) -> bytes:
        return bytes(count)
