"""The contract of a backend: what every file in ``edgeward.inference.backends`` must do, checked on a small model.

A new backend is tested by giving its name to ``BACKENDS`` in the manifest; a third party runs
``check_backend(load_backend)`` in its own tests. Needs the ``onnx`` package, as ``edgeward.testing.bundles`` does.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bundle.archive import read_bundle
from edgeward.inference.engine import Buffers
from edgeward.inference.golden import read_golden
from edgeward.kernel.errors import BundleError, ConfigError
from edgeward.testing.bundles import tiny_bundle, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.inference.backend import Backend

_TOLERANCE = 1e-4


def _loaded(backend: Backend, network: str = "linear") -> tuple[Callable[[int], float], Buffers]:
    """A model with its golden vectors: the worst difference of vector ``index``, and the bound buffers."""
    bundle = read_bundle(tiny_bundle(network=network))
    vectors = read_golden(bundle)
    buffers = Buffers.private(bundle.manifest)
    session = backend.load(bundle.model_bytes(), buffers.inputs, buffers.outputs, threads=1)

    def difference(index: int) -> float:
        buffers.fill({name: array[index] for name, array in vectors.inputs.items()})
        session.run()
        return float(np.abs(buffers.scores[0] - vectors.expected[index]).max())

    return difference, buffers


def check_scores_match_the_reference(backend: Backend) -> None:
    """A linear and a convolutional model give the scores of ONNX's reference evaluator."""
    for network in ("linear", "conv"):
        difference, buffers = _loaded(backend, network)
        worst = max(difference(index) for index in range(4))
        assert worst <= _TOLERANCE, f"{network}: scores differ from the reference by {worst}"
        assert buffers.scores.shape == (1, 5)


def check_buffers_are_read_and_written_in_place(backend: Backend) -> None:
    """A run reads what lies in the inputs now and writes the very array that it was given; inputs stay as they are."""
    difference, buffers = _loaded(backend)
    difference(0)
    first = buffers.scores.copy()
    address = buffers.scores.ctypes.data
    buffers.scores[...] = -1.0
    before = {name: array.copy() for name, array in buffers.inputs.items()}
    difference(0)
    assert np.array_equal(buffers.scores, first), "the same inputs gave other scores"
    difference(1)
    assert not np.array_equal(buffers.scores, first), "other inputs gave the same scores"
    assert buffers.scores.ctypes.data == address
    difference(0)
    assert all(np.array_equal(buffers.inputs[name], array) for name, array in before.items()), "a run changed its input"


def check_a_session_keeps_its_buffers_alive(backend: Backend) -> None:
    """A session still runs when its caller has let go of the buffers."""
    bundle = read_bundle(tiny_bundle())
    buffers = Buffers.private(bundle.manifest)
    session = backend.load(bundle.model_bytes(), buffers.inputs, buffers.outputs, threads=1)
    del buffers
    gc.collect()
    session.run()


def check_sessions_do_not_share_state(backend: Backend) -> None:
    """Two sessions of one model do not see each other's inputs or scores."""
    one, one_buffers = _loaded(backend)
    two, _ = _loaded(backend)
    one(0)
    scores = one_buffers.scores.copy()
    two(1)
    assert np.array_equal(one_buffers.scores, scores)


def check_a_file_that_is_no_model_is_refused(backend: Backend) -> None:
    """Garbage, nothing and a cut-off model are a ``BundleError``, never a crash."""
    bundle = read_bundle(tiny_bundle())
    for model in (b"", b"not a model" * 100, bundle.model_bytes()[:-200]):
        _expect_refusal(backend, model, Buffers.private(bundle.manifest))


def check_a_model_of_other_shapes_is_refused(backend: Backend) -> None:
    """A model with other shapes or names than the buffers is a ``BundleError`` at load, not a surprise at run."""
    bundle = read_bundle(tiny_bundle(samples=250))
    _expect_refusal(backend, tiny_model(samples=200), Buffers.private(bundle.manifest))
    buffers = Buffers.private(bundle.manifest)
    renamed = Buffers({"pulse" if name == "wave" else name: a for name, a in buffers.inputs.items()}, buffers.outputs)
    _expect_refusal(backend, bundle.model_bytes(), renamed)
    fewer = Buffers({"wave": buffers.inputs["wave"]}, buffers.outputs)
    _expect_refusal(backend, bundle.model_bytes(), fewer)


def check_threads_are_limited(backend: Backend) -> None:
    """No thread at all, or thousands, is a ``ConfigError``."""
    bundle = read_bundle(tiny_bundle())
    for threads in (0, -1, 4096):
        buffers = Buffers.private(bundle.manifest)
        try:
            backend.load(bundle.model_bytes(), buffers.inputs, buffers.outputs, threads=threads)
        except ConfigError:
            continue
        raise AssertionError(f"{threads} threads were accepted")


CHECKS: tuple[Callable[[Backend], None], ...] = (
    check_scores_match_the_reference,
    check_buffers_are_read_and_written_in_place,
    check_a_session_keeps_its_buffers_alive,
    check_sessions_do_not_share_state,
    check_a_file_that_is_no_model_is_refused,
    check_a_model_of_other_shapes_is_refused,
    check_threads_are_limited,
)


def check_backend(backend: Backend) -> None:
    """Run every check; ``AssertionError`` names what does not hold."""
    for check in CHECKS:
        check(backend)


def _expect_refusal(backend: Backend, model: bytes, buffers: Buffers) -> None:
    try:
        backend.load(model, buffers.inputs, buffers.outputs, threads=1)
    except BundleError:
        return
    raise AssertionError("a model that does not fit was accepted")
