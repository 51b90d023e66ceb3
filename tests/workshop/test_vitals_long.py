"""Stays in the long shape of CinC 2012: what is read, what is left out, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.numeric import Kind
from edgeward.workshop.vitals_long import NS_PER_MINUTE, read_long

if TYPE_CHECKING:
    from pathlib import Path

pa = pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path: Path, rows: list[tuple[Any, Any, Any, Any]]) -> Path:
    names = ("record", "minute", "parameter", "value")
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    parquet.write_table(pa.table(columns), path)
    return path


ROWS = [
    (7, 0, "RecordID", 7.0),
    (7, 0, "Age", 61.0),
    (7, 30, "HR", 88.0),
    (7, 10, "HR", 80.0),
    (7, 10, "MAP", 71.0),
    (7, 10, "MAP", 75.0),
    (7, 20, "MAP", -1.0),
    (7, 20, "HR", 900.0),
    (7, 20, "Lactate", 2.0),
    (12, 0, "Age", -1.0),
]


def test_vital_signs_are_read_by_minute_and_all_else_is_left_out(tmp_path: Path) -> None:
    """Rows in any order; −1, the impossible and laboratory values are no numerics; a stay without vitals is empty."""
    first, second = read_long([write(tmp_path / "a.parquet", ROWS)])
    assert (first.record, first.age_y, len(first)) == ("7", 61.0, 4)
    assert [(n.kind, n.value, n.at_ns // NS_PER_MINUTE) for n in first.numerics()] == [
        (Kind.HR, 80.0, 10),
        (Kind.ABP_MEAN, 71.0, 10),
        (Kind.ABP_MEAN, 75.0, 10),
        (Kind.HR, 88.0, 30),
    ]
    minutes, values = first.series(Kind.ABP_MEAN)
    assert (minutes.tolist(), values.tolist()) == ([10], [73.0])
    assert (second.record, second.age_y, len(second)) == ("12", None, 0)


def test_two_copies_of_a_stay_have_one_fingerprint(tmp_path: Path) -> None:
    """Whatever it is called and however its rows are ordered; another value is another stay."""
    vitals = [(1, 10, "HR", 80.0), (1, 20, "MAP", 71.0)]
    one = read_long([write(tmp_path / "a.parquet", vitals)])[0]
    two = read_long([write(tmp_path / "b.parquet", [(99, *row[1:]) for row in reversed(vitals)])])[0]
    other = read_long([write(tmp_path / "c.parquet", [(1, 10, "HR", 81.0), (1, 20, "MAP", 71.0)])])[0]
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_records_may_be_named_by_text(tmp_path: Path) -> None:
    """Ids are names; they are never counted with."""
    stays = read_long([write(tmp_path / "a.parquet", [("p10", 0, "HR", 80.0), ("p9", 0, "HR", 81.0)])])
    assert [stay.record for stay in stays] == ["p9", "p10"]


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "table-columns"),
        ([(1, 0.5, "HR", 80.0)], "table-values"),
        ([(1, -5, "HR", 80.0)], "table-values"),
        ([(1, None, "HR", 80.0)], "table-values"),
        ([(None, 5, "HR", 80.0)], "table-values"),
        ([(1, 10**9, "HR", 80.0)], "table-values"),
        ([(1, 5, "HR", "eighty")], "table-unreadable"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, rows: list[tuple[Any, Any, Any, Any]], code: str) -> None:
    """Minutes are whole and within a year, every row has its stay."""
    with pytest.raises(InputError) as caught:
        read_long([write(tmp_path / "a.parquet", rows)])
    assert caught.value.code == code


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The person who made the table learns which column it lacks."""
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"record": [1], "minute": [0], "value": [1.0]}), path)
    with pytest.raises(InputError, match="parameter"):
        read_long([path])


def test_no_table_and_no_parquet_are_refused(tmp_path: Path) -> None:
    """A file that is absent is the operator's, a file of something else the source's."""
    with pytest.raises(ConfigError):
        read_long([tmp_path / "absent.parquet"])
    (tmp_path / "text.parquet").write_text("record,minute")
    with pytest.raises(InputError) as caught:
        read_long([tmp_path / "text.parquet"])
    assert caught.value.code == "table-unreadable"


def test_a_stay_in_two_files_is_refused(tmp_path: Path) -> None:
    """It would count twice."""
    paths = [write(tmp_path / name, [(1, 5, "HR", 80.0)]) for name in ("a.parquet", "b.parquet")]
    with pytest.raises(InputError) as caught:
        read_long(paths)
    assert caught.value.code == "table-repeats"


def test_the_challenge_s_own_set_is_read(shared_data: Path) -> None:
    """Set a: 4,000 stays of adults."""
    path = shared_data / "cinc2012" / "set_a.parquet"
    if not path.is_file():
        pytest.skip("REAL DATA ABSENT: no cinc2012/set_a.parquet in the data folder")
    stays = read_long([path])
    assert len(stays) == 4000
    assert all(stay.age_y is not None and stay.age_y >= 15 for stay in stays)
    assert sum(len(stay) > 0 for stay in stays) > 3900
