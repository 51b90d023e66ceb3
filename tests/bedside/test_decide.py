"""Classes from scores, advisories from classes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.bedside.decide import Advisor, Decision
from edgeward.bedside.priority import Priority
from edgeward.kernel.errors import BundleError
from edgeward.signal.beat import BeatClass


def test_offsets_move_the_decision() -> None:
    """A class with a positive offset wins from a likelier one."""
    scores = np.array([0.6, 0.3, 0.05, 0.03, 0.02], dtype=np.float32)
    assert Decision((0.0,) * 5).classify(scores)[0] is BeatClass.N
    assert Decision((0.0, 1.0, 0.0, 0.0, 0.0)).classify(scores) == (BeatClass.S, pytest.approx(0.3))


@pytest.mark.parametrize(
    "decision",
    [{}, {"log_offsets": [0, 0]}, {"log_offsets": [0, 0, 0, 0, float("nan")]}, {"log_offsets": "NSVFQ"}, {"x": 1}],
)
def test_a_malformed_decision_refuses_the_bundle(decision: dict[str, object]) -> None:
    """Anything but five finite offsets is a BundleError."""
    with pytest.raises(BundleError):
        Decision.from_manifest(decision)


def test_one_odd_beat_is_silent() -> None:
    """Single ectopic beats, even couplets, raise no run; five in a minute raise nothing at all."""
    advisor = Advisor()
    changed = []
    for k in range(5):
        changed += advisor.beat(1000 * k, BeatClass.V)
        changed += advisor.beat(1000 * k + 200, BeatClass.N)
    assert changed == []


def test_frequent_ectopy_is_raised_once_and_cleared_with_hysteresis() -> None:
    """Six in a minute raise, three or fewer clear, and in between nothing flickers."""
    advisor = Advisor()
    raised = [
        a for k in range(8) for a in advisor.beat(500 * k, BeatClass.S) + advisor.beat(500 * k + 250, BeatClass.N)
    ]
    assert [(a.code, a.active) for a in raised] == [("frequent-sveb", True)]
    assert advisor.passed(3500 + 9000) == []
    cleared = advisor.passed(500 * 4 + 15000)
    assert [(a.code, a.active) for a in cleared] == [("frequent-sveb", False)]


def test_a_run_of_fast_ventricular_beats_rises_in_priority() -> None:
    """Three fast V beats are a run of medium priority, five of high; a slow run is not raised."""
    fast, slow = Advisor(), Advisor()
    changes = [a for k in range(6) for a in fast.beat(100 * k, BeatClass.V) if a.code == "veb-run"]
    assert [(a.priority, a.active) for a in changes] == [(Priority.MEDIUM, True), (Priority.HIGH, True)]
    assert not [a for k in range(5) for a in slow.beat(250 * k, BeatClass.V) if a.code == "veb-run"]


def test_an_unjudged_beat_ends_a_run() -> None:
    """What was not seen is not counted as ventricular."""
    advisor = Advisor()
    advisor.beat(0, BeatClass.V)
    advisor.beat(100, BeatClass.V)
    advisor.unjudged()
    assert advisor.beat(300, BeatClass.V) == []
