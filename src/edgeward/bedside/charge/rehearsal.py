"""A candidate beside the bundle in charge: it scores what that one scores, and is shown to nobody.

Here is what every task's candidate has in common: windows that wait for it, its one answer under way, and what is
counted. It is asked one window at a time, when the answers of the moment are on their way to the beds; one that is too
old by then is skipped and counted: a shadow never delays a score. Pure but for the engine behind ``Warm``.
"""

from __future__ import annotations

from collections import deque
from statistics import median_high
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edgeward.kernel.errors import EngineError

if TYPE_CHECKING:
    from edgeward.bedside.charge.warm import Answer, Array, Warm

RECENT = 32
"""Answers of the candidate from which the next one's duration is expected: half of them took no longer."""
ROUND = 50
"""Answers of which the second slowest counts, in the best of all rounds: another job's burst is not the candidate's."""

P = TypeVar("P")
A = TypeVar("A")
"""What LOCAL was asked and answered, as the task keeps it."""


class Rehearsal(Generic[P, A]):
    """The bundle ``sha256`` as a shadow; at most ``waiting_max`` windows wait for it.

    A task's own candidate says how it begins, when the next window may be asked, and what agrees.
    """

    def __init__(self, sha256: str, warm: Warm[P], waiting_max: int) -> None:
        self.sha256 = sha256
        self.warm = warm
        self._waiting_max = waiting_max
        self._waiting: deque[A] = deque()
        self._under_way: A | None = None
        self._has_run = False
        self._recent_ns: deque[int] = deque(maxlen=RECENT)
        self._round_ns: list[int] = []
        self._latency_ns = 0
        self._broken = False
        self.windows = self.disagreed = self.failed = self.skipped = 0

    @property
    def ready(self) -> bool:
        """Whether it could be put in charge now: its engine is warm, and nothing of it broke."""
        return self.warm.model is not None and self.warm.ready and not self._broken

    def broke(self) -> None:
        """Its plan raised what a plan does not: it is over, and the bundle in charge goes on."""
        self._broken = True
        self.failed += 1
        self._waiting.clear()
        self.warm.stop()

    def facts(self) -> dict[str, Any]:
        """How it compares so far, for the rim; its latency is 0 until ``ROUND`` answers are there."""
        counts = {name: getattr(self, name) for name in ("windows", "disagreed", "failed", "skipped")}
        model = self.warm.model
        return {
            "sha256": self.sha256,
            "version": model.version if model is not None else "",
            "running": self.ready,
            "code": "shadow-crashed" if self._broken else self.warm.error,
            **counts,
            "latency_us": self._latency_ns // 1000,
            "memory_kib": self.warm.memory_kib,
        }

    @property
    def expected_ns(self) -> int:
        """How long the next answer may take; 0 before the first."""
        return median_high(self._recent_ns) if self._recent_ns else 0

    def keep(self, asked: A) -> None:
        """LOCAL was asked this and answered: it waits for the candidate, which must have run before."""
        if not self._has_run or self._broken:
            return
        if not self.warm.ready:
            self.failed += 1
            return
        if len(self._waiting) >= self._waiting_max:
            self._waiting.popleft()
            self.skipped += 1
        self._waiting.append(asked)

    def hear(self) -> None:
        """Compare what it answered, if anything."""
        answer = self.warm.answer()
        if answer is None or self._under_way is None:
            return
        asked, self._under_way = self._under_way, None
        if answer.scores is None:
            self.failed += 1
            return
        self._took(answer)
        try:
            agrees = self.agrees(asked, answer.scores)
        except EngineError:
            self.failed += 1
            return
        self.windows += 1
        self.disagreed += not agrees

    def would_withhold(self) -> None:
        """It would have withheld what the bundle in charge judged: a bed would lose its score."""
        self.windows += 1
        self.disagreed += 1

    def agrees(self, asked: A, scores: Array) -> bool:
        """Whether its ``scores`` (n,) say what LOCAL said. ``EngineError`` for scores that cannot be of this model."""
        raise NotImplementedError

    def _took(self, answer: Answer) -> None:
        self._recent_ns.append(answer.infer_ns)
        self._round_ns.append(answer.infer_ns)
        if len(self._round_ns) == ROUND:
            second_ns = sorted(self._round_ns)[-2]
            self._latency_ns = min(self._latency_ns or second_ns, second_ns)
            self._round_ns.clear()
