"""Routes that answer people: a refusal is a page, and whoever is not signed in is sent to the sign-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from edgeward.fleet.api.app import status_of
from edgeward.fleet.api.guard import find_caller
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.web.render import page
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import Request


class HtmlRoute(APIRoute):
    """As ``APIRoute``, with errors of ours as pages."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, wrapped."""
        handle = super().get_route_handler()

        async def wrapped(request: Request) -> Response:
            try:
                return await handle(request)
            except EdgewardError as error:
                request.scope["refusal"] = error.code
                return await refused(request, error)
            except RequestValidationError:
                return await refused(request, RefusedError(404, "no-such-page", "there is nothing at this address"))

        return wrapped


async def refused(request: Request, error: EdgewardError) -> Response:
    """The page that says why not, and how to go on."""
    if error.code == "sign-in-needed":
        if request.method == "GET" and not request.url.path.endswith("/live"):
            return RedirectResponse(f"/login?to={quote(request.url.path)}", 303)
        return Response(status_code=401)
    try:
        caller = await find_caller(request)
    except EdgewardError:
        caller = None
    shown = {"code": error.code, "message": str(error), "back": _page_before(request.url.path)}
    return page(request, "refused.html", caller=caller, status=status_of(error), **shown)


def _page_before(path: str) -> str:
    """The page on which the deed at ``path`` stood: one above, and applications have no pages of their own."""
    return "/enrolments" if path.startswith("/enrolments/") else path.rpartition("/")[0] or "/"
