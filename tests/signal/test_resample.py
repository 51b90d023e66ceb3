"""The streaming resampler: exact index mapping, flat pass band, no aliases, the same result for any blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.signal.resample import Resampler

RATES_HZ = [360.0, 257.0, 128.0, 1000.0, 500.0, 977.0, 200.0, 240.0, 499.97, 333.3337]


def _sine(hz: float, rate_hz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)[None].astype(np.float32)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_sine_in_the_pass_band_keeps_its_place_in_time(rate_hz: float) -> None:
    """Output sample k is the source wave at time k / 250 s, to a thousandth, for any source rate."""
    hz = 0.3 * min(rate_hz, 250.0)
    out = Resampler(rate_hz, 1).push(_sine(hz, rate_hz, 4.0))
    k = np.arange(out.shape[1])
    expected = np.sin(2 * np.pi * hz * k / 250.0)
    assert out.shape[1] > 900
    np.testing.assert_allclose(out[0, 100:], expected[100:], atol=1.5e-3)


@pytest.mark.parametrize("rate_hz", [360.0, 500.0, 977.0, 1000.0])
def test_what_would_fold_into_the_pass_band_is_gone(rate_hz: float) -> None:
    """A tone above 150 Hz leaves at most a thousandth of itself at 250 Hz."""
    out = Resampler(rate_hz, 1).push(_sine(155.0, rate_hz, 3.0))
    assert np.abs(out[0, 100:]).max() < 1e-3


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_baseline_offset_passes_unchanged(rate_hz: float) -> None:
    """A constant comes out as the same constant from the first sample on."""
    out = Resampler(rate_hz, 2).push(np.full((2, 2000), 1.75, dtype=np.float32))
    np.testing.assert_allclose(out, 1.75, atol=1e-5)


def test_equal_rates_change_nothing() -> None:
    """At 250 Hz every sample comes back at once and as it was."""
    wave = np.random.default_rng(1).normal(size=(2, 77)).astype(np.float32)
    resampler = Resampler(250.0, 2)
    np.testing.assert_array_equal(resampler.push(wave), wave)
    assert resampler.delay_samples_in == 0
    assert resampler.to_source(31) == 31


@given(
    rate_hz=st.sampled_from(RATES_HZ),
    cuts=st.lists(st.integers(1, 300), min_size=1, max_size=25),
    channels=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_blocks_do_not_change_the_result(rate_hz: float, cuts: list[int], channels: int) -> None:
    """Any cutting of the source into blocks gives the same bits as one block."""
    wave = np.random.default_rng(2).normal(size=(channels, sum(cuts))).astype(np.float32)
    resampler = Resampler(rate_hz, channels)
    edges = np.cumsum([0, *cuts])
    parts = [resampler.push(wave[:, a:b]) for a, b in pairwise(edges.tolist())]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), Resampler(rate_hz, channels).push(wave))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_output_waits_no_longer_than_it_says(rate_hz: float) -> None:
    """Fed one sample at a time, the output for time t is there delay_samples_in source samples after t."""
    resampler = Resampler(rate_hz, 1)
    wave = np.zeros((1, 1), dtype=np.float32)
    made = 0
    for newest in range(400):
        made += resampler.push(wave).shape[1]
        due = int((newest - resampler.delay_samples_in) * 250.0 / rate_hz)
        assert made >= due
        assert made <= (newest + 1) * 250.0 / rate_hz + 1


def test_output_indices_map_to_source_samples() -> None:
    """Output sample k at 250 Hz is nearest to source sample round(k · rate / 250)."""
    resampler = Resampler(360.0, 1)
    assert [resampler.to_source(k) for k in (0, 1, 25, 26, 250, 449_999)] == [0, 1, 36, 37, 360, 647_999]


@pytest.mark.parametrize(("rate_hz", "channels"), [(0.0, 1), (-5.0, 1), (360.0, 0), (1e6, 1), (float("nan"), 1)])
def test_a_rate_that_cannot_be_is_refused(rate_hz: float, channels: int) -> None:
    """A rate or channel count outside the supported range is an InputError."""
    with pytest.raises(InputError):
        Resampler(rate_hz, channels)


def test_a_wave_with_another_channel_count_is_refused() -> None:
    """A block with the wrong number of channels is an InputError, not a wrong answer."""
    with pytest.raises(InputError):
        Resampler(360.0, 2).push(np.zeros((1, 10), dtype=np.float32))
