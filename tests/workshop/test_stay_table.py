"""Hourly tables: parquet and the challenge's own files are one thing, and what is no table is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.numeric import Kind
from edgeward.testing.stays import made_stays, write_parquet, write_psv
from edgeward.workshop.stay_table import COLUMNS, columns_of, read_stays

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop


def test_parquet_and_psv_hold_the_same_stays(tmp_path: Path) -> None:
    """Values, labels and fingerprints do not depend on the form of the file."""
    columns = made_stays(6)
    one = read_stays(write_parquet(columns, tmp_path / "a.parquet"))
    other = read_stays(write_psv(columns, tmp_path / "psv"))
    assert one.patients == other.patients
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.fingerprints(), other.fingerprints())
    assert one.sha256() == other.sha256()


def test_rows_in_any_order_are_sorted(tmp_path: Path) -> None:
    """A shuffled file is the same table."""
    columns = made_stays(4)
    order = np.random.default_rng(1).permutation(len(columns["hour"]))
    shuffled = {name: column[order] for name, column in columns.items()}
    one = read_stays(write_parquet(columns, tmp_path / "a.parquet"))
    other = read_stays(write_parquet(shuffled, tmp_path / "b.parquet"))
    assert one.sha256() == other.sha256()
    assert list(one.hour[one.starts]) == [0, 0, 0, 0]


def test_a_missing_column_is_named_and_counts_as_never_measured(tmp_path: Path) -> None:
    """Another hospital need not measure everything."""
    columns = made_stays(3)
    del columns["Lactate"], columns["Unit1"]
    table = read_stays(write_parquet(columns, tmp_path / "a.parquet"))
    assert {"Lactate", "Unit1", "EtCO2"} <= set(table.absent)
    assert np.isnan(table.values[:, columns_of([Kind.LACTATE])]).all()


def test_values_come_in_canonical_units_or_not_at_all(tmp_path: Path) -> None:
    """Fractions of oxygen become per cent; what no living patient can show is missing."""
    columns = made_stays(2)
    columns["FiO2"][:4] = [0.5, 40.0, 4000.0, 0.0]
    columns["HR"][:2] = [9999.0, -1.0]
    table = read_stays(write_parquet(columns, tmp_path / "a.parquet"))
    fio2 = table.values[:4, columns_of([Kind.FIO2])[0]]
    np.testing.assert_array_equal(fio2, [50.0, 40.0, np.nan, np.nan])
    assert np.isnan(table.values[:2, columns_of([Kind.HR])[0]]).all()


def test_patients_are_taken_whole(tmp_path: Path) -> None:
    """A subset keeps every row of its patients and no other."""
    table = read_stays(write_parquet(made_stays(9), tmp_path / "a.parquet"))
    part = table.take(np.array([1, 7]))
    assert part.patients == (table.patients[1], table.patients[7])
    np.testing.assert_array_equal(part.fingerprints(), table.fingerprints()[[1, 7]])
    np.testing.assert_array_equal(part.septic, table.septic[[1, 7]])


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda columns: columns.pop("SepsisLabel"), "table-columns"),
        (lambda columns: columns.pop("patient"), "table-columns"),
        (lambda columns: [columns.pop(name) for name in COLUMNS if name in columns], "table-columns"),
        (lambda columns: columns.update(SepsisLabel=columns["SepsisLabel"] + 1), "table-values"),
        (lambda columns: columns.update(hour=columns["hour"] + 0.5), "table-values"),
        (lambda columns: columns.update(hour=columns["hour"] * 0), "table-repeats"),
        (lambda columns: columns.update(HR=np.full(len(columns["hour"]), "fast")), "table-unreadable"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, spoil: object, code: str) -> None:
    """Each with its own code."""
    columns = made_stays(3)
    spoil(columns)  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        read_stays(write_parquet(columns, tmp_path / "a.parquet"))
    assert caught.value.code == code


def test_no_file_garbage_and_an_empty_folder(tmp_path: Path) -> None:
    """The operator is told which."""
    with pytest.raises(ConfigError) as missing:
        read_stays(tmp_path / "none.parquet")
    assert missing.value.code == "data-missing"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "empty").mkdir()
    for name in ("bad.parquet", "empty"):
        with pytest.raises(InputError) as caught:
            read_stays(tmp_path / name)
        assert caught.value.code == "table-unreadable"
    (tmp_path / "empty" / "p1.psv").write_text("HR|SepsisLabel\nquick|0\n")
    with pytest.raises(InputError):
        read_stays(tmp_path / "empty")
