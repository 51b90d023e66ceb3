"""``/api/v1/session``, ``/me``, ``/users``, ``/audit``: signing in, and who did what."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import select

from edgeward.fleet.accounts import PERMISSIONS, Caller
from edgeward.fleet.api.guard import AUDITS, Reader, TheFleet, address_of, cookie_name, is_secure
from edgeward.fleet.api.shapes import (
    ApiTokenMake,
    AuditPage,
    EntryView,
    HeadView,
    LoginView,
    Made,
    Me,
    SignIn,
    UserView,
)
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import AuditEntry, Login, User

router = APIRouter(prefix="/api/v1")


@router.post("/session", tags=["signing in"], summary="Sign in with a local account")
def signed_in(fleet: TheFleet, request: Request, response: Response, who: SignIn) -> Me:
    """Sets the session's cookie. 401 does not say whether name or password was wrong; 429: wait."""
    made = fleet.accounts.sign_in(who.name, who.password, address=address_of(request), now_s=fleet.now_s())
    set_cookie(response, fleet, made.secret)
    return _me(made.caller)


@router.delete("/session", status_code=204, tags=["signing in"], summary="Sign out")
def signed_out(fleet: TheFleet, caller: Reader) -> Response:
    """Ends the session (or API token) that the request shows."""
    fleet.accounts.sign_out(caller, now_s=fleet.now_s())
    response = Response(status_code=204)
    response.delete_cookie(cookie_name(fleet), path="/", secure=is_secure(fleet), httponly=True, samesite="strict")
    return response


@router.get("/me", tags=["signing in"], summary="Who the caller is")
def me(caller: Reader) -> Me:
    """Name, role, rights, and the token that a browser's changing requests repeat."""
    return _me(caller)


@router.get("/me/tokens", tags=["signing in"], summary="The caller's sessions and API tokens")
def my_tokens(fleet: TheFleet, caller: Reader) -> list[LoginView]:
    """Without their secrets."""
    query = select(Login).where(Login.user == caller.name).order_by(Login.made_s.desc())
    with fleet.store.reading() as session:
        return [LoginView.of(row) for row in session.scalars(query)]


@router.post("/me/tokens", status_code=201, tags=["signing in"], summary="An API token with the caller's rights")
def my_token_made(fleet: TheFleet, caller: Reader, how: ApiTokenMake) -> Made:
    """It is shown here and never again. A browser's session is needed: a token makes no tokens."""
    if not caller.csrf:
        raise RefusedError(403, "session-needed", "sign in with a browser to make API tokens; a token makes none")
    token, number = fleet.accounts.make_token(
        caller.name, label=how.label, days=how.days, actor=caller.actor, now_s=fleet.now_s()
    )
    return Made(id=number, token=token)


@router.delete("/me/tokens/{token_id}", status_code=204, tags=["signing in"], summary="End a session or API token")
def my_token_ended(fleet: TheFleet, caller: Reader, token_id: str) -> Response:
    """One of the caller's own."""
    fleet.accounts.end(token_id, caller.name, actor=caller.actor, now_s=fleet.now_s())
    return Response(status_code=204)


@router.get("/users", tags=["audit"], summary="Users", dependencies=[AUDITS])
def users(fleet: TheFleet) -> list[UserView]:
    """They are made on the server's machine or by the identity provider, not here."""
    with fleet.store.reading() as session:
        return [UserView.of(row) for row in session.scalars(select(User).order_by(User.name))]


@router.get("/audit", tags=["audit"], summary="Who did what", dependencies=[AUDITS])
def entries(
    fleet: TheFleet,
    before: Annotated[int | None, Query(ge=1, description="Entries older than this number")] = None,
    count: Annotated[int, Query(ge=1, le=1_000)] = 100,
    action: str = "",
    subject: str = "",
    actor: str = "",
) -> AuditPage:
    """Newest first."""
    query = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(count + 1)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    for column, value in ((AuditEntry.action, action), (AuditEntry.subject, subject), (AuditEntry.actor, actor)):
        if value:
            query = query.where(column == value)
    with fleet.store.reading() as session:
        rows = session.scalars(query).all()
    shown = [EntryView.of(row) for row in rows[:count]]
    return AuditPage(entries=shown, next=shown[-1].seq if len(rows) > count else None)


@router.get("/audit/head", tags=["audit"], summary="The audit, verified whole", dependencies=[AUDITS])
def head(fleet: TheFleet) -> HeadView:
    """Its newest entry's number and hash; 409 ``audit-broken`` names the first entry that does not hold."""
    with fleet.store.reading() as session:
        found = audit.verify(session)
    return HeadView(seq=found.seq, hash=found.hash)


def set_cookie(response: Response, fleet: Fleet, secret: str) -> None:
    """The session's cookie: for this host, over TLS, never for a script and never from another site."""
    response.set_cookie(
        cookie_name(fleet),
        secret,
        max_age=fleet.settings.session_s,
        path="/",
        secure=is_secure(fleet),
        httponly=True,
        samesite="strict",
    )


def _me(caller: Caller) -> Me:
    rights = sorted(one.value for one in PERMISSIONS[caller.role])
    return Me(name=caller.name, role=caller.role.value, permissions=rights, csrf=caller.csrf)
