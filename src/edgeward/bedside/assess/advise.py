"""From findings to the task's advisory, with hysteresis: one odd score is silent, a level on the edge is steady."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.port import Level

if TYPE_CHECKING:
    from edgeward.bedside.assess.port import Wording


_KEPT = {"raised_ns": int, "judged_ns": int, "active": bool, "acting": int, "calm": int}


@dataclass(slots=True)
class Advice:
    """The advisory of one stay and task: raised at ``raised_ns``, ``active`` until it is cleared.

    ``judged_ns``: when the last score was accepted.
    """

    wording: Wording
    raised_ns: int = 0
    judged_ns: int = 0
    active: bool = False
    acting: int = 0
    calm: int = 0

    def take(self, level: Level, now_ns: int) -> bool:
        """Take the level of an accepted score; True when the advisory was raised or cleared by it."""
        self.judged_ns = now_ns
        self.acting = self.acting + 1 if level is Level.ACT else 0
        self.calm = self.calm + 1 if level is Level.NONE else 0
        if not self.active and self.acting >= self.wording.raise_after:
            self.active, self.raised_ns = True, now_ns
            return True
        if self.active and self.calm >= self.wording.clear_after:
            self.active = False
            return True
        return False

    def unjudged(self) -> None:
        """A period without an accepted score: what was not seen does not count towards raising or clearing."""
        self.acting = self.calm = 0

    def expired(self, now_ns: int, ttl_ns: int) -> bool:
        """True when the advisory is taken back because no score of ``ttl_ns`` bears it any more."""
        if not self.active or now_ns - self.judged_ns <= ttl_ns:
            return False
        self.active = False
        return True

    def memory(self) -> dict[str, Any]:
        """What must survive a restart."""
        return {name: getattr(self, name) for name in _KEPT}

    @classmethod
    def of(cls, wording: Wording, memory: Any) -> Advice:
        """Read ``memory``; anything odd in it begins anew."""
        advice = cls(wording)
        kept = memory if isinstance(memory, dict) else {}
        if any(type(kept.get(name)) is not kind for name, kind in _KEPT.items()):
            return advice
        return cls(wording, **{name: kept[name] for name in _KEPT})
