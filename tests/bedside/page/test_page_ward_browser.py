"""The ward's and a bed's page in a real Chromium: what a nurse sees, live, late and lost, and what a press does."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from page_reader import get
from ward_messages import BEDS, bed, hello, of, score, vitals
from ward_speaking import LIVE, Ward

from edgeward.bedside.page import WardServer

if TYPE_CHECKING:
    from page_chromium import Page

pytestmark = pytest.mark.browser

NAME = BEDS[0]
PATH = f"beds/{quote(NAME)}"


def shown(number: int, slot: str) -> str:
    """JS: what a person sees in a place of a tile: the number or the dashes."""
    return seen(f"#b{number}-{slot} .cell :is(.num, .dashes)")


def seen(selector: str) -> str:
    """JS: the texts that can be seen of what a selector names."""
    visible = f"[...document.querySelectorAll('{selector}')].filter((e) => e.checkVisibility())"
    return f"{visible}.map((e) => e.textContent).join()"


ORDER = "[...document.querySelectorAll('.tile')].map((tile) => tile.id).join()"


def press(tab: Page, key: str, code: int, text: str = "") -> None:
    """A key, down and up."""
    for kind in ("keyDown", "keyUp"):
        tab.send(
            "Input.dispatchKeyEvent",
            {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text},
        )


def tab_to(tab: Page, wanted: str) -> None:
    """Press Tab until the focus is on what the expression names: as somebody without a mouse would."""
    for _ in range(40):
        press(tab, "Tab", 9)
        if tab.js(f"document.activeElement === {wanted}"):
            return
    raise AssertionError(f"the focus never came to {wanted}")


def test_ward_is_live_and_names_what_is_measured(tab: Page, ward: Ward) -> None:
    """Numbers move by themselves, ages run, a missing value is dashes; no error and no breach of the policy."""
    ward.values[BEDS[1]] = {"hr": 71.0, "spo2": None}
    with ward:
        tab.open(ward.server.url)
        tab.wait(LIVE)
        tab.wait(f"{shown(0, 'hr')} === '71' && {shown(0, 'abp')} === '121/66 (84)'")
        tab.wait(f"{shown(1, 'spo2')} === '--' && {shown(1, 'rr')} === '--'")
        ward.values[NAME]["hr"] = 88.0
        tab.wait(f"{shown(0, 'hr')} === '88'")
        assert "alarm" not in tab.js("document.documentElement.outerHTML").lower()
    assert tab.complaints() == []


def test_bed_that_falls_silent_shows_dashes(tab: Page, ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the browser itself: a value past its ceiling is gone although nobody said so."""
    monkeypatch.setattr("edgeward.bedside.vitals.LIVE_S", 3)
    with ward:
        tab.open(ward.server.url)
        tab.wait(f"{shown(0, 'hr')} === '71'")
        ward.values[NAME] = {}
        tab.wait(f"{shown(0, 'hr')} === '--' && {shown(1, 'hr')} === '71'")
        tab.wait("document.querySelector('#b0-hr .when').textContent.includes('s')")
    assert tab.complaints() == []


def test_device_that_falls_silent_makes_the_page_not_live(tab: Page, ward: Ward) -> None:
    """The server alone answering is not enough; when it is heard again, the page goes on without being loaded anew."""
    with ward:
        tab.open(ward.server.url)
        tab.wait(f"{LIVE} && {shown(0, 'hr')} === '71'")
        tab.js("window.sameDocument = true")
    tab.wait("document.querySelector('#veil').textContent.startsWith('NOT LIVE — device silent')")
    assert float(tab.js("getComputedStyle(document.querySelector('.tiles')).opacity")) < 0.6
    assert tab.js("getComputedStyle(document.querySelector('.num')).textDecorationLine") == "line-through"
    with Ward(ward.server):
        tab.wait(f"{LIVE} && document.querySelector('#veil').hidden")
        assert tab.js("window.sameDocument") is True
    assert tab.complaints() == []


