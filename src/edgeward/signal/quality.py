"""Lead quality: raw checks on every sample at the source rate, and the verdict on a window before a model sees it.

Two questions, two places:

* ``SampleQuality`` asks of each *sample* whether its lead was connected and inside the converter's range. It sees the
  source's own rate and amplitude, because resampling hides repeated values and clipping.
* ``window_flags`` asks of a *window* whether a QRS complex in it can be judged, and gives the reason when it cannot.

Every constant stands here with its reason. Figures marked MIT-BIH were measured on 26 records of the MIT-BIH
Arrhythmia Database (Moody & Mark 2001): 200 units per mV, so that quiet stretches repeat values.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.limits import ECG_ABS_MAX_MV, LEADS_MAX, MODEL_RATE_HZ, RATE_HZ_MAX, RATE_HZ_MIN

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
MaskArray = npt.NDArray[np.uint8]
_IntArray = npt.NDArray[np.int64]


class Flag(StrEnum):
    """Why a lead may not be judged."""

    LEAD_OFF = "lead_off"
    FLAT = "flat"
    SATURATED = "saturated"
    NOISE = "noise"
    GAP = "gap"


GAP = 1
"""Bit: no value arrived for this sample."""
LEAD_OFF = 2
"""Bit: the electrode does not touch the patient, as far as the samples show."""
FLAT = 4
"""Bit: the lead has not moved for ``FLAT_S``."""
SATURATED = 8
"""Bit: the sample stands at the converter's rail."""

_BIT_OF_FLAG: tuple[tuple[Flag, int], ...] = (
    (Flag.LEAD_OFF, LEAD_OFF),
    (Flag.GAP, GAP),
    (Flag.SATURATED, SATURATED),
    (Flag.FLAT, FLAT),
)
"""Flags with a bit, the one that explains most first."""


def flag_of_mask(mask: int) -> Flag | None:
    """The flag that explains most of one sample's ``mask``; None where no bit is set."""
    return next((flag for flag, bit in _BIT_OF_FLAG if mask & bit), None)


FLAT_S = 1.0
"""A lead that repeats one value for this long is flat. MIT-BIH: the longest repeat of a live lead is 91 ms."""
FLAT_RANGE_MV = 0.008
"""A lead whose last ``FLAT_S`` span less than this is flat. MIT-BIH: the quietest live second spans 0.050 mV."""
LEAD_OFF_GAP_S = 0.2
"""A lead missing for this long while another arrives is reported off by its monitor; a lost block misses all leads."""
RAIL_OFF_S = 1.0
"""An open input drifts to the rail and stays there; an electrode artefact leaves it sooner (MIT-BIH: within 0.74 s)."""
HELD_S = 0.04
"""Without known rails: held exactly at the largest value seen for this long is clipped. A smooth wave of 0.3 mV
stays within one 5 µV step of its apex for 22 ms."""
HELD_RANGE_MV = 2.0
"""… provided that the lead spans at least this much, so that a quiet lead's baseline is not taken for a rail."""
RAIL_MARGIN = 0.001
"""Share of the converter's range that still counts as the rail."""
MAINS_HZ = (50.0, 60.0)
MAINS_PEAK_MV = 1.0
"""Mains pick-up of a connected lead stays under 1 mV behind a working right-leg drive …"""
MAINS_SHARE = 0.9
"""… and never holds this share of the power, because it would bury the QRS complex."""

_TILE_S = FLAT_S / 2  # holds whole periods of both mains frequencies at every even rate
_EPOCH_TILES = 60  # extremes are forgotten after 30 to 60 s, so that one spike does not define the rail for ever


