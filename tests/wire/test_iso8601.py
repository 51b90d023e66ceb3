"""Dates and instants of FHIR and XML Schema."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.iso8601 import age_y, instant, instant_ns

NOW_NS = 1_767_225_600 * 1_000_000_000  # 2026-01-01


@given(
    st.integers(-2_208_988_800, 7_258_118_400),
    st.integers(-14 * 60 + 1, 14 * 60 - 1),
    st.integers(0, 999),
)
def test_an_instant_is_the_same_in_every_zone(second: int, minutes: int, millis: int) -> None:
    """Read and written again, whatever the zone."""
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second, milliseconds=millis)
    moment = utc.astimezone(timezone(timedelta(minutes=minutes)))
    ns = instant_ns(moment.isoformat(timespec="milliseconds"))
    assert instant(ns) == moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{millis:03d}Z"
    assert instant_ns(instant(ns)) == ns


def test_a_leap_second_is_the_end_of_its_minute() -> None:
    """FHIR allows it; no clock of ours has it."""
    assert instant_ns("2016-12-31T23:59:60Z") == instant_ns("2016-12-31T23:59:59Z")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2026", "time-imprecise"), ("2026-01", "time-imprecise"), ("2026-01-01", "time-imprecise"),
        ("2026-01-01T10:00:00", "time-zone-missing"), ("2026-01-01T10:00Z", "time-malformed"),
        ("2026-01-01 10:00:00Z", "time-malformed"), ("2026-13-01T10:00:00Z", "time-malformed"),
        ("2026-01-01T25:00:00Z", "time-malformed"), ("2026-01-01T10:00:61Z", "time-malformed"),
        ("2026-01-01T10:00:00+15:00", "time-malformed"), ("", "time-malformed"), ("20260101T100000Z", "time-malformed"),
        ("0000-01-01T00:00:00Z", "time-malformed"), ("२०२६-01-01T10:00:00Z", "time-malformed"),
    ],
)  # fmt: skip
def test_what_is_no_instant_is_refused(text: str, code: str) -> None:
    """With a code that says what is missing."""
    with pytest.raises(InputError) as refused:
        instant_ns(text)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("born", "age"),
    [("1950", 75.5), ("1950-07", 75.47), ("1950-01-01", 76.0), ("2025-12-20", 0.03), ("2025-12-20T10:00:00Z", 0.03),
     ("2026-01-01", 0.0), ("2030-01-01", None), ("1800", None), ("", None), ("19500101", None), ("1950-x", None),
     ("1950-02-30", None), ("MCML", None)],
)  # fmt: skip
def test_age_comes_of_whatever_is_known_of_birth(born: str, age: float | None) -> None:
    """The middle of what is not stated; nothing of what is no date, or no living patient's."""
    assert age_y(born, NOW_NS) == (None if age is None else pytest.approx(age, abs=0.02))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but an InputError ever comes of it."""
    assert age_y(text, NOW_NS) is None or text[:4].isdigit()
    code = "time-"
    try:
        instant_ns(text)
    except InputError as error:
        code = error.code
    assert code.startswith("time-")
