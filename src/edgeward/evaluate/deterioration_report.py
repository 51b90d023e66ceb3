"""What a scored table says: figures with 95 % intervals by patient, lead times, and what the hours alone would earn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.evaluate.deterioration import missing_columns
from edgeward.evaluate.lead_time import Lead, events_of, lead_over
from edgeward.workshop.alerts import HOURS_PER_DAY, raised
from edgeward.workshop.calibrate import expected_error
from edgeward.workshop.ranking import Figure, PatientDraws, Ranked, brier
from edgeward.workshop.sepsis_out_of_fold import early_rows, reliability
from edgeward.workshop.sepsis_train import LATE_H
from edgeward.workshop.sepsis_utility import Utility, utility_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.evaluate.deterioration import Run, Scored
    from edgeward.workshop.stay_table import StayTable

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DRAWS = 300
RANKS = 4096
"""Groups of like scores that ranks are counted in: AUROC and AUPRC move by less than 1e-4 and draws are cheap."""
FIGURES = ("auroc", "auprc", "utility", "alerts_per_patient_day", "ppv")


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found.

    ``figures``: of each model and rule by name, the model first; ``lead``: the advisory against each conventional rule;
    ``bedside``: the model as a device runs it; ``hours_alone``: the utility of saying sepsis from hour 60 on, always.
    """

    head: Mapping[str, Any]
    figures: Mapping[str, Mapping[str, Figure]]
    lead: Mapping[str, Lead]
    unseen_events: int
    bedside: Mapping[str, Any]
    utility_before_hour_60: Figure
    hours_alone: Figure

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints; ``lead_minutes`` is before the first threshold alert."""
        first, *rest = self.figures
        beside = {name: _shown(self.figures[name]) for name in rest}
        lead = {name: each.to_dict() for name, each in self.lead.items()}
        return {
            **self.head,
            **_shown(self.figures[first]),
            "lead_minutes": lead["threshold_alert"]["minutes"],
            "lead": lead,
            "baseline": beside.get("baseline"),
            "beside": beside,
            "bedside": dict(self.bedside),
            "utility_before_hour_60": _plain(self.utility_before_hour_60),
            "utility_of_hours_alone": _plain(self.hours_alone),
        }

    def to_text(self) -> str:
        """Tables for people."""
        head = self.head
        how = head["mode"] + (f", {head['folds']} folds" if head["folds"] else "")
        left = f"; {head['left_out']} stays that trained the model were left out" if head["left_out"] else ""
        lines = [
            "Sepsis risk on hourly stays",
            f"{head['patients']} stays, {head['hours']} hours, {head['septic']} with sepsis; {how}{left}",
            *(
                f"columns that the table lacks: {', '.join(head['missing_columns'])}"
                for _ in head["missing_columns"][:1]
            ),
            "",
            f"{'':16} {'AUROC':>21} {'AUPRC':>21} {'utility':>22} {'alerts/day':>18} {'PPV':>20}",
        ]
        for name, row in self.figures.items():
            cells = [_cell(row[key]) for key in FIGURES]
            lines.append(f"{name:16} {cells[0]:>21} {cells[1]:>21} {cells[2]:>22} {cells[3]:>18} {cells[4]:>20}")
        earned, alone = _cell(self.utility_before_hour_60), _cell(self.hours_alone)
        lines += [
            "",
            f"utility earned before hour {LATE_H}: {earned}",
            f"utility of saying sepsis from hour {LATE_H} on and nothing else: {alone}",
            _bedside_line(self.bedside),
            "",
            "Lead of the advisory over what wards go by, raised no more often than the rule and up for no more hours",
            f"(onsets seen: {head['events']}; {self.unseen_events} began before the table or are not shown by it)",
        ]
        for name, lead in self.lead.items():
            lines.append(
                f"{name:16} {lead.burden:5.2f} alerts/day, up {100 * lead.hours_up:.0f} % (advisory "
                f"{lead.model_burden:.2f}, {100 * lead.model_hours_up:.0f} %): {_minutes(lead.minutes)} min before it, "
                f"{_minutes(lead.before_onset)} min before the onset; >= 30 and >= 60 min ahead {_cell(lead.ahead)}; "
                f"missed {_cell(lead.missed)} (the rule misses {_cell(lead.rule_missed)})"
            )
        return "\n".join(lines)


def report(run: Run, *, seed: int = 0, draws: int = DRAWS) -> Report:
    """Figures of ``run``. The same seed gives the same intervals."""
    table = run.table
    utility = utility_of(table.labels, table.starts)
    patient = table.patient_of_row
    drawn = PatientDraws(len(table.patients), seed=seed, draws=draws)
    figures = {each.name: figures_of(each, table, utility, drawn) for each in run.scored}
    early, _ = early_rows(table)
    first = run.scored[0]
    events = events_of(table)
    late = table.facts["ICULOS"] >= LATE_H
    return Report(
        head={
            "mode": run.mode,
            "folds": run.folds,
            "patients": len(table.patients),
            "septic": int(table.septic.sum()),
            "hours": len(table),
            "events": len(events.onset),
            "seen": run.seen,
            "left_out": run.left_out,
            "missing_columns": list(missing_columns(table)),
            "notes": list(run.notes),
        },
        figures=figures,
        lead={name: lead_over(rule, run.bedside, table, events, drawn) for name, rule in run.rules().items()},
        unseen_events=events.unseen,
        bedside=bedside_of(run, early),
        utility_before_hour_60=_earned(utility, first.predicted & early, patient, drawn),
        hours_alone=_earned(utility, late, patient, drawn),
    )


def figures_of(scored: Scored, table: StayTable, utility: Utility, draws: PatientDraws) -> dict[str, Figure]:
    """AUROC and AUPRC of rows, the official utility, alerts per patient-day and the share of alerts that are right.

    An alert is raised where it begins to say sepsis; it is right within the hours that the challenge rewards, from 12 h
    before the onset to 3 h after it.
    """
    patient = table.patient_of_row
    edges = np.unique(np.quantile(scored.score, np.linspace(0.0, 1.0, RANKS + 1)))
    ranked = Ranked(table.labels > 0, np.searchsorted(edges, scored.score, side="right").astype(np.float64))
    alerts = raised(scored.predicted, table.starts)
    count = len(table.patients)
    raised_by = np.bincount(patient, alerts, count)
    right_by = np.bincount(patient, alerts & utility.best, count)
    hours_by = np.bincount(patient, minlength=count).astype(np.float64)

    def per_day(times: Array) -> float:
        return float(times @ raised_by) * HOURS_PER_DAY / float(times @ hours_by)

    def right(times: Array) -> float:
        whole = float(times @ raised_by)
        return float(times @ right_by) / whole if whole > 0 else float("nan")

    return {
        "auroc": draws.figure(lambda times: ranked.auroc(times[patient])),
        "auprc": draws.figure(lambda times: ranked.auprc(times[patient])),
        "utility": _earned(utility, scored.predicted, patient, draws),
        "alerts_per_patient_day": draws.figure(per_day),
        "ppv": draws.figure(right),
    }


def _earned(utility: Utility, predicted: Mask, patient: npt.NDArray[np.int64], draws: PatientDraws) -> Figure:
    """The official utility with its interval."""
    earned = np.bincount(patient, utility.gain * predicted)
    most = np.bincount(patient, utility.gain * utility.best)

    def measure(times: Array) -> float:
        whole = float(times @ most)
        return float(times @ earned) / whole if whole > 0 else float("nan")

    return draws.figure(measure)


def bedside_of(run: Run, early: Mask) -> dict[str, Any]:
    """The model as a device runs it, on the hours that the table shows whole: ranks, probabilities, reliability."""
    seen = run.table.labels[early] > 0
    probability = run.probability[early]
    ranked = Ranked(seen, run.bedside[early])
    return {
        "hours": int(early.sum()),
        "auroc": _rounded(ranked.auroc()),
        "auprc": _rounded(ranked.auprc()),
        "brier": _rounded(brier(seen, probability)),
        "brier_of_the_base_rate": _rounded(float(seen.mean() * (1.0 - seen.mean()))),
        "calibration_error": _rounded(expected_error(probability, seen)),
        "reliability": reliability(probability, seen),
    }


def _bedside_line(bedside: Mapping[str, Any]) -> str:
    return (
        f"as a bed sees it (hours held, before hour {LATE_H}): AUROC {bedside['auroc']}, AUPRC {bedside['auprc']}, "
        f"Brier {bedside['brier']} (base rate alone {bedside['brier_of_the_base_rate']}), "
        f"calibration error {bedside['calibration_error']}"
    )


def _rounded(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None


def _plain(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "ci": None if figure.ci is None else list(figure.ci)}


def _shown(row: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: _plain(figure) for name, figure in row.items()}


def _cell(figure: Figure) -> str:
    if figure.value is None:
        return "not defined"
    interval = "" if figure.ci is None else f" ({figure.ci[0]:.3f}–{figure.ci[1]:.3f})"
    return f"{figure.value:.3f}{interval}"


def _minutes(figure: Figure) -> str:
    if figure.value is None:
        return "not defined"
    interval = "" if figure.ci is None else f" ({figure.ci[0]:.0f}–{figure.ci[1]:.0f})"
    return f"{figure.value:.0f}{interval}"
