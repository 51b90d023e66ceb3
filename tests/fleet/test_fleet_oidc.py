"""Signing in by an identity provider, and what is refused on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fleet_support import Served
from oidc_provider import CLIENT, SECRET, Provider

from edgeward.fleet.accounts import Role
from edgeward.fleet.oidc import FLOW_S, Oidc
from edgeward.fleet.serve import listen, url_of
from edgeward.fleet.settings import OidcSettings
from edgeward.fleet.store import audit
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet_support import FleetKit

ROLES = (("icu-operators", "operator"), ("icu", "viewer"))


@pytest.fixture
def provider(kit: FleetKit) -> Iterator[Provider]:
    made = Provider(kit.now_s)
    yield made
    made.close()


@pytest.fixture
def browser(kit: FleetKit, provider: Provider, tmp_path: Path) -> Iterator[httpx.Client]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    settings = OidcSettings(provider.issuer, CLIENT, secret, roles=ROLES)
    listener = listen(kit.settings)
    back = f"{url_of(kit.settings, listener)}/oidc/callback"
    kit.fleet = replace(kit.fleet, oidc=Oidc(settings, kit.store, kit.accounts, redirect_url=back))
    served = Served(kit, listener)
    yield served.client
    served.close()


def begun(browser: httpx.Client) -> str:
    """Begin a sign-in and go to the provider; the address that it sends the browser back to."""
    away = browser.get("/oidc/login")
    assert away.status_code == 303
    return httpx.get(away.headers["location"]).headers["location"]


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_somebody_the_provider_vouches_for_is_signed_in_with_the_role_it_names(
    kit: FleetKit, browser: httpx.Client
) -> None:
    home = browser.get(begun(browser))
    assert home.status_code == 200
    assert "httponly; max-age" in home.headers["set-cookie"].lower()
    me = browser.get("/api/v1/me").json()
    assert (me["name"], me["role"]) == ("olga", "operator")
    with kit.store.reading() as session:
        audit.verify(session)


def test_the_role_is_the_one_the_provider_names_now(browser: httpx.Client, provider: Provider) -> None:
    browser.get(begun(browser))
    provider.claims["groups"] = ["icu"]
    browser.get(begun(browser))
    assert browser.get("/api/v1/me").json()["role"] == "viewer"


def test_somebody_without_a_role_is_not_signed_in(browser: httpx.Client, provider: Provider) -> None:
    provider.claims["groups"] = ["kitchen"]
    assert refused(browser.get(begun(browser))) == (403, "role-missing")


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another"},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"iss": "http://127.0.0.1:1"},
        {"exp": 1_000},
        {"iat": 4_000_000_000},
        {"preferred_username": None},
    ],
)
def test_an_id_token_that_was_not_made_for_this_sign_in_is_refused(
    browser: httpx.Client, provider: Provider, changes: dict[str, Any]
) -> None:
    provider.changes = changes
    assert refused(browser.get(begun(browser))) == (403, "oidc-token")


def test_an_id_token_of_another_key_or_algorithm_is_refused(browser: httpx.Client, provider: Provider) -> None:
    provider.signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert refused(browser.get(begun(browser))) == (403, "oidc-token")
    provider.signing, provider.algorithm = b"a shared secret that is long enough", "HS256"
    assert refused(browser.get(begun(browser))) == (403, "oidc-token")
    provider.signing, provider.algorithm = None, "none"
    assert refused(browser.get(begun(browser))) == (403, "oidc-token")


def test_keys_that_the_provider_exchanged_are_asked_for_anew(browser: httpx.Client, provider: Provider) -> None:
    browser.get(begun(browser))
    provider.key = provider.signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    provider.key_id = "k2"
    assert browser.get(begun(browser)).status_code == 200


def test_a_sign_in_is_finished_once_and_by_the_browser_that_began_it(kit: FleetKit, browser: httpx.Client) -> None:
    back = begun(browser)
    cookie = browser.cookies["edgeward-oidc"]
    browser.cookies.clear()
    assert refused(browser.get(back)) == (403, "oidc-state")
    browser.cookies.set("edgeward-oidc", cookie)
    assert browser.get(back).status_code == 200
    browser.cookies.clear()
    browser.cookies.set("edgeward-oidc", cookie)
    assert refused(browser.get(back)) == (403, "oidc-state")
    late = begun(browser)
    kit.now_s += FLOW_S
    assert refused(browser.get(late)) == (403, "oidc-state")


def test_a_code_of_another_sign_in_is_not_taken_back(browser: httpx.Client) -> None:
    first, second = (urlsplit(begun(browser)) for _ in range(2))
    mixed = f"/oidc/callback?code={parse_qs(first.query)['code'][0]}&state={parse_qs(second.query)['state'][0]}"
    assert refused(browser.get(mixed)) == (403, "oidc-token")


def test_a_local_user_is_not_taken_over_by_the_provider(kit: FleetKit, browser: httpx.Client) -> None:
    kit.user("olga", Role.AUDITOR)
    assert refused(browser.get(begun(browser))) == (403, "user-local")


def test_a_provider_that_is_gone_is_said_to_be(browser: httpx.Client, provider: Provider) -> None:
    provider.issuer = "http://127.0.0.1:1"
    assert refused(browser.get("/oidc/login")) == (502, "oidc-unreachable")


def test_a_provider_is_reached_by_tls(kit: FleetKit) -> None:
    with pytest.raises(ConfigError, match="https"):
        Oidc(
            OidcSettings("http://idp.example", CLIENT),
            kit.store,
            kit.accounts,
            redirect_url="https://fleet.example/oidc/callback",
        )
