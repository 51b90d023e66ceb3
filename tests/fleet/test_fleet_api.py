"""The REST interface: roles, refusals, pages, and that its description is true."""

import json
import logging
import re
import sys
import time
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fleet_support import NOW_S, PASSWORD, DeviceKeys, FleetKit, Served, certificate_fingerprint, report

from edgeward.exchange.checkin import PATH
from edgeward.exchange.typed import encode
from edgeward.fleet.accounts import Role
from edgeward.fleet.api.guard import Reader, TheFleet
from edgeward.fleet.logs import LOGGER, JsonLines, log
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.serve import listen


def bearer(kit: FleetKit, role: Role) -> dict[str, str]:
    return {"authorization": f"Bearer {kit.token(role.value, role)}"}


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert set(body) == {"code", "message"}
    return answer.status_code, body["code"]


def test_an_operator_takes_a_device_in_describes_it_and_revokes_it(kit: FleetKit, served: Served) -> None:
    client, rights = served.client, bearer(kit, Role.OPERATOR)
    keys = DeviceKeys()
    kit.enrolments.apply(keys.application(), kit.now_s)
    (waiting,) = client.get("/api/v1/enrolments", headers=rights).json()
    assert (waiting["fingerprint"], waiting["facts"]["accelerator"]) == (keys.fingerprint, "cuda")
    accept = f"/api/v1/enrolments/{keys.fingerprint}/accept"
    device = client.post(accept, json={"label": "bed 4", "group": "icu", "tags": ["x"]}, headers=rights).json()[
        "device_id"
    ]
    assert code_of(client.post(accept, json={}, headers=rights)) == (409, "enrolment-decided")
    changed = client.patch(f"/api/v1/devices/{device}", json={"tags": ["b", "a", "a"]}, headers=rights)
    assert changed.status_code == 204
    shown = client.get(f"/api/v1/devices/{device}", headers=rights).json()
    assert (shown["device"]["label"], shown["device"]["tags"], shown["report"]) == ("bed 4", ["a", "b"], None)
    assert shown["device"]["silent"]
    (certificate,) = shown["certificates"]
    assert (certificate["state"], certificate["expires_s"]) == ("current", NOW_S + 45 * 86_400)
    assert client.post(f"/api/v1/devices/{device}/revoke", headers=rights).status_code == 204
    assert code_of(client.post(f"/api/v1/devices/{device}/revoke", headers=rights)) == (409, "device-ended")
    assert client.get("/api/v1/overview", headers=rights).json()["devices"] == {"revoked": 1}


@pytest.mark.parametrize(
    ("role", "method", "path", "status"),
    [
        (Role.VIEWER, "GET", "/api/v1/devices", 200),
        (Role.VIEWER, "POST", f"/api/v1/enrolments/{'a' * 64}/reject", 403),
        (Role.VIEWER, "POST", "/api/v1/devices/d-0000000000000001/revoke", 403),
        (Role.VIEWER, "GET", "/api/v1/audit", 403),
        (Role.VIEWER, "GET", "/api/v1/tokens", 403),
        (Role.APPROVER, "POST", "/api/v1/tokens", 403),
        (Role.APPROVER, "GET", "/api/v1/devices", 200),
        (Role.OPERATOR, "GET", "/api/v1/audit", 403),
        (Role.OPERATOR, "GET", "/api/v1/users", 403),
        (Role.OPERATOR, "GET", "/api/v1/tokens", 200),
        (Role.AUDITOR, "GET", "/api/v1/audit", 200),
        (Role.AUDITOR, "GET", "/api/v1/users", 200),
        (Role.AUDITOR, "GET", "/api/v1/audit/head", 200),
        (Role.AUDITOR, "DELETE", "/api/v1/tokens/t-1", 403),
    ],
)
def test_roles_may_do_what_is_theirs(
    kit: FleetKit, served: Served, role: Role, method: str, path: str, status: int
) -> None:
    answer = served.client.request(method, path, headers=bearer(kit, role))
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "not-permitted"


