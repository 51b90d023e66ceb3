"""The engine inside one process: inputs checked, scores right, golden vectors, refusals."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.inference import backend as backend_module
from edgeward.inference.backend import backend
from edgeward.inference.engine import Buffers, Engine
from edgeward.inference.golden import read_golden, write_golden
from edgeward.kernel.errors import BundleError, ConfigError, EngineError, InputError
from edgeward.testing.bundles import NAN_ABOVE, tiny_bundle, tiny_model

if TYPE_CHECKING:
    from edgeward.inference.backend import Array


def test_scores_are_the_golden_ones(bundle: Bundle) -> None:
    """A golden vector gives its expected scores, with a batch axis or without one."""
    engine, vectors = Engine.load(bundle), read_golden(bundle)
    one = {name: array[2] for name, array in vectors.inputs.items()}
    batch = {name: array[2:3] for name, array in vectors.inputs.items()}
    assert engine.infer(one) == pytest.approx(vectors.expected[2], abs=1e-5)
    assert np.array_equal(engine.infer(batch), engine.infer(one))


def test_scores_are_the_callers_to_keep(bundle: Bundle, window: dict[str, Array]) -> None:
    """A later window does not change the scores of an earlier one."""
    engine = Engine.load(bundle)
    first = engine.infer(window)
    kept = first.copy()
    engine.infer({**window, "wave": -window["wave"]})
    assert np.array_equal(first, kept)


def test_golden_vectors_pass_and_fail_by_the_manifests_tolerance(bundle: Bundle) -> None:
    """Golden vectors pass as made and fail when the expected scores lie beyond the tolerance."""
    report = Engine.load(bundle).golden()
    assert report.passed
    assert report.count == 4
    assert 0 <= report.worst < 1e-5
    shifted = Engine.load(read_bundle(tiny_bundle(golden_shift=0.01))).golden()
    assert not shifted.passed
    assert shifted.worst == pytest.approx(0.01, abs=1e-5)


def test_golden_vectors_that_cannot_be_scored_fail(bundle: Bundle) -> None:
    """NaN scores on a golden vector are a failed report, not an exception."""
    vectors = read_golden(bundle)
    poisoned = {**vectors.inputs, "rhythm": np.full_like(vectors.inputs["rhythm"], 2 * NAN_ABOVE)}
    members = {**bundle.members, "golden.npz": write_golden(poisoned, {"fp32": vectors.expected})}
    report = Engine.load(replace(bundle, members=members), warm_up_runs=0).golden()
    assert not report.passed
    assert report.worst == math.inf


def test_scores_that_are_not_finite_are_an_engine_error(bundle: Bundle, window: dict[str, Array]) -> None:
    """NaN from the model never leaves the engine, and the next good window is scored."""
    engine = Engine.load(bundle)
    with pytest.raises(EngineError) as raised:
        engine.infer({**window, "rhythm": np.full(8, 2 * NAN_ABOVE, np.float32)})
    assert raised.value.code == "bad-output"
    assert np.isfinite(engine.infer(window)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_missing_value_is_never_scored(bundle: Bundle, window: dict[str, Array], value: float) -> None:
    """One NaN or infinity among the inputs is an InputError before the model runs."""
    window["wave"][1, 249] = value
    with pytest.raises(InputError) as raised:
        Engine.load(bundle).infer(window)
    assert raised.value.code == "input-not-finite"


@pytest.mark.parametrize(("value", "taken"), [(np.nan, True), (np.inf, False), (-np.inf, False)])
def test_where_values_may_be_missing_nan_is_taken_and_infinity_is_not(value: float, *, taken: bool) -> None:
    """An input declared ``missing`` hands NaN to the model as "not measured"."""
    buffers = Buffers({"features": np.zeros((1, 3), np.float32)}, {}, frozenset({"features"}))
    inputs = {"features": np.array([1.0, value, 2.0], np.float32)}
    if taken:
        buffers.fill(inputs)
        np.testing.assert_array_equal(buffers.inputs["features"][0], inputs["features"])
        return
    with pytest.raises(InputError) as raised:
        buffers.fill(inputs)
    assert raised.value.code == "input-not-finite"


def test_infinities_that_cancel_are_not_finite(bundle: Bundle, window: dict[str, Array]) -> None:
    """Plus and minus infinity in one input do not hide each other."""
    window["wave"][0, :2] = np.inf, -np.inf
    with pytest.raises(InputError):
        Engine.load(bundle).infer(window)


def test_inputs_of_another_shape_type_or_name_are_refused(bundle: Bundle, window: dict[str, Array]) -> None:
    """An input that is not what the manifest describes is an InputError with its own code, never broadcast."""
    engine = Engine.load(bundle)
    refused: list[tuple[str, dict[str, Array]]] = [
        ("input-shape", {**window, "wave": window["wave"][:, :249]}),
        ("input-shape", {**window, "wave": window["wave"][:1]}),
        ("input-shape", {**window, "wave": np.stack([window["wave"]] * 2)}),
        ("input-shape", {**window, "wave": window["wave"].astype(np.float64)}),  # type: ignore[dict-item]
        ("input-names", {"wave": window["wave"]}),
        ("input-names", {**window, "pulse": window["rhythm"]}),
    ]
    for code, inputs in refused:
        with pytest.raises(InputError) as raised:
            engine.infer(inputs)
        assert raised.value.code == code


def test_a_model_that_is_none_or_does_not_fit_is_refused() -> None:
    """A garbage model file and one of other shapes than the manifest's are BundleErrors."""
    for model, code in ((b"garbage", "model-refused"), (tiny_model(samples=200), "model-mismatch")):
        with pytest.raises(BundleError) as raised:
            Engine.load(read_bundle(tiny_bundle(model=model)))
        assert raised.value.code == code


