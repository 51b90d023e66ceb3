"""What may be done from a page, and by whom it must have been sent."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.page.deed import Deed, read_deed
from edgeward.bedside.page.request import Refusal, Request

TOKEN = "t0ken"
HEADERS = {
    "host": "ward.example:8080",
    "origin": "http://ward.example:8080",
    "sec-fetch-site": "same-origin",
    "content-type": "application/x-www-form-urlencoded",
}
FIELDS = [("token", TOKEN), ("stay", "11"), ("action", "acknowledge"), ("alert", "a"), ("alert", "b")]


def read(
    headers: dict[str, str | None] | None = None, fields: list[tuple[str, str]] | bytes = FIELDS
) -> Deed | Refusal:
    merged = {**HEADERS, **(headers or {})}
    kept = {name: value for name, value in merged.items() if value is not None}
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    return read_deed(Request("POST", "/beds/x/act", kept, body=body), TOKEN, (2, 5))


def changed(**fields: str) -> list[tuple[str, str]]:
    return [pair for pair in FIELDS if pair[0] not in fields] + list(fields.items())


def test_acknowledge_names_each_alert_that_was_seen() -> None:
    """Several alerts in one form; never "all", for one may have come since."""
    assert read() == Deed("acknowledge", 11, ("a", "b"), 0)
    assert isinstance(read(fields=[pair for pair in FIELDS if pair[0] != "alert"]), Refusal)


def test_suspension_is_for_an_offered_time_only() -> None:
    """What is not among the choices is refused; 0 ends it."""
    for minutes, fine in [("2", True), ("5", True), ("0", True), ("3", False), ("600", False), ("-2", False)]:
        deed = read(fields=changed(action="suspend", minutes=minutes))
        assert isinstance(deed, Deed) is fine, minutes


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://ward.example"},
        {"origin": "http://ward.example:8080.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": None, "sec-fetch-site": None},
    ],
)
def test_request_of_another_origin_is_refused_even_with_the_token(headers: dict[str, str | None]) -> None:
    """One false sign is enough, and no sign at all is too little."""
    found = read(headers)
    assert isinstance(found, Refusal)
    assert found.status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    "headers", [{"origin": None}, {"sec-fetch-site": None}, {"origin": "HTTPS://ward.example:8080"}]
)
def test_one_true_sign_is_enough(headers: dict[str, str | None]) -> None:
    """Older browsers send only one of the two; a proxy may speak TLS for us."""
    assert isinstance(read(headers), Deed)


@pytest.mark.parametrize("token", ["", "t0ke", "t0ken ", "T0KEN", "é"])
def test_request_without_the_page_s_token_is_refused(token: str) -> None:
    """The token is compared whole."""
    found = read(fields=changed(token=token))
    assert isinstance(found, Refusal)
    assert found.status is HTTPStatus.FORBIDDEN


def test_other_methods_and_types_are_refused() -> None:
    """A GET never changes anything; a body of another type is not looked at."""
    got = read_deed(Request("GET", "/beds/x/act", HEADERS), TOKEN, (2,))
    assert isinstance(got, Refusal)
    assert (got.status, got.allow) == (HTTPStatus.METHOD_NOT_ALLOWED, "POST")
    typed = read({"content-type": "text/plain"})
    assert isinstance(typed, Refusal)
    assert typed.status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@given(st.binary(max_size=400))
def test_any_body_is_a_refusal_and_no_error(body: bytes) -> None:
    """Nonsense is refused in words."""
    assert isinstance(read(fields=body), Refusal)


@given(
    st.lists(
        st.tuples(st.sampled_from(["stay", "minutes", "action", "alert", "token"]), st.text(max_size=20)), max_size=60
    )
)
def test_a_deed_is_always_a_known_action_with_its_own_needs(fields: list[tuple[str, str]]) -> None:
    """Whatever is written into a form with the right token: a whole deed or a refusal."""
    found = read(fields=[*fields, ("token", TOKEN)])
    if isinstance(found, Deed):
        assert found.action in ("acknowledge", "suspend")
        assert found.alerts if found.action == "acknowledge" else found.minutes in (0, 2, 5)
        assert found.stay >= 0
