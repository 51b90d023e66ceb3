"""``edgeward simulate monitor``: whom it plays, and what it says of a source that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeward.cli.simulate import _patients, _stays
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three stays in the long shape of CinC 2012; the middle one has no vital sign."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow ABSENT: it comes with the extra workshop")
    from pyarrow import parquet

    rows = [
        (1, 0, "HR", 70.0), (1, 30, "HR", 75.0), (1, 30, "NISysABP", 120.0), (1, 90, "HR", 80.0),
        (2, 0, "Lactate", 2.0), (3, 5, "HR", 99.0), (3, 6, "HR", -1.0),
    ]  # fmt: skip
    names = ("record", "minute", "parameter", "value")
    path = tmp_path / "stays.parquet"
    parquet.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    return path


def test_a_recorded_stay_is_played_by_its_own_minutes(table: Path) -> None:
    """Each value once, when its time has come; a stay without a vital sign is nobody to play."""
    one, three = _stays(f"stays:{table}?unit=W")
    assert (one.place, one.identifier, three.identifier) == ("W^^1", "CINC1", "CINC3")
    assert one.player.at(0.0) == {Kind.HR: 70.0}
    assert one.player.at(1_799.0) == {}
    assert one.player.at(1_800.0) == {Kind.HR: 75.0, Kind.NIBP_SYS: 120.0}
    assert three.player.at(86_400.0) == {Kind.HR: 99.0}


def test_a_stay_may_begin_later_and_others_come_first(table: Path) -> None:
    """``first`` counts stays with vital signs; ``begin`` is a minute of the stay."""
    (bed,) = _stays(f"stays:{table}?first=1&beds=1&begin=7")
    assert (bed.place, bed.identifier, bed.begin_s) == ("ICU^^1", "CINC3", 420.0)


@pytest.mark.parametrize("query", ["beds=0", "beds=65", "first=2", "first=x", "seed=1", "begin=-1", "unit=A B"])
def test_a_wrong_option_is_told(table: Path, query: str) -> None:
    """By what to correct."""
    with pytest.raises(ConfigError, match="correct") as told:
        _stays(f"stays:{table}?{query}")
    assert told.value.code == "source-malformed"


def test_courses_are_played_in_turn() -> None:
    """As many beds as asked for."""
    beds = _patients("patients:stable,sepsis?beds=3&unit=B")
    assert [bed.place for bed in beds] == ["B^^1", "B^^2", "B^^3"]
    with pytest.raises(ConfigError, match="known: stable"):
        _patients("patients:boredom")
