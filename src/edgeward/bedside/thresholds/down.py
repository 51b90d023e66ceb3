"""The one alert that the thresholds process cannot give: that it is not there. The rim makes it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.bedside.priority import Priority
from edgeward.bedside.thresholds.alert import Alert, Cause
from edgeward.kernel.clock import NS_PER_MS

if TYPE_CHECKING:
    from edgeward.bedside.feed import Message

START_NS = 800 * NS_PER_MS
"""A process that was just started for the first time is not missed before this: the notice stays within 1 s."""
_CODE = "thresholds-down"
_TEXT = "Threshold alerts do not run; starting again"


class DownNotice:
    """Raises a technical alert of high priority while no thresholds process watches, and takes it back."""

    def __init__(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._was_up = False
        self._alert: Alert | None = None

    def look(self, now_ns: int, *, up: bool) -> list[Message]:
        """``up``: whether a process runs and has caught up. Returns an ``alert`` message when that changes.

        Once it has been up, its absence is told at once; before, after ``START_NS``.
        """
        if up:
            self._was_up = True
            if self._alert is None:
                return []
            ended, self._alert = self._alert, None
            ended.end(latches=False)
            return [("alert", ended.message(now_ns))]
        if self._alert is not None or not (self._was_up or now_ns - self._since_ns >= START_NS):
            return []
        self._alert = Alert(f"{_CODE}-{now_ns // NS_PER_MS}", _CODE, _TEXT, Priority.HIGH, Cause.TECHNICAL, now_ns)
        return [("alert", self._alert.message(now_ns))]
