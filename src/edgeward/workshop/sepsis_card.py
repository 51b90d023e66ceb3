"""The sections of a sepsis bundle's card that say what it was measured at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.workshop.card import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.workshop.evidence import Evidence

_FIGURES = (
    ("auroc", "AUROC"),
    ("auprc", "AUPRC"),
    ("utility", "utility (CinC 2019)"),
    ("utility_before_hour_60", "of it, before hour 60"),
    ("bedside_auroc", "AUROC at the bedside, before hour 60"),
    ("brier", "Brier score"),
    ("calibration_error", "calibration error"),
)


def card_figures(evidence: Evidence, evaluation: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """Cross-validation over the training patients; before it, what ``evaluate deterioration --json`` printed."""
    found = evidence.facts["out_of_fold"]
    rows = [(words, *(f"{found[name][key]:.4f}" for name in found)) for key, words in _FIGURES]
    full = next(iter(found.values()))
    text = (
        f"{evidence.facts['training']['folds']}-fold cross-validation by patient over {full['patients']} patients "
        f"({full['septic']} with sepsis), {full['rows']} hours; threshold and calibration of a fold come from the "
        "others.\n\n" + table(("figure", *found), rows)
    )
    reliable = table(
        ("hours", "probability said", "share that came"),
        [(f"{int(count)}", f"{said:.4f}", f"{came:.4f}") for count, said, came in full["reliability"]],
    )
    sections = [
        ("Figures by cross-validation", text),
        ("Reliability at the bedside, by tenths of the hours before the 60th", reliable),
    ]
    if evaluation is not None:
        sections.insert(0, ("Figures on patients never seen", _evaluated(evaluation)))
    return sections


def _evaluated(evaluation: Mapping[str, Any]) -> str:
    rows = []
    for name in ("auroc", "auprc", "utility", "alerts_per_patient_day", "ppv", "lead_minutes"):
        value, ci = evaluation[name]["value"], evaluation[name]["ci"]
        shown = "–" if value is None else f"{value:.3f}" + (f" ({ci[0]:.3f}–{ci[1]:.3f})" if ci else "")
        rows.append((name.replace("_", " "), shown))
    head = f"{evaluation['patients']} patients, {evaluation['mode']}; 95 % intervals by patient."
    return head + "\n\n" + table(("figure", "value"), rows)
