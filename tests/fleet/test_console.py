"""The console as a browser without scripts sees it, and the REST interface beside it."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest
from conduct_support import FAMILY
from console_support import Client, Forms, House, press
from fleet_support import PASSWORD, DeviceKeys
from rollout_fleet import NEW

from edgeward.exchange.words import Rung, UpdateState, Why
from edgeward.fleet import words
from edgeward.fleet.rollout.words import Cause, Standing, Status
from edgeward.fleet.web import live

if TYPE_CHECKING:
    from fleet_support import FleetKit

    from edgeward.fleet.store.engine import Store


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    """SQLite is enough here."""
    return sqlite_store


@pytest.fixture
def house(kit: FleetKit) -> House:
    return House(kit)


def test_whole_road_by_rest(house: House) -> None:
    """Draft, approve, pause, resume, watch: with the counts and reasons that programs read."""
    number = house.drafted()
    ann, ben = house.api("ann"), house.api("ben")
    seen = ann.get(f"/api/v1/rollouts/{number}").json()
    assert (seen["rollout"]["status"], seen["rollout"]["version"], seen["rollout"]["return_version"]) == (
        "draft", "2.0.0", "1.0.0",
    )  # fmt: skip
    assert [stage["state"] for stage in seen["stages"]] == ["waiting", "waiting"]
    assert ann.post(f"/api/v1/rollouts/{number}/approve", json={}).json()["code"] == "not-permitted"
    assert ben.post(f"/api/v1/rollouts/{number}/approve", json={"revision": 1}).status_code == 204
    house.site.round()
    stale = ann.post(f"/api/v1/rollouts/{number}/pause", json={"revision": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "rollout-changed")
    assert ann.post(f"/api/v1/rollouts/{number}/pause", json={}).status_code == 204
    assert house.api("vic").post(f"/api/v1/rollouts/{number}/resume", json={}).status_code == 403
    assert ann.post(f"/api/v1/rollouts/{number}/resume", json={}).status_code == 204
    for _ in range(8):
        house.site.round()
    done = ann.get(f"/api/v1/rollouts/{number}").json()
    assert (done["rollout"]["status"], done["rollout"]["counts"]["committed"]) == ("completed", 4)
    places = ann.get(f"/api/v1/rollouts/{number}/devices", params={"standing": "committed"}).json()
    assert [place["evidence"]["golden_vectors"] for place in places] == [8] * 4
    assert [one["id"] for one in ann.get("/api/v1/rollouts").json()] == [number]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"family": FAMILY, "plan": {"stage": [{"name": "x"}, {"name": "y"}]}}, 422, "plan-stage-unlimited"),
        ({"family": FAMILY, "plan": {"soak": "long"}}, 422, "plan-text"),
        ({"family": FAMILY, "plan": {"group": "nobody"}}, 422, "group-unknown"),
        ({"family": "sepsis-risk"}, 404, "release-unknown"),
        ({"family": FAMILY, "sha256": "c" * 64}, 404, "release-unknown"),
        ({"family": "Not A Family"}, 422, "request-unfit"),
    ],
)
def test_rest_says_what_is_wrong_with_a_draft(house: House, body: dict[str, object], status: int, code: str) -> None:
    """Each with a code for programs and a sentence for people."""
    answer = house.api("ann").post("/api/v1/rollouts", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"]


def test_pages_ask_who_you_are(house: House) -> None:
    """Nobody sees a page without signing in; afterwards they are where they wanted to be, and nowhere else."""
    nobody = Client(house.app, follow_redirects=False)
    for path in ("/", "/devices", "/rollouts", "/rollouts/1", "/rollouts/new", "/enrolments", "/audit"):
        answer = nobody.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?to={path}")
    assert nobody.get("/live").status_code == 401
    signed = nobody.post("/login", data={"name": "ann", "password": PASSWORD, "to": "/rollouts"})
    assert signed.headers["location"] == "/rollouts"
    for outside in ("//evil.example", "https://evil.example", "/\\evil.example"):
        away = nobody.post("/login", data={"name": "ann", "password": PASSWORD, "to": outside})
        assert away.headers["location"] == "/"
    wrong = nobody.post("/login", data={"name": "ann", "password": "no"})
    assert wrong.status_code == 401
    assert "name or password is wrong" in wrong.text


def test_rollout_is_drafted_approved_and_steered_by_forms_alone(house: House) -> None:
    """Everything works without a script: forms, redirects, whole pages."""
    ann, ben = house.browser("ann"), house.browser("ben")
    fields = {"release": f"{FAMILY}/{NEW}", "canary": "2", "shares": "50 %", "errors": "5 %", "gap": "0 min"}
    times = {"silent": "60 min", "shadow": "1 h", "soak": "1 h", "label": "<b>bold</b>"}
    status, text = press(ann, "/rollouts/new", "/rollouts/new", **fields, **times)
    assert status == 200
    assert "Rollout 1: ecg-beat 2.0.0" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "/rollouts/1/approve" not in Forms(text).found
    assert press(ben, "/rollouts/1", "/rollouts/1/approve")[0] == 200
    for _ in range(2):
        house.site.round()
    page = ann.get("/rollouts/1").text
    assert "1</b> on the way" in page or "committed" in page
    assert press(ann, "/rollouts/1", "/rollouts/1/pause")[0] == 200
    assert "paused" in ann.get("/rollouts").text
    assert press(ann, "/rollouts/1", "/rollouts/1/resume")[0] == 200


def test_forms_that_cannot_be_taken_are_shown_again(house: House) -> None:
    """With what was written and what is wrong with it."""
    ann = house.browser("ann")
    status, text = press(
        ann, "/rollouts/new", "/rollouts/new", release=f"{FAMILY}/{NEW}", canary="many", label="keep me"
    )
    assert status == 422
    assert "whole number of devices" in text
    assert "keep me" in text


def test_form_from_elsewhere_does_nothing(house: House) -> None:
    """Without the page's own token, or with another's, nothing is done."""
    number = house.drafted()
    ben = house.browser("ben")
    for csrf in ({}, {"csrf": "0" * 64}):
        answer = ben.post(f"/rollouts/{number}/approve", data={"revision": "1", **csrf})
        assert answer.status_code == 403
        assert "Not done" in answer.text
    assert house.site.rollout(number).status is Status.DRAFT


def test_old_picture_is_said_on_a_page(house: House) -> None:
    """Of two operators at once the second reads that it changed."""
    number = house.drafted()
    ann, cyd = house.browser("ann"), house.browser("cyd")
    page = f"/rollouts/{number}"
    old = Forms(cyd.get(page).text).found[f"{page}/abort"]
    assert press(house.browser("ben"), page, f"{page}/approve")[0] == 200
    answer = cyd.post(f"{page}/abort", data=old)
    assert answer.status_code == 409
    assert "has changed since you looked" in answer.text
    assert press(ann, page, f"{page}/abort")[0] == 200


def test_rollout_page_says_every_reason(house: House) -> None:
    """A halted rollout says why, on which devices, and that the return needs a hand."""
    house.site.desk.refusal = "return-by-hand"
    number = house.drafted()
    house.site.decide(number, "approve")
    for device in house.site.devices.values():
        device.will = UpdateState.FAILED
    for _ in range(3):
        house.site.round()
    text = house.browser("vic").get(f"/rollouts/{number}").text
    assert "golden vectors gave other scores on the device" in text
    assert "The return needs a hand." in text
    assert words.CAUSE[Cause.TOO_MANY_ERRORS] in text
    bad = next(name for name, standing in house.site.places(number).items() if standing == "failed")
    assert bad in text
    assert '<form method="post" action="/rollouts' not in text, "a viewer steers nothing"
    assert "The return needs a hand" in house.browser("ann").get("/").text


def test_pages_of_devices_filter_and_show(house: House) -> None:
    """The inventory by group, one device whole, and one that is not there."""
    vic = house.browser("vic")
    text = vic.get("/devices", params={"group": "icu"}).text
    assert len(set(re.findall(r"/devices/(d-[0-9a-f]{16})", text))) == 2
    name = sorted(house.site.devices)[0]
    text = vic.get(f"/devices/{name}").text
    assert name in text
    assert words.RUNG[Rung.LOCAL] in text
    for path in ("/devices/d-0000000000000000", "/devices/x", "/rollouts/none", "/rollouts/99"):
        missing = vic.get(path)
        assert missing.status_code == 404, path
        assert "Not done" in missing.text
    house.site.kit.now_s += 3_600
    assert "✕ silent" in vic.get("/devices", params={"silent": "true"}).text


def test_enrolment_is_accepted_and_rejected_on_its_page(house: House) -> None:
    """By whoever compared the fingerprint; a viewer has no buttons."""
    first, second = DeviceKeys(), DeviceKeys()
    for keys in (first, second):
        house.site.kit.enrolments.apply(keys.application(), house.site.kit.now_s)
    ann = house.browser("ann")
    text = ann.get("/enrolments").text
    assert first.fingerprint[:8] in text
    accept, reject = f"/enrolments/{first.fingerprint}/accept", f"/enrolments/{second.fingerprint}/reject"
    csrf = Forms(text).found[accept]["csrf"]
    assert press(ann, "/enrolments", accept, label="bed 9", group="icu", tags="new, big")[0] == 200
    assert ann.post(reject, data={"csrf": csrf}).status_code == 200
    assert "Nothing waits." in ann.get("/enrolments").text
    assert "bed 9" in ann.get("/devices").text
    assert "Accept" not in house.browser("vic").get("/enrolments").text


def test_audit_is_for_auditors(house: House) -> None:
    """Who did what; others are told that they may not."""
    house.drafted()
    assert house.browser("ann").get("/audit").status_code == 403
    text = house.browser("quinn").get("/audit", params={"action": "rollout"}).text
    assert "rollout.draft" in text
    assert "user:ann" in text


def test_every_page_has_one_heading_and_no_inline_code(house: House) -> None:
    """What the security policy forbids stands on no page, and every page says what it is."""
    number = house.drafted()
    house.site.decide(number, "approve")
    house.site.round()
    pages = {
        "ann": ("/", "/devices", f"/devices/{sorted(house.site.devices)[0]}", "/rollouts", "/rollouts/new",
                f"/rollouts/{number}", "/enrolments"),
        "quinn": ("/audit",),
    }  # fmt: skip
    for name, paths in pages.items():
        browser = house.browser(name)
        for path in paths:
            answer = browser.get(path)
            assert answer.status_code == 200, path
            assert len(re.findall(r"<h1[ >]", answer.text)) == 1, path
            assert not re.search(r"<script>|\bstyle=|\bon[a-z]+=|https?://", answer.text), path
            assert "script-src 'self'" in answer.headers["content-security-policy"]
    static = house.browser("ann").get("/static/console.js")
    assert static.headers["content-type"].startswith("text/javascript")
    assert house.browser("ann").get("/static/passwd").status_code == 404


def test_live_part_is_sent_at_once_and_after_a_change(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream sends what the page shows, again when it is another, and then ends."""
    monkeypatch.setattr(live, "LOOK_S", 0.0)
    marks = iter([1, 1, 2, 2, 3])

    class Request:
        left = 5

        async def is_disconnected(self) -> bool:
            self.left -= 1
            return self.left < 0

    async def collect() -> list[str]:
        messages = live._messages(Request(), lambda: next(marks), lambda: "<p>now\nhere</p>")  # type: ignore[arg-type]
        return [message async for message in messages]

    told = asyncio.run(collect())
    assert told[0].startswith("retry:")
    sent = [json.loads(message.removeprefix("data: ")) for message in told[1:]]
    assert sent == ["<p>now\nhere</p>"] * 3


def test_every_word_has_a_sentence() -> None:
    """Nothing that a device or a rollout can say is shown as a code."""
    assert set(words.WHY) == set(Why)
    assert set(words.STATUS) == set(Status)
    assert set(words.STANDING) == set(Standing)
    assert set(words.CAUSE) == set(Cause)
    assert set(words.RUNG) == set(Rung)
    assert set(words.STATE) == set(UpdateState)
