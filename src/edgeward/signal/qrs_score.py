"""Rules that turn a candidate's features into the probability that it is a QRS."""

from __future__ import annotations

import math

from edgeward.signal.qrs_features import NAMES, Float64Array

_AT = {name: k for k, name in enumerate(NAMES)}


def probability(x: Float64Array) -> float:
    """Probability that the candidate with features ``x`` is a QRS."""
    f = {name: float(x[k]) for name, k in _AT.items()}
    known = f["beats_known"] >= 4
    relative = math.sqrt(max(f["amp_med"], 1e-3) * max(f["amp"], 1e-3)) if known else f["amp"]
    steepness = f["slope_med"] if known else f["amp"]
    needed = 0.42
    gap = f["dt_med"]
    if gap > 1.2:
        needed /= 1.0 + 0.6 * (min(gap, 2.2) - 1.2)
    if f["dt_s"] < 0.40:
        needed = max(needed, 0.55)
        if steepness < 0.6:
            needed *= 1.5
    if f["after"] > 1.6 and gap < 1.3:
        needed *= 1.5
    strength = 0.6 * relative + 0.4 * steepness
    return 1.0 / (1.0 + math.exp(-8.0 * (strength - needed) / needed))
