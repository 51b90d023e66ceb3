"""Streaming resampler: from any source rate to the model's rate, by a causal polyphase windowed sinc."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.signal.fir import kaiser_beta, kaiser_half_width, sinc_kernel

FloatArray = npt.NDArray[np.float32]

_ATTENUATION_DB = 70.0
_PASS_OF_RATE = 0.4  # flat up to this share of the slower rate; what lies above 0.6 of it cannot fold back below
_EXACT_PHASES = 1024  # a fraction with more phases than this reads between the phases of a shared bank
_SHARED_PHASES = 512
_MAX_DENOMINATOR = 10_000
_LARGEST_PRODUCT = 1 << 18  # taps times outputs worked out at once: bounds the memory of one push
_RATE_HZ_RANGE = (20.0, 50_000.0)


class Resampler:
    """Resample ``channels`` waves from ``rate_in_hz`` to ``rate_out_hz`` as they arrive.

    Output sample k stands for source time k / ``rate_out_hz``: the filter's group delay is paid as waiting
    (``delay_samples_in``), never as a shift. Pass band to 40 % of the slower rate, 70 dB below aliases that would fall
    into it. How the input is cut into blocks does not change a bit of the output. Before the first sample the
    wave is held at the first sample's value, so a baseline offset makes no step.
    """

    def __init__(self, rate_in_hz: float, channels: int, rate_out_hz: int = 250) -> None:
        """Raise ``InputError`` for a rate outside 20 Hz to 50 kHz or no channel."""
        low, high = _RATE_HZ_RANGE
        if not low <= rate_in_hz <= high or not low <= rate_out_hz <= high or channels < 1:
            raise InputError(
                "rate-unsupported",
                f"cannot resample {channels} channels from {rate_in_hz} Hz to {rate_out_hz} Hz: "
                f"rates from {low:g} to {high:g} Hz and one channel or more are supported; check the source's settings",
            )
        step = Fraction(rate_in_hz).limit_denominator(_MAX_DENOMINATOR) / rate_out_hz
        self._step_num, self._step_den = step.numerator, step.denominator
        self._channels = channels
        self._identity = step == 1
        slower_hz = min(rate_in_hz, float(rate_out_hz))
        transition_hz = (1.0 - 2.0 * _PASS_OF_RATE) * slower_hz
        self._half = 0 if self._identity else kaiser_half_width(transition_hz, rate_in_hz, _ATTENUATION_DB)
        if not self._identity:
            self._exact = self._step_den <= _EXACT_PHASES
            phases = self._step_den if self._exact else _SHARED_PHASES
            self._bank = _filter_bank(phases, self._half, slower_hz / 2.0, rate_in_hz)  # (phases + 1, 2·half)
        self._history = np.zeros((channels, 0), dtype=np.float64)  # (C, held)
        self._history_start = 0  # source index of the first held sample
        self._seen = 0
        self._made = 0

    @property
    def delay_samples_in(self) -> int:
        """Source samples that must arrive after time t before the output for t can be given."""
        return self._half

    def to_source(self, index_out: int) -> int:
        """Source sample nearest to output sample ``index_out``."""
        return (2 * index_out * self._step_num + self._step_den) // (2 * self._step_den)

    def push(self, samples: FloatArray) -> FloatArray:
        """Take source ``samples`` (C, n), free of NaN, and give the output that is now complete (C, m)."""
        if samples.ndim != 2 or samples.shape[0] != self._channels:
            raise InputError(
                "wave-shape", f"got a wave of shape {samples.shape}; this source has {self._channels} channels"
            )
        if self._identity:
            self._seen += samples.shape[1]
            return np.array(samples, dtype=np.float32)
        if samples.shape[1] == 0:
            return np.zeros((self._channels, 0), dtype=np.float32)
        block = samples.astype(np.float64)
        if self._seen == 0:
            self._history_start = -self._half
            self._history = np.repeat(block[:, :1], self._half, axis=1)
        self._history = np.concatenate((self._history, block), axis=1)
        self._seen += samples.shape[1]
        # Output k reads source samples floor(k·step) − half + 1 … floor(k·step) + half.
        ready = -((-(self._seen - self._half) * self._step_den) // self._step_num)
        parts = []
        while self._made < ready:
            stop = min(ready, self._made + max(1, _LARGEST_PRODUCT // (2 * self._half)))
            parts.append(self._outputs(self._made, stop))
            self._made = stop
        self._forget()
        return np.concatenate(parts, axis=1) if parts else np.zeros((self._channels, 0), dtype=np.float32)

    def _outputs(self, start: int, stop: int) -> FloatArray:
        position = np.arange(start, stop, dtype=np.int64) * self._step_num
        whole, rest = np.divmod(position, self._step_den)
        first = whole - self._half + 1 - self._history_start
        if self._exact:
            taps = self._bank[rest]  # (m, 2·half)
        else:
            place = rest * (_SHARED_PHASES / self._step_den)
            low = place.astype(np.int64)
            share = (place - low)[:, None]
            taps = self._bank[low] * (1.0 - share) + self._bank[low + 1] * share
        windows = np.lib.stride_tricks.sliding_window_view(self._history, 2 * self._half, axis=1)[:, first]
        # A product and a sum over the last axis, not a dot product: its order of summation is the same for any m.
        return np.ascontiguousarray((windows * taps).sum(axis=-1), dtype=np.float32)  # (C, m)

    def _forget(self) -> None:
        keep_from = (self._made * self._step_num) // self._step_den - self._half + 1
        drop = keep_from - self._history_start
        if drop > 0:
            self._history = self._history[:, drop:].copy()
            self._history_start += drop


def _filter_bank(phases: int, half: int, cutoff_hz: float, rate_hz: float) -> npt.NDArray[np.float64]:
    """Taps for each fraction of a sample; every row sums to one so that a baseline passes unchanged."""
    fraction = np.arange(phases + 1, dtype=np.float64)[:, None] / phases
    offset = np.arange(-half + 1, half + 1, dtype=np.float64)[None, :] - fraction
    bank = sinc_kernel(offset, cutoff_hz, rate_hz, float(half), kaiser_beta(_ATTENUATION_DB))  # (phases + 1, 2·half)
    return np.asarray(bank / bank.sum(axis=1, keepdims=True))
