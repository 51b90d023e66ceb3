"""Synthetic strips: real beats of many patients, re-timed into rhythms with known classes.

Each beat of a host patient is cut out of its record (P wave, QRS, T wave, baseline removed) and laid down again at the
time a schedule gives it, so that a premature P wave falls onto the T wave before it as it does in life. Ventricular
beats come from a donor patient, scaled to the host, or are made by widening the host's own complex. ``source`` names
every patient that took part, so that a fold can leave all of them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from edgeward.signal.beat import BeatClass
from edgeward.workshop.ecg_beat_data import RATE_HZ, Strip
from edgeward.workshop.ecg_beat_rhythms import Planned, draw_plan, schedule

FloatArray = npt.NDArray[np.float32]

_BEFORE = 72  # samples before the fiducial that belong to a beat's cut
_V_BEFORE, _V_AFTER = 45, 130
_P_FADE = (28, 16)  # the P part fades out between so many samples before the fiducial


@dataclass(frozen=True, slots=True)
class BeatBank:
    """Cuts of one patient: ``normal`` beats in order, (2, n) each with the fiducial at ``_BEFORE``, and others."""

    patient: str
    normal: tuple[FloatArray, ...]
    ventricular: tuple[FloatArray, ...]
    base_s: float
    size_mv: FloatArray
    noise_mv: float
    fibrillating: bool


def bank_of(strip: Strip, *, fibrillating: bool = False, most: int = 400, least: int = 5) -> BeatBank | None:
    """Cut the beats of a strip; None when it has fewer than ``least`` usable normal beats."""
    wave = flattened(strip.wave)
    normal: list[FloatArray] = []
    ventricular: list[FloatArray] = []
    rr: list[int] = []
    beats, labels = strip.beats, strip.labels
    for k in range(1, beats.size - 1):
        at, pre, post = int(beats[k]), int(beats[k] - beats[k - 1]), int(beats[k + 1] - beats[k])
        if labels[k] == BeatClass.N and labels[k - 1] == labels[k + 1] == BeatClass.N:
            if not (110 <= pre <= 400 and 110 <= post <= 400) or (not fibrillating and pre < 0.8 * post):
                continue
            after = int(min(0.52 * RATE_HZ, max(65, post - _BEFORE + 5)))
            cut = _cut(wave, at - _BEFORE, at + after)
            rr.append(pre)
            if cut is not None:
                normal.append(cut)
        elif labels[k] == BeatClass.V and post > 90:
            cut = _cut(wave, at - _V_BEFORE, at + min(_V_AFTER, post - 20))
            if cut is not None:
                ventricular.append(cut)
    if len(normal) < least:
        return None
    first = max(0, (len(normal) - most) // 2)
    kept = normal[first : first + most]
    size = np.median([np.ptp(c[:, _BEFORE - 20 : _BEFORE + 21], axis=1) for c in kept], axis=0)
    noise = float(np.median([np.std(np.diff(c[0, :40])) for c in kept]) / math.sqrt(2))
    return BeatBank(
        strip.source,
        tuple(kept),
        tuple(ventricular[:most]),
        float(np.median(rr)) / RATE_HZ,
        np.maximum(size, 0.05).astype(np.float32),
        min(noise, 0.05),
        fibrillating,
    )


def flattened(wave: FloatArray) -> FloatArray:
    """The wave (2, n) without its baseline: running median over 0.8 s of every fifth sample, interpolated."""
    n = wave.shape[1]
    at = np.arange(0, n, 5)
    out = np.empty_like(wave)
    for lead in range(2):
        slow = median_filter(wave[lead, at], size=41, mode="nearest")
        out[lead] = wave[lead] - np.interp(np.arange(n), at, slow)
    return out


def compose(host: BeatBank, donor: BeatBank | None, rng: np.random.Generator, seconds: float = 60.0) -> Strip:
    """A strip of ``host`` in a random rhythm; ventricular beats from ``donor``, or widened from the host's own."""
    base = float(np.clip(host.base_s * rng.uniform(0.8, 1.25), 0.45, 1.35))
    planned = schedule(draw_plan(rng, base, fibrillating=host.fibrillating, long=seconds > 150), seconds, rng)
    times = 1.0 + np.cumsum([p.rr_s for p in planned])
    total = int((times[-1] + 2.5) * RATE_HZ)
    wave = np.zeros((2, total), dtype=np.float32)
    premature = _ventricular_shapes(host, donor, rng)
    block = draw_block(rng)
    start = int(rng.integers(len(host.normal)))
    for k, (plan, time) in enumerate(zip(planned, times, strict=True)):
        at = round(float(time) * RATE_HZ)
        own = host.normal[(start + k) % len(host.normal)]
        if plan.cls in (BeatClass.V, BeatClass.F):
            _lay_ventricular(wave, at, plan, own, premature[int(rng.integers(len(premature)))], rng)
        else:
            _lay_normal(wave, at, plan, own, host.size_mv, block)
    if any(plan.fibrillating for plan in planned):
        wave += _flutter(total, rng) * host.size_mv[:, None] * _while_fibrillating(planned, times, total)
    wave += _noise(total, host, rng)
    beats = np.round(times * RATE_HZ).astype(np.int64)
    labels = np.array([int(p.cls) for p in planned], dtype=np.int64)
    who = "+".join(["made", host.patient, *([donor.patient] if donor is not None else [])])
    return Strip(who, wave, beats, labels, cold_every_s=float(rng.choice([0.0, 0.0, 0.0, 40.0])))


