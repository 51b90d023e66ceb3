"""What the hypotension models learn from: stretches of grid with what came after, and decision points with outcomes.

The forecaster learns at every step of a stretch, for each vital whatever was measured within the next hour; the event
is learned at every reading with nothing low in the hour before, however sparse the chart: the share of low readings 30
to 75 minutes later, denser charts weighing more. Figures are made on the task's own decision points alone
(``hypotension_points``). Everything is cut by the very ``Grid`` that runs at the bedside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import ConfigError
from edgeward.signal.hypotension import TASK, Definition
from edgeward.signal.numeric import Kind
from edgeward.signal.vitals_features import FEATURES
from edgeward.signal.vitals_grid import BELIEVED, CELL_MIN, CHANNELS, STEPS, VITALS, WINDOW_MIN, Grid
from edgeward.workshop.hypotension_points import decision_points, readings
from edgeward.workshop.vitals_long import NS_PER_MINUTE, Stay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORECAST = ("hr", "rr", "sys", "dia", "mean")
"""The vitals that are forecast, by their names in the grid."""
HORIZONS = 12
"""Cells ahead: 5 to 60 minutes."""
KIND_OF_VITAL: Mapping[str, tuple[Kind, ...]] = {
    "hr": (Kind.HR,),
    "rr": (Kind.RR,),
    "sys": (Kind.ABP_SYS, Kind.NIBP_SYS),
    "dia": (Kind.ABP_DIA, Kind.NIBP_DIA),
    "mean": (Kind.ABP_MEAN, Kind.NIBP_MEAN),
}
"""Where a vital's values come from, the preferred kind first."""
STRIDE_MIN = 240
"""Between the ends of stretches of one stay: each step is learned with at least an hour before it."""
PHASES = 2
_LOW_FROM, _LOW_UNTIL = 30, 75
_MIDDLING = Definition(gap=30, values=3)
_WEIGHTS = (1.0, 4.0, 8.0)
"""Of a reading in a sparse chart, in one with a value each half hour, and at a decision point of the task."""

