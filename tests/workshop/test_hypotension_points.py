"""Decision points and their outcomes, to the minute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.signal.hypotension import TASK
from edgeward.workshop.hypotension_points import Outcome, decision_points, episodes


def series(*pairs: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    minutes, values = zip(*pairs, strict=True)
    return np.array(minutes, dtype=np.int64), np.array(values, dtype=np.float64)


def every(step: int, until: int, *, low: tuple[int, int] = (0, -1)) -> tuple[np.ndarray, np.ndarray]:
    """80 mmHg each ``step`` minutes, 55 from ``low[0]`` to ``low[1]``."""
    minutes = np.arange(0, until + 1, step)
    return minutes, np.where((minutes >= low[0]) & (minutes <= low[1]), 55.0, 80.0)


def outcome_at(minutes: np.ndarray, values: np.ndarray, now: int) -> Outcome:
    points = decision_points(minutes, values)
    return Outcome(int(points.outcome[points.minute.tolist().index(now)]))


@pytest.mark.parametrize(
    ("onset", "wanted"),
    [(60, Outcome.SOON), (75, Outcome.AHEAD), (90, Outcome.AHEAD), (105, Outcome.AHEAD), (120, Outcome.NONE)],
)
def test_an_episode_is_ahead_when_it_begins_30_to_60_minutes_later(onset: int, wanted: Outcome) -> None:
    """Asked at minute 45: 30 to 60 minutes later count, 15 is too soon, 75 is none."""
    assert outcome_at(*every(15, 240, low=(onset, onset + 15)), 45) is wanted


def test_one_low_value_is_no_episode() -> None:
    """Sustained is ten minutes from the first low value to the last."""
    assert outcome_at(*every(15, 240, low=(90, 90)), 45) is Outcome.NONE
    assert outcome_at(*every(5, 240, low=(90, 95)), 45) is Outcome.NONE
    assert outcome_at(*every(5, 240, low=(90, 100)), 45) is Outcome.AHEAD


def test_where_pressures_grow_sparse_nothing_is_known() -> None:
    """No dense pressure until an hour later: censored, also when a low value may have been an episode's first."""
    minutes, values = every(15, 240)
    kept = (minutes <= 90) | (minutes >= 150)
    assert outcome_at(minutes[kept], values[kept], 45) is Outcome.CENSORED
    minutes, values = every(15, 105, low=(105, 105))
    assert outcome_at(minutes, values, 45) is Outcome.CENSORED


def test_an_episode_that_was_seen_is_known_though_the_chart_ends() -> None:
    """The line may be taken out afterwards: the positive stands."""
    assert outcome_at(*every(15, 105, low=(90, 105)), 45) is Outcome.AHEAD


def test_nothing_is_asked_within_an_hour_of_a_low_value() -> None:
    """One low value, sustained or not, silences the question for an hour."""
    points = decision_points(*every(15, 400, low=(105, 105)))
    assert not {105, 120, 135, 150, 165} & set(points.minute.tolist())
    assert {90, 180} <= set(points.minute.tolist())


def test_artefacts_are_not_measured() -> None:
    """A flush of the line (or zero) is neither high nor low: it is a gap."""
    minutes, values = every(15, 240)
    values[minutes == 60] = 290.0
    values[minutes == 75] = 0.0
    points = decision_points(minutes, values)
    assert 60 not in points.minute.tolist()
    assert not set(range(61, 135)) & set(points.minute.tolist())


def test_points_lie_apart() -> None:
    """A chart with a value each minute is not asked each minute."""
    points = decision_points(*every(1, 200))
    assert np.diff(points.minute).min() == TASK.every
    assert len(decision_points(*every(1, 200), replace(TASK, every=1))) > 10 * len(points)


def test_an_onset_is_told_with_its_point() -> None:
    """Lead time is counted to the first low value."""
    points = decision_points(*every(15, 240, low=(90, 120)))
    told = dict(zip(points.minute.tolist(), points.onset.tolist(), strict=True))
    assert told == {45: 90, 60: 90, 75: 90, 195: -1, 210: -1, 225: -1, 240: -1}


def test_runs_are_broken_by_gaps_and_by_values_that_are_not_low() -> None:
    """Each run tells whether a value ended it."""
    minutes, values = series((0, 60), (10, 60), (20, 80), (30, 50), (60, 50), (70, 50), (80, 90))
    assert episodes(minutes, values) == [(0, 10, True), (30, 30, False), (60, 70, True)]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(10, 120)), min_size=1, max_size=80),
    st.integers(0, 2000),
)
def test_a_point_and_its_features_know_nothing_of_later_values(steps: list[tuple[int, float]], cut: int) -> None:
    """Which points are asked up to an instant does not depend on what comes after it."""
    minutes = np.cumsum([step for step, _ in steps])
    values = np.array([value for _, value in steps])
    whole = decision_points(minutes, values)
    past = minutes <= cut
    early = decision_points(minutes[past], values[past])
    assert early.minute.tolist() == [minute for minute in whole.minute.tolist() if minute <= cut]
