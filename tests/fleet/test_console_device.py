"""A device's page, as an operator without scripts acts on it; and the REST interface, which does the same."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from console_support import Forms, House, press
from fleet_support import DeviceKeys, report
from sqlalchemy import select

from edgeward.exchange.typed import encode
from edgeward.fleet import devices
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store.models import AuditEntry, Device

if TYPE_CHECKING:
    from fleet_support import FleetKit

    from edgeward.fleet.store.engine import Store

NOBODY = "d-0000000000000000"


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    """SQLite is enough here."""
    return sqlite_store


@pytest.fixture
def house(kit: FleetKit) -> House:
    return House(kit)


@pytest.fixture
def name(house: House) -> str:
    """The device at bed 0, of group icu."""
    return next(iter(house.site.devices))


def done_to(house: House, subject: str, actions: str = "device.") -> list[tuple[str, str, dict[str, Any]]]:
    """Who did what to a device, by the audit."""
    with house.site.kit.store.reading() as session:
        query = select(AuditEntry).where(AuditEntry.subject == subject).order_by(AuditEntry.seq)
        rows = [row for row in session.scalars(query) if row.action.startswith(actions)]
        return [(row.actor, row.action, json.loads(row.detail)) for row in rows]


def known(house: House, name: str) -> dict[str, Any]:
    """The device by REST."""
    found: dict[str, Any] = house.api("vic").get(f"/api/v1/devices/{name}").json()["device"]
    return found


def places_of(house: House, number: int, standing: str) -> list[str]:
    """Devices that stand there in a rollout, by REST."""
    found = house.api("vic").get(f"/api/v1/rollouts/{number}/devices", params={"standing": standing})
    return [place["device_id"] for place in found.json()]


def describe(house: House, who: str, name: str, **fields: str | list[str]) -> tuple[int, str]:
    """Save the form of the page with other fields."""
    device = known(house, name)
    kept = {"label": device["label"], "group": device["group"], "tag": device["tags"], "more": ""}
    return press(house.browser(who), f"/devices/{name}", f"/devices/{name}/describe", **{**kept, **fields})


def test_operator_gives_a_device_its_group_label_and_tags(house: House, name: str) -> None:
    """By one form; the list finds it by them, REST says the same, and the audit says what was changed."""
    status, text = describe(house, "ann", name, label="bed 9", group="Step-down", more="canary, has screen,")
    assert status == 200
    assert "<dt>Group</dt><dd>Step-down</dd>" in text
    device = known(house, name)
    assert (device["label"], device["group"], device["tags"]) == ("bed 9", "Step-down", ["canary", "has screen"])
    changed = {"label": "bed 9", "group": "Step-down", "tags": ["canary", "has screen"]}
    assert done_to(house, name) == [("user:ann", "device.described", changed)]
    for asked in ({"group": "Step-down"}, {"tag": "has screen"}, {"group": "Step-down", "tag": "canary"}):
        found = house.browser("vic").get("/devices", params=asked).text
        assert set(re.findall(r"/devices/(d-[0-9a-f]{16})", found)) == {name}
    assert describe(house, "ann", name, tag=["canary"], group="")[0] == 200
    device = known(house, name)
    assert (device["group"], device["tags"]) == ("", ["canary"])
    assert done_to(house, name)[1:] == [("user:ann", "device.described", {"group": "", "tags": ["canary"]})]


def test_saving_what_is_so_already_is_no_change(house: House, name: str) -> None:
    """No entry says that somebody did what nobody did."""
    assert describe(house, "ann", name)[0] == 200
    assert house.api("ann").patch(f"/api/v1/devices/{name}", json={"label": "bed 0"}).status_code == 204
    assert done_to(house, name) == []


@pytest.mark.parametrize("who", ["vic", "ben", "quinn"])
def test_whoever_only_looks_sees_no_buttons_and_may_nothing(house: House, name: str, who: str) -> None:
    """Of the roles only the operator acts on a device; the others read what it is."""
    browser = house.browser(who)
    text = browser.get(f"/devices/{name}").text
    assert "icu" in text
    assert set(Forms(text).found) == {"/logout"}
    csrf = Forms(text).found["/logout"]["csrf"]
    sent = {"csrf": csrf, "revision": known(house, name)["revision"], "group": "ward"}
    for deed in ("describe", "revoke", "lost"):
        answer = browser.post(f"/devices/{name}/{deed}", data=sent)
        assert answer.status_code == 403
        assert "right to operate" in answer.text
    assert (known(house, name)["state"], known(house, name)["group"]) == ("active", "icu")
    assert done_to(house, name) == []
    assert ("/audit?subject=" in text) == (who == "quinn")


def test_device_s_form_from_elsewhere_does_nothing(house: House, name: str) -> None:
    """Without the page's own token, or with another's."""
    ann, page = house.browser("ann"), f"/devices/{name}"
    others = Forms(house.browser("cyd").get(page).text).found
    for deed in ("describe", "revoke", "lost"):
        sent = others[f"{page}/{deed}"]
        for csrf in ("", "0" * 64, sent["csrf"]):
            answer = ann.post(f"{page}/{deed}", data={**sent, "csrf": csrf, "group": "ward"})
            assert answer.status_code == 403
            assert "Not done" in answer.text
    assert (known(house, name)["state"], known(house, name)["group"]) == ("active", "icu")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"group": "g" * 65}, "a group&#39;s name is made of"),
        ({"group": "<script>"}, "a group&#39;s name is made of"),
        ({"label": "l" * 129}, "a label has 128 characters at most"),
        ({"more": "good, -bad"}, "a device has 32 tags at most, and each is made of"),
        ({"more": ",".join(f"t{number}" for number in range(33))}, "a device has 32 tags at most"),
        ({"group": "g" * 65, "label": "l" * 129}, "a label has 128 characters at most; a group&#39;s name"),
    ],
)
def test_bad_description_is_shown_again(house: House, name: str, fields: dict[str, str], words: str) -> None:
    """With what was written, what is wrong with it, and nothing done, neither to the others of its fields."""
    status, text = describe(house, "ann", name, **{"label": "keep me", **fields})
    assert status == 422
    assert words in text
    assert 'role="alert"' in text
    for value in {"label": "keep me", **fields}.values():
        assert value.replace("<", "&lt;").replace(">", "&gt;") in text
    assert known(house, name)["label"] == "bed 0"
    assert done_to(house, name) == []


def test_device_that_is_not_there_is_said(house: House, name: str) -> None:
    """A page says that there is no such device, and forms that lack something are not guessed at."""
    ann = house.browser("ann")
    sent = Forms(ann.get(f"/devices/{name}").text).found[f"/devices/{name}/describe"]
    for deed in ("describe", "revoke", "lost"):
        answer = ann.post(f"/devices/{NOBODY}/{deed}", data=sent)
        assert (answer.status_code, f"there is no device {NOBODY}" in answer.text) == (404, True)
        lacking = ann.post(f"/devices/{name}/{deed}", data={"csrf": sent["csrf"], "label": "x"})
        assert (lacking.status_code, "load the page anew" in lacking.text) == (422, True)
    assert ann.post(f"/devices/{name}/explode", data=sent).status_code == 404
    assert done_to(house, name) == []


@pytest.mark.parametrize("first", ["describe", "lost"])
@pytest.mark.parametrize("second", ["describe", "revoke"])
def test_of_two_operators_the_second_looks_again(house: House, name: str, first: str, second: str) -> None:
    """Whoever decides on an old picture reads what the device is now, and undoes nothing."""
    ann, page = house.browser("ann"), f"/devices/{name}"
    old = {**Forms(ann.get(page).text).found[f"{page}/{second}"], "label": "bed 0", "group": "mine"}
    assert press(house.browser("cyd"), page, f"{page}/{first}", label="bed 0", group="theirs")[0] == 200
    answer = ann.post(f"{page}/{second}", data=old)
    assert answer.status_code == 409
    assert "has changed since you looked" in answer.text
    assert f'href="{page}"' in answer.text
    after = known(house, name)
    assert (after["state"], after["group"]) == (("active", "theirs") if first == "describe" else ("lost", "icu"))
    assert [who for who, _, _ in done_to(house, name)] == ["user:cyd"]


def test_rest_takes_the_revision_that_the_page_takes(house: House, name: str) -> None:
    """A program that says what it saw is told when it is another by now; one that says nothing acts."""
    api, path = house.api("ann"), f"/api/v1/devices/{name}"
    seen = known(house, name)["revision"]
    assert api.patch(path, json={"group": "a", "revision": seen}).status_code == 204
    assert api.patch(path, json={"group": "b", "revision": seen}).json()["code"] == "device-changed"
    assert api.post(f"{path}/revoke", json={"revision": seen}).json()["code"] == "device-changed"
    house.site.round()
    seen = known(house, name)["revision"]
    house.site.round()
    assert known(house, name)["revision"] == seen, "a check-in is nothing that a person decided"
    assert api.post(f"{path}/revoke", json={"revision": seen}).status_code == 204
    assert api.post(f"{path}/lost").status_code == 204


@pytest.mark.parametrize(("deed", "state"), [("revoke", "revoked"), ("lost", "lost")])
def test_ended_device_is_taken_by_no_request(house: House, name: str, deed: str, state: str) -> None:
    """The page names it and says what follows; then its certificates end, the audit says who, and it says how back."""
    describe(house, "ann", name, label="bed <9>")
    text = house.browser("ann").get(f"/devices/{name}").text
    sure = re.findall(r'<div class="sure">.*?</form></div>', text, re.DOTALL)[("revoke", "lost").index(deed)]
    for words in (name, "bed &lt;9&gt;", "of group icu", "no check-in", "go on being watched", "enrol --settings"):
        assert words in sure
    assert press(house.browser("ann"), f"/devices/{name}", f"/devices/{name}/{deed}")[0] == 200
    assert done_to(house, name)[1:] == [("user:ann", f"device.{state}", {})]
    fingerprint = house.site.fingerprints[name]
    with pytest.raises(RefusedError, match="an operator has revoked this device") as refused:
        asyncio.run(house.site.kit.fleet.check_ins.hear(fingerprint, encode(report(90))))
    assert refused.value.code == "certificate-revoked"
    text = house.browser("vic").get(f"/devices/{name}").text
    assert f'data-status="{state}"' in text
    assert "Where it runs, its beds go on being watched" in text
    assert "<td>revoked</td>" in text
    found = house.browser("vic").get("/devices", params={"state": state}).text
    assert set(re.findall(r"/devices/(d-[0-9a-f]{16})", found)) == {name}


def test_what_is_ended_may_still_be_called_lost(house: House, name: str) -> None:
    """A revoked device that turns out to be gone; a lost one has no deed left, and its label may be changed."""
    page, ann = f"/devices/{name}", house.browser("ann")
    press(ann, page, f"{page}/revoke")
    assert set(Forms(ann.get(page).text).found) == {"/logout", f"{page}/lost", f"{page}/describe"}
    press(ann, page, f"{page}/lost")
    assert set(Forms(ann.get(page).text).found) == {"/logout", f"{page}/describe"}
    assert describe(house, "ann", name, label="stolen")[0] == 200
    assert [action for _, action, _ in done_to(house, name)] == ["device.revoked", "device.lost", "device.described"]


def test_page_says_what_a_revocation_does_to_a_rollout(house: House) -> None:
    """A device on the way is counted apart there, and pages and REST say so; of one that is not, nothing is said."""
    number = house.drafted()
    house.site.decide(number, "approve")
    house.site.clock.tick()
    places = house.site.places(number)
    ann = house.browser("ann")
    chosen = next(one for one, standing in places.items() if standing == "working")
    other = next(one for one in house.site.devices if one not in places)
    assert f"rollout {number}</a>: there it is counted apart" in ann.get(f"/devices/{chosen}").text
    assert "there it is counted apart" not in ann.get(f"/devices/{other}").text
    press(ann, f"/devices/{chosen}", f"/devices/{chosen}/revoke")
    found = house.api("vic").get(f"/api/v1/rollouts/{number}").json()
    assert [stage["counts"]["ended"] for stage in found["stages"]] == [1, 0]
    assert places_of(house, number, "ended") == [chosen]
    text = ann.get(f"/rollouts/{number}", params={"standing": "ended"}).text
    assert 'data-standing="ended"><b>1</b> ended: revoked or lost' in text
    assert f'<a href="/devices/{chosen}">' in text
    for one in places_of(house, number, "working"):
        press(ann, f"/devices/{one}", f"/devices/{one}/lost")
    assert "Why: every device of the stage was revoked or called lost" in ann.get(f"/rollouts/{number}").text


def test_deed_without_its_audit_entry_is_no_deed(house: House, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stand in one transaction: where the entry cannot be written, nothing has happened."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no room for an entry")

    page, ann = f"/devices/{name}", house.browser("ann")
    monkeypatch.setattr(devices.audit, "record", broken)
    for deed in ("describe", "revoke", "lost"):
        with pytest.raises(RuntimeError, match="no room"):
            press(ann, page, f"{page}/{deed}", group="ward", more="x")
    with house.site.kit.store.reading() as session:
        row = session.get_one(Device, name)
        assert (row.state, row.group, devices.tags_of(session, [name])[name]) == ("active", "icu", [])


def test_revoked_device_comes_back_as_itself(house: House, name: str) -> None:
    """It applies with another key, and the page of enrolments takes it as the device that it was."""
    ann, keys = house.browser("ann"), DeviceKeys()
    press(ann, f"/devices/{name}", f"/devices/{name}/revoke")
    house.site.kit.enrolments.apply(keys.application(), house.site.kit.now_s)
    accept = f"/enrolments/{keys.fingerprint}/accept"
    assert f'<option value="{name}">bed 0 icu (revoked)</option>' in ann.get("/enrolments").text
    for wrong, status, words in (("bed 0", 422, "d- and 16 digits"), (NOBODY, 404, f"no device {NOBODY}")):
        found, text = press(ann, "/enrolments", accept, device_id=wrong, tags="spare, small")
        assert (found, words in text, f'value="{wrong}"' in text, 'value="spare, small"' in text) == (
            status,
            *[True] * 3,
        )
    assert press(ann, "/enrolments", accept, device_id=name)[0] == 200
    assert (known(house, name)["state"], known(house, name)["group"]) == ("active", "icu")
    assert len(house.site.devices) == house.api("vic").get("/api/v1/devices").json()["total"]
    assert done_to(house, keys.fingerprint, "enrolment.accepted")[0][:2] == ("user:ann", "enrolment.accepted")


def test_bad_enrolment_is_shown_again(house: House) -> None:
    """Nothing is cut off or taken as it is not: the form says what a group is, and the device still waits."""
    keys = DeviceKeys()
    house.site.kit.enrolments.apply(keys.application(), house.site.kit.now_s)
    ann, accept = house.browser("ann"), f"/enrolments/{keys.fingerprint}/accept"
    status, text = press(ann, "/enrolments", accept, group="g" * 65, label="keep me")
    assert (status, "a group&#39;s name is made of" in text, "keep me" in text) == (422, True, True)
    assert press(ann, "/enrolments", accept, group="icu")[0] == 200
    late = ann.post(accept, data={"csrf": Forms(text).found[accept]["csrf"]})
    assert (late.status_code, "accepted already, by user:ann" in late.text) == (409, True)
    assert '<a href="/enrolments">Go back' in late.text
