"""The sections of a sepsis bundle's card that say what it was measured at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.workshop.card import table
from edgeward.workshop.sepsis_recipes import FULL, RECIPES

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

_EVALUATED = ("auroc", "auprc", "utility", "alerts_per_patient_day", "ppv")
_BESIDE = (("vitals", "vital signs alone"), ("baseline", "plain boosting"), ("news2_5", "NEWS2 ≥ 5"))
_RULES = {"threshold_alert": "threshold alerts", "news2_5": "NEWS2 ≥ 5", "news2_7": "NEWS2 ≥ 7"}


def card_figures(evidence: Evidence, evaluation: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """Cross-validation over the training patients; before it, what ``evaluate deterioration --json`` printed."""
    told = evidence.facts["out_of_fold"]
    found = {recipe.name: told[recipe.name] for recipe in RECIPES}
    rows = [(words, *(f"{found[name][key]:.4f}" for name in found)) for key, words in _FIGURES]
    full = found[FULL.name]
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
        sections.insert(0, ("Figures on patients that the scoring forest had not seen", _evaluated(evaluation)))
    return sections


def _evaluated(evaluation: Mapping[str, Any]) -> str:
    """What ``evaluate deterioration --json`` printed: the model beside what else there is, and its lead over rules."""
    beside = {"model": evaluation}
    beside |= {name: evaluation["beside"][key] for key, name in _BESIDE if key in evaluation["beside"]}
    rows = [(name.replace("_", " "), *(_shown(each[name], 3) for each in beside.values())) for name in _EVALUATED]
    lead = [
        (
            _RULES.get(rule, rule),
            f"{told['rule']['alerts_per_patient_day']:.2f}",
            f"{told['model']['alerts_per_patient_day']:.2f}",
            _shown(told["minutes"], 0),
            _shown(told["share_60_min_ahead"], 3),
            _shown(told["missed"], 3),
            _shown(told["rule_missed"], 3),
        )
        for rule, told in evaluation["lead"].items()
    ]
    head = f"{evaluation['patients']} patients, {evaluation['mode']}; 95 % intervals by patient."
    words = (
        "before",
        "its alerts per patient-day",
        "advisories",
        "minutes, median",
        "an hour or more",
        "missed",
        "missed by the rule",
    )
    between = "Lead of the advisory over what wards go by, raised no more often than the rule and up for no more hours:"
    return "\n\n".join([head, table(("figure", *beside), rows), between, table(words, lead)])


def _shown(figure: Mapping[str, Any], decimals: int) -> str:
    if figure["value"] is None:
        return "–"
    interval = "" if figure["ci"] is None else f" ({figure['ci'][0]:.{decimals}f}–{figure['ci'][1]:.{decimals}f})"
    return f"{figure['value']:.{decimals}f}{interval}"
