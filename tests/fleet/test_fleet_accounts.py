"""Users, their sessions and tokens, and who may do what."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from fleet_support import PASSWORD, FleetKit

from edgeward.fleet.accounts import PERMISSIONS, Permission, Role
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import AuditEntry, Login, User

if TYPE_CHECKING:
    from edgeward.fleet.accounts import SignedIn


def signed_in(kit: FleetKit, name: str = "anna", password: str = PASSWORD, address: str = "10.0.0.1") -> SignedIn:
    return kit.accounts.sign_in(name, password, address=address, now_s=kit.now_s)


def code_of(kit: FleetKit, name: str = "anna", password: str = "wrong wrong wrong", address: str = "10.0.0.1") -> str:
    with pytest.raises(RefusedError) as refused:
        signed_in(kit, name, password, address)
    return refused.value.code


def test_nobody_both_prepares_and_approves() -> None:
    for role in Role:
        assert not {Permission.OPERATE, Permission.APPROVE} <= PERMISSIONS[role]
        assert Permission.READ in PERMISSIONS[role]


def test_a_user_signs_in_and_out(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    signed = signed_in(kit)
    caller = kit.accounts.caller(signed.secret, "session", kit.now_s)
    assert caller == signed.caller
    assert kit.accounts.caller(signed.secret, "token", kit.now_s) is None, "a session is no API token"
    kit.accounts.sign_out(signed.caller, now_s=kit.now_s)
    assert kit.accounts.caller(signed.secret, "session", kit.now_s) is None


def test_a_session_ends_by_itself(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    signed = signed_in(kit)
    assert kit.accounts.caller(signed.secret, "session", kit.now_s + 43_199) is not None
    assert kit.accounts.caller(signed.secret, "session", kit.now_s + 43_200) is None


def test_secrets_are_kept_as_hashes(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    signed = signed_in(kit)
    token, _ = kit.accounts.make_token("anna", label="", days=1, actor="user:anna", now_s=kit.now_s)
    with kit.store.reading() as session:
        kept = [row.hash for row in session.query(Login)] + [session.get_one(User, "anna").password]
        noted = [entry.detail + entry.subject for entry in session.query(AuditEntry)]
    for secret in (signed.secret, token, PASSWORD):
        assert all(secret not in text for text in kept + noted)
    assert kept[-1].startswith("$argon2id$")


def test_what_was_wrong_is_not_said(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    assert code_of(kit) == code_of(kit, "nobody") == code_of(kit, "no name; at all") == "sign-in-failed"


def test_tries_are_slowed_by_name_and_address_and_the_right_password_waits_too(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    assert [code_of(kit) for _ in range(6)] == ["sign-in-failed"] * 5 + ["sign-in-wait"]
    assert code_of(kit, password=PASSWORD) == "sign-in-wait"
    assert signed_in(kit, address="10.0.0.2").caller.name == "anna", "a guesser does not lock anna out elsewhere"
    kit.now_s += 1
    assert code_of(kit) == "sign-in-failed"
    assert code_of(kit) == "sign-in-wait"
    kit.now_s += 2
    assert signed_in(kit).caller.name == "anna"
    assert code_of(kit) == "sign-in-failed", "the count began anew"


def test_one_address_that_tries_many_names_is_slowed(kit: FleetKit) -> None:
    codes = [code_of(kit, f"user{number}") for number in range(31)]
    assert codes == ["sign-in-failed"] * 30 + ["sign-in-wait"]


def test_many_tries_at_once_gain_nothing(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    codes: list[str] = []
    threads = [threading.Thread(target=lambda: codes.append(code_of(kit))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count("sign-in-failed") <= 5
    assert len(codes) == 16


def test_a_changed_user_is_signed_out_everywhere(kit: FleetKit) -> None:
    kit.user("anna", Role.OPERATOR)
    signed = signed_in(kit)
    token, _ = kit.accounts.make_token("anna", label="", days=1, actor="user:anna", now_s=kit.now_s)
    kit.accounts.change_user("anna", role=Role.VIEWER, actor="cli:root", now_s=kit.now_s)
    assert kit.accounts.caller(signed.secret, "session", kit.now_s) is None
    assert kit.accounts.caller(token, "token", kit.now_s) is None
    assert signed_in(kit).caller.role is Role.VIEWER
    kit.accounts.change_user("anna", disabled=True, actor="cli:root", now_s=kit.now_s)
    assert code_of(kit, password=PASSWORD) == "sign-in-failed"


def test_a_user_needs_a_plain_name_a_long_password_and_to_be_new(kit: FleetKit) -> None:
    kit.user("anna", Role.VIEWER)
    for name, password, code in (
        ("anna", PASSWORD, "user-exists"),
        ("a b", PASSWORD, "user-name"),
        ("ben", "short", "password-short"),
    ):
        with pytest.raises(RefusedError) as refused:
            kit.accounts.add_user(name, Role.VIEWER, password, actor="cli:root", now_s=kit.now_s)
        assert refused.value.code == code


def test_an_api_token_ends_with_its_days_or_by_its_user(kit: FleetKit) -> None:
    token = kit.token("anna", Role.VIEWER)
    caller = kit.accounts.caller(token, "token", kit.now_s)
    assert caller is not None
    assert kit.accounts.caller(token, "token", kit.now_s + 86_400) is None
    with pytest.raises(RefusedError):
        kit.accounts.end(caller.login, "ben", actor="user:ben", now_s=kit.now_s)
    kit.accounts.end(caller.login, "anna", actor="user:anna", now_s=kit.now_s)
    assert kit.accounts.caller(token, "token", kit.now_s) is None
    with kit.store.reading() as session:
        audit.verify(session)


def test_somebody_new_who_signs_in_twice_at_once_is_one_user(kit: FleetKit) -> None:
    names: list[str] = []
    together = threading.Barrier(4)

    def sign_in() -> None:
        together.wait()
        names.append(kit.accounts.sign_in_as("olga", Role.OPERATOR, now_s=kit.now_s).caller.name)

    threads = [threading.Thread(target=sign_in) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["olga"] * 4
