"""What several channels of a stay say together: ratios and points that clinicians use, as far as the channels go.

Points are of what is known: an item that is missing adds nothing. Consciousness, urine and vasopressors are not among
the channels, so NEWS2, qSOFA and SOFA are partial, and named so.

Sources: Bone RC et al., Chest 101:1644-1655, 1992 (SIRS); Singer M et al., JAMA 315:801-810, 2016 (SOFA, qSOFA); Royal
College of Physicians, NEWS2, 2017; Rice TW et al., Chest 132:410-417, 2007 (SpO2/FiO2 for PaO2/FiO2); Roca O et al.,
Am J Respir Crit Care Med 199:1368-1376, 2019 (ROX).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.signal.stay_channels import LABS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = npt.NDArray[np.float64]

_AIR_PERCENT = 21.0
_PANEL = tuple(channel.name for channel in LABS if channel.name != "fio2")
_GAS = ("ph", "paco2", "base_excess", "sao2")
_COUNT = ("hct", "hgb", "wbc", "platelets")

TOGETHER: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "map_any.last": ("Mean pressure, measured or from systolic and diastolic", "mm[Hg]"),
        "shock_index.last": ("Shock index (heart rate / systolic)", "1"),
        "shock_index.24h": ("Shock index, mean of 24 h", "1"),
        "shock_index.worst": ("Shock index, worst of 12 h", "1"),
        "pulse_pressure.last": ("Pulse pressure (from systolic and mean)", "mm[Hg]"),
        "spo2_fio2.last": ("SpO2/FiO2", "%"),
        "rox.last": ("ROX index", "1"),
        "bun_creatinine.last": ("Urea nitrogen/creatinine", "1"),
        "hct_hgb.last": ("Haematocrit/haemoglobin", "1"),
        "temp_off.last": ("Temperature, distance from 37 °C", "Cel"),
        "temp_off.24h": ("Temperature, greatest distance from 37 °C in 24 h", "Cel"),
        "sirs.last": ("SIRS points", "1"),
        "sirs.24h": ("SIRS points within 24 h", "1"),
        "qsofa.last": ("qSOFA points without consciousness", "1"),
        "news2.last": ("NEWS2 points without consciousness", "1"),
        "sofa.last": ("SOFA points, partial", "1"),
        "sofa.72h": ("SOFA points, partial, worst of 72 h", "1"),
        "labs.24h": ("Different laboratory values within 24 h", "1"),
        "labs.often": ("Different laboratory values per quarter of a day so far", "1"),
        "labs.age": ("Hours since the last laboratory value", "h"),
        "gas.age": ("Hours since the last blood gas", "h"),
        "count.age": ("Hours since the last blood count", "h"),
    }
)
"""Name → label and unit, in the order of ``together``."""


def together(of: Callable[[str], Array]) -> Array:
    """The features of ``TOGETHER`` (S, T); ``of``: name of a single channel's feature → its values (S,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [*_circulation(of), *_breath_and_blood(of), *_points(of), *_habits(of)]
    table = np.stack(columns, axis=-1)
    return np.where(np.isfinite(table), table, np.nan)


def _circulation(of: Callable[[str], Array]) -> list[Array]:
    measured, systolic = of("map.last"), of("sys.last")
    mean = np.where(np.isnan(measured), (systolic + 2.0 * of("dia.last")) / 3.0, measured)
    return [
        mean,
        of("hr.last") / systolic,
        of("hr.mean.24h") / of("sys.mean.24h"),
        of("hr.high.12h") / of("sys.low.12h"),
        1.5 * (systolic - mean),
    ]


def _breath_and_blood(of: Callable[[str], Array]) -> list[Array]:
    ratio = _spo2_fio2(of)
    off = np.fmax(of("temp.high.24h") - 37.0, 37.0 - of("temp.low.24h"))
    return [
        ratio,
        ratio / of("rr.last"),
        of("bun.last") / of("creatinine.last"),
        of("hct.last") / of("hgb.last"),
        np.abs(of("temp.last") - 37.0),
        off,
    ]


