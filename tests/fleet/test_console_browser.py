"""The console in a real Chromium: live without being loaded anew, by keyboard alone, and without complaints."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from conduct_support import FAMILY, Site
from fleet_support import PASSWORD, Served
from page_chromium import Chromium, find_chromium

from edgeward.exchange.words import UpdateState
from edgeward.fleet.accounts import Role
from edgeward.fleet.api import rollouts
from edgeward.fleet.conduct import people
from edgeward.fleet.rollout.plan import Gate, Pick, Plan, Stage
from edgeward.fleet.serve import listen
from edgeward.fleet.web.console import ROUTERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet_support import FleetKit

    from edgeward.fleet.store.engine import Store

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here (Debian: apt-get install chromium)"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PLAN = Plan(stages=(Stage("canary", Pick(count=2), Gate(errors=0, success=1_000_000)), Stage("the rest")))


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    """SQLite is enough here."""
    return sqlite_store


class Room:
    """A running server with devices and one rollout, and a browser tab."""

    def __init__(self, kit: FleetKit, tab: Any) -> None:
        self.site = Site(kit, 4)
        kit.fleet = replace(kit.with_rollouts(self.site.book).fleet, desk=self.site.desk)
        for name, role in {"ann": Role.OPERATOR, "ben": Role.APPROVER}.items():
            kit.user(name, role)
        wish = people.Wish(FAMILY, plan=PLAN)
        self.number = people.create(kit.store, self.site.desk, wish, by="ann", now_s=kit.now_s)
        self.served = Served(kit, listen(kit.settings), routers=(rollouts.router, *ROUTERS))
        self.url = str(self.served.client.base_url)
        self.tab = tab

    def press(self, key: str, text: str = "") -> None:
        """One key of the keyboard."""
        more = {"text": text} if text else {}
        for kind in ("keyDown", "keyUp"):
            self.tab.send(
                "Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, **_CODES.get(key, {}), **more}
            )

    def write(self, text: str) -> None:
        self.tab.send("Input.insertText", {"text": text})

    def sign_in(self, name: str) -> None:
        """By keyboard: the name has the focus already."""
        self.tab.open(f"{self.url}/login?to=/rollouts/{self.number}")
        self.tab.wait("document.activeElement.name === 'name'")
        self.write(name)
        self.press("Tab")
        self.write(PASSWORD)
        self.press("Enter", "\r")
        self.tab.wait("document.querySelector('#stages')")


_CODES: dict[str, dict[str, Any]] = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "Enter": {"windowsVirtualKeyCode": 13},
}


@pytest.fixture
def room(kit: FleetKit, tmp_path: Path) -> Iterator[Room]:
    binary = find_chromium()
    assert binary is not None
    with Chromium(binary, tmp_path / "profile") as browser:
        tab = browser.page()
        tab.size(1280, 900)
        made = Room(kit, tab)
        yield made
        tab.close()
        made.served.close()


def test_stages_fill_without_loading_anew(room: Room) -> None:
    """Approved by keyboard, then watched: the page's parts change, the page stays."""
    room.sign_in("ben")
    tab = room.tab
    tab.wait("document.querySelector('.link').dataset.link === 'live'")
    tab.js("document.querySelector('#actions summary').focus()")
    room.press("Enter", "\r")
    tab.wait("document.querySelector('#actions details').open")
    room.press("Tab")
    tab.wait("document.activeElement.textContent === 'Approve'")
    room.press("Enter", "\r")
    tab.wait("document.querySelector('#head').dataset.status === 'approved'")
    tab.wait("document.querySelector('.link').dataset.link === 'live'")
    tab.js("window.isTheSame = true")
    room.site.devices[sorted(room.site.devices)[0]].will = UpdateState.COMMITTED
    for _ in range(5):
        room.site.round()
    tab.wait("document.querySelector('#head').dataset.status === 'completed'", 30)
    assert tab.js("window.isTheSame") is True
    assert tab.text("#stages li:last-child .tally li").strip() == "2 committed"
    assert tab.complaints() == []


def test_decision_half_made_stays_open_while_devices_get_on(room: Room) -> None:
    """What somebody is about to press does not go away under their hands."""
    room.site.decide(room.number, "approve")
    room.site.clock.tick()
    room.sign_in("ann")
    tab = room.tab
    tab.wait("document.querySelector('.link').dataset.link === 'live'")
    tab.js("document.querySelector('#actions details summary').click()")
    tab.wait("document.querySelector('#actions details').open")
    for name in room.site.places(room.number):
        room.site.visit(name)
        room.site.devices[name].work()
        room.site.visit(name)
    tab.wait("document.querySelector('#stages .tally').textContent.includes('2 committed')", 30)
    assert tab.js("document.querySelector('#actions details').open") is True
    assert tab.complaints() == []


def test_narrow_screen_shows_everything(room: Room) -> None:
    """On a telephone nothing is wider than the screen but tables, which scroll by themselves."""
    room.sign_in("ann")
    room.tab.size(390, 800)
    one = f"/devices/{sorted(room.site.devices)[0]}"
    for path in ("/", "/devices", one, "/rollouts", f"/rollouts/{room.number}", "/rollouts/new", "/enrolments"):
        room.tab.open(room.url + path)
        assert room.tab.js("document.documentElement.scrollWidth <= 390"), path
