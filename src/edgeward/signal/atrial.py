"""Whether there is a P wave before a beat, where, and how like the usual one.

Before an early beat the P wave lies on the T wave of the beat before. The patient's average beat knows that T wave: it
is laid where the beat before was and taken away, and in what is left the usual P wave is looked for.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

P_BEFORE, P_END = 75, 18  # samples before the fiducial between which the P wave usually lies
P_LENGTH = P_BEFORE - P_END
_EARLIER, _LATER = 30, 8
_T_FROM, _T_TO = 20, 150
_REFRACTORY = 30

P_NAMES: tuple[str, ...] = ("p_found", "p_place", "p_size", "p_left", "p_rough", "p_room")
"""Names of the P-wave features in order."""


def p_features(
    wave: FloatArray, template: FloatArray, p_mean: FloatArray, centre: int, pre: int | None, usual_rr: int
) -> list[float]:
    """P-wave features of a window ``wave`` (2, T), both it and ``template`` in units of the usual complex.

    ``p_mean`` (2·57,): the usual P region, smoothed and centred. ``pre``: samples since the beat before; ``usual_rr``:
    samples between usual beats, after which the template holds the next beat.
    """
    left = wave[:, : centre - P_END + _LATER + 5].copy()
    if pre is not None and pre < centre:
        stop = min(_T_TO, usual_rr - P_BEFORE - 10, template.shape[1] - centre)
        start = centre - pre + _T_FROM
        length = min(stop - _T_FROM, left.shape[1] - start)
        if length > 0 and start >= 0:
            part = template[:, centre + _T_FROM : centre + _T_FROM + length]
            left[:, start : start + length] -= part - part[:, -1:]
    room = min(1.0, ((pre if pre is not None else usual_rr) - P_BEFORE - _REFRACTORY) / P_BEFORE)
    first = centre - P_BEFORE - _EARLIER
    if pre is not None:  # not inside the complex before
        first = min(max(first, centre - pre + _REFRACTORY), centre - P_BEFORE + _LATER)
    last = centre - P_END + _LATER
    total = np.cumsum(left[:, first - 3 : last + 2], axis=1)
    smooth = (total[:, 5:] - total[:, :-5]) / np.float32(5.0)
    spans = np.lib.stride_tricks.sliding_window_view(smooth, P_LENGTH, axis=1).transpose(1, 0, 2)  # (lags, 2, 57)
    spans = spans - spans.mean(axis=2, keepdims=True)
    flat = spans.reshape(spans.shape[0], -1)
    power = np.einsum("ij,ij->i", flat, flat)
    usual = math.sqrt(float(p_mean @ p_mean))
    along = flat @ p_mean / max(usual, 1e-6)
    corr = along / np.sqrt(np.maximum(power, 1e-8))
    best = int(np.argmax(corr))
    place = best + first - (centre - P_BEFORE)
    gone = power - np.maximum(along, 0.0) ** 2
    rough = smooth - smooth.mean(axis=1, keepdims=True)
    return [
        float(corr[best]),
        place / P_BEFORE,
        max(-2.0, min(2.0, math.log((float(max(along[best], 0.0)) + 0.05) / (usual + 0.05)))),
        min(3.0, 3.0 * math.sqrt(max(0.0, float(gone[best])) / flat.shape[1])),
        min(3.0, 3.0 * math.sqrt(float(np.mean(rough * rough)))),
        max(-1.0, room),
    ]
