"""May a physician read this 12-lead ECG? A probability from measured properties of the recording.

The question is that of the PhysioNet/Computing in Cardiology Challenge 2011 (Silva, Moody & Celi 2011): ten seconds of
twelve leads, judged by annotators as a whole. The properties are those that the entries of that challenge found
telling (signal quality indices of Clifford et al. 2012, Physiol. Meas. 33:1419): flat and clipped stretches, steps,
noise and wander, agreement of beat detections between leads (bSQI), likeness of the beats to their template, and how
well each lead follows from the others. Boosted trees, trained in the workshop and stored as plain numbers, turn them
into the probability; here they are evaluated with numpy alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import BundleError, InputError
from edgeward.signal.trees import Trees

Array = npt.NDArray[np.float64]
_LeadTable = dict[str, Array]
_RecordTable = dict[str, float]

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the leads in every array of this module."""
RATE_HZ = 500
"""The rate the properties are defined at: repeats and steps of raw samples mean another thing at another rate."""
SECONDS_MIN = 5.0
"""Under this there are too few beats to compare."""
THRESHOLD = 0.5
"""A recording at or above this probability is acceptable."""

BEYOND_MV = 5.0
"""No healthy adult's lead goes beyond this; what does is an electrode that moves or is off."""
BAD_FLAT_SHARE = 0.5
BAD_BEYOND_SHARE = 0.02
"""A lead is bad where it is flat, or beyond ``BEYOND_MV``, for at least this share."""

_WORK_HZ = 250  # filtered waves are kept at this rate
_ENVELOPE_HZ = 125
_LIMB_OF = (0, 1, 2, 3, 4, 5)
_CHEST_OF = (6, 7, 8, 9, 10, 11)


def features(ecg_mv: npt.NDArray[np.floating], rate_hz: float) -> Array:
    """Properties (F,) of one recording ``ecg_mv`` (12, n) in mV, leads in the order of ``LEADS``.

    Missing values (NaN) are held at the last good one, so that they count as flat. Raises ``InputError``
    (``acceptability-shape``, ``acceptability-rate``) for another number of leads, rate, or too short a recording.
    """
    return np.fromiter(_measure(ecg_mv, rate_hz).values(), dtype=np.float64)


def feature_names() -> tuple[str, ...]:
    """Names of what ``features`` returns, in its order."""
    return tuple(_measure(np.zeros((len(LEADS), round(SECONDS_MIN * RATE_HZ))), RATE_HZ))


def _measure(ecg_mv: npt.NDArray[np.floating], rate_hz: float) -> dict[str, float]:
    if rate_hz != RATE_HZ:
        raise InputError(
            "acceptability-rate", f"acceptability is defined at {RATE_HZ} Hz; give the recording at that rate"
        )
    if ecg_mv.ndim != 2 or ecg_mv.shape[0] != len(LEADS) or ecg_mv.shape[1] < SECONDS_MIN * RATE_HZ:
        raise InputError(
            "acceptability-shape",
            f"acceptability needs the 12 standard leads for at least {SECONDS_MIN:g} s; give a complete recording",
        )
    wave = _held(np.asarray(ecg_mv, dtype=np.float64))
    spectrum = _Spectrum(wave)
    slow = spectrum.band(0.5, 40.0)
    leads: _LeadTable = {}
    record: _RecordTable = {}
    _raw_properties(wave, leads, record)
    _shape_properties(spectrum, slow, leads)
    live = np.ptp(slow, axis=1) > 0.03
    beats = _rhythm_properties(spectrum.band(5.0, 25.0), live, leads, record)
    _beat_properties(slow, beats, leads)
    _agreement_properties(slow[:, ::2], leads, record)
    record["live_leads"] = float(live.sum())
    record["leads_flat"] = float((leads["flat_share"] > 0.9).sum())
    record["leads_partly_flat"] = float((leads["flat_share"] > 0.2).sum())
    record["leads_unlike_template"] = float((leads["template_median"] < 0.7).sum())
    record["leads_beyond_3_mv"] = float((leads["log_max_abs"] > 0.5).sum())
    record["leads_wandering"] = float((leads["log_wander"] > 0.0).sum())
    return _aggregate(leads) | record


def _held(wave: Array) -> Array:
    good = np.isfinite(wave)
    if good.all():
        return wave
    index = np.maximum.accumulate(np.where(good, np.arange(1, wave.shape[1] + 1), 0), axis=1)
    padded = np.concatenate((np.zeros((wave.shape[0], 1)), wave), axis=1)
    return np.take_along_axis(padded, index, axis=1)


