"""The ward's server: its pages without scripts, its streams, and the two things that may be done from a page."""

from __future__ import annotations

import json
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import Stream, get, post
from ward_messages import BEDS, STAY, alert, bed, hello, mode, news2, score, vitals

from edgeward.bedside.page import WardServer
from edgeward.bedside.page.pieces import Cell
from edgeward.bedside.page.view import View, patch
from edgeward.bedside.page.ward_screen import WardScreen
from edgeward.kernel.errors import ConfigError, InputError
from edgeward.testing.ward import ScriptedWard

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD = 'Bett <4> "Fenster" & Tür/2 {x} $y'
NAME = BEDS[0]
PATH = f"/beds/{quote(NAME)}"
DONE: list[tuple[str, str, int, str, int]] = []


def act(*deed: Any) -> bool | None:
    """What the rim would do: one alert is refused in words, one silently, one ends in a fault."""
    DONE.append(deed)
    if deed[3] == "refused":
        raise InputError("stay-over", "another patient lies there by now")
    if deed[3] == "broken":
        raise RuntimeError
    return False if deed[3] == "unable" else None


@pytest.fixture
def ward() -> Iterator[WardServer]:
    DONE.clear()
    with WardServer(hello=hello(), act=act) as server:
        for name in BEDS:
            server.publish("bed", bed(name))
        wait_for(lambda: "no word from the device" not in page(server))
        yield server


def wait_for(true: Any, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def page(server: WardServer, path: str = "/") -> str:
    return get(server.url, path)[1].decode()


def tile(server: WardServer, number: int = 0) -> str:
    """The HTML of one tile."""
    found = re.search(rf'<li class="tile" id="b{number}".*?</li>', page(server))
    assert found
    return found[0]


def order(server: WardServer) -> list[str]:
    return re.findall(r'<li class="tile" id="(b\d+)"', page(server))


def token(server: WardServer) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page(server, PATH))
    assert found
    return found[1]


# --- pages


def test_ward_page_says_the_essentials_without_scripts(ward: WardServer) -> None:
    """Values with units, the alert with its mark, NEWS2, score and mode stand in the HTML; most in need first."""
    ward.publish("vitals", vitals(BEDS[2], hr=118, spo2=86, rr=27, abp_sys=94, abp_dia=48, abp_mean=63, temp=38.9))
    ward.publish("alert", alert(BEDS[2]))
    ward.publish("news2", news2(BEDS[2], 9, "high", complete=False, missing=["consciousness"]))
    ward.publish("score", score(BEDS[2], 0.31, "act"))
    ward.publish("mode", mode(BEDS[2]))
    wait_for(lambda: "AI local" in tile(ward, 2) and order(ward)[0] == "b2")
    html = tile(ward, 2)
    for said in (
        "118",
        "86",
        "94/48 <i>(63)</i>",
        "38.9",
        "/min",
        "mmHg",
        "°C",
        "!!!",
        "SpO2 low",
        "≥9",
        "31 %",
        "ACT",
    ):
        assert said in html, said
    assert "AI local" in html
    assert 'data-need="high"' in html
    quiet = tile(ward, 0)
    assert quiet.count(">--<") >= 5
    assert '<span class="num"></span>' in quiet
    text = page(ward)
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in text
    assert "style=" not in text
    assert "alarm" not in text.lower()


def test_bed_page_says_the_essentials_without_scripts(ward: WardServer) -> None:
    """Alert with value and limit, driver in words, NEWS2 by item, mode with its reason, bundle; forms to act."""
    ward.publish("vitals", vitals(NAME, hr=118, lactate=4.2))
    ward.publish("alert", alert(NAME))
    ward.publish("score", score(NAME))
    ward.publish("news2", news2(NAME, 3, "low-medium"))
    ward.publish("mode", mode(NAME, "LOCAL_PREVIOUS", "golden_failed"))
    wait_for(lambda: "previous bundle" in page(ward, PATH))
    html = page(ward, PATH)
    for said in ("SpO2 low: 86 % (limit 90)", "Respiration</span>", "27 /min", "raises odds ×2", "3fa94c1e", "Lactate"):
        assert said in html, said
    assert "AI local — previous bundle — the AI failed its self-test" in html
    assert f'action="{PATH}/act"' in html
    assert f'href="{PATH}/suspend"' in html
    assert "style=" not in html


