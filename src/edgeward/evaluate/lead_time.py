"""How long before the conventional alert the advisory comes, at no more alerts per patient-day and no more hours up.

An *event* is a patient's onset of sepsis, as the challenge times it: six hours after the first row labelled 1. One
that is labelled from its first row on began before anybody watched and is left out. For each event the first hour is
sought in which the advisory was up, and the first in which the rule was, within ``WINDOW_H`` before the onset (earlier
ones count as false, as in the challenge's utility). Where the rule was not up by then, the onset itself stands for it.
The table has a row per hour, so that leads are whole hours: 30 and 60 minutes ahead are both an hour or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.workshop.alerts import per_patient_day, threshold_at
from edgeward.workshop.sepsis_utility import DT_OPTIMAL

if TYPE_CHECKING:
    from edgeward.workshop.ranking import Figure, PatientDraws
    from edgeward.workshop.stay_table import StayTable

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WINDOW_H = 12
MINUTES = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events (E): ``patient`` position of each, ``onset`` its row, ``first`` the first row of its window.

    ``unseen``: patients whose sepsis began before their first row or whose onset the table does not show.
    """

    patient: npt.NDArray[np.int64]
    onset: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    unseen: int


def events_of(table: StayTable) -> Events:
    """The onsets that ``table`` shows."""
    index = np.arange(len(table))
    labelled = np.minimum.reduceat(np.where(table.labels > 0, index, len(table)), table.starts)
    onset = labelled - DT_OPTIMAL
    shown = (labelled > table.starts) & (onset < table.ends)
    patient = np.flatnonzero(shown)
    first = np.maximum(onset[shown] - WINDOW_H, table.starts[shown])
    return Events(patient, onset[shown], first, int(table.septic.sum() - len(patient)))


def first_up(active: Mask, events: Events) -> Array:
    """Hours before the onset at which ``active`` (N,) was first up in the window (E,); NaN where it was not."""
    out = np.full(len(events.onset), np.nan)
    for number, (first, onset) in enumerate(zip(events.first, events.onset, strict=True)):
        up = np.flatnonzero(active[first : onset + 1])
        if len(up):
            out[number] = onset - first - up[0]
    return out


@dataclass(frozen=True, slots=True)
class Lead:
    """The advisory against one rule. Shares are of all events; ``minutes`` is the median over those not missed."""

    burden: float
    hours_up: float
    model_burden: float
    model_hours_up: float
    threshold: float
    minutes: Figure
    before_onset: Figure
    ahead: Figure
    missed: Figure
    rule_missed: Figure

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``ahead`` is at least 30 and at least 60 minutes, which are one on an hourly table."""
        figures = {
            "minutes": self.minutes, "minutes_before_onset": self.before_onset, "share_30_min_ahead": self.ahead,
            "share_60_min_ahead": self.ahead, "missed": self.missed, "rule_missed": self.rule_missed,
        }  # fmt: skip
        shown = {name: {"value": figure.value, "ci": figure.ci} for name, figure in figures.items()}
        rule = {"alerts_per_patient_day": self.burden, "share_of_hours_up": self.hours_up}
        model = {"alerts_per_patient_day": self.model_burden, "share_of_hours_up": self.model_hours_up}
        return {"rule": rule, "model": model, "threshold": self.threshold, **shown}


def threshold_for(rule: Mask, scores: Array, table: StayTable) -> float:
    """From which score on an advisory troubles people no more than ``rule`` (N,) does.

    It is raised no more often and is up for no greater share of the hours: a score changes more slowly than a rule
    does, so that at the number of alerts alone it could be up always.
    """
    return threshold_at(scores, table.starts, per_patient_day(rule, table.starts), share=float(rule.mean()))


def lead_over(rule: Mask, scores: Array, table: StayTable, events: Events, draws: PatientDraws) -> Lead:
    """The advisory at the trouble that the rule ``rule`` (N,) makes (``threshold_for``), against the rule."""
    threshold = threshold_for(rule, scores, table)
    model, conventional = first_up(scores >= threshold, events), first_up(rule, events)
    lead = model - np.nan_to_num(conventional, nan=0.0)
    caught = ~np.isnan(model)
    at = events.patient

    def share(of: Mask) -> Figure:
        def measure(times: Array) -> float:
            each = times[at]
            return float(each[of].sum() / each.sum()) if each.sum() else float("nan")

        return draws.figure(measure)

    def median(of: Array) -> Figure:
        return draws.figure(lambda times: weighted_median(of[caught], times[at][caught]) * MINUTES)

    return Lead(
        per_patient_day(rule, table.starts),
        float(rule.mean()),
        per_patient_day(scores >= threshold, table.starts),
        float((scores >= threshold).mean()),
        threshold,
        median(lead),
        median(model),
        share(caught & (lead >= 1.0)),
        share(~caught),
        share(np.isnan(conventional)),
    )


def weighted_median(values: Array, weight: Array) -> float:
    """Median of ``values``, each counted ``weight`` times; NaN where nothing counts."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    if not len(total) or total[-1] <= 0:
        return float("nan")
    return float(values[order][np.searchsorted(total, total[-1] / 2.0)])
