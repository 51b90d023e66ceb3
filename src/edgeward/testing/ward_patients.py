"""Scripted patients for ``edgeward.testing.ward``: stable, septic, bleeding, hypoxic, disconnected, suspended.

Their alerts, NEWS2 and scores are written down here beside their vital signs; nothing is measured or judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Alert:
    """A scripted alert; ``active`` False with ``latched`` True: over, and not yet seen."""

    code: str
    text: str
    priority: str
    kind: str = ""
    limit: float | None = None
    cause: str = "physiological"
    active: bool = True
    latched: bool = False
    raised_s: float = 40.0


@dataclass(frozen=True, slots=True)
class Patient:
    """One scripted bed. ``now``: the vital signs of the moment; ``hour_ago``: an hour before, on the way to them."""

    story: str
    now: dict[str, float]
    hour_ago: dict[str, float] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()
    news2: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    risk: float = 0.03
    risk_before: float = 0.03
    pressure_risk: float = 0.04
    level: str = "none"
    drivers: tuple[tuple[str, float | None, str, float], ...] = (("Respiration", 15, "/min", -0.21),)
    mode: tuple[str, str] = ("LOCAL", "")
    population: str = "adult"
    silent_s: float | None = None
    suspended_s: float = 0.0
    labs: dict[str, float] = field(default_factory=dict)
    unmeasured: tuple[str, ...] = ()
    empty: bool = False

    def served(self) -> bool:
        """Whether a model serves the bed."""
        return self.mode[0] in ("LOCAL", "LOCAL_PREVIOUS", "CLOUD")


_CALM = {"hr": 74, "spo2": 97, "rr": 15, "abp_sys": 124, "abp_dia": 68, "abp_mean": 87, "temp": 36.8}
_CUFF = {"hr": 68, "spo2": 98, "rr": 14, "nibp_sys": 131, "nibp_dia": 74, "nibp_mean": 93, "temp": 36.6}
_FINE = {"respiration": 0, "spo2": 0, "oxygen": 0, "systolic": 0, "pulse": 0, "consciousness": 0, "temperature": 0}

STABLE = Patient("stable", _CALM, news2=_FINE)
CUFF = Patient("stable, cuff pressure", _CUFF, news2={**_FINE, "oxygen": 2}, missing=(), risk=0.05, risk_before=0.06)
SEPTIC = Patient(
    "septic",
    {"hr": 118, "spo2": 93, "rr": 27, "abp_sys": 94, "abp_dia": 48, "abp_mean": 63, "temp": 38.9, "etco2": 29},
    {"hr": 96, "spo2": 96, "rr": 20, "abp_sys": 112, "abp_dia": 60, "abp_mean": 77, "temp": 38.1, "etco2": 34},
    news2={"respiration": 3, "spo2": 2, "oxygen": 2, "systolic": 2, "pulse": 2, "consciousness": 0, "temperature": 1},
    alerts=(Alert("abp-mean-low", "Mean arterial pressure low", "medium", "abp_mean", 65, raised_s=190),),
    risk=0.44,
    risk_before=0.12,
    pressure_risk=0.61,
    level="act",
    drivers=(
        ("Respiration", 27, "/min", 0.81),
        ("Lactate", 4.2, "mmol/L", 0.74),
        ("Mean arterial pressure", 63, "mm[Hg]", 0.52),
    ),
    labs={"lactate": 4.2, "wbc": 17.3, "creatinine": 1.6, "platelets": 122},
)
BLEEDING = Patient(
    "bleeding",
    {"hr": 137, "spo2": 95, "rr": 25, "abp_sys": 76, "abp_dia": 41, "abp_mean": 53, "temp": 36.1},
    {"hr": 98, "spo2": 97, "rr": 17, "abp_sys": 118, "abp_dia": 64, "abp_mean": 82, "temp": 36.6},
    news2={"respiration": 3, "spo2": 1, "oxygen": 0, "systolic": 3, "pulse": 3, "consciousness": 0, "temperature": 0},
    alerts=(
        Alert("abp-mean-extreme-low", "Mean arterial pressure very low", "high", "abp_mean", 55, raised_s=24),
        Alert("hr-high", "Heart rate high", "medium", "hr", 120, raised_s=310),
        Alert("rr-high", "Respiration fast", "low", "rr", 24, raised_s=280),
    ),
    risk=0.11,
    risk_before=0.04,
    pressure_risk=0.86,
    level="watch",
    drivers=(
        ("Mean arterial pressure, slope in 30 min", -14.0, "mm[Hg]", 1.1),
        ("Heart rate", 137, "/min", 0.6),
        ("Temperature", 36.1, "Cel", -0.2),
    ),
    labs={"hgb": 7.1, "lactate": 3.1},
)
HYPOXIC = Patient(
    "hypoxic",
    {"hr": 109, "spo2": 79, "rr": 31, "nibp_sys": 148, "nibp_dia": 86, "nibp_mean": 107, "temp": 37.4},
    {"hr": 88, "spo2": 94, "rr": 20, "nibp_sys": 139, "nibp_dia": 80, "nibp_mean": 100, "temp": 37.2},
    news2={"respiration": 3, "spo2": 3, "oxygen": 2, "systolic": 0, "pulse": 1, "consciousness": 0, "temperature": 0},
    alerts=(
        Alert("desaturation", "Desaturation", "high", "spo2", 80, raised_s=13),
        Alert("rr-high", "Respiration fast", "medium", "rr", 30, raised_s=44),
    ),
    risk=0.19,
    risk_before=0.08,
    level="watch",
    drivers=(("SpO2", 79, "%", 0.9), ("Respiration", 31, "/min", 0.66), ("Inspired oxygen", None, "%", 0.12)),
    labs={"pao2": 48, "paco2": 51, "ph": 7.29},
)
SILENT = Patient(
    "disconnected",
    _CALM,
    news2={},
    missing=tuple(_FINE),
    silent_s=252,
    mode=("NO_AI", "no_input"),
    alerts=(Alert("no-input", "Monitor disconnected", "medium", cause="technical", raised_s=222),),
)
SUSPENDED = Patient(
    "suctioned, alerts suspended",
    {**_CUFF, "hr": 101, "spo2": 87, "rr": 24},
    news2={**_FINE, "spo2": 3, "pulse": 1, "respiration": 2},
    risk=0.07,
    alerts=(Alert("spo2-low", "SpO2 low", "medium", "spo2", 90, raised_s=60),),
    suspended_s=212,
)
LATCHED = Patient(
    "desaturated, over, nobody looked",
    {**_CALM, "spo2": 94, "hr": 83},
    news2={**_FINE, "spo2": 1},
    risk=0.06,
    risk_before=0.05,
    alerts=(Alert("desaturation", "Desaturation", "high", "spo2", 80, active=False, latched=True, raised_s=420),),
)
WATCHED = Patient(
    "getting worse",
    {**_CALM, "hr": 97, "rr": 21, "abp_sys": 108, "abp_mean": 72, "temp": 38.2},
    _CALM,
    news2={**_FINE, "respiration": 2, "systolic": 1, "pulse": 1, "temperature": 1},
    risk=0.21,
    risk_before=0.06,
    pressure_risk=0.24,
    level="watch",
    mode=("LOCAL_PREVIOUS", "golden_failed"),
    drivers=(
        ("Respiration", 21, "/min", 0.4),
        ("Temperature", 38.2, "Cel", 0.31),
        ("White cells", None, "10*3/uL", 0.1),
    ),
)
NO_ENGINE = Patient("stable, AI stopped", {**_CALM, "hr": 62}, news2=_FINE, mode=("THRESHOLD_ONLY", "engine_crashed"))
CHILD = Patient(
    "child",
    {"hr": 112, "spo2": 99, "rr": 24, "nibp_sys": 96, "nibp_dia": 55, "nibp_mean": 69},
    population="paediatric",
    mode=("NOT_ASKED", "population"),
)
INCOMPLETE = Patient(
    "cuff lost, temperature not taken",
    {"hr": 88, "spo2": 96, "rr": 18},
    news2={"respiration": 0, "spo2": 0, "pulse": 0},
    missing=("oxygen", "systolic", "consciousness", "temperature"),
    unmeasured=("rr",),
    risk=0.05,
)
EMPTY = Patient("empty", {}, empty=True)

SCENES = {
    "busy": (
        STABLE,
        SEPTIC,
        CUFF,
        HYPOXIC,
        SILENT,
        SUSPENDED,
        BLEEDING,
        LATCHED,
        WATCHED,
        NO_ENGINE,
        CHILD,
        INCOMPLETE,
    ),
    "calm": (STABLE, CUFF, STABLE, CUFF, WATCHED, STABLE, CUFF, STABLE, CUFF, STABLE, CHILD, EMPTY),
}
