"""The model card, written from the evidence: what it is for, whom it was made from, what was measured, its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.workshop.task import sources_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgeward.workshop.evidence import Evidence
    from edgeward.workshop.task import BundleTask

NOT_A_DEVICE = (
    "**Not a medical device.** It has no clearance or approval by any authority, has not been tried on patients in "
    "care, and must not be the ground of a clinical decision. Its outputs are advisories beside a monitor, never in "
    "its place."
)
_NAMES_MAX = 50
_DATA_WORDS = {
    "held-out": "patients that neither training nor calibration has seen",
    "training": "patients of the training set: no patient was held out, so these figures flatter the model",
}


def model_card(
    task: BundleTask, evidence: Evidence, *, version: str, figures: Sequence[tuple[str, str]] | None = None
) -> bytes:
    """The card as Markdown. Same evidence, same bytes. ``figures``: what the task was measured at, title and text."""
    facts = evidence.facts
    sections = [
        f"# {task.name} {version}",
        NOT_A_DEVICE,
        "## Intended use",
        task.intended_use,
        "## Data and patients",
        _data(facts),
        *(part for title, text in figures or () for part in (f"## {title}", text)),
        "## Beside a baseline",
        task.baseline,
        "## Models in the bundle",
        _models(evidence),
        "## Gates",
        _gates(evidence),
        "## Limits",
        "\n".join(f"- {limit}" for limit in task.limits),
        "## Measured on",
        table(("fact", "value"), sorted((key, str(value)) for key, value in evidence.machine.items())),
    ]
    return ("\n\n".join(sections) + "\n").encode()


def beat_figures(evidence: Evidence, evaluation: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """The sections of a beat classifier.

    ``evaluation``: the JSON object that ``evaluate ecg-beat --cross-validate`` printed for this method.
    """
    stream = [("Figures on the stream, patients held out", _stream(evaluation))] if evaluation else []
    return [*stream, ("Figures on windows", _figures(evidence.facts))]


def _stream(evaluation: Mapping[str, Any]) -> str:
    """EC57 gross figures of a cross-validated streaming evaluation, as it reported them."""
    rows = []
    for measure in ("qrs", "veb", "sveb"):
        gross = evaluation[measure]
        beats = gross["gross"]["tp"] + gross["gross"]["fn"]
        cells = [_with_interval(gross[figure], gross["ci"].get(figure)) for figure in ("se", "ppv", "fpr")]
        rows.append((measure.upper(), str(beats), *cells))
    shown = table(("", "beats", "sensitivity", "PPV", "false-positive rate"), rows)
    records = len(evaluation["records"])
    return (
        f"The whole bedside pipeline over {records} records, each with a model that its patient did not train "
        "(ANSI/AAMI EC57, gross, from 5:00; 95 % bootstrap by patient). The QRS detector's fixed trees and the "
        f"decision offsets saw all of these patients.\n\n{shown}"
    )


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" + (f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else "")


def _data(facts: Mapping[str, Any]) -> str:
    training, calibration = facts.get("training", {}), facts.get("calibration", {})
    held = training.get("held_out_patients", [])
    adopted = bool(held) and bool(training.get("adopted"))
    lines = [f"- {source.title} ({source.licence}). {source.citation} {source.address}" for source in sources_of(facts)]
    lines += [
        f"- Trained on {training.get('patients', 'an unknown number of')} patients, "
        f"{training.get('windows', 'an unknown number of')} {training.get('windows_are', 'windows of recordings')}"
        + (", and on strips made from them." if training.get("made_windows") else "."),
        f"- Held out: {_named(held)}.",
        *(
            ["- The weights were adopted: that no held-out patient trained them is the maker's word."]
            if adopted
            else []
        ),
        *([_calibration(calibration)] if calibration else []),
        f"- Data-set hash: `{training.get('data_sha256', 'unknown')}`.",
    ]
    return "\n".join(lines)


def _named(held: Sequence[str]) -> str:
    if len(held) > _NAMES_MAX:
        return f"{len(held)} patients"
    return ", ".join(held) if held else "nobody"


def _calibration(calibration: Mapping[str, Any]) -> str:
    method, windows = calibration.get("method", "an unknown method"), calibration.get("windows", "?")
    patients = len(calibration.get("patients", []))
    return f"- INT8 calibrated by {method} on {windows} windows of {patients} training patients."


def _figures(facts: Mapping[str, Any]) -> str:
    accuracy = facts.get("accuracy", {})
    if not accuracy:
        return "None were measured."
    rows = []
    for key, figures in sorted(accuracy.get("models", {}).items()):
        for item in figures:
            se = _percent(item["se"], item["se_interval"])
            ppv = _percent(item["ppv"], item["ppv_interval"])
            rows.append((key, item["name"], str(item["count"]), se, ppv, _percent(item["f1"], None)))
    words = _DATA_WORDS.get(accuracy.get("data", ""), "an unknown set")
    head = (
        f"On {accuracy.get('windows')} windows of {accuracy.get('patients')} {words}. F or Q called V, "
        "and Q called S, count as in ANSI/AAMI EC57. Intervals: 95 %, bootstrap by patient."
    )
    return head + "\n\n" + table(("model", "class", "beats", "sensitivity", "PPV", "F1"), rows)


def _models(evidence: Evidence) -> str:
    rows = [(key, fact.precision, f"{fact.bytes}", f"`{fact.sha256}`") for key, fact in sorted(evidence.models.items())]
    text = table(("key", "precision", "bytes", "SHA-256"), rows)
    for key, value in sorted(evidence.facts.get("latency", {}).items()):
        quiet = value["undisturbed"]
        text += f"\n\n{key}: p50 {quiet['p50_us']:.0f} µs, p99 {quiet['p99_us']:.0f} µs for one window on one thread."
    return text


def _gates(evidence: Evidence) -> str:
    rows = [
        (gate.name, gate.model, f"{gate.figure:.6g} {gate.unit}", f"{gate.relation} {gate.bound:g}", gate.data,
         "pass" if gate.passed else "FAIL")
        for gate in evidence.gates
    ]  # fmt: skip
    return table(("gate", "model", "figure", "bound", "data", "result"), rows)


def _percent(value: float | None, interval: Sequence[float | None] | None) -> str:
    if value is None:
        return "–"
    text = f"{100 * value:.1f} %"
    if interval is not None and interval[0] is not None and interval[1] is not None:
        text += f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
    return text


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
