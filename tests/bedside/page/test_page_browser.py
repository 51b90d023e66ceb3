"""The page in a real Chromium: what a person before it sees, live, late and lost."""

from __future__ import annotations

import math
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from edgeward.bedside.page import PageServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from page_chromium import Page

pytestmark = pytest.mark.browser

HELLO = {
    "site": "Ward 7",
    "bed": "Bed 4",
    "leads": ["II", "V1"],
    "rate_hz": 250,
    "budget_ms": 4.0,
    "simulated": True,
    "bundle": {"name": "ecg-beats", "version": "1.2.0", "hash8": "3fa94c1e"},
}
BLOCK = 25


class Feeder:
    """Publishes in real time: a spike of 1 mV each second in lead II, and a heart rate; until it is stopped."""

    def __init__(self, page: PageServer, *, bad: tuple[bool, bool] = (False, False)) -> None:
        self._page, self._bad, self._end = page, bad, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        for block in range(100_000):
            first = block * BLOCK
            spikes = [1000 if k % 250 == 100 else 0 for k in range(first, first + BLOCK)]
            self._page.publish("wave", {"i": first, "v": [spikes, [0] * BLOCK], "bad": list(self._bad)})
            if block % 10 == 0:
                self._page.publish("rate", {"hr_bpm": 60.4, "age_ms": 0})
            due_s = started + first / 250 - 4.0  # the first four seconds come at once
            if self._end.wait(max(0.0, due_s - time.monotonic())):
                return


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(hello=HELLO) as page:
        yield page


def note(key: str, text: str, priority: str, ago_ms: int = 0, *, active: bool = True) -> dict[str, Any]:
    return {"id": key, "code": key, "text": text, "priority": priority, "raised_ms_ago": ago_ms, "active": active}


def test_live_page_shows_rate_mode_notes_and_bundle(tab: Page, server: PageServer) -> None:
    """A person sees the rate, the mode in plain words, the note with its age, the bundle, and that it is simulated."""
    server.publish("mode", {"mode": "LOCAL", "reason": "", "since_ms": 125_000})
    server.publish("advisory", note("run", "Run of 3 ventricular beats", "medium", 65_000))
    server.publish("alert", note("low", "A lead is off", "low"))
    server.publish("alert", note("high", "<b>Heart rate above 140 /min</b>", "high", 3_000))
    stages = [{"name": "model", "p50_us": 600, "p99_us": 4700, "max_us": 9100, "count": 9}]
    server.publish("latency", {"stages": stages, "budget_ms": 4.0, "late": 2})
    with Feeder(server):
        tab.open(server.url)
        tab.wait("document.body.dataset.link === 'live'")
        tab.wait("document.querySelector('#rate').textContent === '60'")
        assert tab.text("#mode-title") == "AI local"
        assert tab.text("#mode-since") == "for 2 min"
        assert tab.text("#advisories .note .text") == "Run of 3 ventricular beats"
        assert tab.text("#advisories .note .age") == "for 1 min"
        texts = tab.js("[...document.querySelectorAll('#alerts .note .text')].map((note) => note.textContent)")
        assert texts == ["<b>Heart rate above 140 /min</b>", "A lead is off"]
        tab.wait("document.querySelector('#say-now').textContent.includes('Threshold alert')")
        assert tab.text("#bundle") == "ecg-beats 1.2.0 3fa94c1e"
        assert tab.js("getComputedStyle(document.querySelector('#simulated')).display") != "none"
        assert tab.js("document.querySelector('#latency tbody tr').className") == "over"
        server.publish("mode", {"mode": "THRESHOLD_ONLY", "reason": "engine_crashed", "since_ms": 0})
        tab.wait("document.querySelector('#mode-title').textContent === 'Threshold only — the AI stopped'")
        assert tab.js("document.querySelectorAll('#alerts .note[data-active=true]').length") == 2
        server.publish("advisory", note("run", "Run of 3 ventricular beats", "medium", active=False))
        tab.wait("document.querySelector('#advisories .note .age').textContent.startsWith('ended')")
        assert "alarm" not in tab.js("document.documentElement.outerHTML").lower()
    assert tab.complaints() == []


def test_beats_stand_at_their_place_with_letter_and_shape(tab: Page, server: PageServer) -> None:
    """Each class has its own letter; withheld and fallback their own marks; each stands over its sample."""
    kinds = [("N", "accepted"), ("S", "accepted"), ("V", "accepted"), ("F", "accepted"), ("Q", "accepted")]
    kinds += [("?", "withheld"), ("?", "fallback"), ("V", "fallback")]
    with Feeder(server):
        tab.open(server.url)
        tab.wait("document.querySelector('#trace').dataset.pxPerMm")
        for number, (cls, verdict) in enumerate(kinds):
            beat = {"i": 200 + 50 * number, "cls": cls, "rr_ms": 800, "verdict": verdict, "why": ""}
            server.publish("beat", beat)
        tab.wait("document.querySelectorAll('#marks .beat').length >= 8")
        beats = tab.js(
            "[...document.querySelectorAll('#marks .beat')].map((b) => [Number(b.dataset.i), b.textContent,"
            " parseFloat(b.style.left), b.querySelector('u') !== null])"
        )
        px_per_mm = float(tab.js("document.querySelector('#trace').dataset.pxPerMm"))
    assert [beat[1] for beat in beats] == ["N", "S", "V", "F", "Q", "·", "×", "×"]
    assert [beat[3] for beat in beats] == [False, True, True, True, True, False, False, False]
    for index, _, left, _ in beats:
        assert math.isclose(left, (10 + index * 0.1) * px_per_mm, abs_tol=0.6)
    assert tab.complaints() == []


