"""Who may act: users with one role each, their browsers and their programs.

Passwords are argon2id hashes; the secrets of sessions and API tokens are kept as SHA-256. Failed sign-ins are counted
before the password is looked at, by name and address, so that many tries at once gain nothing. Users are made on the
server's own machine (``edgeward fleet user``) or by the identity provider, never over the network: nobody who takes
over a browser can make another account.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select

from edgeward.fleet.authority import DAY_S
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.engine import insert_missing
from edgeward.fleet.store.models import Login, LoginFailure, User

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from edgeward.fleet.store.engine import Store

PASSWORD_CHARS_MIN = 12
PASSWORD_CHARS_MAX = 1_024
API_TOKEN_DAYS_MAX = 366
HASHES_AT_ONCE = 2
"""Each holds 64 MiB."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SEEN_S = 60
_FORGET_S = DAY_S


class Permission(StrEnum):
    """What somebody may do."""

    READ = "read"
    OPERATE = "operate"
    """Take devices in and out; prepare and steer rollouts."""
    APPROVE = "approve"
    """Say yes to what an operator prepared."""
    AUDIT = "audit"
    """Read the audit and who the users are."""


class Role(StrEnum):
    """A user's one role. Nobody both prepares a rollout and approves it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"


PERMISSIONS = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.OPERATOR: frozenset({Permission.READ, Permission.OPERATE}),
    Role.APPROVER: frozenset({Permission.READ, Permission.APPROVE}),
    Role.AUDITOR: frozenset({Permission.READ, Permission.AUDIT}),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from. ``csrf``: what a browser's changing request must repeat; empty for an API token."""

    name: str
    role: Role
    login: str
    csrf: str = ""

    @property
    def actor(self) -> str:
        """How the audit names them."""
        return f"user:{self.name}"

    def may(self, permission: Permission) -> bool:
        """Whether their role allows it."""
        return permission in PERMISSIONS[self.role]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session: its secret (for the cookie) and whose it is."""

    secret: str
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Rule:
    """After ``free`` failures in a row the wait doubles from one second up to ``wait_s_max``."""

    free: int
    wait_s_max: int


_RULES = {"both": _Rule(5, 900), "address": _Rule(30, 900), "name": _Rule(50, 60)}


class Accounts:
    """Users, sessions and API tokens in ``store``. ``session_s``: how long a browser stays signed in."""

    def __init__(
        self,
        store: Store,
        *,
        session_s: int = 43_200,
        hasher: PasswordHasher | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._session_s = session_s
        self._hasher = hasher or PasswordHasher()
        self._random = random
        self._room = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._nobody = self._hasher.hash("nobody has this password")

    # --- users

    def add_user(self, name: str, role: Role, password: str, *, actor: str, now_s: int) -> None:
        """Make a local user. ``RefusedError``: ``user-name``, ``password-short``, ``user-exists``."""
        if not _NAME.fullmatch(name):
            raise RefusedError(422, "user-name", "a user's name is up to 64 of A-Z a-z 0-9 . _ @ -")
        row = User(name=name, role=role.value, password=self._hash(password), made_s=now_s)
        with self._store.writing() as session:
            if session.get(User, name) is not None:
                raise RefusedError(409, "user-exists", f"there is a user {name} already")
            session.add(row)
            self._note(session, actor, "user.made", name, now_s, role=role.value)

    def change_user(
        self,
        name: str,
        *,
        role: Role | None = None,
        password: str | None = None,
        disabled: bool | None = None,
        actor: str,
        now_s: int,
    ) -> None:
        """Give a user another role or password, or lock them out. Ends their sessions and tokens.

        ``RefusedError``: ``user-unknown``, ``password-short``.
        """
        hashed = self._hash(password) if password is not None else None
        with self._store.writing() as session:
            user = session.get(User, name, with_for_update=True)
            if user is None:
                raise RefusedError(404, "user-unknown", f"there is no user {name}")
            user.role = role.value if role is not None else user.role
            user.password = hashed if hashed is not None else user.password
            user.disabled = disabled if disabled is not None else user.disabled
            session.execute(delete(Login).where(Login.user == name))
            self._note(
                session, actor, "user.changed", name, now_s, role=user.role, disabled=user.disabled,
                password=hashed is not None,
            )  # fmt: skip

    # --- signing in

    def sign_in(self, name: str, password: str, *, address: str, now_s: int) -> SignedIn:
        """A session for a local user.

        ``RefusedError``: 401 ``sign-in-failed`` (it does not say what was wrong), 429 ``sign-in-wait``.
        """
        keys = {"both": f"both:{name[:64]}|{address}", "address": f"address:{address}", "name": f"name:{name[:64]}"}
        with self._store.writing() as session:
            wait_s = _count_failure(session, keys, now_s)
        if wait_s > 0:
            raise RefusedError(429, "sign-in-wait", f"too many failed tries; wait {wait_s} seconds")
        with self._store.reading() as session:
            user = session.get(User, name) if _NAME.fullmatch(name) else None
        usable = user is not None and not user.disabled and user.source == "local"
        right = self._matches(user.password if user is not None and usable else self._nobody, password)
        if user is None or not usable or not right:
            raise RefusedError(401, "sign-in-failed", "name or password is wrong, or the account is locked")
        with self._store.writing() as session:
            _forgive(session, keys)
            return self._session(session, user, now_s)

    def sign_in_as(self, name: str, role: Role, *, now_s: int) -> SignedIn:
        """A session for somebody the identity provider vouches for; their role is what it says now.

        ``RefusedError``: 403 ``user-local`` (the name is a local user's), ``user-disabled``, ``user-name``.
        """
        if not _NAME.fullmatch(name):
            raise RefusedError(
                403, "user-name", "the identity provider gave a name that is not up to 64 of A-Z a-z 0-9 . _ @ -"
            )
        with self._store.writing() as session:
            values = {"role": role.value, "source": "oidc", "password": "", "made_s": now_s, "disabled": False}
            is_new = insert_missing(session, User, name=name, **values)
            user = session.get_one(User, name, with_for_update=True)
            if is_new:
                self._note(session, "oidc", "user.made", name, now_s, role=role.value)
            if user.source != "oidc":
                raise RefusedError(403, "user-local", "a local user has this name; remove one of the two")
            if user.disabled:
                raise RefusedError(403, "user-disabled", "this account is locked")
            if user.role != role.value:
                user.role = role.value
                session.execute(delete(Login).where(Login.user == name))
                self._note(session, "oidc", "user.changed", name, now_s, role=role.value)
            return self._session(session, user, now_s)

    def sign_out(self, caller: Caller, *, now_s: int) -> None:
        """End the session or token that the caller uses."""
        self.end(caller.login, caller.name, actor=caller.actor, now_s=now_s)

    def make_token(self, user: str, *, label: str, days: float, actor: str, now_s: int) -> tuple[str, str]:
        """An API token with the rights of ``user``, shown here and never again, and its id."""
        if not 0 < days <= API_TOKEN_DAYS_MAX:
            raise RefusedError(422, "token-days", f"an API token lives for up to {API_TOKEN_DAYS_MAX} days")
        secret = f"ew_{self._random(32).hex()}"
        with self._store.writing() as session:
            if session.get(User, user) is None:
                raise RefusedError(404, "user-unknown", f"there is no user {user}")
            row = self._login("token", user, secret, label, now_s, now_s + int(days * DAY_S))
            session.add(row)
            self._note(session, actor, "api-token.made", row.id, now_s, user=user, expires_s=row.expires_s)
            return secret, row.id

    def end(self, login: str, user: str, *, actor: str, now_s: int) -> None:
        """End the session or API token ``login`` of ``user``; ``RefusedError`` (``token-unknown``)."""
        with self._store.writing() as session:
            row = session.scalar(select(Login).where(Login.id == login, Login.user == user))
            if row is None:
                raise RefusedError(404, "token-unknown", "there is no such session or token")
            session.delete(row)
            self._note(session, actor, f"{'api-token' if row.kind == 'token' else 'session'}.ended", login, now_s)

    def caller(self, secret: str, kind: str, now_s: int) -> Caller | None:
        """Whose session or token the secret is; None when it is nobody's, or too old."""
        with self._store.reading() as session:
            found = session.execute(
                select(Login, User)
                .join(User, User.name == Login.user)
                .where(Login.hash == _digest(secret), Login.kind == kind)
            ).one_or_none()
        if found is None:
            return None
        login, user = found
        if user.disabled or now_s >= login.expires_s:
            return None
        if now_s - login.seen_s >= _SEEN_S:
            with self._store.writing() as session:
                row = session.get(Login, login.hash)
                if row is not None:
                    row.seen_s = now_s
        return Caller(user.name, Role(user.role), login.id, login.csrf)

    # --- within

    def _session(self, session: Session, user: User, now_s: int) -> SignedIn:
        session.execute(delete(Login).where(Login.expires_s <= now_s))
        secret = self._random(32).hex()
        row = self._login("session", user.name, secret, "", now_s, now_s + self._session_s)
        row.csrf = self._random(16).hex()
        session.add(row)
        self._note(session, f"user:{user.name}", "session.begun", row.id, now_s, source=user.source)
        return SignedIn(secret, Caller(user.name, Role(user.role), row.id, row.csrf))

    def _login(self, kind: str, user: str, secret: str, label: str, now_s: int, expires_s: int) -> Login:
        return Login(
            hash=_digest(secret),
            id=f"l-{self._random(8).hex()}",
            kind=kind,
            user=user,
            label=label,
            csrf="",
            made_s=now_s,
            seen_s=now_s,
            expires_s=expires_s,
        )

    def _hash(self, password: str) -> str:
        if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
            raise RefusedError(
                422, "password-short", f"a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"
            )
        with self._room:
            return self._hasher.hash(password)

    def _matches(self, hashed: str, password: str) -> bool:
        with self._room:
            try:
                return self._hasher.verify(hashed, password[:PASSWORD_CHARS_MAX])
            except (VerificationError, InvalidHashError):
                return False

    def _note(
        self, session: Session, actor: str, action: str, subject: str, now_s: int, **detail: str | int | bool
    ) -> None:
        audit.record(session, actor=actor, action=action, subject=subject, detail=detail, now_s=now_s)


def same(left: str, right: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell."""
    return hmac.compare_digest(left.encode(), right.encode())


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _count_failure(session: Session, keys: dict[str, str], now_s: int) -> int:
    """Count one failure for every key before it is known; seconds to wait when one of them must."""
    session.execute(delete(LoginFailure).where(LoginFailure.last_s < now_s - _FORGET_S))
    rows = {}
    for kind, key in sorted(keys.items()):
        insert_missing(session, LoginFailure, key=key, failures=0, until_s=0, last_s=now_s)
        row = session.get_one(LoginFailure, key, with_for_update=True)
        if row.until_s > now_s:
            return row.until_s - now_s
        rows[kind] = row
    for kind, row in rows.items():
        row.failures += 1
        row.last_s = now_s
        over = row.failures - _RULES[kind].free
        row.until_s = now_s + min(_RULES[kind].wait_s_max, 1 << min(over, 20)) if over >= 0 else 0
        if over == 0:
            audit.record(
                session, actor="server", action="sign-in.slowed", subject=kind, detail={"failures": row.failures},
                now_s=now_s,
            )  # fmt: skip
    return 0


def _forgive(session: Session, keys: dict[str, str]) -> None:
    """A sign-in that went well takes its own count back, and ends the row of failures of name and address together."""
    for kind, key in sorted(keys.items()):
        row = session.get(LoginFailure, key, with_for_update=True)
        if row is None:
            continue
        row.failures = 0 if kind == "both" else max(0, row.failures - 1)
        row.until_s = 0