def test_each_key_has_its_own_model() -> None:
    """A bundle's models are loaded by key; a key that it does not hold is refused."""
    two = read_bundle(tiny_bundle(keys=("fp32", "second")))
    assert Engine.load(two, "second").golden().passed
    with pytest.raises(BundleError):
        Engine.load(two, "third")


def test_backends_that_are_not_there_are_config_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown backend, one without a file and one without its library each say so."""
    with pytest.raises(ConfigError) as unknown:
        backend("os")
    monkeypatch.setattr(backend_module, "BACKENDS", frozenset({"onnxruntime", "nowhere"}))
    with pytest.raises(ConfigError) as absent:
        backend("nowhere")
    found = backend_module.importlib.util.find_spec
    monkeypatch.setattr(
        backend_module.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    with pytest.raises(ConfigError) as library:
        backend("onnxruntime")
    codes = [error.value.code for error in (unknown, absent, library)]
    assert codes == ["backend-unknown", "backend-absent", "backend-library"]


def _with_golden(bundle: Bundle, member: bytes) -> Bundle:
    return replace(bundle, members={**bundle.members, "golden.npz": member})


def _npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_golden_members_that_are_not_as_described_are_refused(bundle: Bundle) -> None:
    """Garbage, pickles, missing arrays, other counts, types or NaN in the golden member are BundleErrors."""
    vectors = read_golden(bundle)
    good = {**vectors.inputs, "scores__fp32": vectors.expected}
    refused = [
        b"garbage",
        bundle.golden_bytes()[:-30],
        _npz(**{**good, "wave": np.array([{}, {}, {}, {}], dtype=object)}),
        _npz(**vectors.inputs),
        _npz(**{name: array[:3] for name, array in good.items()}),
        _npz(**{**good, "wave": np.zeros((4, 2, 100_000), np.float32)}),
        _npz(**{**good, "scores__fp32": vectors.expected.astype(np.float16)}),
        _npz(**{**good, "rhythm": np.full((4, 8), np.nan, np.float32)}),
    ]
    for member in refused:
        with pytest.raises(BundleError):
            read_golden(_with_golden(bundle, member))


def test_a_flipped_bit_anywhere_in_the_golden_member_never_escapes_as_another_error(bundle: Bundle) -> None:
    """Whatever byte is damaged, reading gives vectors or a BundleError."""
    raw = bundle.golden_bytes()
    for position in range(0, len(raw), 97):
        damaged = bytearray(raw)
        damaged[position] ^= 0x41
        try:
            read_golden(_with_golden(bundle, bytes(damaged)))
        except BundleError:
            continue


def test_writing_golden_vectors_twice_gives_the_same_bytes(bundle: Bundle) -> None:
    """The golden member does not depend on when it was written or in which order."""
    vectors = read_golden(bundle)
    backwards = dict(reversed(vectors.inputs.items()))
    assert write_golden(vectors.inputs, {"fp32": vectors.expected}) == bundle.golden_bytes()
    assert write_golden(backwards, {"fp32": vectors.expected}) == bundle.golden_bytes()
