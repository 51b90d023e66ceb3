"""What the console's tests share: a fleet with people, browsers without scripts, and forms as they are sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx
from conduct_support import FAMILY, Site
from fleet_support import PASSWORD

from edgeward.fleet.accounts import Role
from edgeward.fleet.api import rollouts
from edgeward.fleet.api.app import create_app
from edgeward.fleet.web.console import ROUTERS

if TYPE_CHECKING:
    from fleet_support import FleetKit

PLAN = {"stage": [{"name": "canary", "count": 2, "success": "100 %", "errors": "0 %"}, {"name": "the rest"}]}
PEOPLE = {"ann": Role.OPERATOR, "cyd": Role.OPERATOR, "ben": Role.APPROVER, "vic": Role.VIEWER, "quinn": Role.AUDITOR}


class Client:
    """A browser or a program, with its cookies, on the application itself."""

    def __init__(self, app: Any, headers: dict[str, str] | None = None, *, follow_redirects: bool = True) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            headers=headers,
            follow_redirects=follow_redirects,
        )

    def get(self, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._client.get(path, **more))

    def patch(self, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._client.patch(path, **more))

    def post(self, path: str, **more: Any) -> httpx.Response:
        return asyncio.run(self._client.post(path, **more))


class House:
    """A site, its application and its people."""

    def __init__(self, kit: FleetKit, size: int = 4) -> None:
        self.site = Site(kit, size, groups=("icu", "ward"))
        fleet = replace(kit.with_rollouts(self.site.book).fleet, desk=self.site.desk)
        self.app = create_app(fleet, routers=(rollouts.router, *ROUTERS))
        self.tokens = {}
        for name, role in PEOPLE.items():
            self.tokens[name] = kit.token(name, role)

    def api(self, name: str) -> Client:
        return Client(self.app, headers={"authorization": f"Bearer {self.tokens[name]}"})

    def drafted(self) -> int:
        """A rollout of two devices, then the rest, that an operator has drafted."""
        answer = self.api("ann").post("/api/v1/rollouts", json={"family": FAMILY, "plan": PLAN})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def browser(self, name: str) -> Client:
        client = Client(self.app)
        answer = client.post("/login", data={"name": name, "password": PASSWORD, "to": "/"})
        assert answer.status_code == 200, answer.text
        return client


class Forms(HTMLParser):
    """Every form's action with its hidden fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self._at = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._at = given["action"]
            self.found.setdefault(self._at, {})
        elif tag == "input" and given.get("type") == "hidden":
            self.found[self._at][given["name"]] = given["value"]


def press(client: Client, page: str, action: str, **more: str | list[str]) -> tuple[int, str]:
    """Send a form of a page as a browser would."""
    forms = Forms(client.get(page).text).found
    assert action in forms, sorted(forms)
    answer = client.post(action, data={**forms[action], **more})
    return answer.status_code, answer.text
