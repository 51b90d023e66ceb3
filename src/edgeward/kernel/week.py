"""A span of a site's week: on some days, from a minute of the day to another, perhaps past midnight. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 24 * 60


def stands_within(day: int, minute: int, days: Collection[int], begin: int, end: int) -> bool:
    """Whether ``minute`` of ``day`` (0: Monday) lies in the span that begins on ``days``.

    ``begin`` and ``end`` in minutes after that day's midnight; ``end`` is not included, and one beyond ``DAY_MINUTES``
    lies on the day after.
    """
    return (day in days and begin <= minute < end) or ((day - 1) % 7 in days and minute + DAY_MINUTES < end)
