"""Percentile bootstrap of gross figures, drawn by patient.

Beats of one patient are alike, so patients are drawn, never beats (Efron & Tibshirani 1993,
An Introduction to the Bootstrap, chapter 8). A figure of few patients gets the wide interval it deserves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.evaluate.ec57 import qrs_counts, rates, sveb_counts, veb_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.evaluate.ec57 import Confusion

DRAWS = 2000
LEVEL = 0.95
_MEASURES = {"qrs": qrs_counts, "sveb": sveb_counts, "veb": veb_counts}
_FIGURES = ("se", "ppv", "fpr")

Interval = tuple[float, float] | None


def intervals(
    confusions: Sequence[Confusion],
    patients: Sequence[str],
    measure: str,
    *,
    seed: int = 57,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Mapping[str, Interval]:
    """``level`` intervals of the gross Se, PPV and FPR of ``measure`` (qrs, sveb or veb); None where undefined.

    ``patients`` names the patient of each confusion. The same seed gives the same intervals. Draws in which a
    figure has no denominator are left out of its interval.
    """
    if len(confusions) != len(patients):
        raise ValueError("every confusion needs its patient")
    names = sorted(set(patients))
    if not names:
        return dict.fromkeys(_FIGURES)
    four = np.stack([_MEASURES[measure](c.counts) for c in confusions])  # (R, 4)
    by_patient = np.zeros((len(names), 4), dtype=np.int64)
    np.add.at(by_patient, [names.index(p) for p in patients], four)
    chosen = np.random.default_rng(seed).multinomial(len(names), [1 / len(names)] * len(names), size=draws)
    drawn = rates(chosen @ by_patient)  # (draws, 3)
    out: dict[str, Interval] = {}
    tail = 50.0 * (1.0 - level)
    for k, figure in enumerate(_FIGURES):
        values = drawn[:, k][~np.isnan(drawn[:, k])]
        if values.size:
            low, high = np.percentile(values, (tail, 100.0 - tail))
            out[figure] = (float(low), float(high))
        else:
            out[figure] = None
    return out
