"""Made-up stays for tests of the hypotension task: charts with a value each quarter, some of them falling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.signal.numeric import Kind
from edgeward.workshop.vitals_long import KINDS_READ, Stay

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {Kind.HR: "HR", Kind.RR: "RespRate", Kind.ABP_SYS: "SysABP", Kind.ABP_DIA: "DiasABP", Kind.ABP_MEAN: "MAP"}


def chart(seed: int, *, hours: int = 10, falls: bool = False) -> dict[Kind, tuple[np.ndarray, np.ndarray]]:
    """Kind → minutes, values. A falling pressure goes from about 85 to about 55 over two hours, and comes back."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(0, hours * 60, 15) + int(rng.integers(0, 10))
    start = int(rng.integers(120, hours * 60 - 260))
    fall = np.clip((minutes - start) / 120.0, 0, 1) * (minutes < start + 180) if falls else np.zeros(len(minutes))
    mean = 85.0 - 30.0 * fall + rng.normal(0, 2.0, len(minutes))
    return {
        Kind.HR: (minutes, 80.0 + 25.0 * fall + rng.normal(0, 2, len(minutes))),
        Kind.RR: (minutes[::4], 18.0 + rng.normal(0, 1, len(minutes[::4]))),
        Kind.ABP_SYS: (minutes, mean + 35.0),
        Kind.ABP_DIA: (minutes, mean - 18.0),
        Kind.ABP_MEAN: (minutes, mean),
    }


def stay(seed: int, **options: object) -> Stay:
    """One stay in memory."""
    rows = [
        (int(minute), KINDS_READ.index(kind), float(value))
        for kind, (minutes, values) in chart(seed, **options).items()  # type: ignore[arg-type]
        for minute, value in zip(minutes, values, strict=True)
    ]
    minute, kind, value = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return Stay(str(seed), minute.astype(np.int64), kind.astype(np.int8), value, 60.0 + seed % 20)


def stays(count: int, first: int = 0) -> list[Stay]:
    """Every second one falls."""
    return [stay(first + seed, falls=seed % 2 == 0) for seed in range(count)]


def write(path: Path, made: list[Stay]) -> Path:
    """The stays as a parquet file of CinC 2012's shape."""
    import pyarrow as pa
    from pyarrow import parquet

    rows: list[tuple[str, int, str, float]] = []
    for one in made:
        rows.append((one.record, 0, "Age", float(one.age_y or -1)))
        rows += [(one.record, n.at_ns // 60_000_000_000, NAMES[n.kind], float(n.value or 0)) for n in one.numerics()]
    names = ("record", "minute", "parameter", "value")
    parquet.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), path)
    return path
