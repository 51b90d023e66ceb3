"""Hourly tables of stays, as the PhysioNet/CinC Challenge 2019 gives them: one parquet file, or a folder of ``.psv``.

A parquet file has the challenge's columns and ``patient``; ``hour`` where it is there orders the rows, else ``ICULOS``
does. A folder holds the challenge's own files, one per patient, fields apart by "|". A column that is absent counts as
never measured and is named in ``StayTable.absent``. A value that no living patient can show becomes a missing one, as
at the bedside. Fractions of inspired oxygen become per cent.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import ConfigError, InputError
from edgeward.signal.numeric import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

COLUMNS: Mapping[str, Kind] = MappingProxyType(
    {
        "HR": Kind.HR, "O2Sat": Kind.SPO2, "Temp": Kind.TEMP, "SBP": Kind.ABP_SYS, "MAP": Kind.ABP_MEAN,
        "DBP": Kind.ABP_DIA, "Resp": Kind.RR, "EtCO2": Kind.ETCO2, "BaseExcess": Kind.BASE_EXCESS, "HCO3": Kind.HCO3,
        "FiO2": Kind.FIO2, "pH": Kind.PH, "PaCO2": Kind.PACO2, "SaO2": Kind.SAO2, "AST": Kind.AST, "BUN": Kind.BUN,
        "Alkalinephos": Kind.ALP, "Calcium": Kind.CALCIUM, "Chloride": Kind.CHLORIDE, "Creatinine": Kind.CREATININE,
        "Bilirubin_direct": Kind.BILIRUBIN_DIRECT, "Glucose": Kind.GLUCOSE, "Lactate": Kind.LACTATE,
        "Magnesium": Kind.MAGNESIUM, "Phosphate": Kind.PHOSPHATE, "Potassium": Kind.POTASSIUM,
        "Bilirubin_total": Kind.BILIRUBIN, "TroponinI": Kind.TROPONIN_I, "Hct": Kind.HCT, "Hgb": Kind.HGB,
        "PTT": Kind.PTT, "WBC": Kind.WBC, "Fibrinogen": Kind.FIBRINOGEN, "Platelets": Kind.PLATELETS,
    }
)  # fmt: skip
"""The challenge's columns of measurements and the kinds they hold, in the units of ``signal.numeric``.

