"""``evaluate ecg-quality``: may a physician read this 12-lead ECG? Scored on judged recordings.

A model is never scored on what it was trained with. The shipped model is scored on the recordings that it has not
seen. Where it has seen half of them or more, the figure comes from cross-validation instead: trees are grown anew for
every fold with the same settings and judge only recordings they have not seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.acceptability import THRESHOLD, Model, feature_names, load_model
from edgeward.workshop.ecg_quality_data import load, measure

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.signal.trees import Trees

Mode = Literal["auto", "cross-validate", "shipped"]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FOLDS = 10
SEEN_SHARE = 0.5
"""``auto`` cross-validates from this share of seen recordings on. Below it the model itself is scored, on the others:
one known recording among new ones must not replace the model by another that was grown on the few new ones."""
DRAWS = 2000
"""Bootstrap draws of recordings for the interval of the accuracy (Efron & Tibshirani 1993, chapter 13)."""


@dataclass(frozen=True, slots=True)
class QualityResult:
    """Figures of one run. ``sensitivity`` and ``specificity`` are those of finding an unacceptable recording.

    ``ci`` is the 95 % interval of the accuracy; ``n`` recordings were scored, ``unacceptable`` of them judged so;
    ``seen`` recordings of the file were part of the shipped model's training, ``left_out`` of them were not scored.
    A figure is ``None`` where the recordings do not define it. ``majority_accuracy`` comes from calling every
    recording by the more frequent label, ``rule_accuracy`` from the rule of one bad lead.
    """

    mode: Literal["cross-validated", "shipped-model"]
    accuracy: float
    ci: tuple[float, float]
    sensitivity: float | None
    specificity: float | None
    auroc: float | None
    n: int
    unacceptable: int
    majority_accuracy: float
    rule_accuracy: float
    seen: int
    left_out: int
    folds: int | None

    def to_dict(self) -> dict[str, object]:
        """The object that ``--json`` prints; ``baseline_accuracy`` is the majority's."""
        return {**asdict(self), "ci": list(self.ci), "baseline_accuracy": self.majority_accuracy}


def shipped_model() -> Model:
    """The model that comes with the package."""
    return load_model(resources.files("edgeward.signal").joinpath("acceptability.json").read_bytes())


def run(data: Path, *, mode: Mode = "auto", folds: int | None = None, seed: int = 0) -> QualityResult:
    """Score the judged recordings of the ``.npz`` file ``data``.

    ``auto`` cross-validates where the shipped model was trained with ``SEEN_SHARE`` of them or more, else does as
    ``shipped``: scores the shipped model and leaves out what it was trained with. ``folds``: None for ``FOLDS``, or
    fewer where the rarer label has fewer recordings. The same seed gives the same result.
    Raises ``InputError`` for a file that cannot be scored, ``ConfigError`` for impossible folds or where
    cross-validation lacks the workshop extra.
    """
    recordings = load(data)
    model = shipped_model()
    known = np.array([print_ in model.seen for print_ in recordings.fingerprints], dtype=np.bool_)
    chosen = recordings.judged
    if not len(chosen):
        raise InputError("quality-labels", f"no recording in {data.name} is judged; give labels 1 and 0")
    seen = int(known[chosen].sum())
    cross_validate = mode == "cross-validate" or (mode == "auto" and seen >= SEEN_SHARE * len(chosen))
    if not cross_validate:
        chosen = chosen[~known[chosen]]
        if not len(chosen):
            raise InputError(
                "quality-seen", f"every recording in {data.name} was used to train the model; cross-validate instead"
            )
    labels = recordings.acceptable[chosen].astype(np.int64)
    values = measure(recordings.units[chosen])
    if cross_validate:
        groups = [recordings.fingerprints[i] for i in chosen]
        fold_of = assign_folds(labels, groups, folds, seed)
        probability, folds = _cross_validated(values, labels, fold_of, seed), int(fold_of.max()) + 1
    else:
        probability = np.array([model.probability(row) for row in values])
    right, bad = (probability >= THRESHOLD) == (labels == 1), labels == 0
    return QualityResult(
        mode="cross-validated" if cross_validate else "shipped-model",
        accuracy=float(right.mean()),
        ci=_interval(right, seed),
        sensitivity=float(right[bad].mean()) if bad.any() else None,
        specificity=float(right[~bad].mean()) if not bad.all() else None,
        auroc=auroc(labels, probability) if bad.any() and not bad.all() else None,
        n=len(labels),
        unacceptable=int(bad.sum()),
        majority_accuracy=float(max(labels.mean(), 1 - labels.mean())),
        rule_accuracy=float((_rule(values) == labels).mean()),
        seen=seen,
        left_out=0 if cross_validate else seen,
        folds=folds if cross_validate else None,
    )


