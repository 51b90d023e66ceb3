"""Vital signs of stays in the long shape of PhysioNet/CinC 2012: one parquet row per value.

Columns ``record`` (one per stay), ``minute`` (since the stay began), ``parameter``, ``value``; −1 stands for missing.
Rows of parameters that nothing here asks for are left out, and values that no living patient can show, as at the
bedside. Rows may come in any order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.numeric import KINDS, Kind, Numeric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

NS_PER_MINUTE = 60 * 1_000_000_000
ROWS_MAX = 100_000_000
MINUTES_MAX = 366 * 24 * 60
MISSING = -1.0

KIND_OF: Mapping[str, Kind] = MappingProxyType(
    {
        "HR": Kind.HR,
        "RespRate": Kind.RR,
        "Temp": Kind.TEMP,
        "SysABP": Kind.ABP_SYS,
        "DiasABP": Kind.ABP_DIA,
        "MAP": Kind.ABP_MEAN,
        "NISysABP": Kind.NIBP_SYS,
        "NIDiasABP": Kind.NIBP_DIA,
        "NIMAP": Kind.NIBP_MEAN,
    }
)
"""The challenge's vital signs and the kinds they hold, in the units of ``signal.numeric``. Its SaO2 is of blood gases,
two values in a stay, and no stand-in for a pulse oximeter's SpO2, which the challenge does not hold."""
KINDS_READ = tuple(KIND_OF.values())
SIMULATED_MARK: Mapping[bytes, bytes] = MappingProxyType({b"edgeward.patients": b"simulated"})
"""Metadata of a parquet file whose patients are made up."""
_COLUMNS = ("record", "minute", "parameter", "value")


@dataclass(frozen=True, slots=True, eq=False)
class Stay:
    """One stay: ``minute``, ``kind`` (position in ``KINDS_READ``) and ``value`` (N,), by minute; ``age_y`` if known."""

    record: str
    minute: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]
    value: npt.NDArray[np.float64]
    age_y: float | None

    def __len__(self) -> int:
        return len(self.minute)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of what was measured when: two copies of a stay agree, whatever their names."""
        digest = hashlib.sha256()
        for array in (self.minute, self.kind, np.round(self.value, 2).astype(np.float32)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def numerics(self) -> Iterator[Numeric]:
        """The stay's numerics in the order in which they were observed."""
        for minute, kind, value in zip(self.minute.tolist(), self.kind.tolist(), self.value.tolist(), strict=True):
            yield Numeric(KINDS_READ[kind], value, minute * NS_PER_MINUTE)

    def series(self, kind: Kind) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Minutes and values of one kind; several values of one minute count as their mean."""
        chosen = self.kind == KINDS_READ.index(kind)
        minutes, code = np.unique(self.minute[chosen], return_inverse=True)
        return minutes, np.bincount(code, self.value[chosen], len(minutes)) / np.maximum(np.bincount(code), 1)


def read_long(paths: Sequence[Path]) -> list[Stay]:
    """The stays of the files, sorted by name; stays without any vital sign are there, and empty.

    Raises ``ConfigError`` (``data-missing``, ``workshop-missing``) and ``InputError``: ``table-unreadable``,
    ``table-columns``, ``table-values``, ``table-repeats`` (a stay stands in two files).
    """
    stays: dict[str, Stay] = {}
    for path in paths:
        for stay in _stays(*_read_parquet(path), path.name):
            if stay.record in stays:
                raise InputError("table-repeats", "a record stands in two of the files; give each stay once")
            stays[stay.record] = stay
    return [stays[name] for name in sorted(stays, key=lambda name: (len(name), name))]


def is_simulated(path: Path) -> bool:
    """Whether the file says of itself that its patients are made up (``edgeward simulate stays`` writes that)."""
    try:
        from pyarrow import ArrowException, parquet

        return SIMULATED_MARK.items() <= (parquet.read_schema(path).metadata or {}).items()
    except (ModuleNotFoundError, ArrowException, OSError):
        return False  # whoever reads the table says what is wrong with it


def digest_of(stays: Sequence[Stay]) -> str:
    """SHA-256 of everything that is read of the stays."""
    digest = hashlib.sha256()
    for stay in stays:
        digest.update(f"{stay.record} {stay.fingerprint} {stay.age_y}\n".encode())
    return digest.hexdigest()


def _read_parquet(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    if not path.is_file():
        raise ConfigError("data-missing", f"there is no table {path.name}; name a parquet file of record, minute, …")
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "workshop-missing", "reading parquet needs pyarrow; pip install 'edgeward[workshop]'"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        absent = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if absent:
            raise InputError("table-columns", f"{path.name} lacks the column {', '.join(absent)}")
        if file.metadata.num_rows > ROWS_MAX:
            raise InputError("table-unreadable", f"{path.name} has more than {ROWS_MAX} rows; give fewer at a time")
        table = file.read(columns=list(_COLUMNS))
        records = table.column("record").cast(pa.string())
        names = table.column("parameter").cast(pa.string())
        minutes = table.column("minute").cast(pa.float64())
        values = table.column("value").cast(pa.float64())
        return (
            np.asarray(records.to_numpy(zero_copy_only=False)),
            np.asarray(names.to_numpy(zero_copy_only=False)),
            np.asarray(minutes.to_numpy(zero_copy_only=False)),
            np.asarray(values.to_numpy(zero_copy_only=False)),
        )
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise InputError(
            "table-unreadable",
            f"{path.name} is no parquet file of record, minute, parameter, value ({type(error).__name__})",
        ) from error


def _stays(
    records: npt.NDArray[Any],
    names: npt.NDArray[Any],
    minutes: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    file: str,
) -> list[Stay]:
    if not len(records):
        raise InputError("table-columns", f"{file} holds no row")
    if any(record is None for record in records) or not np.isfinite(minutes).all():
        raise InputError("table-values", f"every row of {file} needs a record and a minute")
    if (minutes != np.floor(minutes)).any() or (minutes < 0).any() or (minutes > MINUTES_MAX).any():
        raise InputError("table-values", f"minutes in {file} must be whole, 0 or more and within a year")
    everyone, code = np.unique(records.astype(np.str_), return_inverse=True)
    ages = np.full(len(everyone), np.nan)
    aged = (names == "Age") & np.isfinite(values) & (values >= 0) & (values <= 130)
    ages[code[aged]] = values[aged]
    kind = np.full(len(records), -1, dtype=np.int8)
    for position, (name, what) in enumerate(KIND_OF.items()):
        info = KINDS[what]
        there = (names == name) & (values != MISSING) & (values >= info.low) & (values <= info.high)  # NaN is not there
        kind[there] = position
    kept = np.flatnonzero(kind >= 0)
    kept = kept[np.lexsort((values[kept], kind[kept], minutes[kept], code[kept]))]
    bounds = np.searchsorted(code[kept], np.arange(len(everyone) + 1))
    return [
        Stay(
            str(name),
            minutes[rows].astype(np.int64),
            kind[rows],
            values[rows],
            None if np.isnan(ages[i]) else float(ages[i]),
        )
        for i, name in enumerate(everyone)
        for rows in (kept[bounds[i] : bounds[i + 1]],)
    ]
