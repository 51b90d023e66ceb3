"""Maintenance windows by the wall's clock, daylight-saving changes included, in real zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from edgeward.bedside.updating.windows import MaintenanceWindow, MaintenanceWindows
from edgeward.kernel.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # moves by half an hour


def minutes_open(windows: MaintenanceWindows, begin: datetime, hours: int) -> int:
    return sum(windows.are_open(begin + timedelta(minutes=minute)) for minute in range(60 * hours))


def of(text: str, zone: ZoneInfo) -> MaintenanceWindows:
    return MaintenanceWindows.parse([text], zone)


def test_no_maintenance_window_means_always() -> None:
    """A site that names none lets updates happen at any time."""
    assert MaintenanceWindows().are_open(datetime(2026, 7, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-07-06T01:59", False),  # a Monday
        ("2026-07-06T02:00", True),
        ("2026-07-06T04:59", True),
        ("2026-07-06T05:00", False),
        ("2026-07-11T03:00", False),  # a Saturday
    ],
)
def test_days_and_times_are_the_site_s(moment: str, is_open: bool) -> None:
    """Monday to Friday, two to five, at the site's clock; the device's own is UTC."""
    wall = datetime.fromisoformat(moment).replace(tzinfo=BERLIN).astimezone(UTC)
    assert of("Mon-Fri 02:00-05:00", BERLIN).are_open(wall) == is_open


def test_one_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    """Friday 22:00 to 06:00 is open early on Saturday and not early on Friday."""
    windows = of("Fri 22:00-06:00", BERLIN)
    assert windows.are_open(datetime(2026, 7, 11, 5, 59, tzinfo=BERLIN))
    assert not windows.are_open(datetime(2026, 7, 11, 6, 0, tzinfo=BERLIN))
    assert not windows.are_open(datetime(2026, 7, 10, 5, 59, tzinfo=BERLIN))
    assert of("Sun 22:00-02:00", BERLIN).are_open(datetime(2026, 7, 13, 1, 0, tzinfo=BERLIN))


@pytest.mark.parametrize(
    ("zone", "night", "text", "minutes"),
    [
        (BERLIN, datetime(2026, 3, 28, 20, tzinfo=UTC), "02:00-03:00", 0),  # the hour that does not exist
        (BERLIN, datetime(2026, 3, 28, 20, tzinfo=UTC), "01:00-04:00", 120),
        (BERLIN, datetime(2026, 10, 24, 20, tzinfo=UTC), "02:00-03:00", 120),  # the hour that comes twice
        (BERLIN, datetime(2026, 10, 24, 20, tzinfo=UTC), "02:15-02:45", 60),
        (BERLIN, datetime(2026, 10, 24, 20, tzinfo=UTC), "Sat 22:00-06:00", 540),
        (NEW_YORK, datetime(2026, 3, 8, 0, tzinfo=UTC), "Sun 01:30-03:30", 60),
        (NEW_YORK, datetime(2026, 11, 1, 0, tzinfo=UTC), "Sun 01:30-03:30", 150),  # 01:30-02:00 twice, then on
        (LORD_HOWE, datetime(2026, 10, 3, 10, tzinfo=UTC), "02:00-03:00", 30),
        (LORD_HOWE, datetime(2026, 4, 4, 10, tzinfo=UTC), "01:30-02:00", 60),
    ],
)
def test_nights_on_which_the_clock_changes(zone: ZoneInfo, night: datetime, text: str, minutes: int) -> None:
    """Open exactly while the wall's clock shows it: what it skips is lost, what it shows twice is open twice."""
    assert minutes_open(of(text, zone), night, 20) == minutes


def test_next_opening_is_found_across_a_change() -> None:
    """The Sunday hour that does not exist is next open a week later, at the right moment."""
    windows = of("Sun 02:00-03:00", BERLIN)
    found = windows.next_open(datetime(2026, 3, 27, 12, tzinfo=UTC))
    assert found == datetime(2026, 4, 5, 2, 0, tzinfo=BERLIN)
    open_now = datetime(2026, 4, 5, 0, 30, 5, tzinfo=UTC)
    assert windows.next_open(open_now) == open_now


def test_a_wait_says_when_it_ends_in_the_sites_time() -> None:
    thursday = datetime(2026, 12, 3, 12, tzinfo=UTC)
    opens = "it waits for its maintenance window, which opens Sat 2026-12-05 02:00"
    assert of("Sat 02:00-04:00", BERLIN).wait_words(thursday) == f"{opens} Europe/Berlin"
    assert of("Sat 02:00-04:00", UTC).wait_words(thursday) == f"{opens} UTC"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00",
        "2:00-3:00",
        "Mo 02:00-03:00",
        "Mon-Fri 25:00-26:00",
        "02:60-03:00",
        "24:00-01:00",
        "02:00-02:00",
        "Mon- 02:00-03:00",
    ],
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    """A misspelt maintenance window is refused when the settings are read, not ignored."""
    with pytest.raises(ConfigError, match="maintenance window") as caught:
        MaintenanceWindow.parse(text)
    assert caught.value.code == "maintenance-window"


def test_days_wrap_and_lists_are_read() -> None:
    """Sat-Mon is three days; a list may mix days and spans; 00:00-24:00 is the whole day."""
    assert MaintenanceWindow.parse("Sat-Mon 00:00-24:00") == MaintenanceWindow(frozenset({5, 6, 0}), 0, 1_440)
    assert MaintenanceWindow.parse("Mon,Wed-Thu 01:00-02:00").days == frozenset({0, 2, 3})
