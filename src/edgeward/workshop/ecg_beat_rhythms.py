"""Schedules of beats for synthetic strips: which beat comes when, by the physiology of common rhythms.

A schedule says only classes, times and how atrium and ventricle behave; ``ecg_beat_synth`` gives it the shapes of
real patients. General physiology (coupling, reset and compensatory pauses, runs, fibrillation), not the habits of any
record.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeward.signal.beat import BeatClass

if TYPE_CHECKING:
    import numpy as np

_SHORTEST_S = 0.27


@dataclass(frozen=True, slots=True)
class Planned:
    """One beat: seconds since the one before, class, and its atrial part."""

    rr_s: float
    cls: BeatClass
    p_scale: float = 1.0
    """Size of the P wave relative to the sinus one: 0 none, negative inverted."""
    p_shift_s: float = 0.0
    """How much later (+) the P wave comes relative to its usual distance from the QRS."""
    aberrant: bool = False
    own_p_late_s: float | None = None
    """A dissociated sinus P wave this long after the fiducial."""
    fibrillating: bool = False
    """Whether the atria fibrillate before this beat."""


@dataclass(frozen=True, slots=True)
class Focus:
    """An ectopic atrial focus: how its P wave and its coupling look in this patient."""

    p_scale: float
    p_shift_s: float
    coupling: float
    coupling_sd: float
    pause: float
    aberrancy: float


def draw_focus(rng: np.random.Generator) -> Focus:
    """A random ectopic atrial or junctional focus."""
    kind = rng.random()
    if kind < 0.35:
        scale = rng.uniform(-0.2, 0.2)
    elif kind < 0.6:
        scale = rng.uniform(-1.1, -0.3)
    elif kind < 0.85:
        scale = rng.uniform(0.4, 1.4)
    else:
        scale = 1.0
    return Focus(
        p_scale=float(scale),
        p_shift_s=float(rng.uniform(-0.05, 0.06)),
        coupling=float(rng.uniform(0.5, 0.86)),
        coupling_sd=float(rng.uniform(0.01, 0.06)),
        pause=float(rng.uniform(0.98, 1.3)),
        aberrancy=float(rng.choice([0.0, 0.0, 0.0, 0.0, 0.06])),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a strip shall hold: probabilities per beat and the character of the basic rhythm."""

    base_s: float
    respiratory: float
    jitter: float
    fibrillation: float
    """0 for sinus, else the spread of the log interval."""
    atrial: float
    atrial_pattern: int
    """0: at random; n: after every n − 1 sinus beats."""
    atrial_run: float
    ventricular: float
    ventricular_pattern: int
    ventricular_run: float
    pause: float
    escape: float
    focus: Focus
    second_focus: Focus
    block: float = 0.0
    """Probability per beat that conduction begins or ceases to be aberrant: intermittent bundle branch block."""
    sustained: float = 0.0
    """Probability per beat of a rhythm that lasts: supraventricular tachycardia, idioventricular, fibrillation."""
    tide: float = 0.0
    """How far the basic rate rises and falls over minutes, as log-ratio: effort and rest."""
    ashman: float = 0.0
    """In fibrillation, share of the beats soon after a long interval that are conducted with aberrancy."""


_KINDS = ("sinus", "arrhythmia", "pac", "pac_pattern", "svt", "dominated", "fibrillation", "pvc_pattern", "pvc")
_KIND_ODDS = (0.07, 0.11, 0.29, 0.11, 0.10, 0.04, 0.14, 0.06, 0.08)


