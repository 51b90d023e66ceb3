"""The beat window: the same for any blocks, never beyond its look-ahead, and telling about early and odd beats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import BundleError
from edgeward.signal.preprocess import MAX_BLOCK_S, BeatWindow, BeatWindower, BeatWindowSpec
from edgeward.signal.rhythm import RHYTHM_NAMES, rhythm_features

SPEC = BeatWindowSpec()
RATE = SPEC.rate_hz
NAMES = SPEC.rhythm_names


def heart(intervals_s: list[float], *, odd: set[int] | None = None, seed: int = 3) -> tuple[np.ndarray, list[int]]:
    """Two leads with a P wave, QRS and T wave per beat; beats in ``odd`` are wide, upside down and lack the P wave."""
    beats = list(np.round(np.cumsum([1.0, *intervals_s]) * RATE).astype(int))
    n = beats[-1] + 3 * RATE
    time = np.arange(n)
    wave = 0.005 * np.random.default_rng(seed).normal(size=(2, n))
    for k, at in enumerate(beats):
        if odd and k in odd:
            shape = -1.5 * np.exp(-0.5 * ((time - at) / 14) ** 2)
        else:
            shape = np.exp(-0.5 * ((time - at) / 4) ** 2) + 0.15 * np.exp(-0.5 * ((time - at + 40) / 6) ** 2)
            shape += 0.25 * np.exp(-0.5 * ((time - at - 65) / 15) ** 2)
        wave += np.array([[1.0], [-0.6]]) * shape
    return wave.astype(np.float32), beats


def run(wave: np.ndarray, beats: list[int], blocks: list[int]) -> list[BeatWindow]:
    windower = BeatWindower(SPEC)
    out: list[BeatWindow] = []
    start = k = turn = 0
    while start < wave.shape[1]:
        stop = min(wave.shape[1], start + blocks[turn % len(blocks)])
        windower.push(wave[:, start:stop])
        while k < len(beats) and beats[k] + 100 <= stop:
            windower.beat(beats[k])
            k += 1
        out += windower.ready()
        start, turn = stop, turn + 1
    return out + windower.drain()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 40 * len(sizes)))
def test_blocks_do_not_change_the_windows(blocks: list[int]) -> None:
    """However the wave is cut into blocks, the windows are bit for bit the same."""
    wave, beats = heart([0.8, 0.8, 0.5, 1.1, 0.8, 2.6, 0.8, 0.8])
    expected = run(wave, beats, [25])
    found = run(wave, beats, blocks)
    assert [w.beat_index for w in found] == [w.beat_index for w in expected] == beats
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.wave, b.wave)
        assert np.array_equal(a.rhythm, b.rhythm)
        assert (a.end_index, a.rr_ms) == (b.end_index, b.rr_ms)


def test_a_window_knows_nothing_after_its_end() -> None:
    """Changing samples and beats after end_index changes nothing in the window."""
    wave, beats = heart([0.8] * 12)
    original = run(wave, beats, [50])[6]
    other = wave.copy()
    other[:, original.end_index + 1 :] = 7.0
    kept = [b for b in beats if b <= original.end_index]
    changed = run(other, kept, [50])[6]
    assert np.array_equal(changed.wave, original.wave)
    assert np.array_equal(changed.rhythm, original.rhythm)
    assert changed.end_index == original.end_index


def test_the_wait_for_the_next_beat_is_bounded() -> None:
    """When no beat follows, the window comes after max_wait_s and says that the next beat is unknown."""
    wave, beats = heart([0.8] * 6)
    wave = np.concatenate([wave, np.zeros((2, 5 * RATE), dtype=np.float32)], axis=1)
    last = run(wave, beats, [50])[-1]
    assert last.end_index == beats[-1] + round(SPEC.max_wait_s * RATE)
    assert last.rhythm[NAMES.index("post_known")] == 0.0


def test_an_early_beat_shows_in_the_rhythm() -> None:
    """A beat at 60 % of the usual interval has the log of that as its ratio, and the next one a pause."""
    wave, beats = heart([0.8] * 20 + [0.48, 1.0] + [0.8] * 4)
    windows = run(wave, beats, [50])
    assert windows[21].rhythm[NAMES.index("pre_vs_32")] == pytest.approx(np.log(0.6), abs=0.03)
    assert windows[21].rhythm[NAMES.index("post_vs_32")] == pytest.approx(np.log(1.25), abs=0.03)
    assert abs(windows[20].rhythm[NAMES.index("pre_vs_32")]) < 0.02
    assert windows[21].rr_ms == 480


def test_an_odd_shape_differs_from_the_running_average_beat() -> None:
    """A wide inverted complex correlates little with the patient's average beat, its neighbours nearly fully."""
    wave, beats = heart([0.8] * 24, odd={20})
    windows = run(wave, beats, [50])
    corr = [w.rhythm[NAMES.index("qrs_corr")] for w in windows]
    assert corr[20] < 0.3
    assert min(corr[10:20] + corr[21:24]) > 0.95
    assert windows[20].rhythm[NAMES.index("width")] > 0.3
    assert windows[19].rhythm[NAMES.index("next_corr")] < 0.3


