"""Replays hourly tables through the bedside's features: each row is what a bed would have known at that hour.

Thousands of stays run in lock-step on one clock that starts at their first rows, so that a table of twenty thousand
stays takes a minute. Stays of like length run together.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.history import NS_PER_S
from edgeward.signal.stay_channels import CHANNEL_OF
from edgeward.signal.stay_features import StayFeatures
from edgeward.workshop.stay_table import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeward.workshop.stay_table import StayTable

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

CHUNK = 1024
"""Stays in lock-step: enough that Python's share is small, few enough that the state stays in the cache."""
HOUR_NS = 3600 * NS_PER_S
HOURS_BEFORE_MAX = 500.0
_KNOWN = [(index, CHANNEL_OF[kind]) for index, kind in enumerate(COLUMNS.values()) if kind in CHANNEL_OF]
_COLUMN = np.array([column for column, _ in _KNOWN])
_CHANNEL = np.array([channel for _, channel in _KNOWN])


def replay(table: StayTable, names: Sequence[str], *, workers: int = 1) -> FloatArray:
    """The features ``names`` of each row of ``table`` (N, F), NaN where not known.

    ``workers``: processes to share the work; the result does not depend on them.
    """
    order = np.argsort(table.ends - table.starts, kind="stable")
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    parts = [table.take(chunk) for chunk in chunks]
    if workers > 1 and len(chunks) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(_replay_chunk, parts, [tuple(names)] * len(parts)))
    else:
        found = [_replay_chunk(part, tuple(names)) for part in parts]
    out = np.empty((len(table), len(names)), dtype=np.float32)
    patient = table.patient_of_row
    for chunk, rows in zip(chunks, found, strict=True):
        out[np.isin(patient, chunk)] = rows
    return out


def _replay_chunk(table: StayTable, names: Sequence[str]) -> FloatArray:
    """Lock-step over the hours of a few stays; rows in the table's order."""
    stays = len(table.starts)
    features = StayFeatures(names, stays=stays)
    features.begin(*facts(table))
    values = table.values[:, _COLUMN].astype(np.float64)
    out = np.full((len(table), len(names)), np.nan, dtype=np.float32)
    row = table.starts.copy()
    for hour in range(int(table.hour.max()) + 1):
        now_ns = hour * HOUR_NS
        here = (row < table.ends) & (table.hour[np.minimum(row, len(table) - 1)] == hour)
        if not here.any():
            continue
        which = np.flatnonzero(here)
        known = values[row[which]]
        stay, channel = np.nonzero(~np.isnan(known))
        if len(stay):
            features.observe(which[stay], _CHANNEL[channel], known[stay, channel], now_ns)
        out[row[which]] = features.vector(now_ns)[which]
        row[which] += 1
    return out


def facts(table: StayTable) -> tuple[npt.NDArray[np.int64], Array, Array, Array]:
    """What ``StayFeatures.begin`` takes, of each stay (P,): when it began on the clock of its rows, age, sex, hours.

    ``ICULOS`` counts the hours in intensive care from 1 on; a table that starts later than its stay says so there.
    ``HospAdmTime`` counts from the beginning of intensive care back to that of the hospital stay, below nought.
    """
    first = {name: column[table.starts].astype(np.float64) for name, column in table.facts.items()}
    before = np.where(np.isnan(first["ICULOS"]), 0.0, np.maximum(first["ICULOS"] - 1.0, 0.0))
    in_hospital = np.clip(-first["HospAdmTime"], 0.0, HOURS_BEFORE_MAX)
    return -(before * HOUR_NS).astype(np.int64), first["Age"], first["Gender"], in_hospital
