"""A threshold alert as a person gets it: raised, acknowledged, latched, reminded of, ended. Pure; time is passed in.

IEC 60601-1-8: acknowledged (6.8), reminder signals (6.8), latching (6.10). One alert per condition and stay: what is
raised again after it has ended and been seen is a new alert with a new ``id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgeward.bedside.priority import Priority
from edgeward.kernel.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cause(StrEnum):
    """Whether the patient or the measurement is the trouble (IEC 60601-1-8: physiological, technical)."""

    PHYSIOLOGICAL = "physiological"
    TECHNICAL = "technical"


@dataclass(slots=True)
class Alert:
    """One alert.

    ``active``: its condition holds; ``latched``: it holds no more, and nobody has seen the alert; ``acknowledged_ns``:
    when somebody saw it; ``value``, ``limit`` and ``unit``: what broke what when it was raised, None where there is no
    such thing.
    """

    id: str
    code: str
    text: str
    priority: Priority
    cause: Cause
    raised_ns: int
    value: float | None = None
    limit: float | None = None
    unit: str | None = None
    active: bool = True
    latched: bool = False
    acknowledged_ns: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left of it: neither active nor latched."""
        return not (self.active or self.latched)

    def acknowledge(self, now_ns: int) -> bool:
        """Somebody has seen it: an active one claims attention no more, a latched one is over. Whether that is new."""
        if self.acknowledged_ns is not None or self.over:
            return False
        self.acknowledged_ns = now_ns
        self.latched = False
        return True

    def end(self, *, latches: bool) -> None:
        """Its condition is gone; it stays latched if it ``latches`` and nobody has seen it."""
        self.active = False
        self.latched = latches and self.acknowledged_ns is None

    def remind(self) -> None:
        """It was seen long ago and still holds: it claims attention again."""
        self.acknowledged_ns = None

    def message(self, now_ns: int) -> dict[str, Any]:
        """The fields of an ``alert`` message (docs/messages.md) but ``bed`` and ``stay``."""
        return {
            "id": self.id,
            "code": self.code,
            "text": self.text,
            "priority": self.priority.value,
            "cause": self.cause.value,
            "active": self.active,
            "latched": self.latched,
            "acknowledged": self.acknowledged_ns is not None,
            "raised_ms_ago": max(0, now_ns - self.raised_ns) // NS_PER_MS,
            "value": self.value,
            "limit": self.limit,
            "unit": self.unit,
        }

    def to_memory(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "id": self.id,
            "code": self.code,
            "text": self.text,
            "priority": self.priority.value,
            "cause": self.cause.value,
            "raised_ns": self.raised_ns,
            "value": self.value,
            "limit": self.limit,
            "unit": self.unit,
            "active": self.active,
            "latched": self.latched,
            "acknowledged_ns": self.acknowledged_ns,
        }

    @classmethod
    def from_memory(cls, memory: Mapping[str, Any]) -> Alert:
        """What ``to_memory`` gave; ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
        acknowledged = memory["acknowledged_ns"]
        return cls(
            id=str(memory["id"]),
            code=str(memory["code"]),
            text=str(memory["text"]),
            priority=Priority(memory["priority"]),
            cause=Cause(memory["cause"]),
            raised_ns=int(memory["raised_ns"]),
            value=memory["value"],
            limit=memory["limit"],
            unit=memory["unit"],
            active=memory["active"] is True,
            latched=memory["latched"] is True,
            acknowledged_ns=None if acknowledged is None else int(acknowledged),
        )
