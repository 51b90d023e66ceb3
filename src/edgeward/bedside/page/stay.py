"""What is known of one patient's time on the device, and how each message changes it. Pure and bounded.

Ages that were published become instants (milliseconds of the server's monotonic clock) here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgeward.bedside.page.datum import Notes, age_ms, real, real_or_none, words
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
NEWS2_ITEMS_MAX = 8
STEPS_MAX = 24
"""Points of one forecast."""
MODE_TTL_MS = 15_000
"""A mode is told every 5 s."""
NEWS2_TTL_MS = 180_000
"""NEWS2 is told every minute."""
SERVING = ("LOCAL", "LOCAL_PREVIOUS", "CLOUD")
"""The rungs on which there are scores."""
NOT_ASKED = "NOT_ASKED"
RENEWED = (*SERVING, NOT_ASKED)
"""Modes that say that nothing is wrong: they must be told anew within MODE_TTL_MS."""
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
        at_ms = now_ms - age_ms(said["age_ms"])
        if value is not None and state == "ok" and KINDS[kind].group is Group.VITAL and kind is not Kind.BEAT_SILENCE:
            stay.trends.add_vital(kind.value, value, at_ms)
        held = stay.vitals.get(kind)
        if held is None or at_ms >= held.at_ms - JITTER_MS:
            stay.vitals[kind] = Vital(value, state, at_ms)


def _take_alert(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    flags = {name: bool(data.get(name)) for name in ("latched", "acknowledged")}
    figures = {name: real_or_none(data.get(name)) for name in ("value", "limit")}
    cause = "physiological" if data["cause"] == "physiological" else "technical"
    note = _note(data, now_ms) | flags | figures | {"cause": cause, "unit": words(data.get("unit"))}
    stay.alerts.take(note)


def _take_advisory(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    stay.advisories.take(_note(data, now_ms))


def _note(data: Mapping[str, Any], now_ms: float) -> dict[str, Any]:
    named = {name: words(data.get(name)) for name in ("id", "code", "text")}
    raised_ms_ago = age_ms(data.get("raised_ms_ago") or 0)
    told = {"priority": data["priority"], "active": data["active"], "raised_ms_ago": raised_ms_ago}
    return {**named, **told, "t_ms": now_ms}


def _take_news2(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    points = list(data["items"].items())[:NEWS2_ITEMS_MAX]
    stay.news2 = {
        "score": data["score"],
        "complete": bool(data.get("complete")),
        "missing": [words(item) for item in (data.get("missing") or ())[:NEWS2_ITEMS_MAX]],
        "items": {words(item): round(real(value)) for item, value in points},
        "risk": words(data.get("risk")),
        "scale": data.get("scale"),
        "applies": data.get("applies") is not False,
        "until_ms": now_ms + NEWS2_TTL_MS,
    }


def _take_score(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    task = _room(stay.scores, words(data["task"]), TASKS_MAX)
    accepted = data["outcome"] == "accepted"
    probability = _probability(data.get("probability")) if accepted else None
    at_ms = now_ms - age_ms(data["age_ms"])
    score = {
        "probability": probability,
        "level": words(data["level"]) if probability is not None else "none",
        "why": words(data.get("why") or data["outcome"]),
        "drivers": [_driver(driver) for driver in (data.get("drivers") or ())[:DRIVERS_MAX]],
        "missing_share": real_or_none(data.get("missing_share")),
        "stale_share": real_or_none(data.get("stale_share")),
        "rung": words(data.get("rung")),
        "version": words(data.get("version")),
        "at_ms": at_ms,
        "until_ms": at_ms + real(data["ttl_ms"]),
    }
    if probability is not None:
        stay.trends.add_score(task, probability, at_ms)
    held = stay.scores.get(task)
    if held is None or at_ms >= held["at_ms"] - JITTER_MS:
        stay.scores[task] = score


def _driver(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": words(said.get("label") or said["feature"]),
        "value": real_or_none(said.get("value")),
        "unit": words(said.get("unit")),
        "effect": real(said["effect"]),
    }


def _take_forecast(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    kind = _room(stay.forecasts, Kind(data["vital"]).value, FORECASTS_MAX)
    bands = {name: [real(value) for value in (data.get(name) or ())] for name in ("minutes", "low", "mid", "high")}
    lengths = {len(values) for values in bands.values()}
    accepted = data.get("outcome", "accepted") == "accepted"
    if accepted and (len(lengths) > 1 or not 1 <= len(bands["minutes"]) <= STEPS_MAX):
        raise InputError("page-datum", "a forecast for the page has bands of different lengths; not shown")
    at_ms = now_ms - age_ms(data["age_ms"])
    stay.forecasts[kind] = {
        **bands,
        "probability": _probability(data.get("probability")),
        "accepted": accepted,
        "why": words(data.get("why")),
        "rung": words(data.get("rung")),
        "at_ms": at_ms,
        "until_ms": at_ms + real(data["ttl_ms"]),
    }


def _take_mode(stay: Stay, data: Mapping[str, Any], now_ms: float) -> None:
    task, rung = _room(stay.modes, words(data["task"]), TASKS_MAX), words(data["mode"])
    held = stay.modes.get(task)
    stay.modes[task] = {
        "task": task,
        "mode": rung,
        "reason": words(data.get("reason")),
        "since_at_ms": steady(held["since_at_ms"] if held else None, now_ms - age_ms(data.get("since_ms") or 0)),
        "until_ms": now_ms + MODE_TTL_MS if rung in RENEWED else math.inf,  # that less serves needs no renewal
    }


def _room(held: Mapping[str, Any], name: str, most: int) -> str:
    """The name, where there is room for it."""
    if name not in held and len(held) >= most:
        raise InputError(
            "page-tasks", f"a bed shows at most {TASKS_MAX} models and {FORECASTS_MAX} forecasts; not shown"
        )
    return name


def _probability(value: Any) -> float | None:
    probability = real_or_none(value)
    if probability is not None and not 0 <= probability <= 1:
        raise InputError("page-datum", "a probability for the page lies outside 0 to 1; not shown")
    return probability


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
