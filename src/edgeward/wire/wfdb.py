"""WFDB records: the one entrance for headers, signals and annotations.

``read_record`` and ``read_annotations`` take a function that reads a file of the record's folder by its plain name, so
that this module touches no disk and every rim passes its own reader::

    record = read_record("101", lambda name: (folder / name).read_bytes())

Source: header(5), signal(5) and annot(5) of the WFDB Applications Guide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgeward.kernel import limits
from edgeward.kernel.errors import InputError
from edgeward.signal import lead
from edgeward.wire.wfdb_annotations import Annotations, decode_annotations, encode_annotations
from edgeward.wire.wfdb_header import (
    Header,
    Layout,
    SignalSpec,
    ecg_channels,
    encode_header,
    parse_header,
    parse_layout,
)
from edgeward.wire.wfdb_signals import (
    FloatArray,
    checksum,
    decode_channels,
    decode_signals,
    encode_samples,
    format_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "Annotations",
    "Header",
    "Layout",
    "Record",
    "SignalSpec",
    "checksum",
    "decode_annotations",
    "decode_signals",
    "ecg_channels",
    "encode_annotations",
    "encode_header",
    "encode_record",
    "encode_samples",
    "parse_header",
    "parse_layout",
    "patient_of",
    "read_annotations",
    "read_record",
]


_Item = TypeVar("_Item")
SAMPLES_MAX = 1 << 29
"""Samples of all leads of a multi-segment record together (2 GiB): its header alone could claim any number."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """The ECG of one record: ``samples`` (C, n) float32 mV with NaN for what is missing.

    ``limits_mv`` holds each lead's converter rails (lowest, highest); ``missing_samples`` how many the header announces
    beyond those that are there (0 unless a truncated record was allowed).
    """

    name: str
    leads: tuple[str, ...]
    rate_hz: float
    samples: FloatArray
    limits_mv: tuple[tuple[float, float], ...]
    missing_samples: int = 0


def read_record(
    name: str,
    read: Callable[[str], bytes],
    *,
    channels: Sequence[int] | None = None,
    allow_truncated: bool = False,
) -> Record:
    """Read the ECG channels of the record ``name`` (or the signals with the indices ``channels``).

    A multi-segment record is joined by the names of its leads. Raises ``InputError`` for whatever is damaged, foreign,
    truncated, without ECG, or outside the rate limits, and lets through what ``read`` raises.
    """
    text = read(f"{name}.hea").decode("utf-8", errors="replace")
    layout = parse_layout(text)
    if layout is None:
        header = parse_header(text)
        chosen = _ecg_of(header) if channels is None else tuple(channels)
        return _read_signals(header, read, chosen, allow_truncated=allow_truncated)
    if channels is not None:
        raise InputError("no-such-signal", "the signals of a multi-segment record have no numbers of their own")
    return _joined(layout, read, allow_truncated=allow_truncated)


def _read_signals(
    header: Header, read: Callable[[str], bytes], chosen: tuple[int, ...], *, allow_truncated: bool
) -> Record:
    _check_choice(header, chosen)
    files = {spec.file: read(spec.file) for spec in (header.signals[c] for c in chosen)}
    decoded = decode_channels(header, files, chosen, allow_truncated=allow_truncated)
    if not limits.RATE_HZ_MIN <= decoded.rate_hz <= limits.RATE_HZ_MAX:
        raise InputError(
            "rate-unusable",
            f"the record is sampled at {decoded.rate_hz:g} Hz; an ECG is judged between {limits.RATE_HZ_MIN:g} and "
            f"{limits.RATE_HZ_MAX:g} Hz",
        )
    _check_scale(decoded.millivolts, chosen)
    names = _distinct(lead.normalise(header.signals[c].description) or f"ECG{c + 1}" for c in chosen)
    rails = tuple(converter_rails_mv(header.signals[c]) for c in chosen)
    return Record(header.name, names, decoded.rate_hz, decoded.millivolts, rails, decoded.missing_samples)


def _joined(layout: Layout, read: Callable[[str], bytes], *, allow_truncated: bool) -> Record:
    """The segments one after the other, NaN where one lacks a lead, is cut short, or nothing was recorded."""
    parts = [(frames, _segment(name, frames, read, allow_truncated)) for name, frames in layout.segments]
    there = [part for _, part in parts if part is not None]
    if not there:
        raise _no_ecg()
    rate_hz = there[0].rate_hz
    if any(part.rate_hz != rate_hz for part in there):
        raise InputError("rate-unusable", "the record's segments differ in sampling rate; name one of them instead")
    keep = round(rate_hz / layout.rate_hz)
    leads = _first_leads(dict.fromkeys(name for part in there for name in part.leads), lead.is_known)
    total = sum(frames for frames, _ in parts) * keep
    if total * len(leads) > SAMPLES_MAX:
        raise InputError(
            "record-too-long", f"the whole record exceeds {SAMPLES_MAX} samples; name one of its segments instead"
        )
    samples = np.full((len(leads), total), np.nan, dtype=np.float32)  # (C, n)
    rails: dict[str, tuple[float, float]] = {}
    start = 0
    for frames, part in parts:
        if part is not None:
            for row, name in enumerate(part.leads):
                if name not in leads:
                    continue
                held = part.samples[row, : frames * keep]
                samples[leads.index(name), start : start + held.shape[0]] = held
                # A gain may change between segments; the widest rails never call a wave clipped that is not.
                low, high = rails.get(name, part.limits_mv[row])
                rails[name] = min(low, part.limits_mv[row][0]), max(high, part.limits_mv[row][1])
        start += frames * keep
    return Record(layout.name, leads, rate_hz, samples, tuple(rails[name] for name in leads))


def _segment(name: str | None, frames: int, read: Callable[[str], bytes], allow_truncated: bool) -> Record | None:
    """The ECG of one segment; None for a gap, a segment without ECG, and the empty one that only lists signals."""
    if name is None or frames == 0:
        return None
    header = parse_header(read(f"{name}.hea").decode("utf-8", errors="replace"))
    chosen = _ecg_of(header)
    if not chosen:
        return None
    stated = replace(header, samples=frames) if header.samples is None else header
    if stated.samples != frames:
        raise InputError(
            "wfdb-header",
            f"the record says that a segment has {frames} samples and the segment's own header says "
            f"{stated.samples}; fetch the record again",
        )
    return _read_signals(stated, read, chosen, allow_truncated=allow_truncated)


def read_annotations(name: str, annotator: str, read: Callable[[str], bytes], *, rate_hz: float) -> Annotations:
    """Annotations ``name.annotator`` with times in samples of ``rate_hz``, the record's rate."""
    return decode_annotations(read(f"{name}.{annotator}")).at_rate(rate_hz)