def test_names_and_texts_are_escaped_everywhere() -> None:
    """A bed's name may hold anything: it is written as text, and its page is found by its address."""
    with WardServer(hello=hello(ODD, ward='<em>"Ward"</em>'), act=act) as server:
        server.publish("bed", bed(ODD))
        server.publish("alert", alert(ODD, key='"><i>', text="<script>x</script>"))
        server.publish("score", score(ODD, rung='"<u>', version="<s>"))
        server.publish("mode", mode(ODD, '"<u>', "<s>"))
        wait_for(lambda: "&lt;u&gt;" in page(server))
        path = re.search(r'<h2[^>]*><a href="(/beds/[^"/]+)"', page(server))
        assert path
        for html in (page(server), page(server, path[1]), page(server, f"{path[1]}/suspend")):
            for raw in ("<script>x", "<4>", '"Fenster"', "<em>", '"><i>', "<u>", "<s>"):
                assert raw not in html, raw
        assert "Bett &lt;4&gt;" in page(server, path[1])
        with Stream(server.url, f"{path[1]}/events") as stream:
            assert "&lt;script&gt;" in stream.until("patch")[-1][1]["html"]["p-alerts"]


def test_pages_are_strict_and_only_those_with_forms_may_send_them(ward: WardServer) -> None:
    """No inline code, no foreign frames; form-action 'self' stands on pages with forms alone."""
    for path, forms in [("/", False), (PATH, True), (f"{PATH}/suspend", True), ("/events/no", False)]:
        answer, _ = get(ward.url, path)
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert ("form-action 'self'" in policy) is forms, path
        assert answer.headers["Referrer-Policy"] == ("same-origin" if forms else "no-referrer")
    with WardServer(hello=hello()) as read_only:
        assert "form-action 'none'" in get(read_only.url, PATH)[0].headers["Content-Security-Policy"]


def test_what_is_not_there_is_not_found(ward: WardServer) -> None:
    """Unknown beds, unknown pages of a bed, and files outside the list."""
    for path in ("/beds/Bed%209", "/beds/", "/beds", f"{PATH}/nothing", f"{PATH}/events/x", "/static/ward.html"):
        assert get(ward.url, path)[0].status == HTTPStatus.NOT_FOUND, path
    for name in (
        "ward.js",
        "bed.js",
        "patch.js",
        "curves.js",
        "link.js",
        "theme.js",
        "ward.css",
        "bed.css",
        "vitals.css",
    ):
        assert get(ward.url, f"/static/{name}")[0].status == HTTPStatus.OK, name


def test_people_may_come_to_a_page_from_elsewhere_and_sites_may_not_read_it(ward: WardServer) -> None:
    """A link from another page (the ECG page has another port) works; another site's scripts get nothing."""
    assert get(ward.url, PATH, Sec_Fetch_Site="same-site")[0].status == HTTPStatus.OK
    for path in ("/events", f"{PATH}/events", f"{PATH}/trend.json", f"{PATH}/suspend"):
        assert get(ward.url, path, Sec_Fetch_Site="same-site")[0].status == HTTPStatus.FORBIDDEN, path


def test_trend_is_given_for_the_offered_hours_only(ward: WardServer) -> None:
    """With the bed's stay and limits; other hours are refused."""
    ward.publish("bed", bed(NAME, limits={"spo2": [90, None], "nonsense": [1, 2]}))
    ward.publish("vitals", vitals(NAME, spo2=93))
    ward.publish("score", score(NAME, 0.31))
    wait_for(lambda: "31 %" in page(ward, PATH))
    told = json.loads(get(ward.url, f"{PATH}/trend.json?hours=4")[1])
    assert (told["stay"], told["hours"], told["limits"]) == (STAY[NAME], 4, {"spo2": [90, None]})
    assert told["vitals"]["spo2"]["mid"][-1] == 93
    assert told["scores"]["sepsis"]["mid"][-1] == 0.31
    for odd in ("hours=1000000", "a=1&b=2&c=3&d=4&e=5&f=6", "hours=", "%"):
        expected = HTTPStatus.OK if odd == "hours=" else HTTPStatus.BAD_REQUEST
        assert get(ward.url, f"{PATH}/trend.json?{odd}")[0].status == expected, odd