The challenge does not say how a pressure was measured; here it counts as arterial, which the features treat as any."""
FACTS = ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime", "ICULOS")
"""Columns of facts about a patient or stay; ``Gender`` is 0 for women and 1 for men."""
LABEL = "SepsisLabel"
HOURS_MAX = 24 * 366
ROWS_MAX = 50_000_000
PATIENTS_FILES_MAX = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class StayTable:
    """Rows (N) sorted by patient and hour.

    ``patients`` (P,) ids; ``starts`` (P,) first row of each; ``hour`` (N,) whole hours, growing within a patient;
    ``values`` (N, kinds) in the order of ``COLUMNS``, NaN where not measured; ``facts``: each of ``FACTS`` (N,);
    ``labels`` (N,) 0 or 1; ``absent``: names of columns that the file lacks.
    """

    patients: tuple[str, ...]
    starts: IntArray
    hour: IntArray
    values: FloatArray
    facts: Mapping[str, FloatArray]
    labels: npt.NDArray[np.int8]
    absent: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.hour)

    @property
    def ends(self) -> IntArray:
        """One past the last row of each patient (P,)."""
        return np.append(self.starts[1:], len(self.hour))

    @property
    def patient_of_row(self) -> IntArray:
        """Index of each row's patient (N,)."""
        return np.repeat(np.arange(len(self.starts)), self.ends - self.starts)

    @property
    def septic(self) -> npt.NDArray[np.bool_]:
        """Patients (P,) with any row labelled 1."""
        return np.maximum.reduceat(self.labels, self.starts) > 0

    def take(self, chosen: npt.NDArray[np.bool_] | IntArray) -> StayTable:
        """The patients at ``chosen`` (mask or positions), in the table's order."""
        mask = np.zeros(len(self.starts), dtype=np.bool_)
        mask[chosen] = True
        rows = mask[self.patient_of_row]
        counts = (self.ends - self.starts)[mask]
        return StayTable(
            tuple(name for name, kept in zip(self.patients, mask, strict=True) if kept),
            np.cumsum(np.append(0, counts))[:-1].astype(np.int64),
            self.hour[rows],
            self.values[rows],
            {name: column[rows] for name, column in self.facts.items()},
            self.labels[rows],
            self.absent,
        )

    def fingerprints(self) -> npt.NDArray[np.uint64]:
        """64 bits of the SHA-256 of each patient's measurements (P,): the same stay under any name and in any file."""
        rounded = np.ascontiguousarray(np.where(np.isnan(self.values), np.float32(-9e9), self.values), dtype="<f4")
        found = [
            int.from_bytes(hashlib.sha256(rounded[start:end].tobytes()).digest()[:8], "little")
            for start, end in zip(self.starts, self.ends, strict=True)
        ]
        return np.array(found, dtype=np.uint64)

    def sha256(self) -> str:
        """Hash of everything that training sees."""
        digest = hashlib.sha256()
        for array in (self.starts, self.hour, self.values, self.labels, *(self.facts[name] for name in FACTS)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def read_stays(path: Path) -> StayTable:
    """Read a parquet file or a folder of ``.psv`` files.

    Raises ``ConfigError`` (``data-missing``, ``workshop-missing``) and ``InputError``: ``table-unreadable``,
    ``table-columns`` (no patient, no label, no measurement), ``table-values`` (labels other than 0 and 1, hours that
    are no hours), ``table-repeats`` (an hour stands twice).
    """
    if path.is_dir():
        return _table(*_read_folder(path), path.name)
    if not path.is_file():
        raise ConfigError("data-missing", f"there is no table {path.name}; name a parquet file or a folder of .psv")
    return _table(*_read_parquet(path), path.name)


def _read_parquet(path: Path) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.float64]]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "workshop-missing", "reading parquet needs pyarrow; pip install 'edgeward[workshop]'"
        ) from error
    wanted = {"patient", "hour", LABEL, *COLUMNS, *FACTS}
    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > ROWS_MAX:
            raise InputError("table-unreadable", f"{path.name} has more than {ROWS_MAX} rows; give fewer at a time")
        names = [name for name in file.schema_arrow.names if name in wanted]
        table = file.read(columns=names)
        columns = {name: table.column(name) for name in names}
        patient = columns.pop("patient", None)
        numbers = {
            name: np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
            for name, column in columns.items()
        }
        ids = None if patient is None else np.asarray(patient.cast(pa.string()).to_numpy(zero_copy_only=False))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise InputError(
            "table-unreadable", f"{path.name} is no parquet file of numbers ({type(error).__name__}); name another"
        ) from error
    if ids is None or any(name is None for name in ids):
        raise InputError("table-columns", f"{path.name} needs a column 'patient' without gaps, one id per stay")
    return ids.astype(np.str_), numbers


def _read_folder(folder: Path) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.float64]]]:
    files = sorted(folder.glob("*.psv"))
    if not 0 < len(files) <= PATIENTS_FILES_MAX:
        raise InputError(
            "table-unreadable", f"the folder {folder.name} holds {len(files)} .psv files, not 1 to {PATIENTS_FILES_MAX}"
        )
    names = [*COLUMNS, *FACTS, LABEL]
    ids: list[str] = []
    parts: list[npt.NDArray[np.float64]] = []
    present: set[str] = set()
    for file in files:
        try:
            with file.open(newline="") as stream:
                reader = csv.DictReader(stream, delimiter="|")
                present |= set(reader.fieldnames or ())
                rows = [[_number(row.get(name)) for name in names] for row in reader]
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(
                "table-unreadable", f"{file.name} is no table of numbers apart by '|' ({type(error).__name__})"
            ) from error
        ids += [file.stem] * len(rows)
        parts.append(np.array(rows, dtype=np.float64).reshape(-1, len(names)))
    whole = np.concatenate(parts)
    return np.array(ids, dtype=np.str_), {name: whole[:, i] for i, name in enumerate(names) if name in present}


