"""A simulated heart seen by 12 leads: beats → dipole → leads, with the truth beside the samples.

Each wave of a beat is a Gaussian in time, as in McSharry et al. 2003 (IEEE Trans Biomed Eng 50:289), but along a fixed
direction of a three-dimensional dipole (x left, y foot, z back). Dower's matrix (Dower et al. 1980; coefficients as in
Edenbrandt & Pahlm 1988, J Electrocardiol 21:361) projects the dipole on I, II and V1 to V6. Noise arises at the
electrodes. So Einthoven's law (III = II − I) and Goldberger's (aVR = −(I + II) ÷ 2 …) hold at every sample. The rhythm
carries respiratory sinus arrhythmia and slow drift. One seed gives the same samples however they are asked for.

This is a test signal with known beats; it does not stand for patients, and no accuracy is claimed on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

# Rows I, II, V1 … V6; columns x, y, z.
_DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
# The 12 leads from I, II, V1 … V6.
_FROM_EIGHT = np.zeros((12, 8))
_FROM_EIGHT[0, 0] = _FROM_EIGHT[1, 1] = 1.0
_FROM_EIGHT[2, :2] = (-1.0, 1.0)
_FROM_EIGHT[3, :2] = (-0.5, -0.5)
_FROM_EIGHT[4, :2] = (1.0, -0.5)
_FROM_EIGHT[5, :2] = (-0.5, 1.0)
_FROM_EIGHT[6:, 2:] = np.eye(6)
_LEADS_OF_DIPOLE = (_FROM_EIGHT @ _DOWER).astype(np.float32)  # (12, 3)
_LEADS_OF_EIGHT = _FROM_EIGHT.astype(np.float32)  # (12, 8)

_BEFORE_S = 0.36
_AFTER_S = 0.80


@dataclass(frozen=True, slots=True)
class _Wave:
    """One Gaussian: its centre after the R peak, its width (σ), its dipole in mV. ``stretch``: 1 moves with √RR."""

    at_s: float
    sigma_s: float
    dipole: tuple[float, float, float]
    stretch: float = 0.0


_P = _Wave(-0.165, 0.022, (0.05, 0.11, -0.01))
_P_ECTOPIC = _Wave(-0.135, 0.018, (0.09, -0.07, -0.03))
_QRS = (
    _Wave(-0.024, 0.009, (-0.16, -0.05, -0.26)),
    _Wave(0.0, 0.011, (1.10, 0.95, 0.25)),
    _Wave(0.026, 0.011, (-0.22, -0.18, 0.42)),
)
_T = _Wave(0.27, 0.050, (0.30, 0.25, -0.14), stretch=1.0)
_WIDE = (
    _Wave(-0.030, 0.028, (-0.30, 0.55, -0.55)),
    _Wave(0.020, 0.034, (-0.55, 1.15, -1.05)),
    _Wave(0.085, 0.030, (0.30, -0.35, 0.40)),
    _Wave(0.300, 0.075, (0.28, -0.50, 0.42), stretch=1.0),
)


class BeatKind(Enum):
    """What the simulated heart can do in one beat; the value is the WFDB symbol of the truth."""

    NORMAL = "N"
    ATRIAL_PREMATURE = "A"
    VENTRICULAR = "V"
    FIBRILLATING = "n"
    """A conducted beat in atrial fibrillation: normal QRS, no P. Its symbol in the truth is N."""

    @property
    def symbol(self) -> str:
        """WFDB symbol of the truth."""
        return "N" if self is BeatKind.FIBRILLATING else self.value


_WAVES: dict[BeatKind, tuple[_Wave, ...]] = {
    BeatKind.NORMAL: (_P, *_QRS, _T),
    BeatKind.ATRIAL_PREMATURE: (_P_ECTOPIC, *_QRS, _T),
    BeatKind.VENTRICULAR: _WIDE,
    BeatKind.FIBRILLATING: (*_QRS, _T),
}


@dataclass(frozen=True, slots=True)
class TrueBeat:
    """What really happened: the R peak's time since the start, and the kind of beat."""

    at_s: float
    kind: BeatKind


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How the heart goes: mean rate, share of RR that breathing moves, and chance ectopic beats per minute."""

    heart_rate_bpm: float = 72.0
    breaths_per_min: float = 15.0
    sinus_arrhythmia: float = 0.05
    pvc_per_min: float = 0.0
    pac_per_min: float = 0.0


class Heart:
    """Makes the next beat on demand; ``mode`` and ``order`` steer it. Seeded and deterministic."""

    def __init__(self, rhythm: Rhythm, rng: np.random.Generator) -> None:
        self._rhythm = rhythm
        self._rng = rng
        self._last_s = -0.3
        self._pause = 1.0
        self._drift = 0.0
        self.mode = "sinus"
        """``sinus``, ``af``, ``vt`` or ``asystole``."""
        self.order: BeatKind | None = None
        """A single ectopic beat wanted next."""

    def next_beat(self) -> TrueBeat | None:
        """The next beat; in asystole None, and time passes until the mode changes."""
        if self.mode == "asystole":
            return None
        rr, kind = self._interval()
        self._last_s += rr
        return TrueBeat(self._last_s, kind)

    def skip_to(self, at_s: float) -> None:
        """No beat until ``at_s``."""
        self._last_s = max(self._last_s, at_s)

    @property
    def last_s(self) -> float:
        """Time of the latest beat."""
        return self._last_s

    def _interval(self) -> tuple[float, BeatKind]:
        r = self._rhythm
        if self.mode == "vt":
            return 60.0 / 170.0 * (1.0 + 0.02 * float(self._rng.standard_normal())), BeatKind.VENTRICULAR
        if self.mode == "af":
            mean = 60.0 / (1.35 * r.heart_rate_bpm)
            return max(0.30, float(self._rng.gamma(12.0, mean / 12.0))), BeatKind.FIBRILLATING
        self._drift = 0.95 * self._drift + 0.006 * float(self._rng.standard_normal())
        breath = r.sinus_arrhythmia * math.sin(2 * math.pi * self._last_s * r.breaths_per_min / 60.0)
        rr = 60.0 / r.heart_rate_bpm * (1.0 + breath + self._drift + 0.004 * float(self._rng.standard_normal()))
        chance = float(self._rng.random())
        rr, self._pause = rr * self._pause, 1.0
        kind = self.order or self._chance(chance)
        self.order = None
        if kind is BeatKind.VENTRICULAR:
            self._pause = 1.38  # full compensatory pause: coupling and pause make two sinus intervals
            return 0.62 * rr, kind
        if kind is BeatKind.ATRIAL_PREMATURE:
            self._pause = 1.10  # the sinus node is reset: a shorter pause
            return 0.66 * rr, kind
        return rr, BeatKind.NORMAL

    def _chance(self, draw: float) -> BeatKind:
        r = self._rhythm
        if draw < r.pvc_per_min / r.heart_rate_bpm:
            return BeatKind.VENTRICULAR
        if draw < (r.pvc_per_min + r.pac_per_min) / r.heart_rate_bpm:
            return BeatKind.ATRIAL_PREMATURE
        return BeatKind.NORMAL


class Torso:
    """Turns beats into lead voltages, in stretches of any length asked for in order."""

    def __init__(self, rate_hz: float, rng: np.random.Generator, *, noise_mv: float, breaths_per_min: float) -> None:
        self._rate_hz = rate_hz
        self._rng = rng
        self._noise_mv = noise_mv
        self._breath_hz = breaths_per_min / 60.0
        self._wander = rng.normal(0.0, 0.05, 8).astype(np.float32)
        self._gain = rng.normal(1.0, 0.12, 3).astype(np.float32).clip(0.7, 1.3)
        self._phases = rng.uniform(0, 2 * math.pi, 4)

    def render(self, start: int, count: int, beats: list[tuple[TrueBeat, float]], *, fibrillating: bool) -> FloatArray:
        """Leads (12, count) in mV from sample ``start`` on; ``beats`` with the RR interval that led to each."""
        dipole = np.zeros((3, count), dtype=np.float32)
        for beat, rr_s in beats:
            self._add_beat(dipole, start, count, beat, rr_s)
        dipole *= self._gain[:, None]
        time_s = (start + np.arange(count)) / self._rate_hz
        if fibrillating:
            dipole += self._fibrillation(time_s)
        eight = self._wander[:, None] * np.sin(2 * math.pi * self._breath_hz * time_s).astype(np.float32)
        eight += self._rng.standard_normal((8, count), dtype=np.float32) * np.float32(self._noise_mv)
        leads: FloatArray = _LEADS_OF_DIPOLE @ dipole + _LEADS_OF_EIGHT @ eight
        return leads

    def _add_beat(self, dipole: FloatArray, start: int, count: int, beat: TrueBeat, rr_s: float) -> None:
        centre = beat.at_s * self._rate_hz - start
        first = max(0, math.floor(centre - _BEFORE_S * self._rate_hz))
        last = min(count, math.ceil(centre + _AFTER_S * self._rate_hz))
        if first >= last:
            return
        offset_s = ((np.arange(first, last) - centre) / self._rate_hz).astype(np.float32)  # (n,)
        waves = _WAVES[beat.kind]
        # Bazett: repolarisation follows the square root of the RR interval.
        root = math.sqrt(min(max(rr_s, 0.35), 1.3) / 0.83)
        at = np.array([w.at_s * (root if w.stretch else 1.0) for w in waves], dtype=np.float32)
        sigma = np.array([w.sigma_s for w in waves], dtype=np.float32)
        shapes = np.exp(-0.5 * ((offset_s - at[:, None]) / sigma[:, None]) ** 2)  # (W, n)
        dipole[:, first:last] += np.array([w.dipole for w in waves], dtype=np.float32).T @ shapes

    def _fibrillation(self, time_s: DoubleArray) -> FloatArray:
        """Fibrillatory waves, 5 to 7 Hz with wandering size, towards V1."""
        wave = np.zeros_like(time_s)
        for frequency, phase in zip((5.3, 6.1, 6.9), self._phases[:3], strict=True):
            wave += np.sin(2 * math.pi * frequency * time_s + phase)
        wave *= 0.03 * (1.0 + 0.3 * np.sin(2 * math.pi * 0.31 * time_s + self._phases[3]))
        direction = np.array([-0.4, 0.5, -0.8])
        return (direction[:, None] * wave).astype(np.float32)
