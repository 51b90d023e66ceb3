"""One task over all stays of a device: when to score, what an answer means, what to say. Pure.

``take`` numerics and stays, ``tick`` with time, ``answered`` for every ``Ask`` that went out, and ``rung_failed`` or
``golden_passed`` when the engines' keeper noticed something. What comes back is ``Ask`` (please score) and ``Tell``
(messages of docs/messages.md). Every stay gets a ``score`` message in every period, whatever happens: accepted,
withheld (its input cannot be judged) or fallback (no engine may judge it); where a rung earns its way back with an
answer, the accepted score follows the fallback of the same period.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.advise import Advice
from edgeward.bedside.assess.port import Finding, Level, Window
from edgeward.bedside.fallback import (
    RUNGS,
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
from edgeward.bedside.feed import Admitted, Discharged, Measured, Moved, Resumed
from edgeward.bedside.verdict import Outcome, Reason
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edgeward.bedside.assess.port import Array, Forecast, Plan, StayState
    from edgeward.bedside.fallback import Occurrence
    from edgeward.bedside.feed import Feed
    from edgeward.wire.entries import Driver

MODE_EVERY_NS = 5 * NS_PER_S
_SPREAD = 0.618_033_988_75
"""Stays are spread over the period by the golden ratio: however many there are, they never come in a bunch."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """Please score ``inputs`` on ``rung`` and say so with ``answered(sequence, …)`` by ``deadline_ns``.

    ``stay``, ``window``: whose they are, and what they were cut from.
    """

    sequence: int
    rung: Mode
    inputs: Mapping[str, Array]
    deadline_ns: int
    stay: int
    window: Window


@dataclass(frozen=True, slots=True)
class Tell:
    """A message for the rim."""

    kind: str
    data: dict[str, Any]


Effect = Ask | Tell


@dataclass(slots=True)
class _Stay:
    admitted: Admitted
    bed: str
    state: StayState
    advice: Advice
    banner: Banner
    due_ns: int
    told_ns: int
    unfit: Reason | None
    lost: Reason | None


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    stay: int
    rung: Mode
    window: Window
    asked_ns: int
    deadline_ns: int
    expected: bool
    """The period's score message waits for this answer."""


