"""The contract of a backend: what every file in ``edgeward.inference.backends`` must do, checked on a small model.

A new backend is tested by giving its name to ``BACKENDS`` in the manifest; a third party runs
``check_backend(load_backend)`` in its own tests. The models come from ``samples``: ONNX networks (which need the
``onnx`` package, as ``edgeward.testing.bundles`` does) or boosted trees.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bundle.archive import read_bundle
from edgeward.inference.engine import Buffers
from edgeward.inference.golden import read_golden
from edgeward.kernel.errors import BundleError, ConfigError
from edgeward.testing.bundles import tiny_bundle, tiny_model
from edgeward.testing.tree_bundles import tree_bundle, tree_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.inference.backend import Backend

_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Samples:
    """What a backend is tried with: ``bundles`` with golden vectors, the first of which serves every other check.

    ``other``: a model file of other shapes than the first bundle's.
    """

    bundles: tuple[Callable[[], bytes], ...]
    other: Callable[[], bytes]


NETWORKS = Samples((tiny_bundle, partial(tiny_bundle, network="conv")), partial(tiny_model, samples=200))
TREES = Samples((tree_bundle, partial(tree_bundle, seed=5, trees=40)), partial(tree_model, features=5))


def samples_of(name: str) -> Samples:
    """The samples that the backend called ``name`` takes."""
    return TREES if name == "trees" else NETWORKS


def _loaded(backend: Backend, raw: bytes) -> tuple[Callable[[int], float], Buffers]:
    """A model with its golden vectors: the worst difference of vector ``index``, and the bound buffers."""
    bundle = read_bundle(raw)
    vectors = read_golden(bundle)
    buffers = Buffers.private(bundle.manifest)
    session = backend.load(bundle.model_bytes(), buffers.inputs, buffers.outputs, threads=1)

    def difference(index: int) -> float:
        buffers.fill({name: array[index] for name, array in vectors.inputs.items()})
        session.run()
        return float(np.abs(buffers.scores[0] - vectors.expected[index]).max())

    return difference, buffers


def check_scores_match_the_reference(backend: Backend, samples: Samples = NETWORKS) -> None:
    """Every sample gives the scores of its reference: ONNX's own evaluator, or trees walked and counted by hand."""
    for number, make in enumerate(samples.bundles):
        difference, buffers = _loaded(backend, make())
        worst = max(difference(index) for index in range(4))
        assert worst <= _TOLERANCE, f"sample {number}: scores differ from the reference by {worst}"
        assert buffers.scores.any(), "nothing was written"


def check_buffers_are_read_and_written_in_place(backend: Backend, samples: Samples = NETWORKS) -> None:
    """A run reads what lies in the inputs now and writes the very array that it was given; inputs stay as they are."""
    difference, buffers = _loaded(backend, samples.bundles[0]())
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
    assert all(np.array_equal(buffers.inputs[name], array, equal_nan=True) for name, array in before.items()), (
        "a run changed its input"
    )


def check_a_session_keeps_its_buffers_alive(backend: Backend, samples: Samples = NETWORKS) -> None:
    """A session still runs when its caller has let go of the buffers."""
    bundle = read_bundle(samples.bundles[0]())
    buffers = Buffers.private(bundle.manifest)
    session = backend.load(bundle.model_bytes(), buffers.inputs, buffers.outputs, threads=1)
    del buffers
    gc.collect()
    session.run()


def check_sessions_do_not_share_state(backend: Backend, samples: Samples = NETWORKS) -> None:
    """Two sessions of one model do not see each other's inputs or scores."""
    one, one_buffers = _loaded(backend, samples.bundles[0]())
    two, _ = _loaded(backend, samples.bundles[0]())
    one(0)
    scores = one_buffers.scores.copy()
    two(1)
    assert np.array_equal(one_buffers.scores, scores)


def check_a_file_that_is_no_model_is_refused(backend: Backend, samples: Samples = NETWORKS) -> None:
    """Garbage, nothing and a cut-off model are a ``BundleError``, never a crash."""
    bundle = read_bundle(samples.bundles[0]())
    for model in (b"", b"not a model" * 100, bundle.model_bytes()[:-200]):
        _expect_refusal(backend, model, Buffers.private(bundle.manifest))


def check_a_model_of_other_shapes_is_refused(backend: Backend, samples: Samples = NETWORKS) -> None:
    """A model with other shapes or names than the buffers is a ``BundleError`` at load, not a surprise at run."""
    bundle = read_bundle(samples.bundles[0]())
    _expect_refusal(backend, samples.other(), Buffers.private(bundle.manifest))
    buffers = Buffers.private(bundle.manifest)
    first = next(iter(buffers.inputs))
    renamed = Buffers({"pulse" if name == first else name: a for name, a in buffers.inputs.items()}, buffers.outputs)
    _expect_refusal(backend, bundle.model_bytes(), renamed)
    fewer = Buffers({name: array for name, array in buffers.inputs.items() if name != first}, buffers.outputs)
    _expect_refusal(backend, bundle.model_bytes(), fewer)


def check_threads_are_limited(backend: Backend, samples: Samples = NETWORKS) -> None:
    """No thread at all, or thousands, is a ``ConfigError``."""
    bundle = read_bundle(samples.bundles[0]())
    for threads in (0, -1, 4096):
        buffers = Buffers.private(bundle.manifest)
        try:
            backend.load(bundle.model_bytes(), buffers.inputs, buffers.outputs, threads=threads)
        except ConfigError:
            continue
        raise AssertionError(f"{threads} threads were accepted")


CHECKS: tuple[Callable[[Backend, Samples], None], ...] = (
    check_scores_match_the_reference,
    check_buffers_are_read_and_written_in_place,
    check_a_session_keeps_its_buffers_alive,
    check_sessions_do_not_share_state,
    check_a_file_that_is_no_model_is_refused,
    check_a_model_of_other_shapes_is_refused,
    check_threads_are_limited,
)


def check_backend(backend: Backend, samples: Samples = NETWORKS) -> None:
    """Run every check; ``AssertionError`` names what does not hold."""
    for check in CHECKS:
        check(backend, samples)


def _expect_refusal(backend: Backend, model: bytes, buffers: Buffers) -> None:
    try:
        backend.load(model, buffers.inputs, buffers.outputs, threads=1)
    except BundleError:
        return
    raise AssertionError("a model that does not fit was accepted")
