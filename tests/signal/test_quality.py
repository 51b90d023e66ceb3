"""Raw lead checks and the flags of a window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.signal import quality
from edgeward.signal.quality import FLAT, GAP, LEAD_OFF, SATURATED, Flag, SampleQuality, window_flags

RATE_HZ = 250


def ecg(seconds: float, rate_hz: float = RATE_HZ, *, noise_mv: float = 0.01, seed: int = 1) -> np.ndarray:
    """A plain ECG-like wave (n,) in mV with one beat a second."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = np.zeros_like(time_s)
    for centre, width, height in ((0.35, 0.02, 0.15), (0.48, 0.008, -0.1), (0.5, 0.010, 1.2), (0.8, 0.04, 0.3)):
        wave += height * np.exp(-0.5 * ((time_s % 1.0 - centre) / width) ** 2)
    return (wave + noise_mv * np.random.default_rng(seed).standard_normal(time_s.size)).astype(np.float32)


def leads(*waves: np.ndarray) -> np.ndarray:
    return np.stack(waves).astype(np.float32)


def flags_of(raw: np.ndarray, rate_hz: float = RATE_HZ, limits_mv: tuple[float, float] | None = None) -> np.ndarray:
    return SampleQuality(rate_hz, raw.shape[0], limits_mv).push(raw)[2]


def test_a_good_ecg_has_no_flag() -> None:
    """A clean ECG quantised to 5 µV is usable from the first sample to the last."""
    wave = np.round(ecg(20, 360) * 200) / 200
    clean, usable, flags = SampleQuality(360, 1, (-5.12, 5.115)).push(leads(wave))
    assert usable.all()
    assert not flags.any()
    np.testing.assert_array_equal(clean[0], wave.astype(np.float32))


def test_a_noiseless_slow_rhythm_is_not_flat() -> None:
    """A simulated 60/min rhythm whose baseline repeats one value for half a second is not called flat."""
    wave = np.round(ecg(20, noise_mv=0.0) * 200) / 200
    assert not flags_of(leads(wave)).any()


def test_a_missing_value_is_a_gap_and_the_last_good_value_is_held() -> None:
    """NaN becomes the value before it and is not usable."""
    wave = ecg(2)
    raw = wave.copy()
    raw[100:110] = np.nan
    clean, usable, flags = SampleQuality(RATE_HZ, 1).push(leads(raw))
    assert (clean[0, 100:110] == wave[99]).all()
    assert (flags[0, 100:110] == GAP).all()
    assert usable[0].sum() == wave.size - 10


def test_missing_before_the_first_value_is_zero() -> None:
    """Before anything arrived the wave is zero and not usable."""
    clean, usable, _ = SampleQuality(RATE_HZ, 2).push(np.full((2, 7), np.nan, dtype=np.float32))
    assert not clean.any()
    assert not usable.any()


def test_one_missing_lead_is_off_and_all_missing_leads_are_a_gap() -> None:
    """A lead that its monitor blanks while others arrive is off; a lost stretch of all leads is only a gap."""
    raw = leads(ecg(6), ecg(6, seed=2))
    raw[0, 250:750] = np.nan
    raw[:, 1000:1250] = np.nan
    flags = flags_of(raw)
    assert flags[0, 740] == GAP | LEAD_OFF
    assert not flags[1, :1000].any()
    assert (flags[:, 1000:1250] == GAP).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, 300.0, -51.0])
def test_values_that_no_ecg_has_are_refused(value: float) -> None:
    """Infinity and values beyond ±50 mV are never handed on."""
    raw = leads(ecg(2))
    raw[0, 50] = value
    clean, usable, _ = SampleQuality(RATE_HZ, 1).push(raw)
    assert not usable[0, 50]
    assert clean[0, 50] == raw[0, 49]


def test_a_repeated_value_is_flat_after_a_second() -> None:
    """A lead that stops moving is flagged one second later, and clear again once it moves."""
    raw = leads(ecg(8))
    raw[0, 500:1500] = raw[0, 500]
    flags = flags_of(raw)
    assert not flags[0, : 500 + RATE_HZ].any()
    assert (flags[0, 502 + RATE_HZ : 1500] == FLAT).all()
    assert not flags[0, 1500 + RATE_HZ :].any()


