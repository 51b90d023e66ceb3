"""One bed at work: the pure pipeline and the pure ladder, joined to a real engine, a real clock and real outputs."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.effects import InputChanged, RateChanged, SamplesArrived, Scored, ScoreWindow
from edgeward.bedside.fallback import (
    Climb,
    EngineFailed,
    GoldenPassed,
    GoodResult,
    InputBack,
    InputLost,
    Ladder,
    Mode,
    transition,
)
from edgeward.bedside.messages import message_of, message_of_rate, mode_message
from edgeward.bedside.verdict import Reason, Verdict
from edgeward.inference.host import Failure
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import ENGINE_HANG_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.bedside.bed_alerts import BedAlerts
    from edgeward.bedside.effects import Effect
    from edgeward.bedside.fallback import Occurrence
    from edgeward.bedside.health import StageLatency
    from edgeward.bedside.messages import Message
    from edgeward.bedside.output.base import Output
    from edgeward.bedside.pipeline import EcgPipeline
    from edgeward.bedside.source.base import Block
    from edgeward.inference.host import EngineHost
    from edgeward.kernel.clock import Clock

_REASON_OF_FAILURE = {
    Failure.CRASHED: Reason.ENGINE_CRASHED,
    Failure.HUNG: Reason.ENGINE_HUNG,
    Failure.BAD_OUTPUT: Reason.BAD_SCORES,
    Failure.NOT_READY: Reason.ENGINE_NOT_READY,
}
_ENGINE_LOOK_NS = 200 * NS_PER_MS
"""How often an idle engine is looked at, so that its death between two beats is noticed well within 1 s."""
_LATENCY_EVERY_NS = NS_PER_S
_NUMERICS_EVERY_NS = 250 * NS_PER_MS
"""How often the threshold checks get the heart rate and the time without a beat."""
_LATE_MAX = 5
"""So many late windows without a timely one between, and the engine is too slow for this device: one burst of another
job makes one or two late, and a banner that says AI while no class ever comes would lie."""


class Bed:
    """Carries a source's blocks through the pipeline and its effects to engine and outputs.

    ``engine`` is None where no bundle is installed: the stream, the heart rate and the threshold alerts run all the
    same. Nothing here raises for trouble with the engine or with one block. ``ladder``: that of the bed before with
    the same engine, because another monitor earns no trust back. ``alerts``: the way to the threshold checks and back;
    without it, as in a measurement of the pipeline alone, there are none.
    """

    def __init__(
        self,
        pipeline: EcgPipeline,
        engine: EngineHost | None,
        outputs: Sequence[Output],
        clock: Clock,
        latency: StageLatency,
        *,
        climb: Climb | None = None,
        ladder: Ladder | None = None,
        alerts: BedAlerts | None = None,
        budget_ms: float,
    ) -> None:
        self._pipeline = pipeline
        self._engine = engine
        self._outputs = outputs
        self._clock = clock
        self._latency = latency
        self._climb = climb or Climb()
        self._alerts = alerts
        self._budget_ms = budget_ms
        now = clock.monotonic_ns()
        self.ladder = replace(ladder or Ladder(), input_lost=None, since_ns=now)
        self._next_look_ns = now
        self._bpm: int | None = None
        self._late_in_a_row = 0
        self._told_engine: tuple[int | None, str, bool, int, str | None] | None = None
        self._next_latency_ns = now + _LATENCY_EVERY_NS
        self._next_numerics_ns = now
        self.counts: dict[str, int] = {"accepted": 0, "withheld": 0, "fallback": 0, "refused_blocks": 0}
        if engine is None:
            self.ladder = transition(self.ladder, EngineFailed(Reason.NO_BUNDLE), now, self._climb)
        self._tell(*mode_message(self.ladder, now))

    def block(self, block: Block) -> None:
        """Take one block from the source and carry out everything that follows from it."""
        now = self._clock.monotonic_ns()
        try:
            effects = self._pipeline.step(SamplesArrived(block.samples, block.start, block.received_ns), now)
        except InputError as error:
            self.counts["refused_blocks"] += 1
            self._tell("source", {"refused": error.code})
            return
        self._carry_out(effects)
        self._offer_numerics()
        self.look()

    def look(self) -> None:
        """What must happen now and then, with or without samples: watch the engine, hear alerts, publish latencies."""
        now = self._clock.monotonic_ns()
        if self._alerts is not None:
            self._tell_all(self._alerts.look(now))
        if now >= self._next_look_ns:
            self._next_look_ns = now + _ENGINE_LOOK_NS
            self._watch_engine()
        if now >= self._next_latency_ns:
            self._next_latency_ns = now + _LATENCY_EVERY_NS
            self._tell("latency", self._latency.message(self._budget_ms))
            # Again and again: a rate that is not renewed grows stale on the page.
            self._tell(*message_of_rate(self._bpm))

    def end(self) -> None:
        """The bed will take no more blocks: what it raised is taken back, so that no reader holds it for ever."""
        self._carry_out(self._pipeline.cleared())
        if self._alerts is not None:
            self._tell_all(self._alerts.end(self._clock.monotonic_ns()))

    def _offer_numerics(self) -> None:
        """After a block's effects, never between a sample and its scores; without blocks there is nothing to say."""
        now = self._clock.monotonic_ns()
        if self._alerts is not None and now >= self._next_numerics_ns:
            self._next_numerics_ns = now + _NUMERICS_EVERY_NS
            self._alerts.offer(self._pipeline.numerics(now))

    def _carry_out(self, effects: list[Effect]) -> None:
        # Windows first: nothing that only tells somebody something may stand between a sample and its scores.
        told = [self._score(effect) if isinstance(effect, ScoreWindow) else [effect] for effect in effects]
        for effect in chain.from_iterable(told):
            if isinstance(effect, InputChanged):
                self._climb_or_fall(InputBack() if effect.lost is None else InputLost(effect.lost))
            elif isinstance(effect, Verdict):
                self._count(effect)
            elif isinstance(effect, RateChanged):
                self._bpm = effect.bpm
            message = message_of(effect)
            if message is not None:
                self._tell(*message)

    def _score(self, request: ScoreWindow) -> list[Effect]:
        if self._engine is None:
            answer = Scored(request.sequence, None, Reason.NO_BUNDLE)
            return self._pipeline.step(answer, self._clock.monotonic_ns())
        mark = self._latency.start()
        inputs = {"wave": request.wave, "rhythm": request.rhythm}
        try:
            result = self._engine.infer(inputs, budget_s=ENGINE_HANG_MS / 1000.0)
        except InputError:  # the window is not what the model takes: no fault of the engine, which stays trusted
            answer = Scored(request.sequence, None, Reason.BAD_SCORES)
            return self._pipeline.step(answer, self._clock.monotonic_ns())
        now = self._latency.lap("engine", mark)
        if result.failure is not None or result.scores is None:
            why = _REASON_OF_FAILURE[result.failure or Failure.BAD_OUTPUT]
            self._climb_or_fall(EngineFailed(why))
            return self._pipeline.step(Scored(request.sequence, None, why), now)
        if now <= request.deadline_ns:  # finite, but late, is not good
            self._late_in_a_row = 0
            self._climb_or_fall(GoodResult())
        why_not = None if self.ladder.failed_at_ns is None else Reason.PROBATION
        scores = np.asarray(result.scores, dtype=np.float32).reshape(-1)
        return self._pipeline.step(Scored(request.sequence, scores, why_not), now)

    def _count(self, verdict: Verdict) -> None:
        self.counts[verdict.outcome.value] += 1
        if verdict.latency_ns:
            self._latency.record("total", verdict.latency_ns)
        if verdict.reason is Reason.LATE:
            self._latency.late += 1
            self._late_in_a_row += 1
            if self._late_in_a_row == _LATE_MAX:
                self._climb_or_fall(EngineFailed(Reason.LATE))

    def _watch_engine(self) -> None:
        if self._engine is None:
            return
        failure = self._engine.check()
        if failure is not None:
            self._climb_or_fall(EngineFailed(_REASON_OF_FAILURE[failure]))
        self._tell_engine()
        if not self.ladder.golden and self._engine.ready:
            self._climb_or_fall(GoldenPassed())  # a worker reports ready only after its golden vectors passed

    def _tell_engine(self) -> None:
        """Say who serves whenever that changes: an engineer at the device wants to see the restarts."""
        assert self._engine is not None
        state = self._engine.state
        now = (self._engine.worker_pid, state.readiness.value, state.standby, state.restarts, state.last_exit)
        if now == self._told_engine:
            return
        self._told_engine = now
        pid, readiness, standby, restarts, last_exit = now
        data = {"pid": pid, "state": readiness, "standby": standby, "restarts": restarts, "last_exit": last_exit}
        self._tell("engine", data)

    def _climb_or_fall(self, occurrence: Occurrence) -> None:
        now = self._clock.monotonic_ns()
        before = self.ladder
        self.ladder = transition(before, occurrence, now, self._climb)
        if (before.mode, before.reason) != (self.ladder.mode, self.ladder.reason):
            self._tell(*mode_message(self.ladder, now))

    @property
    def mode(self) -> Mode:
        """The rung of the ladder now."""
        return self.ladder.mode

    def _tell_all(self, messages: list[Message]) -> None:
        for kind, data in messages:
            self._tell(kind, data)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        for output in self._outputs:
            output.write(kind, data)
