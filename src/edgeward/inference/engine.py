"""An engine: one model of a bundle, loaded and warmed on its backend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.inference.backend import allocate, backend
from edgeward.inference.golden import GoldenReport, GoldenVectors, read_golden
from edgeward.kernel.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bundle.archive import Bundle
    from edgeward.bundle.manifest import Manifest
    from edgeward.inference.backend import Array, Session

WARM_UP_RUNS = 20
"""Enough for the first-run allocations of ONNX Runtime's arena (all done by the third run) and for warm caches."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """Where a model's inputs and outputs lie: name → float32 array of batch 1, in the manifest's order."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    may_miss: frozenset[str] = frozenset()
    """Inputs in which NaN means "not measured"."""

    @classmethod
    def private(cls, manifest: Manifest) -> Buffers:
        """Buffers in this process's own memory."""
        return cls(allocate(manifest.inputs), allocate(manifest.outputs), may_miss(manifest))

    @property
    def scores(self) -> Array:
        """The model's first output, (1, classes)."""
        return next(iter(self.outputs.values()))

    def fill(self, inputs: Mapping[str, Array]) -> None:
        """Copy ``inputs`` in: each as in the manifest, with a batch axis of 1 or without one.

        Raises ``InputError``: ``input-names``, ``input-shape`` (shape or dtype), ``input-not-finite``. INT8 models turn
        a NaN into a number, so that only a check before the model keeps a missing value from being scored.
        """
        if inputs.keys() != self.inputs.keys():
            raise InputError("input-names", f"the model takes {sorted(self.inputs)}; correct the caller")
        for name, buffer in self.inputs.items():
            array = inputs[name]
            if array.dtype != buffer.dtype or (array.shape != buffer.shape and array.shape != buffer.shape[1:]):
                raise InputError("input-shape", f"input {name} must be float32 {buffer.shape[1:]}; correct the caller")
            buffer[...] = array
            wrong = np.isinf(buffer) if name in self.may_miss else ~np.isfinite(buffer)
            if wrong.any():
                raise InputError("input-not-finite", f"input {name} holds a NaN or an infinity; withhold this window")


def may_miss(manifest: Manifest) -> frozenset[str]:
    """Names of the inputs whose NaN means "not measured"."""
    return frozenset(spec.name for spec in manifest.inputs if spec.missing)


class Engine:
    """A loaded model. ``buffers`` may be filled and read directly around ``run`` (that is what a worker does)."""

    def __init__(self, session: Session, buffers: Buffers, vectors: GoldenVectors) -> None:
        self.buffers = buffers
        self._session = session
        self._vectors = vectors
        self._scores: Array = buffers.scores[0]  # (classes,), a view

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        key: str | None = None,
        *,
        threads: int = 1,
        warm_up_runs: int = WARM_UP_RUNS,
        buffers: Buffers | None = None,
    ) -> Engine:
        """Load model ``key`` (default: the manifest's) and run it ``warm_up_runs`` times on a golden vector.

        Raises ``BundleError`` (the model or golden vectors do not fit the manifest), ``ConfigError`` (no such backend
        or its library is absent) and ``EngineError`` (``run-failed``).
        """
        vectors = read_golden(bundle, key)
        buffers = buffers or Buffers.private(bundle.manifest)
        spec = bundle.manifest.model(key)
        session = backend(spec.backend).load(
            bundle.model_bytes(spec.key), buffers.inputs, buffers.outputs, threads=threads
        )
        engine = cls(session, buffers, vectors)
        for _ in range(warm_up_runs):
            engine._fill_golden(0)
            session.run()
        return engine

    def run(self) -> None:
        """Score what lies in ``buffers``. Raises ``EngineError``: ``run-failed``, ``bad-output`` (NaN or infinite)."""
        self._session.run()
        if not np.isfinite(self._scores).all():
            raise EngineError("bad-output", "the model gave scores that are not finite; fall back")

    def infer(self, inputs: Mapping[str, Array]) -> Array:
        """Scores (classes,) of one window, a fresh array. Raises as ``Buffers.fill`` and ``run``."""
        self.buffers.fill(inputs)
        self.run()
        return self._scores.copy()

    def golden(self) -> GoldenReport:
        """Run every golden vector. Never raises: a vector that cannot be run fails with an infinite difference."""
        worst = 0.0
        for index in range(len(self._vectors)):
            self._fill_golden(index)
            try:
                self.run()
            except EngineError:
                worst = math.inf
                break
            worst = max(worst, float(np.abs(self._scores - self._vectors.expected[index]).max()))
        return GoldenReport(worst <= self._vectors.tolerance, worst, len(self._vectors))

    def _fill_golden(self, index: int) -> None:
        self.buffers.fill(self._vectors.window(index))
