"""What the QRS scorer looks at: one candidate against its surroundings and against the beats before it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgeward.signal.qrs_bands import QRS, RATE_HZ, STEEP, WAVE, WIDE

Float64Array = npt.NDArray[np.float64]

LOOKAHEAD = 86
"""Samples after a candidate that its features see (344 ms)."""
LOOKBACK = 250
APART = 25
"""Candidates are at least this many samples apart (100 ms)."""

_AROUND = 20  # half width of the shape that is compared between beats (80 ms)
_LAG = 5
_SLOPE_AROUND = 16
_REMEMBERED = 8
_WAKE = 150  # samples after a beat in which its T wave is learnt (600 ms)
_WAKE_NEAR = 8
_SNIPPET = np.arange(-88, 85, 8)

NAMES: tuple[str, ...] = (
    *("amp", "amp_med", "amp_last", "amp_min8", "slope_med", "slope_last"),
    *("wide_ratio", "wide_rel", "steep_ratio", "steep_rel"),
    *("steep_med", "steep_last", "slope_min", "swing_min", "expected", "expected_over"),
    *("width", "width_rel", "dt_s", "dt_med", "dt_last", "rr_med_s", "rr_spread", "beats_known"),
    *("before", "before_at", "after", "after_at", "after_wide", "before_all"),
    *("q25_2s", "q50_2s", "q75_2s", "q50_near", "steep_near"),
    *("share_a", "amp_a", "amp_b", "slope_a", "slope_b", "snr_a", "snr_b"),
    *("shape_med", "shape_last", "shape_best", "amp_best", "slope_best", "swing_best"),
    *("p2p_med", "p2p_last", "last_amp_med", "last_wide_rel", "log_swing_mv", "log_slope_mv"),
    *(f"s{offset:+d}" for offset in _SNIPPET),
)
"""The features in their order; ``_med`` is against the median of the last 8 beats, ``_last`` against the last one."""


@dataclass(slots=True)
class View:
    """The curves around one candidate; index ``at`` of each holds the candidate itself."""

    bands: Float64Array  # (C, ROWS, LOOKBACK + 1 + LOOKAHEAD)
    fused: Float64Array  # (LOOKBACK + 1 + LOOKAHEAD,)
    share: Float64Array  # (C,) trust in each lead at the candidate
    level: Float64Array  # (C,) mV
    noise: Float64Array  # (C,) mV
    index: int


@dataclass(slots=True)
class Measured:
    """Figures of one candidate that later candidates are compared with, once it is taken as a beat."""

    index: int
    amp: float
    slope: float
    wide: float
    steep: float
    width: float
    swing: float
    shape: Float64Array  # (C, 2·_AROUND + 1), each lead over its level and weighted by its share


@dataclass(slots=True)
class Memory:
    """The last beats, as far as the features need them."""

    beats: list[Measured] = field(default_factory=list)
    template: Float64Array | None = None
    cores: list[Float64Array] = field(default_factory=list)
    wake: Float64Array = field(default_factory=lambda: np.zeros(_WAKE))  # fused curve after a beat: its T wave

    def add(self, beat: Measured, view: View) -> None:
        """Take one more beat; the oldest is forgotten."""
        if self.beats:
            self._learn_wake(beat.index - self.beats[-1].index, view)
        self.beats.append(beat)
        self.cores.append(_core(beat.shape))
        del self.beats[: -_REMEMBERED - 1]
        del self.cores[:-_REMEMBERED]
        if self.template is None:
            self.template = beat.shape.copy()
        else:
            lag = int(_likeness(beat.shape, [_core(self.template)])[0].argmax()) - _LAG
            self.template += 0.15 * (np.roll(beat.shape, -lag, axis=1) - self.template)

    def _learn_wake(self, since: int, view: View) -> None:
        stop = min(since - APART, _WAKE)
        if stop > APART and since <= LOOKBACK:
            first = LOOKBACK - since
            gain = 0.2 if len(self.beats) > _REMEMBERED // 2 else 0.5
            self.wake[:stop] += gain * (view.fused[first : first + stop] - self.wake[:stop])

    def expected(self, since: int) -> float:
        """What the fused curve usually reaches ``since`` samples after a beat."""
        return float(self.wake[since - _WAKE_NEAR : since + _WAKE_NEAR + 1].max()) if since < _WAKE else 0.0


def measure(view: View) -> Measured:
    """Figures of the candidate itself."""
    at = LOOKBACK
    scale = view.share / np.maximum(view.level, 1e-6)  # (C,)
    fused = view.fused
    amp = max(float(fused[at]), 1e-6)
    near = slice(at - _SLOPE_AROUND, at + _SLOPE_AROUND + 1)
    wave = view.bands[:, WAVE, near]
    slope = float((np.abs(np.diff(wave, axis=1)).max(axis=1) * scale).sum())
    wide = float((view.bands[:, WIDE, at - 8 : at + 9].max(axis=1) * scale).sum())
    steep = float((view.bands[:, STEEP, near].max(axis=1) * scale).sum())
    swing = float(((wave.max(axis=1) - wave.min(axis=1)) * scale).sum())
    left = np.flatnonzero(fused[at - 40 : at] < 0.5 * amp)
    right = np.flatnonzero(fused[at + 1 : at + 41] < 0.5 * amp)
    width = (40 - left[-1] if left.size else 41) + (right[0] if right.size else 40)
    shape = view.bands[:, WAVE, at - _AROUND : at + _AROUND + 1] * scale[:, None]
    slope, steep, swing = max(slope, 1e-9), max(steep, 1e-9), max(swing, 1e-9)
    return Measured(view.index, amp, slope, wide, steep, float(width), swing, shape)


def features(view: View, this: Measured, memory: Memory) -> Float64Array:
    """The feature vector (len(NAMES),) of a candidate."""
    beats = memory.beats
    last = beats[-1] if beats else None
    medians = _Medians(beats[-_REMEMBERED:])
    out = _sizes(this, beats, medians, memory.expected(this.index - last.index) if last else 0.0)
    out += _rhythm(this.index, beats)
    out += _neighbours(view, this, last)
    out += _background(view, this)
    out += _per_lead(view)
    out += _alike(this, memory)
    out += [this.swing / medians.swing, this.swing / last.swing if last else 1.0]
    out += [last.amp / medians.amp, (last.wide / last.amp) / medians.wide_ratio] if last else [1.0, 1.0]
    out += _millivolts(view)
    return np.concatenate((np.asarray(out), view.fused[LOOKBACK + _SNIPPET] / this.amp))


def _sizes(this: Measured, beats: list[Measured], medians: _Medians, expected: float) -> list[float]:
    recent = beats[-_REMEMBERED:]
    last = recent[-1] if recent else None
    wide_ratio, steep_ratio = this.wide / this.amp, this.steep / this.amp
    return [
        this.amp,
        this.amp / medians.amp,
        this.amp / last.amp if last else 1.0,
        this.amp / min((b.amp for b in recent), default=1.0),
        this.slope / medians.slope,
        this.slope / last.slope if last else 1.0,
        wide_ratio,
        wide_ratio / medians.wide_ratio,
        steep_ratio,
        steep_ratio / medians.steep_ratio,
        this.steep / medians.steep,
        this.steep / last.steep if last else 1.0,
        this.slope / min((b.slope for b in recent), default=1.0),
        this.swing / min((b.swing for b in recent), default=1.0),
        expected / this.amp,
        this.amp - expected,
        this.width,
        this.width / medians.width,
    ]


def _millivolts(view: View) -> list[float]:
    """Logarithm of the swing (mV) and the steepest step (mV per sample) in the lead where each is largest."""
    wave = view.bands[view.share > 0.0, WAVE, LOOKBACK - _AROUND : LOOKBACK + _AROUND + 1]
    if not wave.size:
        return [-10.0, -10.0]
    swing = float((wave.max(axis=1) - wave.min(axis=1)).max())
    slope = float(np.abs(wave[:, 1:] - wave[:, :-1]).max())
    return [math.log(max(swing, 1e-4)), math.log(max(slope, 1e-4))]


def _neighbours(view: View, this: Measured, last: Measured | None) -> list[float]:
    """The strongest competitor between the last beat and this candidate, and the strongest after it."""
    at, fused, amp = LOOKBACK, view.fused, this.amp
    since = min(this.index - last.index - APART, LOOKAHEAD) if last else LOOKAHEAD
    before = fused[at - since : at - APART + 1] if since > APART else fused[:0]
    before_at = int(before.argmax()) if before.size else 0
    after = fused[at + APART :]
    after_at = int(after.argmax())
    wide = view.bands[:, WIDE, at + APART :].max(axis=1)
    return [
        float(before[before_at]) / amp if before.size else 0.0,
        float(since - before_at) if before.size else 0.0,
        float(after[after_at]) / amp,
        float(after_at + APART),
        float((wide * view.share / np.maximum(view.level, 1e-6)).sum()) / amp,
        _before_all(view, this, last) / amp,
    ]


def _background(view: View, this: Measured) -> list[float]:
    """How high the curve stands around the candidate when nothing beats: noise, wander, flutter."""
    ordered = np.sort(view.fused)
    near = np.sort(view.fused[LOOKBACK - LOOKAHEAD :])
    steep = np.sort(view.bands[:, STEEP, LOOKBACK - LOOKAHEAD :], axis=1)[:, LOOKAHEAD]  # (C,)
    quarter = ordered.size // 4
    levels = [ordered[quarter], ordered[ordered.size // 2], ordered[3 * ordered.size // 4], near[near.size // 2]]
    levels.append((steep / np.maximum(view.level, 1e-6) * view.share).sum())
    return [float(level) / this.amp for level in levels]


def _before_all(view: View, this: Measured, last: Measured | None) -> float:
    """Highest point of the fused curve since the last beat, as far back as the view goes."""
    since = min(this.index - last.index - APART, LOOKBACK) if last else LOOKBACK
    return float(view.fused[LOOKBACK - since : LOOKBACK - APART + 1].max()) if since > APART else 0.0


class _Medians:
    """Medians over the remembered beats; ones while there is none."""

    def __init__(self, beats: list[Measured]) -> None:
        self.amp = _median([b.amp for b in beats])
        self.slope = _median([b.slope for b in beats])
        self.width = _median([b.width for b in beats])
        self.swing = _median([b.swing for b in beats])
        self.steep = _median([b.steep for b in beats])
        self.wide_ratio = _median([b.wide / b.amp for b in beats])
        self.steep_ratio = _median([b.steep / b.amp for b in beats])


def _median(values: list[float]) -> float:
    return max(sorted(values)[len(values) // 2], 1e-6) if values else 1.0


def _rhythm(index: int, beats: list[Measured]) -> list[float]:
    if not beats:
        return [2.0, 2.0, 2.0, 0.8, 0.0, 0.0]
    dt = (index - beats[-1].index) / RATE_HZ
    intervals = [(b.index - a.index) / RATE_HZ for a, b in pairwise(beats)]
    if not intervals:
        return [dt, dt / 0.8, dt / 0.8, 0.8, 0.0, 1.0]
    ordered = sorted(intervals)
    middle = ordered[len(ordered) // 2]
    spread = (ordered[-1 - len(ordered) // 4] - ordered[len(ordered) // 4]) / middle
    return [min(dt, 4.0), min(dt / middle, 5.0), min(dt / intervals[-1], 5.0), middle, spread, float(len(beats))]


def _per_lead(view: View) -> list[float]:
    order = np.argsort(-view.share, kind="stable")[:2]
    near = slice(LOOKBACK - _SLOPE_AROUND, LOOKBACK + _SLOPE_AROUND + 1)
    figures = []
    for c in order:
        level = max(float(view.level[c]), 1e-6)
        amp = float(view.bands[c, QRS, near].max()) / level
        slope = float(np.abs(np.diff(view.bands[c, WAVE, near])).max()) / level
        figures.append((amp, slope, math.log(level / max(float(view.noise[c]), 1e-6))))
    if len(figures) == 1 or view.share[order[1]] <= 0.0:
        figures = [figures[0], (-1.0, -1.0, -1.0)]
    (amp_a, slope_a, snr_a), (amp_b, slope_b, snr_b) = figures
    return [float(view.share[order[0]]), amp_a, amp_b, slope_a, slope_b, snr_a, snr_b]


def _alike(this: Measured, memory: Memory) -> list[float]:
    """Correlation with the template, the last and the most similar remembered beat, and the size against that beat."""
    if memory.template is None:
        return [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    best_lag = _likeness(this.shape, [_core(memory.template), *memory.cores]).max(axis=1)
    k = int(best_lag[1:].argmax())
    twin = memory.beats[k - len(memory.cores)]
    sizes = [this.amp / twin.amp, this.slope / twin.slope, this.swing / twin.swing]
    return [float(best_lag[0]), float(best_lag[-1]), float(best_lag[k + 1]), *sizes]


def _core(shape: Float64Array) -> Float64Array:
    """The inner part of a shape as one vector of length one."""
    core = shape[:, _LAG:-_LAG].ravel()
    return np.asarray(core / max(math.sqrt(float(core @ core)), 1e-12))


def _likeness(shape: Float64Array, cores: list[Float64Array]) -> Float64Array:
    """Correlation of ``shape`` with each core over small shifts (len(cores), 2·_LAG + 1), all leads together."""
    flat = np.stack([shape[:, k : k + 2 * (_AROUND - _LAG) + 1].ravel() for k in range(2 * _LAG + 1)])
    norm = np.sqrt((flat * flat).sum(axis=1))
    return np.asarray((np.stack(cores) @ flat.T) / np.maximum(norm, 1e-12))
