"""WFDB header files: text ⇄ ``Header``.

Source: header(5) of the WFDB Applications Guide. What the standard lets a writer leave out gets the standard's default
(250 Hz, 200 adu/mV, unit mV); what a writer got wrong is refused. Base times and dates are never interpreted: real
headers carry forms such as ``05-Feb-2020 11:39:16``, and no figure of Edgeward depends on them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from edgeward.kernel.errors import InputError
from edgeward.kernel.units import millivolts_per

HEADER_BYTES_MAX = 1 << 20
SIGNALS_MAX = 512
SEGMENTS_MAX = 65_536
SAMPLES_PER_FRAME_MAX = 1024
DEFAULT_RATE_HZ = 250.0
DEFAULT_GAIN = 200.0
GAIN_MIN, GAIN_MAX = 1e-9, 1e12
"""Gains in adu per unit that a converter can have; beyond them a sample would overflow."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NAME = re.compile(r"^([A-Za-z0-9_.+-]+)(?:/(\d+))?$")
_SEGMENT = re.compile(r"^[A-Za-z0-9_.+-]+$")
_RATE = re.compile(rf"^({_NUMBER})(?:/({_NUMBER})(?:\(({_NUMBER})\))?)?$")
_FORMAT = re.compile(r"^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_GAIN = re.compile(rf"^({_NUMBER})(?:\(([-+]?\d+)\))?(?:/(\S+))?$")
_RANGE = re.compile(rf"^({_NUMBER})\s*([A-Za-zµμ]+)/(\d+)$")
_INTEGER = re.compile(r"^[-+]?\d{1,18}$")
_PLAIN_FILE = re.compile(r"^[^/\\\x00:]+$")
_NOT_ECG = re.compile(
    r"^(resp|pleth|ppg|spo2|abp|art|bp|nbp|pap|cvp|icp|lap|rap|uap|co2|eeg|eog|emg|marker|pace|imp|acc|flow|sound|pcg)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """One signal line of a header.

    ``gain`` is adu per ``units``; ``baseline`` the adu of physical zero. ``adc_bits`` 0 means not stated; ``checksum``
    is None where the header has none. ``samples_per_frame`` above 1 marks a signal sampled faster than the record.
    """

    file: str
    fmt: int
    samples_per_frame: int = 1
    skew: int = 0
    byte_offset: int = 0
    gain: float = DEFAULT_GAIN
    baseline: int = 0
    units: str = "mV"
    adc_bits: int = 0
    adc_zero: int = 0
    initial: int = 0
    checksum: int | None = None
    block_size: int = 0
    description: str = ""

    @property
    def millivolts_per_adu(self) -> float:
        """Factor from adu to mV; raises ``InputError`` (``unit-unknown``) where the unit is not a potential."""
        return millivolts_per(self.units) / self.gain


@dataclass(frozen=True, slots=True)
class Header:
    """What a header file says. ``samples`` (frames of the record) is None where the header does not state it."""

    name: str
    rate_hz: float
    samples: int | None
    signals: tuple[SignalSpec, ...]
    counter_hz: float | None = None
    counter_base: float = 0.0
    comments: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Layout:
    """The header of a multi-segment record: (name, frames) of each segment in order, the name None for a gap."""

    name: str
    rate_hz: float
    segments: tuple[tuple[str | None, int], ...]


def ecg_channels(header: Header) -> tuple[int, ...]:
    """Indices of the signals that are ECG: the unit is an electric potential and the name does not say otherwise."""
    return tuple(index for index, spec in enumerate(header.signals) if _is_ecg(spec))


def parse_header(text: str) -> Header:
    """Read the text of a ``.hea`` file.

    Raises ``InputError``: ``wfdb-header`` (foreign or damaged), ``wfdb-multi-segment`` (see ``parse_layout``),
    ``wfdb-file-name`` (a signal file that is not a plain name in the record's own folder).
    """
    lines, comments = _lines(text)
    first = _record_line(lines[0].split())
    if first.segments is not None:
        raise InputError(
            "wfdb-multi-segment",
            "this is a multi-segment record inside another one, which header(5) does not allow; "
            "write it as one segment first (xform -i RECORD -o NEW of the WFDB software package)",
        )
    if len(lines) - 1 < first.count:
        raise _bad(f"the header announces {first.count} signals and describes {len(lines) - 1}; it is cut short")
    signals = tuple(_signal_line(line, index) for index, line in enumerate(lines[1 : first.count + 1]))
    return Header(first.name, first.rate_hz, first.samples, signals, first.counter_hz, first.counter_base, comments)


def parse_layout(text: str) -> Layout | None:
    """Read the text of a ``.hea`` file of a multi-segment record; None for the header of an ordinary record.

    Raises ``InputError`` (``wfdb-header``).
    """
    lines, _ = _lines(text)
    first = _record_line(lines[0].split())
    if first.segments is None:
        return None
    if not 1 <= first.segments <= SEGMENTS_MAX:
        raise _bad(f"the number of segments lies outside 1 to {SEGMENTS_MAX}")
    if len(lines) - 1 < first.segments:
        raise _bad(f"the header announces {first.segments} segments and names {len(lines) - 1}; it is cut short")
    return Layout(
        first.name, first.rate_hz, tuple(_segment_line(line.split()) for line in lines[1 : first.segments + 1])
    )


def encode_header(header: Header) -> str:
    """Text of a ``.hea`` file that ``parse_header``, the WFDB library and the ``wfdb`` package read back."""
    rate = f"{header.rate_hz:.12g}"
    if header.counter_hz is not None:
        rate += f"/{header.counter_hz:.12g}({header.counter_base:.12g})"
    first = f"{header.name} {len(header.signals)} {rate}"
    lines = [first if header.samples is None else f"{first} {header.samples}"]
    for spec in header.signals:
        fmt = str(spec.fmt)
        fmt += f"x{spec.samples_per_frame}" if spec.samples_per_frame != 1 else ""
        fmt += f":{spec.skew}" if spec.skew else ""
        fmt += f"+{spec.byte_offset}" if spec.byte_offset else ""
        line = f"{spec.file} {fmt} {spec.gain:.12g}({spec.baseline})/{spec.units} {spec.adc_bits} {spec.adc_zero}"
        line += f" {spec.initial}"
        if spec.checksum is not None:
            line += f" {spec.checksum} {spec.block_size} {spec.description}".rstrip()
        elif spec.description:
            raise ValueError("a signal with a description needs a checksum: header(5) gives its fields by position")
        lines.append(line)
    lines += [f"# {comment}" for comment in header.comments]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _RecordLine:
    name: str
    segments: int | None
    count: int
    rate_hz: float
    counter_hz: float | None
    counter_base: float
    samples: int | None


def _lines(text: str) -> tuple[list[str], tuple[str, ...]]:
    """The lines that count, at least one, and the comments."""
    if len(text) > HEADER_BYTES_MAX:
        raise _bad(f"the header is longer than {HEADER_BYTES_MAX} characters")
    if "\x00" in text:
        raise _bad("the header holds binary bytes")
    lines = [line.strip() for line in text.splitlines()]
    comments = tuple(line[1:].strip() for line in lines if line.startswith("#"))
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise _bad("the header is empty")
    return lines, comments


def _record_line(fields: list[str]) -> _RecordLine:
    named = _NAME.match(fields[0])
    if named is None or len(fields) < 2:
        raise _bad("the first line is not a record line (name, number of signals, rate, samples)")
    segments = None if named.group(2) is None else _integer(named.group(2), "number of segments")
    count = _integer(fields[1], "number of signals")
    if not 0 <= count <= SIGNALS_MAX:
        raise _bad(f"the number of signals lies outside 0 to {SIGNALS_MAX}")
    rate_hz, counter_hz, counter_base = DEFAULT_RATE_HZ, None, 0.0
    if len(fields) > 2:
        match = _RATE.match(fields[2])
        if match is None:
            raise _bad("the sampling rate is not a number")
        rate_hz = _positive(match.group(1), "sampling rate")
        counter_hz = _positive(match.group(2), "counter rate") if match.group(2) else None
        counter_base = float(match.group(3)) if match.group(3) else 0.0
    samples = None
    # A date written where the length belongs leaves the length unstated; the file's size then decides.
    if len(fields) > 3 and _INTEGER.match(fields[3]):
        samples = _integer(fields[3], "number of samples")
        if samples < 0:
            raise _bad("the number of samples is negative")
        samples = samples or None  # header(5): zero means unspecified
    return _RecordLine(named.group(1), segments, count, rate_hz, counter_hz, counter_base, samples)


def _segment_line(fields: list[str]) -> tuple[str | None, int]:
    """Name and length of a segment; header(5) writes ``~`` for a stretch in which nothing was recorded."""
    frames = _integer(fields[1], "length of a segment") if len(fields) > 1 else -1
    name = None if fields[0] == "~" else fields[0]
    if frames < 0 or (name is not None and _SEGMENT.match(name) is None):
        raise _bad("a segment's line is not its name and its length in samples")
    return name, frames


def _signal_line(line: str, index: int) -> SignalSpec:
    fields = line.split(None, 8)
    if len(fields) < 2:
        raise _bad(f"signal {index} has no format")
    match = _FORMAT.match(fields[1])
    if match is None or max(len(part or "") for part in match.groups()) > 15:
        raise _bad(f"signal {index} has a malformed format")
    fmt, per_frame, skew, offset = (int(part) if part else 0 for part in match.groups())
    per_frame = per_frame or 1
    if per_frame > SAMPLES_PER_FRAME_MAX:
        raise _bad(f"signal {index} states more than {SAMPLES_PER_FRAME_MAX} samples in one frame")
    numbers = fields[3:8]
    bits, zero = (_optional(numbers, at, index) for at in (0, 1))
    adc_zero = zero or 0
    gain, stated_baseline, units = _gain(fields[2], index) if len(fields) > 2 else (DEFAULT_GAIN, None, "mV")
    initial, checksum, block = (_optional(numbers, at, index) for at in (2, 3, 4))
    return SignalSpec(
        file=_plain_file(fields[0], index),
        fmt=fmt,
        samples_per_frame=per_frame,
        skew=skew,
        byte_offset=offset,
        gain=gain,
        baseline=adc_zero if stated_baseline is None else stated_baseline,
        units=units,
        adc_bits=max(0, bits or 0),
        adc_zero=adc_zero,
        initial=adc_zero if initial is None else initial,
        checksum=checksum,
        block_size=block or 0,
        description=fields[8].strip() if len(fields) > 8 else "",
    )


def _gain(text: str, index: int) -> tuple[float, int | None, str]:
    """Gain, baseline and unit of ``200(0)/mV``, of ``200``, or of ``10.mV/4096`` (full range over its adu)."""
    match = _GAIN.match(text)
    if match is not None:
        gain = _finite(match.group(1), f"gain of signal {index}")
        # header(5): a gain of zero means an uncalibrated signal, for which 200 adu/mV is to be assumed.
        baseline = None if match.group(2) is None else _integer(match.group(2), f"baseline of signal {index}")
        if gain and not GAIN_MIN <= abs(gain) <= GAIN_MAX:
            raise _bad(f"the gain of signal {index} lies outside {GAIN_MIN:g} to {GAIN_MAX:g}")
        return gain or DEFAULT_GAIN, baseline, match.group(3) or "mV"
    spread = _RANGE.match(text)
    if spread is None:
        raise _bad(f"signal {index} has a malformed gain")
    span = _positive(spread.group(1), f"range of signal {index}")
    return _positive(spread.group(3), f"range of signal {index}") / span, None, spread.group(2)


def _plain_file(name: str, index: int) -> str:
    if _PLAIN_FILE.match(name) and name not in {".", "..", "-"}:
        return name
    raise InputError(
        "wfdb-file-name",
        f"signal {index} names a file outside the record's folder; only a plain file name is allowed (header(5)): "
        "put the signal file beside the header and correct its name",
    )


def _is_ecg(spec: SignalSpec) -> bool:
    if spec.fmt == 0 or _NOT_ECG.match(spec.description.strip()):
        return False
    try:
        millivolts_per(spec.units)
    except InputError:
        return False
    return True


def _optional(numbers: list[str], at: int, index: int) -> int | None:
    return _integer(numbers[at], f"field {at + 4} of signal {index}") if len(numbers) > at else None


def _integer(text: str, what: str) -> int:
    if not _INTEGER.match(text):
        raise _bad(f"the {what} is not a whole number")
    return int(text)


def _finite(text: str, what: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _bad(f"the {what} is not finite")
    return value


def _positive(text: str, what: str) -> float:
    value = _finite(text, what)
    if value <= 0:
        raise _bad(f"the {what} is not positive")
    return value


def _bad(why: str) -> InputError:
    return InputError("wfdb-header", f"{why}; this is not a WFDB header (header(5)) or it is damaged")
