"""What the features of a stay are made of: channels, the kinds that fill each, and how long a value stands.

A channel is one quantity of a patient, whoever measured it. An arterial line and a cuff fill the same channel; the cuff
counts only while the line has been silent for ``LINE_SILENT_S``. Values outside a channel's range are artefacts to a
feature even where a living patient can show them for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeward.signal.numeric import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_SILENT_S = 15 * 60
"""A cuff is measured every quarter of an hour or less often: by then a silent line is off, not between two values."""


@dataclass(frozen=True, slots=True)
class Channel:
    """``kinds``: who fills it, the preferred one first; ``low`` to ``high``: what counts, both included.

    ``stands_s``: how long its last value is taken for the present one; ``fresh_s``: from when on it is called stale.
    """

    name: str
    kinds: tuple[Kind, ...]
    low: float
    high: float
    stands_s: float
    fresh_s: float

    @property
    def label(self) -> str:
        """For people."""
        return _LABELS.get(self.name, KINDS[self.kinds[0]].label)

    @property
    def unit(self) -> str:
        """UCUM code."""
        return KINDS[self.kinds[0]].unit


_H = 3600.0
_VITAL_S = 12 * _H
_MONITORED_S = 1 * _H
_LAB_S = 72 * _H
_LABELS = {"sys": "Systolic pressure", "map": "Mean pressure", "dia": "Diastolic pressure"}

VITALS: tuple[Channel, ...] = (
    Channel("hr", (Kind.HR, Kind.PULSE), 15, 250, _VITAL_S, _MONITORED_S),
    Channel("spo2", (Kind.SPO2,), 30, 100, _VITAL_S, _MONITORED_S),
    Channel("temp", (Kind.TEMP,), 30, 43, _VITAL_S, 6 * _H),
    Channel("sys", (Kind.ABP_SYS, Kind.NIBP_SYS), 25, 300, _VITAL_S, _MONITORED_S),
    Channel("map", (Kind.ABP_MEAN, Kind.NIBP_MEAN), 15, 250, _VITAL_S, _MONITORED_S),
    Channel("dia", (Kind.ABP_DIA, Kind.NIBP_DIA), 10, 200, _VITAL_S, _MONITORED_S),
    Channel("rr", (Kind.RR,), 2, 80, _VITAL_S, _MONITORED_S),
)
_LAB_KINDS = (
    Kind.FIO2, Kind.BASE_EXCESS, Kind.HCO3, Kind.PH, Kind.PACO2, Kind.SAO2, Kind.AST, Kind.BUN, Kind.ALP, Kind.CALCIUM,
    Kind.CHLORIDE, Kind.CREATININE, Kind.BILIRUBIN_DIRECT, Kind.GLUCOSE, Kind.LACTATE, Kind.MAGNESIUM, Kind.PHOSPHATE,
    Kind.POTASSIUM, Kind.BILIRUBIN, Kind.TROPONIN_I, Kind.HCT, Kind.HGB, Kind.PTT, Kind.WBC, Kind.FIBRINOGEN,
    Kind.PLATELETS,
)  # fmt: skip
LABS: tuple[Channel, ...] = tuple(
    Channel(kind.value, (kind,), KINDS[kind].low, KINDS[kind].high, _LAB_S, 24 * _H) for kind in _LAB_KINDS
)
"""What comes a few times a day: laboratory values and inspired oxygen."""

CHANNELS: tuple[Channel, ...] = (*VITALS, *LABS)
CHANNEL_OF: Mapping[Kind, int] = MappingProxyType(
    {kind: index for index, channel in enumerate(CHANNELS) for kind in channel.kinds}
)
"""Position in ``CHANNELS`` of the channel that a kind fills."""