def _cut(wave: FloatArray, start: int, stop: int) -> FloatArray | None:
    """Samples without the line between their ends, faded at the ends; None at the rim of the wave."""
    if start < 0 or stop > wave.shape[1]:
        return None
    cut = wave[:, start:stop].copy()
    n = cut.shape[1]
    first, last = cut[:, :6].mean(axis=1, keepdims=True), cut[:, -6:].mean(axis=1, keepdims=True)
    cut -= first + (last - first) * (np.arange(n, dtype=np.float32) / (n - 1))
    fade = np.sin(0.5 * np.pi * np.minimum(1.0, (np.arange(n) + 1) / 6.0)) ** 2
    cut *= (fade * fade[::-1]).astype(np.float32)
    return cut


def _atrial_share(n: int) -> FloatArray:
    """1 over the P wave, falling to 0 just before the QRS."""
    to_fiducial = _BEFORE - np.arange(n, dtype=np.float32)
    return np.clip((to_fiducial - _P_FADE[1]) / (_P_FADE[0] - _P_FADE[1]), 0.0, 1.0).astype(np.float32)


def _add(wave: FloatArray, part: FloatArray, start: int) -> None:
    lo, hi = max(0, start), min(wave.shape[1], start + part.shape[1])
    if lo < hi:
        wave[:, lo:hi] += part[:, lo - start : hi - start]


def _lay_normal(wave: FloatArray, at: int, plan: Planned, own: FloatArray, size_mv: FloatArray, block: Block) -> None:
    share = _atrial_share(own.shape[1])
    _add(wave, own * share * np.float32(plan.p_scale), at - _BEFORE + round(plan.p_shift_s * RATE_HZ))
    rest = own * (1.0 - share)
    if plan.rr_s < 0.5:  # the T wave hurries with the rate
        keep = rest.shape[1] - _BEFORE
        rest = np.concatenate([rest[:, :_BEFORE], _stretched(rest[:, _BEFORE:], max(0.7, plan.rr_s / 0.55))], axis=1)
        rest = rest[:, : _BEFORE + keep]
    if plan.aberrant:
        rest = _blocked(rest, block, size_mv)
    _add(wave, rest, at - _BEFORE)


@dataclass(frozen=True, slots=True)
class Block:
    """How a strip's aberrant complexes look: a late wave (right bundle) or a slow complex (left bundle)."""

    widen: float
    late: FloatArray
    """(2,) late wave in units of the complex."""
    repolarisation: float
    """T wave opposite to the late forces, in units of them."""


def draw_block(rng: np.random.Generator) -> Block:
    """A random bundle branch block."""
    if rng.random() < 0.6:
        late = np.array([-rng.uniform(0.1, 0.5), rng.uniform(0.25, 0.9)]) * (1 if rng.random() < 0.85 else -1)
        return Block(1.0, late.astype(np.float32), float(rng.uniform(0.1, 0.5)))
    late = rng.uniform(-0.4, 0.6, 2).astype(np.float32)
    return Block(float(rng.uniform(1.25, 1.8)), late, float(rng.uniform(0.1, 0.5)))


def _blocked(rest: FloatArray, block: Block, size_mv: FloatArray) -> FloatArray:
    """An aberrant complex: its beginning is the patient's own, what follows is late and slow."""
    n = np.arange(rest.shape[1]) - _BEFORE
    out = rest
    if block.widen > 1.0:
        source = np.where(n < -12, n, -12 + (n + 12) / block.widen)
        source = np.where(n > 60, n, np.minimum(source, n))
        out = np.stack([np.interp(source, n, lead) for lead in rest]).astype(np.float32)
    late = np.exp(-0.5 * ((n - 13) / 5.5) ** 2) - block.repolarisation * np.exp(-0.5 * ((n - 68) / 16.0) ** 2)
    return np.asarray(out + (block.late * size_mv)[:, None] * late.astype(np.float32), dtype=np.float32)


