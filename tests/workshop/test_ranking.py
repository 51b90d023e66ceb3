"""Ranking and calibration figures, against their definitions counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeward.workshop.ranking import PatientDraws, Ranked, brier, calibration

POINTS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=25)
"""Positive, score (with ties) and how often the point counts."""


@settings(deadline=None)
@given(POINTS)
def test_auroc_is_the_share_of_pairs(points: list[tuple[bool, int, int]]) -> None:
    """The positive scores higher, ties half, every point as often as it counts."""
    positive, score, times = (np.array(column) for column in zip(*points, strict=True))
    pairs = [
        (a * b, 1.0 if s > t else 0.5 if s == t else 0.0)
        for p, s, a in zip(positive, score, times, strict=True)
        for q, t, b in zip(positive, score, times, strict=True)
        if p and not q
    ]
    whole = sum(weight for weight, _ in pairs)
    assume(whole > 0)
    wanted = sum(weight * won for weight, won in pairs) / whole
    assert Ranked(positive, score.astype(float)).auroc(times.astype(float)) == pytest.approx(wanted)


@settings(deadline=None)
@given(POINTS)
def test_auprc_is_the_average_precision(points: list[tuple[bool, int, int]]) -> None:
    """Precision among everything at or above each positive's score."""
    positive, score, times = (np.array(column) for column in zip(*points, strict=True))
    assume((times * positive).sum() > 0)
    wanted = (
        sum(
            a * (times * positive)[score >= s].sum() / times[score >= s].sum()
            for p, s, a in zip(positive, score, times, strict=True)
            if p and a
        )
        / (times * positive).sum()
    )
    assert Ranked(positive, score.astype(float)).auprc(times.astype(float)) == pytest.approx(wanted)


def test_figures_without_both_kinds_are_not_defined() -> None:
    """No number is made up."""
    ranked = Ranked(np.ones(4, np.bool_), np.arange(4.0))
    assert np.isnan(ranked.auroc())
    assert PatientDraws(4).figure(lambda times: ranked.auroc(times)).value is None


def test_the_interval_draws_patients() -> None:
    """Ten points of one patient tell no more than that patient does: the interval is wider than of as many patients."""
    rng = np.random.default_rng(0)
    value = np.repeat(rng.standard_normal(40), 10)
    patient = np.repeat(np.arange(40), 10)

    def mean_by(where: np.ndarray) -> float:
        found = PatientDraws(int(where.max()) + 1).figure(
            lambda times: float((value * times[where]).sum() / times[where].sum())
        )
        assert found.ci is not None
        assert found.ci[0] < value.mean() < found.ci[1]
        return found.ci[1] - found.ci[0]

    assert mean_by(patient) > 2.5 * mean_by(np.arange(400))


def test_probabilities_that_are_true_are_found_true() -> None:
    """Slope 1 and intercept 0; twice the log odds give half the slope, and a worse Brier score."""
    rng = np.random.default_rng(1)
    odds = rng.normal(-1.0, 1.5, 40_000)
    probability = 1 / (1 + np.exp(-odds))
    came = rng.random(40_000) < probability
    found = calibration(came, odds)
    assert (found.slope, found.intercept) == (pytest.approx(1.0, abs=0.05), pytest.approx(0.0, abs=0.05))
    assert calibration(came, 2 * odds).slope == pytest.approx(0.5, abs=0.03)
    assert brier(came, probability) < brier(came, 1 / (1 + np.exp(-2 * odds)))
    assert all(abs(mean - share) < 0.03 for _, mean, share in found.groups)
    assert np.isnan(calibration(np.ones(3, np.bool_), np.arange(3.0)).slope)
