"""Simulated patients through the bedside's own assessment, every 15 s: how long before low pressure it speaks.

**Simulated.** No open data hold vital signs of many patients each few seconds, so the claim of a score every 15 s, 30
to 60 minutes ahead, cannot be shown on people here. What is shown is that grid, model, levels and advisory work
together at that pace, on made-up courses whose figures were held out. A made-up pressure falls as its maker drew it:
these leads say nothing of patients, and every table says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeward.bedside.assess.core import Ask, Assessor, Tell
from edgeward.bedside.assess.hypotension import PERIOD_NS, plan_of
from edgeward.bedside.feed import Admitted, Discharged, Measured
from edgeward.evaluate.hypotension_report import table
from edgeward.inference.engine import Engine
from edgeward.signal.hypotension import TASK
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.vitals_grid import MINUTE_NS
from edgeward.workshop.hypotension_alerts import HOLD_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from edgeward.bundle.archive import Bundle

NUMERICS_S = 5
"""A monitor's numerics come so often."""
MAP_LIMIT = 70.0
"""The conventional threshold alert that leads are held against: its default low limit of the mean pressure."""
_NS_PER_S = 1_000_000_000


class Played(Protocol):
    """A made-up patient (``edgeward.testing.patients.Patient`` is one)."""

    def at(self, at_s: float) -> Mapping[Kind, float | None]:
        """What the monitor shows at ``at_s``, which does not go back."""
        ...

    def silent(self, at_s: float) -> bool:
        """Whether the monitor is off the network."""
        ...


@dataclass(frozen=True, slots=True)
class Course:
    """One simulated stay. Minutes since its beginning; ``onset`` of sustained low pressure, None without.

    ``raised``: when advisories were raised; ``limit``: first minute below the conventional limit; ``scored``: accepted
    scores; ``hours`` played.
    """

    name: str
    onset: float | None
    raised: tuple[float, ...]
    limit: float | None
    scored: int
    hours: float

    @property
    def lead(self) -> float | None:
        """Minutes from the earliest advisory within the two hours before the onset; None: not called before it."""
        if self.onset is None:
            return None
        leads = [self.onset - minute for minute in self.raised if 0 < self.onset - minute <= 120]
        return max(leads, default=None)

    @property
    def limit_lead(self) -> float | None:
        """Minutes from the first value below the conventional limit to the onset."""
        return None if self.onset is None or self.limit is None else max(0.0, self.onset - self.limit)

    @property
    def false(self) -> int:
        """Advisories that no sustained low pressure followed within two hours."""
        ends = [minute for minute in self.raised if self.onset is None or not 0 < self.onset - minute <= 120]
        return len([minute for minute in ends if self.onset is None or minute < self.onset])


