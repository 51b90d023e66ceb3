"""Requests however they are cut; refusal of everything that two servers could read in two ways."""

from __future__ import annotations

import contextlib
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.wire.http1 import BadRequestError, Head, Request, RequestReader, Response, encode

POST = b"POST /fhir?x=1 HTTP/1.1\r\nHost: bed\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"
CHUNKED = (
    b"POST /s HTTP/1.1\r\nhost: bed\r\ntransfer-encoding: Chunked\r\n\r\n"
    b"3\r\nabc\r\n2;note=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
)
GET = b"GET / HTTP/1.0\r\n\r\n"


def _read(data: bytes, cuts: list[int] | None = None, body_bytes_max: int = 1000) -> list[Request]:
    reader = RequestReader(body_bytes_max=body_bytes_max)
    requests = []
    for cut in [*(cuts or []), len(data)]:
        reader.feed(data[:cut])
        data = data[cut:]
        while (item := reader.next()) is not None:
            if isinstance(item, Request):
                requests.append(item)
    return requests


@given(st.lists(st.integers(1, 40), max_size=30))
def test_requests_survive_however_they_are_cut(cuts: list[int]) -> None:
    """The same requests come out whatever pieces TCP delivers, one after the other on one connection."""
    first, second, third = _read(POST + CHUNKED + GET, cuts)
    assert (first.head.method, first.head.path, first.head.query, first.body) == ("POST", "/fhir", "x=1", b"hello")
    assert first.head.headers["x-a"] == "1, 2"
    assert first.head.keep_alive
    assert second.body == b"abcde"
    assert (third.head.method, third.head.keep_alive, third.body) == ("GET", False, b"")


def test_the_head_is_seen_before_the_body() -> None:
    """A sender without right can be refused before its body is held."""
    reader = RequestReader(body_bytes_max=10)
    reader.feed(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    head = reader.next()
    assert isinstance(head, Head)
    assert head.continue_wanted
    assert reader.next() is None
    assert not reader.idle
    reader.feed(b"abc")
    assert isinstance(reader.next(), Request)
    assert reader.idle


_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Host: y\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Content-Length: +1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Content-Length: 1e1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"X : 1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"X: 1\r\n folded\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"X: 1\nY: 2\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Content-Length: 11\r\n\r\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\nb\r\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc", HTTPStatus.BAD_REQUEST),
        (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100, HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 9000, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (_HEAD + b"".join(b"X%d: 1\r\n" % k for k in range(70)) + b"\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, status: HTTPStatus) -> None:
    """Each breaks one rule of RFC 9112 or one ceiling."""
    with pytest.raises(BadRequestError) as refused:
        _read(data, body_bytes_max=10)
    assert refused.value.status is status


@given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=10))
def test_any_bytes_are_requests_or_refused(data: bytes, cuts: list[int]) -> None:
    """Nothing but a BadRequestError ever comes of foreign bytes, and nothing beyond the ceilings is held."""
    for prefix in (b"", _HEAD, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(BadRequestError):
            _read(prefix + data, cuts, body_bytes_max=50)


def test_an_answer_is_one_block_of_bytes() -> None:
    """Length, type and further headers; a header cannot break its line."""
    data = encode(Response(HTTPStatus.CREATED, b"{}", "application/json", {"Location": "/a"}), keep_alive=True)
    assert data == (
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nContent-Type: application/json\r\nLocation: /a\r\n\r\n{}"
    )
    assert b"Connection: close" in encode(Response(HTTPStatus.OK), keep_alive=False)
    with pytest.raises(ValueError, match="one line"):
        encode(Response(HTTPStatus.OK, headers={"A": "1\r\nB: 2"}), keep_alive=True)
