"""Simulated stays as a table: of the shape that the workshop reads, marked, and never of the held-out half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("pyarrow", reason="WORKSHOP EXTRA ABSENT: pyarrow")

from edgeward.cli.main import main
from edgeward.signal.numeric import Kind
from edgeward.testing.vitals_table import STAY_MIN, simulated_plan, write_simulated
from edgeward.workshop.vitals_long import is_simulated, read_long

if TYPE_CHECKING:
    from pathlib import Path


def test_the_table_is_read_as_stays_with_a_pressure_each_minute(tmp_path: Path) -> None:
    path = tmp_path / "simulated.parquet"
    write_simulated(path, patients=3, seed=1)
    stays = read_long([path])
    assert [stay.record for stay in stays] == ["simulated-1", "simulated-2", "simulated-3"]
    minutes, pressures = stays[0].series(Kind.ABP_MEAN)
    assert minutes.tolist() == list(range(STAY_MIN))
    assert pressures[-30:].mean() < 70 < pressures[:30].mean(), "the second course is one whose pressure falls"
    assert is_simulated(path)


def test_other_files_are_not_taken_for_simulated_ones(tmp_path: Path) -> None:
    (tmp_path / "other.parquet").write_bytes(b"no parquet")
    assert not is_simulated(tmp_path / "other.parquet")
    assert not is_simulated(tmp_path / "absent.parquet")


def test_training_patients_are_not_of_the_half_that_is_held_out() -> None:
    assert not simulated_plan(3, held_out=False).held_out


def test_the_verb_says_what_it_wrote_and_refuses_what_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.parquet"
    assert main(["simulate", "stays", "--patients", "1", "--out", str(out)]) == 0
    assert "1 simulated stays of 8 h" in capsys.readouterr().out
    assert main(["simulate", "stays", "--patients", "0", "--out", str(out)]) == 2
    assert main(["simulate", "stays", "--patients", "1", "--out", str(tmp_path / "no" / "s.parquet")]) == 2
    assert "cannot write s.parquet" in capsys.readouterr().err
