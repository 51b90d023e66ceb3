"""What a ward's pages know: every bed, and the stay that lies in it. Pure and bounded.

Everything about a patient hangs on the stay, never on the bed: a patient who moves takes alerts and trends along, and
nobody inherits those of the one before. Times are milliseconds of the server's monotonic clock, passed in; ages that
were published become instants here.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgeward.bedside.page.datum import Notes, require
from edgeward.bedside.page.trend import Trends
from edgeward.bedside.page.vitals import STATES, Vital
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import KINDS, Group, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

WARD_KINDS = frozenset(
    {"hello", "bed", "vitals", "alert", "news2", "score", "forecast", "advisory", "mode", "source", "latency"}
)
"""Every kind that may be published to a ward (docs/messages.md)."""
BEDS_MAX = 64
TASKS_MAX = 8
"""Models whose scores one bed shows."""
FORECASTS_MAX = 4
DRIVERS_MAX = 3
STEPS_MAX = 24
"""Points of one forecast."""
TEXT_MAX = 160
"""Characters of a published text that are shown."""
BED_TTL_MS = 15_000
"""A bed that the device has not spoken of for so long (it should every 5 s) is not shown as live."""
MODE_TTL_MS = 15_000
NEWS2_TTL_MS = 180_000
"""NEWS2 comes every minute."""
UNCLAIMED_MS_MAX = 60_000
"""A stay that lies in no bed, because it is being moved, is kept for so long."""

_JITTER_MS = 1_500
_BED = {"bed": str}
_NOTE = {**_BED, "id": (str, Integral), "text": str, "priority": str, "active": bool}
_REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "hello": {"beds": list},
    "latency": {},
    "source": {**_BED, "source": str, "refused": str},
    "bed": {**_BED, "state": str},
    "vitals": {**_BED, "values": dict},
    "alert": {**_NOTE, "cause": str},
    "advisory": _NOTE,
    "news2": {**_BED, "items": dict, "score": (Integral, type(None))},
    "score": {**_BED, "task": str, "outcome": str, "level": str, "age_ms": Real, "ttl_ms": Real},
    "forecast": {**_BED, "kind": str, "outcome": str, "minutes": list, "age_ms": Real, "ttl_ms": Real},
    "mode": {**_BED, "task": str, "mode": str},
}


class Stay:
    """What is known of one patient's time on the device."""

    def __init__(self) -> None:
        self.vitals: dict[Kind, Vital] = {}
        self.alerts = Notes()
        self.advisories = Notes()
        self.news2: dict[str, Any] | None = None
        self.scores: dict[str, dict[str, Any]] = {}
        self.forecasts: dict[str, dict[str, Any]] = {}
        self.modes: dict[str, dict[str, Any]] = {}
        self.trends = Trends()
        self.unclaimed_ms: float | None = None

    def live_score(self, task: str, now_ms: float) -> dict[str, Any] | None:
        """The task's score while it is accepted and within its time to live."""
        score = self.scores.get(task)
        return score if score is not None and score["probability"] is not None and now_ms < score["until_ms"] else None


class Bed:
    """A bed as the device is set up for it, and what was last said of it."""

    def __init__(self, index: int, name: str, ecg: str) -> None:
        self.index, self.name, self.ecg = index, name, ecg
        self.path = f"/beds/{quote(name, safe='')}"
        self.stay: int | None = None
        self.told_ms: float | None = None
        self.state = "empty"
        self.population = ""
        self.simulated = False
        self.sources: tuple[str, ...] = ()
        self.suspended_until_ms = -math.inf
        self.silent_since_ms: float | None = None
        self.limits: dict[str, tuple[float | None, float | None]] = {}
        self.refusal: dict[str, Any] | None = None

    @property
    def until_ms(self) -> float:
        """When the bed stops being live, unless the device speaks of it again."""
        return -math.inf if self.told_ms is None else self.told_ms + BED_TTL_MS

    def occupied(self) -> bool:
        """Whether a patient lies in it."""
        return self.state == "occupied"

    def suspended(self, now_ms: float) -> bool:
        """Whether its threshold alerts make no claim now."""
        return now_ms < self.suspended_until_ms


