"""HL7 timestamps: ``YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`` with every precision and offset.

A stamp keeps what was said: the local time, the offset from UTC if one stands there, and how coarse it is. Which
instant it is needs an offset: its own, else that of MSH-7 (HL7 2.14.9.7: it "will be used throughout the message as the
default time zone"), else the site's zone.

Source: HL7 v2.8.2 chapter 2A.21 (DTM) and 2A.77 (TS, of which the first component counts).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError

_DTM = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,9}))?)?)?)?)?)?(?:([+-])(\d\d)(\d\d))?", re.ASCII
)
_CHARS_MAX = 40
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_STEP_S = (365 * 86_400, 30 * 86_400, 86_400, 3_600, 60, 1)
YEAR_MIN, YEAR_MAX = 1800, 2999
_OFFSET_S_MAX = 14 * 3_600 + 1
MINUTE_NS = 60 * NS_PER_S


class Stamp(NamedTuple):
    """A timestamp as written: ``local_ns`` since 1970-01-01 on the sender's clock, ``offset_s`` east of UTC or None.

    ``step_ns``: the true moment lies within ``[local_ns, local_ns + step_ns)``.
    """

    local_ns: int
    offset_s: int | None
    step_ns: int

    @property
    def instant(self) -> bool:
        """Whether it is precise enough (a minute or finer) to be the moment of an observation."""
        return self.step_ns <= MINUTE_NS

    def utc_ns(self, default_offset_s: int | None, zone: tzinfo) -> int:
        """Nanoseconds since 1970 UTC: by its own offset, else ``default_offset_s``, else ``zone``'s at that time."""
        offset_s = self.offset_s if self.offset_s is not None else default_offset_s
        if offset_s is None:
            offset_s = offset_in(zone, self.local_ns // NS_PER_S)
        return self.local_ns - offset_s * NS_PER_S


def parse_stamp(text: str) -> Stamp | None:
    """The stamp in ``text``; None where there is none (empty, or all zeros as some monitors write).

    Raises ``InputError`` (``time-malformed``) for anything that is no timestamp.
    """
    if len(text) > _CHARS_MAX:
        raise _malformed()
    return _parsed(text)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Stamp | None:
    text = text.strip(" \t")
    if not text.strip("0"):
        return None
    match = _DTM.fullmatch(text)
    if match is None:
        raise _malformed()
    year, month, day, hour, minute, second, fraction, sign, offset_h, offset_m = match.groups()
    parts = [part for part in (year, month, day, hour, minute, second) if part is not None]
    try:
        day_number = date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise _malformed() from error
    clock = (int(hour or 0), int(minute or 0), int(second or 0))
    if clock > (23, 59, 59) or clock[1] > 59 or clock[2] > 59 or not YEAR_MIN <= int(year) <= YEAR_MAX:
        raise _malformed()
    seconds = day_number * 86_400 + clock[0] * 3_600 + clock[1] * 60 + clock[2]
    fraction_ns = int(fraction.ljust(9, "0")) if fraction else 0
    step_ns = 10 ** (9 - len(fraction)) if fraction else _STEP_S[len(parts) - 1] * NS_PER_S
    return Stamp(seconds * NS_PER_S + fraction_ns, _offset_s(sign, offset_h, offset_m), step_ns)


@lru_cache(maxsize=256)
def offset_in(zone: tzinfo, local_s: int) -> int:
    """Offset of ``zone`` east of UTC in seconds at a local time; of an hour that comes twice, the first."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=local_s)
    offset = moment.replace(tzinfo=zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _offset_s(sign: str | None, hours: str | None, minutes: str | None) -> int | None:
    if sign is None or hours is None or minutes is None:
        return None
    offset_s = int(hours) * 3_600 + int(minutes) * 60
    if offset_s >= _OFFSET_S_MAX or int(minutes) > 59:
        raise _malformed()
    return -offset_s if sign == "-" else offset_s


def _malformed() -> InputError:
    return InputError(
        "time-malformed", "a timestamp is not in HL7's form (YYYYMMDDHHMMSS.SSSS+ZZZZ); correct the source"
    )
