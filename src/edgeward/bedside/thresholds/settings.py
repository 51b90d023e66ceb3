"""What a site says of its threshold alerts: changed limits by population and by bed, latching, reminders, suspension.

Plain data with a JSON round trip, because it goes to another process. It is checked whole when it is made: every change
is tried on every set of defaults that it could meet, so that no admission can meet limits that do not rise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgeward.bedside.feed import Population
from edgeward.bedside.thresholds.limits import Limits, defaults, every_default
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

REMINDER_S_MIN, REMINDER_S_MAX = 60.0, 600.0
SUSPEND_S_MIN, SUSPEND_S_MAX = 30.0, 600.0
"""Alerts may be suspended for so long and no longer, whoever asks."""


class Latch(StrEnum):
    """Which alerts stay until somebody has seen them, though their condition is gone (IEC 60601-1-8 clause 6.10)."""

    NONE = "none"
    HIGH = "high"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class ThresholdSettings:
    """Settings of the threshold alerts of one device.

    ``populations``: changed limits of all patients of a population; ``beds``: on top of these, of the patients of a
    population in a bed (by name of bed, then population: limits meant for an adult never meet a newborn who is put
    there). ``latch``: see ``Latch``; physiological alerts only. ``reminder_s``: an acknowledged alert of medium or high
    priority that is still there claims attention again after so long. ``suspend_s_max``: the longest suspension that
    is granted. ``news2``: whether NEWS2 is told.

    Raises ``ConfigError`` (``setting-unknown``, ``setting-invalid``).
    """

    populations: Mapping[Population, Mapping[str, float]] = field(default_factory=dict)
    beds: Mapping[str, Mapping[Population, Mapping[str, float]]] = field(default_factory=dict)
    latch: Latch = Latch.HIGH
    reminder_s: float = 180.0
    suspend_s_max: float = 180.0
    news2: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (
            ("reminder_s", REMINDER_S_MIN, REMINDER_S_MAX),
            ("suspend_s_max", SUSPEND_S_MIN, SUSPEND_S_MAX),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError("setting-invalid", f"{name} must lie between {low:g} and {high:g} seconds")
        for population, changes in self.populations.items():
            for limits in every_default(population):
                limits.changed(changes)
        for changes_of in self.beds.values():
            for population, changes in changes_of.items():
                for limits in every_default(population):
                    limits.changed(self.populations.get(population, {})).changed(changes)

    def limits(self, bed: str, population: Population, age_y: float | None) -> Limits:
        """The limits of a patient of ``population`` and ``age_y`` years in ``bed``."""
        limits = defaults(population, age_y).changed(self.populations.get(population, {}))
        return limits.changed(self.beds.get(bed, {}).get(population, {}))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "populations": _plain(self.populations),
            "beds": {bed: _plain(changes) for bed, changes in self.beds.items()},
            "latch": self.latch.value,
            "reminder_s": self.reminder_s,
            "suspend_s_max": self.suspend_s_max,
            "news2": self.news2,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ThresholdSettings:
        """What ``to_json`` gave; ``ConfigError`` (``setting-unknown``, ``setting-invalid``) for anything else."""
        unknown = sorted(set(document) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError("setting-unknown", f"there is no setting of threshold alerts named {', '.join(unknown)}")
        try:
            return cls(
                populations=_changes(document.get("populations", {})),
                beds={str(bed): _changes(changes) for bed, changes in document.get("beds", {}).items()},
                latch=Latch(document.get("latch", Latch.HIGH)),
                reminder_s=_seconds(document.get("reminder_s", 180.0)),
                suspend_s_max=_seconds(document.get("suspend_s_max", 180.0)),
                news2=document.get("news2", True) is True,
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                "setting-invalid",
                f"the settings of the threshold alerts have the wrong shape ({type(error).__name__}): limits are "
                "numbers by name, below populations (adult, paediatric, neonatal)",
            ) from error


def _plain(changes: Mapping[Population, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {population.value: dict(limits) for population, limits in changes.items()}


def _changes(document: Mapping[str, Any]) -> dict[Population, dict[str, float]]:
    return {Population(population): dict(limits) for population, limits in document.items()}


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)
