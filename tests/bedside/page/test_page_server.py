"""The page's server: what it answers, what it refuses, and that no browser can hold it up."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from page_reader import Stream, get

from edgeward.bedside.page import PageServer, hub
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = {"site": "Ward <1>", "bed": "Bed & 4", "leads": ["II", "V1"], "simulated": True, "budget_ms": 4.0}
PATHS = (
    "/",
    "/state.json",
    "/healthz",
    "/clock",
    "/static/page.js",
    "/static/page.css",
    "/static/strip.js",
    "/nothing",
)


@pytest.fixture
def page() -> Iterator[PageServer]:
    with PageServer(hello=HELLO) as server:
        yield server


def wait_for(true: Any, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def publish_all(page: PageServer) -> None:
    page.publish("mode", {"mode": "THRESHOLD_ONLY", "reason": "engine_hung", "since_ms": 61_000})
    page.publish("rate", {"hr_bpm": 71.4, "age_ms": 0})
    page.publish("alert", {"id": "hr", "code": "hr", "text": "Heart rate <high>", "priority": "high", "active": True})
    page.publish("advisory", {"id": "run", "code": "run", "text": "Run of V", "priority": "low", "active": False})
    for block in range(4):
        page.publish("wave", {"i": block * 32, "v": np.zeros((2, 32), dtype=int).tolist(), "bad": [False, True]})
    page.publish("beat", {"i": 40, "cls": "V", "rr_ms": 800, "verdict": "accepted", "why": ""})


def test_every_answer_carries_the_strict_headers(page: PageServer) -> None:
    """Policy without inline code, no sniffing, no referrer, no cache: on pages, data, files and refusals alike."""
    for path in PATHS:
        answer, _ = get(page.url, path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.status == (HTTPStatus.NOT_FOUND if path == "/nothing" else HTTPStatus.OK)


def test_page_says_the_essentials_without_scripts(page: PageServer) -> None:
    """Mode, heart rate and alerts stand in the HTML, escaped; nothing in it is inline code or style."""
    publish_all(page)
    wait_for(lambda: b"71" in get(page.url, "/state.json")[1])
    text = get(page.url, "/")[1].decode()
    assert "Threshold only — the AI does not answer" in text
    assert ">71<" in text
    assert "Heart rate &lt;high&gt;" in text
    assert "Ward &lt;1&gt; · Bed &amp; 4" in text
    assert "SIMULATED" in text
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in text
    assert "style=" not in text
    assert "<style" not in text
    assert "onclick" not in text
    assert "alarm" not in text.lower()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.0.2.1", "[::2]"])
def test_foreign_host_name_is_refused(page: PageServer, host: str) -> None:
    """A name that was pointed at this address by its owner (DNS rebinding) reads nothing."""
    answer, body = get(page.url, "/state.json", Host=host)
    assert answer.status == HTTPStatus.MISDIRECTED_REQUEST
    assert b"Ward" not in body


def test_own_and_configured_names_are_answered() -> None:
    """Loopback in all spellings, and what the site configured, with any port."""
    with PageServer(hello=HELLO, names=["bed4.ward.example"]) as page:
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:5", "bed4.ward.example:8600"):
            assert get(page.url, "/healthz", Host=host)[0].status == HTTPStatus.OK, host


def test_only_get_and_only_from_here(page: PageServer) -> None:
    """Other methods, other sites' scripts, paths outside the list and broken requests are refused."""
    answer, _ = get(page.url, "/", method="POST")
    assert (answer.status, answer.headers["Allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "GET")
    assert get(page.url, "/events", Sec_Fetch_Site="cross-site")[0].status == HTTPStatus.FORBIDDEN
    for path in ("/static/../server.py", "/static/page.html", "/static/", "/static/%2e%2e/server.py"):
        assert get(page.url, path)[0].status == HTTPStatus.NOT_FOUND, path
    for raw in (b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n"):
        assert _raw(page.url, raw).startswith(b"HTTP/1.1 400 "), raw
    assert _raw(page.url, b"GET / HTTP/1.1\r\nX: " + b"x" * 9000).startswith(b"HTTP/1.1 431 ")


def test_late_joiner_gets_the_whole_state_at_once(page: PageServer) -> None:
    """Hello, mode, rate, notes, then wave and beats, before the first ping; each with the time of its publication."""
    publish_all(page)
    wait_for(lambda: json.loads(get(page.url, "/state.json")[1])["wave_end"] == 128)
    with Stream(page.url) as stream:
        events = stream.until("ping")
    kinds = [kind for kind, _ in events]
    assert kinds == ["sync", "hello", "mode", "rate", "alert", "advisory", *["wave"] * 4, "beat", "ping"]
    assert all("t_ms" in data for _, data in events)


def test_followers_hear_what_is_published_and_the_pings_between(page: PageServer) -> None:
    """Every browser gets every datum; the ping tells for how long nothing was published."""
    with Stream(page.url) as first, Stream(page.url) as second:
        first.until("ping")
        second.until("ping")
        page.publish("qrs", {"i": np.int64(7)})
        assert first.until("qrs")[-1][1]["i"] == 7
        assert second.until("qrs")[-1][1]["i"] == 7
        quiet = [data["quiet_ms"] for kind, data in first.until("ping", 3) if kind == "ping"]
        assert quiet == sorted(quiet)


def test_datum_that_cannot_be_shown_is_counted_and_harms_nothing(page: PageServer) -> None:
    """NaN, objects and missing fields never reach a browser and never stop what follows."""
    with Stream(page.url) as stream:
        stream.until("ping")
        page.publish("rate", {"hr_bpm": math.nan})
        page.publish("rate", {"hr_bpm": 70, "odd": object()})
        page.publish("wave", {"i": 0})
        page.publish("rate", {"hr_bpm": 72})
        assert stream.until("rate")[-1][1]["hr_bpm"] == 72
    assert page.rejected == 3
    assert get(page.url, "/state.json")[0].status == HTTPStatus.OK
    with pytest.raises(ConfigError) as caught:
        page.publish("nonsense", {})
    assert caught.value.code == "page-kind"


def test_publish_returns_while_the_servers_thread_is_stuck(page: PageServer) -> None:
    """Even a server that does nothing costs the caller no waiting; the newest data are kept."""
    stuck = threading.Event()
    page._loop.call_soon_threadsafe(stuck.wait)
    caller = threading.Thread(
        target=lambda: [page.publish("rate", {"hr_bpm": n % 200}) for n in range(10_000)], daemon=True
    )
    caller.start()
    caller.join(20)
    finished = not caller.is_alive()
    stuck.set()
    assert finished
    wait_for(lambda: json.loads(get(page.url, "/state.json")[1])["rate"] is not None)
    assert json.loads(get(page.url, "/state.json")[1])["rate"]["hr_bpm"] == 9_999 % 200


def test_browser_that_does_not_read_is_dropped_and_others_go_on(
    page: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stuck browser's buffer is bounded; it is cut off while its neighbour hears everything."""
    monkeypatch.setattr(hub, "STREAM_BUFFER_BYTES_MAX", 20_000)
    heard: list[int] = []
    with Stream(page.url) as stuck, Stream(page.url) as reader:
        stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        number = 0
        while page.dropped_streams == 0:
            assert number < 3_000, "the stuck browser was never dropped"
            page.publish("wave", {"i": number * 1000, "v": [[-12345] * 1000] * 2, "bad": [False, False]})
            heard += [data["i"] for kind, data in reader.until("wave") if kind == "wave"]
            number += 1
        assert heard == [k * 1000 for k in range(number)]
        page.publish("rate", {"hr_bpm": 60})
        assert reader.until("rate")[-1][1]["hr_bpm"] == 60
    assert page.dropped_streams == 1


def test_one_browser_too_many_is_refused(page: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of followers the answer is 503; a place becomes free when one leaves."""
    monkeypatch.setattr(hub, "STREAMS_MAX", 2)
    with Stream(page.url) as first:
        first.until("ping")
        with Stream(page.url) as second:
            second.until("ping")
            answer, _ = get(page.url, "/events")
            assert answer.status == HTTPStatus.SERVICE_UNAVAILABLE
        wait_for(lambda: json.loads(get(page.url, "/healthz")[1])["streams"] == 1)
        with Stream(page.url) as third:
            assert third.status == HTTPStatus.OK


def test_silent_connection_is_closed(page: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a connection and sends no request does not keep it."""
    monkeypatch.setattr(hub, "REQUEST_WAIT_S", 0.05)
    assert _raw(page.url, b"GET / HT", expect_reset=True) == b""


def test_health_turns_when_nothing_is_published(page: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page whose pipeline is silent is not healthy."""
    page.publish("rate", {"hr_bpm": 70})
    wait_for(lambda: get(page.url, "/healthz")[0].status == HTTPStatus.OK)
    monkeypatch.setattr(hub, "QUIET_S_MAX", 0.0)
    wait_for(lambda: get(page.url, "/healthz")[0].status == HTTPStatus.SERVICE_UNAVAILABLE)


def test_port_in_use_says_what_to_do(page: PageServer) -> None:
    """The second page on a port is a ConfigError, not a stack trace; a port out of range too."""
    with pytest.raises(ConfigError, match="another port") as caught:
        PageServer(port=urlsplit(page.url).port or 0)
    assert caught.value.code == "page-port-in-use"
    with pytest.raises(ConfigError) as caught:
        PageServer(port=70_000)
    assert caught.value.code == "page-address"


def test_close_ends_streams_and_frees_the_port() -> None:
    """Followers see the end, the port can be taken again at once, and closing twice or publishing later is harmless."""
    page = PageServer(hello=HELLO)
    with Stream(page.url) as stream:
        stream.until("ping")
        page.close()
        try:
            while stream.next() is not None:
                pass
        except ConnectionResetError:
            pass
    assert not page._thread.is_alive()
    page.close()
    page.publish("rate", {"hr_bpm": 70})
    with PageServer(port=urlsplit(page.url).port or 0) as again:
        assert get(again.url, "/healthz")[0].status == HTTPStatus.OK


def _raw(url: str, request: bytes, *, expect_reset: bool = False) -> bytes:
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(request)
        try:
            return connection.recv(4096)
        except ConnectionResetError:
            assert expect_reset
            return b""
