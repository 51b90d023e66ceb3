"""Stays of simulated patients as a table of CinC 2012's shape: what 'build hypotension' trains on without patients.

Courses whose pressure falls, courses whose pressure does not, and artefacts; figures from the half of the ranges that
``evaluate hypotension --simulated`` does not draw from. The file's own metadata say that its patients are made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError
from edgeward.testing.patients import Course, Patient, Plan
from edgeward.workshop.vitals_long import KIND_OF, SIMULATED_MARK

if TYPE_CHECKING:
    from pathlib import Path

COURSES = (Course.STABLE, Course.HYPOTENSION, Course.HAEMORRHAGE, Course.SEPSIS, Course.ARTEFACTS)
STAY_MIN = 480
_AGE_Y = 60.0


@dataclass(slots=True)
class _Columns:
    record: list[str] = field(default_factory=list)
    minute: list[int] = field(default_factory=list)
    parameter: list[str] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, record: str, minute: int, parameter: str, value: float) -> None:
        self.record.append(record)
        self.minute.append(minute)
        self.parameter.append(parameter)
        self.value.append(value)


def simulated_plan(seed: int, *, held_out: bool) -> Plan:
    """The plan of one patient whose course begins 1 to 4 h into the stay and is at its worst 1 to 2.5 h later."""
    random = Random(seed)
    return Plan(
        seed=seed,
        course=COURSES[seed % len(COURSES)],
        onset_s=random.uniform(1.0, 4.0) * 3600,
        ramp_s=random.uniform(1.0, 2.5) * 3600,
        held_out=held_out,
    )


def write_simulated(path: Path, patients: int, seed: int) -> int:
    """Write ``patients`` stays, a value of each vital sign a minute; returns the number of values.

    Raises ``ConfigError``: ``workshop-missing``, ``output-unwritable``.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "workshop-missing", "writing parquet needs pyarrow; pip install 'edgeward[workshop]'"
        ) from error
    names = {kind: name for name, kind in KIND_OF.items()}
    columns = _Columns()
    for number in range(seed, seed + patients):
        record = f"simulated-{number}"
        columns.add(record, 0, "Age", _AGE_Y)
        patient = Patient(simulated_plan(number, held_out=False))
        for minute in range(STAY_MIN):
            for kind, value in patient.at(60.0 * minute).items():
                if kind in names and value is not None:
                    columns.add(record, minute, names[kind], value)
    table = pa.table({name: getattr(columns, name) for name in _Columns.__slots__})
    try:
        parquet.write_table(table.replace_schema_metadata(dict(SIMULATED_MARK)), path)
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {path.name}: {error.strerror}") from error
    return len(columns.value)