def _number(text: str | None) -> float:
    return float("nan") if text is None or text.strip() in {"", "NaN", "nan"} else float(text)


def _table(ids: npt.NDArray[Any], numbers: Mapping[str, npt.NDArray[np.float64]], name: str) -> StayTable:
    absent = tuple(column for column in (*COLUMNS, *FACTS, LABEL) if column not in numbers)
    if LABEL in absent or all(column in absent for column in COLUMNS):
        raise InputError(
            "table-columns", f"{name} needs {LABEL} and measurements named as in the CinC 2019 challenge (HR, SBP …)"
        )
    if not len(ids):
        raise InputError("table-columns", f"{name} holds no row")
    labels = numbers[LABEL]
    if not np.isin(labels, (0.0, 1.0)).all():
        raise InputError("table-values", f"{LABEL} in {name} must be 0 or 1 in every row")
    patients, code = np.unique(ids, return_inverse=True)
    hour = _hours(numbers, code, name)
    order = np.lexsort((hour, code))
    code, hour = code[order], hour[order]
    if ((code[1:] == code[:-1]) & (hour[1:] == hour[:-1])).any():
        raise InputError("table-repeats", f"an hour of one patient stands twice in {name}; keep one row of each hour")
    starts = np.flatnonzero(np.append(True, code[1:] != code[:-1])).astype(np.int64)
    hour = hour - np.repeat(hour[starts], np.diff(np.append(starts, len(hour))))
    none = np.full(len(ids), np.nan)
    return StayTable(
        tuple(str(patient) for patient in patients),
        starts,
        hour,
        _measured({column: numbers.get(column, none)[order] for column in COLUMNS}),
        {fact: numbers.get(fact, none)[order].astype(np.float32) for fact in FACTS},
        labels[order].astype(np.int8),
        absent,
    )


def _hours(numbers: Mapping[str, npt.NDArray[np.float64]], code: npt.NDArray[np.intp], name: str) -> IntArray:
    """The hour of each row: ``hour``, else ``ICULOS``, else the order in the file."""
    given = numbers.get("hour", numbers.get("ICULOS"))
    if given is None:
        order = np.argsort(code, kind="stable")
        count = np.arange(len(code)) - np.repeat(np.searchsorted(code[order], np.unique(code)), np.bincount(code))
        hours = np.empty(len(code))
        hours[order] = count
        given = hours
    if not (np.isfinite(given) & (np.abs(given) <= HOURS_MAX) & (given == np.round(given))).all():
        raise InputError("table-values", f"hours in {name} must be whole and within a year")
    return given.astype(np.int64)


def _measured(columns: Mapping[str, npt.NDArray[np.float64]]) -> FloatArray:
    """Values in canonical units (N, kinds); what no living patient can show is missing."""
    out = np.empty((len(next(iter(columns.values()))), len(COLUMNS)), dtype=np.float32)
    for index, (column, kind) in enumerate(COLUMNS.items()):
        values = columns[column].copy()
        if kind is Kind.FIO2:  # a fraction in the challenge; some hospitals' rows hold per cent
            values = np.where(values <= 1.0, 100.0 * values, values)
        info = KINDS[kind]
        values[~((values >= info.low) & (values <= info.high))] = np.nan
        out[:, index] = values
    return out


def columns_of(kinds: Sequence[Kind]) -> IntArray:
    """Positions of ``kinds`` among the columns of ``StayTable.values``."""
    known = list(COLUMNS.values())
    return np.array([known.index(kind) for kind in kinds], dtype=np.int64)
