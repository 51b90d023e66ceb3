"""A plain synthetic ECG for tests that need beats at known places and nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def synthetic(beats_s: list[float], seconds: float, rate_hz: float, leads: int = 2) -> npt.NDArray[np.float32]:
    """P, QRS and T at each of ``beats_s`` on ``leads`` leads of falling size: (leads, n) in mV."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    ecg = np.zeros_like(t)
    for at in beats_s:
        for offset, size, width in (
            (-0.17, 0.12, 0.025),
            (-0.025, -0.1, 0.01),
            (0.0, 1.1, 0.012),
            (0.03, -0.2, 0.012),
            (0.25, 0.25, 0.05),
        ):
            ecg += size * np.exp(-0.5 * ((t - at - offset) / width) ** 2)
    noise = np.random.default_rng(7).normal(0.0, 0.006, (leads, t.size))
    scale = np.linspace(1.0, 0.6, leads)[:, None]
    return (scale * ecg + noise).astype(np.float32)


def regular(seconds: float, rr_s: float = 0.8, first_s: float = 0.5) -> list[float]:
    """Beat times of a steady rhythm that ends half a second before the end."""
    return [float(at) for at in np.arange(first_s, seconds - 0.5, rr_s)]
