"""The hypotension evaluation for people: tables as text, and four plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.kernel.errors import ConfigError
from edgeward.signal.hypotension import TASK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeward.evaluate.hypotension_figures import AtBurden, HypotensionResult
    from edgeward.workshop.forecast_errors import Error
    from edgeward.workshop.ranking import Figure

SHOWN_MINUTES = (15, 30, 60)
"""Horizons of the forecast table; the plot has them all."""


def render(result: HypotensionResult) -> str:
    """Everything as aligned text."""
    parts = [_head(result), _task(result), _ranks(result), _burdens(result), _probabilities(result)]
    if result.errors:
        parts.append(_forecasts(result.errors))
    return "\n\n".join(parts)


def _head(result: HypotensionResult) -> str:
    if result.mode == "cross-validated":
        how = f"{result.folds}-fold cross-validation by patient, LSTM and trees trained anew for every fold"
        if result.seen:
            how += f"\n{result.seen} of these stays trained the shipped model, so it is not scored on them"
    else:
        how = "the shipped model, on stays it has not seen"
        if result.left_out:
            how += f"\n{result.left_out} stays that trained it were left out"
    return f"Sustained hypotension, 30 to 60 minutes ahead\n{how}"


def _task(result: HypotensionResult) -> str:
    counts = result.counts
    return (
        f"Decision points: arterial mean pressures, {TASK.values} or more within {TASK.past} min, no gap over "
        f"{TASK.gap} min, none below {TASK.limit:.0f} mmHg; asked every {TASK.every} min.\n"
        f"Positive: a run below {TASK.limit:.0f} mmHg of {TASK.sustained} min or more begins {TASK.soonest} to "
        f"{TASK.latest} min later.\n"
        f"{counts['stays']:.0f} stays, {counts['patients']:.0f} of them with points whose outcome is known, "
        f"{counts['watched_days']:.1f} watched days of {counts['bed_days']:.0f} bed days\n"
        f"{counts['points']:.0f} points, {counts['positives']:.0f} positive; {counts['events']:.0f} episodes in "
        f"{counts['patients_with_events']:.0f} patients\n"
        f"left out: {counts['too_soon']:.0f} points within 30 min of an episode, {counts['censored']:.0f} whose "
        "outcome was not charted densely"
    )


def _ranks(result: HypotensionResult) -> str:
    rows = [("score", "AUROC", "AUPRC", "recall at 1 false a day", "precision")]
    for name, (auroc, auprc) in result.ranks.items():
        at = result.at_budget[name]
        rows.append((name, shown(auroc), shown(auprc), shown(at.recall), shown(at.ppv)))
    share = result.counts["positives"] / result.counts["points"]
    return (
        f"{table(rows)}\n"
        f"AUPRC of chance: {share:.3f}. 95 % intervals, patients drawn. For scale: the last mean pressure of the "
        f"{TASK.soonest} min after each point, which nobody can know, ranks at AUROC {shown(result.hindsight)}"
    )


def _burdens(result: HypotensionResult) -> str:
    chosen = [("at 1 false a day", result.at_budget[result.model])]
    if result.at_threshold is not None:
        chosen.append(("at the bundle's threshold", result.at_threshold))
    rows: list[tuple[str, ...]] = [
        ("", "threshold", "recall", "called at all", "advisories a day", "false a day", "precision", "lead, min")
    ]
    rows += [(name, *_burden(at)) for name, at in chosen]
    return (
        "Advisories, each standing for an hour; recall counts episodes called 30 to 60 min ahead, days are watched"
        " days\n"
        f"{table(rows)}\n"
        "At one false advisory per bed day, most of which is not watched, recall is "
        f"{result.recall_at_1_per_bed_day:.2f}"
    )


def _burden(at: AtBurden) -> tuple[str, ...]:
    lead = shown(at.lead_minutes, 0)
    if at.lead_quartiles is not None:
        lead += f", quartiles {at.lead_quartiles[0]:.0f} and {at.lead_quartiles[1]:.0f}"
    return (
        f"{at.threshold:.3f}",
        shown(at.recall),
        shown(at.recall_any),
        shown(at.alerts_per_day),
        shown(at.false_per_day),
        shown(at.ppv),
        lead,
    )


def _probabilities(result: HypotensionResult) -> str:
    found = result.calibration
    rows = [("points", "mean probability", "share that came")]
    rows += [(str(count), f"{mean:.3f}", f"{came:.3f}") for count, mean, came in found.groups]
    return (
        f"Brier score {shown(result.brier, 4)}; of the mean share alone {result.brier_of_share:.4f}\n"
        f"Calibration slope {found.slope:.2f} (ideal 1), intercept {found.intercept:.2f} (ideal 0)\n{table(rows)}"
    )


def _forecasts(errors: Sequence[Error]) -> str:
    rows: list[tuple[str, ...]] = [
        ("forecast", "min", "values", "error", "last value", "hour's line", "within 10-90 %")
    ]
    for e in errors:
        if e.minutes in SHOWN_MINUTES:
            numbers = (f"{value:.2f}" for value in (e.model, e.last_value, e.trend, e.within))
            rows.append((e.vital, str(e.minutes), str(e.values), *numbers))
    return "Forecasts at the same points, mean absolute error (mmHg, /min)\n" + table(rows)


def shown(figure: Figure, decimals: int = 3) -> str:
    """``0.731 (0.680-0.779)``."""
    if figure.value is None:
        return "not defined"
    text = f"{figure.value:.{decimals}f}"
    return text if figure.ci is None else f"{text} ({figure.ci[0]:.{decimals}f}-{figure.ci[1]:.{decimals}f})"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns, the first one to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def plot(result: HypotensionResult, path: Path) -> None:
    """Burden, calibration, forecast errors and lead as one PNG.

    Raises ``ConfigError``: ``workshop-missing`` without matplotlib, ``output-unwritable``.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ModuleNotFoundError as error:
        raise ConfigError("workshop-missing", "plots need matplotlib; pip install 'edgeward[workshop]'") from error
    canvas = Canvas(figsize=(11, 8), layout="constrained")
    axes = canvas.subplots(2, 2)
    _plot_burden(axes[0, 0], result)
    _plot_calibration(axes[0, 1], result)
    _plot_errors(axes[1, 0], result.errors)
    _plot_ranks(axes[1, 1], result)
    canvas.suptitle(f"Sustained hypotension 30 to 60 min ahead ({result.mode})")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, dpi=110)
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {path.name}: {error.strerror}") from error


