"""What a site says of its updates, as the updaters get it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from edgeward.bedside.updating.happening import Limits
from edgeward.bedside.updating.rules import Rules
from edgeward.bedside.updating.settings import UpdateSettings
from edgeward.kernel.errors import ConfigError


def test_a_site_that_says_nothing_has_the_limits_that_hold_anyway() -> None:
    assert UpdateSettings().rules(UTC, 60.0).limits == Limits()
    assert UpdateSettings().rules(UTC, 60.0) == Rules(UpdateSettings().rules(UTC, 60.0).windows)


def test_each_number_reaches_what_it_is_for_in_its_unit() -> None:
    settings = UpdateSettings(("02:00-03:00",), "Europe/Berlin", 512, 300, 1.5, look_min=5, shadow_min=0.5, soak_min=20)
    rules = settings.rules(ZoneInfo("Europe/Berlin"), 5.0)
    assert rules.windows.are_open(datetime(2026, 1, 1, 1, 30, tzinfo=UTC))
    assert not rules.windows.are_open(datetime(2026, 1, 1, 2, 30, tzinfo=UTC))
    assert (rules.rate_kib_s, rules.memory_kib_max, rules.limits.defer_s, rules.dwell_s) == (
        512,
        300 * 1_024,
        5_400,
        5.0,
    )
    own = settings.own_orders()
    assert (own.look_s, own.shadow_s, own.soak_s) == (300, 30, 1_200)
    assert own.attempts > 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rate_kib_s": -1}, "rate_kib_s must lie between 0"),
        ({"memory_mib_max": 1 << 21}, "MiB that the engine"),
        ({"defer_h": 0.0}, "hours that a new bundle waits"),
        ({"defer_h": float("nan")}, "defer_h must lie"),
        ({"look_min": 0.0}, "minutes between two looks"),
        ({"shadow_min": 0.0}, "compared beside the one in use"),
        ({"soak_min": 10_000.0}, "watched in charge"),
        ({"windows": ("always",)}, "no maintenance window can be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(change: dict[str, object], word: str) -> None:
    """Not even a site can have a bundle put in charge of watched beds unseen."""
    with pytest.raises(ConfigError, match=word):
        UpdateSettings(**change)  # type: ignore[arg-type]
