"""A made-up two-lead ECG with beats of every kind: golden vectors are cut from it, so that no bundle holds a patient.

Each beat is a sum of Gaussian bumps per lead, after the dynamical model of McSharry et al. 2003 (IEEE TBME 50:289),
laid down at times that make it early, late or regular. It need not look real in all points: it must reach
every part of the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.kernel.limits import MODEL_RATE_HZ
from edgeward.signal.beat import BeatClass

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# (centre s, width s, height mV in lead II, height mV in V1) of each bump, relative to the R peak.
_P = (-0.17, 0.022, 0.15, 0.06)
_NORMAL = ((-0.03, 0.009, -0.12, 0.0), (0.0, 0.011, 1.1, 0.25), (0.03, 0.010, -0.25, -0.9), (0.26, 0.050, 0.30, 0.15))
_VENTRICULAR = ((-0.02, 0.040, 1.3, -0.3), (0.07, 0.035, -0.4, 1.0), (0.29, 0.060, -0.45, -0.30))
_PACED = ((-0.08, 0.004, 0.6, 0.4), (0.0, 0.035, -0.9, 0.7), (0.28, 0.060, 0.40, -0.30))
_CYCLE = "NNNNNNSNNNNNVNNNNSSNNNNNVVNNNNFNNNNVVVNNNNNNQNNNNNSNVNNNN"
_BASE_RR_S = 0.82
_EARLY = {"S": 0.62, "V": 0.66, "F": 0.92, "Q": 1.0, "N": 1.0}


def golden_wave(beats: int, seed: int) -> tuple[FloatArray, IntArray, IntArray]:
    """``wave`` (2, n) mV at 250 Hz, the sample of each R peak (beats,) and the kind that was drawn (beats,)."""
    rng = np.random.default_rng(seed)
    kinds = [_CYCLE[i % len(_CYCLE)] for i in range(beats)]
    at_s = 1.5
    times: list[float] = []
    for number, kind in enumerate(kinds):
        before = kinds[number - 1] if number else "N"
        pause = 1.25 if before in "VS" and kind == "N" else 1.0
        slow = 1.0 + 0.12 * np.sin(number / 19.0)
        at_s += _BASE_RR_S * _EARLY[kind] * pause * slow * float(rng.normal(1.0, 0.02))
        times.append(at_s)
    samples = int((at_s + 4.0) * MODEL_RATE_HZ)
    wave = np.zeros((2, samples))
    clock = np.arange(samples) / MODEL_RATE_HZ
    for kind, time in zip(kinds, times, strict=True):
        _lay(wave, clock, time, _bumps(kind), float(rng.normal(1.0, 0.05)))
    wave += 0.08 * np.sin(2 * np.pi * np.array([[0.23], [0.31]]) * clock) + rng.normal(0.0, 0.012, wave.shape)
    index = np.round(np.array(times) * MODEL_RATE_HZ).astype(np.int64)
    labels = np.array([int(BeatClass[kind]) for kind in kinds], dtype=np.int64)
    return wave.astype(np.float32), index, labels


def _bumps(kind: str) -> list[tuple[float, float, float, float]]:
    if kind == "V":
        return list(_VENTRICULAR)
    if kind == "Q":
        return list(_PACED)
    if kind == "S":
        return [(-0.14, 0.016, -0.10, 0.08), *_NORMAL]
    if kind == "F":
        half = [(c, w, 0.5 * a, 0.5 * b) for c, w, a, b in (*_NORMAL, *_VENTRICULAR)]
        return [_P, *half]
    return [_P, *_NORMAL]


def _lay(
    wave: npt.NDArray[np.float64],
    clock: npt.NDArray[np.float64],
    time: float,
    bumps: Sequence[tuple[float, float, float, float]],
    gain: float,
) -> None:
    low, high = np.searchsorted(clock, [time - 0.5, time + 0.7])
    local = clock[low:high] - time
    for centre, width, first, second in bumps:
        shape = gain * np.exp(-0.5 * ((local - centre) / width) ** 2)
        wave[0, low:high] += first * shape
        wave[1, low:high] += second * shape
