"""What the QRS scorer looks at: one candidate against its surroundings and against the beats before it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

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
_SNIPPET = np.arange(-88, 85, 8)

NAMES: tuple[str, ...] = (
    *("amp", "amp_med", "amp_last", "amp_min8", "slope_med", "slope_last", "wide_ratio", "wide_rel", "steep_ratio", "steep_rel"),
    *("width", "width_rel", "dt_s", "dt_med", "dt_last", "rr_med_s", "rr_spread", "beats_known"),
    *("before", "before_at", "after", "after_at", "after_wide", "before_all", "q25_2s", "q50_2s", "q75_2s", "q50_near", "steep_near"),
    *("share_a", "amp_a", "amp_b", "slope_a", "slope_b", "snr_a", "snr_b"),
    *("shape_med", "shape_last", "shape_alike", "p2p_med", "p2p_last", "last_amp_med", "last_wide_rel"),
    *(f"s{offset:+d}" for offset in _SNIPPET),
)


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

    def add(self, beat: Measured) -> None:
        """Take one more beat; the oldest is forgotten."""
        self.beats.append(beat)
        del self.beats[: -_REMEMBERED - 1]
        if self.template is None:
            self.template = beat.shape.copy()
        else:
            lag = _best_lag(beat.shape, self.template)[1]
            self.template += 0.15 * (np.roll(beat.shape, -lag, axis=1) - self.template)


def measure(view: View) -> Measured:
    """Figures of the candidate itself."""
    at = LOOKBACK
    scale = view.share / np.maximum(view.level, 1e-6)  # (C,)
    fused = view.fused
    amp = float(fused[at])
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
    return Measured(view.index, amp, slope, wide, steep, float(width), swing, shape)


def features(view: View, this: Measured, memory: Memory) -> Float64Array:
    """The feature vector (len(NAMES),) of a candidate."""
    at, fused, amp = LOOKBACK, view.fused, max(this.amp, 1e-6)
    out: list[float] = []
    beats = memory.beats
    recent = beats[-_REMEMBERED:]
    median_of = _Medians(recent)
    last = beats[-1] if beats else None
    amp_med = median_of.amp
    out += [
        amp,
        amp / amp_med,
        amp / last.amp if last else 1.0,
        amp / min((b.amp for b in recent), default=1.0),
        this.slope / median_of.slope,
        this.slope / last.slope if last else 1.0,
        this.wide / amp,
        (this.wide / amp) / median_of.wide_ratio,
        this.steep / amp,
        (this.steep / amp) / median_of.steep_ratio,
        this.width,
        this.width / median_of.width,
    ]
    out += _rhythm(this.index, beats)
    since = min(this.index - last.index - APART, LOOKAHEAD) if last else LOOKAHEAD
    before = fused[at - since : at - APART + 1] if since > APART else fused[:0]
    after = fused[at + APART :]
    before_at = int(before.argmax()) if before.size else 0
    after_at = int(after.argmax())
    wide_after = (view.bands[:, WIDE, at + APART :].max(axis=1) * view.share / np.maximum(view.level, 1e-6)).sum()
    out += [
        float(before[before_at]) / amp if before.size else 0.0,
        float(since - before_at) if before.size else 0.0,
        float(after[after_at]) / amp,
        float(after_at + APART),
        float(wide_after) / amp,
        _before_all(view, this, last) / amp,
    ]
    ordered = np.sort(fused)
    n = ordered.size
    near = np.sort(fused[at - LOOKAHEAD :])
    steep_near = (np.sort(view.bands[:, STEEP, at - LOOKAHEAD :], axis=1)[:, LOOKAHEAD] / np.maximum(view.level, 1e-6)) @ view.share
    out += [float(ordered[n // 4]) / amp, float(ordered[n // 2]) / amp, float(ordered[3 * n // 4]) / amp]
    out += [float(near[near.size // 2]) / amp, float(steep_near) / amp]
    out += _per_lead(view)
    alike = 0.0
    shape_med = shape_last = 0.0
    if memory.template is not None and last is not None:
        shape_med = _best_lag(this.shape, memory.template)[0]
        shape_last = _best_lag(this.shape, last.shape)[0]
        alike = max(shape_med, shape_last)
    out += [shape_med, shape_last, alike]
    out += [this.swing / median_of.swing, this.swing / last.swing if last else 1.0]
    out += [last.amp / amp_med if last else 1.0, (last.wide / max(last.amp, 1e-6)) / median_of.wide_ratio if last else 1.0]
    snippet = fused[at + _SNIPPET] / amp
    return np.concatenate((np.asarray(out), snippet))


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
        self.wide_ratio = _median([b.wide / max(b.amp, 1e-6) for b in beats])
        self.steep_ratio = _median([b.steep / max(b.amp, 1e-6) for b in beats])


def _median(values: list[float]) -> float:
    return max(sorted(values)[len(values) // 2], 1e-6) if values else 1.0


def _rhythm(index: int, beats: list[Measured]) -> list[float]:
    if not beats:
        return [2.0, 2.0, 2.0, 0.8, 0.0, 0.0]
    dt = (index - beats[-1].index) / RATE_HZ
    intervals = [(b.index - a.index) / RATE_HZ for a, b in zip(beats[:-1], beats[1:], strict=True)]
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


def _best_lag(shape: Float64Array, other: Float64Array) -> tuple[float, int]:
    """Highest correlation over small shifts of all leads together, and the shift of ``shape`` that gives it."""
    core = other[:, _LAG:-_LAG].ravel()
    n = core.size // shape.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(shape, n, axis=1)  # (C, 2·_LAG + 1, n)
    flat = windows.transpose(1, 0, 2).reshape(2 * _LAG + 1, -1)
    dot = (flat * core).sum(axis=1)
    norm = np.sqrt((flat * flat).sum(axis=1) * float((core * core).sum()))
    value = dot / np.maximum(norm, 1e-12)
    best = int(value.argmax())
    return float(value[best]), best - _LAG