# --- streams


def test_follower_gets_the_whole_view_and_then_only_what_changed(ward: WardServer) -> None:
    """A new number is put as the number and its instant; the tile is not sent again."""
    ward.publish("vitals", vitals(NAME, hr=71))
    wait_for(lambda: ">71<" in tile(ward))
    with Stream(ward.url) as stream:
        first = stream.until("ping")
        assert [kind for kind, _ in first] == ["sync", "patch", "ping"]
        whole = first[1][1]
        assert {"b0-hr", "b0-claim", "b2-score", "p-summary"} <= whole["html"].keys()
        assert whole["order"] == ["b0", "b1", "b2"]
        ward.publish("vitals", vitals(NAME, hr=72))
        patches = [data for kind, data in stream.until("patch") if kind == "patch"]
        while "put" not in patches[-1]:
            patches += [data for kind, data in stream.until("patch") if kind == "patch"]
        assert patches[-1]["put"]["b0-hr"][0] == "72"
        assert list(patches[-1]["put"]) == ["b0-hr"]
        assert not any("b0-hr" in data.get("html", {}) for data in patches)


def test_bed_s_followers_hear_of_their_bed_alone(ward: WardServer) -> None:
    """What happens in the next bed costs them nothing."""
    with Stream(ward.url, f"{PATH}/events") as stream:
        stream.until("ping")
        ward.publish("alert", alert(BEDS[1]))
        ward.publish("alert", alert(NAME, text="Here"))
        heard = [data for kind, data in stream.until("patch") if kind == "patch"]
        assert "Here" in heard[-1]["html"]["p-alerts"]
        assert [said["text"] for said in heard[-1]["say"]] == ["Bed 1: Here"]
        assert "SpO2 low" not in json.dumps(heard)


def test_alert_is_said_once_when_it_is_raised(ward: WardServer) -> None:
    """For people who hear the page: a raise is spoken, a repeat or an acknowledgement is not, nor a suspended bed."""
    ward.publish("bed", bed(BEDS[1], suspended_ms_left=60_000))
    with Stream(ward.url) as stream:
        stream.until("ping")
        ward.publish("alert", alert(NAME))
        ward.publish("alert", alert(NAME, acknowledged=True))
        ward.publish("alert", alert(BEDS[1]))
        time.sleep(0.4)
        ward.publish("alert", alert(NAME, acknowledged=True))
        ward.publish("alert", alert(BEDS[2], "z", "low", text="Last"))
        said: list[str] = []
        while not said or "Last" not in said[-1]:
            said += [one["text"] for _, data in stream.until("patch") for one in data.get("say", [])]
    assert said == ["Bed 1: SpO2 low", "Bed 3: Last"]


def test_other_beds_make_the_pages_load_anew(ward: WardServer) -> None:
    """A page laid out for other beds is not patched but read again; its look changes."""
    with Stream(ward.url) as stream:
        look = stream.until("sync")[-1][1]["look"]
        stream.until("ping")
        ward.publish("hello", hello("Bed 1", "Bed 2", "Bed 3", "Bed 4"))
        stream.until("reload")
    with Stream(ward.url) as again:
        assert again.until("sync")[-1][1]["look"] != look
    assert "Bed 4" in page(ward)


def test_joiner_and_follower_see_the_same(ward: WardServer) -> None:
    """Someone who joins a followed stream later ends up with the same parts as who was there all along."""
    script = ScriptedWard("busy", BEDS)
    held = View()
    with Stream(ward.url) as early:
        for second in range(4):
            for kind, data in script.step(second):
                ward.publish(kind, {**data, "stay": STAY[data["bed"]]} if data.get("stay") else data)
            for _, data in early.until("ping"):
                _put(held, data)
        with Stream(ward.url) as late:
            joined = View()
            for kind, data in late.until("patch"):
                if kind == "patch":
                    _put(joined, data)
            for _, data in early.until("ping", 2):
                _put(held, data)
            for _, data in late.until("ping", 3):
                _put(joined, data)
    assert joined.html == held.html
    assert joined.attributes == held.attributes