def test_a_lead_that_moves_by_less_than_its_noise_floor_is_flat() -> None:
    """A converter that dithers by a microvolt does not hide that the lead is dead."""
    dead = 0.001 * np.random.default_rng(3).standard_normal(5 * RATE_HZ)
    flags = flags_of(leads(dead, ecg(5)))
    assert (flags[0, 2 * RATE_HZ :] == FLAT).all()
    assert not flags[1].any()


def test_a_known_rail_is_saturated_at_once_and_off_after_a_second() -> None:
    """Clipping is flagged sample by sample; an input that stays at the rail is an electrode that is off."""
    raw = leads(ecg(6))
    raw[0, 300:303] = 5.115
    raw[0, 600:1200] = -5.12
    flags = flags_of(raw, limits_mv=(-5.12, 5.115))
    assert (flags[0, 300:303] == SATURATED).all()
    assert not flags[0, 303:600].any()
    assert (flags[0, 600:1200] & SATURATED).all()
    assert (flags[0, 600 + RATE_HZ : 1200] & LEAD_OFF).all()


def test_an_unknown_rail_shows_itself_by_a_held_extreme() -> None:
    """Without stated rails a value held at the largest value seen is saturated."""
    raw = leads(np.clip(ecg(10) + 3.0 * np.sin(np.arange(2500) / 150), -5.0, 2.5))
    flags = flags_of(raw)
    held = np.flatnonzero(raw[0] >= 2.5)
    assert (flags[0, held] & SATURATED).mean() > 0.8 * SATURATED
    assert not (flags[0, raw[0] < 2.5] & SATURATED).any()


def test_mains_only_is_lead_off() -> None:
    """A floating input that shows nothing but 50 Hz is off; a lead with some mains on its ECG is not."""
    mains = np.sin(2 * np.pi * 50 * np.arange(6 * 500) / 500)
    flags = flags_of(leads(4 * mains + 0.1 * ecg(6, 500), ecg(6, 500) + 0.2 * mains), 500)
    assert (flags[0, 600:] & LEAD_OFF).all()
    assert not flags[1].any()


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    limits=st.sampled_from([None, (-2.0, 2.0)]),
    seed=st.integers(0, 1000),
)
def test_how_samples_are_cut_into_blocks_changes_nothing(
    cuts: list[int], limits: tuple[float, float] | None, seed: int
) -> None:
    """Any partition of the same samples gives the same clean wave and the same flags."""
    rng = np.random.default_rng(seed)
    raw = np.round(rng.standard_normal((3, 1500)).cumsum(axis=1) * 8) / 50
    for _ in range(6):
        lead, start, length = rng.integers(3), rng.integers(1500), rng.integers(500)
        raw[lead, start : start + length] = rng.choice([np.nan, raw[lead, start], 60.0, 2.0, -2.5])
    raw = np.clip(raw, -2.5, 60.0).astype(np.float32)
    whole = SampleQuality(100, 3, limits).push(raw)
    stream = SampleQuality(100, 3, limits)
    parts, start = [], 0
    for cut in (*cuts, 1500):
        parts.append(stream.push(raw[:, start : start + cut]))
        start += cut
    for expected, got in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(expected, np.concatenate(got, axis=1))


def test_one_spike_does_not_hide_a_rail_for_ever() -> None:
    """Extremes are forgotten after a minute, so clipping below an old spike is seen again."""
    wave = np.clip(ecg(120, 100) + 3.0 * np.sin(np.arange(12000) / 60), -5.0, 2.5)
    wave[200] = 20.0
    flags = flags_of(leads(wave), 100)
    late = np.flatnonzero(wave[9000:] >= 2.5) + 9000
    assert (flags[0, late] & SATURATED).mean() > 0.8 * SATURATED


