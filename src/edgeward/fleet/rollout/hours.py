"""Maintenance hours: the times of a site's week in which orders may be given. Pure but for the zone table."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from edgeward.exchange.typed import Form, Most, Range
from edgeward.kernel.errors import RolloutError
from edgeward.kernel.week import DAY_MINUTES, stands_within

Zone = Annotated[str, Form(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}")]
"""A name of the IANA zone table, such as Europe/Berlin."""
_Minute = Annotated[int, Range(0, DAY_MINUTES - 1)]


@dataclass(frozen=True, slots=True)
class Hours:
    """From minute ``start`` to minute ``end`` of the day (not included), on ``days`` (0: Monday).

    An ``end`` that is not after ``start`` lies on the next day: 22:00 to 04:00 on Friday ends on Saturday.
    """

    days: Annotated[tuple[Annotated[int, Range(0, 6)], ...], Most(7)]
    start: _Minute
    end: _Minute

    def is_open(self, day: int, minute: int) -> bool:
        """Whether it is open at this minute of this day of the week."""
        end = self.end if self.start < self.end else self.end + DAY_MINUTES
        return stands_within(day, minute, self.days, self.start, end)


def any_open(all_hours: Iterable[Hours], zone: str, now_s: int) -> bool:
    """Whether any of them are open at ``now_s`` (seconds since 1970) by the clock on the site's wall.

    ``RolloutError`` (``zone-unknown``) for a zone that the table lacks.
    """
    try:
        there = datetime.fromtimestamp(now_s, UTC).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError) as error:
        raise RolloutError(
            "zone-unknown", f"there is no time zone {zone!r}: use a name such as Europe/Berlin or UTC"
        ) from error
    return any(hours.is_open(there.weekday(), there.hour * 60 + there.minute) for hours in all_hours)
