"""NEWS2, the National Early Warning Score of the Royal College of Physicians, from the numerics of one stay.

Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, Updated report of a working party, London
2017 (charts 1 and 4, tables 1 to 3). Not for patients under 16 and not in pregnancy; SpO2 scale 2 only by a clinician's
choice. One implementation serves the bedside and the evaluation over hourly tables.

An item that is not known, or known too long ago, is *missing*: it adds nothing, is named, and makes the score a lower
bound. The chart has no cells between its numbers, so a value is read as a monitor shows it: whole numbers, temperature
to 0.1 °C.

Consciousness is ACVPU. Only where that is missing, a Glasgow coma scale stands in: 15 scores as alert, anything less
as CVPU, and ``from_gcs`` says so. Below 15 a patient opens the eyes to voice at best, is confused or does not obey;
whether a confusion is new the scale cannot tell, and the report takes confusion for new until it is known to be old.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeward.signal.numeric import ACVPU_LEVELS, KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AGE_Y_MIN = 16.0
"""The score is not for anybody younger."""
URGENT = 5
EMERGENCY = 7
ROOM_AIR_PERCENT = 21


class Item(StrEnum):
    """The seven items of the score."""

    RESPIRATION = "respiration"
    SPO2 = "spo2"
    OXYGEN = "oxygen"
    SYSTOLIC = "systolic"
    PULSE = "pulse"
    CONSCIOUSNESS = "consciousness"
    TEMPERATURE = "temperature"


class Risk(StrEnum):
    """Clinical risk of table 3: 0 to 4 low, a single 3 low-medium, 5 or 6 medium, 7 and more high."""

    LOW = "low"
    LOW_MEDIUM = "low-medium"
    MEDIUM = "medium"
    HIGH = "high"


_H = 3600.0
FRESH_S: Mapping[Item, float] = MappingProxyType(
    {
        Item.RESPIRATION: 600.0,
        Item.SPO2: 600.0,
        Item.PULSE: 600.0,
        Item.SYSTOLIC: 4_200.0,
        Item.OXYGEN: 6 * _H,
        Item.CONSCIOUSNESS: 6 * _H,
        Item.TEMPERATURE: 6 * _H,
    }
)
"""How old an item may be at a bed with a monitor, in seconds.

What a monitor measures all the time: 10 minutes. A cuff may measure once an hour: 70 minutes. What a person observes:
6 hours, the longest interval that the report allows at a score of 1 to 4.
"""
CHARTED_FRESH_S: Mapping[Item, float] = MappingProxyType(dict.fromkeys(Item, 6 * _H))
"""The same for charts and hourly tables, where every item is observed by hand, at the intervals of the report."""

_SOURCES: Mapping[Item, tuple[Kind, ...]] = MappingProxyType(
    {
        Item.RESPIRATION: (Kind.RR,),
        Item.SPO2: (Kind.SPO2,),
        Item.SYSTOLIC: (Kind.ABP_SYS, Kind.NIBP_SYS),
        Item.PULSE: (Kind.HR, Kind.PULSE),
        Item.CONSCIOUSNESS: (Kind.ACVPU,),
        Item.TEMPERATURE: (Kind.TEMP,),
    }
)
"""Kinds of each item, the preferred one first; oxygen comes from any of ``FIO2`` and ``O2_FLOW`` that says oxygen."""

KINDS_USED: frozenset[Kind] = frozenset(
    [*(kind for kinds in _SOURCES.values() for kind in kinds), Kind.FIO2, Kind.O2_FLOW, Kind.GCS]
)
"""Every kind that can change a score."""


@dataclass(frozen=True, slots=True)
class Observations:
    """One set of observations; None: missing.

    ``respiration``, ``pulse`` per minute; ``spo2`` in %; ``oxygen``: whether any is given; ``systolic`` in mmHg;
    ``consciousness``: 0 alert to 4 unresponsive (``ACVPU_LEVELS``); ``from_gcs``: it was taken from a coma scale;
    ``temperature`` in °C.
    """

    respiration: float | None = None
    spo2: float | None = None
    oxygen: bool | None = None
    systolic: float | None = None
    pulse: float | None = None
    consciousness: int | None = None
    temperature: float | None = None
    from_gcs: bool = False


@dataclass(frozen=True, slots=True)
class News2:
    """A score.

    ``points`` by item, missing ones left out; ``missing``: in the chart's order; ``risk``: what is certain. An
    incomplete score is a lower bound: its risk is that band or a higher one, and None where it could be anything.
    """

    points: Mapping[Item, int]
    missing: tuple[Item, ...]
    scale: int
    from_gcs: bool = False

    @property
    def score(self) -> int | None:
        """The sum of the known items; None when none is known."""
        return sum(self.points.values()) if self.points else None

    @property
    def complete(self) -> bool:
        """Whether every item is known; else the score is a lower bound."""
        return not self.missing

    @property
    def risk(self) -> Risk | None:
        """The risk band, or the lowest that it can be; None where an incomplete score does not exclude low risk."""
        score = self.score or 0
        if score >= EMERGENCY:
            return Risk.HIGH
        if score >= URGENT:
            return Risk.MEDIUM
        if 3 in self.points.values():
            return Risk.LOW_MEDIUM
        return Risk.LOW if self.complete else None


@dataclass(frozen=True, slots=True)
class _Scale:
    """``points`` of the bands between ``edges``; an edge belongs to the band below it."""

    edges: tuple[float, ...]
    points: tuple[int, ...]
    decimals: int = 0

    def of(self, value: float) -> int:
        return self.points[bisect_left(self.edges, _shown(value, self.decimals))]


_SCALES: Mapping[Item, _Scale] = {
    Item.RESPIRATION: _Scale((8, 11, 20, 24), (3, 1, 0, 2, 3)),
    Item.SYSTOLIC: _Scale((90, 100, 110, 219), (3, 2, 1, 0, 3)),
    Item.PULSE: _Scale((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3)),
    Item.TEMPERATURE: _Scale((35.0, 36.0, 38.0, 39.0), (3, 1, 0, 1, 2), decimals=1),
}
_SPO2_SCALE_1 = _Scale((91, 93, 95), (3, 2, 1, 0))
_SPO2_SCALE_2_AIR = _Scale((83, 85, 87), (3, 2, 1, 0))
_SPO2_SCALE_2_OXYGEN = _Scale((83, 85, 87, 92, 94, 96), (3, 2, 1, 0, 1, 2, 3))
_OXYGEN_POINTS = 2
_CVPU_POINTS = 3


def _shown(value: float, decimals: int) -> float:
    """``value`` as a display rounds it, halves upwards."""
    factor = 10.0**decimals
    return math.floor(value * factor + 0.5 + 1e-9) / factor


def applies(age_y: float | None) -> bool:
    """Whether the score is made for a patient of that age; an unknown age is taken for an adult's."""
    return age_y is None or age_y >= AGE_Y_MIN


