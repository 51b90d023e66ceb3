"""What the windower remembers for minutes: the heart's own beat, what shapes usually do, and where P waves lie."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.signal.atrial import P_NAMES
from edgeward.signal.habits import HABIT_BEATS, Deed, Habits
from edgeward.signal.home import HOME_NAMES
from edgeward.signal.preprocess import BeatWindow, BeatWindower, BeatWindowSpec

SPEC = BeatWindowSpec()
RATE = SPEC.rate_hz
NAMES = SPEC.rhythm_names


def heart(intervals_s: list[float], odd: set[int], no_p: set[int] = frozenset()) -> tuple[np.ndarray, list[int]]:
    """Two leads; beats in ``odd`` are wide and upside down, those in ``no_p`` have no P wave."""
    beats = list(np.round(np.cumsum([1.0, *intervals_s]) * RATE).astype(int))
    time = np.arange(beats[-1] + 3 * RATE)
    wave = 0.005 * np.random.default_rng(3).normal(size=(2, time.size))
    for k, at in enumerate(beats):
        if k in odd:
            shape = -1.5 * np.exp(-0.5 * ((time - at) / np.where(time < at, 9, 16)) ** 2)
        else:
            shape = np.exp(-0.5 * ((time - at) / 4) ** 2) + 0.25 * np.exp(-0.5 * ((time - at - 65) / 15) ** 2)
            if k not in no_p:
                shape += 0.15 * np.exp(-0.5 * ((time - at + 40) / 6) ** 2)
        wave += np.array([[1.0], [-0.6]]) * shape
    return wave.astype(np.float32), beats


def run(wave: np.ndarray, beats: list[int]) -> list[BeatWindow]:
    windower = BeatWindower(SPEC)
    out: list[BeatWindow] = []
    k = 0
    for start in range(0, wave.shape[1], 50):
        windower.push(wave[:, start : start + 50])
        while k < len(beats) and beats[k] + 125 <= start + 50:
            windower.beat(beats[k])
            k += 1
        out += windower.ready()
    return out + windower.drain()


def feature(window: BeatWindow, name: str) -> float:
    return float(window.rhythm[NAMES.index(name)])


def test_a_run_that_lasts_does_not_become_the_hearts_own_beat() -> None:
    """After a hundred wide beats the running average is one of them; the home, its rate and its wave are not."""
    intervals = [0.8] * 150 + [0.5] * 100
    wave, beats = heart(intervals, odd=set(range(151, 251)))
    found = run(wave, beats)
    late = found[240]
    assert feature(late, "qrs_corr") > 0.9
    assert feature(late, "home_corr") < 0.3
    assert feature(late, "home_width") > 0.3
    assert feature(late, "pre_vs_32") == pytest.approx(0.0, abs=0.05)
    assert feature(late, "pre_vs_long") == pytest.approx(np.log(0.5 / 0.8), abs=0.05)
    assert feature(late, "away_run") > feature(found[160], "away_run") > 0.0
    assert np.corrcoef(late.wave[2, 150:300], found[140].wave[0, 150:300])[0, 1] > 0.9
    assert feature(found[140], "home_corr") > 0.95


def test_a_heart_that_changes_for_good_gets_a_new_home() -> None:
    """What has been there for many minutes is the heart's own beat, whatever was before."""
    wave, beats = heart([0.5] * 580, odd=set(range(40, 581)))
    found = run(wave, beats)
    assert feature(found[300], "home_corr") < 0.3
    assert feature(found[-5], "home_corr") > 0.9


def test_shapes_are_known_by_what_they_did() -> None:
    """A wide shape that came early before is expected to; the usual one is not; an unseen one has no habits."""
    intervals, odd = [], set()
    for k in range(1, 100):
        intervals.append(0.5 if k % 8 == 0 else 1.1 if k % 8 == 1 and k > 1 else 0.8)
        if k % 8 == 0:
            odd.add(k)
    wave, beats = heart(intervals, odd)
    found = run(wave, beats)
    ectopic, usual, first = found[96], found[94], found[8]
    assert feature(ectopic, "habit_early_share") == 1.0
    assert feature(ectopic, "habit_early") < -0.3
    assert feature(ectopic, "habit_late") > 0.2
    assert feature(usual, "habit_early_share") < 0.1
    assert feature(usual, "habit_share") > feature(ectopic, "habit_share") > 0.0
    assert feature(first, "habit_share") == 0.0
    assert feature(first, "habit_since") == 1.0


def test_habits_forget_the_oldest_and_on_demand() -> None:
    """The memory holds HABIT_BEATS beats, and nothing after a reset."""
    habits = Habits(2)
    east, north = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
    deed = Deed(-0.5, 0.3, 0.9, 0.1, 0.0)
    habits.add(east, deed)
    assert habits.features(east)[1] == pytest.approx(-0.5)
    for _ in range(HABIT_BEATS):
        habits.add(north, deed)
    assert habits.features(east)[0] == 0.0
    habits.reset()
    assert not any(habits.features(north))


def test_a_p_wave_is_found_where_it_is() -> None:
    """With its usual P wave a beat shows it at its usual place; without one, little is found."""
    wave, beats = heart([0.8] * 60, odd=set(), no_p={50})
    found = run(wave, beats)
    assert feature(found[45], "p_found") > 0.9
    assert abs(feature(found[45], "p_place")) < 0.1
    assert feature(found[50], "p_size") < -1.0
    assert feature(found[50], "p_found") < feature(found[45], "p_found")


def test_a_p_wave_on_the_t_wave_before_is_told_apart() -> None:
    """An early beat's P wave lies on a T wave: what is left after the known T wave is the P wave."""
    intervals = [0.8] * 60
    intervals[49] = 0.45
    with_p = run(*heart(intervals, odd=set()))[50]
    without = run(*heart(intervals, odd=set(), no_p={50}))[50]
    assert feature(with_p, "p_found") > 0.8
    assert feature(with_p, "p_size") > feature(without, "p_size") + 0.5


def test_names_stand_in_the_spec_once() -> None:
    """Every feature has its own name."""
    assert len(set(NAMES)) == len(NAMES)
    assert {*P_NAMES, *HOME_NAMES} <= set(NAMES)