def _spo2_fio2(of: Callable[[str], Array]) -> Array:
    """In per cent per fraction: 100 on pure oxygen, 476 on air; air is assumed where nobody says oxygen."""
    oxygen = of("fio2.last")
    return 100.0 * of("spo2.last") / np.where(np.isnan(oxygen), _AIR_PERCENT, oxygen)


def _points(of: Callable[[str], Array]) -> list[Array]:
    temperature, heart, breath, systolic = of("temp.last"), of("hr.last"), of("rr.last"), of("sys.last")
    sirs = _sirs(temperature, temperature, heart, breath, of("paco2.last"), (of("wbc.last"), of("wbc.last")))
    sirs_day = _sirs(
        of("temp.low.24h"), of("temp.high.24h"), of("hr.high.24h"), of("rr.high.24h"), of("paco2.low.72h"),
        (of("wbc.low.72h"), of("wbc.high.72h")),
    )  # fmt: skip
    news2 = (
        _bands(breath, (8, 11, 20, 24), (3, 1, 0, 2, 3))
        + _bands(of("spo2.last"), (91, 93, 95), (3, 2, 1, 0))
        + _bands(systolic, (90, 100, 110, 219), (3, 2, 1, 0, 3))
        + _bands(heart, (40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3))
        + _bands(temperature, (35, 36, 38, 39), (3, 1, 0, 1, 2))
        + 2.0 * (of("fio2.last") > _AIR_PERCENT)
    )
    ratio = _spo2_fio2(of)
    sofa = _sofa(of("platelets.last"), of("bilirubin.last"), of("creatinine.last"), of("map.last"), ratio)
    worst = _sofa(
        of("platelets.low.72h"), of("bilirubin.high.72h"), of("creatinine.high.72h"), of("map.low.24h"), ratio
    )
    return [sirs, sirs_day, 1.0 * (breath >= 22) + 1.0 * (systolic <= 100), news2, sofa, worst]


def _sirs(cold: Array, hot: Array, heart: Array, breath: Array, paco2: Array, cells: tuple[Array, Array]) -> Array:
    points: Array = (
        ((cold < 36.0) | (hot > 38.0)).astype(np.float64)
        + (heart > 90.0)
        + ((breath > 20.0) | (paco2 < 32.0))
        + ((cells[0] < 4.0) | (cells[1] > 12.0))
    )
    return points


def _sofa(platelets: Array, bilirubin: Array, creatinine: Array, mean: Array, ratio: Array) -> Array:
    return (
        _bands(-platelets, (-150, -100, -50, -20), (0, 1, 2, 3, 4))
        + _bands(bilirubin, (1.2, 2.0, 6.0, 12.0), (0, 1, 2, 3, 4))
        + _bands(creatinine, (1.2, 2.0, 3.5, 5.0), (0, 1, 2, 3, 4))
        + (mean < 70.0)
        + _bands(-ratio, (-357, -315, -214, -148), (0, 1, 2, 3, 4))
    )


def _habits(of: Callable[[str], Array]) -> list[Array]:
    """What is ordered tells what is suspected; it is also what differs most between hospitals (ADR 14)."""
    ages = np.stack([of(f"{name}.age") for name in _PANEL])
    return [
        (ages < 24.0).sum(axis=0).astype(np.float64),
        np.stack([of(f"{name}.cover") for name in _PANEL]).sum(axis=0),
        ages.min(axis=0),
        np.stack([of(f"{name}.age") for name in _GAS]).min(axis=0),
        np.stack([of(f"{name}.age") for name in _COUNT]).min(axis=0),
    ]


def _bands(values: Array, edges: tuple[float, ...], points: tuple[int, ...]) -> Array:
    """Points (S,) of the band that each value lies in, an edge belonging to the band below; 0 for a missing value."""
    band = np.searchsorted(np.array(edges, dtype=np.float64), np.nan_to_num(values), side="left")
    return np.where(np.isnan(values), 0.0, np.array(points, dtype=np.float64)[band])
