"""Streams a record through the bedside pipeline, as fast as the machine goes, and keeps the verdicts.

Nothing here is a second implementation: quality, QRS detection, windows and decision are those of the bedside, fed in
blocks; only the engine is called in place, and the clock stands still, so that no window is late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.bedside.effects import SamplesArrived, Scored, ScoreWindow
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.stage_timer import NoTimer
from edgeward.bedside.verdict import Outcome, Reason, Verdict
from edgeward.kernel.errors import EngineError
from edgeward.signal.beat import SYMBOL_OF_CLASS, BeatClass
from edgeward.wire.wfdb import Annotations

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from edgeward.bedside.decide import Decision
    from edgeward.bedside.effects import Effect
    from edgeward.signal.preprocess import BeatWindowSpec
    from edgeward.wire.wfdb import Record

    Score = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    """wave (1, C, T), rhythm (1, K) → probabilities (5,)."""

_BLOCK_S = 0.25


def stream_record(record: Record, spec: BeatWindowSpec, decision: Decision, score: Score) -> list[Verdict]:
    """One verdict per detected beat of ``record``, in beat order.

    Raises ``InputError`` for a record that the bedside would refuse.
    """
    pipeline = EcgPipeline(
        record.leads,
        record.rate_hz,
        spec,
        decision,
        deadline_ms=1.0,
        timer=NoTimer(),
        limits_mv=record.limits_mv,
    )
    block = max(1, round(_BLOCK_S * record.rate_hz))
    verdicts: list[Verdict] = []
    for start in range(0, record.samples.shape[1], block):
        event = SamplesArrived(record.samples[:, start : start + block], start, 0)
        _carry_out(pipeline, pipeline.step(event, 0), score, verdicts)
    _carry_out(pipeline, pipeline.finish(), score, verdicts)
    return verdicts


def annotations_of(verdicts: list[Verdict]) -> Annotations:
    """The verdicts as beat annotations at the source's rate: N, S, V, F or Q.

    A beat whose window was not accepted is a Q: it was detected, and nothing is claimed of its class.
    """
    ordered = sorted(verdicts, key=lambda verdict: verdict.source_index)
    symbols = [SYMBOL_OF_CLASS[v.beat_class if v.beat_class is not None else BeatClass.Q] for v in ordered]
    return Annotations.of([v.source_index for v in ordered], symbols)


def withheld_counts(verdicts: list[Verdict]) -> dict[str, int]:
    """How many beats were withheld, by reason."""
    counts: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.outcome is Outcome.WITHHELD and verdict.reason is not None:
            counts[verdict.reason.value] = counts.get(verdict.reason.value, 0) + 1
    return counts


def _carry_out(pipeline: EcgPipeline, effects: list[Effect], score: Score, verdicts: list[Verdict]) -> None:
    for effect in effects:
        if isinstance(effect, Verdict):
            verdicts.append(effect)
        elif isinstance(effect, ScoreWindow):
            verdicts.extend(
                answer for answer in pipeline.step(_scored(effect, score), 0) if isinstance(answer, Verdict)
            )


def _scored(request: ScoreWindow, score: Score) -> Scored:
    try:
        return Scored(request.sequence, score(request.wave, request.rhythm), None)
    except EngineError:
        return Scored(request.sequence, None, Reason.BAD_SCORES)
