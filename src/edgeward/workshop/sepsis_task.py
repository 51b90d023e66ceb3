"""``sepsis-risk`` on the line: its data, decision, golden vectors and words for the card."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bundle.manifest import BATCH, TensorSpec
from edgeward.kernel.errors import ConfigError
from edgeward.signal.stay_features import NAME, NAMES
from edgeward.workshop.golden_table import golden_rows
from edgeward.workshop.task import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.workshop.scorer import FloatArray

CINC2019 = Source(
    "PhysioNet/Computing in Cardiology Challenge 2019, training set A",
    "CC-BY-4.0",
    "Reyna MA, Josef CS, Jeter R, Shashikumar SP, Westover MB, Nemati S, Clifford GD, Sharma A. "
    "Early Prediction of Sepsis From Clinical Data: the PhysioNet/Computing in Cardiology Challenge 2019. "
    "Crit Care Med 48(2):210-217, 2020.",
    "https://physionet.org/content/challenge-2019/1.0.0/",
)
HOURS_IN_MAX = 48.0
"""At the bedside ``hours_in`` stops here. The training tables end nearly every stay without sepsis by hour 59, so that
beyond it the hours alone would say sepsis of everybody who stays (ADR 14)."""
DECISION_KEYS = frozenset({"calibration", "watch", "act", "burden"})


class SepsisTask:
    """``BundleTask`` of the sepsis model."""

    name = "sepsis-risk"
    task = "sepsis-risk"
    classes: tuple[str, ...] = ("sepsis",)
    feature_names: tuple[str, ...] = NAMES
    preprocessing = NAME
    deadline_ms = 20.0
    sources: tuple[Source, ...] = (CINC2019,)
    intended_use = (
        "Says of an adult in intensive care, beside a monitor and a ward whose own rules stay in force, how likely "
        "sepsis is to begin within about twelve hours or to have begun (the challenge's Sepsis-3 label), and which "
        "measurements say so. Research and demonstration."
    )
    limits: tuple[str, ...] = (
        "Trained on one hospital of one country, on tables with a row per hour; adults in intensive care only.",
        (
            "Its training tables end nearly every stay without sepsis by the 59th hour: it cannot judge long stays. At "
            "the bedside the hours count to the 48th only, and the challenge's own figures, which let them count, are "
            "largely earned there (see docs/deterioration.md)."
        ),
        (
            "What is ordered tells what is suspected: part of its skill is the staff's own suspicion, and another "
            "hospital orders otherwise. The model on vital signs alone stands beside it."
        ),
        "It knows nothing of consciousness, urine, drugs, cultures, imaging or notes.",
        "A probability is that of the training hospital, where 8.7 % of stays had sepsis; elsewhere it is off.",
    )
    baseline = (
        "Gradient boosting on the newest raw values alone, NEWS2, qSOFA and vital signs alone stand beside it in the "
        "figures above, by the same protocol."
    )

    def __init__(self) -> None:
        count = len(self.feature_names)
        self.inputs: tuple[TensorSpec, ...] = (
            TensorSpec(
                "features", (BATCH, count), meaning="the features that preprocessing_params names", missing=True
            ),
        )
        self.outputs: tuple[TensorSpec, ...] = (
            TensorSpec(
                "scores", (BATCH, 1 + count), meaning="log odds that an advisory pays, then what each feature adds"
            ),
        )
        self.preprocessing_params: Mapping[str, Any] = MappingProxyType(
            {"features": list(self.feature_names), "hours_in_max": HOURS_IN_MAX}
        )

    def decision(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """``calibration`` (knots), ``watch`` and ``act`` (log odds, growing), ``burden`` (alerts per patient-day)."""
        try:
            knots = figures["calibration"]
            log_odds, probability = (np.asarray(knots[key], dtype=np.float64) for key in ("log_odds", "probability"))
            watch, act = float(figures["watch"]), float(figures["act"])
            burden = {key: float(figures["burden"][key]) for key in ("watch", "act")}
            sound = (
                set(figures) == DECISION_KEYS
                and len(log_odds) == len(probability) >= 2
                and (np.diff(log_odds) > 0).all()
                and (np.diff(probability) >= 0).all()
                and 0.0 <= probability[0] <= probability[-1] <= 1.0
                and watch <= act
                and np.isfinite([watch, act, *burden.values()]).all()
            )
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise ConfigError(
                "decision-malformed", "the decision must hold calibration (growing knots), watch <= act, and burden"
            )
        return {
            "calibration": {"log_odds": log_odds.tolist(), "probability": probability.tolist()},
            "watch": watch,
            "act": act,
            "burden": burden,
        }

    def synthetic(self, count: int, seed: int) -> dict[str, FloatArray]:
        """Vectors of made-up stays: the golden vectors hold no patient."""
        return {"features": golden_rows(self.feature_names, count, seed)}


TASK = SepsisTask()
