"""A delta makes the new bundle byte for byte, never costs more than the whole, and knows weights."""

from __future__ import annotations

import hashlib
import io
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeward
from edgeward.bundle.archive import hash_members, read_bundle, write_bundle
from edgeward.bundle.delta.diff import make_delta
from edgeward.bundle.delta.form import FILTERS, HEADER_BYTES
from edgeward.bundle.delta.patch import apply_delta, read_header
from edgeward.kernel.errors import BundleError
from edgeward.testing.repository import tiny_bundle

SHIPPED = (Path(edgeward.__file__).parent / "bundle" / "shipped" / "ecg-beat.ewb").read_bytes()


def applied(old: bytes, delta: bytes, sha256: str | None = None) -> bytes:
    out = io.BytesIO()
    apply_delta(io.BytesIO(old), io.BytesIO(delta), out, sha256=sha256)
    return out.getvalue()


def refusal(old: bytes, delta: bytes, sha256: str | None = None) -> str:
    with pytest.raises(BundleError) as caught:
        applied(old, delta, sha256)
    return caught.value.code


def whole(new: bytes) -> int:
    """Bytes of the delta that needs no installed bundle."""
    return len(make_delta(b"", new))


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of protocol buffers."""
    size, out = len(data), bytearray([number << 3 | 2])
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size]) + data


def model(*tensors: tuple[str, int, bytes]) -> bytes:
    """An ONNX file of nothing but initializers: name, TensorProto.DataType, raw data."""
    graph = b"".join(
        field(5, bytes([2 << 3, kind]) + field(8, name.encode()) + field(9, raw)) for name, kind, raw in tensors
    )
    return field(7, graph)


def bundle(version: str, **models: bytes) -> bytes:
    base = read_bundle(tiny_bundle(version))
    members = {**base.members, **{f"{name}.onnx": raw for name, raw in models.items()}}
    return write_bundle(_with_hashes(base.manifest, members), members)


def _with_hashes(manifest: object, members: dict[str, bytes]) -> object:
    import dataclasses

    return dataclasses.replace(manifest, hashes=hash_members(members))  # type: ignore[type-var]


def weights(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")


def moved(given: np.ndarray, by: float) -> np.ndarray:
    return (given + np.random.default_rng(9).normal(0, by, given.shape)).astype("<f4")


def as_int8(given: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(given / 6e-4), -127, 127).astype(np.int8)


def test_the_shipped_bundle_comes_out_byte_for_byte() -> None:
    """A retrained head of the shipped bundle: exact bytes, and about a thousandth of them sent."""
    shipped = read_bundle(SHIPPED)
    name = "models/fp32.onnx"
    raw = bytearray(shipped.members[name])
    raw[-60_000:-59_000] = bytes(1000)
    members = {**shipped.members, name: bytes(raw)}
    new = write_bundle(_with_hashes(shipped.manifest, members), members)  # type: ignore[arg-type]
    delta = make_delta(SHIPPED, new)
    assert applied(SHIPPED, delta, hashlib.sha256(new).hexdigest()) == new
    assert len(delta) < 0.002 * len(new)


@pytest.mark.parametrize(
    ("kind", "bound"), [("fp32", 0.75), ("int8", 0.25), ("fp16", 0.75), ("bf16", 0.75), ("int32", 0.75)]
)
def test_fine_tuned_weights_of_every_kind_are_sent_as_residuals(kind: str, bound: float) -> None:
    """Each kind of element comes back exactly and costs far less than its packed bytes."""
    old = weights(60_000)
    new = moved(old, 2e-5)
    convert = {
        "fp32": (1, lambda w: w.tobytes()),
        "int8": (3, lambda w: as_int8(w).tobytes()),
        "fp16": (10, lambda w: w.astype("<f2").tobytes()),
        "bf16": (16, lambda w: (w.view("<u4") >> 16).astype("<u2").tobytes()),
        "int32": (6, lambda w: np.rint(w * 1e7).astype("<i4").tobytes()),
    }
    number, pack = convert[kind]
    before = bundle("1.0.0", a=model(("w", number, pack(old))))
    after = bundle("1.0.1", a=model(("w", number, pack(new))))
    delta = make_delta(before, after)
    assert applied(before, delta) == after
    assert len(delta) < bound * whole(after)


@pytest.mark.parametrize("raw", [0x7FC00001, 0xFF800000, 0x80000000, 0x00000001, 0xFFFFFFFF])
def test_odd_floats_come_back_bit_for_bit(raw: int) -> None:
    """NaN with a payload, infinities, −0 and subnormal numbers are bits like any other."""
    old = weights(5000)
    new = moved(old, 1e-5)
    new.view("<u4")[::7] = raw
    before, after = (bundle("1.0.0", a=model(("w", 1, each.tobytes()))) for each in (old, new))
    delta = make_delta(before, after)
    assert read_header(io.BytesIO(delta)).old_size
    assert applied(before, delta) == after
    back = make_delta(after, before)
    assert applied(after, back) == before


def test_a_tensor_that_two_models_share_is_sent_once() -> None:
    """What one model of the bundle repeats of another costs a step, not its residuals again."""
    old, new = weights(40_000), moved(weights(40_000), 1e-5)
    one = [bundle("1.0.0", a=model(("w", 1, w.tobytes()))) for w in (old, new)]
    two = [bundle("1.0.0", **dict.fromkeys("ab", model(("w", 1, w.tobytes())))) for w in (old, new)]
    delta = make_delta(*two)
    assert applied(two[0], delta) == two[1]
    assert len(delta) < len(make_delta(*one)) + 400


def test_added_removed_reshaped_and_reordered_tensors_are_made_too() -> None:
    """Another architecture costs more bytes but no correctness."""
    w = [weights(3000, seed) for seed in range(4)]
    before = bundle("1.0.0", a=model(*((f"w{i}", 1, each.tobytes()) for i, each in enumerate(w))))
    after = bundle(
        "2.0.0",
        a=model(("w2", 1, moved(w[2], 1e-5).tobytes()), ("w0", 1, w[0].tobytes()), ("new", 1, w[1][:1000].tobytes())),
        b=model(("w3", 1, w[3].tobytes())),
    )
    delta = make_delta(before, after)
    assert applied(before, delta) == after
    assert len(delta) < whole(after)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.binary(max_size=3000), st.integers(0, 3000))
def test_any_two_files_come_out_exactly_and_never_cost_more_than_the_whole(old: bytes, tail: bytes, cut: int) -> None:
    """For arbitrary bytes, alike or not, the delta gives the new ones and is at most as long as the whole packed."""
    for new in (tail, old[:cut] + tail + old[cut:], old[cut:] + old[:cut], old):
        delta = make_delta(old, new)
        assert applied(old, delta, hashlib.sha256(new).hexdigest()) == new
        packed = len(lzma.compress(new, lzma.FORMAT_RAW, filters=FILTERS))
        assert len(delta) <= whole(new) <= packed + HEADER_BYTES + 32


def test_unrelated_weights_cost_no_more_than_the_whole() -> None:
    """A network trained anew is sent whole, and such a delta suits any installed bundle."""
    before, after = (bundle("1.0.0", a=model(("w", 1, weights(20_000, seed).tobytes()))) for seed in (1, 2))
    delta = make_delta(before, after)
    assert len(delta) <= whole(after)
    assert applied(b"anything", make_delta(b"", after)) == after


def test_a_run_longer_than_its_ceiling_begins_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frequencies start anew at the ceiling, also in the middle of a tensor."""
    from edgeward.bundle.delta import form

    monkeypatch.setattr(form, "DELTA_RUN_SYMBOLS", 1000)
    old = weights(5500)
    pair = [
        bundle("1.0.0", a=model(("v", 1, w[:1750].tobytes()), ("w", 1, w[1750:].tobytes())))
        for w in (old, moved(old, 1e-6))
    ]
    delta = make_delta(*pair)
    assert read_header(io.BytesIO(delta)).old_size
    assert applied(pair[0], delta) == pair[1]


