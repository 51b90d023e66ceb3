"""Maintenance windows: when a device may fetch, try and swap, by the clock on the ward's wall.

A maintenance window is open exactly while that clock shows a time within it. On the night when the clock goes forward,
the hour that it never shows opens nothing; on the night when it goes back, the hour that it shows twice is open twice.
One that passes midnight belongs to the day on which it begins. Pure: the moment and the zone are given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from edgeward.kernel.errors import ConfigError
from edgeward.kernel.week import DAY_MINUTES, DAYS, stands_within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo

_FORM = re.compile(r"(?:(?P<days>[A-Z][A-Za-z,-]*) )?(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)")
_LOOK_AHEAD_DAYS = 15


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """``days`` (0 is Monday) on which it begins; ``begin`` and ``end`` in minutes after midnight.

    ``end`` is not included, and beyond 1,440 on the day after.
    """

    days: frozenset[int]
    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> MaintenanceWindow:
        """Read "Mon-Fri 02:00-05:00", "Sat,Sun 22:00-06:00" or "02:00-05:00" (every day).

        ``ConfigError`` (``maintenance-window``).
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise _malformed(text)
        begin, end = (_minutes(found[name], text) for name in ("begin", "end"))
        if begin in {DAY_MINUTES, end}:
            raise _malformed(text)
        return cls(_days(found["days"], text), begin, end if end > begin else end + DAY_MINUTES)

    def is_open(self, local: datetime) -> bool:
        """Whether the wall's clock, showing ``local``, stands within it."""
        return stands_within(local.weekday(), 60 * local.hour + local.minute, self.days, self.begin, self.end)


@dataclass(frozen=True, slots=True)
class MaintenanceWindows:
    """All of a site's; none means that every moment is one. ``zone``: the site's."""

    zone: tzinfo | None = None
    windows: tuple[MaintenanceWindow, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str], zone: tzinfo) -> MaintenanceWindows:
        """Read every one of ``texts``; ``ConfigError`` (``maintenance-window``)."""
        return cls(zone, tuple(MaintenanceWindow.parse(text) for text in texts))

    def are_open(self, wall: datetime) -> bool:
        """Whether one is open at ``wall``, a moment with its zone."""
        local = wall.astimezone(self.zone)
        return not self.windows or any(window.is_open(local) for window in self.windows)

    def wait_words(self, wall: datetime) -> str:
        """What people are told of a wait that begins at ``wall``."""
        opens = self.next_open(wall)
        if opens is None:
            return "it waits for its maintenance window"
        at = f"{DAYS[opens.weekday()]} {opens:%Y-%m-%d %H:%M} {self.zone or UTC}"
        return f"it waits for its maintenance window, which opens {at}"

    def next_open(self, wall: datetime) -> datetime | None:
        """The first whole minute from ``wall`` on at which one is open, in the site's zone.

        None when none opens within 15 days.
        """
        moment = wall.astimezone(UTC)  # minutes are counted where none is missing or comes twice
        if not self.are_open(moment):
            moment = moment.replace(second=0, microsecond=0)
        for _ in range(_LOOK_AHEAD_DAYS * DAY_MINUTES):
            if self.are_open(moment):
                return moment.astimezone(self.zone)
            moment += timedelta(minutes=1)
        return None


def _minutes(text: str, whole: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    total = 60 * hours + minutes
    if minutes > 59 or total > DAY_MINUTES:
        raise _malformed(whole)
    return total


def _days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for item in text.split(","):
        first, mark, last = item.partition("-")
        if first not in DAYS or (mark and last not in DAYS):
            raise _malformed(whole)
        at, stop = DAYS.index(first), DAYS.index(last if mark else first)
        days |= {(at + step) % 7 for step in range((stop - at) % 7 + 1)}
    return frozenset(days)


def _malformed(text: str) -> ConfigError:
    return ConfigError(
        "maintenance-window",
        f'no maintenance window can be read from {text!r}; write one such as "Mon-Fri 02:00-05:00" '
        f"(days {', '.join(DAYS)}; it may pass midnight)",
    )