class SampleQuality:
    """Streaming per-lead checks of raw samples at the source's rate.

    Each sample is judged by itself and what came before it, never by what follows, and how the samples are cut into
    blocks does not change the result. Slow properties (a span under ``FLAT_RANGE_MV``, mains only) are measured on
    tiles of half a second and hold for the tile that follows. Memory is fixed: one tile and a few numbers per lead.

    ``limits_mv`` are the converter's rails in mV as they appear in the samples, the same for every lead or one pair
    per lead; ``None`` where the source does not state them.
    """

    def __init__(
        self,
        rate_hz: float,
        channels: int,
        limits_mv: tuple[float, float] | Sequence[tuple[float, float]] | None = None,
    ) -> None:
        if not RATE_HZ_MIN <= rate_hz <= RATE_HZ_MAX:
            raise ValueError(f"rate_hz must lie between {RATE_HZ_MIN} and {RATE_HZ_MAX}")
        if not 1 <= channels <= LEADS_MAX:
            raise ValueError(f"channels must lie between 1 and {LEADS_MAX}")
        self._channels = channels
        self._rails = _rails(limits_mv, channels)
        self._flat_n = round(FLAT_S * rate_hz)
        self._gap_n = round(LEAD_OFF_GAP_S * rate_hz)
        self._rail_n = round(RAIL_OFF_S * rate_hz)
        self._held_n = max(round(HELD_S * rate_hz), 3)
        self._tile_n = round(_TILE_S * rate_hz)
        self._mains = _mains_basis(rate_hz, self._tile_n)  # (tile, 2 × frequencies)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as at the start."""
        c = self._channels
        self._tile = np.zeros((c, self._tile_n), dtype=np.float32)  # (C, tile)
        self._tile_bad = np.zeros((c, 1), dtype=np.bool_)  # the tile holds a missing value
        self._fill = 0
        self._tiles = 0
        self._slow = np.zeros((c, 1), dtype=np.uint8)
        self._last_span = np.full((c, 2), np.nan, dtype=np.float32)  # min and max of the previous tile
        self._last_mains = np.zeros(c, dtype=np.bool_)
        self._last = np.zeros((c, 1), dtype=np.float32)
        self._repeat = np.zeros((c, 1), dtype=np.int64)
        self._missing = np.zeros((c, 1), dtype=np.int64)
        self._railed = np.zeros((c, 1), dtype=np.int64)
        # extremes of the previous and the current epoch
        self._low = np.full((2, c, 1), np.inf, dtype=np.float32)
        self._high = np.full((2, c, 1), -np.inf, dtype=np.float32)

    def push(self, raw: FloatArray) -> tuple[FloatArray, BoolArray, MaskArray]:
        """Judge the next samples ``raw`` (C, n) in mV, NaN where missing.

        Returns ``clean`` (C, n) without NaN (the last good value is held, 0 before the first), ``usable`` (C, n) and
        ``flags`` (C, n), a mask of GAP, LEAD_OFF, FLAT and SATURATED; usable means that no bit is set.
        """
        if raw.ndim != 2 or raw.shape[0] != self._channels:
            raise ValueError(f"expected samples of shape ({self._channels}, n)")
        n = raw.shape[1]
        clean = np.empty((self._channels, n), dtype=np.float32)  # (C, n)
        flags = np.empty((self._channels, n), dtype=np.uint8)  # (C, n)
        done = 0
        while done < n:
            stop = min(n, done + self._tile_n - self._fill)
            self._push_within_tile(raw[:, done:stop], clean[:, done:stop], flags[:, done:stop])
            done = stop
        return clean, flags == 0, flags

    def _push_within_tile(self, raw: FloatArray, clean: FloatArray, flags: MaskArray) -> None:
        n = raw.shape[1]
        good = np.abs(raw) <= ECG_ABS_MAX_MV  # False for NaN and infinity as well  # (C, n)
        flags[...] = self._slow
        if good.all():
            clean[...] = raw
            self._missing[...] = 0
        else:
            self._fill_missing(raw, good, clean, flags)
        previous = np.concatenate((self._last, clean[:, :-1]), axis=1)  # (C, n)
        repeat, self._repeat = _run_lengths((clean == previous) & good, self._repeat)
        self._last = clean[:, -1:].copy()
        if repeat.max() >= self._flat_n:
            flags[repeat >= self._flat_n] |= FLAT
        self._check_rails(clean, good, repeat, flags)
        self._tile[:, self._fill : self._fill + n] = clean
        self._fill += n
        if self._fill == self._tile_n:
            self._end_tile()

    def _fill_missing(self, raw: FloatArray, good: BoolArray, clean: FloatArray, flags: MaskArray) -> None:
        n = raw.shape[1]
        index = np.maximum.accumulate(np.where(good, np.arange(1, n + 1), 0), axis=1)  # (C, n)
        held = np.concatenate((self._last, raw), axis=1)  # (C, 1 + n)
        clean[...] = np.take_along_axis(held, index, axis=1)
        # A value that is there and beyond any ECG: the input floats. A value that is not there: a gap, and where other
        # leads still arrive for a while, a lead that the monitor blanks.
        absent = ~np.isfinite(raw)
        flags[absent] |= GAP
        flags[~good & ~absent] |= LEAD_OFF
        run, self._missing = _run_lengths(absent & good.any(axis=0), self._missing)
        flags[run >= self._gap_n] |= LEAD_OFF
        self._tile_bad |= (~good).any(axis=1, keepdims=True)

    def _check_rails(self, clean: FloatArray, good: BoolArray, repeat: _IntArray, flags: MaskArray) -> None:
        if self._rails is not None:
            at_rail = (clean <= self._rails[0]) | (clean >= self._rails[1])
            if not (at_rail.any() or self._railed.any()):
                return
            at_rail &= good
        else:
            low = np.minimum.accumulate(np.where(good, clean, np.inf), axis=1, dtype=np.float32)
            high = np.maximum.accumulate(np.where(good, clean, -np.inf), axis=1, dtype=np.float32)
            np.minimum(low, self._low[1], out=low)
            np.maximum(high, self._high[1], out=high)
            self._low[1], self._high[1] = low[:, -1:], high[:, -1:]
            if repeat.max() + 1 < self._held_n and not self._railed.any():
                return
            np.minimum(low, self._low[0], out=low)
            np.maximum(high, self._high[0], out=high)
            at_rail = (repeat + 1 >= self._held_n) & ((clean == low) | (clean == high)) & (high - low >= HELD_RANGE_MV)
        flags[at_rail] |= SATURATED
        run, self._railed = _run_lengths(at_rail, self._railed)
        flags[run >= self._rail_n] |= LEAD_OFF

    def _end_tile(self) -> None:
        low, high = self._tile.min(axis=1), self._tile.max(axis=1)  # (C,)
        whole = ~self._tile_bad[:, 0]
        # fmin and fmax pass over NaN, so an unmeasured previous tile must be asked for by name.
        both = whole & np.isfinite(self._last_span[:, 0])
        span = np.fmax(high, self._last_span[:, 1]) - np.fmin(low, self._last_span[:, 0])
        flat = both & (span < FLAT_RANGE_MV)
        mains = whole & self._mains_only()
        self._slow[:, 0] = np.where(flat, FLAT, 0) | np.where(mains & self._last_mains, LEAD_OFF, 0)
        self._last_span = np.where(whole[:, None], np.stack((low, high), axis=1), np.nan)  # (C, 2)
        self._last_mains = mains
        self._tile_bad[...] = False
        self._fill = 0
        self._tiles += 1
        if self._tiles % _EPOCH_TILES == 0:
            self._low[0], self._high[0] = self._low[1], self._high[1]
            self._low[1], self._high[1] = np.inf, -np.inf

    def _mains_only(self) -> BoolArray:
        centred = self._tile - self._tile.mean(axis=1, keepdims=True)  # (C, tile)
        power = np.square(centred).mean(axis=1)  # (C,)
        # The basis has unit mean square per column, so squared projections are the powers at the mains frequencies.
        at_mains = np.square(centred @ self._mains / self._tile_n)  # (C, 2 × frequencies)
        pairs = at_mains.reshape(self._channels, -1, 2).sum(axis=2)  # (C, frequencies)
        strongest = pairs.max(axis=1, initial=0.0)  # (C,)
        only: BoolArray = (2.0 * strongest >= MAINS_PEAK_MV**2) & (strongest >= MAINS_SHARE * power)
        return only