def _put(view: View, data: dict[str, Any]) -> None:
    """Apply a patch as a browser does; instants are left out, for both were joined at different ones."""
    view.html.update(data.get("html", {}))
    view.attributes.update(data.get("attr", {}))
    for name, (text, _) in data.get("put", {}).items():
        view.html[name] = re.sub(r'(?<=class="num">).*?(?=</span>)', text, view.html[name])
    for name, html in view.html.items():
        view.html[name] = re.sub(r'data-at="\d*"', 'data-at=""', html)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.tuples(st.sampled_from("xy"), st.integers(0, 3))), max_size=12)
)
def test_patches_bring_any_view_to_the_next(steps: list[dict[str, tuple[str, int]]]) -> None:
    """However a view changes, applying each patch to what is shown gives what should be shown."""
    base, seen = View(), {}
    for step in steps:
        after = View(cells={name: Cell(frame + "\x01@\x02", str(n), n) for name, (frame, n) in step.items()})
        found = patch(base, after)
        base.take(after)
        seen.update(found.get("html", {}))
        for name, (text, at_ms) in found.get("put", {}).items():
            seen[name] = f"{seen[name][0]}{text}@{at_ms}"
        assert seen == {name: cell.html() for name, cell in base.cells.items()}


def test_page_that_nobody_follows_costs_no_rendering() -> None:
    """Without followers a screen keeps no view and makes no news."""
    screen = WardScreen(hello(), 0.0, None, (2,))
    screen.apply("bed", bed(NAME), 0.0)
    screen.apply("alert", alert(NAME), 1.0)
    assert list(screen.news((), 5_000.0)) == []
    assert screen._views == {}


# --- what people do


def fields(server: WardServer, **changed: str) -> list[tuple[str, str]]:
    usual = {"token": token(server), "stay": str(STAY[NAME]), "action": "acknowledge", "minutes": "0"}
    alerts = [("alert", name) for name in changed.pop("alerts", "a").split(",")]
    return [*{**usual, **changed}.items(), *alerts]


def send(
    server: WardServer, path: str = PATH, headers: dict[str, str] | None = None, **changed: str
) -> tuple[int, dict[str, Any]]:
    answer, body = post(server.url, f"{path}/act", fields(server, **changed), **(headers or {}))
    return answer.status, json.loads(body)


def test_acknowledgement_is_handed_on_alert_by_alert(ward: WardServer) -> None:
    """Each alert that the person saw, and none besides."""
    ward.publish("alert", alert(NAME, "a"))
    ward.publish("alert", alert(NAME, "b", "low"))
    ward.publish("alert", alert(NAME, "c", "low", active=False))
    wait_for(lambda: "Acknowledge all 2" in page(ward, PATH))
    assert send(ward, alerts="a,b,c,d") == (HTTPStatus.OK, {"done": True, "why": ""})
    assert [("acknowledge", NAME, STAY[NAME], "a", 0), ("acknowledge", NAME, STAY[NAME], "b", 0)] == DONE


def test_suspension_is_handed_on_with_its_minutes(ward: WardServer) -> None:
    """For an offered time, and 0 to end it."""
    wait_for(lambda: f"{PATH}/suspend" in page(ward, PATH))
    assert send(ward, action="suspend", minutes="5")[0] == HTTPStatus.OK
    assert send(ward, action="suspend", minutes="0")[0] == HTTPStatus.OK
    assert send(ward, action="suspend", minutes="7")[0] == HTTPStatus.BAD_REQUEST
    assert [("suspend", NAME, STAY[NAME], "", 5), ("suspend", NAME, STAY[NAME], "", 0)] == DONE


