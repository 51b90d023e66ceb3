"""What a page remembers of each kind for 24 h: per minute the median, the lowest and the highest. Pure and bounded.

A minute's median alone would hide a desaturation of twenty seconds; its range does not. A minute without a measurement
is a gap, and stays one.
"""

from __future__ import annotations

from array import array
from bisect import insort
from typing import Any

MINUTE_MS = 60_000
HOURS = (1, 4, 8, 24)
"""What a reader may choose."""
POINTS_MAX = 480
"""Of one trend in one answer; longer windows are given in steps of several minutes."""
SERIES_MAX = 32
"""Kinds and tasks that one stay's trends hold; further ones are not kept."""

_KEPT = HOURS[-1] * 60
_SAMPLES_MAX = 120
_MISSING = -32_768
_WIDEST = 32_767


class Trend:
    """One kind: 24 h in 8.6 kB. ``scale``: how many steps a unit is kept in (10: one decimal)."""

    def __init__(self, scale: int = 10) -> None:
        self._scale = scale
        self._mid, self._low, self._high = (array("h", [_MISSING]) * _KEPT for _ in range(3))
        self._minute: int | None = None
        self._samples: list[int] = []

    def add(self, value: float, at_ms: float) -> None:
        """Take a value observed at ``at_ms``; one older than the newest minute fills or widens its own minute."""
        minute = int(at_ms // MINUTE_MS)
        kept = max(-_WIDEST, min(_WIDEST, round(value * self._scale)))
        if self._minute is None or minute > self._minute:
            self._go_on_to(minute)
        elif minute <= self._minute - _KEPT:
            return
        place = minute % _KEPT
        if minute == self._minute:
            if len(self._samples) < _SAMPLES_MAX:
                insort(self._samples, kept)
            self._mid[place] = self._samples[len(self._samples) // 2]
        elif self._mid[place] == _MISSING:
            self._mid[place] = kept
        self._low[place] = kept if self._low[place] == _MISSING else min(self._low[place], kept)
        self._high[place] = max(self._high[place], kept)

    def rows(self, last: int, count: int, step: int) -> dict[str, list[float | None]]:
        """``count`` points of ``step`` minutes, the last one ending with minute ``last``; None where nothing is known.

        ``mid``: the median of the minutes' medians; ``low``, ``high``: the range. Steps are aligned, so that a point
        does not change as the window moves on.
        """
        first = last - last % step + step - count * step
        rows: dict[str, list[float | None]] = {"mid": [], "low": [], "high": []}
        for start in range(first, first + count * step, step):
            places = [minute % _KEPT for minute in range(start, start + step) if self._holds(minute)]
            known = [place for place in places if self._mid[place] != _MISSING]
            mids = sorted(self._mid[place] for place in known)
            rows["mid"].append(mids[len(mids) // 2] / self._scale if known else None)
            rows["low"].append(min(self._low[place] for place in known) / self._scale if known else None)
            rows["high"].append(max(self._high[place] for place in known) / self._scale if known else None)
        return rows

    def _holds(self, minute: int) -> bool:
        return self._minute is not None and self._minute - _KEPT < minute <= self._minute

    def _go_on_to(self, minute: int) -> None:
        before = minute - _KEPT if self._minute is None else self._minute
        for skipped in range(max(before, minute - _KEPT) + 1, minute + 1):
            for kept in (self._mid, self._low, self._high):
                kept[skipped % _KEPT] = _MISSING
        self._minute = minute
        self._samples = []


class Trends:
    """Everything that is remembered of one stay: vital signs by kind, probabilities by task."""

    def __init__(self) -> None:
        self._vitals: dict[str, Trend] = {}
        self._scores: dict[str, Trend] = {}

    def add_vital(self, kind: str, value: float, at_ms: float) -> None:
        """Take a value of a kind, in its canonical unit."""
        self._add(self._vitals, kind, 10, value, at_ms)

    def add_score(self, task: str, probability: float, at_ms: float) -> None:
        """Take an accepted probability of a task."""
        self._add(self._scores, task, 10_000, probability, at_ms)

    def window(self, now_ms: float, hours: int) -> dict[str, Any]:
        """The last ``hours`` as JSON: ``count`` points of ``step_ms``, the last one ending ``end_in_ms`` from now."""
        step = -(-hours * 60 // POINTS_MAX)
        count = hours * 60 // step
        last = int(now_ms // MINUTE_MS)
        end = (last - last % step + step) * MINUTE_MS
        return {
            "hours": hours,
            "step_ms": step * MINUTE_MS,
            "count": count,
            "end_in_ms": round(end - now_ms),
            "vitals": {kind: trend.rows(last, count, step) for kind, trend in self._vitals.items()},
            "scores": {task: trend.rows(last, count, step) for task, trend in self._scores.items()},
        }

    def last_hour(self, task: str, now_ms: float) -> list[float | None]:
        """A task's probability in each of the last 60 minutes."""
        trend = self._scores.get(task)
        return [None] * 60 if trend is None else trend.rows(int(now_ms // MINUTE_MS), 60, 1)["mid"]

    def _add(self, trends: dict[str, Trend], name: str, scale: int, value: float, at_ms: float) -> None:
        if name not in trends:
            if len(self._vitals) + len(self._scores) >= SERIES_MAX:
                return
            trends[name] = Trend(scale)
        trends[name].add(value, at_ms)