def test_delta_for_another_installed_bundle_is_refused() -> None:
    """The wrong base is found before a byte is written, whatever its length."""
    before, after = tiny_bundle("1.0.0", filler=bytes(5000)), tiny_bundle("1.0.1", filler=bytes(5000))
    delta = make_delta(before, after)
    for wrong in (tiny_bundle("1.0.2", filler=bytes(5000)), before[:-1], before + b"x", b""):
        out = io.BytesIO()
        with pytest.raises(BundleError) as caught:
            apply_delta(io.BytesIO(wrong), io.BytesIO(delta), out)
        assert caught.value.code == "delta-wrong-base"
        assert not out.getvalue()


def test_delta_that_makes_another_bundle_than_the_signed_one_is_refused() -> None:
    """What signed metadata names decides, not what the delta says of itself."""
    before, after = tiny_bundle("1.0.0"), tiny_bundle("1.0.1")
    assert refusal(before, make_delta(before, after), hashlib.sha256(before).hexdigest()) == "delta-other-bundle"


def test_progress_ends_at_the_total() -> None:
    """Progress rises and reaches what it said it would."""
    before, after = tiny_bundle("1.0.0", filler=bytes(900_000)), tiny_bundle("1.0.1", filler=bytes(900_000))
    heard: list[tuple[int, int]] = []
    apply_delta(
        io.BytesIO(before),
        io.BytesIO(make_delta(before, after)),
        io.BytesIO(),
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1] == len(before) + len(after)


def test_bundle_over_the_ceiling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side works on a file that no device may install."""
    from edgeward.bundle.delta import diff, form

    before, after = tiny_bundle("1.0.0"), tiny_bundle("1.0.1")
    delta = make_delta(before, after)
    monkeypatch.setattr(form, "BUNDLE_BYTES_MAX", len(after) - 1)
    monkeypatch.setattr(diff, "BUNDLE_BYTES_MAX", len(after) - 1)
    assert refusal(before, delta) == "delta-too-large"
    with pytest.raises(BundleError, match="larger"):
        make_delta(before, after)
