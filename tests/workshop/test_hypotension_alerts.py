"""Advisories through a stay: raised, standing, true or false, in time or not, and what they cost a day."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.workshop.hypotension_alerts import DAY_MIN, Asked, threshold_at, walk, watched_min
from edgeward.workshop.hypotension_points import Outcome

NONE, AHEAD, SOON = Outcome.NONE, Outcome.AHEAD, Outcome.SOON


def asked(*rows: tuple[int, int, Outcome, int]) -> Asked:
    columns = np.array([[int(value) for value in row] for row in rows], dtype=np.int64).T
    return Asked(*columns)


ONE = asked((0, 0, NONE, -1), (0, 15, NONE, -1), (0, 60, NONE, -1), (0, 75, AHEAD, 120), (0, 90, AHEAD, 120))
"""One stay: three points without, two 45 and 30 minutes before an episode at minute 120."""


def test_while_one_stands_nothing_more_is_raised() -> None:
    """A score that stays high raises once an hour."""
    burden = walk(ONE, np.ones(5), 0.5)
    assert (burden.alerts.sum(), burden.false.sum()) == (2, 2)
    assert burden.totals()["recall"] == 0.0


def test_an_episode_is_caught_by_an_advisory_30_to_60_minutes_before() -> None:
    """The first advisory's lead counts, in minutes."""
    burden = walk(ONE, np.array([0, 0, 0, 1, 1.0]), 0.5)
    totals = burden.totals()
    assert (totals["recall"], totals["ppv"], totals["false_per_day"]) == (1.0, 1.0, 0.0)
    assert burden.lead_min.tolist() == [45.0]


def test_a_late_advisory_is_true_but_not_in_time() -> None:
    """Called 15 minutes before: no false one, the episode is called, but recall counts those 30 minutes ahead."""
    points = asked((0, 75, AHEAD, 120), (0, 105, SOON, 120))
    totals = walk(points, np.array([0.0, 1.0]), 0.5).totals()
    assert (totals["recall"], totals["recall_any"], totals["ppv"]) == (0.0, 1.0, 1.0)


def test_burden_is_of_watched_time() -> None:
    """Each point stands for a quarter of an hour."""
    burden = walk(ONE, np.array([1.0, 0, 0, 0, 0]), 0.5)
    assert burden.totals()["false_per_day"] == pytest.approx(1 / (5 * 15 / DAY_MIN))


def test_time_that_nobody_asked_about_is_not_watched() -> None:
    """A point stands until the next of its stay, at most a quarter of an hour."""
    points = asked((0, 0, NONE, -1), (0, 5, NONE, -1), (0, 60, NONE, -1), (1, 61, NONE, -1))
    assert watched_min(points).tolist() == [5, 15, 15, 15]


def test_stays_do_not_share_an_advisory() -> None:
    """One standing in a stay silences nothing in the next, and two episodes of one stay are two."""
    points = asked((3, 0, NONE, -1), (5, 15, NONE, -1), (5, 200, AHEAD, 240), (5, 500, AHEAD, 550))
    burden = walk(points, np.array([1.0, 1.0, 1.0, 0.0]), 0.5)
    assert burden.alerts.tolist() == [1, 2]
    assert (burden.events.tolist(), burden.caught.tolist()) == ([0, 2], [0, 1])
    assert burden.totals(np.array([1.0, 0.0]))["false_per_day"] == DAY_MIN / 15
    assert np.isnan(burden.totals(np.array([1.0, 0.0]))["recall"])


def test_the_threshold_keeps_the_burden() -> None:
    """The lowest threshold whose false advisories stay within the budget; a lower one would not."""
    rng = np.random.default_rng(4)
    rows = []
    for stay in range(60):
        for k in range(40):
            ahead = stay % 3 == 0 and k in (36, 37, 38)
            rows.append((stay, 15 * k, AHEAD if ahead else NONE, 15 * 40 if ahead else -1))
    points = asked(*rows)
    score = rng.standard_normal(len(points)) + 2.0 * (points.outcome == AHEAD)
    threshold = threshold_at(points, score, 2.0)
    assert walk(points, score, threshold).totals()["false_per_day"] <= 2.0
    lower = np.sort(score[score < threshold])[-60]
    assert walk(points, score, lower).totals()["false_per_day"] > 2.0
    assert threshold_at(points, score, 8.0) < threshold
    assert threshold_at(points, -score, 0.0) >= -score.max()


def test_unknown_outcomes_and_disorder_are_refused() -> None:
    """They would be counted as false or stand in the wrong hour."""
    with pytest.raises(ValueError, match="not known"):
        asked((0, 0, Outcome.CENSORED, -1))
    with pytest.raises(ValueError, match="ordered"):
        asked((0, 15, NONE, -1), (0, 0, NONE, -1))
