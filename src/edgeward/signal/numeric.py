"""Numerics: what a monitor or a laboratory says of a patient at one instant, in one unit per kind.

A ``Numeric`` is typed, in its kind's canonical unit and stamped with monotonic time, so that everything behind
``wire`` (thresholds, features, scores, pages) meets one unit and one clock. A value that its source declares unmeasured
(probe off, calibrating) is a numeric of its own with ``value`` None: it is news, and never zero, never "normal".

Sources: IEEE 11073-10101 (kinds of numerics), UCUM 2.1 (units), PhysioNet/CinC 2012 and 2019 (the laboratory kinds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Group(StrEnum):
    """Where a kind comes from, and so how soon it grows stale."""

    VITAL = "vital"
    CONTEXT = "context"
    LAB = "lab"


class Kind(StrEnum):
    """Everything that may be measured; the value is the short name in settings, messages and model features."""

    HR = "hr"
    PULSE = "pulse"
    SPO2 = "spo2"
    RR = "rr"
    ABP_SYS = "abp_sys"
    ABP_DIA = "abp_dia"
    ABP_MEAN = "abp_mean"
    NIBP_SYS = "nibp_sys"
    NIBP_DIA = "nibp_dia"
    NIBP_MEAN = "nibp_mean"
    TEMP = "temp"
    ETCO2 = "etco2"
    CVP = "cvp"
    PERFUSION = "perfusion"
    VPC_RATE = "vpc_rate"
    BEAT_SILENCE = "beat_silence"

    FIO2 = "fio2"
    O2_FLOW = "o2_flow"
    ACVPU = "acvpu"
    GCS = "gcs"
    URINE = "urine"
    WEIGHT = "weight"

    BASE_EXCESS = "base_excess"
    HCO3 = "hco3"
    PH = "ph"
    PACO2 = "paco2"
    PAO2 = "pao2"
    SAO2 = "sao2"
    ALBUMIN = "albumin"
    ALP = "alp"
    ALT = "alt"
    AST = "ast"
    BILIRUBIN = "bilirubin"
    BILIRUBIN_DIRECT = "bilirubin_direct"
    BUN = "bun"
    CALCIUM = "calcium"
    CHLORIDE = "chloride"
    CREATININE = "creatinine"
    FIBRINOGEN = "fibrinogen"
    GLUCOSE = "glucose"
    HCT = "hct"
    HGB = "hgb"
    LACTATE = "lactate"
    MAGNESIUM = "magnesium"
    PHOSPHATE = "phosphate"
    PLATELETS = "platelets"
    POTASSIUM = "potassium"
    PTT = "ptt"
    SODIUM = "sodium"
    TROPONIN_I = "troponin_i"
    TROPONIN_T = "troponin_t"
    WBC = "wbc"


ACVPU_LEVELS = ("A", "C", "V", "P", "U")
"""Values 0 to 4 of ``Kind.ACVPU``: alert, new confusion, responds to voice, to pain, unresponsive (NEWS2)."""


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What is known of a kind.

    ``label``: for people; ``unit``: canonical UCUM code; ``low``, ``high``: what a living patient can show, both
    included; ``decimals``: how many are worth showing.
    """

    label: str
    unit: str
    low: float
    high: float
    group: Group
    decimals: int = 0


def _vital(label: str, unit: str, low: float, high: float, decimals: int = 0) -> KindInfo:
    return KindInfo(label, unit, low, high, Group.VITAL, decimals)


def _context(label: str, unit: str, low: float, high: float, decimals: int = 0) -> KindInfo:
    return KindInfo(label, unit, low, high, Group.CONTEXT, decimals)


def _lab(label: str, unit: str, low: float, high: float, decimals: int = 1) -> KindInfo:
    return KindInfo(label, unit, low, high, Group.LAB, decimals)


