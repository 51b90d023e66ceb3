"""Recorded stays as what was measured when, from either challenge's table: minutes of 2012, hours of 2019."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeward.kernel.errors import ConfigError
from edgeward.workshop.stay_table import COLUMNS, LABEL, StayTable, read_stays
from edgeward.workshop.vitals_long import NS_PER_MINUTE, read_long

if TYPE_CHECKING:
    from pathlib import Path

    from edgeward.signal.numeric import Kind

Rows = list[tuple[float, "Kind", float]]
"""Seconds since the record began, what was measured, and its value in the unit of its kind."""


def recorded(path: Path, first: int, count: int) -> list[tuple[str, Rows]]:
    """Up to ``count`` stays of a table from the ``first`` on (0 is the first), each with its name in the table.

    Raises what ``read_stays`` and ``read_long`` raise, and ``ConfigError`` (``stay-missing``) past the last stay.
    """
    if _is_hourly(path):
        table = read_stays(path)
        _require(first, len(table.patients))
        table = table.take(np.arange(first, min(first + count, len(table.patients))))
        return [(name, _rows(table, number)) for number, name in enumerate(table.patients)]
    stays = [stay for stay in read_long([path]) if len(stay)]
    _require(first, len(stays))
    return [
        (
            str(stay.record),
            [
                (60.0 * numeric.at_ns / NS_PER_MINUTE, numeric.kind, numeric.value)
                for numeric in stay.numerics()
                if numeric.value is not None
            ],
        )
        for stay in stays[first : first + count]
    ]


def _is_hourly(path: Path) -> bool:
    """Whether a table has the shape of 2019; what cannot be read is left to the reader, which says why."""
    if path.is_dir():
        return True
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        return False
    try:
        return LABEL in pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return False


def _require(first: int, count: int) -> None:
    if first >= count:
        raise ConfigError("stay-missing", f"the table holds {count} stays; ask for one from 0 to {count - 1}")


def _rows(table: StayTable, number: int) -> Rows:
    kinds = list(COLUMNS.values())
    here = slice(int(table.starts[number]), int(table.ends[number]))
    row, column = np.nonzero(~np.isnan(table.values[here]))
    hours = table.hour[here]
    return [
        (3600.0 * float(hours[r]), kinds[c], float(table.values[here][r, c]))
        for r, c in zip(row.tolist(), column.tolist(), strict=True)
    ]
