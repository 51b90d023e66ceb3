"""The streaming QRS detector: any blocks, bounded delay, silent leads, recovery, and a floor on real records."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.signal.beat import AAMI_OF_SYMBOL
from edgeward.signal.qrs import QrsDetector
from edgeward.signal.qrs_score import read_trees, shipped_trees, write_trees
from edgeward.signal.resample import Resampler
from edgeward.wire.wfdb import read_annotations, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.signal.beat import Beat

RATE_HZ = 250


def _ecg(seconds: float, *, leads: int = 2, noise_mv: float = 0.01, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Synthetic P-QRS-T wave (C, n) in mV and the samples of its R peaks; RR from 0.6 to 1.0 s."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    peaks = []
    at = 0.7
    while at < seconds - 0.5:
        peaks.append(round(at * RATE_HZ))
        at += rng.uniform(0.6, 1.0)
    wave = np.zeros((leads, t.size))
    for peak in peaks:
        d = t - peak / RATE_HZ
        for delay, width, height in (
            (-0.16, 0.025, 0.12),
            (-0.03, 0.008, -0.1),
            (0, 0.011, 1.1),
            (0.03, 0.01, -0.2),
            (0.28, 0.05, 0.25),
        ):
            wave += height * np.exp(-0.5 * ((d - delay) / width) ** 2)
    wave *= np.linspace(1.0, 0.6, leads)[:, None]
    wave += rng.normal(0.0, noise_mv, wave.shape) + 0.2 * np.sin(2 * np.pi * 0.3 * t)
    return wave.astype(np.float32), np.asarray(peaks)


def _run(detector: QrsDetector, wave: np.ndarray, usable: np.ndarray | None = None, block: int = 50) -> list[Beat]:
    usable = np.ones(wave.shape, dtype=np.bool_) if usable is None else usable
    beats: list[Beat] = []
    for start in range(0, wave.shape[1], block):
        beats += detector.push(wave[:, start : start + block], usable[:, start : start + block])
    return beats


def _found(peaks: np.ndarray, beats: list[Beat], within: int = 5) -> tuple[int, int]:
    """How many peaks have a beat within ``within`` samples, and how many beats have no peak."""
    at = np.asarray([beat.index for beat in beats]).reshape(-1)
    near = np.abs(peaks[:, None] - at[None, :]) <= within
    return int(near.any(axis=1).sum()), int((~near.any(axis=0)).sum())


@pytest.mark.parametrize("leads", [1, 2, 3])
def test_every_beat_is_found_at_its_peak(leads: int) -> None:
    """After three seconds of learning each R peak comes out once, within 20 ms."""
    wave, peaks = _ecg(40.0, leads=leads)
    beats = [beat for beat in _run(QrsDetector(leads), wave) if beat.index > 3 * RATE_HZ]
    peaks = peaks[(peaks > 3 * RATE_HZ) & (peaks < wave.shape[1] - RATE_HZ)]
    assert _found(peaks, [b for b in beats if b.index < wave.shape[1] - RATE_HZ]) == (peaks.size, 0)
    assert all(0.5 <= beat.confidence <= 1.0 for beat in beats)


@given(cuts=st.lists(st.integers(1, 700), min_size=3, max_size=30), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_blocks_do_not_change_the_beats(cuts: list[int], seed: int) -> None:
    """Any cutting of the wave into blocks gives the same beats with the same confidence."""
    wave, _ = _ecg(20.0, noise_mv=0.05, seed=seed)
    usable = np.ones(wave.shape, dtype=np.bool_)
    usable[0, 1500:2200] = False
    whole = QrsDetector(2).push(wave, usable)
    detector = QrsDetector(2)
    beats: list[Beat] = []
    edges = np.minimum(np.cumsum([0, *cuts, wave.shape[1]]), wave.shape[1])
    for a, b in pairwise(edges.tolist()):
        beats += detector.push(wave[:, a:b], usable[:, a:b])
    assert beats == whole
    assert len(whole) > 15


def test_single_samples_give_the_beats_in_time_and_in_order() -> None:
    """Fed sample by sample, each beat is revealed within MAX_DELAY_S of its R peak, in increasing order."""
    wave, _ = _ecg(15.0, noise_mv=0.03)
    detector = QrsDetector(2)
    usable = np.ones((2, 1), dtype=np.bool_)
    revealed = []
    for k in range(wave.shape[1]):
        revealed += [(beat.index, k) for beat in detector.push(wave[:, k : k + 1], usable)]
    assert len(revealed) > 12
    assert max(k - index for index, k in revealed) <= QrsDetector.MAX_DELAY_S * RATE_HZ
    indices = [index for index, _ in revealed]
    assert indices == sorted(set(indices))
    assert [beat.index for beat in QrsDetector(2).push(wave, np.ones(wave.shape, dtype=np.bool_))] == indices


@pytest.mark.parametrize("level_mv", [0.0, 1.3, -300.0])
def test_a_flat_wave_has_no_beats(level_mv: float) -> None:
    """A constant wave, whatever its offset, gives no beat."""
    assert _run(QrsDetector(2), np.full((2, 5000), level_mv, dtype=np.float32)) == []


def test_converter_noise_has_no_beats() -> None:
    """A few microvolts of noise on a flat line are not taken for a rhythm."""
    noise = np.random.default_rng(3).normal(0.0, 0.004, (2, 15_000)).astype(np.float32)
    assert _run(QrsDetector(2), noise) == []


def test_unusable_leads_give_no_beats() -> None:
    """Where no lead is usable no beat comes out, whatever the samples hold."""
    wave, _ = _ecg(10.0)
    assert _run(QrsDetector(2), wave, np.zeros(wave.shape, dtype=np.bool_)) == []
    held = wave.copy()
    held[:, 700:1900] = np.nan
    usable = np.isfinite(held)
    beats = _run(QrsDetector(2), held, usable)
    assert [b for b in beats if 700 <= b.index < 1900] == []
    assert beats


def test_one_good_lead_is_enough() -> None:
    """A lead that comes off takes no part: the other lead's beats are all found, and nothing false."""
    wave, peaks = _ecg(40.0)
    usable = np.ones(wave.shape, dtype=np.bool_)
    off = slice(15 * RATE_HZ, 25 * RATE_HZ)
    usable[0, off] = False
    wave[0, off] = np.random.default_rng(4).normal(0.0, 2.0, 10 * RATE_HZ)
    beats = [beat for beat in _run(QrsDetector(2), wave, usable) if beat.index > 3 * RATE_HZ]
    peaks = peaks[peaks > 3 * RATE_HZ]
    assert _found(peaks[peaks < 39 * RATE_HZ], beats)[0] == (peaks < 39 * RATE_HZ).sum()
    assert _found(peaks, beats)[1] == 0


