"""Made-up stays for golden vectors: values that wander and go missing, through the real features.

They are no model of physiology: they only reach the range of a model's inputs, so that a device that computes something
else is found out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.history import NS_PER_S
from edgeward.signal.stay_channels import CHANNELS, VITALS
from edgeward.signal.stay_features import StayFeatures

if TYPE_CHECKING:
    from collections.abc import Sequence

HOURS_MAX = 70
_USUAL = {
    "hr": (85, 18), "spo2": (96, 3), "temp": (37, 0.8), "sys": (120, 22), "map": (80, 14), "dia": (62, 12),
    "rr": (19, 6), "fio2": (45, 15), "base_excess": (-1, 4), "hco3": (24, 4), "ph": (7.37, 0.08), "paco2": (41, 9),
    "sao2": (94, 6), "ast": (60, 50), "bun": (25, 18), "alp": (90, 50), "calcium": (8.3, 0.8), "chloride": (105, 6),
    "creatinine": (1.4, 1.0), "bilirubin_direct": (1.5, 2), "glucose": (135, 45), "lactate": (2.2, 1.8),
    "magnesium": (2, 0.4), "phosphate": (3.5, 1.3), "potassium": (4.1, 0.6), "bilirubin": (1.8, 2.5),
    "troponin_i": (2, 4), "hct": (31, 5), "hgb": (10.5, 1.8), "ptt": (40, 18), "wbc": (12, 6), "fibrinogen": (290, 140),
    "platelets": (200, 100),
}  # fmt: skip
"""Channel → level and spread."""


def golden_rows(names: Sequence[str], count: int, seed: int) -> npt.NDArray[np.float32]:
    """Features ``names`` of ``count`` made-up stays, each at one instant (count, F). Same seed, same rows."""
    rng = np.random.default_rng(seed)
    features = StayFeatures(names, stays=count)
    ages = np.where(rng.random(count) < 0.1, np.nan, rng.integers(18, 95, count))
    features.begin(np.zeros(count, np.int64), ages.astype(np.float64), rng.integers(0, 2, count).astype(np.float64))
    level = np.array([_USUAL[channel.name] for channel in CHANNELS], dtype=np.float64)  # (K, 2)
    own = level[:, 0] + level[:, 1] * rng.standard_normal((count, len(CHANNELS)))
    vital = np.arange(len(CHANNELS)) < len(VITALS)
    often = np.where(vital, rng.choice((0.0, 0.5, 1.0), (count, 1)), 0.12) * (rng.random((count, len(CHANNELS))) < 0.85)
    ends = rng.integers(0, HOURS_MAX, count)
    rows = np.empty((count, len(names)), dtype=np.float32)
    for hour in range(HOURS_MAX):
        own += 0.2 * level[:, 1] * rng.standard_normal(own.shape)
        stay, channel = np.nonzero(rng.random(own.shape) < often)
        features.observe(stay, channel, np.maximum(own[stay, channel], 0.1), hour * 3600 * NS_PER_S)
        now = ends == hour
        if now.any():
            rows[now] = features.vector(hour * 3600 * NS_PER_S)[now]
    return rows