def test_deed_for_another_patient_or_a_past_alert_is_refused(ward: WardServer) -> None:
    """Who pressed a button saw another patient, or an alert that is over: nothing is done, and it is said."""
    wait_for(lambda: "token" in page(ward, PATH))
    assert send(ward, alerts="a")[0] == HTTPStatus.CONFLICT
    ward.publish("alert", alert(NAME))
    wait_for(lambda: "SpO2 low" in page(ward, PATH))
    assert send(ward, stay="77")[0] == HTTPStatus.CONFLICT
    assert DONE == []


@pytest.mark.parametrize(
    ("name", "words"), [("refused", "another patient"), ("unable", "cannot take"), ("broken", "could not")]
)
def test_failure_of_a_deed_is_told(ward: WardServer, name: str, words: str) -> None:
    """In words, whatever went wrong behind the page; the page lives on."""
    ward.publish("alert", alert(NAME, name))
    wait_for(lambda: "SpO2 low" in page(ward, PATH))
    status, told = send(ward, alerts=name)
    assert status >= HTTPStatus.INTERNAL_SERVER_ERROR
    assert told["done"] is False
    assert words in told["why"]
    assert get(ward.url, "/")[0].status == HTTPStatus.OK


def test_foreign_or_bare_request_changes_nothing(ward: WardServer) -> None:
    """Another origin, a wrong token, a GET, a body without length, a body too long."""
    ward.publish("alert", alert(NAME))
    wait_for(lambda: "SpO2 low" in page(ward, PATH))
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        answer, _ = post(ward.url, f"{PATH}/act", fields(ward), **headers)
        assert answer.status == HTTPStatus.FORBIDDEN
    assert send(ward, token="guess")[0] == HTTPStatus.FORBIDDEN
    answer, _ = get(ward.url, f"{PATH}/act")
    assert (answer.status, answer.headers["Allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "POST")
    assert post(ward.url, f"{PATH}/act", [("x", "y" * 5000)])[0].status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert post(ward.url, "/", fields(ward))[0].status == HTTPStatus.METHOD_NOT_ALLOWED
    assert DONE == []


def test_ward_without_permission_has_no_buttons_and_takes_no_form() -> None:
    """Nothing to press, no token to find, and POST is no method."""
    with WardServer(hello=hello()) as server:
        server.publish("bed", bed(NAME))
        server.publish("alert", alert(NAME))
        wait_for(lambda: "SpO2 low" in page(server, PATH))
        html = page(server, PATH)
        assert "<form" not in html
        assert "token" not in html
        assert get(server.url, f"{PATH}/suspend")[0].status == HTTPStatus.NOT_FOUND
        answer, _ = post(server.url, f"{PATH}/act", [("stay", "11")])
        assert (answer.status, answer.headers["Allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, "GET")


def test_form_without_scripts_comes_back_to_the_bed(ward: WardServer) -> None:
    """See Other to the bed's page when done; a page that says why when not."""
    ward.publish("alert", alert(NAME))
    wait_for(lambda: "SpO2 low" in page(ward, PATH))
    answer, _ = post(ward.url, f"{PATH}/act", fields(ward), Accept="text/html")
    assert (answer.status, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, PATH)
    answer, body = post(ward.url, f"{PATH}/act", fields(ward, stay="77"), Accept="text/html")
    assert answer.status == HTTPStatus.CONFLICT
    assert b"Not done: another patient" in body


def test_suspension_for_no_or_too_long_a_time_is_a_setting_that_is_wrong() -> None:
    """The site's choices must lie within 1 to 60 minutes."""
    for minutes in ((), (0,), (2, 90)):
        with pytest.raises(ConfigError) as caught:
            WardServer(hello=hello(), suspend_minutes=minutes)
        assert caught.value.code == "page-suspend-minutes"


def test_datum_that_cannot_be_shown_harms_nothing(ward: WardServer) -> None:
    """It is counted, and what follows is shown."""
    for data in (vitals("Bed 9", hr=1), vitals(NAME, hr=float("nan")), {"bed": NAME}, alert(NAME, text="x" * 300_000)):
        ward.publish("vitals" if "values" in data else "alert", data)
    ward.publish("vitals", vitals(NAME, hr=73))
    wait_for(lambda: ">73<" in tile(ward))
    assert ward.rejected == 4
