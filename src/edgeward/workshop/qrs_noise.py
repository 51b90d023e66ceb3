"""Hardships laid over real ECG that the QRS scorer meets in training: noise, pauses, bad contacts, drift of gain.

All at 250 Hz, waves (C, n) in mV, beats as sorted sample indices (m,). Every function draws only from the
generator given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

if TYPE_CHECKING:
    from collections.abc import Callable

Wave = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_Float = npt.NDArray[np.float64]

_RATE_HZ = 250


def erase_beats(wave: Wave, beats: Indices, rng: np.random.Generator, *, share: float = 0.012) -> tuple[Wave, Indices]:
    """Cut QRS and T of some runs of beats out and leave their P waves: pauses and blocked beats."""
    wave = wave.copy()
    keep = np.ones(beats.size, dtype=np.bool_)
    i = 2
    while i < beats.size - 3:
        if rng.random() >= share:
            i += 1
            continue
        run = int(rng.integers(1, 5))
        for j in range(i, min(i + run, beats.size - 2)):
            start = max(beats[j] - 18, beats[j - 1] + 60)
            stop = min(beats[j] + 110, beats[j + 1] - 45)
            if start >= beats[j] - 12 or stop < beats[j] + 40:
                continue
            keep[j] = False
            for lead in wave:
                ends = float(np.median(lead[start - 2 : start + 3])), float(np.median(lead[stop - 2 : stop + 3]))
                lead[start:stop] = np.linspace(*ends, stop - start) + rng.normal(0, 0.004, stop - start)
        i += run + 8
    return wave, beats[keep]


def weaken(wave: Wave, rng: np.random.Generator, *, every_s: float = 60.0) -> Wave:
    """Short spells in which all leads are small (a bad contact); the beats stay beats."""
    n = wave.shape[1]
    log_gain = np.zeros(n)
    t = 0
    while True:
        t += int(rng.exponential(every_s) * _RATE_HZ) + 500
        length = int(rng.uniform(1, 8) * _RATE_HZ)
        fade = int(rng.uniform(10, 60))
        if t + length + fade >= n:
            break
        depth = float(np.log(rng.uniform(0.08, 0.5)))
        log_gain[t : t + length] = depth
        log_gain[t - fade : t] = np.linspace(0, depth, fade)
        log_gain[t + length : t + length + fade] = np.linspace(depth, 0, fade)
        t += length
    flat = np.ones(251) / 251
    base = np.stack([np.convolve(np.pad(lead, 125, mode="edge"), flat, "valid") for lead in wave])
    return np.asarray(base + (wave - base) * np.exp(log_gain), dtype=np.float32)


def vary_gain(wave: Wave, rng: np.random.Generator) -> Wave:
    """Amplitude that steps or drifts, each lead for itself."""
    n = wave.shape[1]
    out = wave.copy()
    for lead in out:
        knots, values = [0], [0.0]
        while knots[-1] < n:
            hold = knots[-1] + int(rng.uniform(5, 60) * _RATE_HZ)
            knots += [hold, hold + int(rng.uniform(0.2, 5) * _RATE_HZ)]
            values += [values[-1], float(rng.normal(0, 0.35))]
        lead *= np.exp(np.interp(np.arange(n), knots, values))
    return out


def stretch(wave: Wave, beats: Indices, factor: float) -> tuple[Wave, Indices]:
    """The same wave on a time axis ``factor`` times as long."""
    n = wave.shape[1]
    t = np.arange(int(n * factor)) / factor
    longer = np.stack([np.interp(t, np.arange(n), lead) for lead in wave])
    return longer.astype(np.float32), np.rint(beats * factor).astype(np.int64)


def add_noise(wave: Wave, beats: Indices, rng: np.random.Generator, *, share: float = 0.6) -> Wave:
    """Spells of 5 to 30 s of one or two kinds of noise, in one lead or in all, from mild to hopeless."""
    out = wave.astype(np.float64)
    swing = _qrs_swing(wave, beats)
    n = wave.shape[1]
    t = 0
    while t < n:
        stop = min(t + int(rng.uniform(5, 30) * _RATE_HZ), n)
        length = stop - t
        if rng.random() < share and length > 200:
            names = rng.choice(sorted(_KINDS), size=int(rng.integers(1, 3)), replace=False)
            leads = range(len(wave)) if rng.random() < 0.5 else [int(rng.integers(len(wave)))]
            fade = min(50, length // 4)
            window = np.interp(np.arange(length), [0, fade, length - fade, length], [0.0, 1.0, 1.0, 0.0])
            for name in names:
                size = 10 ** rng.uniform(-1.6, -0.25)  # of the QRS swing
                for c in leads:
                    out[c, t:stop] += _KINDS[str(name)](rng, length, size) * swing[c] * window
        t = stop
    return out.astype(np.float32)


def _band(rng: np.random.Generator, n: int, low_hz: float, high_hz: float) -> _Float:
    edges: float | list[float] = [low_hz / 125.0, high_hz / 125.0] if low_hz > 0 else high_hz / 125.0
    sos = butter(2, edges, "band" if low_hz > 0 else "low", output="sos")
    y = sosfiltfilt(sos, rng.normal(size=n))
    return np.asarray(y / y.std())


def _wander(rng: np.random.Generator, n: int, size: float) -> _Float:
    return np.asarray(_band(rng, n, 0.0, 0.7) * (2.0 * size))


def _muscle(rng: np.random.Generator, n: int, size: float) -> _Float:
    return np.asarray(_band(rng, n, 15.0, 100.0) * (0.6 * size) * (0.5 + np.abs(_band(rng, n, 0.0, 0.8))))


def _motion(rng: np.random.Generator, n: int, size: float) -> _Float:
    gate = np.clip(np.abs(_band(rng, n, 0.0, 0.7)), 0.0, 3.0)
    return np.asarray(_band(rng, n, 1.0, float(rng.uniform(5, 14))) * (0.8 * size) * gate)


def _mains(rng: np.random.Generator, n: int, size: float) -> _Float:
    hz = float(rng.choice([50.0, 60.0]))
    return np.asarray(np.sin(2 * np.pi * hz * np.arange(n) / _RATE_HZ + rng.uniform(0, 6)) * (0.7 * size))


def _spikes(rng: np.random.Generator, n: int, size: float) -> _Float:  # noqa: ARG001 - spikes have their own sizes
    y = np.zeros(n)
    for at in rng.integers(0, n, size=max(1, int(n / _RATE_HZ * rng.uniform(0.1, 0.8)))):
        width = rng.uniform(0.005, 0.12) * _RATE_HZ
        height = rng.uniform(0.2, 3.0) * rng.choice([-1.0, 1.0])
        t = np.arange(n) - at
        rise = np.exp(-0.5 * (np.minimum(t, 0) / max(0.4 * width, 1.0)) ** 2)
        y += height * np.where(t < 0, rise, np.exp(-np.maximum(t, 0) / width))
    return y


_KINDS: dict[str, Callable[[np.random.Generator, int, float], _Float]] = {
    "wander": _wander,
    "muscle": _muscle,
    "motion": _motion,
    "mains": _mains,
    "spikes": _spikes,
}


def _qrs_swing(wave: Wave, beats: Indices) -> _Float:
    """Median peak-to-peak of each lead around its beats (C,)."""
    cuts = [wave[:, b - 20 : b + 21] for b in beats[::7] if b >= 20 and b + 21 < wave.shape[1]]
    return np.median([np.ptp(cut, axis=1) for cut in cuts], axis=0) if cuts else np.ones(len(wave))