KINDS: Mapping[Kind, KindInfo] = MappingProxyType(
    {
        Kind.HR: _vital("Heart rate", "/min", 0, 350),
        Kind.PULSE: _vital("Pulse rate", "/min", 0, 350),
        Kind.SPO2: _vital("SpO2", "%", 0, 100),
        Kind.RR: _vital("Respiration", "/min", 0, 150),
        Kind.ABP_SYS: _vital("Systolic, arterial", "mm[Hg]", 0, 350),
        Kind.ABP_DIA: _vital("Diastolic, arterial", "mm[Hg]", 0, 300),
        Kind.ABP_MEAN: _vital("Mean, arterial", "mm[Hg]", 0, 320),
        Kind.NIBP_SYS: _vital("Systolic, cuff", "mm[Hg]", 10, 350),
        Kind.NIBP_DIA: _vital("Diastolic, cuff", "mm[Hg]", 5, 300),
        Kind.NIBP_MEAN: _vital("Mean, cuff", "mm[Hg]", 5, 320),
        Kind.TEMP: _vital("Temperature", "Cel", 20, 45, 1),
        Kind.ETCO2: _vital("End-tidal CO2", "mm[Hg]", 0, 150),
        Kind.CVP: _vital("Central venous pressure", "mm[Hg]", -20, 80),
        Kind.PERFUSION: _vital("Perfusion index", "%", 0, 100, 1),
        Kind.VPC_RATE: _vital("Ventricular ectopic beats", "/min", 0, 350),
        Kind.BEAT_SILENCE: _vital("Time without a beat", "s", 0, 86_400, 1),
        Kind.FIO2: _context("Inspired oxygen", "%", 15, 100),
        Kind.O2_FLOW: _context("Oxygen flow", "L/min", 0, 100, 1),
        Kind.ACVPU: _context("Consciousness (ACVPU)", "1", 0, 4),
        Kind.GCS: _context("Glasgow coma scale", "1", 3, 15),
        Kind.URINE: _context("Urine output", "mL", 0, 20_000),
        Kind.WEIGHT: _context("Weight", "kg", 0.2, 500, 1),
        Kind.BASE_EXCESS: _lab("Base excess", "mmol/L", -60, 100),
        Kind.HCO3: _lab("Bicarbonate", "mmol/L", 0, 80),
        Kind.PH: _lab("pH", "1", 6.3, 8.2, 2),
        Kind.PACO2: _lab("Arterial CO2 tension", "mm[Hg]", 3, 250),
        Kind.PAO2: _lab("Arterial O2 tension", "mm[Hg]", 3, 800),
        Kind.SAO2: _lab("Arterial O2 saturation", "%", 0, 100),
        Kind.ALBUMIN: _lab("Albumin", "g/dL", 0.2, 10),
        Kind.ALP: _lab("Alkaline phosphatase", "U/L", 0, 20_000, 0),
        Kind.ALT: _lab("ALT", "U/L", 0, 50_000, 0),
        Kind.AST: _lab("AST", "U/L", 0, 50_000, 0),
        Kind.BILIRUBIN: _lab("Bilirubin, total", "mg/dL", 0, 100),
        Kind.BILIRUBIN_DIRECT: _lab("Bilirubin, direct", "mg/dL", 0, 80),
        Kind.BUN: _lab("Urea nitrogen", "mg/dL", 0, 400, 0),
        Kind.CALCIUM: _lab("Calcium", "mg/dL", 0.5, 30),
        Kind.CHLORIDE: _lab("Chloride", "mmol/L", 40, 200, 0),
        Kind.CREATININE: _lab("Creatinine", "mg/dL", 0.05, 60, 2),
        Kind.FIBRINOGEN: _lab("Fibrinogen", "mg/dL", 5, 3_000, 0),
        Kind.GLUCOSE: _lab("Glucose", "mg/dL", 5, 2_000, 0),
        Kind.HCT: _lab("Haematocrit", "%", 3, 80),
        Kind.HGB: _lab("Haemoglobin", "g/dL", 1, 40),
        Kind.LACTATE: _lab("Lactate", "mmol/L", 0.05, 60),
        Kind.MAGNESIUM: _lab("Magnesium", "mg/dL", 0.1, 40),
        Kind.PHOSPHATE: _lab("Phosphate", "mg/dL", 0.1, 40),
        Kind.PLATELETS: _lab("Platelets", "10*3/uL", 0, 5_000, 0),
        Kind.POTASSIUM: _lab("Potassium", "mmol/L", 0.5, 30),
        Kind.PTT: _lab("Partial thromboplastin time", "s", 5, 500, 0),
        Kind.SODIUM: _lab("Sodium", "mmol/L", 80, 220, 0),
        Kind.TROPONIN_I: _lab("Troponin I", "ng/mL", 0, 2_000, 2),
        Kind.TROPONIN_T: _lab("Troponin T", "ng/mL", 0, 500, 2),
        Kind.WBC: _lab("White cells", "10*3/uL", 0, 1_000),
    }
)
"""Everything known of each kind. ``BEAT_SILENCE`` is our own: seconds without a detected beat on usable leads."""


@dataclass(frozen=True, slots=True)
class Numeric:
    """One value of one kind, in the kind's canonical unit, observed at monotonic ``at_ns``; None: declared unmeasured.

    Raises ``ValueError`` for a value that is not finite: ``wire`` refuses such before it makes a numeric.
    """

    kind: Kind
    value: float | None
    at_ns: int

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError("a numeric is finite, or None where it is not measured")


def plausible(kind: Kind, value: float) -> bool:
    """Whether a living patient can show ``value`` (canonical unit); NaN is not plausible."""
    info = KINDS[kind]
    return info.low <= value <= info.high


assert set(KINDS) == set(Kind)
