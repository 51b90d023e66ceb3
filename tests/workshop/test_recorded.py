"""Recorded stays of either challenge, as what was measured when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.numeric import Kind
from edgeward.workshop.recorded import recorded

if TYPE_CHECKING:
    from pathlib import Path

pa = pytest.importorskip("pyarrow", reason="WORKSHOP ABSENT: install the extra workshop")
pq = pytest.importorskip("pyarrow.parquet", reason="WORKSHOP ABSENT: install the extra workshop")


def test_hours_of_2019_are_played_by_the_hour(tmp_path: Path) -> None:
    """Each value at its hour, what was not measured not at all; the stays that were asked for, under their names."""
    path = tmp_path / "stays.parquet"
    columns = {
        "patient": ["a", "a", "b", "b", "c"],
        "hour": [0, 1, 0, 2, 0],
        "HR": [80.0, None, 90.0, 95.0, 70.0],
        "FiO2": [None, 0.4, None, None, None],
        "SepsisLabel": [0, 0, 0, 1, 0],
    }
    pq.write_table(pa.table(columns), path)
    assert recorded(path, 0, 2) == [
        ("a", [(0.0, Kind.HR, 80.0), (3600.0, Kind.FIO2, 40.0)]),
        ("b", [(0.0, Kind.HR, 90.0), (7200.0, Kind.HR, 95.0)]),
    ]
    assert [name for name, _ in recorded(path, 1, 9)] == ["b", "c"]
    with pytest.raises(ConfigError) as caught:
        recorded(path, 3, 1)
    assert caught.value.code == "stay-missing"


def test_minutes_of_2012_are_played_by_the_minute(tmp_path: Path) -> None:
    """In the order in which they were measured."""
    path = tmp_path / "long.parquet"
    columns = {
        "record": [1, 1, 2],
        "minute": [15, 0, 7],
        "parameter": ["HR", "HR", "MAP"],
        "value": [82.0, 80.0, 71.0],
    }
    pq.write_table(pa.table(columns), path)
    (one, rows), (two, others) = recorded(path, 0, 5)
    assert (one, two) == ("1", "2")
    assert sorted(rows) == [(0.0, Kind.HR, 80.0), (900.0, Kind.HR, 82.0)]
    assert others == [(420.0, Kind.ABP_MEAN, 71.0)]


def test_what_is_no_table_says_so(tmp_path: Path) -> None:
    """A file that is not there, and one of another kind."""
    with pytest.raises(ConfigError):
        recorded(tmp_path / "absent.parquet", 0, 1)
    other = tmp_path / "other.parquet"
    other.write_bytes(b"no parquet")
    with pytest.raises(InputError):
        recorded(other, 0, 1)
