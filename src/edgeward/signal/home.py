"""The patient's usual complex over many minutes, which a run that lasts a minute or two does not displace.

The running average beat follows what the heart does now; after some sixty beats of ventricular rhythm it is a
ventricular beat, and nothing looks unusual any more. The usual complex learns only from beats like itself, and gives
way only after ``_GIVE_UP`` beats without one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgeward.signal.complex import Complex, Seen

FloatArray = npt.NDArray[np.float32]

_ALIKE = 0.85
_MEMORY = 300
_FIRST = 12
_GIVE_UP = 400

HOME_NAMES: tuple[str, ...] = (
    "home_corr",
    "home_width",
    "home_sharp_lead1",
    "home_sharp_lead2",
    "home_size_lead1",
    "home_size_lead2",
    "home_rise",
    "home_template_corr",
    "home_next_corr",
    "away_run",
    "shape_run",
    "home_known",
)
"""Names of the features in order."""


class Home:
    """The usual complex, its width, sharpness and size, and the wave around it. Bounded."""

    def __init__(self, dim: int, window: int) -> None:
        self._unit = np.zeros(dim, dtype=np.float32)
        self._wave = np.zeros((2, window), dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the patient."""
        self._unit = np.zeros_like(self._unit)
        self._wave = np.zeros_like(self._wave)
        self._figures = np.zeros(6, dtype=np.float32)
        self._count = 0
        self._misses = 0
        self._last = np.zeros_like(self._unit)
        self._run = 0

    @property
    def wave(self) -> FloatArray:
        """The usual beat (2, window) in mV; zeros before the first."""
        return self._wave

    def add(self, unit: FloatArray, seen: Seen, founder: tuple[FloatArray, FloatArray]) -> None:
        """Take in a beat. ``founder``: the present dominant complex (length 1) and its wave, to begin or start anew."""
        self._run = self._run + 1 if float(unit @ self._last) > _ALIKE else 1
        self._last = unit
        if self._count < _FIRST or self._misses >= _GIVE_UP:
            if self._misses >= _GIVE_UP:
                self._count = 0
            self._unit, self._wave = founder[0].copy(), founder[1].copy()
            self._misses = 0
        if float(unit @ self._unit) <= _ALIKE:
            self._misses += 1
            return
        self._misses = 0
        self._count += 1
        share = np.float32(1.0 / min(self._count, _MEMORY))
        mixed = (np.float32(1.0) - share) * self._unit + share * unit
        self._unit = np.asarray(mixed / np.float32(max(math.sqrt(float(mixed @ mixed)), 1e-6)), dtype=np.float32)
        self._figures += share * (figures(seen.complex_) - self._figures)
        self._wave += share * (seen.wave - self._wave)

    def corr(self, unit: FloatArray) -> float:
        """Likeness of a complex of length 1 to the usual one; 0 before there is one."""
        return float(unit @ self._unit) if self._count else 0.0

    def features(self, unit: FloatArray, complex_: Complex, template: FloatArray) -> list[float]:
        """How far a beat is from home, and how long the heart has been away; the next beat counts as being there."""
        if self._count == 0:
            return [0.0] * len(HOME_NAMES)
        off = np.clip(figures(complex_) - self._figures, -2.0, 2.0)
        same = self._run + 1 if float(unit @ self._last) > _ALIKE else 1
        return [
            float(unit @ self._unit),
            *(float(x) for x in off),
            float(template @ self._unit),
            1.0,
            math.log1p(self._misses) / 6.0,
            math.log(same) / 6.0,
            math.log1p(self._count) / math.log1p(_MEMORY),
        ]


def figures(complex_: Complex) -> FloatArray:
    """Logarithms of width, sharpness per lead and size per lead; rise (6,)."""
    size = np.log(np.maximum(complex_.size_mv, 0.02))
    sharp = np.log(np.maximum(complex_.sharpness, 0.02))
    return np.array(
        [math.log((complex_.width_samples + 1.0) / 25.0), sharp[0], sharp[1], size[0], size[1], complex_.rise / 12.0],
        dtype=np.float32,
    )