def assign_folds(labels: IntArray, groups: list[str], folds: int | None, seed: int) -> IntArray:
    """A fold (N,) for each recording: labels spread evenly, recordings of one group (identical samples) together.

    ``folds`` None stands for ``FOLDS``, or as many as the rarer label has groups. Raises ``ConfigError``
    (``quality-folds``) for fewer than two folds or more folds than groups of the rarer label.
    """
    members: dict[tuple[str, int], list[int]] = {}
    first_label: dict[str, int] = {}
    for index, group in enumerate(groups):
        label = first_label.setdefault(group, int(labels[index]))
        members.setdefault((group, label), []).append(index)
    per_label = [sum(1 for _, label in members if label == wanted) for wanted in (0, 1)]
    most = min(per_label)
    if most < 2:
        raise ConfigError(
            "quality-folds",
            "the model was trained with these recordings, and cross-validation needs two different ones of each label; "
            f"here {per_label[1]} are acceptable and {per_label[0]} not: give more recordings, or ones it has not seen",
        )
    folds = min(FOLDS, most) if folds is None else folds
    if not 2 <= folds <= most:
        raise ConfigError("quality-folds", f"--folds must lie between 2 and the {most} recordings of the rarer label")
    fold_of = np.zeros(len(labels), dtype=np.int64)
    held = np.zeros((2, folds), dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(members))
    batches = [list(members.items())[k] for k in order]
    # The largest groups first, each to the fold that holds the fewest of its label.
    for (_, label), indices in sorted(batches, key=lambda item: -len(item[1])):
        fold = int(held[label].argmin())
        held[label, fold] += len(indices)
        fold_of[indices] = fold
    return fold_of


def _cross_validated(values: FloatArray, labels: IntArray, fold_of: IntArray, seed: int) -> FloatArray:
    try:
        from edgeward.workshop.ecg_quality_train import grow
    except ImportError as error:
        raise ConfigError(
            "workshop-missing",
            "these recordings trained the shipped model, so it cannot be scored on them, and cross-validation needs "
            "the workshop extra: pip install 'edgeward[workshop]'",
        ) from error
    probability = np.empty(len(labels))
    for fold in range(int(fold_of.max()) + 1):
        test = fold_of == fold
        trees: Trees = grow(values[~test], labels[~test].astype(np.int8), seed)
        model = Model(trees, feature_names(), frozenset())
        probability[test] = [model.probability(row) for row in values[test]]
    return probability


def _interval(right: npt.NDArray[np.bool_], seed: int) -> tuple[float, float]:
    # Drawing recordings with replacement and counting those judged right is a binomial draw.
    draws = np.random.default_rng(seed).binomial(len(right), right.mean(), size=DRAWS) / len(right)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def auroc(labels: IntArray, probability: FloatArray) -> float:
    """Area under the ROC curve: the share of pairs in which the acceptable recording scores higher, ties half."""
    good, bad = probability[labels == 1], probability[labels == 0]
    higher = (good[:, None] > bad[None, :]).mean()
    equal = (good[:, None] == bad[None, :]).mean()
    return float(higher + 0.5 * equal)


def _rule(values: FloatArray) -> IntArray:
    """The rule that a model must be held against: one lead that is flat or railed is one too many."""
    return np.where(values[:, feature_names().index("leads_bad")] > 0, 0, 1)


def render(result: QualityResult) -> str:
    """The result as a table for a person."""
    if result.mode == "cross-validated":
        how = f"{result.folds}-fold cross-validation, trees grown anew for every fold"
        if result.seen:
            how += f"\n{result.seen} of these recordings trained the shipped model, so it is not scored on them"
    else:
        how = "the shipped model, on recordings it has not seen"
        if result.left_out:
            were = "recording that trained it was" if result.left_out == 1 else "recordings that trained it were"
            how += f"\n{result.left_out} {were} left out"
    rows = [
        ("accuracy", f"{result.accuracy:.3f}  (95 % CI {result.ci[0]:.3f} to {result.ci[1]:.3f})"),
        ("sensitivity for unacceptable", _shown(result.sensitivity)),
        ("specificity", _shown(result.specificity)),
        ("AUROC", _shown(result.auroc)),
        ("recordings", f"{result.n}, {result.unacceptable} unacceptable"),
        ("baseline: the frequent label", f"{result.majority_accuracy:.3f}"),
        ("baseline: one flat or railed lead", f"{result.rule_accuracy:.3f}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(["12-lead ECG acceptability", how, "", *(f"{name:<{width}}  {value}" for name, value in rows)])


def _shown(figure: float | None) -> str:
    return "not defined" if figure is None else f"{figure:.3f}"