def draw_plan(rng: np.random.Generator, base_s: float, *, fibrillating: bool = False, long: bool = False) -> Plan:
    """A random plan around a basic interval ``base_s``; a ``long`` strip has room for runs that last."""
    kind = "fibrillation" if fibrillating else str(rng.choice(_KINDS, p=_KIND_ODDS))
    with_pvc = kind in ("pvc", "pvc_pattern") or rng.random() < 0.25
    return Plan(
        base_s=base_s,
        respiratory=float(rng.uniform(0.06, 0.2) if kind == "arrhythmia" else rng.uniform(0.0, 0.05)),
        jitter=float(rng.uniform(0.004, 0.03)),
        fibrillation=float(rng.uniform(0.1, 0.3) if kind == "fibrillation" else 0.0),
        atrial=float({"pac": rng.uniform(0.03, 0.2), "svt": rng.uniform(0.03, 0.12)}.get(kind, 0.0)),
        atrial_pattern=int(rng.choice([2, 2, 3, 4])) if kind == "pac_pattern" else 0,
        atrial_run=float({"pac": 0.15, "svt": 0.85, "dominated": 0.8}.get(kind, 0.05)),
        ventricular=float(rng.uniform(0.03, 0.2) if with_pvc else 0.0),
        ventricular_pattern=int(rng.choice([2, 3, 4])) if kind == "pvc_pattern" else 0,
        ventricular_run=float(rng.choice([0.05, 0.2, 0.5])),
        pause=float(rng.choice([0.0, 0.0, 0.03])),
        escape=float(rng.choice([0.0, 0.0, 0.03])),
        focus=draw_focus(rng),
        second_focus=draw_focus(rng),
        block=float(rng.uniform(0.01, 0.15) if rng.random() < 0.12 else 0.0),
        sustained=float(rng.uniform(0.004, 0.015) if rng.random() < (0.5 if long else 0.08) else 0.0),
        tide=float(rng.uniform(0.0, 0.3) if long else rng.uniform(0.0, 0.05)),
        ashman=float(rng.uniform(0.2, 0.9) if rng.random() < 0.3 else 0.0),
    )


def schedule(plan: Plan, seconds: float, rng: np.random.Generator) -> list[Planned]:
    """Beats for ``seconds`` by ``plan``; patterns come and go, so that every strip also has its basic rhythm."""
    out: list[Planned] = []
    passed, phase, drift, since = 0.0, rng.uniform(0, 2 * math.pi), 0.0, 0
    dominated = plan.atrial_run == 0.8
    pattern_on = True
    blocked = False
    longest = int(0.4 * seconds)
    tide_s, tide_at = rng.uniform(120.0, 400.0), rng.uniform(0.0, 2 * math.pi)
    while passed < seconds:
        drift = 0.95 * drift + 0.01 * rng.normal()
        phase += 2 * math.pi / rng.uniform(3.5, 6.0)
        drift_now = drift + plan.tide * math.sin(tide_at + 2 * math.pi * passed / tide_s)
        rr = plan.base_s * math.exp(drift_now + plan.respiratory * math.sin(phase) + plan.jitter * rng.normal())
        if rng.random() < 0.04:
            pattern_on = not pattern_on
        since += 1
        blocked ^= rng.random() < plan.block
        if rng.random() < plan.sustained and not plan.fibrillation:
            beats, since = _lasting(plan, rr, rng, longest), 0
        elif _due(plan.ventricular_pattern, since, on=pattern_on) or rng.random() < plan.ventricular:
            beats, since = _ventricular(plan, rr, rng), 0
        elif dominated and pattern_on and since >= 1:
            beats, since = _atrial(plan, rr, rng, int(rng.integers(3, 25))), 0
        elif _due(plan.atrial_pattern, since, on=pattern_on) or rng.random() < plan.atrial:
            length = int(rng.integers(2, 12)) if rng.random() < plan.atrial_run else 1
            beats, since = _atrial(plan, rr, rng, length), 0
        else:
            beats = [_basic(plan, rr, rng)]
        if plan.fibrillation and out:
            beats = [_ashman(plan, out[-1], beats[0], rng), *beats[1:]]
        if blocked:
            beats = [replace(b, aberrant=True) if b.cls in (BeatClass.N, BeatClass.S) else b for b in beats]
        out += beats
        passed += sum(beat.rr_s for beat in beats)
    return out


def _due(pattern: int, since: int, *, on: bool) -> bool:
    return on and pattern > 0 and since >= pattern


def _basic(plan: Plan, rr: float, rng: np.random.Generator) -> Planned:
    if plan.fibrillation:
        return _fibrillating(plan.base_s, plan.fibrillation, rng)
    if rng.random() < plan.pause:
        rr *= float(rng.choice([2.0, rng.uniform(1.3, 1.9)]))
    elif rng.random() < plan.escape:  # junctional escape: late, without a P wave
        return Planned(rr * rng.uniform(1.15, 1.5), BeatClass.N, p_scale=float(rng.choice([0.0, 0.0, -0.5])))
    return Planned(rr, BeatClass.N)


def _fibrillating(base_s: float, spread: float, rng: np.random.Generator) -> Planned:
    return Planned(max(0.33, base_s * math.exp(spread * rng.normal())), BeatClass.N, p_scale=0.0, fibrillating=True)


