"""A candidate beside the bundle of an ECG bed: it judges the same beats, and is shown to nobody.

Whatever beat LOCAL gave a class is kept until the block's messages are on their way; then the candidate is asked, one
beat at a time. It agrees where it gives the beat the same class. Where it sees other windows than the bundle in charge,
the pipeline cuts those too (``beside``), and both are brought together by the beat's index.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeward.bedside.charge.rehearsal import Rehearsal
from edgeward.bedside.model import Plan
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.charge.warm import Array, Warm
    from edgeward.bedside.effects import ScoreWindow, SeenBeside
    from edgeward.signal.beat import BeatClass

WAITING_MAX = 64
OLDEST_NS = 5 * NS_PER_S
"""A beat that the candidate could not judge by then is skipped: its window should have come within 3 s."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A beat to which LOCAL gave a class; ``inputs``: its window as the candidate sees it, None where not cut yet."""

    index: int
    at_ns: int
    beat_class: BeatClass
    inputs: Mapping[str, Array] | None


class BedCandidate(Rehearsal[Plan, Judged]):
    """One bundle as a shadow of the one in charge of an ECG bed."""

    def __init__(self, sha256: str, warm: Warm[Plan]) -> None:
        super().__init__(sha256, warm, WAITING_MAX)
        self._seen: OrderedDict[int, SeenBeside] = OrderedDict()

    @property
    def plan(self) -> Plan | None:
        """How it sees beats, once its bundle was read."""
        return None if self.warm.model is None else self.warm.model.plan

    def facts(self) -> dict[str, Any]:
        """How it compares so far; a latency that other jobs of the device made is none."""
        facts = super().facts()
        return facts if self.warm.in_class else {**facts, "latency_us": 0}

    def judged(self, request: ScoreWindow, beat_class: BeatClass, current: Plan, now_ns: int) -> None:
        """LOCAL, whose plan is ``current``, gave a beat its class."""
        if self.plan is not None:
            inputs = request.inputs if self.plan.sees_as(current) else None
            self.keep(Judged(request.index, now_ns, beat_class, inputs))

    def seen_beside(self, seen: SeenBeside) -> None:
        """A beat as it would see it."""
        self._seen[seen.index] = seen
        while len(self._seen) > WAITING_MAX:
            self._seen.popitem(last=False)

    def afterwards(self, now_ns: int) -> None:
        """Everything of this moment is on its way: ask or compare a little."""
        if self._broken:
            return
        self._has_run |= self.ready
        self.hear()
        while self._waiting and now_ns - self._waiting[0].at_ns >= OLDEST_NS:
            self._waiting.popleft()
            self.skipped += 1
        for _ in range(len(self._waiting) if self.warm.idle else 0):
            asked = self._seen_so(self._waiting.popleft())
            if asked is None:
                self.would_withhold()
            elif asked.inputs is None:
                self._waiting.append(asked)  # its window waits for more look-ahead than that of the one in charge
            else:
                self._under_way = asked
                self.warm.ask(asked.inputs)
                return

    def agrees(self, asked: Judged, scores: Array) -> bool:
        """Whether it gives the beat the same class."""
        assert self.plan is not None
        return self.plan.decision.classify(scores)[0] is asked.beat_class

    def _seen_so(self, asked: Judged) -> Judged | None:
        """With its own window, where that was cut by now; None where it would not judge it."""
        seen = None if asked.inputs is not None else self._seen.pop(asked.index, None)
        if seen is None:
            return asked
        return None if seen.wave is None else replace(asked, inputs={"wave": seen.wave, "rhythm": seen.rhythm})
