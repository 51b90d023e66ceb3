"""WFDB records on disk, read whole or replayed as a source.

``load_record`` and ``load_annotations`` are the one place where WFDB paths are opened, for replay and evaluation alike.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeward.bedside.source.base import BLOCK_MS, RECORD_GAP_S, Block, Pace, SourceInfo, block_samples
from edgeward.kernel.errors import InputError
from edgeward.wire import wfdb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from edgeward.kernel.clock import Clock
    from edgeward.wire.wfdb import Annotations, Record

FILE_BYTES_MAX = 4 << 30


def load_record(path: Path, *, channels: Sequence[int] | None = None, allow_truncated: bool = False) -> Record:
    """The ECG of the record at ``path`` (with or without ``.hea``).

    Raises ``InputError`` where a file cannot be read (``file-missing``, ``file-unreadable``, ``file-too-large``) or the
    record cannot be used.
    """
    stem = _stem(path)
    return wfdb.read_record(stem.name, _reader(stem.parent), channels=channels, allow_truncated=allow_truncated)


def load_annotations(path: Path, annotator: str = "atr", *, rate_hz: float) -> Annotations:
    """The annotations of the record at ``path`` in samples of ``rate_hz``; raises ``InputError`` as ``load_record``."""
    stem = _stem(path)
    return wfdb.read_annotations(stem.name, annotator, _reader(stem.parent), rate_hz=rate_hz)


def find_records(path: Path) -> list[Path]:
    """The records at ``path`` by name: one where it names a record, all of its ``.hea`` files where it is a folder.

    The segments of a multi-segment record are not records beside it. Raises ``InputError`` (``no-records``) where
    there is none.
    """
    if path.is_dir():
        headers = sorted(header.with_suffix("") for header in path.glob("*.hea"))
        inner = segments_of(headers)
        found = [header for header in headers if header not in inner]
    else:
        found = [_stem(path)] if _stem(path).with_name(_stem(path).name + ".hea").is_file() else []
    if not found:
        raise InputError("no-records", "no WFDB header (.hea) is there; name a record or a folder of records")
    return found


def segments_of(records: Iterable[Path]) -> set[Path]:
    """Paths of the segments that multi-segment records among ``records`` consist of."""
    found: set[Path] = set()
    for path in records:
        try:
            layout = wfdb.parse_layout(_header_text(path))
        except InputError:  # said when the record itself is read
            continue
        if layout is not None:
            found |= {_stem(path).with_name(name) for name, _ in layout.segments if name is not None}
    return found


class WfdbSource:
    """Replays records in the order given; between two, the index jumps, so that history never crosses records.

    All records must have the leads and the rate of the first (``source_groups`` sorts a folder into such runs). With
    ``allow_truncated`` the samples that a short file lacks are replayed as missing. Raises what ``load_record`` raises,
    and ``InputError`` (``leads-changed``) during replay.
    """

    def __init__(
        self,
        records: Sequence[Path],
        clock: Clock,
        *,
        speed: float = 1.0,
        block_ms: float = BLOCK_MS,
        allow_truncated: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not records:
            raise InputError("no-records", "a replay needs at least one record")
        self._records = tuple(records)
        self._allow_truncated = allow_truncated
        self._first: Record | None = self._load(0)
        first = self._first
        self._info = SourceInfo(first.leads, first.rate_hz, "WFDB replay", first.limits_mv)
        self._block = block_samples(block_ms, first.rate_hz)
        self._pace = Pace(clock, first.rate_hz, speed, sleep)
        self._closed = False

    @property
    def info(self) -> SourceInfo:
        """Leads and rate of the first record."""
        return self._info

    def blocks(self) -> Iterator[Block]:
        """The records' blocks; the last block of a record may be short."""
        base = 0
        for index in range(len(self._records)):
            record = self._first if index == 0 and self._first is not None else self._load(index)
            self._first = None
            if (record.leads, record.rate_hz) != (self._info.leads, self._info.rate_hz):
                raise InputError(
                    "leads-changed",
                    f"record {index + 1} of the replay has other leads or another rate than the first; replay it alone",
                )
            there = record.samples.shape[1]
            total = there + record.missing_samples
            for start in range(0, total, self._block):
                stop = min(start + self._block, total)
                samples = record.samples[:, start:stop]
                if stop > there:
                    lack = np.full((samples.shape[0], stop - max(start, there)), np.nan, dtype=np.float32)
                    samples = np.concatenate((samples, lack), axis=1)
                now = self._pace.wait(stop - start, lambda: self._closed)
                if self._closed:
                    return
                yield Block(samples, base + start, now)
            base += total + round(RECORD_GAP_S * self._info.rate_hz)

    def close(self) -> None:
        """End the replay at its next block."""
        self._closed = True
        self._first = None

    def _load(self, index: int) -> Record:
        return load_record(self._records[index], allow_truncated=self._allow_truncated)


def source_groups(records: Sequence[Path]) -> list[list[Path]]:
    """``records`` in runs of the same ECG leads and rate, in order: one ``WfdbSource`` each. Reads headers only."""
    groups: list[list[Path]] = []
    last: tuple[object, ...] | None = None
    for path in records:
        text = _header_text(path)
        if wfdb.parse_layout(text) is not None:  # which leads it has shows only in its segments: it stands alone
            groups.append([path])
            last = None
            continue
        header = wfdb.parse_header(text)
        chosen = [header.signals[c] for c in wfdb.ecg_channels(header)]
        kind = (header.rate_hz, *((spec.description, spec.samples_per_frame) for spec in chosen))
        if kind != last:
            groups.append([])
            last = kind
        groups[-1].append(path)
    return groups


def _header_text(path: Path) -> str:
    return _reader(path.parent)(f"{_stem(path).name}.hea").decode("utf-8", errors="replace")


def _stem(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in {".hea", ".dat"} else path


def _reader(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            if (folder / name).stat().st_size > FILE_BYTES_MAX:
                raise InputError("file-too-large", f"a file of the record exceeds {FILE_BYTES_MAX} bytes; split it")
            return (folder / name).read_bytes()
        except FileNotFoundError as error:
            kind = Path(name).suffix or "signal"
            raise InputError(
                "file-missing", f"the record's {kind} file is not there; fetch the whole record"
            ) from error
        except OSError as error:
            reason = error.strerror or "unknown reason"
            raise InputError("file-unreadable", f"a file of the record cannot be read: {reason}") from error

    return read
