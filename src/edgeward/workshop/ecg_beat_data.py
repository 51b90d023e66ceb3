"""Beats of WFDB records as the bedside would see them, with their AAMI classes: the training set of the beat model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.beat import AAMI_OF_SYMBOL, BeatClass
from edgeward.signal.lead import choose_slots, normalise
from edgeward.signal.preprocess import BeatWindow, BeatWindower, BeatWindowSpec
from edgeward.signal.qrs import QrsDetector
from edgeward.signal.resample import Resampler
from edgeward.wire.wfdb import patient_of, read_annotations, read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

RATE_HZ = 250
MATCH_S = 0.15
"""EC57 match window between a detection and an annotation."""
DETECTION_LAG_S = 0.5
"""In training a beat is handed over this long after its fiducial."""

_BLOCK = 50


@dataclass(frozen=True, slots=True)
class Strip:
    """A stretch of two-lead ECG with beats: ``wave`` (2, n) mV at 250 Hz, ``beats`` and ``labels`` (m,)."""

    source: str
    """Whose heart it is: patients joined by ``+`` where a strip mixes two."""
    wave: FloatArray
    beats: IntArray
    labels: IntArray
    weight: float = 1.0
    cold_every_s: float = 0.0
    """Forget the patient every so often (0: never), as after gaps in the stream."""


@dataclass(frozen=True, slots=True)
class BeatData:
    """Windows with labels, ready for training or evaluation."""

    wave: npt.NDArray[np.float16]
    """(n, 4, T)."""
    rhythm: FloatArray
    """(n, K)."""
    label: IntArray
    """(n,) ``BeatClass`` values."""
    index: IntArray
    """(n,) sample of the beat at 250 Hz in its strip."""
    weight: FloatArray
    """(n,)."""
    source: npt.NDArray[np.str_]
    """(n,) patient."""

    def __len__(self) -> int:
        return int(self.label.size)

    def take(self, rows: npt.NDArray[np.bool_] | IntArray) -> BeatData:
        """The given rows."""
        return BeatData(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def without(self, patients: set[str]) -> BeatData:
        """Everything in which none of ``patients`` had a part."""
        bad = {s for s in np.unique(self.source) if patients & set(str(s).split("+"))}
        return self.take(~np.isin(self.source, sorted(bad)))

    @staticmethod
    def joined(parts: Sequence[BeatData]) -> BeatData:
        """One set out of several."""
        return BeatData(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(BeatData)})

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(path: Path) -> BeatData:
        """Read what ``save`` wrote; pickles are refused."""
        with np.load(path, allow_pickle=False) as held:
            return BeatData(**{f.name: held[f.name] for f in fields(BeatData)})


def model_rate_wave(path: Path, pair: tuple[str, str] | None = None) -> FloatArray:
    """The two slots of a WFDB record, or a pair of its leads, in mV at 250 Hz (2, n), through the bedside's resampler.

    A missing second lead is zeros, missing samples hold the last good value.
    """
    record = read_record(path.name, lambda name: (path.parent / name).read_bytes())
    slots = choose_slots(record.leads)
    if pair is not None:
        canonical = [normalise(name) for name in record.leads]
        slots = tuple(canonical.index(name) for name in pair)
    held = _held(record.samples[list(slots)])
    resampler = Resampler(record.rate_hz, len(slots))
    blocks = [resampler.push(held[:, k : k + 512]) for k in range(0, held.shape[1], 512)]
    two = np.zeros((2, sum(block.shape[1] for block in blocks)), dtype=np.float32)
    two[: len(slots)] = np.concatenate(blocks, axis=1)
    return two


def _held(samples: FloatArray) -> FloatArray:
    """Samples (C, n) with each NaN replaced by the last good value before it (0 before the first)."""
    good = np.isfinite(samples)
    if good.all():
        return samples
    last = np.maximum.accumulate(np.where(good, np.arange(samples.shape[1]), 0), axis=1)
    return np.nan_to_num(np.take_along_axis(samples, last, axis=1))


def read_strip(path: Path) -> Strip:
    """A WFDB record with its reference beats (``.atr``) at 250 Hz. Raises ``InputError`` for damaged files."""

    def read(name: str) -> bytes:
        return (path.parent / name).read_bytes()

    rate_hz = read_record(path.name, read).rate_hz
    ann = read_annotations(path.name, "atr", read, rate_hz=rate_hz)
    pairs = [(s, AAMI_OF_SYMBOL[y]) for s, y in zip(ann.sample, ann.symbol, strict=True) if y in AAMI_OF_SYMBOL]
    beats = np.round(np.array([s for s, _ in pairs], dtype=np.float64) * RATE_HZ / rate_hz).astype(np.int64)
    labels = np.array([int(c) for _, c in pairs], dtype=np.int64)
    keep = np.concatenate([[True], np.diff(beats) > 0])
    return Strip(patient_of(path.name), model_rate_wave(path), beats[keep], labels[keep])


def detected(strip: Strip) -> Strip:
    """The strip with the beats that the bedside's detector finds, and their classes by ``matched``."""
    leads = strip.wave if np.any(strip.wave[1]) else strip.wave[:1]
    detector = QrsDetector(leads.shape[0], RATE_HZ)
    found: list[int] = []
    for start in range(0, leads.shape[1], _BLOCK):
        block = leads[:, start : start + _BLOCK]
        found += [beat.index for beat in detector.push(block, np.ones(block.shape, dtype=np.bool_))]
    return matched(np.array(found, dtype=np.int64), strip)


