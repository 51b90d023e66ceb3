"""What is known of one patient's time on the device, and how each message changes it. Pure and bounded.

Ages that were published become instants (milliseconds of the server's monotonic clock) here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import TEXT_MAX, Notes, real, real_or_none
from edgeward.bedside.page.trend import Trends
from edgeward.bedside.page.vitals import STATES, Vital
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import KINDS, Group, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TASKS_MAX = 8
"""Models whose scores one bed shows."""
FORECASTS_MAX = 4
DRIVERS_MAX = 3
STEPS_MAX = 24
"""Points of one forecast."""
MODE_TTL_MS = 15_000
"""A mode is told every 5 s."""
NEWS2_TTL_MS = 180_000
"""NEWS2 is told every minute."""
SERVING = ("LOCAL", "LOCAL_PREVIOUS", "CLOUD")
"""The rungs on which there are scores; a mode that promises them must be told anew within MODE_TTL_MS."""
JITTER_MS = 1_500
"""By how much an instant may seem to move because messages are under way for different times."""


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


def _take_vitals(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    for name, said in data["values"].items():
        kind, value, state = Kind(name), real_or_none(said["v"]), said["state"]
        if state not in STATES:
            raise InputError("page-datum", "the state of a vital sign is none that the page knows; not shown")
        at_ms = now_ms - real(said["age_ms"])
        if value is not None and state == "ok" and KINDS[kind].group is Group.VITAL and kind is not Kind.BEAT_SILENCE:
            stay.trends.add_vital(kind.value, value, at_ms)
        held = stay.vitals.get(kind)
        if held is None or at_ms >= held.at_ms - JITTER_MS:
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
    probability = real_or_none(data.get("probability")) if accepted else None
    if probability is not None and not 0 <= probability <= 1:
        raise InputError("page-datum", "a probability for the page lies outside 0 to 1; not shown")
    at_ms = now_ms - real(data["age_ms"])
    if probability is not None:
        stay.trends.add_score(task, probability, at_ms)
    held = stay.scores.get(task)
    if held is not None and at_ms < held["at_ms"] - JITTER_MS:
        return
    stay.scores[task] = {
        **data,
        "probability": probability,
        "level": data["level"] if probability is not None else "none",
        "drivers": [_driver(driver) for driver in (data.get("drivers") or ())[:DRIVERS_MAX]],
        "at_ms": at_ms,
        "until_ms": at_ms + real(data["ttl_ms"]),
    }


def _driver(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": str(said.get("label") or said["feature"])[:TEXT_MAX],
        "value": real_or_none(said.get("value")),
        "unit": str(said.get("unit") or "")[:TEXT_MAX],
        "effect": real(said["effect"]),
    }


def _take_forecast(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    kind = Kind(data["kind"]).value
    if kind not in stay.forecasts and len(stay.forecasts) >= FORECASTS_MAX:
        raise InputError("page-tasks", f"a bed shows at most {FORECASTS_MAX} forecasts; not shown")
    bands = {name: [real(value) for value in (data.get(name) or ())] for name in ("minutes", "low", "mid", "high")}
    lengths = {len(values) for values in bands.values()}
    accepted = data.get("outcome", "accepted") == "accepted"
    if accepted and (len(lengths) > 1 or not 1 <= len(bands["minutes"]) <= STEPS_MAX):
        raise InputError("page-datum", "a forecast for the page has bands of different lengths; not shown")
    at_ms = now_ms - real(data["age_ms"])
    stay.forecasts[kind] = {
        **data,
        **bands,
        "probability": real_or_none(data.get("probability")),
        "accepted": accepted,
        "at_ms": at_ms,
        "until_ms": at_ms + real(data["ttl_ms"]),
    }


def _take_mode(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    task = data["task"]
    if task not in stay.modes and len(stay.modes) >= TASKS_MAX:
        raise InputError("page-tasks", f"a bed shows the modes of at most {TASKS_MAX} models; not shown")
    held = stay.modes.get(task)
    since_ms = steady(held["since_at_ms"] if held else -math.inf, now_ms - real(data.get("since_ms") or 0))
    until_ms = now_ms + MODE_TTL_MS if data["mode"] in SERVING else math.inf  # that less serves needs no renewal
    stay.modes[task] = {**data, "since_at_ms": since_ms, "until_ms": until_ms}


def _note(data: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    return {**data, "text": data["text"][:TEXT_MAX], "t_ms": now_ms}


def steady(before_ms: float | None, at_ms: float) -> float:
    """The instant known before, where the new one differs only by how long a message was under way."""
    return before_ms if before_ms is not None and abs(at_ms - before_ms) <= JITTER_MS else at_ms


TAKERS: Mapping[str, Callable[[Stay, Mapping[str, Any], float], None]] = {
    "vitals": _take_vitals,
    "alert": _take_alert,
    "advisory": _take_advisory,
    "news2": _take_news2,
    "score": _take_score,
    "forecast": _take_forecast,
    "mode": _take_mode,
}
"""How each kind of message about a stay changes it; InputError where it is odd."""
