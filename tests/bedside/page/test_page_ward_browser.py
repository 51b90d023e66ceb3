"""The ward's and a bed's page in a real Chromium: what a nurse sees, live, late and lost, and what a press does."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from page_chromium import Chromium, Page, find_chromium
from ward_messages import BEDS, alert, bed, hello, mode, news2, of, score, vitals

from edgeward.bedside.page import WardServer
from edgeward.testing.ward import ScriptedWard

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.browser

NAME = BEDS[0]
PATH = f"beds/{quote(NAME)}"
LIVE = "document.body.dataset.link === 'live'"
VALUES = {"hr": 71.0, "spo2": 97.0, "rr": 15.0, "abp_sys": 121.0, "abp_dia": 66.0, "abp_mean": 84.0, "temp": 36.8}


class Ward:
    """A small ward that speaks in real time until it is stopped; ``say`` changes what a bed says from then on."""

    def __init__(self, server: WardServer) -> None:
        self.server = server
        self.beds: dict[str, dict[str, Any]] = {name: {} for name in BEDS}
        self.values: dict[str, dict[str, float | None]] = {name: dict(VALUES) for name in BEDS}
        self.alerts: dict[tuple[str, str], dict[str, Any]] = {}
        self.obeys = True
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ward:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def raise_alert(self, name: str, key: str = "a", priority: str = "high", **fields: Any) -> None:
        """An alert, told now and in every round."""
        self.alerts[name, key] = alert(name, key, priority, **fields)

    def act(self, action: str, name: str, stay: int, key: str, minutes: int) -> bool:
        """What the device does with what people do; it may be deaf."""
        if self.obeys and action == "acknowledge":
            self.alerts[name, key] |= {"acknowledged": True, "latched": False}
        if self.obeys and action == "suspend":
            self.beds[name] = {**self.beds[name], "suspended_ms_left": minutes * 60_000}
        return True

    def _run(self) -> None:
        while True:
            for name in BEDS:
                self.server.publish("bed", bed(name, **self.beds[name]))
                self.server.publish("vitals", vitals(name, **self.values[name]))
                self.server.publish("mode", mode(name))
            for data in list(self.alerts.values()):
                self.server.publish("alert", dict(data))
            if self._end.wait(0.3):
                return


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("NO CHROMIUM: the ward's pages were not looked at; apt-get install chromium")
    with Chromium(binary, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(chromium: Chromium) -> Iterator[Page]:
    page = chromium.page()
    page.size(1280, 800)
    yield page
    page.close()


@pytest.fixture
def ward() -> Iterator[Ward]:
    made: list[Ward] = []
    with WardServer(hello=hello(), act=lambda *deed: made[0].act(*deed)) as server:
        made.append(Ward(server))
        yield made[0]


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
    monkeypatch.setattr("edgeward.bedside.page.vitals.CONTINUOUS_MS_MAX", 2_500)
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
        tab.wait("document.querySelector('#p-suspension button')")
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
        ward.server.publish("forecast", of(NAME, kind="abp_mean", **fan, probability=0.4, age_ms=0, ttl_ms=60_000))
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


LONG = tuple(f"Überwachungsbett Intermediate-Care-Station {number} Fensterseite" for number in range(6))
CUT = "[...document.querySelectorAll('.tile h2')].filter((h) => h.scrollHeight > 1.3 * h.clientHeight).length"
PLACES = """[...document.querySelectorAll('.slot')].map((slot) => {
  const r = slot.getBoundingClientRect();
  return [r.left, r.top, r.width, r.height].map(Math.round);
})"""
OVER = """[...document.querySelectorAll('.tile-in, .cells, .claim, .board > section, .top, .row, .note')]
  .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 2).map((box) => box.className)"""


@pytest.mark.parametrize(
    ("width", "height", "beds"),
    [
        (1920, 1080, 12),
        (1920, 1080, 16),
        (1920, 1080, 64),
        (1080, 1920, 12),
        (1280, 800, 12),
        (390, 844, 12),
        (3840, 2160, 64),
    ],
)
def test_ward_fits_every_screen(tab: Page, width: int, height: int, beds: int) -> None:
    """Nothing runs over its edge; a wall screen shows every bed without scrolling; nothing shifts while it lives."""
    script = ScriptedWard("busy", beds)
    tab.size(width, height)
    with WardServer(hello=script.hello()) as server:
        for kind, data in script.step(0):
            server.publish(kind, data)
        time.sleep(0.3)
        tab.open(server.url)
        tab.wait(f"{LIVE} && document.querySelectorAll('.tile').length === {beds}")
        before = tab.js(PLACES)
        for kind, data in script.step(20):
            server.publish(kind, data)
        tab.wait("[...document.querySelectorAll('.cell .num')].some((num) => num.textContent)")
        time.sleep(0.6)
        assert tab.js(PLACES) == before
        assert tab.js("document.documentElement.scrollWidth <= innerWidth")
        if width >= 1920 or height >= 1920:
            assert tab.js("document.documentElement.scrollHeight <= innerHeight")
        assert tab.js(OVER) == []
    assert tab.complaints() == []


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 800), (390, 844)])
def test_long_names_break_nothing(tab: Page, width: int, height: int) -> None:
    """German-length names of ward and beds: both ends can be read on tile and page, nothing runs over its edge."""
    script = ScriptedWard("busy", LONG, ward="Interdisziplinäre Intensivüberwachungsstation Süd")
    tab.size(width, height)
    with WardServer(hello=script.hello(), act=script.act) as server:
        for kind, data in script.step(0):
            server.publish(kind, data)
        for path in ("", f"beds/{quote(LONG[3])}"):
            tab.open(server.url + path)
            tab.wait(LIVE)
            time.sleep(0.5)
            assert tab.js("document.documentElement.scrollWidth <= innerWidth")
            assert tab.js(OVER) == []
            assert tab.js(CUT) == 0
    assert tab.complaints() == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_colours_can_be_told_and_are_never_alone(tab: Page, ward: Ward, scheme: str) -> None:
    """Text stands out from its ground by 4.5 to 1 (WCAG 2.2, 1.4.3), and every coloured claim has its mark."""
    tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    ward.raise_alert(BEDS[0])
    ward.raise_alert(BEDS[1], priority="medium")
    ward.raise_alert(BEDS[2], priority="low")
    with ward:
        ward.server.publish("score", score(NAME, 0.3, "act"))
        ward.server.publish("news2", news2(NAME, 9, "high"))
        for path in ("", PATH):
            tab.open(ward.server.url + path)
            tab.wait(f"{LIVE} && document.querySelector('[data-kind=alert]')")
            time.sleep(0.5)
            assert tab.js(f"({CONTRAST})()") == []
            assert set(tab.js(MARKED)) <= {"!!!", "!!", "!"}
            assert tab.js(f"{MARKED}.length === document.querySelectorAll('[data-kind=alert]').length")
            assert tab.js("document.getAnimations().length") == 0


MARKED = "[...document.querySelectorAll('[data-kind=alert] > .mark')].map((e) => e.textContent)"
CONTRAST = """() => {
  const parse = (css) => (css.match(/[\\d.]+/g) ?? []).map(Number);
  const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const css = getComputedStyle(e).backgroundColor, scale = css.startsWith('color(') ? 255 : 1;
    const [r, g, b, a = 1] = parse(css).map((v, k) => (k < 3 ? v * scale : v));
    if (a > 0.99) return [r, g, b];
  } return [255, 255, 255]; };
  const found = [];
  const texts = ['.num, .claim .text, .note .text, .label, .level, .task, .news2, .rung, .why, .way, h2, .summary li',
    '.mode-title, button'].join();
  for (const e of document.querySelectorAll(texts)) {
    if (!e.checkVisibility() || !e.textContent.trim()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${e.className} ${e.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""