class WardState:
    """The current state of a ward's pages. Not thread-safe: one thread owns it."""

    def __init__(self, hello: Mapping[str, Any], now_ms: float) -> None:
        self.beds: list[Bed] = []
        self.hello: Mapping[str, Any] = {"beds": []}
        self._stays: dict[int, Stay] = {}
        self._by_name: dict[str, Bed] = {}
        self.apply("hello", {"beds": [], **hello}, now_ms)

    def apply(self, kind: str, data: Mapping[str, Any], now_ms: float) -> Bed | None:
        """Take one published datum; return the bed that it changed. InputError where it is odd, or of another stay."""
        require(kind, data, _REQUIRED[kind])
        if kind == "hello":
            self._greet(data, now_ms)
            return None
        if kind == "latency":
            return None
        bed = self._by_name.get(data["bed"])
        if bed is None:
            raise InputError("page-bed", f"a {kind} for the page names a bed that the ward does not have; not shown")
        if kind == "bed":
            self._take_bed(bed, data, now_ms)
        elif kind == "source":
            bed.refusal = {**data, "t_ms": now_ms}
        else:
            _TAKERS[kind](self._stay_for(bed, data), data, now_ms)
        return bed

    def stay_of(self, bed: Bed) -> Stay | None:
        """What is known of the patient in a bed; None where nobody lies in it."""
        return None if bed.stay is None else self._stays.get(bed.stay)

    def bed_named(self, name: str) -> Bed | None:
        """The bed of a configured name."""
        return self._by_name.get(name)

    def forget(self, now_ms: float) -> list[Bed]:
        """Let go what is over; returns the beds whose notes became fewer."""
        gone = [key for key, stay in self._stays.items() if now_ms - (stay.unclaimed_ms or now_ms) > UNCLAIMED_MS_MAX]
        for key in gone:
            del self._stays[key]
        changed = []
        for bed in self.beds:
            stay = self.stay_of(bed)
            if stay and (stay.alerts.forget_ended(now_ms) | stay.advisories.forget_ended(now_ms)):
                changed.append(bed)
        return changed

    def _greet(self, data: Mapping[str, Any], now_ms: float) -> None:
        told = [dict(bed) for bed in data["beds"]]
        names = [str(bed["bed"]) for bed in told]
        if len(names) > BEDS_MAX or len(set(names)) < len(names) or not all(0 < len(n) <= TEXT_MAX for n in names):
            raise InputError(
                "page-beds",
                f"a ward has at most {BEDS_MAX} beds, each with a name of its own of 1 to {TEXT_MAX} characters; not shown",
            )
        before = self._by_name
        for name in before.keys() - set(names):
            self._lay(before[name], None, now_ms)
        self.hello = data
        self.beds = []
        for index, (name, bed) in enumerate(zip(names, told, strict=True)):
            held = before.get(name) or Bed(index, name, "")
            held.index, held.ecg = index, _address(bed.get("ecg"))
            self.beds.append(held)
        self._by_name = dict(zip(names, self.beds, strict=True))

    def _take_bed(self, bed: Bed, data: Mapping[str, Any], now_ms: float) -> None:
        stay = data.get("stay")
        occupied = data["state"] == "occupied"
        self._lay(bed, int(stay) if occupied and isinstance(stay, int) else None, now_ms)
        bed.told_ms = now_ms
        bed.state = "occupied" if occupied else "empty"
        bed.population = str(data.get("population") or "")
        bed.simulated = bool(data.get("simulated"))
        bed.sources = tuple(str(name)[:TEXT_MAX] for name in (data.get("sources") or ())[:8])
        silent = data.get("silent_ms")
        bed.silent_since_ms = None if silent is None else _steady(bed.silent_since_ms, now_ms - _real(silent))
        left = _real(data.get("suspended_ms_left") or 0)
        bed.suspended_until_ms = _steady(bed.suspended_until_ms, now_ms + left) if left > 0 else -math.inf
        bed.limits = {
            str(kind): (_real_or_none(low), _real_or_none(high))
            for kind, (low, high) in (data.get("limits") or {}).items()
            if kind in _KINDS
        }

    def _lay(self, bed: Bed, stay: int | None, now_ms: float) -> None:
        if stay == bed.stay:
            return
        left = self.stay_of(bed)
        if left is not None:
            left.unclaimed_ms = now_ms
        for other in self.beds:
            if stay is not None and other.stay == stay:  # moved: what lies in the other bed will be told
                other.stay, other.told_ms = None, None
        bed.stay = stay
        bed.refusal = None
        if stay is not None:
            self._stays.setdefault(stay, Stay()).unclaimed_ms = None
        while len(self._stays) > 2 * BEDS_MAX:
            oldest = min(self._stays, key=lambda key: self._stays[key].unclaimed_ms or math.inf)
            del self._stays[oldest]

    def _stay_for(self, bed: Bed, data: Mapping[str, Any]) -> Stay:
        stay = data.get("stay")
        if bed.told_ms is None and isinstance(stay, int) and bed.stay is None:
            self._lay(bed, stay, 0.0)
        found = self.stay_of(bed)
        if found is None or stay != bed.stay:
            raise InputError("page-stay", "a datum for the page belongs to a stay that is not in that bed; not shown")
        return found


