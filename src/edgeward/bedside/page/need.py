"""Where on a ward somebody is needed first: a bed's need, and the order in which the tiles stand. Pure.

A bed that grows worse moves up at once. One that grows better keeps its place for a while, so that tiles do not jump
under the eyes and fingers of those before the screen.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from edgeward.bedside.page.datum import PRIORITIES, claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.page.stay import Stay
    from edgeward.bedside.page.ward import Bed

HOLD_MS = 30_000
"""How long a bed keeps its place after its need has become less."""
SILENT_MS_MAX = 30_000
"""An occupied bed without a numeric for so long has no data."""


class Need(IntEnum):
    """From nobody to everybody. ``*_SEEN``: the alert is acknowledged. ``LATCHED_*``: over, and nobody has seen it."""

    EMPTY = 0
    QUIET = 1
    SUSPENDED = 2
    TECHNICAL_LOW = 3
    TECHNICAL_MEDIUM = 4
    NO_DATA = 5
    NEWS2_SINGLE = 6
    NEWS2_MEDIUM = 7
    NEWS2_HIGH = 8
    WATCH = 9
    ACT = 10
    LATCHED_LOW = 11
    LATCHED_MEDIUM = 12
    LATCHED_HIGH = 13
    LOW_SEEN = 14
    LOW = 15
    MEDIUM_SEEN = 16
    MEDIUM = 17
    TECHNICAL_HIGH = 18
    HIGH_SEEN = 19
    HIGH = 20


_NEWS2 = {"low-medium": Need.NEWS2_SINGLE, "medium": Need.NEWS2_MEDIUM, "high": Need.NEWS2_HIGH}
_LEVELS = {"watch": Need.WATCH, "act": Need.ACT}


def need_of(bed: Bed, stay: Stay | None, now_ms: float) -> Need:
    """The most that a bed asks for.

    Limits come before models, what somebody must still see before what a model thinks, and NEWS2's risk classes (any
    single 3, 5 and more, 7 and more) before technical trouble, unless its priority is high: then nobody may rely on
    the limits. A suspended bed's alerts make no claim.
    """
    if bed.told_ms is None or (stay is None and not bed.occupied()):
        return Need.EMPTY
    if stay is None or now_ms > bed.until_ms or is_silent(bed, now_ms):
        silent = Need.NO_DATA
    else:
        silent = Need.SUSPENDED if bed.suspended(now_ms) else Need.QUIET
    if stay is None:
        return silent
    alerts = Need.EMPTY if bed.suspended(now_ms) else _of_alerts(stay)
    return max(silent, alerts, _of_models(stay, now_ms), _of_news2(stay, now_ms))


def is_silent(bed: Bed, now_ms: float) -> bool:
    """Whether an occupied bed has no data."""
    return bed.silent_since_ms is None or now_ms - bed.silent_since_ms > SILENT_MS_MAX


def _of_alerts(stay: Stay) -> Need:
    need = Need.EMPTY
    for alert in stay.alerts:
        name = alert["priority"].upper()
        if not claims(alert):
            continue
        if alert["cause"] != "physiological":
            name = "MEDIUM" if alert.get("acknowledged") and name == "HIGH" else name
            need = max(need, Need[f"TECHNICAL_{name}"])
        elif alert["active"]:
            need = max(need, Need[f"{name}_SEEN" if alert.get("acknowledged") else name])
        else:
            need = max(need, Need[f"LATCHED_{name}"])
    return need


def _of_models(stay: Stay, now_ms: float) -> Need:
    live = (stay.live_score(task, now_ms) for task in stay.scores)
    levels = [_LEVELS.get(score["level"], Need.EMPTY) for score in live if score is not None]
    notes = [
        Need.WATCH if note["priority"] == PRIORITIES[-1] else Need.ACT for note in stay.advisories if note["active"]
    ]
    return max([*levels, *notes], default=Need.EMPTY)


def _of_news2(stay: Stay, now_ms: float) -> Need:
    news2 = stay.news2
    if news2 is None or now_ms > news2["until_ms"] or not news2["applies"]:
        return Need.EMPTY
    return _NEWS2.get(news2["risk"], Need.EMPTY)


class Order:
    """The order of the tiles: by the greatest need of each bed within HOLD_MS, then as the ward lists them."""

    def __init__(self) -> None:
        self._seen_ms: dict[str, dict[Need, float]] = {}

    def place(self, needs: Mapping[str, Need], now_ms: float) -> list[str]:
        """The beds' names in their order now; to be called every second or so."""
        placed = {}
        for bed, need in needs.items():
            seen_ms = self._seen_ms.setdefault(bed, {})
            seen_ms[need] = now_ms
            placed[bed] = max(level for level, at_ms in seen_ms.items() if now_ms - at_ms <= HOLD_MS)
        self._seen_ms = {bed: self._seen_ms[bed] for bed in needs}
        return sorted(needs, key=lambda bed: -placed[bed])