def play(bundle: Bundle, patients: Iterable[tuple[str, Played, float]], say: Callable[[str], None]) -> list[Course]:
    """Play each (name, patient, hours) through the assessment of ``bundle``, as a device would. Simulated."""
    engine = Engine.load(bundle)
    core = Assessor(plan_of(bundle.manifest), version=bundle.manifest.version)
    out = []
    now = 0
    for stay, (name, patient, hours) in enumerate(patients, 1):
        start = now
        core.take(Admitted(stay, "simulated", start, age_y=60.0, simulated=True), start)
        pressures: dict[int, list[float]] = {}
        raised: list[float] = []
        scored = 0
        for second in range(0, round(hours * 3600), NUMERICS_S):
            now = start + second * _NS_PER_S
            if not patient.silent(second):
                shown = patient.at(second)
                numerics = tuple(Numeric(kind, value, now) for kind, value in shown.items())
                core.take(Measured(stay, numerics), now)
                pressure = shown.get(Kind.ABP_MEAN)
                if pressure is not None and TASK.low <= pressure <= TASK.high:
                    pressures.setdefault(second // 60, []).append(pressure)
            for tell in _tick(core, engine, now):
                scored += tell.kind == "score" and tell.data["outcome"] == "accepted"
                if tell.kind == "advisory" and tell.data["active"]:
                    raised.append((now - start) / MINUTE_NS)
        core.take(Discharged(stay, now), now)
        now += PERIOD_NS
        minutes = {minute: float(np.mean(values)) for minute, values in pressures.items()}
        limit = min((minute for minute, value in minutes.items() if value < MAP_LIMIT), default=None)
        out.append(Course(name, onset_of(minutes), tuple(raised), limit, scored, hours))
        say(f"simulated {name}: onset {out[-1].onset}, advisories {[round(minute) for minute in raised]}")
    return out


def _tick(core: Assessor, engine: Engine, now: int) -> list[Tell]:
    told: list[Tell] = []
    for effect in core.tick(now):
        if isinstance(effect, Ask):
            answer = core.answered(effect.sequence, engine.infer(dict(effect.inputs)), None, now)
            told += [item for item in answer if isinstance(item, Tell)]
        else:
            told.append(effect)
    return told


def onset_of(minutes: Mapping[int, float]) -> float | None:
    """First minute of the first run of minute means below 65 mmHg that lasts ten minutes without a gap."""
    run = 0
    for minute in range(max(minutes, default=-1) + 1):
        run = run + 1 if minutes.get(minute, np.inf) < TASK.limit else 0
        if run > TASK.sustained:
            return float(minute - TASK.sustained)
    return None


def told(courses: Sequence[Course]) -> dict[str, Any]:
    """The object that ``--json`` prints; ``simulated`` is true."""
    rows = {name: _figures([c for c in courses if c.name == name]) for name in dict.fromkeys(c.name for c in courses)}
    return {"simulated": True, "period_s": PERIOD_NS // _NS_PER_S, "courses": rows, "all": _figures(courses)}


def _figures(courses: Sequence[Course]) -> dict[str, Any]:
    fallen = [course for course in courses if course.onset is not None]
    leads = [course.lead for course in fallen if course.lead is not None]
    limits = [course.limit_lead for course in fallen if course.limit_lead is not None]
    days = sum(course.scored for course in courses) * PERIOD_NS / (24 * 60 * MINUTE_NS)
    false = sum(course.false for course in courses)
    return {
        "patients": len(courses),
        "episodes": len(fallen),
        "called": len(leads),
        "called_30_min": sum(lead >= TASK.soonest for lead in leads),
        "lead_minutes": float(np.median(leads)) if leads else None,
        "lead_quartiles": [float(np.quantile(leads, q)) for q in (0.25, 0.75)] if leads else None,
        "limit_lead_minutes": float(np.median(limits)) if limits else None,
        "false": false,
        "watched_days": days,
        "false_per_day": false / days if days else None,
    }


def render(courses: Sequence[Course]) -> str:
    """The table for people. Simulated."""
    found = told(courses)
    rows: list[tuple[str, ...]] = [
        (
            "SIMULATED",
            "patients",
            "episodes",
            "called",
            "30 min ahead",
            "lead, min",
            f"MAP < {MAP_LIMIT:.0f}",
            "false a day",
        )
    ]
    for name, row in (*found["courses"].items(), ("all", found["all"])):
        lead, quartiles, limit, false = (
            row[key] for key in ("lead_minutes", "lead_quartiles", "limit_lead_minutes", "false_per_day")
        )
        rows.append(
            (
                name,
                str(row["patients"]),
                str(row["episodes"]),
                str(row["called"]),
                str(row["called_30_min"]),
                "-" if lead is None else f"{lead:.0f} ({quartiles[0]:.0f}-{quartiles[1]:.0f})",
                "-" if limit is None else f"{limit:.0f}",
                "-" if false is None else f"{false:.1f}",
            )
        )
    return (
        "SIMULATED patients with held-out figures, a score every 15 s through the bedside's assessment\n"
        f"{table(rows)}\n"
        f"Called: an advisory within two hours before sustained pressure below {TASK.limit:.0f} mmHg. MAP < "
        f"{MAP_LIMIT:.0f}: lead of the conventional limit. An advisory stands {HOLD_MIN} min or longer. SIMULATED: the "
        "courses fall as they were drawn, and say nothing of what patients do."
    )
