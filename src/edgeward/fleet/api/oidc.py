"""``/oidc``: signing in by the hospital's identity provider."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from edgeward.fleet.api.guard import TheFleet, is_secure
from edgeward.fleet.api.people import set_cookie
from edgeward.fleet.oidc import FLOW_S
from edgeward.fleet.refused import RefusedError

router = APIRouter(prefix="/oidc", tags=["signing in"])
_COOKIE = "edgeward-oidc"
_HOME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signed in</title>
<meta http-equiv="refresh" content="0; url=/"></head><body><p><a href="/">Go on</a></p></body></html>
"""
"""The session's cookie is never sent on a way that began at another site: this page begins a new one."""


@router.get("/login", summary="To the identity provider")
def login(fleet: TheFleet) -> Response:
    """A redirect."""
    if fleet.oidc is None:
        raise RefusedError(404, "no-oidc", "this server has no identity provider; sign in with a local account")
    where, state = fleet.oidc.begin(fleet.now_s())
    response = RedirectResponse(where, status_code=303)
    response.set_cookie(
        _COOKIE, state, max_age=FLOW_S, path="/oidc", secure=is_secure(fleet), httponly=True, samesite="lax"
    )
    return response


@router.get("/callback", summary="Back from the identity provider")
def callback(fleet: TheFleet, request: Request, code: str = "", state: str = "", error: str = "") -> Response:
    """Sets the session's cookie."""
    if fleet.oidc is None:
        raise RefusedError(404, "no-oidc", "this server has no identity provider; sign in with a local account")
    if error or not code:
        raise RefusedError(403, "oidc-refused", "the identity provider did not sign you in; begin anew")
    signed = fleet.oidc.finish(code=code, state=state, cookie=request.cookies.get(_COOKIE, ""), now_s=fleet.now_s())
    response = HTMLResponse(_HOME)
    set_cookie(response, fleet, signed.secret)
    response.delete_cookie(_COOKIE, path="/oidc", secure=is_secure(fleet), httponly=True, samesite="lax")
    return response
