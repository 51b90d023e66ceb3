"""Simulated patients through the assessment: leads are counted to the minute, and everything says "simulated"."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: torch")
pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: lightgbm")
pytest.importorskip("onnx", reason="WORKSHOP EXTRA ABSENT: onnx")

from hypotension_bundle import small_bundle

from edgeward.bundle.archive import read_bundle
from edgeward.evaluate.hypotension_simulated import Course, onset_of, play, render, told
from edgeward.signal.numeric import Kind

pytestmark = pytest.mark.workshop


class Falling:
    """The mean pressure is 90 until minute 70, then falls 0.5 mmHg a minute: 72 at 106, 65 at 120."""

    def at(self, at_s: float) -> dict[Kind, float | None]:
        return {Kind.HR: 80.0, Kind.ABP_MEAN: 90.0 - max(0.0, at_s / 60 - 70) * 0.5, Kind.SPO2: None}

    def silent(self, at_s: float) -> bool:
        return False


class Off(Falling):
    def silent(self, at_s: float) -> bool:
        return True


def test_a_falling_pressure_is_called_before_it_is_low() -> None:
    """A model that fears a last pressure below 72 speaks a quarter of an hour before minute 120; a silent monitor is
    scored by nobody."""
    bundle = read_bundle(small_bundle(act=0.0, watch=0.0))
    falling, off = play(bundle, [("falls", Falling(), 2.5), ("off", Off(), 0.5)], lambda _: None)
    assert falling.onset == 120.0
    assert falling.lead is not None
    assert 9 < falling.lead < 20
    assert falling.limit_lead == pytest.approx(10.0, abs=1.5)
    assert falling.false == 0
    assert falling.scored > 4 * 60
    assert (off.onset, off.scored, off.raised) == (None, 0, ())


def test_false_advisories_are_counted_by_watched_day() -> None:
    """One without low pressure within two hours is false, also in a stay that falls later."""
    courses = [
        Course("a", 300.0, (100.0, 250.0, 310.0), 290.0, 960, 6.0),
        Course("a", None, (50.0,), None, 960, 6.0),
        Course("b", 200.0, (), 190.0, 0, 6.0),
    ]
    figures = told(courses)
    assert figures["simulated"] is True
    assert figures["courses"]["a"] == {
        "patients": 2,
        "episodes": 1,
        "called": 1,
        "called_30_min": 1,
        "lead_minutes": 50.0,
        "lead_quartiles": [50.0, 50.0],
        "limit_lead_minutes": 10.0,
        "false": 2,
        "watched_days": pytest.approx(1920 * 15 / 86400),
        "false_per_day": pytest.approx(6.0),
    }
    assert figures["courses"]["b"]["lead_minutes"] is None
    assert render(courses).count("SIMULATED") >= 3
    json.dumps(figures)


def test_ten_minutes_below_are_an_episode_and_a_gap_ends_them() -> None:
    """The onset is the first of eleven minutes in a row."""
    low = dict.fromkeys(range(40, 51), 60.0)
    assert onset_of(low) == 40.0
    assert onset_of({k: v for k, v in low.items() if k != 45}) is None
    assert onset_of({}) is None
    assert onset_of({**dict.fromkeys(range(40), 70.0), **low}) == 40.0
    assert np.isfinite(onset_of(low) or np.nan)