class Assessor:
    """One task.

    ``others``: the further rungs that exist; ``budget_ns``: how long each rung may take to answer. ``why_down``: why
    no engine is trusted at the start (no bundle; the process was restarted): they earn their way as after any failure.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        version: str = "-",
        others: Iterable[Mode] = (),
        budget_ns: Mapping[Mode, int] | None = None,
        climb: Climb | None = None,
        why_down: Reason | None = None,
        now_ns: int = 0,
    ) -> None:
        self.task = plan.task
        self._plan = plan
        self._version = version
        self._budget_ns = {rung: round(plan.deadline_ms * NS_PER_MS) for rung in RUNGS} | dict(budget_ns or {})
        self._climb = climb or Climb()
        self.ladder = Ladder.of(*others)
        if why_down is not None:
            self.ladder = transition(self.ladder, RungFailed(why_down), now_ns, self._climb)
        self._stays: dict[int, _Stay] = {}
        self._pending: dict[int, _Pending] = {}
        self._sequence = 0

    # --- what comes in

    def take(self, feed: Feed, now_ns: int) -> list[Effect]:
        """Take one message of the rim. ``Resumed`` holds what ``memory`` gave of the stay before."""
        match feed:
            case Admitted():
                return self._admit(feed, now_ns)
            case Resumed(stay, memory):
                if (held := self._stays.get(stay)) is not None:
                    return self._resume(held, memory, now_ns)
            case Measured(stay, numerics):
                if (held := self._stays.get(stay)) is not None:
                    for numeric in numerics:
                        held.state.take(numeric)
            case Moved(stay, bed):
                if (held := self._stays.get(stay)) is not None:
                    held.bed = bed
                    return [self._mode(stay, held, now_ns)]
            case Discharged(stay):
                self._stays.pop(stay, None)
            case _:
                pass
        return []

    def tick(self, now_ns: int) -> list[Effect]:
        """Time has come to ``now_ns``: overdue answers are failures, due stays are scored, modes are repeated."""
        effects: list[Effect] = []
        for sequence in [seq for seq, pending in self._pending.items() if now_ns > pending.deadline_ns]:
            effects += self.answered(sequence, None, Reason.LATE, now_ns)
        for stay, held in list(self._stays.items()):
            if now_ns >= held.due_ns:
                period = self._plan.period_ns
                held.due_ns += period * (1 + (now_ns - held.due_ns) // period)  # missed periods are not made up for
                effects += self._score(stay, held, now_ns)
            if held.advice.expired(now_ns, self._plan.ttl_ns):
                effects.append(self._advisory(stay, held, now_ns))
            if now_ns - held.told_ns >= MODE_EVERY_NS:
                effects.append(self._mode(stay, held, now_ns))
        return effects

    def answered(self, sequence: int, scores: Array | None, why: Reason | None, now_ns: int) -> list[Effect]:
        """The answer to an ``Ask``: scores (n,), or why there are none. A second answer changes nothing."""
        pending = self._pending.pop(sequence, None)
        if pending is None:
            return []
        finding: Finding | None = None
        if now_ns > pending.deadline_ns:
            why = Reason.LATE
        elif scores is not None:
            try:
                finding = self._plan.read(scores, pending.window)
            except EngineError:
                why = Reason.BAD_SCORES
        if finding is None:
            why = why or Reason.BAD_SCORES
            effects = self._occur(RungFailed(why, pending.rung), now_ns)
            if pending.expected and (held := self._stays.get(pending.stay)) is not None:
                effects.append(self._unjudged(pending.stay, held, Outcome.FALLBACK, why, pending.window))
            return effects
        effects = self._occur(GoodResult(pending.rung), now_ns)
        if (held := self._stays.get(pending.stay)) is None:
            return effects
        if self.ladder.serving is pending.rung:
            return effects + self._accept(pending, held, finding, now_ns)
        if pending.expected:  # the rung failed another bed while this answer was under way
            effects.append(self._unjudged(pending.stay, held, Outcome.FALLBACK, self._not_serving, pending.window))
        return effects

    def rung_failed(self, rung: Mode, why: Reason, now_ns: int) -> list[Effect]:
        """An engine failed while nobody was asking it."""
        return self._occur(RungFailed(why, rung), now_ns)

    def golden_passed(self, rung: Mode, now_ns: int) -> list[Effect]:
        """The engine now in place on ``rung`` passed its golden vectors."""
        return self._occur(GoldenPassed(rung), now_ns)

    def memory(self, stay: int) -> Any:
        """What a stay keeps of this task, for the next process should this one die; None: nothing."""
        held = self._stays.get(stay)
        return None if held is None else {"state": held.state.memory(), "advice": held.advice.memory()}

    # --- another bundle

    @property
    def quiet(self) -> bool:
        """Whether another bundle could take over and take nothing from a bed.

        No advisory stands or is about to be raised, no answer is awaited, and no rung serves that would have to go.
        """
        calm = all(not held.advice.active and not held.advice.acting for held in self._stays.values())
        return calm and not self._pending and self.ladder.serving in (Mode.LOCAL, Mode.THRESHOLD_ONLY)

    def stays(self) -> dict[int, tuple[Admitted, StayState]]:
        """Every stay with its state."""
        return {stay: (held.admitted, held.state) for stay, held in self._stays.items()}

    def due_ns(self) -> int | None:
        """When the next stay is due; None without any."""
        return min((held.due_ns for held in self._stays.values()), default=None)

    @property
    def plan(self) -> Plan:
        """That of the bundle in charge."""
        return self._plan

    def adopt(
        self,
        plan: Plan,
        version: str,
        states: Mapping[int, StayState],
        exchanged: Callable[[Ladder], Ladder],
        now_ns: int,
    ) -> list[Effect]:
        """Go on with another bundle: the stays, their banners and their advisories stay as they are.

        ``states``: stay states where the other bundle sees other windows; ``exchanged``: what becomes of the ladder.
        """
        effects: list[Effect] = []
        for sequence in list(self._pending):  # a scoring server's: it was asked for the other bundle's scores
            effects += self.answered(sequence, None, Reason.CLOUD_DOWN, now_ns)
        recoded = plan.wording.code != self._plan.wording.code
        for stay, held in self._stays.items():
            if recoded and held.advice.active:
                held.advice.active = False
                effects.append(self._advisory(stay, held, now_ns))
            held.advice = Advice(plan.wording) if recoded else Advice.of(plan.wording, held.advice.memory())
            held.state = states.get(stay, held.state)
            held.unfit = plan.fits(held.admitted)
        self._plan, self._version = plan, version
        self._budget_ns |= dict.fromkeys((Mode.LOCAL, Mode.LOCAL_PREVIOUS), round(plan.deadline_ms * NS_PER_MS))
        self.ladder = exchanged(self.ladder)
        for stay, held in self._stays.items():
            effects += self._see(stay, held, held.lost, now_ns)
        return effects

    # --- stays

    def _admit(self, admitted: Admitted, now_ns: int) -> list[Effect]:
        stay = admitted.stay
        unfit = self._plan.fits(admitted)
        lost = unfit or Reason.TOO_LITTLE
        held = self._stays[stay] = _Stay(
            admitted=admitted,
            bed=admitted.bed,
            state=self._plan.begin(admitted),
            advice=Advice(self._plan.wording),
            banner=banner(None, self.ladder, lost, now_ns),
            due_ns=now_ns + round((stay * _SPREAD % 1.0) * self._plan.period_ns),
            told_ns=now_ns,
            unfit=unfit,
            lost=lost,
        )
        return [self._mode(stay, held, now_ns)]

    def _resume(self, held: _Stay, memory: Any, now_ns: int) -> list[Effect]:
        kept = memory if isinstance(memory, dict) else {}
        # Kept by another version? Then the history begins anew, and the score says how much it misses.
        with contextlib.suppress(InputError):
            held.state = self._plan.begin(held.admitted, kept.get("state"))
        held.advice = Advice.of(self._plan.wording, kept.get("advice"))
        return [self._advisory(held.admitted.stay, held, now_ns)] if held.advice.active else []

    # --- scoring

    def _score(self, stay: int, held: _Stay, now_ns: int) -> list[Effect]:
        window = held.unfit or held.state.window(now_ns)
        if isinstance(window, Reason):
            effects = self._see(stay, held, window, now_ns)
            return [*effects, self._unjudged(stay, held, Outcome.WITHHELD, window, None)]
        effects = self._see(stay, held, None, now_ns)
        serving = self.ladder.serving
        for rung in sorted(self.ladder.asked, key=lambda rung: rung is not serving):  # the patient's own answer first
            self._sequence += 1
            deadline_ns = now_ns + self._budget_ns[rung]
            expected = rung is serving
            self._pending[self._sequence] = _Pending(stay, rung, window, now_ns, deadline_ns, expected)
            effects.append(Ask(self._sequence, rung, window.inputs, deadline_ns, stay, window))
        if serving not in RUNGS:
            effects.append(self._unjudged(stay, held, Outcome.FALLBACK, self._not_serving, window))
        return effects

    @property
    def _not_serving(self) -> Reason:
        """Why no rung's answer may be shown now."""
        if any(trust.good for trust in self.ladder.trusts):
            return Reason.PROBATION
        return self.ladder.why or Reason.ENGINE_NOT_READY

    def _accept(self, pending: _Pending, held: _Stay, finding: Finding, now_ns: int) -> list[Effect]:
        stay, age_ms = pending.stay, (now_ns - pending.asked_ns) // NS_PER_MS
        data = self._score_data(Outcome.ACCEPTED, None, pending.window)
        data |= {
            "probability": round(finding.probability, 4),
            "level": finding.level.value,
            "drivers": [_driver(driver) for driver in finding.drivers],
            "age_ms": age_ms,
            "rung": pending.rung.value,
        }
        told = [self._forecast_data(forecast, pending, age_ms) for forecast in finding.forecasts]
        effects: list[Effect] = [self._tell("score", stay, held, data)]
        effects += [self._tell("forecast", stay, held, course) for course in told]
        if held.advice.take(finding.level, now_ns):
            effects.append(self._advisory(stay, held, now_ns))
        return effects

    def _unjudged(self, stay: int, held: _Stay, outcome: Outcome, why: Reason, window: Window | None) -> Tell:
        held.advice.unjudged()
        return self._tell("score", stay, held, self._score_data(outcome, why, window))

    def _score_data(self, outcome: Outcome, why: Reason | None, window: Window | None) -> dict[str, Any]:
        data = score_data(self.task, outcome, why, self.ladder.serving, self._version, self._plan.ttl_ns)
        if window is not None:
            shares = {"missing_share": window.missing_share, "stale_share": window.stale_share}
            data |= {name: round(share, 3) for name, share in shares.items()}
        return data

    def _forecast_data(self, forecast: Forecast, pending: _Pending, age_ms: int) -> dict[str, Any]:
        return {
            "task": self.task,
            "vital": forecast.kind.value,
            "minutes": list(forecast.minutes),
            "low": [round(value, 1) for value in forecast.low],
            "mid": [round(value, 1) for value in forecast.mid],
            "high": [round(value, 1) for value in forecast.high],
            "age_ms": age_ms,
            "ttl_ms": self._plan.ttl_ns // NS_PER_MS,
            "rung": pending.rung.value,
            "version": self._version,
        }

    # --- the ladder and its banners

    def _occur(self, occurrence: Occurrence, now_ns: int) -> list[Effect]:
        before = self.ladder
        self.ladder = transition(before, occurrence, now_ns, self._climb)
        if (before.serving, before.why) == (self.ladder.serving, self.ladder.why):
            return []
        effects: list[Effect] = []
        for stay, held in self._stays.items():
            effects += self._see(stay, held, held.lost, now_ns)
        return effects

    def _see(self, stay: int, held: _Stay, lost: Reason | None, now_ns: int) -> list[Effect]:
        held.lost = lost
        before, held.banner = held.banner, banner(held.banner, self.ladder, lost, now_ns)
        return [] if held.banner is before else [self._mode(stay, held, now_ns)]

    def _mode(self, stay: int, held: _Stay, now_ns: int) -> Tell:
        held.told_ns = now_ns
        since_ms = (now_ns - held.banner.since_ns) // NS_PER_MS
        reason = held.banner.reason.value if held.banner.reason else ""
        data = {"mode": held.banner.mode.value, "reason": reason, "since_ms": since_ms, "changes": held.banner.changes}
        return self._tell("mode", stay, held, {"task": self.task, **data})

    def _advisory(self, stay: int, held: _Stay, now_ns: int) -> Tell:
        wording, raised_ns = self._plan.wording, held.advice.raised_ns
        data = {
            "id": f"{wording.code}-{stay}-{raised_ns}",
            "code": wording.code,
            "text": wording.text,
            "priority": wording.priority.value,
            "active": held.advice.active,
            "raised_ms_ago": (now_ns - raised_ns) // NS_PER_MS,
            "task": self.task,
            "rung": self.ladder.serving.value,
        }
        return self._tell("advisory", stay, held, data)

    @staticmethod
    def _tell(kind: str, stay: int, held: _Stay, data: dict[str, Any]) -> Tell:
        return Tell(kind, {"bed": held.bed, "stay": stay, **data})


def score_data(
    task: str, outcome: Outcome, why: Reason | None, rung: Mode, version: str, ttl_ns: int
) -> dict[str, Any]:
    """A ``score`` message without a score; whoever has one writes it over."""
    return {
        "task": task,
        "outcome": outcome.value,
        "why": why.value if why else "",
        "probability": None,
        "level": Level.NONE.value,
        "drivers": [],
        "missing_share": None,
        "stale_share": None,
        "age_ms": 0,
        "ttl_ms": ttl_ns // NS_PER_MS,
        "rung": rung.value,
        "version": version,
    }


def _driver(driver: Driver) -> dict[str, Any]:
    value = None if driver.value is None else round(driver.value, 3)
    effect = round(driver.effect, 3)
    return {"feature": driver.feature, "label": driver.label, "value": value, "unit": driver.unit, "effect": effect}
