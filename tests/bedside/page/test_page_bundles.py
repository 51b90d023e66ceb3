"""The ward page's line about bundles: which is in charge and since when, and quietly which one runs beside it."""

from __future__ import annotations

from typing import Any

import pytest
from ward_messages import hello, serving

from edgeward.bedside.page import ward_html
from edgeward.bedside.page.bundles import BUNDLES_TTL_MS
from edgeward.bedside.page.pieces import Moment
from edgeward.bedside.page.stay import TASKS_MAX
from edgeward.bedside.page.ward import WardState
from edgeward.kernel.errors import InputError


def line(now_ms: float, *said: dict[str, Any]) -> str:
    state = WardState(hello(), 0.0)
    for data in said:
        state.apply("serving", data, 0.0)
    return ward_html.device(state, Moment(now_ms, spoken=True))


def test_the_version_in_charge_is_named() -> None:
    """Without an age where it was in charge from the start."""
    assert line(0, serving()) == "Sepsis risk 1.0.0"


def test_a_takeover_is_told_with_its_age_and_a_shadow_with_its_version() -> None:
    """Neither is bold: nobody at a bed has to act on it."""
    shown = line(0, serving(version="2.0.0", since_ms=300_000, shadow={"version": "2.1.0", "code": ""}))
    assert shown.startswith("Sepsis risk 2.0.0 for <time")
    assert ">5 min</time>" in shown
    assert shown.endswith(", 2.1.0 in its shadow")
    assert "<b>" not in shown


def test_a_shadow_that_does_not_run_says_why() -> None:
    """By the code of what keeps it from running; its version is not known before its bundle was read."""
    shown = line(0, serving(shadow={"version": "", "code": "bundle-damaged"}))
    assert shown == "Sepsis risk 1.0.0, another in its shadow does not run (bundle-damaged)"


def test_old_word_of_a_bundle_is_not_shown() -> None:
    """Who does not speak vouches for nothing."""
    assert line(BUNDLES_TTL_MS, serving())
    assert line(BUNDLES_TTL_MS + 1, serving()) == ""


@pytest.mark.parametrize("odd", [{"since_ms": "x"}, {"shadow": 3}, {"version": None}])
def test_an_odd_message_of_a_bundle_is_refused_and_the_line_stays(odd: dict[str, Any]) -> None:
    """As every datum for the page."""
    state = WardState(hello(), 0.0)
    state.apply("serving", serving(), 0.0)
    with pytest.raises(InputError):
        state.apply("serving", serving(**odd), 1.0)
    assert ward_html.device(state, Moment(1.0)) == "Sepsis risk 1.0.0"


def test_no_more_tasks_are_kept_than_a_bed_shows() -> None:
    """However many are told."""
    shown = line(0, *(serving(task=f"t{number}") for number in range(TASKS_MAX + 5)))
    assert shown.count("1.0.0") == TASKS_MAX
