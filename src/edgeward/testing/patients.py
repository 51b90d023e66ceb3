"""Made-up patients: courses of vital signs for a device that has no patient. Simulated, and labelled so everywhere.

A patient is a seed, a baseline and a course. The course moves one latent severity from 0 to 1; each vital answers it by
its own gain, with its own lag and threshold (a bleeding patient's pressure holds until it does not), on top of slow
wander and beat-to-beat noise. Figures are textbook magnitudes (ATLS classes of haemorrhage; Sepsis-3; opioid-induced
ventilatory impairment), chosen to look right to a clinician; they are no model of disease and prove nothing about one.

Every figure of a patient is drawn from ranges that depend on ``held_out``: a model that was looked at with patients of
the one half of the ranges is judged on the other. Pure: time is passed in, randomness comes from the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgeward.signal.numeric import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


class Course(StrEnum):
    """What happens to the patient."""

    STABLE = "stable"
    SEPSIS = "sepsis"
    HAEMORRHAGE = "haemorrhage"
    HYPOXIA = "hypoxia"
    OPIOID = "opioid"
    HYPOTENSION = "hypotension"
    ARTEFACTS = "artefacts"
    DISCONNECTIONS = "disconnections"


_CONTINUOUS = (Kind.HR, Kind.PULSE, Kind.SPO2, Kind.RR)
_ARTERIAL = (Kind.ABP_SYS, Kind.ABP_DIA, Kind.ABP_MEAN)
_CUFF = (Kind.NIBP_SYS, Kind.NIBP_DIA, Kind.NIBP_MEAN)


@dataclass(frozen=True, slots=True)
class Answer:
    """How one vital answers severity: by ``gain`` at severity 1, from ``threshold`` on, ``lag_s`` behind."""

    gain: float
    threshold: float = 0.0
    lag_s: float = 60.0

    def at(self, severity: float) -> float:
        """The change at ``severity``."""
        span = max(1e-6, 1.0 - self.threshold)
        return self.gain * max(0.0, severity - self.threshold) / span


_ANSWERS: Mapping[Course, Mapping[str, Answer]] = MappingProxyType(
    {
        Course.STABLE: {},
        Course.SEPSIS: {
            "hr": Answer(42, lag_s=300),
            "rr": Answer(15, lag_s=420),
            "sys": Answer(-38, 0.45, 600),
            "dia": Answer(-24, 0.35, 600),
            "temp": Answer(2.2, lag_s=900),
            "spo2": Answer(-7, 0.3, 600),
        },
        Course.HAEMORRHAGE: {
            "hr": Answer(55, lag_s=60),
            "rr": Answer(14, 0.2, 180),
            "sys": Answer(-60, 0.5, 45),
            "dia": Answer(-22, 0.6, 45),
            "temp": Answer(-0.8, 0.3, 1800),
        },
        Course.HYPOXIA: {
            "spo2": Answer(-22, lag_s=40),
            "rr": Answer(16, 0.1, 60),
            "hr": Answer(28, 0.15, 60),
            "etco2": Answer(14, 0.3, 120),
        },
        Course.OPIOID: {
            "rr": Answer(-11, lag_s=30),
            "etco2": Answer(26, 0.1, 180),
            "spo2": Answer(-16, 0.4, 150),
            "hr": Answer(-12, 0.3, 240),
            "sys": Answer(-18, 0.5, 300),
        },
        Course.HYPOTENSION: {
            "sys": Answer(-48, lag_s=120),
            "dia": Answer(-30, lag_s=120),
            "hr": Answer(18, 0.2, 180),
        },
        Course.ARTEFACTS: {},
        Course.DISCONNECTIONS: {},
    }
)
_BASE: Mapping[str, tuple[float, float, float, float]] = MappingProxyType(
    {  # low and high of a patient's own usual value, wander (standard deviation), wander's time in s
        "hr": (62, 92, 3.5, 240),
        "rr": (12, 19, 1.4, 120),
        "spo2": (95.5, 99.0, 0.6, 150),
        "sys": (112, 142, 5.0, 300),
        "dia": (62, 82, 3.2, 300),
        "temp": (36.4, 37.3, 0.05, 1800),
        "etco2": (33, 41, 1.2, 180),
    }
)
_NOISE: Mapping[str, float] = MappingProxyType(
    {"hr": 0.9, "rr": 0.7, "spo2": 0.25, "sys": 1.6, "dia": 1.1, "temp": 0.02, "etco2": 0.6}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A made-up patient. ``onset_s``: when the course begins; ``ramp_s``: from there to its worst.

    ``arterial``: an arterial line is in, else the cuff measures each ``cuff_s``; ``capnography``: end-tidal CO2 is
    measured. ``held_out`` chooses the half of the ranges that the patient's figures come from.
    """

    seed: int
    course: Course = Course.STABLE
    onset_s: float = 600.0
    ramp_s: float = 5400.0
    arterial: bool = True
    capnography: bool = False
    cuff_s: float = 300.0
    temp_s: float = 900.0
    held_out: bool = False


