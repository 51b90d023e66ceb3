"""A stay's vital signs as the hypotension model sees them: one code in training and at the bedside.

Everything is of time, never of how many values came: a cell of the grid is the mean of five minutes, a feature looks at
quarters of an hour. So a chart with a value each quarter and a monitor that speaks each second give like inputs. The
newest cell ends at the instant that is asked about, so that a score every 15 s moves with every value.

::

    grid      60 cells of 5 min, oldest first, × 16 channels
              of each vital: the value, carried forward within the window, in standard units; and how fresh it is,
              1 in a cell that holds a value, less by exp(−age/1 h) after it. Never measured is 0 and 0.
    features  of quarters of an hour over the last hour and the last five, and of the last day; NaN is not measured

Pressures are arterial where an arterial line gave one in the cell, else of the cuff; the channel ``arterial`` tells.
Memory is bounded (two ``History`` rings), an update costs the same however long the stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import BundleError, InputError
from edgeward.signal.history import History
from edgeward.signal.numeric import Kind
from edgeward.signal.vitals_features import DAY_QUARTERS, FEATURES, KEPT, PRESSURE, QUARTER_MIN, stay_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.signal.numeric import Numeric

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

NAME = "vitals-grid-1"
MINUTE_NS = 60 * 1_000_000_000
STEPS = 60
CELL_MIN = 5
WINDOW_MIN = STEPS * CELL_MIN
FRESH_MIN = 60.0
"""After an hour without a value, freshness is 1/e."""
CLIP = 5.0
"""Standard units beyond which a value says no more."""

_INDEX: Mapping[Kind, int] = MappingProxyType({kind: index for index, kind in enumerate(KEPT)})
BELIEVED: Mapping[Kind, tuple[float, float]] = MappingProxyType(
    {
        Kind.HR: (20.0, 300.0),
        Kind.RR: (1.0, 80.0),
        Kind.TEMP: (25.0, 44.0),
        Kind.ABP_SYS: (30.0, 300.0),
        Kind.ABP_DIA: (10.0, 200.0),
        Kind.ABP_MEAN: (20.0, 200.0),
        Kind.NIBP_SYS: (30.0, 300.0),
        Kind.NIBP_DIA: (10.0, 200.0),
        Kind.NIBP_MEAN: (20.0, 200.0),
    }
)
"""What is believed of a monitor, canonical units, both ends included: a flushed, open or clamped line and a lost probe
lie outside, and count as not measured."""


@dataclass(frozen=True, slots=True)
class Vital:
    """One vital of the grid: its name, the mean and spread that make standard units, canonical units."""

    name: str
    mean: float
    spread: float


VITALS = (
    Vital("hr", 87.0, 18.0),
    Vital("rr", 19.0, 5.5),
    Vital("temp", 37.0, 0.85),
    Vital("sys", 118.0, 23.0),
    Vital("dia", 59.0, 13.0),
    Vital("mean", 79.0, 15.0),
)
"""The vitals that the grid's first twelve channels hold, in standard units of CinC 2012, set a."""
_MEAN = 5
_CUFF = (8, Vital("cuff_mean", 76.0, 15.0))
CHANNELS = (
    *(name for vital in VITALS for name in (vital.name, f"{vital.name}_fresh")),
    "arterial",
    "age",
    "cuff_mean",
    "cuff_mean_fresh",
)
"""The grid's channels. ``age``: years / 100, 0 where not known."""


