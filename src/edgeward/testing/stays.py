"""Made-up hourly stays of the challenge's shape, for tests: no patient's values, a pattern that a model can find.

A made-up patient has a level of each vital sign and laboratory value and wanders around it; one who becomes septic
drifts (heart rate, respiration, temperature and lactate up, pressure down) over the last twelve hours before the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

Columns = dict[str, npt.NDArray[np.generic]]

_LEVELS = {
    "HR": (84.0, 12.0), "O2Sat": (97.0, 1.5), "Temp": (36.9, 0.4), "SBP": (122.0, 14.0), "MAP": (82.0, 9.0),
    "DBP": (62.0, 8.0), "Resp": (18.0, 3.0), "Lactate": (1.4, 0.4), "Creatinine": (1.0, 0.3), "BUN": (18.0, 6.0),
    "WBC": (10.0, 2.5), "Platelets": (210.0, 60.0), "Glucose": (130.0, 30.0), "Potassium": (4.1, 0.4),
    "Hct": (32.0, 4.0), "FiO2": (0.4, 0.08),
}  # fmt: skip
_DRIFTS = {"HR": 30.0, "Resp": 9.0, "Temp": 1.4, "SBP": -28.0, "MAP": -18.0, "Lactate": 2.5, "WBC": 7.0}
_LABS = ("Lactate", "Creatinine", "BUN", "WBC", "Platelets", "Glucose", "Potassium", "Hct", "FiO2")
_DRIFT_H = 12


def made_stays(
    patients: int, *, seed: int = 0, septic_share: float = 0.3, hours: tuple[int, int] = (12, 40)
) -> Columns:
    """Columns of a table: the challenge's names, ``patient`` and ``hour``; rows sorted."""
    rng = np.random.default_rng(seed)
    parts: list[Columns] = []
    for number in range(patients):
        length = int(rng.integers(*hours))
        septic = rng.random() < septic_share
        drift = np.clip((np.arange(length) - (length - _DRIFT_H)) / _DRIFT_H, 0.0, 1.0) if septic else np.zeros(length)
        part: Columns = {
            "patient": np.full(length, f"s{seed}-{number:05d}"),
            "hour": np.arange(length),
            "Age": np.full(length, float(rng.integers(20, 90))),
            "Gender": np.full(length, float(rng.integers(2))),
            "Unit1": np.full(length, np.nan),
            "Unit2": np.full(length, np.nan),
            "HospAdmTime": np.full(length, -float(rng.integers(0, 50))),
            "ICULOS": np.arange(1.0, length + 1.0),
            "SepsisLabel": ((np.arange(length) >= length - 9) & septic).astype(np.int8),
        }
        for name, (level, spread) in _LEVELS.items():
            own = level + spread * rng.standard_normal()
            values = own + 0.4 * spread * rng.standard_normal(length) + _DRIFTS.get(name, 0.0) * drift
            kept = 0.15 if name in _LABS else 0.85
            part[name] = np.where(rng.random(length) < kept, np.maximum(values, 0.05), np.nan)
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_parquet(columns: Columns, path: Path) -> Path:
    """The columns as one parquet file (needs pyarrow)."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({name: pa.array(column) for name, column in columns.items()}), path)
    return path


def write_psv(columns: Columns, folder: Path) -> Path:
    """The columns as the challenge's own files, one per patient."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in columns if name not in {"patient", "hour"}]
    for patient in np.unique(columns["patient"]):
        rows = np.flatnonzero(columns["patient"] == patient)
        lines = ["|".join(names)]
        lines += ["|".join("NaN" if np.isnan(v := float(columns[n][row])) else repr(v) for n in names) for row in rows]
        (folder / f"{patient}.psv").write_text("\n".join(lines) + "\n")
    return folder
