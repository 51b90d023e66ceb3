"""Dates and instants as FHIR and XML Schema write them. Pure.

Sources: FHIR R4 2.24.0.1 (date, dateTime, instant); XML Schema part 2, 3.2.7 to 3.2.11; ISO 8601.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError

_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?(Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])?"
)
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?(?:T.*|Z|[+-][0-9]{2}:[0-9]{2})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_D = 365.2425
AGE_Y_MAX = 130.0


def instant_ns(text: str) -> int:
    """An instant in ns since 1970, UTC.

    Raises ``InputError``: ``time-imprecise`` for a date or year, ``time-zone-missing``, ``time-malformed``.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        if _DATE.fullmatch(text) and "T" not in text:
            raise InputError("time-imprecise", "a time is stated as a day or less exactly; have the source state it")
        raise InputError("time-malformed", "a time is none of FHIR's forms; correct the source")
    day, clock, second, fraction, zone = found.groups()
    if zone is None:
        raise InputError("time-zone-missing", "a time has no zone (FHIR R4, dateTime); have the source state it")
    try:
        # A leap second is the last instant of its minute: no clock of ours knows it.
        moment = datetime.fromisoformat(f"{day}T{clock}:{min(int(second), 59):02d}{zone}")
    except ValueError as error:
        raise InputError("time-malformed", "a time is no time of any day; correct the source") from error
    if int(second) > 60:
        raise InputError("time-malformed", "a time is no time of any day; correct the source")
    since = (moment - _EPOCH) // timedelta(seconds=1)
    return since * NS_PER_S + round(float(fraction or 0) * NS_PER_S)


def instant(wall_ns: int) -> str:
    """An instant as FHIR writes it, in UTC and whole milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=wall_ns // 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def age_y(born: str, wall_ns: int) -> float | None:
    """Years from a date of birth (of any precision: the middle of what is not stated) to now; None where it is none."""
    found = _DATE.fullmatch(born)
    if found is None:
        return None
    year, month, day = (None if part is None else int(part) for part in found.groups())
    assert year is not None
    try:
        exact = date(year, month or 7, day or (15 if month else 2))
    except ValueError:
        return None
    age = (wall_ns / NS_PER_S / 86_400 - (exact - _EPOCH.date()).days) / _YEAR_D
    return max(0.0, round(age, 2)) if -1 / _YEAR_D <= age <= AGE_Y_MAX else None
