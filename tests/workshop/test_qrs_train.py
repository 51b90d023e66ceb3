"""Training of the QRS scorer: hardships keep truth and wave together, labels are right, trees are laid right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="needs the workshop extra")

from edgeward.workshop import qrs_noise, qrs_train

pytestmark = pytest.mark.workshop


def _record(seconds: int = 90) -> qrs_train.Record:
    rng = np.random.default_rng(5)
    t = np.arange(seconds * 250)
    beats = np.cumsum(rng.integers(170, 240, seconds)).astype(np.int64)
    beats = beats[beats < t.size - 300]
    wave = sum(np.exp(-0.5 * ((t - b) / 3.0) ** 2) + 0.2 * np.exp(-0.5 * ((t - b - 70) / 12.0) ** 2) for b in beats)
    wave = np.stack([wave, 0.5 * wave]) + rng.normal(0.0, 0.01, (2, t.size))
    return qrs_train.Record("made", wave.astype(np.float32), beats, np.zeros((0, 2), dtype=np.int64))


def test_each_beat_is_one_true_candidate() -> None:
    """On a clean wave the labelled candidates are as many as the beats, and T waves are false ones."""
    record = _record()
    made = qrs_train.examples(record, "clean")
    assert abs(int(made.y.sum()) - record.beats.size) <= 2
    assert (made.y == 0).sum() > 20
    assert np.isfinite(made.x).all()


def test_laid_trees_tell_true_from_false() -> None:
    """Trees taken over from the boosted model separate the candidates they were fitted on."""
    made = qrs_train.examples(_record(240), "clean")
    trees = qrs_train.fit([replace(made, weight=1.0)] * 6)
    p = np.asarray([trees.probability(x.astype(np.float64)) for x in made.x])
    assert ((p > 0.5) == (made.y == 1)).mean() > 0.98


@pytest.mark.parametrize("kind", ["two leads", "one lead"])
def test_hardships_are_drawn_from_their_seed_alone(kind: str) -> None:
    """The same seed makes the same harder record; erased beats are gone from the truth."""
    record = _record()
    first = qrs_train.hardened(record, kind, np.random.default_rng(3))
    again = qrs_train.hardened(record, kind, np.random.default_rng(3))
    np.testing.assert_array_equal(first.wave, again.wave)
    np.testing.assert_array_equal(first.beats, again.beats)
    assert first.wave.shape[0] == (2 if kind == "two leads" else 1)
    assert first.beats.size <= record.beats.size


def test_an_erased_beat_leaves_no_peak() -> None:
    """Where a beat is erased the wave stays low; the other beats stand as they were."""
    record = _record()
    wave, beats = qrs_noise.erase_beats(record.wave, record.beats, np.random.default_rng(0), share=0.3)
    gone = np.setdiff1d(record.beats, beats)
    assert gone.size > 3
    assert wave[0, gone].max() < 0.2
    assert wave[0, beats].min() > 0.8