def _rails(
    limits_mv: tuple[float, float] | Sequence[tuple[float, float]] | None, channels: int
) -> tuple[FloatArray, FloatArray] | None:
    if limits_mv is None:
        return None
    pairs = np.broadcast_to(np.asarray(limits_mv, dtype=np.float64), (channels, 2))  # (C, 2)
    low, high = pairs[:, :1], pairs[:, 1:]
    if not (np.isfinite(pairs).all() and (low < high).all()):
        raise ValueError("limits_mv must be finite (low, high) pairs with low < high")
    margin = RAIL_MARGIN * (high - low)
    return (low + margin).astype(np.float32), (high - margin).astype(np.float32)


def _mains_basis(rate_hz: float, n: int) -> FloatArray:
    time_s = np.arange(n) / rate_hz
    columns = [
        np.sqrt(2.0) * wave(2 * np.pi * mains_hz * time_s)
        for mains_hz in MAINS_HZ
        if mains_hz < 0.45 * rate_hz  # nearer to half the rate a sine and a cosine are no longer distinct
        for wave in (np.sin, np.cos)
    ]
    return np.array(columns, dtype=np.float32).reshape(len(columns), n).T


def _run_lengths(condition: BoolArray, carry: _IntArray) -> tuple[_IntArray, _IntArray]:
    """How many samples up to each of ``condition`` (C, n) held without a break; ``carry`` (C, 1) from before."""
    index = np.arange(1, condition.shape[1] + 1)
    broken = np.maximum.accumulate(np.where(condition, 0, index), axis=1)  # (C, n)
    run = np.where(broken == 0, carry + index, index - broken)
    return run, run[:, -1:].copy()


# --- windows