@pytest.mark.parametrize(("ratio", "screen_mm"), [(1.0, None), (2.0, None), (1.0, 300)])
def test_one_second_is_25_mm_and_one_millivolt_10_mm(
    tab: Page, server: PageServer, ratio: float, screen_mm: int | None
) -> None:
    """Measured in the canvas's own pixels, on plain and dense screens, with nominal and with set millimetres."""
    tab.size(1280, 800, ratio)
    with Feeder(server):
        tab.open(server.url)
        tab.wait("document.querySelector('#trace').dataset.pxPerMm")
        if screen_mm is not None:
            tab.js("document.querySelector('#open-settings').click()")
            tab.js(f"document.querySelector('#screen-mm').value = '{screen_mm}'")
            tab.js("document.querySelector('#save-settings').click()")
            tab.wait(f"Math.abs(document.querySelector('#trace').dataset.pxPerMm - 1280 / {screen_mm}) < 1e-9")
        px_per_mm = (1280 / screen_mm if screen_mm else 96 / 25.4) * ratio
        tab.wait(f"({SPIKES})().length >= 3")
        spikes = tab.js(f"({SPIKES})()")
    tab.js("localStorage.clear()")
    apart = [after[0] - before[0] for before, after in pairwise(spikes)]
    for distance in apart:
        seconds = round(distance / (25 * px_per_mm))
        assert math.isclose(distance, seconds * 25 * px_per_mm, abs_tol=2.0)
    assert min(round(distance / (25 * px_per_mm)) for distance in apart) == 1
    for _, height in spikes:
        assert math.isclose(height, 10 * px_per_mm, abs_tol=2.0)


SPIKES = """() => {
  const canvas = document.querySelector('#trace'), { laneMm, pxPerMm } = canvas.dataset;
  const high = Math.floor(laneMm * pxPerMm * devicePixelRatio);
  const { data, width } = canvas.getContext('2d').getImageData(0, 0, canvas.width, high);
  const top = [];  // the centre of the line's uppermost stroke in each column
  for (let x = 0; x < width; x++) {
    top.push(null);
    for (let y = 0; y < high && top[x] === null; y++) if (data[(y * width + x) * 4 + 3] > 127) top[x] = y;
  }
  const drawn = top.filter((y) => y !== null).sort((a, b) => a - b);
  const rest = drawn[Math.floor(drawn.length * 0.9)];
  const spikes = [];
  for (let x = 1; x + 1 < width; x++) {
    if (top[x] === null || rest - top[x] < 5 * pxPerMm * devicePixelRatio) continue;
    let last = x;
    while (top[last + 1] !== null && rest - top[last + 1] >= 5 * pxPerMm * devicePixelRatio) last++;
    spikes.push([(x + last) / 2, rest - Math.min(...top.slice(x, last + 1))]);
    x = last;
  }
  return spikes;
}"""


def test_lead_off_is_dashed_with_a_word_and_never_a_flat_line(tab: Page, server: PageServer) -> None:
    """A lead that is off is broken by gaps and named; the other lead goes on."""
    server.publish("quality", {"leads": {"II": "lead_off", "V1": "ok"}})
    with Feeder(server, bad=(True, False)):
        tab.open(server.url)
        tab.wait("document.querySelector('.word[data-lead=II]')")
        assert tab.text(".word[data-lead=II]") == "LEAD OFF"
        assert tab.js("document.querySelector('.word[data-lead=V1]')") is None
        tab.wait(f"({RUNS})(0).length >= 5")
        px_per_mm = float(tab.js("document.querySelector('#trace').dataset.pxPerMm"))
        off, on = tab.js(f"({RUNS})(0)"), tab.js(f"({RUNS})(1)")
    assert max(off) < 3.5 * px_per_mm
    assert max(on) > 20 * px_per_mm
    assert tab.complaints() == []


RUNS = """(lane) => {
  const canvas = document.querySelector('#trace'), { laneMm, pxPerMm } = canvas.dataset;
  const high = Math.floor(laneMm * pxPerMm * devicePixelRatio);
  const { data, width } = canvas.getContext('2d').getImageData(0, lane * high, canvas.width, high);
  const runs = [];
  let run = 0;
  for (let x = 0; x < width; x++) {
    let inked = false;
    for (let y = 0; y < high && !inked; y++) inked = data[(y * width + x) * 4 + 3] > 127;
    if (inked) run++; else if (run) { runs.push(run); run = 0; }
  }
  return run ? [...runs, run] : runs;
}"""