def test_lost_connection_is_said_and_mended(tab: Page) -> None:
    """When the server goes nothing looks live, ages go on; when it comes back the page follows by itself."""
    first = WardServer(hello=hello())
    port = urlsplit(first.url).port or 0
    with Ward(first):
        tab.open(first.url)
        tab.wait(f"{LIVE} && {shown(0, 'hr')} === '71'")
        tab.js("window.sameDocument = true")
    first.close()
    tab.wait("document.querySelector('#veil').textContent.startsWith('NOT LIVE — connection lost')")
    with WardServer(port=port, hello=hello()) as again, Ward(again) as ward:
        ward.values[NAME]["hr"] = 93.0
        tab.wait(f"{LIVE} && {shown(0, 'hr')} === '93'", 30)
        assert tab.js("window.sameDocument") is True
    assert [said for said in tab.complaints() if not said.startswith("network:")] == []


def test_score_vanishes_at_the_end_of_its_time(tab: Page, ward: Ward) -> None:
    """On both pages, in the browser's own time: its number is neither seen nor heard any more."""
    live, stuck = seen(".score > b, .score .figure"), threading.Event()
    with ward:
        ward.server.publish("score", score(NAME, 0.31, "act", ttl_ms=3_000))
        tab.open(ward.server.url)
        tab.wait(f"{live} === '31 %'")
        tab.wait("document.querySelector('#b0').dataset.need === 'act'")
        tab.wait(f"{live} === '--'")
        ward.server.publish("score", score(NAME, 0.32, "act", ttl_ms=4_000))
        tab.open(ward.server.url + PATH)
        tab.wait(f"{live} === '32 %'")
        ward.server._loop.call_soon_threadsafe(stuck.wait)  # from here on no patch can help
        tab.wait(f"{live} === '--'")
        stuck.set()


def test_score_vanishes_although_the_page_never_hears_from_the_device(tab: Page, ward: Ward) -> None:
    """The page counts from when it was written, without waiting for its stream."""
    live = seen(".score > b, .score .figure")
    deaf = "window.EventSource = class { addEventListener() {} close() {} }; window.fetch = () => Promise.reject();"
    tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": deaf})
    with ward:
        for path in ("", PATH):
            ward.server.publish("score", score(NAME, 0.31, "act", ttl_ms=4_000))
            while b"31 %" not in get(ward.server.url, f"/{path}")[1]:
                time.sleep(0.02)
            tab.open(ward.server.url + path)
            tab.wait(f"{live} === '--' && document.body.dataset.link !== 'live'")


def test_bed_in_need_moves_to_the_front_and_quiet_ones_keep_their_places(tab: Page, ward: Ward) -> None:
    """Sorted by need at once; the order by bed is a press away and is kept."""
    with ward:
        tab.open(ward.server.url)
        tab.wait(f"{LIVE} && {ORDER} === 'b0,b1,b2'")
        ward.server.publish("score", score(BEDS[1], 0.4, "act"))
        tab.wait(f"{ORDER} === 'b1,b0,b2'")
        ward.raise_alert(BEDS[2])
        tab.wait(f"{ORDER} === 'b2,b1,b0'")
        tab.wait("document.querySelector('#say-now').textContent === 'Bed 3: SpO2 low'")
        assert tab.text("#p-summary [data-need=high] b") == "1"
        assert tab.js("document.querySelector('#b2-spo2 .cell').dataset.priority") == "high"
        tab.js("document.querySelector('#order').click()")
        tab.wait(f"{ORDER} === 'b0,b1,b2'")
        tab.open(ward.server.url)
        tab.wait(f"{ORDER} === 'b0,b1,b2' && document.querySelector('#order').textContent === 'By need'")
        tab.js("localStorage.clear()")
    assert tab.complaints() == []


def test_tiles_do_not_move_under_a_finger(tab: Page, ward: Ward) -> None:
    """While somebody uses the tiles their order waits; then it follows, and the focus stays with its bed."""
    with ward:
        tab.open(ward.server.url)
        tab.wait(f"{LIVE} && {ORDER} === 'b0,b1,b2'")
        tab_to(tab, "document.querySelector('#b1 a')")
        ward.raise_alert(BEDS[2])
        tab.wait("document.querySelector('#b2').dataset.need === 'high'")
        assert tab.js(ORDER) == "b0,b1,b2"
        tab.wait(f"{ORDER} === 'b2,b0,b1'")
        assert tab.js("document.activeElement === document.querySelector('#b1 a')")


