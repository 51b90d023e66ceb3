"""Features of a stay for people: a label and a unit for each, so that what drives a score can be shown at a bed."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeward.signal.numeric import KINDS
from edgeward.signal.stay_channels import CHANNELS
from edgeward.signal.stay_features import BEYOND, NAMES
from edgeward.signal.stay_together import TOGETHER

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature for people: its name, a label and a UCUM unit ("1" where it has none), decimals worth showing."""

    name: str
    label: str
    unit: str
    decimals: int = 1


def describe(name: str) -> Feature:
    """The feature ``name`` for people; ``ValueError`` when there is none of that name."""
    if name not in NAMES:
        raise ValueError(f"there is no feature {name!r}")
    if name in _FACTS:
        return Feature(name, *_FACTS[name])
    if name in TOGETHER:
        return Feature(name, *TOGETHER[name])
    head, family, *span = name.split(".")
    channel = next(channel for channel in CHANNELS if channel.name == head)
    words, unit = _FAMILIES[family]
    limit = BEYOND.get(head, (None, None))[["below", "above"].index(family)] if family in ("below", "above") else 0
    within = f" of {span[0][:-1]} h" if span else ""
    text = words.format(limit=f"{limit:g}", within=within)
    decimals = KINDS[channel.kinds[0]].decimals
    return Feature(name, f"{channel.label}{text}", unit or channel.unit, max(decimals, 1 if family == "slope" else 0))


_FAMILIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "last": ("", ""),
        "age": (", hours since the last value", "h"),
        "own": (", against the own mean", ""),
        "peak": (", highest hour of the stay", ""),
        "dip": (", lowest hour of the stay", ""),
        "mean": (", mean{within}", ""),
        "low": (", lowest{within}", ""),
        "high": (", highest{within}", ""),
        "spread": (", variation{within}", ""),
        "slope": (", change per hour{within}", ""),
        "cover": (", share of the time{within} with a value", "1"),
        "below": (", hours{within} below {limit}", "h"),
        "above": (", hours{within} above {limit}", "h"),
        "change": (", change since the days before", ""),
        "first": (", change since the first value", ""),
    }
)
"""Family → what stands behind the channel's label, and a unit where it is not the channel's."""
_FACTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "hours_in": ("Hours in this care", "h"),
        "hours_before": ("Hours in hospital before this care", "h"),
        "age_y": ("Age", "a"),
        "male": ("Man", "1"),
    }
)
