"""The decision offsets: what is counted, that the better choice wins, and that no fold decides for itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from edgeward.signal.beat import BeatClass
from edgeward.workshop.ecg_beat_offsets import Scored, choose, counts, nested, worth
from edgeward.workshop.metrics import decide

pytestmark = pytest.mark.workshop


def _scored(bias: float, folds: int = 3) -> Scored:
    """Scores that give S too much by ``bias`` (log): the right offset is −bias."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, size=900, p=(0.8, 0.1, 0.1))
    logs = rng.normal(0.0, 0.7, size=(900, 5)) - 4.0
    logs[np.arange(900), label] += 4.0
    logs[:, BeatClass.S] += bias
    scores = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    patient = np.array([f"p{k % 9}" for k in range(900)])
    return Scored(scores.astype(np.float32), label.astype(np.int64), patient, np.arange(900) % 9 % folds)


def test_counts_follow_ec57() -> None:
    """F called V is no false positive of V; anything else called S is one of S."""
    label, called = np.array([2, 2, 3, 0, 1, 3]), np.array([2, 0, 2, 2, 1, 1])
    assert counts(label, called, BeatClass.V) == (1, 1, 1)
    assert counts(label, called, BeatClass.S) == (1, 0, 1)


def test_the_choice_takes_a_bias_back() -> None:
    """Where S is given too much, its offset is negative, and worth more than none."""
    scored = _scored(2.0)
    chosen = choose(scored)
    assert chosen[0] == 0.0
    assert -3.0 < chosen[1] < -1.0
    assert worth(scored, decide(scored.scores, chosen)) > worth(scored, decide(scored.scores, (0.0,) * 5))


def test_a_fold_is_decided_by_the_others() -> None:
    """Changing the labels of a fold changes none of its own decisions."""
    scored = _scored(1.0)
    wrong = scored.label.copy()
    wrong[scored.fold == 0] = 0
    other = Scored(scored.scores, wrong, scored.patient, scored.fold)
    mine = scored.fold == 0
    assert np.array_equal(nested(scored)[mine], nested(other)[mine])