def test_beats_resume_after_lead_off() -> None:
    """Within two seconds of both leads' return the beats come again."""
    wave, peaks = _ecg(40.0)
    usable = np.ones(wave.shape, dtype=np.bool_)
    usable[:, 15 * RATE_HZ : 25 * RATE_HZ] = False
    wave[:, 15 * RATE_HZ : 25 * RATE_HZ] = wave[:, 15 * RATE_HZ - 1 : 15 * RATE_HZ]
    beats = _run(QrsDetector(2), wave, usable)
    after = peaks[(peaks > 27 * RATE_HZ) & (peaks < 39 * RATE_HZ)]
    assert _found(after, beats)[0] == after.size


def test_reset_forgets_the_past_and_keeps_counting() -> None:
    """After a reset the beats are those of a fresh detector, shifted by the samples before (or to the given index)."""
    wave, _ = _ecg(12.0)
    usable = np.ones(wave.shape, dtype=np.bool_)
    fresh = [beat.index for beat in QrsDetector(2).push(wave, usable)]
    detector = QrsDetector(2)
    detector.push(wave[:, :1777] * 3.0, usable[:, :1777])
    detector.reset()
    assert [beat.index - 1777 for beat in detector.push(wave, usable)] == fresh
    detector.reset(next_index=0)
    assert [beat.index for beat in detector.push(wave, usable)] == fresh