@dataclass(slots=True)
class Patient:
    """Plays a plan: ``at`` gives what a monitor shows, for instants that do not go back."""

    plan: Plan
    _random: np.random.Generator = field(init=False, repr=False)
    _base: dict[str, float] = field(init=False)
    _scale: dict[str, float] = field(init=False)
    _wander: dict[str, float] = field(init=False)
    _lagged: dict[str, float] = field(init=False)
    _now_s: float = 0.0
    _cuff_due_s: float = 0.0
    _temp_due_s: float = 0.0
    _trouble: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        self._random = np.random.default_rng([plan.seed, int(plan.held_out), list(Course).index(plan.course)])
        draw = self._random.uniform
        self._base = {name: _half(draw(), low, high, held_out=plan.held_out) for name, (low, high, *_) in _BASE.items()}
        answers = _ANSWERS[plan.course]
        self._scale = {name: _half(draw(), 0.75, 1.25, held_out=plan.held_out) for name in answers}
        self._wander = {name: float(self._random.normal(0, _BASE[name][2])) for name in _BASE}
        self._lagged = dict.fromkeys(answers, 0.0)

    def severity(self, at_s: float) -> float:
        """How far the course has gone at ``at_s``: 0 to 1, smooth at both ends."""
        along = min(1.0, max(0.0, (at_s - self.plan.onset_s) / self.plan.ramp_s))
        return along * along * (3.0 - 2.0 * along)

    def at(self, at_s: float) -> dict[Kind, float | None]:
        """What the monitor shows at ``at_s`` seconds: only what it measures then; None: it says that it cannot.

        Raises ``ValueError`` when time goes back.
        """
        if at_s < self._now_s:
            raise ValueError("a patient's time does not go back")
        true = self._advance(at_s)
        shown: dict[Kind, float | None] = {
            Kind.HR: true["hr"],
            Kind.PULSE: true["hr"] + float(self._random.normal(0, 0.6)),
            Kind.SPO2: min(100.0, true["spo2"]),
            Kind.RR: true["rr"],
        }
        pressures = (true["sys"], true["dia"], true["dia"] + (true["sys"] - true["dia"]) / 3.0)
        if self.plan.arterial:
            shown |= dict(zip(_ARTERIAL, pressures, strict=True))
        if self.plan.capnography:
            shown[Kind.ETCO2] = true["etco2"]
        if not self.plan.arterial and at_s >= self._cuff_due_s:
            self._cuff_due_s = at_s + self.plan.cuff_s
            shown |= dict(zip(_CUFF, pressures, strict=True))
        if at_s >= self._temp_due_s:
            self._temp_due_s = at_s + self.plan.temp_s
            shown[Kind.TEMP] = true["temp"]
        self._disturb(shown, at_s)
        return {kind: None if value is None else _as_shown(kind, value) for kind, value in shown.items()}

    def silent(self, at_s: float) -> bool:
        """Whether the monitor is off the network: nothing comes at all."""
        return at_s < self._trouble.get("silent", -1.0)

    def _advance(self, at_s: float) -> dict[str, float]:
        passed_s = at_s - self._now_s
        self._now_s = at_s
        severity, true = self.severity(at_s), {}
        answers = _ANSWERS[self.plan.course]
        for name, (_, _, deviation, time_s) in _BASE.items():
            keep = math.exp(-passed_s / time_s)
            self._wander[name] *= keep
            self._wander[name] += float(self._random.normal(0, deviation * math.sqrt(1.0 - keep * keep)))
            value = self._base[name] + self._wander[name] + float(self._random.normal(0, _NOISE[name]))
            if name in answers:
                answer = answers[name]
                target = answer.at(severity) * self._scale[name]
                self._lagged[name] += (target - self._lagged[name]) * (1.0 - math.exp(-passed_s / answer.lag_s))
                value += self._lagged[name]
            true[name] = value
        true["rr"] = max(3.0, true["rr"])
        true["dia"] = min(true["dia"], true["sys"] - 12.0)
        return true

    def _disturb(self, shown: dict[Kind, float | None], at_s: float) -> None:
        """What no patient has: motion, flushed and damped lines, probes that are off, a monitor off the network."""
        course = self.plan.course
        if course is Course.ARTEFACTS:
            for name, every_s, length_s in (("motion", 90, 12), ("flush", 240, 4), ("double", 180, 8)):
                self._maybe(name, at_s, every_s, length_s)
            if at_s < self._trouble.get("motion", -1.0):
                shown[Kind.SPO2] = float(self._random.uniform(55, 85))
                shown[Kind.PULSE] = float(self._random.uniform(30, 190))
            if at_s < self._trouble.get("flush", -1.0) and self.plan.arterial:
                shown |= dict.fromkeys(_ARTERIAL, 280.0)
            if at_s < self._trouble.get("double", -1.0):
                shown[Kind.HR] = 2.0 * (shown[Kind.HR] or 0.0)  # T waves counted as beats
        if course is Course.DISCONNECTIONS:
            for name, every_s, length_s in (("probe", 150, 40), ("leads", 300, 30), ("silent", 400, 60)):
                self._maybe(name, at_s, every_s, length_s)
            if at_s < self._trouble.get("probe", -1.0):
                shown[Kind.SPO2] = shown[Kind.PULSE] = None
            if at_s < self._trouble.get("leads", -1.0):
                shown[Kind.HR] = shown[Kind.RR] = None

    def _maybe(self, name: str, at_s: float, every_s: float, length_s: float) -> None:
        until = self._trouble.get(name)
        if until is None:
            self._trouble[name] = -1.0
            self._trouble[f"{name}-next"] = at_s + float(self._random.uniform(0.3, 1.0)) * every_s
        elif at_s >= self._trouble[f"{name}-next"]:
            self._trouble[name] = at_s + float(self._random.uniform(0.5, 1.5)) * length_s
            self._trouble[f"{name}-next"] = at_s + float(self._random.uniform(0.6, 1.4)) * every_s + length_s


def _half(share: float, low: float, high: float, *, held_out: bool) -> float:
    """A value in the quarters of a range that are looked at, or in the ones that are held out (2nd and 4th)."""
    quarter = (high - low) / 4.0
    first = (1.0 if share < 0.5 else 3.0) if held_out else (0.0 if share < 0.5 else 2.0)
    return low + quarter * (first + 2.0 * share % 1.0)


def _as_shown(kind: Kind, value: float) -> float:
    info = KINDS[kind]
    return round(min(info.high, max(info.low, value)), info.decimals)
