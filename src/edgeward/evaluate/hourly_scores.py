"""What wards go by today, on hourly tables: threshold alerts at default limits, NEWS2 and qSOFA, for all rows at once.

An hourly table is charted data: an item counts for ``CHARTED_FRESH_H`` hours after it was written down. Consciousness
is not in the challenge's tables, so NEWS2 and qSOFA are lower bounds here, as for any patient whose consciousness
nobody has charted.

Sources: Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017, chart 1 (SpO2 scale 1); Seymour CW et
al., JAMA 315:762-774, 2016 (qSOFA).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.numeric import Kind
from edgeward.workshop.stay_table import columns_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.workshop.stay_table import StayTable

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CHARTED_FRESH_H = 6
"""The longest interval that the report allows between observations at a NEWS2 of 1 to 4."""
LIMITS: Mapping[Kind, tuple[float, float]] = MappingProxyType(
    {
        Kind.HR: (50, 120),
        Kind.SPO2: (90, 101),
        Kind.RR: (8, 30),
        Kind.ABP_SYS: (90, 160),
        Kind.ABP_MEAN: (70, 110),
        Kind.TEMP: (36, 39),
    }
)
"""Default limits of adults: a value below the first or above the second gives a threshold alert."""

_BANDS: Mapping[Kind, tuple[tuple[float, ...], tuple[int, ...], float]] = MappingProxyType(
    {
        Kind.RR: ((8, 11, 20, 24), (3, 1, 0, 2, 3), 1.0),
        Kind.SPO2: ((91, 93, 95), (3, 2, 1, 0), 1.0),
        Kind.ABP_SYS: ((90, 100, 110, 219), (3, 2, 1, 0, 3), 1.0),
        Kind.HR: ((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3), 1.0),
        Kind.TEMP: ((35.0, 36.0, 38.0, 39.0), (3, 1, 0, 1, 2), 10.0),
    }
)
"""Upper edges of the bands, their points, and the factor at which a monitor shows the value in whole numbers."""
_AIR_PERCENT = 21.0
_OXYGEN_POINTS = 2


def carried(table: StayTable, kind: Kind, hours: float = CHARTED_FRESH_H) -> Array:
    """The newest value of ``kind`` in each row (N,), not older than ``hours``; NaN where there is none."""
    values = table.values[:, int(columns_of([kind])[0])].astype(np.float64)
    index = np.arange(len(values))
    latest = np.maximum.accumulate(np.where(np.isnan(values), -1, index))
    own = latest >= np.repeat(table.starts, table.ends - table.starts)
    age = table.hour - table.hour[np.maximum(latest, 0)]
    return np.where(own & (age <= hours), values[np.maximum(latest, 0)], np.nan)


def news2(table: StayTable) -> Array:
    """NEWS2 on SpO2 scale 1 of each row (N,), a lower bound where an item is missing; NaN where nothing is known."""
    total = np.zeros(len(table))
    known = np.zeros(len(table), dtype=np.bool_)
    for kind, (edges, points, factor) in _BANDS.items():
        values = carried(table, kind)
        there = ~np.isnan(values)
        shown = np.floor(values * factor + 0.5 + 1e-9) / factor
        band = np.searchsorted(np.array(edges, dtype=np.float64), np.where(there, shown, 0.0), side="left")
        total += np.where(there, np.array(points)[band], 0)
        known |= there
    oxygen = carried(table, Kind.FIO2)
    total += np.where(np.floor(np.nan_to_num(oxygen) + 0.5 + 1e-9) > _AIR_PERCENT, _OXYGEN_POINTS, 0)
    return np.where(known | ~np.isnan(oxygen), total, np.nan)


def qsofa(table: StayTable) -> Array:
    """The qSOFA without consciousness of each row (N,), 0 to 2."""
    fast = carried(table, Kind.RR) >= 22
    low = carried(table, Kind.ABP_SYS) <= 100
    return fast.astype(np.float64) + low


def threshold_alert(table: StayTable) -> Mask:
    """Rows (N,) in which a value of that very hour lies beyond a default limit."""
    beyond = np.zeros(len(table), dtype=np.bool_)
    for kind, (low, high) in LIMITS.items():
        values = table.values[:, int(columns_of([kind])[0])]
        beyond |= (values < low) | (values > high)
    return beyond
