"""The ward page's line about what leaves: in words, bold where somebody must act, never old news as new."""

from __future__ import annotations

from typing import Any

import pytest
from ward_messages import hello, outbox

from edgeward.bedside.page import ward_html
from edgeward.bedside.page.pieces import Moment
from edgeward.bedside.page.ward import WardState
from edgeward.kernel.errors import InputError


def line(now_ms: float, *said: dict[str, Any], at_ms: float = 0.0) -> str:
    state = WardState(hello(), 0.0)
    for data in said:
        state.apply("outbox", data, at_ms)
    return ward_html.device(state, Moment(now_ms, spoken=True))


def test_a_ward_that_sends_nothing_says_nothing_of_it() -> None:
    """The line is there once an outbox was told of."""
    assert line(0) == ""
    assert line(0, outbox()) == "record: all sent"


def test_what_waits_is_told_with_its_age_and_why() -> None:
    """The age counts on between two messages; a receiver that is not there is bold."""
    gone = {"destination": "hl7", "sent": 0, "refused": 0, "failures": 9, "code": "unreachable"}
    shown = line(10_000, outbox([gone], waiting=12, oldest_ms=175_000))
    assert "record: 12 waiting for <time" in shown
    assert ">3 min</time>" in shown
    assert "<b>hl7: nobody answers</b>" in shown


def test_refused_lost_and_unidentified_are_told() -> None:
    """Each by its number; a full disk in words."""
    two = [
        {"destination": "hl7", "sent": 1, "refused": 2, "failures": 0, "code": "hl7-ar-102"},
        {"destination": "fhir", "sent": 1, "refused": 0, "failures": 0, "code": ""},
    ]
    shown = line(0, outbox(two, expired=1, dropped=2, failed=1, unidentified=5, fault="disk-full"))
    for text in ("hl7: hl7-ar-102", "hl7: 2 refused", "4 lost", "5 without a patient’s number", "the disk is full"):
        assert text in shown
    assert "fhir" not in shown


def test_old_word_of_the_outbox_is_not_shown_as_new() -> None:
    """Told every 5 s; after 20 s of silence it is not known whether anything leaves."""
    assert "all sent" in line(20_000, outbox())
    assert line(20_001, outbox()) == "<b>record: not heard of</b>"


@pytest.mark.parametrize("odd", [{"waiting": float("nan")}, {"oldest_ms": "x"}, {"destinations": [3]}, {"fault": None}])
def test_an_odd_message_is_refused_and_the_line_stays(odd: dict[str, Any]) -> None:
    """As every datum for the page."""
    state = WardState(hello(), 0.0)
    state.apply("outbox", outbox(), 0.0)
    with pytest.raises(InputError):
        state.apply("outbox", outbox(**odd), 1.0)
    assert ward_html.device(state, Moment(1.0)) == "record: all sent"


def test_nothing_of_a_name_gets_into_the_page_as_markup() -> None:
    """A code or a destination is text."""
    bad = {"destination": "<img>", "sent": 0, "refused": 1, "failures": 0, "code": "<script>"}
    shown = line(0, outbox([bad], fault="<i>"))
    assert not any(tag in shown for tag in ("<img>", "<script>", "<i>"))