def test_every_route_but_the_open_ones_asks_who_calls(served: Served) -> None:
    """Taken from the interface's own description, so that a new route cannot be forgotten."""
    open_routes = {"/healthz", "/readyz", "/metrics", "/oidc/login", "/oidc/callback", "/repository/{kind}/{name}"}
    open_routes |= {"/repository/targets/deltas/{name}"}
    devices = {"/v1/check-in", "/v1/enrol", "/v1/renew"}
    document = served.client.get("/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        if path in open_routes | devices:
            continue
        for method in methods:
            if (path, method) == ("/api/v1/session", "post"):
                continue
            address = re.sub(r"\{(\w+)\}", lambda found: {"device_id": "d-" + "0" * 16}.get(found[1], "a" * 64), path)
            answer = served.client.request(method, address)
            assert code_of(answer) == (401, "sign-in-needed"), (method, path)
            asked += 1
    assert asked >= 18


def test_a_browser_signs_in_by_cookie_and_its_changes_show_their_token(kit: FleetKit, served: Served) -> None:
    kit.user("olga", Role.OPERATOR)
    wrong = served.client.post("/api/v1/session", json={"name": "olga", "password": "not this one"})
    assert code_of(wrong) == (401, "sign-in-failed")
    signed = served.client.post("/api/v1/session", json={"name": "olga", "password": PASSWORD})
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    csrf = signed.json()["csrf"]
    assert served.client.get("/api/v1/me").json()["csrf"] == csrf
    assert code_of(served.client.post("/api/v1/tokens", json={})) == (403, "csrf")
    assert code_of(served.client.post("/api/v1/tokens", json={}, headers={"x-csrf-token": "no"})) == (403, "csrf")
    made = served.client.post("/api/v1/tokens", json={}, headers={"x-csrf-token": csrf})
    assert made.status_code == 201
    api = served.client.post("/api/v1/me/tokens", json={"label": "cli"}, headers={"x-csrf-token": csrf}).json()
    by_token = {"authorization": f"Bearer {api['token']}"}
    assert code_of(served.client.post("/api/v1/me/tokens", json={}, headers=by_token)) == (403, "session-needed")
    assert served.client.delete("/api/v1/session", headers={"x-csrf-token": csrf}).status_code == 204
    assert code_of(served.client.get("/api/v1/me")) == (401, "sign-in-needed")
    assert served.client.get("/api/v1/me", headers=by_token).json()["name"] == "olga"


def test_a_form_of_a_page_shows_its_token_in_a_field(kit: FleetKit) -> None:
    """The seam for pages: a further router with its own routes."""
    router = APIRouter()

    @router.post("/pages/greet")
    async def greet(fleet: TheFleet, caller: Reader) -> dict[str, str]:
        return {"name": caller.name}

    made = Served(kit, listen(kit.settings), routers=[router])
    try:
        kit.user("olga", Role.OPERATOR)
        csrf = made.client.post("/api/v1/session", json={"name": "olga", "password": PASSWORD}).json()["csrf"]
        assert code_of(made.client.post("/pages/greet", data={"csrf": "0"})) == (403, "csrf")
        assert made.client.post("/pages/greet", data={"csrf": csrf}).json() == {"name": "olga"}
    finally:
        made.close()


def test_behind_a_trusted_proxy_a_header_names_the_certificate_and_from_elsewhere_it_does_not(kit: FleetKit) -> None:
    _, credential = kit.enrolled()
    shown = certificate_fingerprint(credential)
    colons = ":".join(shown[number : number + 2] for number in range(0, 64, 2)).upper()
    for proxies, value, status in (((), shown, 401), (("127.0.0.1",), shown, 200), (("127.0.0.1",), colons, 200)):
        kit.trust_proxies(proxies)
        made = Served(kit, listen(kit.settings))
        try:
            headers = {"x-client-certificate-sha256": value}
            answer = made.client.post(PATH, content=encode(report(status)), headers=headers)
            assert answer.status_code == status, answer.text
            wrong = made.client.post(PATH, content=encode(report()), headers={"x-client-certificate-sha256": "zz"})
            assert code_of(wrong) == (401, "certificate-missing")
        finally:
            made.close()


def test_refusals_are_a_code_and_a_message_and_repeat_nothing_of_the_request(kit: FleetKit, served: Served) -> None:
    client, rights = served.client, bearer(kit, Role.OPERATOR)
    secret = "Mrs Example"
    assert code_of(client.get("/nowhere")) == (404, "no-such-page")
    assert code_of(client.put("/healthz")) == (405, "method-unknown")
    assert code_of(client.get("/api/v1/devices/d-0000000000000009", headers=rights)) == (404, "device-unknown")
    bad = client.patch("/api/v1/devices/d-0000000000000009", json={"label": 3, "name": secret}, headers=rights)
    assert code_of(bad) == (422, "request-unfit")
    assert secret not in bad.text
    assert code_of(client.get(f"/api/v1/devices/{secret}", headers=rights)) == (422, "request-unfit")
    assert code_of(client.post("/api/v1/session", content=b"x" * (1 << 21))) == (413, "body-too-large")
    in_parts = client.post("/api/v1/session", content=iter([b"x" * (1 << 19)] * 4))
    assert in_parts.status_code in {400, 413}


def test_a_database_that_is_gone_is_a_503(kit: FleetKit, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    rights = bearer(kit, Role.VIEWER)
    assert served.client.get("/readyz").status_code == 200

    def gone(*_: Any) -> None:
        raise RefusedError(503, "store-unreachable", "it is gone")

    monkeypatch.setattr(type(kit.store), "check", gone)
    assert code_of(served.client.get("/readyz")) == (503, "store-unreachable")
    assert served.client.get("/healthz").status_code == 200
    assert served.client.get("/api/v1/devices", headers=rights).status_code == 200


def test_metrics_tell_the_fleet_without_a_name_of_anybody(kit: FleetKit, served: Served) -> None:
    _, credential = kit.enrolled()
    kit.user("anna", Role.VIEWER)
    served.client.get("/healthz")
    text = served.client.get("/metrics").text
    assert 'edgeward_fleet_devices{state="active"} 1.0' in text
    assert 'edgeward_fleet_waiting{what="silent"} 1.0' in text
    assert 'edgeward_fleet_requests_total{route="/healthz",status="200"} 1.0' in text
    assert "anna" not in text
    assert str(credential.device) not in text


def test_logs_are_json_of_patterns_not_paths(kit: FleetKit, served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=LOGGER.name):
        served.client.get("/api/v1/devices/d-0000000000000009?text=Mrs+Example", headers=bearer(kit, Role.VIEWER))
        deadline = time.monotonic() + 20
        while all(one.getMessage() != "request" for one in caplog.records) and time.monotonic() < deadline:
            time.sleep(0.01)  # the line is written once the answer is out
        log("done", number=3)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    (line,) = [line for line in lines if line["what"] == "request"]
    assert (line["route"], line["status"], line["user"]) == ("/api/v1/devices/{device_id}", 404, "viewer")
    assert line["refusal"] == "device-unknown"
    assert "Example" not in json.dumps(lines)
    assert lines[-1]["number"] == 3


def test_an_exception_s_text_stays_out_of_the_log() -> None:
    try:
        int("Mrs Example")
    except ValueError:
        record = LOGGER.makeRecord("x", logging.ERROR, "f", 1, "a request failed", (), sys.exc_info())
    line = JsonLines().format(record)
    assert "Example" not in line
    assert json.loads(line)["error"] == "ValueError"


def test_the_audit_is_paged_and_filtered(kit: FleetKit, served: Served) -> None:
    rights = bearer(kit, Role.AUDITOR)
    for _ in range(5):
        kit.enrolled()
    first = served.client.get("/api/v1/audit?count=4", headers=rights).json()
    assert [entry["seq"] for entry in first["entries"]] == [12, 11, 10, 9]
    rest = served.client.get(f"/api/v1/audit?before={first['next']}&count=100", headers=rights).json()
    assert (rest["entries"][-1]["seq"], rest["next"]) == (1, None)
    accepted = served.client.get("/api/v1/audit?action=enrolment.accepted", headers=rights).json()["entries"]
    assert len(accepted) == 5
    assert {entry["actor"] for entry in accepted} == {"user:olga"}


def test_pages_from_elsewhere_can_neither_frame_nor_script_the_server(served: Served) -> None:
    headers = served.client.get("/healthz").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
