"""A candidate beside the bundle in charge: it scores the same stays at the same instants, and is shown to nobody.

Whatever LOCAL was asked is kept, with its answer, until the answers of that moment are on their way; only then is the
candidate asked, and only where its answer can be expected before the next stay is due (``charge.rehearsal``).
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.port import Plan, Window
from edgeward.bedside.charge.rehearsal import Rehearsal
from edgeward.bedside.feed import Admitted, Discharged, Measured, Resumed
from edgeward.bedside.verdict import Reason
from edgeward.kernel.errors import InputError
from edgeward.kernel.limits import BEDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edgeward.bedside.assess.core import Ask, Assessor
    from edgeward.bedside.assess.port import Array, Finding, StayState
    from edgeward.bedside.charge.warm import Warm
    from edgeward.bedside.feed import Feed

WAITING_MAX = 2 * BEDS_MAX
"""Windows that wait for the candidate; the oldest is skipped for a newer one."""
_STEP_LEAST = 0.25
"""Of the probability at which somebody should act: the least step where the two levels lie closer."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How far the candidate's probability may lie from that of the bundle in charge.

    ``step``: the probability from WATCH to ACT, of the two bundles the smaller, and at least a quarter of that of ACT:
    a difference beyond it is worth a level. Above ``act`` it grows in proportion. ``tolerance``: the candidate's own
    golden tolerance; levels that differ by no more than it are the two sides of one edge.
    """

    step: float
    act: float
    tolerance: float

    @classmethod
    def between(cls, current: Plan, candidate: Plan, tolerance: float) -> Bound:
        """The bound for two plans of one task."""
        steps = [max(act - watch, _STEP_LEAST * act) for watch, act in (current.levels, candidate.levels)]
        return cls(min(steps), min(current.levels[1], candidate.levels[1]), tolerance)

    def agree(self, current: Finding, candidate: Finding) -> bool:
        """Whether the two say the same of a stay."""
        apart = abs(current.probability - candidate.probability)
        if current.level is not candidate.level and apart > self.tolerance:
            return False
        return apart <= self.step * max(1.0, current.probability / self.act) + self.tolerance


class Sight:
    """What a bundle that is not in charge sees of every stay, where it cuts other windows than the one in charge.

    A stay that is there already begins with the memory of the bundle in charge, where that can be read; one at a time.
    """

    def __init__(self, plan: Plan, stays: Iterable[Admitted]) -> None:
        self._plan = plan
        self._admitted = {admitted.stay: admitted for admitted in stays}
        self._waiting = deque(self._admitted)
        self.states: dict[int, StayState] = {}

    @classmethod
    def of(cls, plan: Plan, stays: Mapping[int, tuple[Admitted, StayState]]) -> Sight:
        """The sight of a bundle that was in charge until now."""
        sight = cls(plan, [admitted for admitted, _ in stays.values()])
        sight._waiting.clear()
        sight.states = {stay: state for stay, (_, state) in stays.items()}
        return sight

    @property
    def whole(self) -> bool:
        """Whether every stay is seen."""
        return not self._waiting

    def begin_one(self, current: Mapping[int, tuple[Admitted, StayState]]) -> None:
        """Begin the next stay that is not seen yet."""
        stay = self._waiting.popleft()
        if stay in current and stay not in self.states:
            self._begin(stay, current[stay][1].memory())

    def take(self, feed: Feed) -> None:
        """Take one message of the rim."""
        match feed:
            case Admitted(stay):
                self._admitted[stay] = feed
                self.states[stay] = self._plan.begin(feed)
            case Resumed(stay, memory) if stay in self._admitted:
                self._begin(stay, memory.get("state") if isinstance(memory, dict) else None)
            case Measured(stay, numerics) if stay in self.states:
                for numeric in numerics:
                    self.states[stay].take(numeric)
            case Discharged(stay):
                self._admitted.pop(stay, None)
                self.states.pop(stay, None)
            case _:
                pass

    def window(self, stay: int, now_ns: int) -> Window | Reason:
        """What the bundle would see of ``stay``, or why it would not judge."""
        if stay not in self.states:
            return Reason.TOO_LITTLE
        return self._plan.fits(self._admitted[stay]) or self.states[stay].window(now_ns)

    def _begin(self, stay: int, memory: Any) -> None:
        admitted = self._admitted[stay]
        self.states[stay] = self._plan.begin(admitted)
        with contextlib.suppress(InputError):
            self.states[stay] = self._plan.begin(admitted, memory)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What LOCAL was asked at ``at_ns`` and what it answered; ``window``: the candidate's own, once it was cut."""

    stay: int
    at_ns: int
    seen: Window
    scores: Array
    window: Window | Reason | None