def test_lost_connection_is_said_and_mended_without_a_reload(tab: Page) -> None:
    """When the server goes, nothing looks live; when it comes back on its port, the page follows it by itself."""
    page = PageServer(hello={**HELLO, "rate_ttl_ms": 2000})
    port = urlsplit(page.url).port or 0
    page.publish("mode", {"mode": "LOCAL", "reason": "", "since_ms": 0})
    page.publish("advisory", note("old", "Of the first server", "low"))
    with Feeder(page):
        tab.open(page.url)
        tab.wait("document.querySelector('#rate').textContent === '60' && document.body.dataset.link === 'live'")
        tab.js("window.sameDocument = true")
    page.close()
    tab.wait("document.body.dataset.link === 'lost'")
    assert tab.text("#mode-title").startswith("CONNECTION LOST")
    assert tab.text("#veil") == "NOT LIVE"
    assert float(tab.js("getComputedStyle(document.querySelector('.rate-value')).opacity")) < 0.6
    tab.wait("document.querySelector('#rate').textContent === '--'")
    with PageServer(port=port, hello=HELLO) as again:
        again.publish("mode", {"mode": "NO_AI", "reason": "no_bundle", "since_ms": 0})
        with Feeder(again):
            tab.wait(
                "document.body.dataset.link === 'live' && document.querySelector('#rate').textContent === '60'", 30
            )
            tab.wait("document.querySelector('#mode-title').textContent === 'No AI — no bundle is installed'")
            assert tab.js("window.sameDocument") is True
            assert tab.js("document.querySelectorAll('#advisories .note').length") == 0
    refused = [said for said in tab.complaints() if not said.startswith("network:")]
    assert refused == []


def test_silent_pipeline_and_old_rate_do_not_look_live(tab: Page, server: PageServer) -> None:
    """The server alone answering is not enough: without data the page says that the device is silent."""
    with Feeder(server):
        tab.open(server.url)
        tab.wait("document.body.dataset.link === 'live' && document.querySelector('#rate').textContent === '60'")
    tab.wait("document.querySelector('#veil').textContent === 'NO SIGNAL'")
    tab.wait("document.body.dataset.link === 'silent'")
    assert tab.text("#mode-title").startswith("DEVICE SILENT")
    tab.wait("document.querySelector('#rate').textContent === '--'")
    assert "ago" in tab.text("#rate-age")
    server.publish("rate", {"hr_bpm": 62, "age_ms": 0})
    tab.wait("document.body.dataset.link === 'live' && document.querySelector('#rate').textContent === '62'")
    assert tab.complaints() == []


def test_colours_follow_the_browser_and_the_button(tab: Page, server: PageServer) -> None:
    """Light and dark by preference, and by the button from the keyboard, kept for the next visit."""
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.prefer(prefers_color_scheme="dark")
    tab.open(server.url)
    tab.wait("document.querySelector('#theme').textContent === 'Light'")
    dark = tab.js(ground)
    tab.prefer(prefers_color_scheme="light")
    tab.wait("document.querySelector('#theme').textContent === 'Dark'")
    light = tab.js(ground)
    assert light != dark
    tab.js("document.querySelector('#theme').focus()")
    for kind in ("keyDown", "keyUp"):
        key = {"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        tab.send("Input.dispatchKeyEvent", key)
    tab.wait("document.documentElement.dataset.theme === 'dark'")
    assert tab.js(ground) == dark
    tab.open(server.url)
    tab.wait("document.querySelector('#theme')?.textContent === 'Light'")
    tab.js("localStorage.clear()")
    assert tab.complaints() == []


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 800), (390, 844)])
def test_nothing_is_cut_off_at_the_side(tab: Page, server: PageServer, width: int, height: int) -> None:
    """On a wall screen, a tablet and a phone no text runs over the edge, and three digits fit."""
    tab.size(width, height)
    server.publish("rate", {"hr_bpm": 188, "age_ms": 0})
    server.publish("alert", note("a", "Heart rate above 140 /min", "high"))
    server.publish("mode", {"mode": "THRESHOLD_ONLY", "reason": "engine_bad_output", "since_ms": 0})
    tab.open(server.url)
    tab.wait("document.querySelector('#rate').textContent === '188'")
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")
    boxes = "[...document.querySelectorAll('.board > section, .mode')]"
    over = f"{boxes}.filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.className)"
    assert tab.js(over) == []


def test_without_scripts_the_essentials_are_there(tab: Page, server: PageServer) -> None:
    """With scripts off the page still tells rate and mode, hides what it cannot keep current, and reads itself anew."""
    server.publish("rate", {"hr_bpm": 64, "age_ms": 0})
    server.publish("mode", {"mode": "LOCAL", "reason": "", "since_ms": 0})
    tab.send("Emulation.setScriptExecutionDisabled", {"value": True})
    tab.open(server.url)
    tab.wait("document.querySelector('#rate')?.textContent === '64'")
    assert tab.text("#mode-title") == "AI local"
    tab.wait("getComputedStyle(document.querySelector('#strip')).display === 'none'")  # once its style sheet is there
    server.publish("rate", {"hr_bpm": 65, "age_ms": 0})
    tab.wait("document.querySelector('#rate')?.textContent === '65'")
