"""Front end of the QRS detector: bands, envelopes and running levels of each lead, fused into one curve.

Everything here is the same bits however the wave is cut into blocks: the wave is rounded to 0.1 µV and the taps to
integers, so that every product and sum is exact in float64 whatever its order, and what is not exact runs on a fixed
grid of hops.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.fir import kaiser_beta, sinc_kernel

if TYPE_CHECKING:
    from edgeward.signal.window import FloatArray

Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

RATE_HZ = 250
HOP = 12
"""Samples between two looks of the detector (48 ms)."""
HALF = 33
"""Filter delay in samples: a band value at t needs the wave up to t + HALF (132 ms)."""
WAVE, QRS, WIDE, STEEP = range(4)
"""Rows of the bands: cleaned wave (mV); envelopes at 12.5 Hz (QRS), 6.5 Hz (wide complexes, T waves), 30 Hz (slope)."""
ROWS = 4
CAPACITY = 4 * RATE_HZ
"""Samples of history the detector can look back on."""

_TAPS = 2 * HALF + 1
_UNIT_PER_MV = 10_000.0
_LIMIT_MV = 1_000.0
_TAP_SCALE = 16_384.0
_STAT_HOPS = 5  # levels are renewed every 60 samples (240 ms)
_STAT_BLOCKS = 34  # over the last 8.2 s
_PEAK_BLOCKS = 6  # one QRS at least falls in 1.5 s at 40 beats/min
_WIDE_SHARE = 0.5
_FLOOR_MV = 0.02  # envelope below which nothing is a QRS (EC57 asks for 0.15 mV peak to peak and more)


def _band_taps() -> Float64Array:
    """Integer taps of all filters (taps, 7): wave, then real and imaginary part of three Gabor bands."""
    t = np.arange(-HALF, HALF + 1, dtype=np.float64)
    smooth = sinc_kernel(t, 35.0, RATE_HZ, 16.0, kaiser_beta(50.0))
    slow = np.hanning(_TAPS + 2)[1:-1]
    columns = [smooth / smooth.sum() - slow / slow.sum()]
    for centre_hz, sigma_s in ((12.5, 0.030), (6.5, 0.050), (30.0, 0.014)):
        bell = np.exp(-0.5 * (t / (sigma_s * RATE_HZ)) ** 2) * np.hanning(_TAPS + 2)[1:-1] ** 0.25
        phase = 2.0 * math.pi * centre_hz * t / RATE_HZ
        real, imaginary = bell * np.cos(phase), bell * np.sin(phase)
        gain = 2.0 / bell.sum()
        columns += [gain * (real - bell * (real.sum() / bell.sum())), gain * imaginary]
    taps = np.round(np.stack(columns, axis=1) * _TAP_SCALE)
    taps[HALF] -= taps.sum(axis=0)  # exactly no response to a constant
    return np.asarray(taps, dtype=np.float64)


_BAND_TAPS = _band_taps()


class BandFilter:
    """Streaming bank of exact FIR filters; output lags the wave by ``HALF`` samples."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._held: Float64Array | None = None  # (C, 2·HALF)
        self._held_usable = np.zeros((channels, 2 * HALF), dtype=np.bool_)

    def push(self, samples: FloatArray, usable: BoolArray) -> tuple[Float64Array, BoolArray]:
        """Bands (C, ROWS, n) in mV and whether all samples behind each value were usable (C, n)."""
        clean = np.where(np.isfinite(samples), samples, 0.0)
        units = np.rint(np.clip(clean, -_LIMIT_MV, _LIMIT_MV).astype(np.float64) * _UNIT_PER_MV)
        if self._held is None:
            self._held = np.repeat(units[:, :1], 2 * HALF, axis=1)
            self._held_usable[:] = usable[:, :1]
        x = np.concatenate((self._held, units), axis=1)
        ok = np.concatenate((self._held_usable, usable & np.isfinite(samples)), axis=1)
        n = units.shape[1]
        self._held, self._held_usable = x[:, n:].copy(), ok[:, n:].copy()
        windows = np.lib.stride_tricks.sliding_window_view(x, _TAPS, axis=1)  # (C, n, taps)
        y = (windows @ _BAND_TAPS) / (_UNIT_PER_MV * _TAP_SCALE)  # (C, n, 7)
        bands = np.empty((self._channels, ROWS, n))
        bands[:, WAVE] = y[..., 0]
        for row in (QRS, WIDE, STEEP):
            real, imaginary = y[..., 2 * row - 1], y[..., 2 * row]
            bands[:, row] = np.sqrt(real * real + imaginary * imaginary)
        bad = np.cumsum(~ok, axis=1, dtype=np.int64)
        bad = np.concatenate((np.zeros((self._channels, 1), dtype=np.int64), bad), axis=1)
        return bands, (bad[:, _TAPS:] - bad[:, :-_TAPS]) == 0


class Levels:
    """Running beat level and noise level of each lead, from the envelope alone (no decision feeds back)."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._peaks: list[list[float]] = [[] for _ in range(channels)]
        self._hops: list[tuple[Float64Array, BoolArray]] = []
        self.level = np.zeros(channels)
        """Envelope at a typical QRS, mV; 0 while unknown."""
        self.noise = np.zeros(channels)
        """Envelope between beats, mV."""
        self._weights = np.zeros((channels, 1))
        self._inverse = np.zeros((channels, 1))

    def push_hop(self, envelope: Float64Array, usable: BoolArray) -> None:
        """Take one hop of envelopes (C, HOP), zero where not ``usable``."""
        self._hops.append((envelope, usable))
        if len(self._hops) < _STAT_HOPS:
            return
        peaks = np.concatenate([hop[0] for hop in self._hops], axis=1).max(axis=1).tolist()
        usable_all = np.asarray(np.concatenate([hop[1] for hop in self._hops], axis=1).all(axis=1))  # (C,)
        self._hops = []
        for c in range(self._channels):
            if usable_all[c]:
                self._renew(c, peaks[c])
        ratio = np.clip(self.level / np.maximum(self.noise, 1e-6) - 1.0, 0.1, 20.0)
        self._weights = np.where(self.level > 0.0, ratio * ratio, 0.0)[:, None]
        self._inverse = 1.0 / np.maximum(self.level, _FLOOR_MV)[:, None]

    def _renew(self, c: int, peak: float) -> None:
        peaks = self._peaks[c]
        peaks.append(peak)
        del peaks[:-_STAT_BLOCKS]
        span = min(_PEAK_BLOCKS, len(peaks))
        tops = sorted(max(peaks[i : i + span]) for i in range(len(peaks) - span + 1))
        self.level[c] = max(tops[len(tops) // 2], 1e-6)
        self.noise[c] = max(sorted(peaks)[len(peaks) // 4], 1e-6)

    def fuse(self, envelope: Float64Array, usable: BoolArray) -> tuple[Float64Array, Float64Array]:
        """One curve (n,) of the leads' envelopes over their own level, and each lead's share in it (C, n).

        A lead's share grows with its beat-to-noise ratio; it is 0 while its level is unknown or it is not usable.
        """
        share = self._weights * usable
        share /= np.maximum(share.sum(axis=0), 1e-12)
        return (share * (envelope * self._inverse)).sum(axis=0), share


def combined(bands: Float64Array) -> Float64Array:
    """Envelope for narrow and wide complexes alike (C, n)."""
    return np.asarray(bands[:, QRS] + _WIDE_SHARE * bands[:, WIDE])