class Candidate(Rehearsal[Plan, _Asked]):
    """One bundle as a shadow of the one in charge. ``sha256``: the bundle."""

    def __init__(self, sha256: str, warm: Warm[Plan]) -> None:
        super().__init__(sha256, warm, WAITING_MAX)
        self.sight: Sight | None = None
        self._bound: Bound | None = None
        self._current: Plan | None = None

    @property
    def ready(self) -> bool:
        """Whether it could be put in charge now: its engine is warm, and it sees every stay."""
        whole = self.sight is None or self.sight.whole
        return self._bound is not None and whole and super().ready

    def take(self, feed: Feed) -> None:
        """Take one message of the rim."""
        if self.sight is not None and not self._broken:
            self.sight.take(feed)

    def saw(self, ask: Ask, scores: Array, now_ns: int) -> None:
        """LOCAL was asked, and gave ``scores``."""
        self.keep(_Asked(ask.stay, now_ns, ask.window, scores, ask.window if self.sight is None else None))

    def afterwards(self, core: Assessor, next_due_ns: int | None, period_ns: int, now_ns: int) -> None:
        """All scores of this moment are on their way: begin, ask or compare a little.

        ``next_due_ns``: when the next stay of any task is due. Call it after every turn, before anything else is fed:
        the windows that it cuts are those of this instant.
        """
        if self._broken:
            return
        begun = self._begun(core)
        self._has_run |= self.ready
        if not begun:
            return
        self.hear()
        if self.sight is not None:
            self._cut(self.sight)
        while self._waiting and now_ns - self._waiting[0].at_ns >= period_ns:
            self._waiting.popleft()
            self.skipped += 1
        if self._waiting and self.warm.idle and (next_due_ns is None or now_ns + self.expected_ns < next_due_ns):
            self._ask(self._waiting.popleft())

    def agrees(self, asked: _Asked, scores: Array) -> bool:
        """Whether the two probabilities lie within the bound."""
        model = self.warm.model
        assert self._bound is not None
        assert self._current is not None
        assert model is not None
        assert isinstance(asked.window, Window)
        own = model.plan.read(scores, asked.window)
        return self._bound.agree(self._current.read(asked.scores, asked.seen), own)

    def _begun(self, core: Assessor) -> bool:
        """Whether its plan is known and every stay is seen; a step on the way there, where it is not."""
        model = self.warm.model
        if model is None:
            return False
        if self._bound is None:
            tolerance = model.vectors.tolerance if model.vectors is not None else 0.0
            self._current = core.plan
            self._bound = Bound.between(core.plan, model.plan, tolerance)
            if not model.plan.sees_as(core.plan):
                self.sight = Sight(model.plan, [admitted for admitted, _ in core.stays().values()])
        if self.sight is not None and not self.sight.whole:
            self.sight.begin_one(core.stays())
            return False
        return True

    def _cut(self, sight: Sight) -> None:
        for index, asked in enumerate(self._waiting):
            if asked.window is None:
                window = sight.window(asked.stay, asked.at_ns)
                self._waiting[index] = _Asked(asked.stay, asked.at_ns, asked.seen, asked.scores, window)

    def _ask(self, asked: _Asked) -> None:
        if isinstance(asked.window, Window):
            self._under_way = asked
            self.warm.ask(asked.window.inputs)
        else:
            self.would_withhold()
