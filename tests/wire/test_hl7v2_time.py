"""HL7 timestamps of every precision and offset."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import InputError
from edgeward.wire.hl7v2_time import Stamp, parse_stamp


def _stamp(text: str) -> Stamp:
    stamp = parse_stamp(text)
    assert stamp is not None
    return stamp


@pytest.mark.parametrize(
    ("text", "moment", "step_s"),
    [
        ("2026", datetime(2026, 1, 1, tzinfo=UTC), 365 * 86_400),
        ("202603", datetime(2026, 3, 1, tzinfo=UTC), 30 * 86_400),
        ("20260304", datetime(2026, 3, 4, tzinfo=UTC), 86_400),
        ("2026030410", datetime(2026, 3, 4, 10, tzinfo=UTC), 3_600),
        ("202603041015", datetime(2026, 3, 4, 10, 15, tzinfo=UTC), 60),
        ("20260304101530", datetime(2026, 3, 4, 10, 15, 30, tzinfo=UTC), 1),
        ("20260304101530.5", datetime(2026, 3, 4, 10, 15, 30, 500_000, tzinfo=UTC), 0.1),
        ("20260304101530.1234", datetime(2026, 3, 4, 10, 15, 30, 123_400, tzinfo=UTC), 0.0001),
        ("20260304101530.0000+0530", datetime(2026, 3, 4, 4, 45, 30, tzinfo=UTC), 0.0001),
        ("20260304101530-0700", datetime(2026, 3, 4, 17, 15, 30, tzinfo=UTC), 1),
        ("202603041015+0100", datetime(2026, 3, 4, 9, 15, tzinfo=UTC), 60),
        (" 20260304101530-0000 ", datetime(2026, 3, 4, 10, 15, 30, tzinfo=UTC), 1),
    ],
)
def test_precisions_and_offsets(text: str, moment: datetime, step_s: float) -> None:
    """What is not said is not invented: the step says how coarse it is."""
    stamp = _stamp(text)
    assert stamp.utc_ns(None, UTC) == round(moment.timestamp() * 1e6) * 1000
    assert stamp.step_ns == round(step_s * NS_PER_S)
    assert stamp.instant == (step_s <= 60)


def test_an_offset_is_its_own_else_the_messages_else_the_sites() -> None:
    """In that order; the site's zone knows summer time."""
    berlin = ZoneInfo("Europe/Berlin")
    plain, own = _stamp("20260704120000"), _stamp("20260704120000+0530")
    assert plain.utc_ns(-7 * 3600, berlin) - plain.local_ns == 7 * 3600 * NS_PER_S
    assert plain.local_ns - plain.utc_ns(None, berlin) == 2 * 3600 * NS_PER_S
    assert _stamp("20260104120000").local_ns - _stamp("20260104120000").utc_ns(None, berlin) == 3600 * NS_PER_S
    assert own.local_ns - own.utc_ns(-7 * 3600, berlin) == 5.5 * 3600 * NS_PER_S


@pytest.mark.parametrize("text", ["", "   ", "0", "00000000000000", "0000"])
def test_nothing_and_zeros_are_no_stamp(text: str) -> None:
    """Some monitors write zeros for an unmeasured value's time."""
    assert parse_stamp(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "20261301",
        "20260230",
        "2026030425",
        "202603041060",
        "20260304101560",
        "2026030",
        "20260304101530,5",
        "20260304101530+1",
        "20260304101530+1460",
        "20260304101530+2000",
        "16000101",
        "99990101",
        "2026-03-04T10:15:30Z",
        "２０２６０３０４",
        "2" * 999,
    ],
)
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    """A wrong time is worse than none."""
    with pytest.raises(InputError) as refused:
        parse_stamp(text)
    assert refused.value.code == "time-malformed"


@given(
    st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1801 < moment.year < 2999),
    st.integers(-14 * 60, 14 * 60),
)
def test_what_python_writes_is_read(moment: datetime, minutes: int) -> None:
    """A microsecond stamp with any offset is the same instant."""
    aware = moment.astimezone(timezone(timedelta(minutes=minutes)))
    text = aware.strftime("%Y%m%d%H%M%S.%f%z").rjust(26, "0")
    whole = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert _stamp(text).utc_ns(None, UTC) == whole * 1000


@given(st.text(max_size=30))
def test_any_text_is_a_stamp_or_refused(text: str) -> None:
    """Nothing but ``InputError`` comes out."""
    with contextlib.suppress(InputError):
        parse_stamp(text)