def _ashman(plan: Plan, before: Planned, beat: Planned, rng: np.random.Generator) -> Planned:
    """A beat that comes soon after a long interval finds one bundle branch not ready: an aberrated premature beat."""
    soon = beat.cls is BeatClass.N and beat.rr_s < 0.8 * plan.base_s and before.rr_s > plan.base_s
    if soon and rng.random() < plan.ashman:
        return replace(beat, cls=BeatClass.S, aberrant=True)
    return beat


def _atrial(plan: Plan, rr: float, rng: np.random.Generator, length: int) -> list[Planned]:
    """Premature atrial beats and the sinus beat that ends them after a reset pause."""
    focus = plan.focus if rng.random() < 0.8 else plan.second_focus
    beats = []
    inside = rr * rng.uniform(0.45, 0.8)
    for number in range(length):
        early = rr * (focus.coupling + focus.coupling_sd * rng.normal()) if number == 0 else inside
        early *= math.exp(0.03 * rng.normal())
        beats.append(
            Planned(
                min(max(_SHORTEST_S, early), 0.93 * rr),
                BeatClass.S,
                p_scale=focus.p_scale * math.exp(0.15 * rng.normal()),
                p_shift_s=focus.p_shift_s + 0.01 * rng.normal(),
                aberrant=rng.random() < focus.aberrancy,
            )
        )
    if plan.fibrillation:
        return beats
    kind = rng.random()
    pause = focus.pause if kind < 0.8 else (2.0 - focus.coupling if kind < 0.9 else 0.85)
    return [*beats, Planned(rr * pause * math.exp(0.03 * rng.normal()), BeatClass.N)]


def _lasting(plan: Plan, rr: float, rng: np.random.Generator, longest: int) -> list[Planned]:
    """A run of many beats: supraventricular tachycardia, fibrillation, or the ventricle at a rate near the usual."""
    length = int(rng.integers(8, max(9, longest)))
    kind = rng.random()
    if kind < 0.3:
        base, spread = max(0.4, rr * rng.uniform(0.55, 1.0)), rng.uniform(0.1, 0.3)
        beats = [_fibrillating(base, spread, rng) for _ in range(length)]
        return [*beats, Planned(rr * rng.uniform(1.0, 1.8), BeatClass.N)]
    if kind < 0.7:
        beats = _atrial(plan, rr, rng, length)
        if rng.random() < 0.3:
            beats = [replace(b, aberrant=True) if b.cls is BeatClass.S else b for b in beats]
        return beats
    inside, length = rr * rng.uniform(0.6, 1.15), min(length, 60)
    steady = rng.uniform(0.01, 0.04)
    beats = [
        Planned(max(_SHORTEST_S, inside * math.exp(steady * rng.normal())), BeatClass.V, own_p_late_s=None)
        for _ in range(length)
    ]
    return [*beats, Planned(rr * rng.uniform(0.9, 1.3), BeatClass.N)]


def _ventricular(plan: Plan, rr: float, rng: np.random.Generator) -> list[Planned]:
    """Premature ventricular beats, a late escape, or a fusion beat, with what follows."""
    if plan.fibrillation:
        rr = plan.base_s
    kind = rng.random()
    if kind < 0.04:
        return [Planned(rr * rng.uniform(1.25, 1.9), BeatClass.V)]
    if kind < 0.09 and not plan.fibrillation:
        return [Planned(rr * rng.uniform(0.9, 1.0), BeatClass.F)]
    length = int(rng.integers(2, 8)) if rng.random() < plan.ventricular_run else 1
    coupling = rng.uniform(0.45, 0.9)
    inside = rr * rng.uniform(0.45, 0.85)
    own_p = None if plan.fibrillation or rng.random() < 0.4 else rr * (1 - coupling) - 0.16
    beats = [Planned(max(_SHORTEST_S, rr * coupling), BeatClass.V, own_p_late_s=own_p)]
    beats += [Planned(max(_SHORTEST_S, inside * math.exp(0.06 * rng.normal())), BeatClass.V) for _ in range(length - 1)]
    if plan.fibrillation:
        return beats
    if length == 1 and kind > 0.93 and rr > 0.75:  # interpolated
        return [*beats, Planned(max(0.35, rr * (1.05 - coupling)), BeatClass.N)]
    pause = 2 * rr - beats[0].rr_s if rng.random() < 0.7 else rr * rng.uniform(0.95, 1.3)
    return [*beats, Planned(pause * math.exp(0.02 * rng.normal()), BeatClass.N)]
