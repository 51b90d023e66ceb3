"""WFDB records: the one entrance for headers, signals and annotations.

``read_record`` and ``read_annotations`` take a function that reads a file of the record's folder by its plain name, so
that this module touches no disk and every rim passes its own reader::

    record = read_record("101", lambda name: (folder / name).read_bytes())

Source: header(5), signal(5) and annot(5) of the WFDB Applications Guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel import limits
from edgeward.kernel.errors import InputError
from edgeward.signal import lead
from edgeward.wire.wfdb_annotations import Annotations, decode_annotations, encode_annotations
from edgeward.wire.wfdb_header import Header, SignalSpec, ecg_channels, encode_header, parse_header
from edgeward.wire.wfdb_signals import (
    FloatArray,
    checksum,
    decode_channels,
    decode_signals,
    encode_samples,
    format_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Annotations",
    "Header",
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
    "patient_of",
    "read_annotations",
    "read_record",
]


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

    Raises ``InputError`` for whatever is damaged, foreign, truncated, without ECG, or outside the rate and lead limits,
    and lets through what ``read`` raises.
    """
    header = parse_header(read(f"{name}.hea").decode("utf-8", errors="replace"))
    chosen = ecg_channels(header) if channels is None else tuple(channels)
    _check_choice(header, chosen, limited=channels is None)
    files = {spec.file: read(spec.file) for spec in (header.signals[c] for c in chosen)}
    decoded = decode_channels(header, files, chosen, allow_truncated=allow_truncated)
    if not limits.RATE_HZ_MIN <= decoded.rate_hz <= limits.RATE_HZ_MAX:
        raise InputError(
            "rate-unusable",
            f"the record is sampled at {decoded.rate_hz:g} Hz; an ECG is judged between {limits.RATE_HZ_MIN:g} and "
            f"{limits.RATE_HZ_MAX:g} Hz",
        )
    _check_scale(decoded.millivolts, chosen)
    names = tuple(lead.normalise(header.signals[c].description) or f"ECG{c + 1}" for c in chosen)
    rails = tuple(converter_rails_mv(header.signals[c]) for c in chosen)
    return Record(header.name, names, decoded.rate_hz, decoded.millivolts, rails, decoded.missing_samples)


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


def _check_choice(header: Header, chosen: tuple[int, ...], *, limited: bool) -> None:
    if not chosen:
        raise InputError(
            "no-ecg", "the record holds no ECG: no signal has a unit of electric potential; name another record"
        )
    if any(not 0 <= c < len(header.signals) for c in chosen):
        raise InputError("no-such-signal", f"the record has {len(header.signals)} signals, numbered from 0")
    if len(chosen) > limits.LEADS_MAX:
        how = "choose some of them" if limited else "choose fewer"
        raise InputError("too-many-leads", f"{len(chosen)} leads exceed the limit of {limits.LEADS_MAX}; {how}")
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
    return "201" if record == "202" else record