def score(seen: Observations, scale: int = 1) -> News2:
    """The score of one set of observations on SpO2 ``scale`` 1 or 2.

    Without word of oxygen, scale 2 counts SpO2 as on air, the lower of the two, and oxygen is missing: the lower bound
    holds. ``ValueError`` for another scale or a level of consciousness that is none.
    """
    if scale not in (1, 2):
        raise ValueError("NEWS2 has SpO2 scales 1 and 2")
    points: dict[Item, int] = {}
    for item, value in (
        (Item.RESPIRATION, seen.respiration),
        (Item.SYSTOLIC, seen.systolic),
        (Item.PULSE, seen.pulse),
        (Item.TEMPERATURE, seen.temperature),
    ):
        if value is not None:
            points[item] = _SCALES[item].of(value)
    if seen.spo2 is not None:
        second = _SPO2_SCALE_2_OXYGEN if seen.oxygen else _SPO2_SCALE_2_AIR
        points[Item.SPO2] = (_SPO2_SCALE_1 if scale == 1 else second).of(seen.spo2)
    if seen.oxygen is not None:
        points[Item.OXYGEN] = _OXYGEN_POINTS if seen.oxygen else 0
    if seen.consciousness is not None:
        if not 0 <= seen.consciousness < len(ACVPU_LEVELS):
            raise ValueError("consciousness is 0 (alert) to 4 (unresponsive)")
        points[Item.CONSCIOUSNESS] = _CVPU_POINTS if seen.consciousness else 0
    ordered = {item: points[item] for item in Item if item in points}
    missing = tuple(item for item in Item if item not in points)
    return News2(ordered, missing, scale, from_gcs=seen.from_gcs and seen.consciousness is not None)


def observe(known: Callable[[Kind, float], float | None], fresh_s: Mapping[Item, float] = FRESH_S) -> Observations:
    """A set of observations from what is ``known(kind, seconds)``: a value not older than that, in canonical units.

    ECG is preferred to the oximeter's pulse, an arterial line to a cuff. Either of inspired oxygen above 21 % and an
    oxygen flow says oxygen; air is said by one without the other.
    """

    def first(item: Item) -> float | None:
        values = (known(kind, fresh_s[item]) for kind in _SOURCES[item])
        return next((value for value in values if value is not None), None)

    level, from_gcs = first(Item.CONSCIOUSNESS), False
    if level is None:
        coma = known(Kind.GCS, fresh_s[Item.CONSCIOUSNESS])
        level, from_gcs = (None, False) if coma is None else (float(coma < KINDS[Kind.GCS].high), True)
    return Observations(
        respiration=first(Item.RESPIRATION),
        spo2=first(Item.SPO2),
        oxygen=oxygen_given(known(Kind.FIO2, fresh_s[Item.OXYGEN]), known(Kind.O2_FLOW, fresh_s[Item.OXYGEN])),
        systolic=first(Item.SYSTOLIC),
        pulse=first(Item.PULSE),
        consciousness=None if level is None else _level(level),
        temperature=first(Item.TEMPERATURE),
        from_gcs=from_gcs,
    )


def oxygen_given(fio2_percent: float | None, flow_l_min: float | None) -> bool | None:
    """Whether the patient breathes more than air, by inspired oxygen (%) and flow (L/min); None when neither is known.

    Inspired oxygen up to 21 % as displayed is air: a sensor on air reads 20.9 % and a little either side.
    """
    if fio2_percent is None and flow_l_min is None:
        return None
    return _shown(fio2_percent or 0.0, 0) > ROOM_AIR_PERCENT or (flow_l_min or 0.0) > 0.0


def _level(value: float) -> int:
    return bisect_right((0.5, 1.5, 2.5, 3.5), value)
