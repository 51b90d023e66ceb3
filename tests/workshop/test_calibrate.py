"""Calibration and burden: monotone, honest on made-up truth, and alerts counted where they begin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.workshop.alerts import per_patient_day, raised, threshold_at
from edgeward.workshop.calibrate import KNOTS_MAX, Calibrated, expected_error, isotonic


def test_made_up_truth_is_found_again() -> None:
    """Scores of a known probability get that probability, within the noise of the draw."""
    rng = np.random.default_rng(0)
    odds = rng.normal(-2, 1.5, 60_000)
    truth = 1 / (1 + np.exp(-odds))
    positive = rng.random(len(odds)) < truth
    calibrated = isotonic(3 * odds + 1, positive)
    assert len(calibrated.log_odds) <= KNOTS_MAX
    said = calibrated(3 * odds + 1)
    assert np.abs(said - truth).mean() < 0.01
    assert expected_error(said, positive) < 0.01
    assert expected_error(np.full(len(odds), 0.9), positive) > 0.5


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.booleans()), min_size=4, max_size=200))
def test_probabilities_grow_with_the_score(rows: list[tuple[float, bool]]) -> None:
    """Knots and what lies between them never fall."""
    scores, positive = np.array([score for score, _ in rows]), np.array([came for _, came in rows])
    if positive.all() or not positive.any():
        with pytest.raises(InputError):
            isotonic(scores, positive)
        return
    calibrated = isotonic(scores, positive)
    said = calibrated(np.sort(scores))
    assert (np.diff(said) >= -1e-12).all()
    assert ((said >= 0) & (said <= 1)).all()
    assert (np.diff(calibrated.log_odds) > 0).all()


def test_outer_knots_hold_beyond() -> None:
    """A score that was never seen gets no probability that was never seen."""
    calibrated = Calibrated((-1.0, 1.0), (0.1, 0.6))
    np.testing.assert_allclose(calibrated(np.array([-9.0, 0.0, 9.0])), [0.1, 0.35, 0.6])


def test_an_alert_is_raised_where_it_begins() -> None:
    """Once per stretch, and anew for the next patient."""
    active = np.array([1, 1, 0, 1, 1, 1], dtype=bool)
    starts = np.array([0, 4])
    assert raised(active, starts).tolist() == [True, False, False, True, True, False]
    assert per_patient_day(active, starts) == pytest.approx(3 * 24 / 6)


@given(st.integers(0, 1000), st.floats(0.1, 5), st.floats(0.01, 1.0))
def test_the_burden_is_kept(seed: int, burden: float, share: float) -> None:
    """The threshold found raises no more than was allowed, and is up in no more rows."""
    rng = np.random.default_rng(seed)
    scores, starts = rng.normal(size=500), np.arange(0, 500, 50)
    threshold = threshold_at(scores, starts, burden, share=share)
    assert (scores >= threshold).mean() <= share
    assert per_patient_day(scores >= threshold, starts) <= max(burden, per_patient_day(scores >= scores.max(), starts))
