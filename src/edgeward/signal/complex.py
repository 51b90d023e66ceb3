"""One measured QRS complex: its centre, size, width, sharpness and rise; and a beat as it is remembered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

QRS_BEFORE, QRS_AFTER = 25, 40
"""Samples of a complex before and from its fiducial, at 250 Hz."""
_SEARCH = 25
_MARGIN = 12
MEASURE_BEFORE = _SEARCH + QRS_BEFORE + _MARGIN
MEASURE_AFTER = _SEARCH + QRS_AFTER + _MARGIN
"""Samples before and after a detection that ``measure`` wants to see."""
LATEST_SHIFT = _SEARCH + _MARGIN
"""By how many samples a measured fiducial may lie after the detection."""
FLOOR_MV = np.float32(0.15)
"""Smaller complexes are not blown up to full size."""


@dataclass(frozen=True, slots=True)
class Complex:
    """One measured QRS: refined fiducial, centred complex and its size and width."""

    index: int
    """Sample where the slope energy of the complex is centred; intervals are taken between these."""
    qrs: FloatArray
    """Centred samples around the fiducial (2, 65) in millivolts."""
    size_mv: FloatArray
    """Peak-to-peak size per lead (2,)."""
    width_samples: float
    sharpness: FloatArray
    """Steepest 16 ms per lead in units of the size (2,): high where the ventricles are excited by their own fibres."""
    rise: float
    """Samples from the onset to the steepest part."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A beat whose window is out, as it is remembered."""

    complex_: Complex
    wave: FloatArray
    """(2, window) in mV."""
    early_log: float
    late_log: float
    """Log-ratios of the intervals before and after it to the patient's recent ones."""
    pre: int | None
    """Samples since the beat before; None after a reset."""
    shape: FloatArray
    """Its shape features (len(SHAPE_NAMES),)."""


def measure(cut: FloatArray, index: int, scale_mv: FloatArray) -> Complex:
    """Measure the complex in ``cut`` (2, MEASURE_BEFORE + MEASURE_AFTER), detected at ``index``.

    Detectors and annotators mark different points of a complex; the centre of slope energy is one definition for all.
    ``scale_mv`` (2,) weighs the leads (the patient's usual size of complex in each).
    """
    energy = slope_energy(cut, scale_mv)
    smooth = np.convolve(energy, np.full(11, 1.0 / 11.0), mode="same")
    lo, hi = MEASURE_BEFORE - _SEARCH, MEASURE_BEFORE + _SEARCH + 1
    peak = lo + int(np.argmax(smooth[lo:hi]))
    near = np.arange(max(0, peak - 15), min(energy.size, peak + 16))
    weight = smooth[near]
    total = float(weight.sum())
    centre = round(float(near @ weight) / total) if total > 0 else MEASURE_BEFORE
    return complex_at(cut, min(max(centre, lo), hi - 1), index, energy)


def slope_energy(cut: FloatArray, scale_mv: FloatArray) -> FloatArray:
    """Squared slope of both leads of ``cut`` (2, n), each in units of ``scale_mv`` (2,), summed: (n,)."""
    slope = np.zeros_like(cut)
    slope[:, 2:-2] = (cut[:, 4:] - cut[:, :-4]) / np.maximum(scale_mv, FLOOR_MV)[:, None]
    return np.asarray(np.sum(slope * slope, axis=0), dtype=np.float32)


def complex_at(cut: FloatArray, centre: int, index: int, energy: FloatArray) -> Complex:
    """The complex centred at sample ``centre`` of ``cut``, whose detection at ``index`` lies at ``MEASURE_BEFORE``."""
    qrs = cut[:, centre - QRS_BEFORE : centre + QRS_AFTER]  # (2, 65)
    qrs = qrs - qrs.sum(axis=1, keepdims=True) / np.float32(qrs.shape[1])
    around = energy[centre - QRS_BEFORE : centre + QRS_AFTER]
    high = np.flatnonzero(around > 0.04 * float(around.max(initial=0.0)))
    width = float(high[-1] - high[0]) if high.size else 0.0
    size = np.ptp(cut[:, centre - 20 : centre + 21], axis=1).astype(np.float32)
    steepest = np.abs(qrs[:, 9:-16] - qrs[:, 5:-20]).max(axis=1)
    sharpness = (steepest / np.maximum(size, 0.05)).astype(np.float32)
    rise = float(np.argmax(around) - high[0]) if high.size else 0.0
    return Complex(index + centre - MEASURE_BEFORE, qrs.astype(np.float32), size, width, sharpness, rise)