def _take_vitals(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    for name, said in data["values"].items():
        kind, value, state = Kind(name), _real_or_none(said["v"]), said["state"]
        if state not in STATES:
            raise InputError("page-datum", "the state of a vital sign is none that the page knows; not shown")
        at_ms = now_ms - _real(said["age_ms"])
        if value is not None and state == "ok" and KINDS[kind].group is Group.VITAL and kind is not Kind.BEAT_SILENCE:
            stay.trends.add_vital(kind.value, value, at_ms)
        held = stay.vitals.get(kind)
        if held is None or at_ms >= held.at_ms - _JITTER_MS:
            stay.vitals[kind] = Vital(value, state, at_ms)


def _take_alert(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    stay.alerts.take(_note(data, now_ms))


def _take_advisory(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    stay.advisories.take(_note(data, now_ms))


def _take_news2(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    items = {str(item)[:TEXT_MAX]: int(points) for item, points in list(data["items"].items())[:8]}
    missing = [str(item)[:TEXT_MAX] for item in (data.get("missing") or ())[:8]]
    stay.news2 = {**data, "items": items, "missing": missing, "until_ms": now_ms + NEWS2_TTL_MS}


def _take_score(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    task = data["task"]
    if task not in stay.scores and len(stay.scores) >= TASKS_MAX:
        raise InputError("page-tasks", f"a bed shows the scores of at most {TASKS_MAX} models; not shown")
    accepted = data["outcome"] == "accepted"
    probability = _real_or_none(data.get("probability")) if accepted else None
    if probability is not None and not 0 <= probability <= 1:
        raise InputError("page-datum", "a probability for the page lies outside 0 to 1; not shown")
    at_ms = now_ms - _real(data["age_ms"])
    if probability is not None:
        stay.trends.add_score(task, probability, at_ms)
    held = stay.scores.get(task)
    if held is not None and at_ms < held["at_ms"] - _JITTER_MS:
        return
    stay.scores[task] = {
        **data,
        "probability": probability,
        "level": data["level"] if probability is not None else "none",
        "drivers": [_driver(driver) for driver in (data.get("drivers") or ())[:DRIVERS_MAX]],
        "at_ms": at_ms,
        "until_ms": at_ms + _real(data["ttl_ms"]),
    }


def _driver(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": str(said.get("label") or said["feature"])[:TEXT_MAX],
        "value": _real_or_none(said.get("value")),
        "unit": str(said.get("unit") or "")[:TEXT_MAX],
        "effect": _real(said["effect"]),
    }


def _take_forecast(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    kind = Kind(data["kind"]).value
    if kind not in stay.forecasts and len(stay.forecasts) >= FORECASTS_MAX:
        raise InputError("page-tasks", f"a bed shows at most {FORECASTS_MAX} forecasts; not shown")
    bands = {name: [_real(value) for value in (data.get(name) or ())] for name in ("minutes", "low", "mid", "high")}
    lengths = {len(values) for values in bands.values()}
    accepted = data["outcome"] == "accepted"
    if accepted and (len(lengths) > 1 or not 1 <= len(bands["minutes"]) <= STEPS_MAX):
        raise InputError("page-datum", "a forecast for the page has bands of different lengths; not shown")
    at_ms = now_ms - _real(data["age_ms"])
    stay.forecasts[kind] = {
        **data,
        **bands,
        "probability": _real_or_none(data.get("probability")),
        "accepted": accepted,
        "at_ms": at_ms,
        "until_ms": at_ms + _real(data["ttl_ms"]),
    }


def _take_mode(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    task = data["task"]
    if task not in stay.modes and len(stay.modes) >= TASKS_MAX:
        raise InputError("page-tasks", f"a bed shows the modes of at most {TASKS_MAX} models; not shown")
    held = stay.modes.get(task)
    since_ms = _steady(held["since_at_ms"] if held else -math.inf, now_ms - _real(data.get("since_ms") or 0))
    stay.modes[task] = {**data, "since_at_ms": since_ms, "until_ms": now_ms + MODE_TTL_MS}


def _note(data: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    return {**data, "text": data["text"][:TEXT_MAX], "t_ms": now_ms}


def _steady(before_ms: float | None, at_ms: float) -> float:
    """The instant known before, where the new one differs only by how long a message was under way."""
    return before_ms if before_ms is not None and abs(at_ms - before_ms) <= _JITTER_MS else at_ms


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError("page-datum", "a number for the page is none; not shown")
    return float(value)


def _real_or_none(value: Any) -> float | None:
    return None if value is None else _real(value)


def _address(given: Any) -> str:
    """A link to an ECG page: only to the web, never a script."""
    address = str(given or "")[:TEXT_MAX]
    return address if address.startswith(("http://", "https://", "/")) else ""


_KINDS = frozenset(kind.value for kind in Kind)
_TAKERS = {
    "vitals": _take_vitals,
    "alert": _take_alert,
    "advisory": _take_advisory,
    "news2": _take_news2,
    "score": _take_score,
    "forecast": _take_forecast,
    "mode": _take_mode,
}