def test_alert_is_acknowledged_from_the_keyboard(tab: Page, ward: Ward) -> None:
    """Tab to the button, Enter: the device is told, and only its answer changes the alert; the focus is not lost."""
    button = "document.querySelector('#p-alerts [data-key=a] button')"
    ward.raise_alert(NAME)
    ward.raise_alert(NAME, "b", "low", text="Respiration fast", value=31)
    with ward:
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && {button}")
        tab_to(tab, button)
        ward.alerts[NAME, "a"] |= {"value": 84}
        tab.wait("document.querySelector('#p-alerts').textContent.includes('84 %')")
        assert tab.js(f"document.activeElement === {button}"), "a new value must not take the button away"
        press(tab, "Enter", 13, "\r")
        tab.wait("document.querySelector('#p-alerts [data-key=a]').dataset.kind === 'seen'")
        assert tab.text("#p-alerts [data-key=a] .done") == "✓ seen"
        assert tab.js("document.querySelector('#p-alerts [data-key=b]').dataset.kind") == "alert"
        assert tab.js("document.activeElement.id") == "alerts-title", "never on the next alert's button"
        assert tab.js("document.querySelector('#told').hidden") is True
    assert tab.complaints() == []


def test_latched_alert_stays_until_somebody_has_seen_it(tab: Page, ward: Ward) -> None:
    """Over, but not seen: it says so, and goes once acknowledged."""
    ward.raise_alert(NAME, active=False, latched=True)
    with ward:
        tab.open(ward.server.url)
        tab.wait(f"{LIVE} && document.querySelector('#b0').dataset.need === 'latched-high'")
        assert "over, not seen" in tab.text("#b0-claim")
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('#p-alerts [data-key=a]').dataset.kind === 'latched'")
        tab.js("document.querySelector('#p-alerts [data-key=a] button').click()")
        tab.wait("document.querySelector('#p-alerts [data-key=a]').dataset.kind === 'ended'")


def test_suspension_is_confirmed_counted_down_and_ended(tab: Page, ward: Ward) -> None:
    """A question first; then the time left is shown on both pages, and the alert calls nobody; then it is ended."""
    ward.raise_alert(NAME)
    with ward:
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('a.suspend')")
        tab.js("document.querySelector('a.suspend').click()")
        tab.wait("document.querySelector('#suspend').open")
        press(tab, "Escape", 27)
        tab.wait("!document.querySelector('#suspend').open")
        assert ward.beds[NAME] == {}
        tab.js("document.querySelector('a.suspend').click()")
        tab.js("document.querySelector('#suspend input[value=\"5\"]').click()")
        tab.js("document.querySelector('#suspend .go').click()")
        tab.wait("document.querySelector('#p-suspension').textContent.includes('SUSPENDED, 4:5')")
        tab.wait("document.querySelector('#p-alerts [data-key=a]').dataset.kind === 'suspended'")
        tab.open(ward.server.url)
        tab.wait("document.querySelector('#b0').dataset.need === 'suspended'")
        assert "ALERTS SUSPENDED" in tab.text("#b0-claim")
        tab.wait("document.querySelector('#b0-claim').textContent.includes(':')")
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('#p-suspension button')")
        tab.js("document.querySelector('#p-suspension button').click()")
        tab.wait("document.querySelector('a.suspend')")
        tab.wait("document.querySelector('#p-alerts [data-key=a]').dataset.kind === 'alert'")
    assert tab.complaints() == []


def test_press_that_comes_to_nothing_is_told(tab: Page, ward: Ward) -> None:
    """When the device takes it but does not do it, when it refuses, and when it is not there at all."""
    ward.raise_alert(NAME)
    ward.obeys = False
    click = "document.querySelector('#p-alerts [data-key=a] button').click()"
    told = "document.querySelector('#told')"
    with ward:
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('#p-alerts [data-key=a] button')")
        tab.js(click)
        tab.wait(f"{told}.textContent.startsWith('Not confirmed')")
        tab.js("document.querySelector('#p-alerts [data-key=a] [name=token]').value = 'old'")
        tab.js(click)
        tab.wait(f"{told}.textContent.includes('load it again')")
        ward.server.close()
        tab.wait("document.body.dataset.link === 'lost'")
        tab.js(click)
        tab.wait(f"{told}.textContent.startsWith('Not sent')")


def test_next_patient_takes_everything_off_the_bed_s_page(tab: Page, ward: Ward) -> None:
    """Values, alerts, score and trend of the one before are gone at once."""
    ward.raise_alert(NAME)
    with ward:
        ward.server.publish("score", score(NAME))
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('canvas.trend[data-kinds=hr]').dataset.points > 0")
        ward.alerts.clear()
        ward.values[NAME] = {}
        ward.beds[NAME] = {"stay": 77}
        tab.wait("document.querySelector('#page').dataset.stay === '77'")
        tab.wait("document.querySelector('canvas.trend[data-kinds=hr]').dataset.points === '0'")
        assert tab.text("#p-alerts") == "none now"
        assert tab.text("#v-hr .num") == ""
        assert tab.js("document.querySelector('.score')") is None