@dataclass(frozen=True, slots=True)
class VitalsGridSpec:
    """What the grid and the features are; travels in the manifest by name and figures.

    Raises ``BundleError`` (``grid-spec-unsupported``) for anything but what this version computes.
    """

    name: str = NAME
    cell_s: int = CELL_MIN * 60
    steps: int = STEPS
    channels: tuple[str, ...] = CHANNELS
    features: tuple[str, ...] = FEATURES
    standard: tuple[tuple[str, float, float], ...] = tuple((v.name, v.mean, v.spread) for v in VITALS)

    def __post_init__(self) -> None:
        known = (NAME, CELL_MIN * 60, STEPS, CHANNELS, FEATURES, tuple((v.name, v.mean, v.spread) for v in VITALS))
        if (self.name, self.cell_s, self.steps, self.channels, self.features, self.standard) != known:
            raise BundleError(
                "grid-spec-unsupported",
                "the bundle asks for another grid of vital signs than this version computes; build it with a matching "
                "version of Edgeward",
            )

    def to_params(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "name": self.name,
            "cell_s": self.cell_s,
            "steps": self.steps,
            "channels": list(self.channels),
            "features": list(self.features),
            "standard": [list(row) for row in self.standard],
        }

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> VitalsGridSpec:
        """Read what ``to_params`` wrote; ``BundleError`` (``grid-spec-malformed``) for anything else."""
        try:
            return cls(
                name=params["name"],
                cell_s=params["cell_s"],
                steps=params["steps"],
                channels=tuple(params["channels"]),
                features=tuple(params["features"]),
                standard=tuple((name, float(mean), float(spread)) for name, mean, spread in params["standard"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                "grid-spec-malformed", "the manifest does not say which grid of vital signs it wants; pack it again"
            ) from error


class Grid:
    """One stay's vital signs. ``age_y``: the patient's age in years, None where not known."""

    def __init__(self, age_y: float | None = None) -> None:
        self.age_y = age_y
        names = [kind.value for kind in KEPT]
        self._minutes = History(names, bucket_s=60, buckets=WINDOW_MIN)
        self._quarters = History(names, bucket_s=60 * QUARTER_MIN, buckets=DAY_QUARTERS)

    def update(self, numeric: Numeric) -> bool:
        """Take one numeric; its cost does not grow with the stay.

        False where it changes nothing: another kind, declared unmeasured (what was measured grows older), not to be
        believed, or older than everything that is kept.
        """
        index, value = _INDEX.get(numeric.kind), numeric.value
        if index is None or value is None:
            return False
        low, high = BELIEVED[numeric.kind]
        if not low <= value <= high:
            return False
        kept = self._minutes.put(0, index, value, numeric.at_ns)
        return self._quarters.put(0, index, value, numeric.at_ns) or kept

    def window(self, now_ns: int) -> dict[str, FloatArray]:
        """The model's inputs at ``now_ns``: ``grid`` (60, 16) and ``features`` (F,), float32. NaN in features only."""
        self._advance(now_ns)
        return {"grid": self._cells(), "features": stay_features(self._minutes, self._quarters, now_ns, self.age_y)}

    def pressure_minutes(self, now_ns: int, minutes: int) -> Array:
        """Mean arterial pressure of each of the last ``minutes`` minutes, newest first (minutes,); NaN: not measured.

        The newest is the running minute.
        """
        self._advance(now_ns)
        found: Array = self._minutes.mean(1, minutes)[0, PRESSURE]
        return found

    def newest(self, now_ns: int) -> dict[str, tuple[Kind, float]]:
        """Of each vital of ``VITALS``: the kind that gave its newest value, and that value's age in seconds.

        Infinite without a value; arterial before cuff where both are of one age.
        """
        age = dict(zip(KEPT, self._minutes.age_s(now_ns)[0].tolist(), strict=True))
        sources: dict[str, tuple[Kind, ...]] = {"hr": (Kind.HR,), "rr": (Kind.RR,), "temp": (Kind.TEMP,)}
        sources |= {name: (Kind(f"abp_{name}"), Kind(f"nibp_{name}")) for name in ("sys", "dia", "mean")}
        return {
            name: min(((kind, age[kind]) for kind in kinds), key=lambda row: row[1]) for name, kinds in sources.items()
        }

    def to_memory(self) -> dict[str, Any]:
        """Everything kept, as plain JSON values."""
        return {
            "grid": NAME,
            "age_y": self.age_y,
            "minutes": self._minutes.to_memory(),
            "quarters": self._quarters.to_memory(),
        }

    @classmethod
    def from_memory(cls, memory: Mapping[str, Any]) -> Grid:
        """What ``to_memory`` gave; ``InputError`` (``history-memory``) for anything else, of another version too."""
        try:
            age, name = memory["age_y"], memory["grid"]
            made = cls(None if age is None else float(age))
            minutes, quarters = (History.from_memory(memory[key]) for key in ("minutes", "quarters"))
        except (KeyError, TypeError, ValueError) as error:
            raise _memory_refused() from error
        alike = [
            (old.channels, old.bucket_ns, old.buckets) == (new.channels, new.bucket_ns, new.buckets)
            for old, new in ((made._minutes, minutes), (made._quarters, quarters))
        ]
        if name != NAME or not all(alike):
            raise _memory_refused()
        made._minutes, made._quarters = minutes, quarters
        return made

    # --- inside

    def _advance(self, now_ns: int) -> None:
        self._minutes.advance(now_ns)
        self._quarters.advance(now_ns)

    def _cells(self) -> FloatArray:
        cells = self._minutes.mean(CELL_MIN, STEPS)[0, :, ::-1]  # (kinds, steps), oldest first
        arterial = ~np.isnan(cells[3:6])
        pressures = np.where(arterial, cells[3:6], cells[6:9])
        values = np.concatenate([cells[:3], pressures, cells[_CUFF[0]][np.newaxis]])
        carried, fresh = _carried(values)
        grid = np.zeros((STEPS, len(CHANNELS)), np.float32)
        for index, vital in enumerate(VITALS):
            grid[:, 2 * index] = _standard(carried[index], vital)
            grid[:, 2 * index + 1] = fresh[index]
        told = np.where(np.isnan(values[_MEAN]), np.nan, arterial[2].astype(np.float64))
        grid[:, 12] = np.nan_to_num(_carried(told[np.newaxis])[0][0])
        grid[:, 13] = 0.0 if self.age_y is None else self.age_y / 100.0
        grid[:, 14] = _standard(carried[6], _CUFF[1])
        grid[:, 15] = fresh[6]
        return grid


def _carried(values: Array) -> tuple[Array, Array]:
    """Values (n, steps) carried forward, NaN before the first; and how fresh each is, 0 before the first."""
    steps = np.arange(values.shape[1])
    there = np.where(np.isnan(values), -1, steps)
    source = np.maximum.accumulate(there, axis=1)
    carried = np.take_along_axis(values, np.maximum(source, 0), axis=1)
    fresh = np.where(source < 0, 0.0, np.exp(-(steps - source) * CELL_MIN / FRESH_MIN))
    return np.where(source < 0, np.nan, carried), fresh


def _standard(values: Array, vital: Vital) -> Array:
    return np.clip(np.nan_to_num((values - vital.mean) / vital.spread), -CLIP, CLIP)


def _memory_refused() -> InputError:
    return InputError("history-memory", "the kept state of a stay cannot be read; its history begins anew")
