"""One bed at work: the pure pipeline and the pure ladder, joined to a real engine, a real clock and real outputs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeward.bedside.effects import InputChanged, RateChanged, SamplesArrived, Scored, ScoreWindow, SeenBeside
from edgeward.bedside.fallback import (
    Banner,
    Climb,
    GoldenPassed,
    GoodResult,
    Ladder,
    Mode,
    RungFailed,
    banner,
    transition,
)
from edgeward.bedside.messages import message_of, message_of_rate, mode_message
from edgeward.bedside.verdict import Reason, Verdict
from edgeward.inference.host import Failure
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import ENGINE_HANG_MS, ENGINE_LOOK_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from edgeward.bedside.bed_alerts import BedAlerts
    from edgeward.bedside.decide import Decision
    from edgeward.bedside.effects import Effect
    from edgeward.bedside.fallback import Occurrence, Trust
    from edgeward.bedside.health import StageLatency
    from edgeward.bedside.messages import Message
    from edgeward.bedside.model import Plan
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
_LATENCY_EVERY_NS = NS_PER_S
_NUMERICS_EVERY_NS = 250 * NS_PER_MS
"""How often the threshold checks get the heart rate and the time without a beat."""
_LATE_MAX = 5
"""So many late windows without a timely one between, and the engine is too slow for this device: one burst of another
job makes one or two late, and a banner that says AI while no class ever comes would lie."""


@dataclass(frozen=True, slots=True)
class Rung:
    """An engine and how its scores are read."""

    engine: EngineHost
    decision: Decision


class Charged(Protocol):
    """Who watches how the bundle in charge does, and may put another in charge with ``Bed.adopt`` (``BedCharge``)."""

    def scored(self, request: ScoreWindow, scores: npt.NDArray[np.float32]) -> None:
        """LOCAL gave ``scores`` (5,) for a window."""
        ...

    def failed(self, before: Trust, after: Trust) -> None:
        """LOCAL failed: its trust was ``before`` and is ``after``."""
        ...

    def seen_beside(self, seen: SeenBeside) -> None:
        """A beat as another bundle sees it."""
        ...

    def turn(self) -> None:
        """Everything of this moment is on its way. Called every ``ENGINE_LOOK_MS``."""
        ...


class Bed:
    """Carries a source's blocks through the pipeline and its effects to engines and outputs.

    ``rungs`` is empty where no bundle is installed: the stream, the heart rate and the threshold alerts run all the
    same. Nothing here raises for trouble with an engine or with one block. ``ladder``: that of the bed before with
    the same engines, because another monitor earns no trust back. ``alerts``: the way to the threshold checks and
    back; without it, as in a measurement of the pipeline alone, there are none. ``charged``: where bundles may change
    while the bed is watched.
    """

    def __init__(
        self,
        pipeline: EcgPipeline,
        rungs: Mapping[Mode, Rung],
        outputs: Sequence[Output],
        clock: Clock,
        latency: StageLatency,
        *,
        climb: Climb | None = None,
        ladder: Ladder | None = None,
        alerts: BedAlerts | None = None,
        charged: Charged | None = None,
        simulated: bool = False,
        budget_ms: float,
    ) -> None:
        self._pipeline = pipeline
        self._rungs = rungs
        self._outputs = outputs
        self._clock = clock
        self._latency = latency
        self._climb = climb or Climb()
        self._alerts = alerts
        self._charged = charged
        self._simulated = simulated
        self._budget_ms = budget_ms
        now = clock.monotonic_ns()
        self.ladder = ladder or Ladder.of(*rungs)
        self._lost: Reason | None = None
        self._next_look_ns = now
        self._bpm: int | None = None
        self._late_in_a_row = 0
        self._told: dict[Mode, tuple[int | None, str, bool, int, str | None]] = {}
        self._next_latency_ns = now + _LATENCY_EVERY_NS
        self._next_numerics_ns = now
        self.counts: dict[str, int] = {"accepted": 0, "withheld": 0, "fallback": 0, "refused_blocks": 0}
        if Mode.LOCAL not in rungs:
            self.ladder = transition(self.ladder, RungFailed(Reason.NO_BUNDLE), now, self._climb)
        self._banner: Banner = banner(None, self.ladder, None, now)
        self._tell(*mode_message(self._banner, now))

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
            self._next_look_ns = now + ENGINE_LOOK_MS * NS_PER_MS
            self._watch_engines()
            if self._charged is not None:
                self._charged.turn()
        if now >= self._next_latency_ns:
            self._next_latency_ns = now + _LATENCY_EVERY_NS
            self._tell("latency", self._latency.message(self._budget_ms))
            # Again and again: a rate that is not renewed grows stale on the page.
            self._tell(*message_of_rate(self._bpm))

    @property
    def quiet(self) -> bool:
        """Whether another bundle could be in charge of the next window and take nothing from the bed."""
        return self._pipeline.quiet

    def knows(self, plan: Plan) -> bool:
        """Whether windows of this plan are the patient's already, so that it could judge the next beat."""
        return self._pipeline.knows(plan.spec)

    def see_as(self, plan: Plan | None) -> None:
        """Have the windows cut too that a bundle of this plan would see, where they differ; None: no others."""
        self._pipeline.see_as(None if plan is None else plan.spec)

    def adopt(self, plan: Plan, rungs: Mapping[Mode, Rung], exchange: Callable[[Ladder], Ladder]) -> None:
        """Other engines stand on the rungs from now on; ``exchange`` gives the ladder they stand on."""
        self._pipeline.adopt(plan.spec, plan.decision, plan.deadline_ms)
        self._rungs, self._budget_ms = rungs, plan.deadline_ms
        self._late_in_a_row = 0
        self.ladder = exchange(self.ladder)
        self._say_mode()

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
            numerics = self._pipeline.numerics(now)
            self._alerts.offer(numerics)
            values = {numeric.kind.value: numeric.value for numeric in numerics}
            self._tell("numerics", {"values": values, "simulated": self._simulated})

    def _carry_out(self, effects: list[Effect]) -> None:
        # Windows first: nothing that only tells somebody something may stand between a sample and its scores.
        told = [self._score(effect) if isinstance(effect, ScoreWindow) else [effect] for effect in effects]
        for effect in chain.from_iterable(told):
            if isinstance(effect, InputChanged):
                self._lost = effect.lost
                self._say_mode()
            elif isinstance(effect, SeenBeside):
                if self._charged is not None:
                    self._charged.seen_beside(effect)
            elif isinstance(effect, Verdict):
                self._count(effect)
            elif isinstance(effect, RateChanged):
                self._bpm = effect.bpm
            message = message_of(effect)
            if message is not None:
                self._tell(*message)

    def _score(self, request: ScoreWindow) -> list[Effect]:
        """Ask the rungs that are to be asked, the serving one first; the others only earn or lose trust."""
        serving = self.ladder.serving
        answers = [self._ask(rung, request) for rung in sorted(self.ladder.asked, key=lambda rung: rung is not serving)]
        chosen = next((answer for answer in answers if answer.failure is None), answers[0])
        return self._pipeline.step(chosen, self._clock.monotonic_ns())

    def _ask(self, rung: Mode, request: ScoreWindow) -> Scored:
        held = self._rungs.get(rung)
        if held is None:
            return Scored(request.sequence, None, Reason.NO_BUNDLE)
        mark = self._latency.start()
        try:
            result = held.engine.infer(request.inputs, budget_s=ENGINE_HANG_MS / 1000.0)
        except InputError:  # the window is not what the model takes: no fault of the engine, which stays trusted
            return Scored(request.sequence, None, Reason.BAD_SCORES)
        now = self._latency.lap("engine", mark)
        if result.failure is not None or result.scores is None:
            why = _REASON_OF_FAILURE[result.failure or Failure.BAD_OUTPUT]
            self._climb_or_fall(RungFailed(why, rung))
            return Scored(request.sequence, None, why)
        if now <= request.deadline_ns:  # finite, but late, is not good
            self._late_in_a_row = 0
            self._climb_or_fall(GoodResult(rung))
        why_not = None if self.ladder.serving is rung else Reason.PROBATION
        scores = np.asarray(result.scores, dtype=np.float32).reshape(-1)
        if rung is Mode.LOCAL and self._charged is not None:
            self._charged.scored(request, scores)
        return Scored(request.sequence, scores, why_not, held.decision)

    def _count(self, verdict: Verdict) -> None:
        self.counts[verdict.outcome.value] += 1
        if verdict.latency_ns:
            self._latency.record("total", verdict.latency_ns)
        if verdict.reason is Reason.LATE:
            self._latency.late += 1
            self._late_in_a_row += 1
            if self._late_in_a_row == _LATE_MAX:
                self._climb_or_fall(RungFailed(Reason.LATE, self.ladder.serving))

    def _watch_engines(self) -> None:
        for rung, held in self._rungs.items():
            failure = held.engine.check()
            if failure is not None:
                self._climb_or_fall(RungFailed(_REASON_OF_FAILURE[failure], rung))
            self._tell_engine(rung, held.engine)
            if not self.ladder.trust(rung).golden and held.engine.ready:
                self._climb_or_fall(GoldenPassed(rung))  # a worker reports ready only after its golden vectors passed

    def _tell_engine(self, rung: Mode, engine: EngineHost) -> None:
        """Say who serves whenever that changes: an engineer at the device wants to see the restarts."""
        state = engine.state
        now = (engine.worker_pid, state.readiness.value, state.standby, state.restarts, state.last_exit)
        if now == self._told.get(rung):
            return
        self._told[rung] = now
        pid, readiness, standby, restarts, last_exit = now
        data = {"pid": pid, "state": readiness, "standby": standby, "restarts": restarts, "last_exit": last_exit}
        self._tell("engine", {"rung": rung.value, **data})

    def _climb_or_fall(self, occurrence: Occurrence) -> None:
        before = self.ladder.trust(Mode.LOCAL)
        self.ladder = transition(self.ladder, occurrence, self._clock.monotonic_ns(), self._climb)
        if self._charged is not None:
            self._charged.failed(before, self.ladder.trust(Mode.LOCAL))
        self._say_mode()

    def _say_mode(self) -> None:
        now = self._clock.monotonic_ns()
        before, self._banner = self._banner, banner(self._banner, self.ladder, self._lost, now)
        if self._banner is not before:
            self._tell(*mode_message(self._banner, now))

    @property
    def mode(self) -> Mode:
        """What the banner says now."""
        return self._banner.mode

    def _tell_all(self, messages: list[Message]) -> None:
        for kind, data in messages:
            self._tell(kind, data)

    def _tell(self, kind: str, data: dict[str, Any]) -> None:
        for output in self._outputs:
            output.write(kind, data)
