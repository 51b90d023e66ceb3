"""How the ward's pages look in a real Chromium: on every size of screen, in dark and light, with long names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from ward_messages import BEDS, news2, score
from ward_speaking import LIVE, Ward

from edgeward.bedside.page import WardServer
from edgeward.testing.ward import Player, ScriptedWard

if TYPE_CHECKING:
    from page_chromium import Page

pytestmark = pytest.mark.browser

NAME = BEDS[0]
PATH = f"beds/{quote(NAME)}"
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
    tab.prefer(prefers_reduced_motion="reduce")  # tiles that are under way stand nowhere
    with WardServer(hello=script.hello()) as server, Player(script, server.publish):
        tab.open(server.url)
        tab.wait(f"{LIVE} && document.querySelectorAll('.tile').length === {beds}")
        tab.wait(
            "document.querySelector('#p-summary [data-need=high]') && document.querySelector('#b0-hr .num').textContent"
        )
        before, number = tab.js(PLACES), tab.text("#b0-hr .num")
        tab.wait(f"document.querySelector('#b0-hr .num').textContent !== '{number}'")
        assert tab.js(PLACES) == before
        assert tab.js("document.documentElement.scrollWidth <= innerWidth")
        if width >= 1920 or height >= 1920:
            assert tab.js("document.documentElement.scrollHeight <= innerHeight")
        assert tab.js(OVER) == []
    assert [said for said in tab.complaints() if not said.startswith("network:")] == []


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 800), (390, 844)])
def test_long_names_break_nothing(tab: Page, width: int, height: int) -> None:
    """German-length names of ward and beds: both ends can be read on tile and page, nothing runs over its edge."""
    script = ScriptedWard("busy", LONG, ward="Interdisziplinäre Intensivüberwachungsstation Süd")
    tab.size(width, height)
    with WardServer(hello=script.hello(), act=script.act) as server, Player(script, server.publish):
        for path in ("", f"beds/{quote(LONG[3])}"):
            tab.open(server.url + path)
            tab.wait(LIVE)
            time.sleep(0.5)
            assert tab.js("document.documentElement.scrollWidth <= innerWidth")
            assert tab.js(OVER) == []
            assert tab.js(CUT) == 0
    assert [said for said in tab.complaints() if not said.startswith("network:")] == []


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