def test_the_size_of_the_patient_does_not_matter() -> None:
    """The same heart at half the amplitude gives the same windows."""
    wave, beats = heart([0.8] * 12)
    for a, b in zip(run(wave, beats, [50])[4:], run(0.5 * wave, beats, [50])[4:], strict=True):
        assert np.allclose(a.wave, b.wave, atol=1e-4)
        assert np.allclose(a.rhythm, b.rhythm, atol=1e-3)


def test_baseline_wander_is_taken_out() -> None:
    """A slow swing of ±1 mV under complexes of 0.7 mV leaves less than a tenth of its range around the beat."""
    wave, beats = heart([0.8] * 12)
    swing = np.sin(2 * np.pi * 0.2 * np.arange(wave.shape[1]) / RATE).astype(np.float32)
    a, b = run(wave, beats, [50])[8], run(wave + swing, beats, [50])[8]
    around = slice(SPEC.before - 100, SPEC.before + 60)
    assert np.abs(a.wave[:2, around] - b.wave[:2, around]).max() < 0.1 * 2.0 / 0.7


def test_reset_forgets_the_patient() -> None:
    """After a reset the next beat has no interval and no average beat."""
    wave, beats = heart([0.8] * 10)
    windower = BeatWindower(SPEC)
    windower.push(wave[:, :500])
    windower.beat(beats[0])
    windower.reset()
    windower.push(wave[:, 500:1000])
    windower.beat(beats[2])
    found = windower.drain()
    assert [w.beat_index for w in found] == [beats[2]]
    assert found[0].rr_ms is None
    assert found[0].rhythm[NAMES.index("template_known")] == 0.0


def test_one_lead_is_enough() -> None:
    """With zeros for the second lead every figure is finite and an odd beat still stands out."""
    wave, beats = heart([0.8] * 24, odd={20})
    wave[1] = 0.0
    windows = run(wave, beats, [50])
    assert all(np.isfinite(w.wave).all() and np.isfinite(w.rhythm).all() for w in windows)
    assert windows[20].rhythm[NAMES.index("qrs_corr")] < 0.3


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_a_flat_wave_gives_finite_figures(level: float) -> None:
    """Beats claimed on a flat line give windows without NaN or infinity."""
    wave = np.full((2, 2000), level, dtype=np.float32)
    for w in run(wave, [300, 500, 760, 1000], [100]):
        assert np.isfinite(w.wave).all()
        assert np.isfinite(w.rhythm).all()


def test_wrong_use_is_refused() -> None:
    """Blocks that are too long, of another shape, and beats out of order raise ValueError."""
    windower = BeatWindower(SPEC)
    with pytest.raises(ValueError, match="push takes"):
        windower.push(np.zeros((2, round(MAX_BLOCK_S * RATE) + 1), dtype=np.float32))
    with pytest.raises(ValueError, match="push takes"):
        windower.push(np.zeros((3, 10), dtype=np.float32))
    windower.beat(10)
    with pytest.raises(ValueError, match="increasing"):
        windower.beat(10)


def test_the_spec_travels_in_the_manifest() -> None:
    """to_params and from_params are inverse."""
    assert BeatWindowSpec.from_params(SPEC.to_params()) == SPEC
    assert SPEC.wave_shape == (4, SPEC.before + SPEC.after)


@pytest.mark.parametrize(
    "change",
    [
        {"rate_hz": 360},
        {"name": "beat-window-9"},
        {"lookahead_beats": 3},
        {"lookahead_beats": True},
        {"max_wait_s": 9.0},
        {"before_s": "0.9"},
        {"after_s": 0.1},
        {"rhythm_names": ["pre"]},
        {"more": 1},
    ],
)
def test_a_foreign_spec_is_refused(change: dict[str, object]) -> None:
    """A manifest that asks for another window raises BundleError."""
    with pytest.raises(BundleError):
        BeatWindowSpec.from_params({**SPEC.to_params(), **change})


@given(
    st.floats(0.1, 3.0),
    st.one_of(st.none(), st.floats(0.1, 3.0)),
    st.one_of(st.none(), st.floats(0.1, 3.0)),
    st.lists(st.floats(0.1, 3.0), max_size=140),
)
def test_rhythm_features_are_bounded(pre: float, post: float | None, postpost: float | None, past: list[float]) -> None:
    """Whatever the intervals, every feature is finite and within ±3."""
    found = rhythm_features(pre, post, postpost, past)
    assert found.shape == (len(RHYTHM_NAMES),)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 3.0


def test_ratios_do_not_depend_on_the_rate() -> None:
    """Doubling every interval changes only the absolute figures."""
    past = [0.8, 0.82, 0.79, 0.6, 1.0, 0.8, 0.81, 0.78, 0.8, 0.8]
    a = rhythm_features(0.5, 0.9, 0.8, past)
    b = rhythm_features(1.0, 1.8, 1.6, [2 * rr for rr in past])
    differing = {RHYTHM_NAMES[i] for i in np.flatnonzero(~np.isclose(a, b, atol=1e-6))}
    assert differing == {"pre_abs", "post_abs", "median_32_abs"}
