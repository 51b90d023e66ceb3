"""From scores at decision points to advisories a person would get, and what they were worth.

An advisory is raised at a decision point whose score reaches the threshold, and stands for an hour: while it stands
nothing more is raised, and when it has run out the next point may raise another. It is *true* when sustained
hypotension begins within its hour, and *in time* when that is 30 minutes or more away, else *false*. Points whose
outcome is not known are left out. Burden is told per day of *watched* time, the quarter of an hour that each point
stands for: a line that is read continuously is watched all day, however sparsely these charts were kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeward.signal.hypotension import TASK
from edgeward.workshop.hypotension_points import Outcome

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

HOLD_MIN = 60
"""An advisory stands so long."""
DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Decision points with known outcome, by stay and minute: ``stay``, ``minute``, ``outcome``, ``onset`` (P,)."""

    stay: IntArray
    minute: IntArray
    outcome: IntArray
    onset: IntArray

    def __post_init__(self) -> None:
        if (self.outcome == Outcome.CENSORED).any():
            raise ValueError("points whose outcome is not known tell nothing")
        order = np.lexsort((self.minute, self.stay))
        if not np.array_equal(order, np.arange(len(order))):
            raise ValueError("points must be ordered by stay and minute")

    def __len__(self) -> int:
        return len(self.stay)

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """The points (P,) that the question is for: an episode ahead, or none."""
        chosen: npt.NDArray[np.bool_] = self.outcome != Outcome.SOON
        return chosen

    def events(self) -> int:
        """Episodes that could have been called 30 to 60 min ahead."""
        ahead = self.outcome == Outcome.AHEAD
        return len(set(zip(self.stay[ahead].tolist(), self.onset[ahead].tolist(), strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class Burden:
    """Counts per stay (S,): advisories, false ones, episodes, those called in time, those called at all, watched days.

    ``lead_min``: of the first advisory of every called episode, with ``lead_stay`` beside it.
    """

    alerts: FloatArray
    false: FloatArray
    events: FloatArray
    caught: FloatArray
    called: FloatArray
    days: FloatArray
    lead_min: FloatArray
    lead_stay: IntArray

    def totals(self, weight: FloatArray | None = None) -> dict[str, float]:
        """``recall``, ``recall_any``, ``alerts_per_day``, ``false_per_day``, ``ppv`` over the stays; NaN undefined.

        ``weight`` (S,): how often each stay counts.
        """
        every = np.ones(len(self.days)) if weight is None else weight
        alerts, false, events, caught, called, days = (
            float(column @ every)
            for column in (self.alerts, self.false, self.events, self.caught, self.called, self.days)
        )
        return {
            "recall": caught / events if events else np.nan,
            "recall_any": called / events if events else np.nan,
            "alerts_per_day": alerts / days if days else np.nan,
            "false_per_day": false / days if days else np.nan,
            "ppv": (alerts - false) / alerts if alerts else np.nan,
        }


def walk(asked: Asked, score: FloatArray, threshold: float) -> Burden:
    """Raise advisories through every stay; stays by their position among ``np.unique(asked.stay)``."""
    names, position = np.unique(asked.stay, return_inverse=True)
    counts = np.zeros((6, len(names)))
    alerts, false, events, caught, called, days = counts
    np.add.at(days, position, watched_min(asked) / DAY_MIN)
    told: dict[tuple[int, int], int] = {}
    coming: set[tuple[int, int]] = set()
    in_time: set[tuple[int, int]] = set()
    stay_now, until = -1, -1
    columns = zip(
        position.tolist(),
        asked.minute.tolist(),
        asked.outcome.tolist(),
        asked.onset.tolist(),
        (score >= threshold).tolist(),
        strict=True,
    )
    for stay, minute, outcome, onset, high in columns:
        if stay != stay_now:
            stay_now, until = stay, -1
        if outcome == Outcome.AHEAD:
            coming.add((stay, onset))
        if not high or minute < until:
            continue
        until = minute + HOLD_MIN
        alerts[stay] += 1
        if outcome == Outcome.NONE:
            false[stay] += 1
            continue
        told.setdefault((stay, onset), onset - minute)
        if outcome == Outcome.AHEAD:
            in_time.add((stay, onset))
    for stay, onset in coming:
        events[stay] += 1
        caught[stay] += (stay, onset) in in_time
        called[stay] += (stay, onset) in told
    leads = [(lead, stay) for (stay, onset), lead in told.items() if (stay, onset) in coming]
    lead_min, lead_stay = np.array(leads, dtype=np.float64).reshape(-1, 2).T
    return Burden(alerts, false, events, caught, called, days, lead_min, lead_stay.astype(np.int64))


def watched_min(asked: Asked) -> FloatArray:
    """Minutes (P,) that each point stands for: until the next point of its stay, a quarter of an hour at most."""
    until = np.full(len(asked), float(TASK.every))
    same = asked.stay[1:] == asked.stay[:-1]
    until[:-1][same] = np.minimum(np.diff(asked.minute)[same], TASK.every)
    return until


def threshold_at(asked: Asked, score: FloatArray, false_per_day: float = 1.0, *, steps: int = 400) -> float:
    """The lowest threshold at which, from there up, false advisories stay within ``false_per_day`` of watched time.

    Infinite where no threshold among ``steps`` quantiles of the scores does.
    """
    tried = np.unique(np.quantile(score, 1.0 - np.linspace(0.0, 1.0, steps + 1) ** 2))[::-1]
    chosen = np.inf
    for threshold in tried.tolist():
        if walk(asked, score, threshold).totals()["false_per_day"] > false_per_day:
            break
        chosen = threshold
    return float(chosen)