def _log(values: Array, floor: float) -> Array:
    return np.log10(values + floor)


def _aggregate(leads: _LeadTable) -> dict[str, float]:
    """Which lead is bad matters less than how bad the worst few are, so leads are sorted and some ranks kept."""
    result: dict[str, float] = {}
    for name, values in leads.items():
        rank = np.sort(values)
        result |= {
            f"{name}:min": float(rank[0]),
            f"{name}:second": float(rank[1]),
            f"{name}:median": float((rank[5] + rank[6]) / 2),
            f"{name}:last but one": float(rank[10]),
            f"{name}:max": float(rank[11]),
        }
    return result


def _raw_properties(wave: Array, out: _LeadTable, record: _RecordTable) -> None:
    """Flat, clipped, out of range, steps: what the converter delivered."""
    tile = round(0.2 * RATE_HZ)
    over_20_ms = np.abs(wave[:, 10:] - wave[:, :-10])
    high, low = wave.max(axis=1, keepdims=True), wave.min(axis=1, keepdims=True)
    out["flat_share"] = flat = (np.ptp(_cut(wave, tile), axis=2) < 0.015).mean(axis=1)
    out["beyond_share"] = beyond = (np.abs(wave) > BEYOND_MV).mean(axis=1)
    out["log_max_abs"] = _log(np.abs(wave).max(axis=1), 1e-3)
    out["rail_share"] = ((wave == high) | (wave == low)).mean(axis=1)
    out["log_step_20_ms"] = _log(over_20_ms.max(axis=1), 1e-3)
    out["steep_share"] = (over_20_ms > 1.0).mean(axis=1)
    record["leads_bad"] = float(((flat >= BAD_FLAT_SHARE) | (beyond >= BAD_BEYOND_SHARE)).sum())
    record["worst_lead"] = float(np.maximum(flat, np.minimum(beyond / (2.0 * BAD_BEYOND_SHARE), 1.0)).max())