INK = """(selector) => {
  const canvas = document.querySelector(selector), { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  const colour = getComputedStyle(canvas).getPropertyValue('--curve').trim();
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)), columns = [];
  for (let x = 0; x < width; x++) for (let y = 0; y < height; y++) {
    const k = (y * width + x) * 4;
    const far = Math.abs(data[k] - r) + Math.abs(data[k + 1] - g) + Math.abs(data[k + 2] - b);
    if (far < 24 && data[k + 3] > 200) { columns.push(x); break; }
  }
  return columns;
}"""


def test_trend_is_drawn_with_its_gaps(tab: Page, ward: Ward) -> None:
    """In the canvas's own pixels: a curve to the right edge, and nothing where nothing was measured."""
    for minute in range(59, 0, -1):
        if not 20 <= minute < 40:
            ward.server.publish("bed", bed(NAME))
            ward.server.publish("vitals", vitals(NAME, age_ms=minute * 60_000, spo2=97 - minute % 3))
    with ward:
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('[data-hours=\"1\"]')")
        tab.js("document.querySelector('[data-hours=\"1\"]').click()")
        tab.wait("document.querySelector('canvas.trend[data-kinds=spo2]').ariaLabel.includes('last 1 h')")
        columns = tab.js(f"({INK})('canvas.trend[data-kinds=spo2]')")
        width = tab.js("document.querySelector('canvas.trend[data-kinds=spo2]').width") - 44
        label = tab.js("document.querySelector('canvas.trend[data-kinds=spo2]').getAttribute('aria-label')")
        tab.js("localStorage.clear()")
    gap = max(after - before for before, after in pairwise(columns))
    assert abs(gap - width * 21 / 60) < width / 20
    assert max(columns) > width * 0.95
    assert label.endswith("last 1 h: from 95 to 97")
    assert tab.complaints() == []


def test_forecast_and_history_are_drawn(tab: Page, ward: Ward) -> None:
    """The fan with its words; the score's history from its minutes."""
    fan = {"minutes": [20, 40, 60], "low": [60, 55, 48], "mid": [64, 61, 57], "high": [69, 68, 66]}
    with ward:
        ward.server.publish("score", score(NAME, 0.2))
        ward.server.publish("forecast", of(NAME, vital="abp_mean", **fan, probability=0.4, age_ms=0, ttl_ms=60_000))
        tab.open(ward.server.url + PATH)
        tab.wait(f"{LIVE} && document.querySelector('canvas.fan')")
        assert "57 (48 to 66) mmHg" in tab.text("#p-forecasts")
        assert "40 % risk" in tab.text("#p-forecasts")
        tab.wait("Number(document.querySelector('canvas.history').dataset.points) === 1")
        inked = "[...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].some((v) => v > 0)"
        assert tab.js(f"((canvas) => {inked})(document.querySelector('canvas.fan'))")
    assert tab.complaints() == []


def test_without_scripts_alerts_are_seen_and_acknowledged(tab: Page, ward: Ward) -> None:
    """Plain forms do: the page comes back with the alert seen; the suspension asks on a page of its own."""
    ward.raise_alert(NAME)
    tab.send("Emulation.setScriptExecutionDisabled", {"value": True})
    with ward:
        tab.open(ward.server.url + PATH)
        tab.wait("document.querySelector('#p-alerts [data-key=a]')?.textContent.includes('SpO2 low')")
        tab.wait("document.querySelector('canvas.trend').checkVisibility() === false")
        tab.js("document.querySelector('#p-alerts [data-key=a] form').requestSubmit()")
        tab.wait("document.querySelector('#p-alerts [data-key=a]')?.dataset.kind === 'seen'")
        tab.js("document.querySelector('a.suspend').click()")
        tab.wait("location.pathname.endsWith('/suspend') && document.querySelector('form.confirm')")
        tab.js("document.querySelector('form.confirm').requestSubmit()")
        tab.wait("document.querySelector('#p-suspension')?.textContent.includes('SUSPENDED, 1:5')")
