"""What wards go by, on hourly tables: NEWS2's chart cell by cell, qSOFA, limits, and values that grow too old."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pip install 'edgeward[workshop]'")

from edgeward.evaluate.hourly_scores import carried, news2, qsofa, threshold_alert
from edgeward.signal.numeric import Kind
from edgeward.testing.stays import made_stays, write_parquet
from edgeward.workshop.stay_table import StayTable, read_stays

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.workshop
NORMAL = {"Resp": 16.0, "O2Sat": 97.0, "SBP": 120.0, "HR": 70.0, "Temp": 37.0}


def table_of(tmp_path: Path, **columns: list[float]) -> StayTable:
    length = len(next(iter(columns.values())))
    whole = {"patient": np.full(length, "a"), "hour": np.arange(length), "SepsisLabel": np.zeros(length)}
    return read_stays(write_parquet(whole | {k: np.array(v) for k, v in columns.items()}, tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("column", "values", "points"),
    [
        ("Resp", [8, 9, 11, 12, 20, 21, 24, 25], [3, 1, 1, 0, 0, 2, 2, 3]),
        ("O2Sat", [91, 92, 93, 94, 95, 96], [3, 2, 2, 1, 1, 0]),
        ("SBP", [90, 91, 100, 101, 110, 111, 219, 220], [3, 2, 2, 1, 1, 0, 0, 3]),
        ("HR", [40, 41, 50, 51, 90, 91, 110, 111, 130, 131], [3, 1, 1, 0, 0, 1, 1, 2, 2, 3]),
        ("Temp", [35.0, 35.1, 36.0, 36.1, 38.0, 38.1, 39.0, 39.1], [3, 1, 1, 0, 0, 1, 1, 2]),
        ("FiO2", [0.21, 0.4], [0, 2]),
    ],
)
def test_every_cell_of_the_chart(tmp_path: Path, column: str, values: list[float], points: list[int]) -> None:
    """One item moves at a time, the others stand at nought points."""
    rest = {name: [value] * len(values) for name, value in NORMAL.items() if name != column}
    table = table_of(tmp_path, **rest, **{column: [float(value) for value in values]})
    assert news2(table).tolist() == points


def test_values_are_carried_six_hours_and_never_across_patients(tmp_path: Path) -> None:
    """What was charted too long ago is not known."""
    columns = made_stays(2, hours=(12, 13))
    columns["HR"][:] = np.nan
    columns["HR"][0] = 140.0
    table = read_stays(write_parquet(columns, tmp_path / "t.parquet"))
    heart = carried(table, Kind.HR)
    assert (heart[:7] == 140.0).all()
    assert np.isnan(heart[7:]).all()


def test_nothing_known_is_no_score(tmp_path: Path) -> None:
    """A row without any item has no NEWS2, which is not a NEWS2 of nought."""
    table = table_of(tmp_path, HR=[np.nan, 70.0])
    assert np.isnan(news2(table)[0])
    assert news2(table)[1] == 0


def test_qsofa_and_limits(tmp_path: Path) -> None:
    """Two items of three can be known; a limit is broken by a value of that hour only."""
    table = table_of(tmp_path, Resp=[22, 10, 10], SBP=[100, 101, np.nan], HR=[60, 60, 121])
    assert qsofa(table).tolist() == [2, 0, 0]
    assert threshold_alert(table).tolist() == [False, False, True]


def test_the_chart_is_that_of_the_bedside() -> None:
    """One score of one patient is the same on a page and in an evaluation."""
    bedside = pytest.importorskip("edgeward.signal.news2", reason="the bedside's NEWS2 is not in this tree")
    rng = np.random.default_rng(0)
    rows = 400
    values = {
        "Resp": rng.uniform(4, 34, rows), "O2Sat": rng.uniform(86, 100, rows), "SBP": rng.uniform(80, 230, rows),
        "HR": rng.uniform(35, 140, rows), "Temp": rng.uniform(34.5, 40, rows), "FiO2": rng.uniform(21, 60, rows),
    }  # fmt: skip
    stays = StayTable(
        ("a",), np.array([0]), np.arange(rows), np.full((rows, 34), np.nan, np.float32), {}, np.zeros(rows, np.int8), ()
    )
    from edgeward.workshop.stay_table import COLUMNS

    for name, column in values.items():
        stays.values[:, list(COLUMNS).index(name)] = column
    found = news2(stays)
    for row in range(rows):
        at = {name: float(stays.values[row, list(COLUMNS).index(name)]) for name in values}
        seen = bedside.Observations(
            respiration=at["Resp"], spo2=at["O2Sat"], oxygen=bedside.oxygen_given(at["FiO2"], None),
            systolic=at["SBP"], pulse=at["HR"], temperature=at["Temp"],
        )  # fmt: skip
        assert bedside.score(seen).score == found[row]
