"""A device is revoked in a real Chromium, over TLS, and refused at its next check-in on the connection it has."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fleet_served import Running, Served
from fleet_support import PASSWORD, DeviceKeys, report
from page_chromium import Chromium, find_chromium

from edgeward.exchange.checkin import PATH
from edgeward.exchange.typed import encode
from edgeward.fleet.accounts import Role
from edgeward.fleet.api import rollouts
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.parts import wall_s
from edgeward.fleet.web.console import ROUTERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here (Debian: apt-get install chromium)"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A fleet server with TLS, its console, and an operator."""
    with Served(tmp_path / "fleet", routers=(rollouts.router, *ROUTERS)) as made:
        made.fleet.accounts.add_user("ann", Role.OPERATOR, PASSWORD, actor="cli:test", now_s=wall_s())
        yield made


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Any]:
    binary = find_chromium()
    assert binary is not None
    with Chromium(binary, tmp_path / "profile") as browser:
        made = browser.page()
        made.size(1280, 900)
        made.send("Security.setIgnoreCertificateErrors", {"ignore": True})  # the browser has no authority of ours
        yield made
        made.close()


def enrolled(running: Running, folder: Path) -> tuple[str, httpx.Client]:
    """A device that was accepted, and its client with key and certificate."""
    keys, enrolments = DeviceKeys(), running.fleet.enrolments
    enrolments.apply(keys.application(), wall_s())
    enrolments.accept(keys.fingerprint, Vouch("bed 4", "icu", ("old",)), actor="user:ann", now_s=wall_s())
    credential = enrolments.apply(keys.application(), wall_s())
    assert credential.device is not None
    chain, key = folder / "device.pem", folder / "device.key"
    chain.write_text(credential.certificate)
    key.write_bytes(keys.key_pem)
    context = ssl.create_default_context(cafile=running.ca)
    context.load_cert_chain(chain, key)
    return credential.device, httpx.Client(base_url=running.url, verify=context, timeout=20)


def sign_in(tab: Any, url: str, to: str) -> None:
    tab.open(f"{url}/login?to={to}")
    tab.js("document.querySelector('input[name=name]').value = 'ann'")
    tab.js(f"document.querySelector('input[name=password]').value = '{PASSWORD}'")
    tab.js("document.querySelector('form.card').requestSubmit()")
    tab.wait("document.querySelector('#describe')")


def test_device_revoked_on_its_page_is_refused_at_its_next_check_in(running: Running, tab: Any, tmp_path: Path) -> None:
    """Opened, read, pressed; the device's own open connection is worth nothing from then on."""
    name, client = enrolled(running, tmp_path)
    with client as device:
        assert device.post(PATH, content=encode(report(1))).status_code == 200
        sign_in(tab, running.url, f"/devices/{name}")
        tab.js("document.querySelector('#actions summary').click()")
        tab.wait("document.querySelector('#actions details').open")
        words = tab.text("#actions details[open] .sure")
        assert f"bed 4 ({name}) of group icu" in " ".join(words.split())
        assert device.post(PATH, content=encode(report(2))).status_code == 200, "reading revokes nothing"
        tab.js("document.querySelector('#actions details[open] .sure button').click()")
        tab.wait("document.querySelector('h1 .badge').dataset.status === 'revoked'")
        refused = device.post(PATH, content=encode(report(3)))
    assert (refused.status_code, refused.json()["code"]) == (403, "certificate-revoked")
    assert tab.complaints() == []


def test_tags_are_taken_off_and_put_on_in_the_browser(running: Running, tab: Any, tmp_path: Path) -> None:
    """One tag unticked, one written, a group chosen: saved by one press, on a telephone's screen."""
    name, client = enrolled(running, tmp_path)
    client.close()
    tab.size(390, 800)
    sign_in(tab, running.url, f"/devices/{name}")
    assert tab.js("document.documentElement.scrollWidth <= 390")
    tab.js("document.querySelector('#describe input[value=old]').click()")
    tab.js("document.querySelector('#describe input[name=more]').value = 'canary'")
    tab.js("document.querySelector('#describe input[name=group]').value = 'ward 7'")
    tab.js("window.isBefore = true; document.querySelector('#describe form').requestSubmit()")
    tab.wait("!window.isBefore && document.querySelector('#describe input[value=canary]').checked")
    assert tab.js("document.querySelector('#describe input[value=old]')") is None
    assert running.device().group == "ward 7"
    for summary in range(2):
        tab.js(f"document.querySelectorAll('#actions summary')[{summary}].click()")
    assert tab.js("document.documentElement.scrollWidth <= 390")
    assert tab.complaints() == []