UNUSABLE_MAX_S = 0.1
"""A window may hold this much that ``SampleQuality`` refused: about one QRS complex. Clipped peaks are shorter."""
NOISE_RATIO_MAX = 0.25
"""High-frequency noise (rms) over the largest QRS-band swing. See ``window_flags``."""
NOISE_MIN_MV = 0.05
"""Noise under this never withholds a window, however small the complexes are."""
JUMP_MAX_MV = 4.0
"""A baseline shift within a window that no heart makes: an electrode moved. MIT-BIH: wide beats shift it by 3.3 mV."""
_RATE_HZ = MODEL_RATE_HZ


def window_flags(wave: FloatArray, usable: BoolArray, flags: MaskArray | None = None) -> tuple[Flag | None, ...]:
    """Whether each lead of the window ``wave`` (C, T), in mV at 250 Hz, may be judged; ``None`` where it may.

    ``usable`` (C, T) and, for a more telling reason, ``flags`` (C, T) come from ``SampleQuality``, resampled with the
    wave. Without ``flags`` a lead that is not usable is reported as FLAT where it does not move, else as GAP.
    """
    if wave.shape != usable.shape or wave.ndim != 2:
        raise ValueError("wave and usable must both have shape (C, T)")
    refused = (~usable).sum(axis=1) > UNUSABLE_MAX_S * _RATE_HZ  # (C,)
    span = wave.max(axis=1) - wave.min(axis=1)
    flat = span < FLAT_RANGE_MV
    noisy = noise_ratio(wave) > NOISE_RATIO_MAX
    noisy |= baseline_jump_mv(wave) > JUMP_MAX_MV
    result: list[Flag | None] = []
    for lead in range(wave.shape[0]):
        if refused[lead]:
            result.append(_reason(None if flags is None else flags[lead], flat=bool(flat[lead])))
        elif flat[lead]:
            result.append(Flag.FLAT)
        else:
            result.append(Flag.NOISE if noisy[lead] else None)
    return tuple(result)


def _reason(flags: MaskArray | None, *, flat: bool) -> Flag:
    if flags is not None:
        for flag, bit in _BIT_OF_FLAG:
            if np.count_nonzero(flags & bit) > UNUSABLE_MAX_S * _RATE_HZ / len(_BIT_OF_FLAG):
                return flag
    return Flag.FLAT if flat else Flag.GAP


def noise_ratio(wave: FloatArray) -> FloatArray:
    """High-frequency noise of each lead of ``wave`` (C, T) at 250 Hz over its QRS-band swing; (C,), no unit.

    The noise is the median magnitude of the third difference, scaled to the rms of white noise: a QRS complex fills
    too little of a window to move a median, and P and T waves vanish in a third difference. The swing is the span of
    the wave between moving averages of 20 ms and 200 ms. Noise alone gives 0.3 to 0.4 (a swing of about three times its
    rms); a complex of four times the noise stays under ``NOISE_RATIO_MAX``. Noise under ``NOISE_MIN_MV`` counts as 0.
    """
    if wave.shape[1] < _WIDE:
        return np.zeros(wave.shape[0], dtype=np.float32)
    third = np.diff(wave, n=3, axis=1)
    noise = np.median(np.abs(third), axis=1) / _THIRD_TO_RMS
    wide = _moving_mean(wave, _WIDE)
    first = (_WIDE - _NARROW) // 2  # so that both averages share their centres
    swing = np.ptp(_moving_mean(wave, _NARROW)[:, first : first + wide.shape[1]] - wide, axis=1)
    ratio = np.where(noise < NOISE_MIN_MV, 0.0, noise / np.maximum(swing, 1e-6))
    return ratio.astype(np.float32)


def baseline_jump_mv(wave: FloatArray) -> FloatArray:
    """Largest shift of the 200 ms moving average of ``wave`` (C, T) at 250 Hz within the window, in mV; (C,)."""
    if wave.shape[1] < _WIDE:
        return np.zeros(wave.shape[0], dtype=np.float32)
    jump: FloatArray = np.ptp(_moving_mean(wave, _WIDE), axis=1).astype(np.float32)
    return jump


_NARROW = 5  # 20 ms
_WIDE = 51  # 200 ms
_THIRD_TO_RMS = 0.6745 * np.sqrt(20.0)  # median of |x| for unit Gaussian x; gain of 1, −3, 3, −1 for white noise


def _moving_mean(wave: FloatArray, n: int) -> npt.NDArray[np.float64]:
    total = np.cumsum(wave, axis=1, dtype=np.float64)  # (C, T)
    total = np.concatenate((np.zeros((wave.shape[0], 1)), total), axis=1)
    mean: npt.NDArray[np.float64] = (total[:, n:] - total[:, :-n]) / n  # (C, T − n + 1)
    return mean
