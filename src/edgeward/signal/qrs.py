"""Streaming QRS detector: causal, bounded delay, one fixed set of constants for every record."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError
from edgeward.signal import qrs_score
from edgeward.signal.beat import Beat
from edgeward.signal.qrs_bands import CAPACITY, HALF, HOP, RATE_HZ, ROWS, WAVE, BandFilter, Levels, combined
from edgeward.signal.qrs_features import APART, LOOKAHEAD, LOOKBACK, Memory, View, features, measure

if TYPE_CHECKING:
    from edgeward.signal.qrs_features import Float64Array, Measured
    from edgeward.signal.window import FloatArray

BoolArray = npt.NDArray[np.bool_]

_FLOOR = 0.05  # of a typical beat: below it nothing is looked at
_REFRACTORY = 50  # samples: no second QRS within 200 ms
_FIDUCIAL_AROUND = 18  # samples (72 ms)
_FIDUCIAL_SHARE = 0.04
_LEAST_SWING_MV = 0.05  # peak to peak; converter noise and P waves in asystole stay below, a tiny QRS is above
_LONGEST_BLOCK = 256 * HOP


class QrsDetector:
    """Find the R peaks of 1 to 3 leads as the samples arrive.

    ``push`` gives each beat once, in increasing order, never revised, within ``MAX_DELAY_S`` of its R peak. A
    candidate is judged with what follows it in 344 ms and with how overdue a beat is: a short search-back. How the
    wave is cut into blocks changes nothing. Leads are fused after each is scaled by its own running beat level and
    weighted by its beat-to-noise ratio; a lead that is not usable takes no part.
    """

    # A class constant: the R peak may lie before the candidate, the filter and the look-ahead wait, the hop completes.
    MAX_DELAY_S: float = (HALF + LOOKAHEAD + HOP + _FIDUCIAL_AROUND) / RATE_HZ

    def __init__(self, channels: int, rate_hz: int = RATE_HZ, *, trees: qrs_score.Trees | None = None) -> None:
        """Raise ``InputError`` for another rate than 250 Hz or no channel; ``trees`` replace the shipped scorer."""
        if rate_hz != RATE_HZ or channels < 1:
            raise InputError(
                "qrs-rate", f"the QRS detector works at {RATE_HZ} Hz on one lead or more; resample the wave before it"
            )
        self._channels = channels
        self._trees = trees if trees is not None else qrs_score.shipped_trees()
        self._next = 0
        self._clear()

    def reset(self, next_index: int | None = None) -> None:
        """Forget all history, as after a gap; the next sample has ``next_index`` (default: the count goes on)."""
        if next_index is not None:
            self._next = next_index
        self._clear()

    def _clear(self) -> None:
        c = self._channels
        self._origin = self._next  # absolute index of sample 0 of the grid
        self._filter = BandFilter(c)
        self._levels = Levels(c)
        self._pending: list[tuple[FloatArray, BoolArray]] = []
        self._pending_n = 0
        self._last: tuple[FloatArray, BoolArray] | None = None
        self._bands = np.zeros((c, ROWS, 2 * CAPACITY))
        self._fused = np.zeros(2 * CAPACITY)
        self._share = np.zeros((c, 2 * CAPACITY))
        self._fill = LOOKBACK + APART  # zeros stand before the first sample
        self._base = -self._fill - HALF  # grid index of tape position 0
        self._candidates: deque[int] = deque()
        self._memory = Memory()

    def push(self, samples: FloatArray, usable: BoolArray) -> list[Beat]:
        """Take ``samples`` (C, n) in mV at 250 Hz and ``usable`` (C, n); give the beats that are now certain."""
        if samples.ndim != 2 or samples.shape[0] != self._channels or samples.shape != usable.shape:
            raise InputError("wave-shape", f"got shapes {samples.shape} and {usable.shape} for {self._channels} leads")
        self._next += samples.shape[1]
        self._pending.append((samples, usable))
        self._pending_n += samples.shape[1]
        if samples.shape[1]:
            self._last = samples[:, -1:].copy(), usable[:, -1:].copy()
        beats: list[Beat] = []
        if self._pending_n < HOP:
            self._pending[-1] = (samples.copy(), usable.copy())  # the caller may use its buffer again
            return beats
        x = np.concatenate([p[0] for p in self._pending], axis=1)
        ok = np.concatenate([p[1] for p in self._pending], axis=1)
        whole = self._pending_n // HOP * HOP
        self._pending = [(x[:, whole:].copy(), ok[:, whole:].copy())]
        self._pending_n -= whole
        for start in range(0, whole, _LONGEST_BLOCK):
            stop = min(start + _LONGEST_BLOCK, whole)
            bands, valid = self._filter.push(x[:, start:stop], ok[:, start:stop])
            envelope = combined(bands)
            for hop in range(0, stop - start, HOP):
                cut = slice(hop, hop + HOP)
                self._take_hop(bands[:, :, cut], envelope[:, cut], valid[:, cut], beats)
        return beats

    def flush(self) -> list[Beat]:
        """Give the beats that still wait when a record has ended, as if its last sample were held, and reset."""
        if self._last is None:
            return []
        end, wait = self._next, int(self.MAX_DELAY_S * RATE_HZ) + 1
        held = np.repeat(self._last[0], wait, axis=1), np.repeat(self._last[1], wait, axis=1)
        beats = [beat for beat in self.push(*held) if beat.index < end]
        self.reset(end)
        return beats

    def _take_hop(self, bands: Float64Array, envelope: Float64Array, usable: BoolArray, beats: list[Beat]) -> None:
        if self._fill + HOP > self._fused.size:
            self._forget()
        cut = slice(self._fill, self._fill + HOP)
        self._bands[:, :, cut] = bands
        self._fused[cut], self._share[:, cut] = self._levels.fuse(envelope, usable)
        self._levels.push_hop(envelope * usable, usable)
        self._fill += HOP
        self._find_candidates()
        while self._candidates and self._candidates[0] + LOOKAHEAD < self._base + self._fill:
            beat = self._decide(self._candidates.popleft())
            if beat is not None:
                beats.append(beat)

    def _find_candidates(self) -> None:
        """Look for peaks among the HOP values that have just got ``APART`` values after them."""
        stop = self._fill - APART
        start = stop - HOP
        middle = self._fused[start:stop]
        rising = middle > self._fused[start - 1 : stop - 1]
        peaks = np.flatnonzero((middle >= _FLOOR) & rising & (middle >= self._fused[start + 1 : stop + 1]))
        for k in (peaks + start).tolist():
            if int(self._fused[k - APART : k + APART + 1].argmax()) == APART:
                self._candidates.append(self._base + k)

    def _view(self, p: int) -> View:
        at = p - self._base
        cut = slice(at - LOOKBACK, at + LOOKAHEAD + 1)
        return View(
            self._bands[:, :, cut], self._fused[cut], self._share[:, at], self._levels.level, self._levels.noise, p
        )

    def _decide(self, p: int) -> Beat | None:
        last = self._memory.beats[-1].index if self._memory.beats else None
        if last is not None and p - last < _REFRACTORY:
            return None
        view = self._view(p)
        near = view.bands[view.share > 0.0, WAVE, LOOKBACK - APART : LOOKBACK + APART + 1]
        if not near.size or float(np.ptp(near, axis=1).max()) < _LEAST_SWING_MV:
            return None
        this = measure(view)
        confidence = self._confidence(view, this)
        if confidence < qrs_score.TAKEN_FROM:
            return None
        self._memory.add(this, view)
        return Beat(self._origin + max(self._fiducial(view), 0), confidence)

    def _confidence(self, view: View, this: Measured) -> float:
        return self._trees.probability(features(view, this, self._memory))

    @staticmethod
    def _fiducial(view: View) -> int:
        """Grid index of the R peak: the largest deflection near the candidate, in the first lead that shows beats.

        One lead, because peaks of different leads lie up to 30 ms apart and RR intervals must not jump between them.
        """
        lead = int((view.share >= _FIDUCIAL_SHARE).argmax())
        near = view.bands[lead, WAVE, LOOKBACK - _FIDUCIAL_AROUND : LOOKBACK + _FIDUCIAL_AROUND + 1]
        return view.index - _FIDUCIAL_AROUND + int(np.abs(near).argmax())

    def _forget(self) -> None:
        drop = self._fill - CAPACITY
        self._bands[:, :, :CAPACITY] = self._bands[:, :, drop : self._fill].copy()
        self._fused[:CAPACITY] = self._fused[drop : self._fill].copy()
        self._share[:, :CAPACITY] = self._share[:, drop : self._fill].copy()
        self._fill = CAPACITY
        self._base += drop
