"""WFDB signal files: bytes ⇄ samples.

Source: signal(5) of the WFDB Applications Guide. A file that is shorter than its header says, or whose checksum
differs, is refused; an invalid sample code becomes NaN and never a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.wire.wfdb_header import Header, SignalSpec

IntArray = npt.NDArray[np.signedinteger[Any]]
FloatArray = npt.NDArray[np.float32]

# Format → (samples in a group, bytes of a group): signal(5) packs 12- and 10-bit samples in groups.
_PACKING: dict[int, tuple[int, int]] = {
    8: (1, 1),
    16: (1, 2),
    24: (1, 3),
    32: (1, 4),
    61: (1, 2),
    80: (1, 1),
    160: (1, 2),
    212: (2, 3),
    310: (3, 4),
    311: (3, 4),
}
_BITS = {8: 32, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}
_FLAC = frozenset({508, 516, 524})


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples of the chosen channels: ``millivolts`` (C, n) with NaN for invalid, at ``rate_hz``.

    ``missing_samples`` counts the samples that the header announces and the files do not hold.
    """

    millivolts: FloatArray
    rate_hz: float
    missing_samples: int


def decode_signals(header: Header, files: Mapping[str, bytes]) -> FloatArray:
    """All signals of a record in mV (C, n), NaN where invalid; see ``decode_channels`` for what it raises."""
    return decode_channels(header, files, range(len(header.signals))).millivolts


def decode_channels(
    header: Header, files: Mapping[str, bytes], channels: Sequence[int], *, allow_truncated: bool = False
) -> Decoded:
    """Decode the signals with the indices ``channels``; ``files`` holds the bytes of every file they stand in.

    Signals sampled several times in a frame keep their full rate where all chosen ones share it; else they are averaged
    to the record's rate, as the WFDB library does. ``allow_truncated`` accepts a short file: what is not there is
    NaN where another channel goes on, and counted in ``missing_samples``.

    Raises ``InputError``: ``wfdb-format``, ``wfdb-truncated``, ``wfdb-checksum``, ``unit-unknown``.
    """
    specs = header.signals
    per_frame = {specs[c].samples_per_frame for c in channels}
    keep = per_frame.pop() if len(per_frame) == 1 else 1
    decoded: dict[int, FloatArray] = {}
    for group in _groups(specs):
        wanted = [c for c in group if c in set(channels)]
        if not wanted:
            continue
        data = files[specs[group[0]].file]
        decoded.update(_decode_group(header, group, wanted, data, keep, allow_truncated=allow_truncated))
    stated = None if header.samples is None else header.samples * keep
    longest = max((x.shape[0] for x in decoded.values()), default=0)
    length = longest if stated is None else min(stated, longest)
    out = np.full((len(channels), length), np.nan, dtype=np.float32)  # (C, n)
    for row, c in enumerate(channels):
        x = decoded[c][:length]
        out[row, : x.shape[0]] = x
    missing = 0 if stated is None else stated - length
    return Decoded(out, header.rate_hz * keep, missing)


def format_range(fmt: int) -> tuple[int, int]:
    """Lowest and highest valid sample code of a format (the lowest code of all marks an invalid sample)."""
    half = 1 << (_BITS[fmt] - 1)
    return -half + (0 if fmt == 8 else 1), half - 1


