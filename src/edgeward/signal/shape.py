"""Shape of one beat against the patient's own running average beat.

Raw shapes differ between patients more than between classes; what travels is the comparison with the shape this heart
mostly makes. ``ShapeMemory`` keeps the last beats, finds the dominant cluster among those that did not come early (no
labels, causal), and gives the average beat of that cluster, whole and for the QRS and the P region apart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.atrial import P_BEFORE, P_END, P_LENGTH, P_NAMES, p_features
from edgeward.signal.complex import (
    FLOOR_MV,
    MEASURE_BEFORE,
    QRS_AFTER,
    QRS_BEFORE,
    complex_at,
    slope_energy,
)
from edgeward.signal.habits import HABIT_NAMES, Deed, Habits
from edgeward.signal.home import HOME_NAMES, Home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.signal.complex import Complex, Seen

FloatArray = npt.NDArray[np.float32]

_ALIGN = 20  # samples
_ALIGN_CORR = 0.75
MEMORY_BEATS = 64
_ANCHOR_BEATS = 256
_LOYALTY = 1.5
_SIMILAR = 0.85
_UNKNOWN_INTERVAL = 200  # samples: 75 beats a minute

SHAPE_NAMES: tuple[str, ...] = (
    "qrs_corr",
    "qrs_corr_lead1",
    "qrs_corr_lead2",
    "qrs_diff",
    "qrs_density",
    "qrs_best_corr",
    "qrs_prev_corr",
    "prev_corr",
    "prev2_corr",
    "next_corr",
    "next_same_corr",
    "next2_corr",
    "size_lead1",
    "size_lead2",
    "width",
    "width_abs",
    "next_width",
    "dominant_share",
    "same_early",
    "p_corr",
    "p_diff",
    "p_energy",
    "p_consistency",
    "tp_diff",
    "t_diff",
    "template_known",
    *P_NAMES,
    *HABIT_NAMES,
    *HOME_NAMES,
    "rise",
    "sharp_lead1",
    "sharp_lead2",
    "qrs_area_lead1",
    "qrs_area_lead2",
    "t_area_lead1",
    "t_area_lead2",
    "discord_lead1",
    "discord_lead2",
)
"""Names of the shape features in order."""
_NEXT_CORR, _NEXT_SAME_CORR, _NEXT2_CORR, _NEXT_WIDTH, _HOME_NEXT_CORR = (
    SHAPE_NAMES.index(name) for name in ("next_corr", "next_same_corr", "next2_corr", "next_width", "home_next_corr")
)
_DEED_FIGURES = tuple(SHAPE_NAMES.index(name) for name in ("p_corr", "p_diff", "width"))


class ShapeMemory:
    """The last beats of a patient and the average of their dominant cluster. Bounded: ``MEMORY_BEATS`` beats."""

    def __init__(self, window: int, centre: int) -> None:
        self._window, self._centre = window, centre
        dim = 2 * (QRS_BEFORE + QRS_AFTER)
        self._unit = np.zeros((MEMORY_BEATS, dim), dtype=np.float32)
        self._waves = np.zeros((MEMORY_BEATS, 2, window), dtype=np.float32)
        self._sizes = np.zeros((MEMORY_BEATS, 2), dtype=np.float32)
        self._widths = np.zeros(MEMORY_BEATS, dtype=np.float32)
        self._weights = np.zeros(MEMORY_BEATS, dtype=np.float32)
        self._early = np.zeros(MEMORY_BEATS, dtype=np.float32)
        self._alike = np.zeros((MEMORY_BEATS, MEMORY_BEATS), dtype=bool)
        self._habits = Habits(dim)
        self._home = Home(dim, window)
        self._intervals = np.zeros(MEMORY_BEATS, dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the patient's beats (after a gap)."""
        self._count = 0
        self._order = 0
        self._habits.reset()
        self._home.reset()
        self._alike[:] = False
        self._weights[:] = 0.0
        self._last: list[FloatArray] = []
        self._members = np.zeros(0, dtype=np.intp)
        self._template = np.zeros((2, self._window), dtype=np.float32)
        self._qrs_unit = np.zeros(self._unit.shape[1], dtype=np.float32)
        self._anchor = np.zeros(self._unit.shape[1], dtype=np.float32)
        self._scale = np.ones(2, dtype=np.float32)
        self._p_members: tuple[float, float] = (0.0, 1.0)

    @property
    def scale_mv(self) -> FloatArray:
        """The patient's usual peak-to-peak size of complex per lead (2,); ones before the first beat."""
        return self._scale

    @property
    def known(self) -> bool:
        """Whether at least one beat is remembered."""
        return self._count > 0

    @property
    def template(self) -> FloatArray:
        """Average wave of the dominant cluster (2, window) in millivolts; zeros before the first beat."""
        return self._template

    @property
    def home(self) -> FloatArray:
        """The patient's usual beat over many minutes (2, window) in millivolts; zeros before the first beat."""
        return self._home.wave

    def add(self, seen: Seen) -> None:
        """Remember a beat."""
        complex_ = seen.complex_
        slot = self._order % MEMORY_BEATS
        self._order += 1
        self._count = min(self._count + 1, MEMORY_BEATS)
        unit = _unit(complex_.qrs, self._scale if self._count > 1 else complex_.size_mv)
        self._unit[slot] = unit
        self._waves[slot] = seen.wave
        self._sizes[slot] = complex_.size_mv
        self._widths[slot] = complex_.width_samples
        self._weights[slot] = 1.0 if seen.early_log > math.log(0.88) else 0.15
        self._early[slot] = seen.early_log
        self._intervals[slot] = seen.pre if seen.pre is not None else _UNKNOWN_INTERVAL
        alike = self._unit[: self._count] @ unit > _SIMILAR
        self._alike[slot, : self._count] = alike
        self._alike[: self._count, slot] = alike
        self._alike[slot, slot] = True  # a flat complex resembles nothing, not even itself
        self._last = [unit, *self._last[:1]]
        self._refresh()
        figures = (float(seen.shape[k]) for k in _DEED_FIGURES)
        self._habits.add(unit, Deed(seen.early_log, seen.late_log, *figures))
        self._home.add(unit, seen, (self._qrs_unit, self._template))

    def aligned(self, cut: FloatArray, index: int, found: Complex) -> Complex:
        """``found``, moved to where it fits the average beat best, if it is alike at all.

        A notched complex has two centres of slope energy; noise would toss the fiducial between them.
        """
        if self._count < 3:
            return found
        centre = found.index - index + MEASURE_BEFORE
        lo = max(QRS_BEFORE, centre - _ALIGN)
        hi = min(cut.shape[1] - QRS_AFTER, centre + _ALIGN)
        part = cut[:, lo - QRS_BEFORE : hi + QRS_AFTER] / self._scale[:, None]
        unit = self._qrs_unit.reshape(2, -1)
        length = unit.shape[1]
        dots = np.correlate(part[0], unit[0], "valid") + np.correlate(part[1], unit[1], "valid")
        sums = np.cumsum(np.pad(part, ((0, 0), (1, 0))), axis=1)
        squares = np.cumsum(np.pad(part * part, ((0, 0), (1, 0))), axis=1)
        mean = (sums[:, length:] - sums[:, :-length]) / np.float32(length)
        power = (squares[:, length:] - squares[:, :-length] - length * mean * mean).sum(axis=0)
        corr = dots / np.sqrt(np.maximum(power, 1e-6))
        best = int(np.argmax(corr))
        if corr[best] < _ALIGN_CORR or lo + best == centre:
            return found
        return complex_at(cut, lo + best, index, slope_energy(cut, self._scale))

    def _refresh(self) -> None:
        n = self._count
        weights = self._weights[:n]
        votes = (self._alike[:n, :n] @ weights) * weights
        # Bigeminy and runs shall not pass for the patient's own beat: what looks like the long-run average counts more.
        votes *= 1.0 + _LOYALTY * (self._unit[:n] @ self._anchor > _SIMILAR)
        lead = int(np.argmax(votes))
        members = np.flatnonzero(self._alike[lead, :n] & (weights >= min(1.0, weights[lead])))
        self._members = members
        waves = self._waves[members]
        self._template = waves.sum(axis=0) / np.float32(members.size)
        self._scale = np.maximum(np.sort(self._sizes[members], axis=0)[members.size // 2], FLOOR_MV).astype(np.float32)
        mean_qrs = self._unit[members].sum(axis=0)
        self._qrs_unit = mean_qrs / max(math.sqrt(_power(mean_qrs)), 1e-6)
        share = np.float32(max(1.0 / self._order, 1.0 / _ANCHOR_BEATS))
        anchor = (np.float32(1.0) - share) * self._anchor + share * self._qrs_unit
        length = np.float32(max(math.sqrt(_power(anchor)), 1e-6))
        self._anchor = np.asarray(anchor / length, dtype=np.float32)
        regions = _p_region(waves, self._centre) / np.repeat(self._scale, P_LENGTH)  # (m, 2·57)
        mean_p = np.asarray(regions.sum(axis=0) / np.float32(members.size), dtype=np.float32)
        usual = max(math.sqrt(_power(mean_p)), 1e-6)
        powers = np.einsum("ij,ij->i", regions, regions)
        along = regions @ mean_p
        consistency = _median(along / (np.sqrt(powers) * usual + 1e-6))
        spread = math.sqrt(max(0.0, _median(powers - 2 * along + usual * usual)) / regions.shape[1])
        self._p_mean = mean_p
        self._p_members = (consistency, spread + 0.005)

    def features(self, complex_: Complex, wave: FloatArray, pre: int | None) -> FloatArray:
        """Shape features (len(SHAPE_NAMES),) of a beat not yet added; zeros before the first beat is known.

        ``pre``: samples since the beat before. What the later beats tell stands as if they were usual ones until
        ``followed`` enters it.
        """
        out = np.zeros(len(SHAPE_NAMES), dtype=np.float32)
        if self._count == 0:
            return out
        n = self._count
        scale = self._scale
        unit = _unit(complex_.qrs, scale)
        corr = _best_corr(complex_.qrs, self._qrs_unit, scale)
        to_all = self._unit[:n] @ unit
        similar = to_all > _SIMILAR
        alike = int(np.count_nonzero(similar))
        template_qrs = self._template[:, self._centre - QRS_BEFORE : self._centre + QRS_AFTER]
        size = np.log(np.maximum(complex_.size_mv, 0.02) / scale)
        width = self._usual_width()
        wave_n = wave / scale[:, None]
        delta = wave_n - self._template / scale[:, None]
        values = [
            corr,
            _corr(complex_.qrs[0], template_qrs[0]),
            _corr(complex_.qrs[1], template_qrs[1]),
            _rms_diff(delta, self._centre - QRS_BEFORE, self._centre + QRS_AFTER),
            alike / n,
            float(to_all.max()),
            float(self._last[0] @ unit),
            float(self._last[0] @ self._qrs_unit),
            float(self._last[1] @ self._qrs_unit) if len(self._last) > 1 else 1.0,
            1.0,
            1.0,
            1.0,
            float(np.clip(size[0], -2, 2)),
            float(np.clip(size[1], -2, 2)),
            math.log((complex_.width_samples + 1.0) / (width + 1.0)),
            complex_.width_samples / 25.0,
            0.0,
            self._members.size / n,
            float(self._early[:n] @ similar) / alike if alike else 0.0,
        ]
        values += self._p_features(wave_n, delta)
        usual_interval = int(_median(self._intervals[self._members]))
        template_n = self._template / scale[:, None]
        values += p_features(wave_n, template_n, self._p_mean, self._centre, pre, usual_interval)
        values += self._habits.features(unit)
        values += self._home.features(unit, complex_, self._qrs_unit)
        values += _form(complex_, wave_n, self._centre)
        out[:] = values
        return out

    def followed(self, shape: FloatArray, complex_: Complex, following: Sequence[Complex]) -> FloatArray:
        """``shape``, the features of ``complex_``, with what up to two later beats tell."""
        if self._count == 0 or not following:
            return shape
        out = shape.copy()
        first = _unit(following[0].qrs, self._scale)
        usual_width = self._usual_width()
        out[_NEXT_CORR] = float(first @ self._qrs_unit)
        out[_NEXT_SAME_CORR] = float(first @ _unit(complex_.qrs, self._scale))
        out[_NEXT_WIDTH] = math.log((following[0].width_samples + 1.0) / (usual_width + 1.0))
        out[_HOME_NEXT_CORR] = self._home.corr(first)
        if len(following) > 1:
            out[_NEXT2_CORR] = float(_unit(following[1].qrs, self._scale) @ self._qrs_unit)
        return out

    def _usual_width(self) -> float:
        return max(_median(self._widths[self._members]), 1.0)

    def _p_features(self, wave_n: FloatArray, delta: FloatArray) -> list[float]:
        region = _p_region(wave_n[None], self._centre)[0]
        own, usual = math.sqrt(_power(region)), math.sqrt(_power(self._p_mean))
        consistency, spread = self._p_members
        diff = math.sqrt(_power(region - self._p_mean) / region.size)
        energy = (own + 0.05) / (usual + 0.05)
        c = self._centre
        return [
            float(region @ self._p_mean) / (own * usual) if own * usual > 1e-6 else 0.0,
            max(-2.0, min(3.0, math.log((diff + 0.005) / spread))),
            max(-2.0, min(2.0, math.log(energy))),
            consistency,
            _rms_diff(delta, c - 110, c - P_END),
            _rms_diff(delta, c + QRS_AFTER, min(c + 110, self._window)),
            1.0,
        ]


def _form(complex_: Complex, wave_n: FloatArray, centre: int) -> list[float]:
    """Rise, sharpness and areas: a ventricular complex rises slowly and its T wave points the other way."""
    qrs = wave_n[:, centre - 22 : centre + 28].mean(axis=1)
    t_wave = wave_n[:, centre + 40 : centre + 95].mean(axis=1)
    areas = 4.0 * np.concatenate([qrs, t_wave, -np.sign(qrs) * t_wave])
    return [complex_.rise / 12.0, *complex_.sharpness.tolist(), *areas.tolist()]


def _sized(qrs: FloatArray, scale: FloatArray) -> FloatArray:
    """In units of the patient's usual complex."""
    return np.asarray(qrs / np.maximum(scale, FLOOR_MV)[:, None], dtype=np.float32)


def _unit(qrs: FloatArray, scale: FloatArray) -> FloatArray:
    flat = _sized(qrs, scale).reshape(-1)
    return flat / max(math.sqrt(_power(flat)), 1e-6)


def _best_corr(qrs: FloatArray, unit: FloatArray, scale: FloatArray) -> float:
    """Highest correlation of a centred complex with the template over shifts of ±2 samples."""
    both = _sized(qrs, scale)
    inner = unit.reshape(both.shape)[:, 2:-2]
    dots = np.correlate(both[0], inner[0], "valid") + np.correlate(both[1], inner[1], "valid")  # (5,)
    norm = math.sqrt(_power(both) * _power(inner))
    return min(1.0, float(dots.max()) / norm) if norm > 1e-6 else 0.0


def _power(a: FloatArray) -> float:
    flat = a.reshape(-1)
    return float(flat @ flat)


def _corr(a: FloatArray, b: FloatArray) -> float:
    """Correlation of two vectors of equal length; 0 where one is flat."""
    n = a.size
    sum_a, sum_b = float(a.sum()), float(b.sum())
    norm = (_power(a) - sum_a * sum_a / n) * (_power(b) - sum_b * sum_b / n)
    return (float(a @ b) - sum_a * sum_b / n) / math.sqrt(norm) if norm > 1e-10 else 0.0


def _rms_diff(delta: FloatArray, start: int, stop: int) -> float:
    """Three times the root mean square of a difference (2, T) from start to stop, means removed; at most 3."""
    part = delta[:, start:stop]
    n = part.shape[1]
    sums = part.sum(axis=1)
    power = max(0.0, _power(np.ascontiguousarray(part)) - float(sums @ sums) / n)
    return min(3.0, 3.0 * math.sqrt(power / (2 * n)))


def _median(values: FloatArray) -> float:
    ordered = np.sort(values)
    return float(0.5 * (ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]))


def _p_region(waves: FloatArray, centre: int) -> FloatArray:
    """Centred, lightly smoothed samples where a P wave belongs (B, 2·57), from waves (B, 2, T)."""
    part = waves[:, :, centre - P_BEFORE - 3 : centre - P_END + 2]
    total = np.cumsum(part, axis=2)
    smooth = (total[:, :, 5:] - total[:, :, :-5]) / np.float32(5.0)  # means of 5 samples
    smooth -= smooth.sum(axis=2, keepdims=True) / np.float32(P_LENGTH)
    return np.asarray(smooth.reshape(waves.shape[0], -1), dtype=np.float32)
