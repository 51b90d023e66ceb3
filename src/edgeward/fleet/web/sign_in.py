"""Signing in and out, and what every page loads."""

from pathlib import Path
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from edgeward.fleet.api.app import status_of
from edgeward.fleet.api.guard import Reader, TheFleet, address_of, body_of, cookie_name, is_secure
from edgeward.fleet.api.people import set_cookie
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.web.render import page
from edgeward.fleet.web.route import HtmlRoute

router = APIRouter(route_class=HtmlRoute, include_in_schema=False)
_STATIC = Path(__file__).parent / "static"
_KINDS = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
_FILES = {name: (_STATIC / name).read_bytes() for name in _KINDS}
_FORM_BYTES_MAX = 8_192


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Styles, script and icon: there are no others."""
    if name not in _FILES:
        raise RefusedError(404, "no-such-page", "there is nothing at this address")
    return Response(_FILES[name], media_type=_KINDS[name], headers={"cache-control": "max-age=300"})


@router.get("/login")
def asked(request: Request, fleet: TheFleet, to: str = "/") -> Response:
    """The form."""
    return page(request, "login.html", to=_inside(to), message="", by_provider=fleet.oidc is not None)


@router.post("/login")
async def signed_in(request: Request, fleet: TheFleet) -> Response:
    """Take name and password; a wrong one shows the form again."""
    body = (await body_of(request, _FORM_BYTES_MAX)).decode("utf-8", "replace")
    form = {name: values[0] for name, values in parse_qs(body).items()}
    to = _inside(form.get("to", "/"))
    address = address_of(request)
    try:
        made = await run_in_threadpool(
            fleet.accounts.sign_in, form.get("name", ""), form.get("password", ""), address=address, now_s=fleet.now_s()
        )
    except RefusedError as error:
        return page(
            request,
            "login.html",
            status=status_of(error),
            to=to,
            message=str(error),
            by_provider=fleet.oidc is not None,
        )
    response = RedirectResponse(to, 303)
    set_cookie(response, fleet, made.secret)
    return response


@router.post("/logout")
def signed_out(fleet: TheFleet, caller: Reader) -> Response:
    """End the session."""
    fleet.accounts.sign_out(caller, now_s=fleet.now_s())
    response = RedirectResponse("/login", 303)
    response.delete_cookie(cookie_name(fleet), path="/", secure=is_secure(fleet), httponly=True, samesite="strict")
    return response


def _inside(to: str) -> str:
    """Where to go on: a page of this server and no other."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"
