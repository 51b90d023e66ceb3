"""A small task for tests of the assessment: its score is the probability, its window the last heart rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.bedside.assess.port import Finding, Level, StayState, Window, Wording
from edgeward.bedside.priority import Priority
from edgeward.bedside.verdict import Reason
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import EngineError, InputError
from edgeward.signal.numeric import Kind, Numeric
from edgeward.wire.entries import Driver

if TYPE_CHECKING:
    from edgeward.bedside.feed import Admitted

FRESH_NS = 60 * NS_PER_S


@dataclass
class ToyState:
    """Sees the last heart rate, and nothing older than a minute."""

    last: Numeric | None = None

    def take(self, numeric: Numeric) -> None:
        """Keep the last heart rate."""
        if numeric.kind is Kind.HR:
            self.last = numeric

    def window(self, now_ns: int) -> Window | Reason:
        """The heart rate, or why not."""
        if self.last is None or self.last.value is None:
            return Reason.TOO_LITTLE
        if now_ns - self.last.at_ns > FRESH_NS:
            return Reason.STALE
        return Window({"features": np.array([[self.last.value]], np.float32)}, missing_share=0.25)

    def memory(self) -> Any:
        """The heart rate with its time."""
        return None if self.last is None else [self.last.value, self.last.at_ns]


@dataclass
class ToyPlan:
    """Adults only; ACT above 0.8, WATCH above 0.5."""

    task: str = "toy"
    period_ns: int = 15 * NS_PER_S
    ttl_ns: int = 60 * NS_PER_S
    deadline_ms: float = 500.0
    wording: Wording = field(default_factory=lambda: Wording("toy-high", "Toy risk high", Priority.MEDIUM, 2, 3))
    levels: tuple[float, float] = (0.5, 0.8)

    def sees_as(self, other: Any) -> bool:
        """Toys of one kind see the same."""
        return type(other) is type(self)

    def fits(self, admitted: Admitted) -> Reason | None:
        """No children."""
        return Reason.POPULATION if admitted.age_y is not None and admitted.age_y < 18 else None

    def begin(self, admitted: Admitted, memory: Any = None) -> StayState:  # noqa: ARG002
        """A state, from memory where there is one."""
        if memory is None:
            return ToyState()
        try:
            value, at_ns = memory
            return ToyState(Numeric(Kind.HR, value, at_ns))
        except (TypeError, ValueError) as error:
            raise InputError("toy-memory", "the memory of a toy cannot be read; it begins anew") from error

    def read(self, scores: npt.NDArray[np.float32], window: Window) -> Finding:  # noqa: ARG002
        """The first score is the probability."""
        probability = float(scores[0])
        if not 0 <= probability <= 1:
            raise EngineError("bad-output", "the toy gave no probability; fall back")
        level = Level.ACT if probability > 0.8 else Level.WATCH if probability > 0.5 else Level.NONE
        return Finding(probability, level, (Driver("hr", "Heart rate", 80.0, "/min", 1.23456),))