def encode_samples(adu: npt.ArrayLike, fmt: int = 16) -> bytes:
    """Bytes of one signal file holding the signals ``adu`` (C, n) interleaved, in format 16 or 212.

    Raises ``ValueError`` where a sample does not fit; the invalid code of the format (its lowest) is allowed.
    """
    values = np.asarray(adu, dtype=np.int64)  # (C, n)
    if fmt not in {16, 212}:
        raise ValueError("only formats 16 and 212 are written")
    half = 1 << (_BITS[fmt] - 1)
    if values.size and (values.min() < -half or values.max() >= half):
        raise ValueError(f"a sample does not fit in the {_BITS[fmt]} bits of format {fmt}")
    flat = values.T.reshape(-1)
    if fmt == 16:
        return flat.astype("<i2").tobytes()
    padded = np.append(flat, 0) if flat.size % 2 else flat
    first, second = padded[0::2] & 0xFFF, padded[1::2] & 0xFFF
    out = np.empty((first.size, 3), dtype=np.uint8)
    out[:, 0] = first & 0xFF
    out[:, 1] = (first >> 8) | ((second >> 8) << 4)
    out[:, 2] = second & 0xFF
    used = -(-flat.size * 3 // 2)
    return out.tobytes()[:used]


def checksum(adu: npt.ArrayLike) -> int:
    """The 16-bit signed sum of one signal's samples (n,), as header(5) stores it."""
    total = int(np.asarray(adu).sum(dtype=np.int64)) & 0xFFFF
    return total - 0x10000 if total >= 0x8000 else total


def _groups(specs: Sequence[SignalSpec]) -> list[list[int]]:
    """Indices of signals that share a file; they stand interleaved there."""
    by_file: dict[str, list[int]] = {}
    for index, spec in enumerate(specs):
        if spec.fmt != 0:
            by_file.setdefault(spec.file, []).append(index)
    return list(by_file.values())


def _decode_group(
    header: Header, group: list[int], wanted: list[int], data: bytes, keep: int, *, allow_truncated: bool
) -> dict[int, FloatArray]:
    specs = header.signals
    fmt, offset = _check_format(specs, group)
    width = sum(specs[c].samples_per_frame for c in group)
    in_group, bytes_group = _PACKING[fmt]
    present = max(0, len(data) - offset)
    # A last, incomplete group of 212, 310 or 311 still holds the samples whose bits are all there.
    held = present // bytes_group * in_group + _in_tail(fmt, present % bytes_group)
    frames = held // width
    stated = header.samples
    whole = True
    if stated is not None:
        if frames < stated and not allow_truncated:
            raise InputError(
                "wfdb-truncated",
                f"the file of signal {group[0]} is shorter than the header says: {frames} of {stated} samples; "
                "fetch the record again, or allow a truncated record to go on with what is there",
            )
        whole = frames >= stated
        skew = max(specs[c].skew for c in wanted)
        frames = min(frames, stated + min(skew, frames))
    adu = _unpack(fmt, np.frombuffer(data, np.uint8, count=present, offset=min(offset, len(data))), frames * width)
    table = adu[: frames * width].reshape(frames, width)  # (frames, samples in a frame)
    starts = np.concatenate(([0], np.cumsum([specs[c].samples_per_frame for c in group])))
    out: dict[int, FloatArray] = {}
    for c in wanted:
        at = int(starts[group.index(c)])
        x = np.ascontiguousarray(table[:, at : at + specs[c].samples_per_frame]).reshape(-1)
        if fmt == 8:
            x = np.cumsum(x, dtype=np.int64) + specs[c].initial
        if whole:
            _verify(specs[c], c, x, stated)
        out[c] = _physical(specs[c], x, keep)
    return out


def _check_format(specs: Sequence[SignalSpec], group: list[int]) -> tuple[int, int]:
    fmt, offset = specs[group[0]].fmt, specs[group[0]].byte_offset
    if fmt in _FLAC:
        raise InputError(
            "wfdb-format",
            f"signal {group[0]} is FLAC-compressed (format {fmt}), which Edgeward does not read; "
            "rewrite the record in format 16 (xform of the WFDB software package)",
        )
    if fmt not in _PACKING:
        known = ", ".join(str(f) for f in sorted(_PACKING))
        raise InputError("wfdb-format", f"signal {group[0]} has format {fmt}; signal(5) formats read here: {known}")
    if any(specs[c].fmt != fmt or specs[c].byte_offset not in {0, offset} for c in group):
        raise InputError("wfdb-format", f"the signals in the file of signal {group[0]} differ in format or offset")
    return fmt, offset


def _in_tail(fmt: int, extra: int) -> int:
    """Whole samples in the ``extra`` bytes of an incomplete last group."""
    return {212: (0, 0, 1), 310: (0, 0, 1, 1), 311: (0, 0, 1, 2)}.get(fmt, (0,) * 4)[extra]


def _unpack(fmt: int, raw: npt.NDArray[np.uint8], count: int) -> IntArray:
    """The first ``count`` sample codes in ``raw``."""
    in_group, bytes_group = _PACKING[fmt]
    groups = -(-count // in_group)
    need = groups * bytes_group
    if raw.size < need:
        raw = np.concatenate((raw, np.zeros(need - raw.size, dtype=np.uint8)))
    raw = np.ascontiguousarray(raw[:need])
    out: IntArray
    match fmt:
        case 8:
            out = raw.view(np.int8)
        case 16:
            out = raw.view("<i2")
        case 61:
            out = raw.view(">i2")
        case 32:
            out = raw.view("<i4")
        case 80:
            out = raw.astype(np.int16) - 128
        case 160:
            out = (raw.view("<u2").astype(np.int32) - 32768).astype(np.int16)
        case 24:
            wide = np.zeros((groups, 4), dtype=np.uint8)
            wide[:, 1:] = raw.reshape(groups, 3)
            out = wide.reshape(-1).view("<i4") >> 8
        case 212:
            out = _unpack_212(raw.reshape(groups, 3))
        case _:
            out = _unpack_10_bit(fmt, raw)
    return out[:count]


def _unpack_212(triples: npt.NDArray[np.uint8]) -> IntArray:
    low, middle, high = (triples[:, k].astype(np.int16) for k in range(3))
    # The 12 bits are put at the top of 16, so that shifting them back carries the sign along.
    low <<= 4
    low |= middle << 12
    low >>= 4
    high <<= 4
    middle &= 0xF0
    middle <<= 8
    high |= middle
    high >>= 4
    out = np.empty((triples.shape[0], 2), dtype=np.int16)
    out[:, 0], out[:, 1] = low, high
    return out.reshape(-1)


def _unpack_10_bit(fmt: int, raw: npt.NDArray[np.uint8]) -> IntArray:
    out = np.empty((raw.size // 4, 3), dtype=np.int32)
    if fmt == 311:
        word = raw.view("<u4").astype(np.int64)
        for k in range(3):
            out[:, k] = (word >> (10 * k)) & 0x3FF
    else:
        pair = raw.view("<u2").astype(np.int32).reshape(-1, 2)
        out[:, :2] = (pair >> 1) & 0x3FF
        out[:, 2] = (pair[:, 0] >> 11) | ((pair[:, 1] >> 11) << 5)
    out[out > 511] -= 1024
    return out.reshape(-1)


def _verify(spec: SignalSpec, index: int, x: IntArray, stated: int | None) -> None:
    """Compare the checksum of header(5); zero is what writers put when they did not compute one."""
    if not spec.checksum:
        return
    end = x.shape[0] if stated is None else stated * spec.samples_per_frame
    if checksum(x[:end]) != ((spec.checksum + 0x8000) & 0xFFFF) - 0x8000:
        raise InputError(
            "wfdb-checksum",
            f"the samples of signal {index} do not give the checksum in the header: the file is damaged or belongs to "
            "another record; fetch the record again",
        )


def _physical(spec: SignalSpec, x: IntArray, keep: int) -> FloatArray:
    """Millivolts of one signal with NaN for the invalid code, skew taken out, at ``keep`` samples per frame."""
    # float32 holds codes of 16 bits exactly; wider ones are subtracted in float64 first.
    codes = x.astype(np.float32) if _BITS[spec.fmt] <= 16 else x.astype(np.float64)
    codes -= spec.baseline
    codes *= spec.millivolts_per_adu
    mv: FloatArray = codes.astype(np.float32, copy=False)
    if spec.fmt != 8:
        invalid = x == -(1 << (_BITS[spec.fmt] - 1))
        if invalid.any():
            mv[invalid] = np.nan
    if spec.skew:
        shift = min(spec.skew * spec.samples_per_frame, mv.shape[0])
        mv = np.concatenate((mv[shift:], np.full(shift, np.nan, dtype=np.float32)))
    if spec.samples_per_frame != keep:
        mv = mv.reshape(-1, spec.samples_per_frame).mean(axis=1)
    return mv
