"""Which vital signs stand where on a ward's pages, how they are written, and how old they may look. Pure.

A value is shown only while the device calls it ``ok`` and it is younger than its kind's ceiling here, which holds even
when the device says nothing more. A missing value is two dashes, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.page.datum import PRIORITIES
from edgeward.bedside.page.words import unit_words
from edgeward.bedside.vitals import is_spot, stale_after_ns
from edgeward.kernel.clock import NS_PER_MS
from edgeward.signal.numeric import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.page.datum import Notes

NONE = "--"
STATES = ("ok", "unmeasured", "stale")
"""What the device says of a value (docs/messages.md)."""
AGE_SHOWN_MS = 10_000
"""A continuous vital sign says its age from here on, what is measured now and then from SELDOM_AGE_SHOWN_MS on."""
SELDOM_AGE_SHOWN_MS = 60_000


@dataclass(frozen=True, slots=True)
class Vital:
    """What was last said of a kind: value in its canonical unit (None: not measured), state, when it was observed."""

    value: float | None
    state: str
    at_ms: float


@dataclass(frozen=True, slots=True)
class Slot:
    """A place on a page: one number, or a pressure's three. ``quantity``: what its alerts speak of."""

    name: str
    label: str
    kinds: tuple[Kind, ...]
    quantity: str

    @property
    def unit(self) -> str:
        """The unit as people write it."""
        return unit_words(KINDS[self.kinds[0]].unit)

    @property
    def long_label(self) -> str:
        """For readers who hear the page."""
        return _PRESSURES.get(self.name, KINDS[self.kinds[0]].label)


_PRESSURES = {"abp": "Blood pressure, arterial", "nibp": "Blood pressure, cuff"}

SLOTS: Mapping[str, Slot] = {
    slot.name: slot
    for slot in (
        Slot("hr", "HR", (Kind.HR,), "rate"),
        Slot("pulse", "Pulse", (Kind.PULSE,), "rate"),
        Slot("spo2", "SpO₂", (Kind.SPO2,), "spo2"),
        Slot("rr", "RR", (Kind.RR,), "rr"),
        Slot("abp", "ABP", (Kind.ABP_SYS, Kind.ABP_DIA, Kind.ABP_MEAN), "pressure"),
        Slot("nibp", "NIBP", (Kind.NIBP_SYS, Kind.NIBP_DIA, Kind.NIBP_MEAN), "pressure"),
        Slot("temp", "T", (Kind.TEMP,), "temp"),
        Slot("etco2", "etCO₂", (Kind.ETCO2,), "etco2"),
        Slot("cvp", "CVP", (Kind.CVP,), "cvp"),
        Slot("perfusion", "PI", (Kind.PERFUSION,), "perfusion"),
        Slot("vpc_rate", "PVC", (Kind.VPC_RATE,), "vpc"),
    )
}
TILE = (("hr", "pulse"), ("spo2",), ("rr",), ("abp", "nibp"), ("temp",))
"""A tile's five places, each with what may stand there, the preferred first."""

_QUANTITIES = {
    "asystole": "rate", "bradycardia": "rate", "tachycardia": "rate", "beat_silence": "rate", "vt": "rate",
    "apnoea": "rr", "desaturation": "spo2", "abp": "pressure", "nibp": "pressure", "sys": "pressure",
    "mean": "pressure", "dia": "pressure", "vpc": "vpc",
    **{kind.value: slot.quantity for slot in SLOTS.values() for kind in slot.kinds},
}  # fmt: skip
"""Leading words of an alert's code, and the quantity they speak of."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What stands in a place: ``text`` only while ``state`` is ok; ``last`` what was known before.

    ``keep_ms``: the age at which it must vanish; ``age_from_ms``: from which age on its age is said; ``mark``: the
    highest priority among active threshold alerts on it, empty where there is none.
    """

    slot: Slot
    state: str
    text: str
    last: str
    at_ms: float | None
    keep_ms: int
    age_from_ms: int
    mark: str


def keep_ms(kind: Kind) -> int:
    """How old a value of a kind may be and still be shown, whatever the device says."""
    return stale_after_ns(kind) // NS_PER_MS


def number(kind: Kind, value: float | None) -> str:
    """A value with the decimals worth showing; two dashes where there is none."""
    return NONE if value is None else f"{value:.{KINDS[kind].decimals}f}"


def shown(slot: Slot, vitals: Mapping[Kind, Vital], marks: Mapping[str, str], now_ms: float) -> Shown:
    """What stands in a slot now."""
    known = {kind: vitals[kind] for kind in slot.kinds if kind in vitals}
    keep, seldom = keep_ms(slot.kinds[0]), is_spot(slot.kinds[0])
    live = {k: v for k, v in known.items() if v.state == "ok" and v.value is not None and now_ms - v.at_ms <= keep}
    last = _text(slot, known) if any(vital.value is not None for vital in known.values()) else ""
    at_ms: float | None
    if live:
        state, at_ms = "ok", min(vital.at_ms for vital in live.values())
    else:
        state = "unmeasured" if any(v.state == "unmeasured" for v in known.values()) else "stale" if known else "none"
        at_ms = max((vital.at_ms for vital in known.values()), default=None)
    text = _text(slot, live) if live else ""
    age_from = SELDOM_AGE_SHOWN_MS if seldom else AGE_SHOWN_MS
    return Shown(slot, state, text, last, at_ms, keep, age_from, marks.get(slot.quantity, ""))


def shown_first(names: tuple[str, ...], vitals: Mapping[Kind, Vital], marks: Mapping[str, str], now_ms: float) -> Shown:
    """What stands in a place that several slots may take: the first that is live, else the first that ever was."""
    choices = [shown(SLOTS[name], vitals, marks, now_ms) for name in names]
    live = [choice for choice in choices if choice.state == "ok"]
    known = [choice for choice in choices if choice.state != "none"]
    return (live or known or choices)[0]


def marks_of(alerts: Notes) -> dict[str, str]:
    """The highest priority of the active physiological alerts on each quantity, by the alerts' codes."""
    marks: dict[str, str] = {}
    for alert in alerts:
        quantity = quantity_of(str(alert.get("code", "")))
        if quantity is None or not alert["active"] or alert["cause"] != "physiological":
            continue
        if quantity not in marks or PRIORITIES.index(alert["priority"]) < PRIORITIES.index(marks[quantity]):
            marks[quantity] = alert["priority"]
    return marks


def quantity_of(code: str) -> str | None:
    """The quantity that an alert's code speaks of ("mean-extreme-low": pressure): the longest words that name one."""
    words = code.lower().replace("-", "_").split("_")
    for count in range(len(words), 0, -1):
        quantity = _QUANTITIES.get("_".join(words[:count]))
        if quantity is not None:
            return quantity
    return None


def _text(slot: Slot, vitals: Mapping[Kind, Vital]) -> str:
    values = [number(kind, vitals[kind].value if kind in vitals else None) for kind in slot.kinds]
    if len(values) == 1:
        return values[0]
    systolic, diastolic, mean = values
    pair = f"{systolic}/{diastolic}"
    return pair if mean == NONE else f"{pair} ({mean})"