def matched(detected: IntArray, strip: Strip) -> Strip:
    """The strip with detected beats: each takes the class of the nearest reference within 150 ms, else Q.

    A detection where there is no beat is unclassifiable, which is what the model shall say of it.
    """
    labels = np.full(detected.size, int(BeatClass.Q), dtype=np.int64)
    window = round(MATCH_S * RATE_HZ)
    if detected.size:
        right = np.clip(np.searchsorted(detected, strip.beats), 1, max(1, detected.size - 1))
        left_near = np.abs(detected[right - 1] - strip.beats) <= np.abs(
            detected[_inside(right, detected)] - strip.beats
        )
        nearest = np.where(left_near, right - 1, _inside(right, detected))
        ok = np.abs(detected[nearest] - strip.beats) <= window
        labels[nearest[ok]] = strip.labels[ok]
    return Strip(strip.source, strip.wave, detected, labels, strip.weight, strip.cold_every_s)


def _inside(at: IntArray, values: IntArray) -> IntArray:
    return np.minimum(at, values.size - 1)


def jittered(
    strip: Strip, rng: np.random.Generator, *, sd_s: float = 0.012, miss: float = 0.0, extra: float = 0.0
) -> Strip:
    """The strip with beats moved a little, some missed and some false ones, as a detector would have them."""
    beats = strip.beats + np.round(rng.normal(0.0, sd_s * RATE_HZ, strip.beats.size)).astype(np.int64)
    keep = rng.random(beats.size) >= miss
    beats, labels = beats[keep], strip.labels[keep]
    n_extra = int(rng.binomial(beats.size, extra)) if extra > 0 else 0
    beats = np.concatenate([beats, rng.integers(0, strip.wave.shape[1], n_extra)])
    labels = np.concatenate([labels, np.full(n_extra, int(BeatClass.Q), dtype=np.int64)])
    order = np.argsort(beats, kind="stable")
    beats, labels = beats[order], labels[order]
    apart = np.concatenate([[True], np.diff(beats) > round(0.12 * RATE_HZ)])
    inside = (beats >= 0) & (beats < strip.wave.shape[1])
    return Strip(
        strip.source, strip.wave, beats[apart & inside], labels[apart & inside], strip.weight, strip.cold_every_s
    )


def windows(strip: Strip, spec: BeatWindowSpec) -> list[BeatWindow]:
    """Feed a strip through the bedside's windower, in blocks and with the detector's lag; one window per beat."""
    windower = BeatWindower(spec)
    lag = round(DETECTION_LAG_S * RATE_HZ)
    cold = round(strip.cold_every_s * RATE_HZ)
    out: list[BeatWindow] = []
    k, next_cold, total = 0, cold, strip.wave.shape[1]
    for start in range(0, total, _BLOCK):
        stop = min(start + _BLOCK, total)
        windower.push(strip.wave[:, start:stop])
        while k < strip.beats.size and strip.beats[k] + lag <= stop:
            windower.beat(int(strip.beats[k]))
            k += 1
        out += windower.ready()
        if cold and stop >= next_cold:
            windower.reset()
            next_cold += cold
    for index in strip.beats[k:]:
        windower.beat(int(index))
    return out + windower.drain()


def build(strip: Strip, spec: BeatWindowSpec) -> BeatData:
    """Windows and labels of a strip."""
    found = windows(strip, spec)
    index = np.array([w.beat_index for w in found], dtype=np.int64)
    label = strip.labels[np.searchsorted(strip.beats, index)]
    shape = (0, *spec.wave_shape)
    return BeatData(
        wave=np.stack([w.wave for w in found]).astype(np.float16) if found else np.zeros(shape, dtype=np.float16),
        rhythm=np.stack([w.rhythm for w in found]) if found else np.zeros((0, spec.rhythm_len), dtype=np.float32),
        label=label,
        index=index,
        weight=np.full(index.size, strip.weight, dtype=np.float32),
        source=np.full(index.size, strip.source),
    )
