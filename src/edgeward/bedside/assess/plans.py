"""Which plan a bundle's manifest asks for; and the plan of a task for which no bundle is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.assess import hypotension, sepsis
from edgeward.bedside.assess.port import Finding, StayState, Window, Wording
from edgeward.bedside.priority import Priority
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import BundleError, EngineError

if TYPE_CHECKING:
    from edgeward.bedside.assess.port import Array, Plan
    from edgeward.bedside.feed import Admitted
    from edgeward.bedside.verdict import Reason
    from edgeward.bundle.manifest import Manifest
    from edgeward.signal.numeric import Numeric

PERIOD_NS = 15 * NS_PER_S
_NO_WORDING = Wording("none", "", Priority.LOW)


def plan_of(manifest: Manifest, task: str) -> Plan:
    """The plan of a bundle. ``BundleError``: ``task-mismatch``, or what the task's own reading refuses."""
    if manifest.task != task:
        raise BundleError("task-mismatch", f"the bundle is for {manifest.task!r}, not {task!r}; publish one for it")
    if task == sepsis.TASK:
        return sepsis.plan_of(manifest)
    if task == hypotension.TASK:
        return hypotension.plan_of(manifest)
    raise BundleError("task-unknown", f"this device cannot assess {task!r}; install an Edgeward that can")


class NoState:
    """A stay of which nothing is kept."""

    def take(self, numeric: Numeric) -> None:
        """Nothing."""

    def window(self, now_ns: int) -> Window | Reason:  # noqa: ARG002
        """An empty one: whoever is asked to score it says that there is no bundle."""
        return Window({"none": np.zeros((1, 1), np.float32)})

    def memory(self) -> Any:
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True)
class NoBundle:
    """A task without a bundle: every period says so, and nothing is kept."""

    task: str
    period_ns: int = PERIOD_NS
    ttl_ns: int = 4 * PERIOD_NS
    deadline_ms: float = 1000.0
    wording: Wording = _NO_WORDING
    levels: tuple[float, float] = (1.0, 1.0)

    def sees_as(self, other: Plan) -> bool:  # noqa: ARG002
        """Nothing is seen."""
        return False

    def fits(self, admitted: Admitted) -> Reason | None:  # noqa: ARG002
        """Nobody is refused: that there is no bundle is the reason."""
        return None

    def begin(self, admitted: Admitted, memory: Any = None) -> StayState:  # noqa: ARG002
        """A state that keeps nothing."""
        return NoState()

    def read(self, scores: Array, window: Window) -> Finding:  # noqa: ARG002
        """There can be no scores."""
        raise EngineError("no-bundle", "scores came for a task without a bundle; fall back")