class _Spectrum:
    """One transform of all leads, from which powers and filtered waves are taken."""

    def __init__(self, wave: Array) -> None:
        self._count = count = wave.shape[1]
        edge = count // 100
        # The line from start to end is taken out, because a transform sees a step where the ends do not meet.
        start = wave[:, :edge].mean(axis=1, keepdims=True)
        end = wave[:, -edge:].mean(axis=1, keepdims=True)
        level = wave - (start + (end - start) * np.linspace(0.0, 1.0, count))
        self._bins = np.fft.rfft(level, axis=1)  # (12, n / 2 + 1)
        self._hz = np.fft.rfftfreq(count, 1.0 / RATE_HZ)
        self._power = np.abs(self._bins) ** 2 * 2.0 / count**2

    def power(self, low_hz: float, high_hz: float) -> Array:
        """Mean square (12,) in mV² between two frequencies."""
        inside = (self._hz >= low_hz) & (self._hz < high_hz)
        total: Array = self._power[:, inside].sum(axis=1)
        return total

    def band(self, low_hz: float, high_hz: float) -> Array:
        """The wave between two frequencies (12, n / 2), zero phase, fourth-order edges, at ``_WORK_HZ``."""
        count = self._count // (RATE_HZ // _WORK_HZ)
        hz = np.maximum(self._hz[: count // 2 + 1], 1e-9)
        gain = 1.0 / (1.0 + (low_hz / hz) ** 8) / (1.0 + (hz / high_hz) ** 8)
        wave: Array = np.fft.irfft(self._bins[:, : count // 2 + 1] * gain, count, axis=1) * count / self._count
        return wave


def _shape_properties(spectrum: _Spectrum, slow: Array, out: _LeadTable) -> None:
    """Wander, noise between the waves and above the QRS band, and seconds that differ from the rest."""
    out["log_wander"] = _log(np.ptp(spectrum.band(1e-6, 0.7), axis=1), 1e-3)
    out["log_high_to_qrs"] = _log(spectrum.power(62.0, 95.0), 1e-7) - _log(spectrum.power(5.0, 15.0), 1e-7)
    noise = np.median(np.abs(_cut(spectrum.band(45.0, 110.0), _WORK_HZ // 2)), axis=2)  # (12, half seconds)
    out["log_noise_median"] = _log(np.median(noise, axis=1), 1e-4)
    out["log_noise_max"] = _log(noise.max(axis=1), 1e-4)
    span = np.ptp(_cut(slow, _WORK_HZ), axis=2)  # (12, seconds)
    out["log_second_max"] = _log(span.max(axis=1), 1e-3)
    out["log_second_max_ratio"] = _log(span.max(axis=1), 0.01) - _log(np.median(span, axis=1), 0.01)


def _cut(wave: Array, size: int) -> Array:
    return wave[:, : wave.shape[1] // size * size].reshape(len(wave), -1, size)


def _rhythm_properties(
    quick: Array, live: npt.NDArray[np.bool_], out: _LeadTable, record: _RecordTable
) -> npt.NDArray[np.intp]:
    """Do the leads see the same beats (bSQI, rSQI), and do these come in a rhythm? Returns samples of ``quick``."""
    span = round(0.12 * _WORK_HZ)
    slope = np.abs(np.diff(quick, axis=1, prepend=quick[:, :1]))
    total = np.cumsum(np.pad(slope, ((0, 0), (span, 0))), axis=1)
    smooth = np.roll((total[:, span:] - total[:, :-span]) / span, -span // 2, axis=1)
    envelope = smooth[:, :: _WORK_HZ // _ENVELOPE_HZ]  # (12, e)
    crest = np.percentile(envelope, 97, axis=1, keepdims=True)
    scaled = np.minimum(envelope / (crest + 1e-5), 1.5)
    # The median over the leads is the reference: it holds a beat that most leads see and no lead's artefact.
    reference = np.median(scaled[live], axis=0) if live.any() else np.zeros(envelope.shape[1])
    curves = np.vstack((envelope, reference))  # (13, e)
    peaks = _peaks(curves)
    near = _within(peaks, round(0.08 * _ENVELOPE_HZ))
    count = peaks.sum(axis=1)
    with_reference = (near[:-1] & peaks[-1]).sum(axis=1) + (peaks[:-1] & near[-1]).sum(axis=1)
    out["reference_agreement"] = with_reference / np.maximum(count[:-1] + count[-1], 1)
    record["periodicity"] = float(_periodicity(reference[None])[0])
    record["reference_floor"] = float(np.median(reference) / (np.percentile(reference, 97) + 1e-9))
    beats = np.flatnonzero(peaks[-1])
    interval_s = np.diff(beats) / _ENVELOPE_HZ
    enough = len(interval_s) > 2
    record["beats_per_s"] = len(beats) * _ENVELOPE_HZ / envelope.shape[1]
    record["interval_variation"] = float(interval_s.std() / interval_s.mean()) if enough else 1.0
    record["interval_min_s"] = float(interval_s.min()) if enough else 0.0
    record["interval_max_s"] = float(interval_s.max()) if enough else 10.0
    return beats * (_WORK_HZ // _ENVELOPE_HZ)


def _peaks(curves: Array) -> npt.NDArray[np.bool_]:
    """Largest values within 240 ms on either side that pass 40 % of the curve's crest."""
    reach = round(0.24 * _ENVELOPE_HZ)
    padded = np.pad(curves, ((0, 0), (reach, reach)))
    largest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1).max(axis=2)
    limit = 0.4 * np.percentile(curves, 97, axis=1, keepdims=True) + 1e-9
    found: npt.NDArray[np.bool_] = (curves >= largest) & (curves > limit)
    return found


def _within(marks: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    total = np.cumsum(np.pad(marks.astype(np.int64), ((0, 0), (reach + 1, reach))), axis=1)
    near: npt.NDArray[np.bool_] = (total[:, 2 * reach + 1 :] - total[:, : -2 * reach - 1]) > 0
    return near


def _periodicity(curves: Array) -> Array:
    """Largest autocorrelation at the interval of a heart: 0.3 to 1.8 s."""
    count = curves.shape[1]
    centred = curves - curves.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * count, axis=1)) ** 2
    lagged = np.fft.irfft(power, axis=1)[:, :count]
    overlap = 1.0 - np.arange(count) / count
    heart = slice(round(0.3 * _ENVELOPE_HZ), round(1.8 * _ENVELOPE_HZ))
    best: Array = ((lagged / (lagged[:, :1] + 1e-9))[:, heart] / overlap[heart]).max(axis=1)
    return best


def _beat_properties(slow: Array, beats: npt.NDArray[np.intp], out: _LeadTable) -> None:
    """How like the beats of a lead are to their median, and how large is what is left over."""
    before, after = round(0.25 * _WORK_HZ), round(0.4 * _WORK_HZ)
    inside = beats[(beats >= before) & (beats + after < slow.shape[1])]
    if len(inside) < 3:
        absent = {"template_median": -0.5, "template_min": -0.5, "log_beat_span": -3.0, "log_rest_max": 1.0}
        out |= {name: np.full(len(slow), value) for name, value in absent.items()}
        return
    cuts = slow[:, inside[:, None] + np.arange(-before, after)]  # (12, beats, samples)
    cuts -= np.median(cuts, axis=2, keepdims=True)
    template = np.median(cuts, axis=1, keepdims=True)
    norm = np.sqrt(np.square(cuts).sum(axis=2) * np.square(template).sum(axis=2))
    likeness = (cuts * template).sum(axis=2) / (norm + 1e-4)  # (12, beats)
    out["template_median"] = np.median(likeness, axis=1)
    out["template_min"] = likeness.min(axis=1)
    rest = np.sqrt(np.square(cuts - template).mean(axis=2))
    span = np.ptp(template[:, 0], axis=1)
    out["log_beat_span"] = _log(span, 1e-3)
    out["log_rest_max"] = _log(rest.max(axis=1), 1e-3) - _log(span, 0.02)


def _agreement_properties(slow: Array, out: _LeadTable, record: _RecordTable) -> None:
    """A heart is one source: each lead follows from the others, and a few components explain all."""
    centred = slow - slow.mean(axis=1, keepdims=True)
    gram = centred @ centred.T  # (12, 12)
    explained, rest = np.empty(len(slow)), np.empty(len(slow))
    for lead in range(len(slow)):
        # The six limb leads are sums of two, so a limb lead is only asked to follow from the chest leads.
        others = list(_CHEST_OF) if lead in _LIMB_OF else [0, 1, *(i for i in _CHEST_OF if i != lead)]
        inner = gram[np.ix_(others, others)]
        ridge = np.eye(len(others)) * (1e-3 * np.trace(inner) / len(others) + 1e-6)
        weight = np.linalg.solve(inner + ridge, gram[others, lead])
        left = gram[lead, lead] - 2 * weight @ gram[others, lead] + weight @ inner @ weight
        explained[lead] = 1.0 - left / (gram[lead, lead] + 1e-3)
        rest[lead] = np.log10(np.sqrt(max(left, 0.0) / slow.shape[1]) + 1e-3)
    out["explained_by_others"] = explained
    out["log_unexplained"] = rest
    scale = np.sqrt(np.diag(gram)) + 1e-2 * np.sqrt(slow.shape[1])
    for name, matrix in (("", gram), ("scaled_", gram / np.outer(scale, scale))):
        parts = np.linalg.eigvalsh(matrix)[::-1]
        share = np.cumsum(parts) / (parts.sum() + 1e-9)
        record |= {f"{name}components_{count}": float(share[count - 1]) for count in (1, 2, 3, 5)}


# --- the classifier


@dataclass(frozen=True, slots=True)
class Model:
    """The trained classifier: ``trees`` over the features ``names``, and the recordings it was trained with.

    ``seen`` holds their fingerprints, so that an evaluation can tell what the model must not be scored on.
    """

    trees: Trees
    names: tuple[str, ...]
    seen: frozenset[str]

    def probability(self, values: Array) -> float:
        """Probability that the recording with the features ``values`` (F,) is acceptable."""
        return float(1.0 / (1.0 + np.exp(-np.clip(self.trees.score(values), -30.0, 30.0))))


def load_model(data: bytes) -> Model:
    """Read the model file; ``BundleError`` where it is malformed or made for other features than these."""
    try:
        document = json.loads(data)
        names = tuple(document["features"])
        trees = Trees.from_dict(document["trees"], len(names))
        seen = frozenset(document["seen"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            "acceptability-malformed", "the acceptability model is not readable; install the package again"
        ) from error
    if names != feature_names():
        raise BundleError(
            "acceptability-features",
            "the acceptability model was trained on other features than this version measures; train it again",
        )
    return Model(trees, names, seen)


def acceptable(ecg_mv: npt.NDArray[np.floating], rate_hz: float, model: Model) -> float:
    """Probability that ``ecg_mv`` (12, n) in mV may be read by a physician; acceptable from ``THRESHOLD`` on."""
    return model.probability(features(ecg_mv, rate_hz))