def test_the_end_of_a_record_can_be_flushed() -> None:
    """Flush gives the beats whose look-ahead the record's end cut off, and none after the end."""
    wave, peaks = _ecg(20.0)
    wave = wave[:, : peaks[-1] + 30]
    detector = QrsDetector(2)
    pushed = _run(detector, wave)
    flushed = detector.flush()
    assert [beat.index for beat in flushed] == pytest.approx([peaks[-1]], abs=4)
    assert all(beat.index < flushed[0].index for beat in pushed)
    assert QrsDetector(2).flush() == []


def test_a_pause_is_not_filled_with_p_waves() -> None:
    """Where the beats stop and small waves go on, no beat is found; when they come back they are found again."""
    wave, peaks = _ecg(40.0)
    t = np.arange(wave.shape[1]) / RATE_HZ
    pause = slice(20 * RATE_HZ, 26 * RATE_HZ)
    small = 0.03 * np.exp(-0.5 * (((t[pause] % 0.7) - 0.3) / 0.03) ** 2)
    wave[:, pause] = wave[:, pause.start - 1 : pause.start] + small.astype(np.float32)
    at = [beat.index for beat in _run(QrsDetector(2), wave)]
    assert [k for k in at if pause.start + 25 <= k < pause.stop - 25] == []
    after = peaks[(peaks > 27 * RATE_HZ) & (peaks < 39 * RATE_HZ)]
    assert set(np.searchsorted(at, after + 6) - np.searchsorted(at, after - 6)) == {1}


def test_trees_survive_their_file_and_refuse_other_features() -> None:
    """Written trees read back as they were; trees for other features are a ValueError."""
    trees = shipped_trees()
    data = write_trees(trees)
    back = read_trees(data)
    assert write_trees(back) == data
    np.testing.assert_array_equal(back.leaf, trees.leaf)
    with np.load(io.BytesIO(data)) as arrays:
        other = io.BytesIO()
        np.savez(other, **{**arrays, "names": arrays["names"][::-1]})
    with pytest.raises(ValueError, match="train them again"):
        read_trees(other.getvalue())


@pytest.mark.parametrize(("name", "least"), [("119", 0.995), ("203", 0.97)])
def test_real_records_stay_above_their_floor(mitdb: Path, name: str, least: float) -> None:
    """Twelve minutes of a clean and of a difficult MIT-BIH record keep their sensitivity and PPV (150 ms)."""

    def read(file: str) -> bytes:
        return (mitdb / file).read_bytes()

    record = read_record(name, read)
    notes = read_annotations(name, "atr", read, rate_hz=record.rate_hz)
    n = 12 * 60 * 360
    wave = Resampler(record.rate_hz, 2).push(record.samples[:, :n])
    detector = QrsDetector(2)
    at = np.asarray([beat.index for beat in _run(detector, wave, block=2500) + detector.flush()])
    true = np.asarray([s for s, c in zip(notes.sample, notes.symbol, strict=True) if c in AAMI_OF_SYMBOL]) * 250 / 360
    true, at = true[(true > 1000) & (true < wave.shape[1])], at[at > 1000]
    near = np.abs(true[:, None] - at[None, :]) <= 37
    assert near.any(axis=1).mean() >= least
    assert near.any(axis=0).mean() >= least


def test_wrong_shapes_and_rates_are_refused() -> None:
    """A block of another shape, or another rate than 250 Hz, is an InputError."""
    with pytest.raises(InputError):
        QrsDetector(2, 360)
    with pytest.raises(InputError):
        QrsDetector(0)
    with pytest.raises(InputError):
        QrsDetector(2).push(np.zeros((1, 5), dtype=np.float32), np.ones((1, 5), dtype=np.bool_))
