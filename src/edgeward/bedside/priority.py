"""How soon a person must act on a notice: the priorities of IEC 60601-1-8."""

from __future__ import annotations

from enum import StrEnum


class Priority(StrEnum):
    """Priorities of IEC 60601-1-8 clause 6.1.2, highest first.

    Its table 1 takes them from the harm that follows when nobody acts, and from how soon: death or irreversible injury
    is high when immediate or prompt and medium when delayed; reversible injury high, medium, low; discomfort one less.
    """

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
