"""Plots of a scored table, and the figures behind them as CSV: reliability, burden against what is caught, lead."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.evaluate.lead_time import WINDOW_H, events_of, first_up, threshold_for
from edgeward.kernel.errors import ConfigError
from edgeward.workshop.alerts import per_patient_day
from edgeward.workshop.sepsis_out_of_fold import early_rows, reliability
from edgeward.workshop.sepsis_utility import utility_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.evaluate.deterioration import Run

Array = npt.NDArray[np.float64]

POINTS = 60
_NAMES = {"threshold_alert": "threshold alerts", "news2_5": "NEWS2 ≥ 5", "news2_7": "NEWS2 ≥ 7"}
_INK, _MODEL, _OTHER = "#333333", "#0b6e99", "#c05621"


def write_plots(run: Run, folder: Path) -> list[Path]:
    """PNG and CSV files in ``folder``; their paths. ``ConfigError`` (``output-unwritable``) where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [*_reliability(run, folder), *_burden(run, folder), *_lead(run, folder)]
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write to {folder}: {error.strerror}") from error


def _reliability(run: Run, folder: Path) -> list[Path]:
    early, _ = early_rows(run.table)
    rows = reliability(run.probability[early], run.table.labels[early] > 0, groups=20)
    figure, axes = _figure("Probability said", "Share that came")
    said, came = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    top = 1.05 * max(float(said.max()), float(came.max()))
    axes.plot([0, top], [0, top], color=_INK, linewidth=0.8, linestyle=":")
    axes.plot(said, came, color=_MODEL, marker="o", markersize=3)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    head = ("hours", "probability", "share")
    return [_png(figure, folder / "reliability.png"), _csv(folder / "reliability.csv", head, rows)]


def _burden(run: Run, folder: Path) -> list[Path]:
    """What share of the onsets an advisory was up for, and the utility, against alerts per patient-day."""
    table, events = run.table, events_of(run.table)
    utility = utility_of(table.labels, table.starts)
    rows = []
    for threshold in np.quantile(run.bedside, np.linspace(0.995, 0.5, POINTS)):
        up = run.bedside >= threshold
        caught = float((~np.isnan(first_up(up, events))).mean()) if len(events.onset) else float("nan")
        rows.append([float(threshold), per_patient_day(up, table.starts), caught, utility.normalised(up)])
    figure, axes = _figure("Alerts per patient-day", "Share of onsets told in the 12 h before")
    axes.plot([row[1] for row in rows], [row[2] for row in rows], color=_MODEL, label="model, at the bedside")
    for (name, rule), mark in zip(run.rules().items(), "os^", strict=True):
        caught = float((~np.isnan(first_up(rule, events))).mean()) if len(events.onset) else float("nan")
        axes.plot([per_patient_day(rule, table.starts)], [caught], mark, color=_OTHER, label=_NAMES[name])
    axes.legend(frameon=False)
    head = ("threshold", "alerts_per_patient_day", "share_of_onsets", "utility")
    return [_png(figure, folder / "burden.png"), _csv(folder / "burden.csv", head, rows)]


def _lead(run: Run, folder: Path) -> list[Path]:
    """Hours before the onset at which the advisory and NEWS2 ≥ 5 were first up, at no more trouble than NEWS2."""
    table, events = run.table, events_of(run.table)
    rule = run.rules()["news2_5"]
    threshold = threshold_for(rule, run.bedside, table)
    model, conventional = first_up(run.bedside >= threshold, events), first_up(rule, events)
    hours = np.arange(WINDOW_H, -1, -1)
    count = max(len(events.onset), 1)
    shares = [[float((each >= hour).sum()) / count for hour in hours] for each in (model, conventional)]
    figure, axes = _figure("Hours before the onset", "Share of onsets with it up by then")
    axes.step(hours, shares[0], color=_MODEL, where="post", label="model, at no more trouble")
    axes.step(hours, shares[1], color=_OTHER, where="post", label=_NAMES["news2_5"])
    axes.invert_xaxis()
    axes.legend(frameon=False)
    rows = [[int(hour), *each] for hour, *each in zip(hours, *shares, strict=True)]
    return [_png(figure, folder / "lead.png"), _csv(folder / "lead.csv", ("hours_before", "model", "news2"), rows)]


def _figure(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.9), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any, path: Path) -> Path:
    figure.savefig(path, metadata={"Software": None})
    return path


def _csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[float]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(head)
        writer.writerows(rows)
    return path
