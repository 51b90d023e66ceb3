"""Every figure of scored decision points: ranking, advisories and their burden, calibration, forecast errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.signal.hypotension import TASK
from edgeward.signal.vitals_features import FEATURES
from edgeward.signal.vitals_grid import CELL_MIN
from edgeward.workshop.forecast_errors import Error, forecast_errors
from edgeward.workshop.hypotension_alerts import Asked, Burden, threshold_at, walk, watched_min
from edgeward.workshop.hypotension_data import FORECAST, Examples
from edgeward.workshop.hypotension_points import Outcome
from edgeward.workshop.ranking import Calibration, Figure, PatientDraws, Ranked, brier, calibration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.workshop.vitals_long import Stay

FloatArray = npt.NDArray[np.float64]

FALSE_PER_DAY = 1.0
"""The burden at which recall is told: false advisories per day of watched time."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Decision points with scores by name, log odds of the judged model last, and its forecast where there is one."""

    points: Examples
    scores: Mapping[str, FloatArray]
    quantiles: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class AtBurden:
    """Advisories at one threshold (probability): each figure with its interval by patient.

    ``recall``: episodes called 30 to 60 min ahead; ``recall_any``: called at all before they began; ``ppv``: advisories
    followed within the hour; ``lead_minutes``: median lead of the called episodes.
    """

    threshold: float
    recall: Figure
    recall_any: Figure
    alerts_per_day: Figure
    false_per_day: Figure
    ppv: Figure
    lead_minutes: Figure
    lead_quartiles: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class HypotensionResult:
    """Figures of one run.

    ``ranks``: name → AUROC, AUPRC, the judged ``model`` last; ``hindsight``: AUROC of the last mean pressure of the 30
    minutes *after* each point, which no model can know; ``at_budget``: name → advisories at ``FALSE_PER_DAY``;
    ``at_threshold``: at the bundle's own; ``curves``: name → (false advisories per watched day, recall) …
    """

    mode: Literal["cross-validated", "shipped-model"]
    model: str
    counts: Mapping[str, float]
    ranks: Mapping[str, tuple[Figure, Figure]]
    hindsight: Figure
    brier: Figure
    brier_of_share: float
    calibration: Calibration
    at_budget: Mapping[str, AtBurden]
    at_threshold: AtBurden | None
    recall_at_1_per_bed_day: float
    errors: tuple[Error, ...]
    seen: int
    left_out: int
    folds: int | None
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints: figures, and under ``ci`` their 95 % intervals by patient."""
        auroc, auprc = self.ranks[self.model]
        one = self.at_budget[self.model]
        used = self.at_threshold or one
        figures = {
            "auroc": auroc,
            "auprc": auprc,
            "brier": self.brier,
            "recall_at_1_per_day": one.recall,
            "alerts_per_patient_day": used.alerts_per_day,
            "false_alerts_per_patient_day": used.false_per_day,
            "ppv": used.ppv,
            "lead_minutes": used.lead_minutes,
        }
        floor = self.ranks["last MAP"][0]
        return {
            **{name: figure.value for name, figure in figures.items()},
            "ci": {name: list(figure.ci) if figure.ci else None for name, figure in figures.items()},
            "mode": self.mode,
            "patients": int(self.counts["patients"]),
            **{name: int(self.counts[name]) for name in ("points", "positives", "events")},
            "baseline": {
                name: {"auroc": pair[0].value, "auprc": pair[1].value, "recall_at_1_per_day": at.recall.value}
                for (name, pair), at in zip(self.ranks.items(), self.at_budget.values(), strict=True)
                if name != self.model
            },
            "baseline_auroc": floor.value,
            "hindsight_auroc": self.hindsight.value,
            "recall_at_1_per_bed_day": _finite(self.recall_at_1_per_bed_day),
            "calibration_slope": _finite(self.calibration.slope),
            "calibration_intercept": _finite(self.calibration.intercept),
            "forecast_mae": [
                {"vital": e.vital, "minutes": e.minutes, "model": e.model, "last_value": e.last_value, "trend": e.trend}
                for e in self.errors
            ],
            "seen": self.seen,
            "left_out": self.left_out,
            "folds": self.folds,
        }


def judge(
    scored: Scored,
    stays: Sequence[Stay],
    *,
    threshold: float | None,
    mode: Literal["cross-validated", "shipped-model"],
    seen: int = 0,
    left_out: int = 0,
    folds: int | None = None,
) -> HypotensionResult:
    """Every figure of scored decision points. ``threshold``: the bundle's, as log odds."""
    points = scored.points
    asked_rows = np.flatnonzero(points.outcome != Outcome.CENSORED)
    kept = points.take(asked_rows)
    asked = Asked(kept.stay, kept.minute, kept.outcome, kept.onset)
    judged = asked.judged
    positive = kept.outcome[judged] == Outcome.AHEAD
    if not positive.any() or positive.all():
        raise InputError(
            "points-missing",
            "the stays hold no decision point of both outcomes: dense arterial pressures with and without an episode "
            "30 to 60 min ahead are needed",
        )
    names, patient = np.unique(kept.stay, return_inverse=True)
    draws = PatientDraws(len(names))
    model = list(scored.scores)[-1]
    scores = {**floors(kept), **{name: score[asked_rows] for name, score in scored.scores.items()}}
    ranks = {name: _ranks(positive, score[judged], patient[judged], draws) for name, score in scores.items()}
    at_budget = {
        name: _at(asked, score, threshold_at(asked, score, FALSE_PER_DAY), draws) for name, score in scores.items()
    }
    odds = scores[model]
    probability = 1.0 / (1.0 + np.exp(-odds[judged]))
    squares = (probability - positive) ** 2
    share = float(positive.mean())
    bed_days = sum(_days(stays[int(stay)]) for stay in names)
    return HypotensionResult(
        mode=mode,
        model=model,
        counts=_counts(points, asked, positive, stays, bed_days),
        ranks=ranks,
        hindsight=_hindsight(kept, positive, patient, draws),
        brier=draws.figure(lambda times: _weighted_mean(squares, times[patient[judged]])),
        brier_of_share=brier(positive, np.full(len(positive), share)),
        calibration=calibration(positive, odds[judged]),
        at_budget=at_budget,
        at_threshold=None if threshold is None else _at(asked, odds, threshold, draws),
        recall_at_1_per_bed_day=_recall_per_bed_day(asked, odds, bed_days),
        errors=() if scored.quantiles is None else tuple(forecast_errors(points, scored.quantiles)),
        seen=seen,
        left_out=left_out,
        folds=folds,
        curves={name: _curve(asked, score) for name, score in scores.items()},
    )