def test_reset_forgets() -> None:
    """After a reset the same samples give the same answer as at the start."""
    raw = leads(ecg(3), np.zeros(750))
    stream = SampleQuality(RATE_HZ, 2)
    first = stream.push(raw)
    stream.reset()
    for expected, got in zip(first, stream.push(raw), strict=True):
        np.testing.assert_array_equal(expected, got)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "limits"),
    [(50, 1, None), (250, 0, None), (250, 99, None), (250, 1, (1.0, -1.0)), (250, 1, (float("nan"), 1.0))],
)
def test_impossible_settings_are_refused(rate_hz: float, channels: int, limits: tuple[float, float] | None) -> None:
    """A rate, lead count or rail that cannot be is refused at construction."""
    with pytest.raises(ValueError):
        SampleQuality(rate_hz, channels, limits)


def test_samples_of_another_shape_are_refused() -> None:
    """A block with the wrong number of leads is refused."""
    with pytest.raises(ValueError):
        SampleQuality(250, 2).push(np.zeros((3, 4), dtype=np.float32))


# --- windows


def window(noise_mv: float, seed: int = 1) -> np.ndarray:
    return leads(ecg(1.0, noise_mv=noise_mv, seed=seed))


def test_a_clean_window_may_be_judged() -> None:
    """A beat on a quiet baseline has no flag."""
    wave = window(0.01)
    assert window_flags(wave, np.ones(wave.shape, dtype=bool)) == (None,)


@pytest.mark.parametrize(("noise_mv", "expected"), [(0.2, None), (1.2, Flag.NOISE)])
def test_noise_is_flagged_when_it_buries_the_complex(noise_mv: float, expected: Flag | None) -> None:
    """A 1.2 mV complex stands out of 0.2 mV of noise and drowns in 1.2 mV."""
    for seed in range(20):
        wave = window(noise_mv, seed)
        assert window_flags(wave, np.ones(wave.shape, dtype=bool)) == (expected,)


def test_small_complexes_on_a_quiet_lead_are_not_noise() -> None:
    """A low-voltage lead with converter noise only stays usable."""
    wave = 0.1 * window(0.05)
    assert window_flags(wave, np.ones(wave.shape, dtype=bool)) == (None,)


def test_a_moved_electrode_is_noise() -> None:
    """A step of the baseline beyond what a heart makes is flagged."""
    wave = window(0.01)
    wave[0, 180:] += 6.0
    assert window_flags(wave, np.ones(wave.shape, dtype=bool)) == (Flag.NOISE,)


def test_the_reason_is_the_one_that_explains_most() -> None:
    """Each lead answers for itself, and lead-off stands before the rest."""
    wave = np.repeat(window(0.01), 6, axis=0)
    wave[4] = 0.5
    flags = np.zeros(wave.shape, dtype=np.uint8)
    flags[0, :80] = GAP | LEAD_OFF
    flags[1, :80] = GAP
    flags[2, :80] = SATURATED
    flags[3, :20] = SATURATED  # 80 ms of clipped peak is not the window's end
    expected = (Flag.LEAD_OFF, Flag.GAP, Flag.SATURATED, None, Flag.FLAT, None)
    assert window_flags(wave, flags == 0, flags) == expected
    without = window_flags(wave, flags == 0)
    assert without == (Flag.GAP, Flag.GAP, Flag.GAP, None, Flag.FLAT, None)


def test_a_window_too_short_to_measure_noise_is_judged_by_the_rest() -> None:
    """Below 200 ms only the sample flags and movement count."""
    wave = window(0.5)[:, :40]
    assert window_flags(wave, np.ones(wave.shape, dtype=bool)) == (None,)
    assert window_flags(wave, np.zeros(wave.shape, dtype=bool)) == (Flag.GAP,)
    assert quality.noise_ratio(wave)[0] == 0.0


def test_wave_and_usable_must_agree() -> None:
    """Shapes that differ are refused."""
    with pytest.raises(ValueError):
        window_flags(np.zeros((2, 100), dtype=np.float32), np.ones((1, 100), dtype=bool))
