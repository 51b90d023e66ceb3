"""What the rim shows of one stay, and the messages that say how its bed stands. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import Population
from edgeward.bedside.vitals import Vitals
from edgeward.kernel.clock import NS_PER_MS

if TYPE_CHECKING:
    from edgeward.bedside.assign import BedPlan
    from edgeward.bedside.feed import Admitted

SOURCES_KEPT = 8


@dataclass(slots=True)
class HeldStay:
    """A stay in its ``bed``. ``limits``: those that alert, by kind of numeric; ``told_ns``: when its bed was last told.

    ``sources``: those that measured it; ``changes`` and ``modes``: number and name of each task's last mode.
    """

    admitted: Admitted
    bed: str
    limits: dict[str, list[float | None]]
    vitals: Vitals = field(default_factory=Vitals)
    sources: set[str] = field(default_factory=set)
    suspended_until_ns: int = 0
    told_ns: int = 0
    changes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)

    def heard_from(self, source: str) -> None:
        """``source`` measured something; only so many are shown."""
        if len(self.sources) < SOURCES_KEPT:
            self.sources.add(source)

    def message(self, stay: int, now_ns: int) -> dict[str, Any]:
        """The fields of ``bed``."""
        newest = self.vitals.newest_ns
        return {
            "bed": self.bed,
            "stay": stay,
            "state": "occupied",
            "population": self.admitted.population.value,
            "since_ms": (now_ns - self.admitted.at_ns) // NS_PER_MS,
            "sources": sorted(self.sources),
            "silent_ms": None if newest is None else max(0, now_ns - newest) // NS_PER_MS,
            "simulated": self.admitted.simulated,
            "suspended_ms_left": max(0, self.suspended_until_ns - now_ns) // NS_PER_MS,
            "limits": self.limits,
        }


def empty_bed(plan: BedPlan, since_ns: int, now_ns: int) -> dict[str, Any]:
    """The fields of ``bed`` for one in which nobody lies."""
    return {
        "bed": plan.name,
        "stay": None,
        "state": "empty",
        "population": (plan.population or Population.ADULT).value,
        "since_ms": (now_ns - since_ns) // NS_PER_MS,
        "sources": [],
        "silent_ms": None,
        "simulated": plan.simulated,
        "suspended_ms_left": 0,
    }