IntArray = npt.NDArray[np.int64]
Half = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """N stretches of 60 steps. ``seen`` (N, 72, 5): standard units of each cell and the 12 after, NaN not measured.

    ``low`` (N, 60): share of low readings 30 to 75 min after the step's reading, NaN where not asked; ``weight``
    beside it; ``stay`` (N,) position of the stay.
    """

    grid: Half
    seen: Half
    low: Half
    weight: Half
    stay: IntArray

    def __len__(self) -> int:
        return len(self.stay)

    def take(self, index: npt.NDArray[Any]) -> Stretches:
        """The stretches at ``index``."""
        return Stretches(*(getattr(self, item.name)[index] for item in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Instants with the model's inputs.

    ``grid`` (P, 60, 16), ``features`` (P, F); ``stay`` (P,) position, ``minute`` (P,), ``pressure`` (P,) the last
    arterial mean, ``outcome`` and ``onset`` (P,) of the task (−9: no decision point of the task); ``low``, ``weight``
    (P,) as in ``Stretches``; ``after`` (P, 12, 5): standard units of the next cells, NaN not measured.
    """

    grid: npt.NDArray[np.floating]
    features: npt.NDArray[np.float32]
    stay: IntArray
    minute: IntArray
    pressure: npt.NDArray[np.float32]
    outcome: IntArray
    onset: IntArray
    low: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    after: Half

    def __len__(self) -> int:
        return len(self.stay)

    def take(self, index: npt.NDArray[Any]) -> Examples:
        """The instants at ``index``."""
        return Examples(*(getattr(self, item.name)[index] for item in fields(self)))

    def decisions(self) -> Examples:
        """The decision points of the task alone."""
        return self.take(self.outcome != NOT_ASKED)


NOT_ASKED = -9


def cells_of(stay: Stay, end: int, cells: int) -> npt.NDArray[np.float32]:
    """Means of 5-minute cells in standard units (cells, 5), NaN where nothing was measured.

    The first cell is the first of a window that ends with minute ``end``; arterial before cuff, cell by cell.
    """
    first = end - WINDOW_MIN + 1
    out = np.full((cells, len(FORECAST)), np.nan, dtype=np.float32)
    standard = {vital.name: vital for vital in VITALS}
    for column, name in enumerate(FORECAST):
        for kind in reversed(KIND_OF_VITAL[name]):
            minute, value = stay.series(kind)
            low, high = BELIEVED[kind]
            kept = (minute >= first) & (minute < first + cells * CELL_MIN) & (value >= low) & (value <= high)
            cell = (minute[kept] - first) // CELL_MIN
            count = np.bincount(cell, minlength=cells)
            mean = np.bincount(cell, value[kept], cells) / np.maximum(count, 1)
            there = count > 0
            out[there, column] = (mean[there] - standard[name].mean) / standard[name].spread
    return out


def asked_readings(stay: Stay, task: Definition = TASK) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Minutes (R,) of arterial means with nothing low in the hour before and a reading 30 to 75 min later.

    Beside them (R, 3): share of those later readings that are low, weight, and the mean itself.
    """
    minute, pressure = readings(*stay.series(Kind.ABP_MEAN), task)
    dense = set(decision_points(minute, pressure, task).minute.tolist())
    middling = set(decision_points(minute, pressure, _MIDDLING).minute.tolist())
    rows: list[tuple[float, ...]] = []
    for position, now in enumerate(minute.tolist()):
        past = pressure[(minute > now - task.clear - 1) & (minute <= now)]
        later = pressure[(minute >= now + _LOW_FROM) & (minute <= now + _LOW_UNTIL)]
        if len(later) and not (past < task.limit).any():
            weight = _WEIGHTS[2] if now in dense else _WEIGHTS[1] if now in middling else _WEIGHTS[0]
            rows.append((now, float((later < task.limit).mean()), weight, float(pressure[position])))
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return table[:, 0].astype(np.int64), table[:, 1:]


def stretches(stays: Sequence[Stay], *, seed: int = 0) -> Stretches:
    """Stretches of every stay: ``PHASES`` sets, each with its own offset."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {name: [] for name in ("grid", "seen", "low", "weight", "stay")}
    for position, stay in enumerate(stays):
        offsets = rng.integers(0, STRIDE_MIN, PHASES)
        if not len(stay):
            continue
        minute, table = asked_readings(stay)
        last = int(stay.minute[-1])
        ends = sorted(
            {int(o) + STRIDE_MIN * k for o in offsets for k in range(1, (last + STRIDE_MIN) // STRIDE_MIN + 1)}
        )
        for end, inputs in zip(ends, windows(stay, ends), strict=True):
            seen = cells_of(stay, end, STEPS + HORIZONS)
            if not np.isfinite(seen[:STEPS]).any() or not np.isfinite(seen[STEPS // 2 :]).any():
                continue
            low, weight = np.full(STEPS, np.nan, np.float16), np.zeros(STEPS, np.float16)
            inside = (minute > end - WINDOW_MIN) & (minute <= end)
            step = (minute[inside] - (end - WINDOW_MIN + 1)) // CELL_MIN
            low[step], weight[step] = table[inside, 0], table[inside, 1]
            rows["stay"].append(position)
            rows["grid"].append(inputs["grid"].astype(np.float16))
            rows["seen"].append(seen.astype(np.float16))
            rows["low"].append(low)
            rows["weight"].append(weight)
    if not rows["stay"]:
        raise ConfigError("data-missing", "no stay of the data holds vital signs to learn from")
    return Stretches(
        np.stack(rows["grid"]),
        np.stack(rows["seen"]),
        np.stack(rows["low"]),
        np.stack(rows["weight"]),
        np.array(rows["stay"], dtype=np.int64),
    )


def windows(stay: Stay, minutes: Sequence[int]) -> list[dict[str, npt.NDArray[np.float32]]]:
    """The model's inputs at ``minutes`` (ascending), as the bedside's own object gives them."""
    grid = Grid(stay.age_y)
    out = []
    numerics = stay.numerics()
    waiting = next(numerics, None)
    for minute in minutes:
        now = minute * NS_PER_MINUTE
        while waiting is not None and waiting.at_ns <= now:
            grid.update(waiting)
            waiting = next(numerics, None)
        out.append(grid.window(now))
    return out


def examples(stays: Sequence[Stay], task: Definition = TASK, *, learn: bool = True) -> Examples:
    """Decision points of the task and, with ``learn``, every reading that the event is learned at.

    Many readings are kept in half precision; decision points alone exactly as a bedside's grid gives them.
    """
    rows: dict[str, list[Any]] = {item.name: [] for item in fields(Examples)}
    for position, stay in enumerate(stays):
        minute, pressure = stay.series(Kind.ABP_MEAN)
        points = decision_points(minute, pressure, task)
        asked, table = asked_readings(stay, task) if learn else (np.zeros(0, np.int64), np.zeros((0, 3)))
        every = np.union1d(points.minute, asked)
        at_point, at_asked = np.searchsorted(every, points.minute), np.searchsorted(every, asked)
        outcome, onset = np.full(len(every), NOT_ASKED), np.full(len(every), -1)
        outcome[at_point], onset[at_point] = points.outcome, points.onset
        low, weight, last = (np.full(len(every), fill) for fill in (np.nan, 0.0, np.nan))
        low[at_asked], weight[at_asked], last[at_asked] = table.T
        last[at_point] = points.pressure
        inputs = windows(stay, every.tolist())
        rows["grid"] += [item["grid"].astype(np.float16) if learn else item["grid"] for item in inputs]
        rows["features"] += [item["features"] for item in inputs]
        rows["after"] += [cells_of(stay, now, STEPS + HORIZONS)[STEPS:].astype(np.float16) for now in every.tolist()]
        columns = {"minute": every, "outcome": outcome, "onset": onset, "low": low, "weight": weight, "pressure": last}
        for name, column in columns.items():
            rows[name] += column.tolist()
        rows["stay"] += [position] * len(every)
    count = len(rows["stay"])
    grids: npt.NDArray[np.floating] = np.array(rows["grid"], dtype=np.float16 if learn else np.float32)
    return Examples(
        grid=grids.reshape(count, STEPS, len(CHANNELS)),
        features=np.array(rows["features"], np.float32).reshape(count, len(FEATURES)),
        after=np.array(rows["after"], np.float16).reshape(count, HORIZONS, len(FORECAST)),
        stay=np.array(rows["stay"], np.int64),
        minute=np.array(rows["minute"], np.int64),
        outcome=np.array(rows["outcome"], np.int64),
        onset=np.array(rows["onset"], np.int64),
        pressure=np.array(rows["pressure"], np.float32),
        low=np.array(rows["low"], np.float32),
        weight=np.array(rows["weight"], np.float32),
    )


def fold_of(stays: Sequence[Stay], folds: int) -> IntArray:
    """The fold 1 … ``folds`` of each stay, by what it holds: the same whatever the order or the names."""
    return np.array([int(stay.fingerprint, 16) % folds + 1 for stay in stays], dtype=np.int64)


def save(path: Path, item: Stretches | Examples) -> None:
    """Keep in a cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part.npz")
    np.savez(part, **{field.name: getattr(item, field.name) for field in fields(item)})
    part.replace(path)


def load(path: Path, kind: type[Any]) -> Any:
    """What ``save`` kept."""
    with np.load(path, allow_pickle=False) as archive:
        return kind(**{field.name: archive[field.name] for field in fields(kind)})
