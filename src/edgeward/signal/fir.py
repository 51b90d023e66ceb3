"""Windowed-sinc filter design in plain numpy (device code has no scipy)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]


def kaiser_beta(attenuation_db: float) -> float:
    """Kaiser window shape for a stop-band attenuation (Kaiser 1974; valid above 21 dB)."""
    if attenuation_db > 50.0:
        return 0.1102 * (attenuation_db - 8.7)
    excess = max(attenuation_db - 21.0, 0.0)
    return 0.5842 * math.pow(excess, 0.4) + 0.07886 * excess


def kaiser_half_width(transition_hz: float, rate_hz: float, attenuation_db: float) -> int:
    """Samples on each side of the centre that a windowed sinc needs for this transition band."""
    order = (attenuation_db - 7.95) / (2.285 * 2.0 * math.pi * transition_hz / rate_hz)
    return max(math.ceil(order / 2.0), 1)


def sinc_kernel(offset: Float64Array, cutoff_hz: float, rate_hz: float, half_width: float, beta: float) -> Float64Array:
    """Kaiser-windowed low-pass impulse response at ``offset`` samples from its centre, zero beyond ``half_width``.

    The response is continuous in ``offset``, so a filter bank for any fraction of a sample is drawn from it.
    """
    ratio = 2.0 * cutoff_hz / rate_hz
    inside = np.clip(1.0 - (offset / half_width) ** 2, 0.0, None)
    window = np.i0(beta * np.sqrt(inside)) / np.i0(beta)
    window = np.where(np.abs(offset) <= half_width, window, 0.0)
    return np.asarray(ratio * np.sinc(ratio * offset) * window, dtype=np.float64)