def _plot_burden(axes: Any, result: HypotensionResult) -> None:
    for index, (name, curve) in enumerate(result.curves.items()):
        x, y = zip(*curve, strict=True)
        judged = name == result.model
        axes.plot(x, y, color=f"C{index}", linewidth=2 if judged else 1, label=f"{name} (judged)" if judged else name)
    axes.plot([1.0], [0.6], "*", color="0.3", markersize=11, label="aim")
    axes.axvline(1.0, color="0.6", linestyle=":")
    axes.set(xlabel="false advisories per watched day", ylabel="recall (30 to 60 min ahead)", ylim=(0, 1))
    axes.legend(fontsize=8)
    axes.set_title("What recall costs")


def _plot_calibration(axes: Any, result: HypotensionResult) -> None:
    _, mean, came = zip(*result.calibration.groups, strict=True)
    top = 1.1 * max((*mean, *came))
    axes.plot([0, top], [0, top], color="0.6", linestyle=":")
    axes.plot(mean, came, "o-", color="C0")
    axes.set(xlabel="mean probability", ylabel="share that came", xlim=(0, top), ylim=(0, top))
    axes.set_title(f"Calibration, slope {result.calibration.slope:.2f}")


def _plot_errors(axes: Any, errors: Sequence[Error]) -> None:
    for index, vital in enumerate(dict.fromkeys(e.vital for e in errors)):
        mine = [e for e in errors if e.vital == vital]
        axes.plot([e.minutes for e in mine], [e.model / e.last_value for e in mine], color=f"C{index}", label=vital)
    axes.axhline(1.0, color="0.6", linestyle=":")
    axes.set(xlabel="minutes ahead", ylabel="error / last value's error")
    axes.set_title("Forecasts beside persistence")
    if errors:
        axes.legend(fontsize=8)


def _plot_ranks(axes: Any, result: HypotensionResult) -> None:
    names = list(result.ranks)
    for row, name in enumerate(names):
        auroc = result.ranks[name][0]
        if auroc.value is None:
            continue
        if auroc.ci is not None:
            axes.plot(auroc.ci, [row, row], color="C0", linewidth=2)
        axes.plot([auroc.value], [row], "o", color="C0")
    axes.set_yticks(range(len(names)), names)
    axes.axvline(0.5, color="0.6", linestyle=":")
    axes.set(xlabel="AUROC, 95 % by patient", xlim=(0.45, 1.0))
    axes.invert_yaxis()
    axes.set_title("Ranking")
