"""The challenge's utility: its published worked cases, and a slow reading of its definition, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.workshop.sepsis_utility import utility_of

STAYS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 50)).map(lambda pair: [int(t >= pair[1]) for t in range(pair[0])]),
    min_size=1,
    max_size=6,
)
"""Labels of some patients: once 1, always 1; some never."""


def one_row(t: int, onset: int | None, predicted: int) -> float:
    """The definition's figure (Reyna 2020, figure 1), read for one hour of one patient."""
    if onset is None:
        return -0.05 if predicted else 0.0
    dt = t - onset
    if dt > 3:
        return 0.0
    if predicted:
        return max((dt + 12) / 6, -0.05) if dt <= -6 else (3 - dt) / 9
    return 0.0 if dt <= -6 else -2 * (dt + 6) / 9


def slow(labels: list[int], predictions: list[int]) -> float:
    onset = labels.index(1) + 6 if 1 in labels else None
    return sum(one_row(t, onset, p) for t, p in enumerate(predictions))


def slow_best(labels: list[int]) -> list[int]:
    if 1 not in labels:
        return [0] * len(labels)
    onset = labels.index(1) + 6
    return [int(onset - 12 <= t <= onset + 3) for t in range(len(labels))]


def of(stays: list[list[int]]) -> tuple[object, np.ndarray]:
    starts = np.cumsum([0, *(len(stay) for stay in stays)])[:-1]
    return utility_of(np.concatenate([np.array(stay) for stay in stays]), starts), starts


def test_the_published_worked_case() -> None:
    """The example in the challenge's own evaluation program: labels 000011, predictions 001111 → 3.3888…"""
    utility, _ = of([[0, 0, 0, 0, 1, 1]])
    predicted = np.array([0, 0, 1, 1, 1, 1])
    assert (utility.inaction + utility.gain * predicted).sum() == pytest.approx(3.388888888888889)


def test_never_and_best() -> None:
    """Never predicting gives 0, the best prediction 1, and predicting always for the healthy only costs."""
    labels = [[0] * 30, [0] * 20 + [1] * 9]
    utility, _ = of(labels)
    assert utility.normalised(np.zeros(59, bool)) == 0.0
    assert utility.normalised(utility.best) == 1.0
    assert utility.normalised(np.repeat([True, False], [30, 29])) == pytest.approx(
        -1.5 / (utility.gain[utility.best].sum())
    )


def test_no_septic_patient_leaves_the_figure_undefined() -> None:
    """There is nothing to scale by."""
    utility, _ = of([[0] * 10])
    assert np.isnan(utility.normalised(np.zeros(10, bool)))


@given(STAYS, st.randoms(use_true_random=False))
def test_every_row_is_what_the_definition_says(stays: list[list[int]], random: object) -> None:
    """Against the slow reading, for any predictions."""
    predictions = [[random.randint(0, 1) for _ in stay] for stay in stays]  # type: ignore[attr-defined]
    utility, starts = of(stays)
    flat = np.concatenate([np.array(p) for p in predictions])
    rows = utility.inaction + utility.gain * flat
    for stay, predicted, total in zip(stays, predictions, np.add.reduceat(rows, starts), strict=True):
        assert total == pytest.approx(slow(stay, predicted), abs=1e-9)
    seen = sum(slow(stay, p) for stay, p in zip(stays, predictions, strict=True))
    best = sum(slow(stay, slow_best(stay)) for stay in stays)
    nothing = sum(slow(stay, [0] * len(stay)) for stay in stays)
    if any(1 in stay for stay in stays) and best > nothing:
        assert utility.normalised(flat > 0) == pytest.approx((seen - nothing) / (best - nothing), abs=1e-9)