def floors(points: Examples) -> dict[str, FloatArray]:
    """What a model must beat: the last mean pressure, and the line through the last hour's, 45 min on."""
    last = points.pressure.astype(np.float64)
    slope = points.features[:, FEATURES.index("abp_mean_slope_1h")].astype(np.float64)
    return {"last MAP": -last, "MAP trend": -(last + 0.75 * np.nan_to_num(slope))}


def _hindsight(
    points: Examples, positive: npt.NDArray[np.bool_], patient: npt.NDArray[np.intp], draws: PatientDraws
) -> Figure:
    """What seeing the half hour in between would be worth: the question is asked for times after it."""
    judged = points.outcome != Outcome.SOON
    cells = points.after[judged, : TASK.soonest // CELL_MIN, FORECAST.index("mean")].astype(np.float64)
    there = np.isfinite(cells)
    newest = cells.shape[1] - 1 - np.argmax(there[:, ::-1], axis=1)
    seen = there.any(axis=1)
    ranked = Ranked(positive[seen], -cells[seen, newest[seen]])
    mine = patient[judged][seen]
    return draws.figure(lambda times: ranked.auroc(times[mine]))


def _ranks(
    positive: npt.NDArray[np.bool_], score: FloatArray, patient: npt.NDArray[np.intp], draws: PatientDraws
) -> tuple[Figure, Figure]:
    ranked = Ranked(positive, score)
    return (
        draws.figure(lambda times: ranked.auroc(times[patient])),
        draws.figure(lambda times: ranked.auprc(times[patient])),
    )


def _at(asked: Asked, score: FloatArray, threshold: float, draws: PatientDraws) -> AtBurden:
    burden = walk(asked, score, threshold)

    def told(name: str) -> Figure:
        return draws.figure(lambda times: burden.totals(times)[name])

    leads = burden.lead_min
    return AtBurden(
        threshold=float(1.0 / (1.0 + np.exp(-threshold))) if threshold > -700 else 0.0,
        recall=told("recall"),
        recall_any=told("recall_any"),
        alerts_per_day=told("alerts_per_day"),
        false_per_day=told("false_per_day"),
        ppv=told("ppv"),
        lead_minutes=draws.figure(lambda times: _median_lead(burden, times)),
        lead_quartiles=(float(np.quantile(leads, 0.25)), float(np.quantile(leads, 0.75))) if len(leads) else None,
    )


def _median_lead(burden: Burden, times: FloatArray) -> float:
    leads = np.repeat(burden.lead_min, times[burden.lead_stay].astype(np.int64))
    return float(np.median(leads)) if len(leads) else float("nan")


def _weighted_mean(values: FloatArray, weight: FloatArray) -> float:
    whole = weight.sum()
    return float((values * weight).sum() / whole) if whole > 0 else float("nan")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _days(stay: Stay) -> float:
    return float(stay.minute[-1] - stay.minute[0]) / (24 * 60) if len(stay) else 0.0


def _recall_per_bed_day(asked: Asked, odds: FloatArray, bed_days: float) -> float:
    """Recall at one false advisory per day of whole stay, most of which is not watched: a much weaker demand."""
    watched = watched_min(asked).sum() / (24 * 60)
    if bed_days <= 0:
        return float("nan")
    return walk(asked, odds, threshold_at(asked, odds, FALSE_PER_DAY * bed_days / watched)).totals()["recall"]


def _curve(asked: Asked, score: FloatArray) -> tuple[tuple[float, float], ...]:
    """(False advisories per watched day, recall) over thresholds, for the plot."""
    rows = []
    for threshold in np.unique(np.quantile(score, np.linspace(0, 1, 80)))[::-1].tolist():
        totals = walk(asked, score, threshold).totals()
        rows.append((totals["false_per_day"], totals["recall"]))
    return tuple(rows)


def _counts(
    points: Examples,
    asked: Asked,
    positive: npt.NDArray[np.bool_],
    stays: Sequence[Stay],
    bed_days: float,
) -> dict[str, float]:
    """How many of what: see the keys."""
    ahead = asked.outcome == Outcome.AHEAD
    return {
        "stays": len(stays),
        "patients": len(np.unique(asked.stay)),
        "points": len(positive),
        "positives": int(positive.sum()),
        "too_soon": int((asked.outcome == Outcome.SOON).sum()),
        "censored": int((points.outcome == Outcome.CENSORED).sum()),
        "events": asked.events(),
        "patients_with_events": len(np.unique(asked.stay[ahead])),
        "watched_days": float(watched_min(asked).sum()) / (24 * 60),
        "bed_days": bed_days,
    }