def converter_rails_mv(spec: SignalSpec) -> tuple[float, float]:
    """Lowest and highest value in mV that a signal's converter can give; equal to its format's range if unstated."""
    low, high = format_range(spec.fmt)
    if 0 < spec.adc_bits <= 32:
        half = 1 << (spec.adc_bits - 1)
        low, high = max(low, spec.adc_zero - half), min(high, spec.adc_zero + half - 1)
        if low >= high:
            low, high = format_range(spec.fmt)
    ends = sorted((adu - spec.baseline) * spec.millivolts_per_adu for adu in (low, high))
    return ends[0], ends[1]


def encode_record(record: Record, *, fmt: int = 16, gain: float = 1000.0) -> dict[str, bytes]:
    """Files of a record by name: ``NAME.hea`` and ``NAME.dat`` in format 16 or 212 with ``gain`` adu/mV.

    NaN becomes the format's invalid code; values beyond the format are clipped to it.
    """
    low, high = format_range(fmt)
    scaled = np.clip(np.rint(np.nan_to_num(record.samples.astype(np.float64)) * gain), low, high)
    adu = np.where(np.isnan(record.samples), low - 1, scaled).astype(np.int64)  # (C, n)
    bits = {16: 16, 212: 12}[fmt]
    signals = tuple(
        SignalSpec(
            file=f"{record.name}.dat",
            fmt=fmt,
            gain=gain,
            adc_bits=bits,
            initial=int(row[0]) if row.size else 0,
            checksum=checksum(row),
            description=name,
        )
        for name, row in zip(record.leads, adu, strict=True)
    )
    header = Header(record.name, record.rate_hz, adu.shape[1], signals)
    return {f"{record.name}.hea": encode_header(header).encode(), f"{record.name}.dat": encode_samples(adu, fmt)}


def _ecg_of(header: Header) -> tuple[int, ...]:
    """The ECG channels; of more than can be taken, those with known names before the others."""
    chosen = ecg_channels(header)
    kept = set(_first_leads(chosen, lambda c: lead.is_known(header.signals[c].description)))
    return tuple(c for c in chosen if c in kept)


def _first_leads(items: Iterable[_Item], known: Callable[[_Item], bool]) -> tuple[_Item, ...]:
    """As many as can be taken: those that are known before the others, each in the order given."""
    everything = list(items)
    if len(everything) <= limits.LEADS_MAX:
        return tuple(everything)
    return tuple(sorted(everything, key=lambda item: not known(item))[: limits.LEADS_MAX])


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """``MLII MLII`` → ``MLII MLII-2``: records exist that name two leads alike, and either may be the better one."""
    taken: dict[str, None] = {}
    for name in names:
        free, number = name, 2
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        taken[free] = None
    return tuple(taken)


def _no_ecg() -> InputError:
    return InputError(
        "no-ecg", "the record holds no ECG: no signal has a unit of electric potential; name another record"
    )


def _check_choice(header: Header, chosen: tuple[int, ...]) -> None:
    if not chosen:
        raise _no_ecg()
    if any(not 0 <= c < len(header.signals) for c in chosen):
        raise InputError("no-such-signal", f"the record has {len(header.signals)} signals, numbered from 0")
    if len(chosen) > limits.LEADS_MAX:
        raise InputError("too-many-leads", f"{len(chosen)} leads exceed the limit of {limits.LEADS_MAX}; choose fewer")
    if any(header.signals[c].fmt == 0 for c in chosen):
        raise InputError("no-such-signal", "a chosen signal has format 0: the record holds no samples of it")


def _check_scale(samples: FloatArray, chosen: tuple[int, ...]) -> None:
    """Refuse a gain that cannot be right: an ECG whose usual swing exceeds what a body gives."""
    step = max(1, samples.shape[1] // 4096)
    for c, row in zip(chosen, samples[:, ::step], strict=True):
        valid = row[~np.isnan(row)]
        if valid.size and float(np.median(np.abs(valid - np.median(valid)))) > limits.ECG_ABS_MAX_MV:
            raise InputError(
                "ecg-scale",
                f"signal {c} swings by more than {limits.ECG_ABS_MAX_MV:g} mV most of the time; its gain or unit "
                "in the header is wrong",
            )


def patient_of(record: str) -> str:
    """The patient behind a record name: 201 and 202 of the MIT-BIH Arrhythmia Database are one person."""
    folder, slash, name = record.rpartition("/")
    return folder + slash + ("201" if name == "202" else name)
