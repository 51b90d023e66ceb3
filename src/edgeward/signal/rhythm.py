"""Rhythm context of one beat: its intervals against the patient's own recent intervals.

Everything is a clipped log-ratio or a fraction, so that figures travel between patients: a beat is early or late for
*this* heart. Horizons of 8, 32 and 128 beats answer different questions (a run, the present rhythm, the patient's usual
rate); the spread of recent intervals tells the irregularity of atrial fibrillation, where early beats stay normal, from
a single premature beat. Features after de Chazal et al. 2004 (IEEE TBME 51:1196) and Llamedo & Martínez 2011
(IEEE TBME 58:616), extended by ranks and robust spreads. Pure: no clock, no state but the intervals themselves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float32]

HISTORY_BEATS = 128
"""How many earlier intervals make the present rhythm."""
LONG_BEATS = 768
"""How many earlier intervals make the patient's usual rate: ten minutes, which few runs outlast."""
RECENT_RATIOS = 10
"""How many earlier intervals the model sees one by one."""
PREMATURE_RATIO = 0.88
"""An interval shorter than this share of the recent median counts as premature."""

_CLIP = 1.5

RHYTHM_NAMES: tuple[str, ...] = (
    "pre_vs_8",
    "pre_vs_32",
    "pre_vs_128",
    "post_vs_8",
    "post_vs_32",
    "post_vs_128",
    "post_vs_pre",
    "prepre_vs_pre",
    "postpost_vs_32",
    "postpost_vs_post",
    "pre_plus_post_vs_32",
    "pre_vs_upper_128",
    "median_8_vs_128",
    "pre_abs",
    "post_abs",
    "median_32_abs",
    "irregularity_8",
    "irregularity_32",
    "irregularity_128",
    "turning_16",
    "premature_8",
    "premature_32",
    "late_32",
    "rank_32",
    "rank_128",
    "robust_z_32",
    "post_rank_32",
    "run_length",
    "post_known",
    "postpost_known",
    "history",
    "pre_vs_long",
    "post_vs_long",
    "pre_vs_upper_long",
    "median_32_vs_long",
    "premature_long",
    "rank_long",
    "history_long",
    *(f"ratio_{k}" for k in range(1, RECENT_RATIOS + 1)),
)
"""Names of the rhythm features in order; ``*_vs_*`` are natural log-ratios clipped to ±1.5."""


def _log_ratio(a: float, b: float) -> float:
    return max(-_CLIP, min(_CLIP, math.log(max(a, 0.05) / max(b, 0.05))))


def rhythm_features(
    pre_s: float | None, post_s: float | None, postpost_s: float | None, history_s: Sequence[float]
) -> FloatArray:
    """Rhythm features of a beat (len(RHYTHM_NAMES),).

    ``pre_s``: seconds since the beat before (None after a reset). ``post_s``, ``postpost_s``: seconds to the next beat
    and from there to the one after; None when it did not come in time. ``history_s``: earlier intervals in seconds,
    oldest first, without ``pre_s``; only the last ``LONG_BEATS`` count.
    """
    out = np.zeros(len(RHYTHM_NAMES), dtype=np.float32)
    if pre_s is None:
        return out
    long = np.asarray(history_s[-LONG_BEATS:], dtype=np.float64)
    if long.size < 3:
        long = np.asarray([*long, pre_s, *([post_s] if post_s is not None else [])], dtype=np.float64)
    past = long[-HISTORY_BEATS:]
    last8, last32 = past[-8:], past[-32:]
    ordered = np.sort(long)
    usual = float(0.5 * (ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]))
    m8, m32, m128 = _median(last8), _median(last32), _median(past)
    # A beat that has not come in time is at least as late as the wait; the model is told through *_known.
    post = post_s if post_s is not None else max(1.5, 1.5 * m32)
    postpost = postpost_s if postpost_s is not None else m32
    upper = float(np.sort(past)[(3 * past.size) // 4])
    logs = np.log(past)
    values = [
        _log_ratio(pre_s, m8),
        _log_ratio(pre_s, m32),
        _log_ratio(pre_s, m128),
        _log_ratio(post, m8),
        _log_ratio(post, m32),
        _log_ratio(post, m128),
        _log_ratio(post, pre_s),
        _log_ratio(float(past[-1]), pre_s),
        _log_ratio(postpost, m32),
        _log_ratio(postpost, post),
        _log_ratio(0.5 * (pre_s + post), m32),
        _log_ratio(pre_s, upper),
        _log_ratio(m8, m128),
        _log_ratio(pre_s, 0.8),
        _log_ratio(post, 0.8),
        _log_ratio(m32, 0.8),
        _irregularity(logs[-8:]),
        _irregularity(logs[-32:]),
        _irregularity(logs),
        _turning(logs[-16:]),
        float(np.mean(last8 < PREMATURE_RATIO * m32)),
        float(np.mean(last32 < PREMATURE_RATIO * m32)),
        float(np.mean(last32 > m32 / PREMATURE_RATIO)),
        float(np.mean(last32 < pre_s)),
        float(np.mean(past < pre_s)),
        _robust_z(math.log(max(pre_s, 0.05)), logs[-32:]),
        float(np.mean(last32 < post)),
        _run_length(past, pre_s, m32),
        1.0 if post_s is not None else 0.0,
        1.0 if postpost_s is not None else 0.0,
        min(past.size, HISTORY_BEATS) / HISTORY_BEATS,
        _log_ratio(pre_s, usual),
        _log_ratio(post, usual),
        _log_ratio(pre_s, float(ordered[(3 * ordered.size) // 4])),
        _log_ratio(m32, usual),
        float(np.mean(long < PREMATURE_RATIO * usual)),
        float(np.searchsorted(ordered, pre_s)) / ordered.size,
        long.size / LONG_BEATS,
    ]
    out[: len(values)] = values
    recent = np.clip(logs[::-1][:RECENT_RATIOS] - math.log(max(m32, 0.05)), -_CLIP, _CLIP)
    out[len(values) : len(values) + recent.size] = recent
    return out


def _median(values: npt.NDArray[np.float64]) -> float:
    ordered = np.sort(values)
    return float(0.5 * (ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]))


def _irregularity(logs: npt.NDArray[np.float64]) -> float:
    """Median absolute beat-to-beat change of the log interval, ×5 and capped at 3."""
    if logs.size < 3:
        return 0.0
    return min(3.0, 5.0 * _median(np.abs(np.diff(logs))))


def _turning(logs: npt.NDArray[np.float64]) -> float:
    """Share of turning points among recent intervals: 2/3 in fibrillation, near 1 in bigeminy, low in sinus drift."""
    if logs.size < 4:
        return 0.0
    step = np.diff(logs)
    big = np.abs(step) > 0.02
    return float(np.mean((step[1:] * step[:-1] < 0) & big[1:] & big[:-1]))


def _robust_z(value: float, logs: npt.NDArray[np.float64]) -> float:
    centre = _median(logs)
    spread = _median(np.abs(logs - centre)) + 0.02
    return max(-3.0, min(3.0, (value - centre) / (3.0 * spread)))


def _run_length(past: npt.NDArray[np.float64], pre_s: float, m32: float) -> float:
    """How many of the intervals up to this one, without a break, were premature, in tenths and capped at 1."""
    if pre_s >= PREMATURE_RATIO * m32:
        return 0.0
    length = 1
    for rr in past[::-1][:9]:
        if rr >= PREMATURE_RATIO * m32:
            break
        length += 1
    return length / 10.0