def _lay_ventricular(
    wave: FloatArray, at: int, plan: Planned, own: FloatArray, shape: FloatArray, rng: np.random.Generator
) -> None:
    shape = shape * np.float32(math.exp(0.08 * rng.normal()))
    if plan.cls is BeatClass.F:
        mix = np.float32(rng.uniform(0.35, 0.65))
        _add(wave, own * (1 - mix), at - _BEFORE)
        _add(wave, shape * mix, at - _V_BEFORE)
        return
    _add(wave, shape, at - _V_BEFORE)
    if plan.own_p_late_s is not None:
        share = _atrial_share(own.shape[1])
        _add(wave, (own * share)[:, :_BEFORE], at + round((plan.own_p_late_s + 0.1) * RATE_HZ) - _BEFORE // 2)


def _ventricular_shapes(host: BeatBank, donor: BeatBank | None, rng: np.random.Generator) -> list[FloatArray]:
    """Shapes that this strip's ventricular beats take: one focus, sometimes two."""
    if donor is not None and donor.ventricular:
        first = int(rng.integers(len(donor.ventricular)))
        around = [
            donor.ventricular[(first + k) % len(donor.ventricular)] for k in range(12 if rng.random() < 0.3 else 4)
        ]
        scale = (host.size_mv / donor.size_mv).clip(0.2, 5.0) * np.exp(0.2 * rng.normal(size=2)).astype(np.float32)
        if rng.random() < 0.2:
            scale = scale * rng.choice([-1.0, 1.0], size=2).astype(np.float32)
        return [cut * scale[:, None] for cut in around]
    own = host.normal[int(rng.integers(len(host.normal)))]
    core = own[:, _BEFORE - 20 : _BEFORE + 25] * np.hanning(45).astype(np.float32) ** 0.3
    wide = _stretched(core, rng.uniform(1.7, 2.5))
    sign = rng.choice([-1.0, 1.0], size=(2, 1)) * rng.uniform(0.7, 1.7, size=(2, 1))
    shape = np.zeros((2, _V_BEFORE + _V_AFTER), dtype=np.float32)
    offset = _V_BEFORE - wide.shape[1] // 2
    shape[:, max(0, offset) : max(0, offset) + wide.shape[1]] += wide[:, : shape.shape[1]] * sign.astype(np.float32)
    n = np.arange(shape.shape[1]) - _V_BEFORE
    t_wave = np.exp(-0.5 * ((n - 70) / 16.0) ** 2) * rng.uniform(0.1, 0.35)
    return [(shape - np.sign(sign) * host.size_mv[:, None] * t_wave).astype(np.float32)]


def _stretched(part: FloatArray, factor: float) -> FloatArray:
    n = part.shape[1]
    to = np.arange(round(n * factor)) / factor
    return np.stack([np.interp(to, np.arange(n), lead) for lead in part]).astype(np.float32)


def _while_fibrillating(planned: list[Planned], times: npt.NDArray[np.float64], total: int) -> FloatArray:
    """1 (n,) where the atria fibrillate, else 0; ventricular beats do not end it."""
    inside = np.zeros(total, dtype=np.float32)
    from_s = 0.0
    on = planned[0].fibrillating
    for plan, time in zip(planned, times, strict=True):
        on = plan.fibrillating if plan.cls is BeatClass.N else on
        if on:
            inside[round(from_s * RATE_HZ) : round(float(time) * RATE_HZ)] = 1.0
        from_s = float(time)
    if on:
        inside[round(from_s * RATE_HZ) :] = 1.0
    return inside


def _flutter(n: int, rng: np.random.Generator) -> FloatArray:
    """Fibrillatory waves (2, n) in units of the complex: 4–8 Hz, wandering in rate and size."""
    rate = rng.uniform(4.0, 8.0) + np.cumsum(rng.normal(0, 0.03, n))
    phase = 2 * np.pi * np.cumsum(np.clip(rate, 3.5, 9.0)) / RATE_HZ
    size = np.array([[rng.uniform(0.0, 0.07)], [rng.uniform(0.0, 0.12)]])
    return np.asarray(size * (np.sin(phase) + 0.4 * np.sin(2 * phase + 1.0)), dtype=np.float32)


def _noise(n: int, host: BeatBank, rng: np.random.Generator) -> FloatArray:
    """Baseline wander and broadband noise (2, n) in mV, with a noisier stretch now and then."""
    time = np.arange(n) / RATE_HZ
    out = np.zeros((2, n))
    for lead in range(2):
        for _ in range(3):
            out[lead] += rng.uniform(0, 0.08) * np.sin(2 * np.pi * (rng.uniform(0.05, 0.45) * time + rng.random()))
        level = np.full(n, host.noise_mv * rng.uniform(0.3, 1.0) + rng.exponential(0.004))
        if rng.random() < 0.3:
            begin = int(rng.integers(n))
            level[begin : begin + 4 * RATE_HZ] += rng.uniform(0.01, 0.08)
        white = rng.normal(size=n + 2)
        out[lead] += level * (0.6 * white[2:] + 0.5 * white[1:-1] + 0.3 * white[:-2])
    return out.astype(np.float32)
