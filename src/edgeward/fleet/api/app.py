"""The application: its routes, what every answer carries, and how refusals look."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import edgeward
from edgeward.fleet.accounts import Permission
from edgeward.fleet.api import device, devices, enrolments, oidc, people, releases, repository
from edgeward.fleet.api.guard import Needs, address_of, fleet_of, is_secure
from edgeward.fleet.api.shapes import ErrorBody, unfit
from edgeward.fleet.blobs import BlobsError
from edgeward.fleet.logs import LOGGER, log
from edgeward.fleet.metrics import CONTENT_TYPE, Metrics
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.releases import LOOK_S, Releases
from edgeward.kernel.errors import EdgewardError, InputError, TrustError
from edgeward.kernel.hosts import LOOPBACK

BODY_BYTES_MAX = 1 << 20
_QUIET = frozenset(
    {
        "/v1/check-in",
        "/healthz",
        "/readyz",
        "/metrics",
        "/repository/{kind}/{name}",
        "/repository/targets/deltas/{name}",
    }
)
"""Routes whose good answers are counted and not logged: they come by the thousand."""
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", _POLICY),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")


def create_app(fleet: Fleet, *, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The application over ``fleet``. ``routers``: further ones (rollouts, console), which use ``guard.fleet_of``.

    A router's refusals are ``EdgewardError``s: they become ``{code, message}`` with a fitting status.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> Any:
        looking = asyncio.create_task(_look(fleet, fleet.releases)) if fleet.releases is not None else None
        yield
        if looking is not None:
            looking.cancel()
        await run_in_threadpool(fleet.close)

    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": text}
        for status, text in ((401, "Who are you?"), (403, "Not permitted"), (422, "Not as declared"))
    }
    app = FastAPI(
        title="Edgeward fleet",
        summary="Devices of a hospital: who they are, what they run, what they shall run next.",
        description="Every refusal has a body of `code` (for programs) and `message` (for people). Sign in by "
        "`POST /api/v1/session` or show an API token (`Authorization: Bearer …`). Times are seconds since 1970.",
        version=edgeward.__version__,
        docs_url=None,  # its page loads scripts from elsewhere; /openapi.json is all there is
        redoc_url=None,
        lifespan=lifespan,
        responses=errors,
    )
    app.state.fleet = fleet
    app.state.metrics = Metrics()
    own = (device, devices, enrolments, oidc, people, releases, repository)
    for router in (*(one.router for one in own), _health, *routers):
        app.include_router(router)
    app.add_exception_handler(EdgewardError, _refused)
    app.add_exception_handler(RequestValidationError, _not_as_declared)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(_Rim, fleet=fleet, metrics=app.state.metrics)
    return app


async def _look(fleet: Fleet, releases: Releases) -> None:
    """Look at the repository from time to time; what goes wrong is logged, and the next look may go well."""
    told = ""
    while True:
        try:
            await releases.renew(fleet.now_s())
            told = ""
        except EdgewardError as error:
            if error.code != told:  # said once, not once a minute
                told = error.code
                log("releases not read", level=logging.WARNING, code=error.code)
        except SQLAlchemyError:
            log("releases not read", level=logging.WARNING, code="store-unreachable")
        await asyncio.sleep(LOOK_S)


_health = APIRouter(tags=["operation"])


@_health.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    """Always, as long as it answers."""
    return {"status": "ok"}


@_health.get("/readyz", summary="The database answers")
def readyz(request: Request) -> Response:
    """503 while it does not: a balancer sends nothing here then."""
    try:
        fleet_of(request).store.check()
    except EdgewardError as error:
        return _body(503, error.code, "the database does not answer")
    return JSONResponse({"status": "ok"})


@_health.get("/metrics", summary="Figures for Prometheus")
async def metrics(request: Request) -> Response:
    """For loopback, and for whoever shows an API token that may read."""
    if address_of(request) not in LOOPBACK:
        await Needs(Permission.READ)(request)
    text = await run_in_threadpool(request.app.state.metrics.text, fleet_of(request))
    return Response(text, headers={"content-type": CONTENT_TYPE})


def status_of(error: EdgewardError) -> int:
    """The HTTP status for an error of ours."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, InputError):
        return 422
    if isinstance(error, BlobsError):
        return 503
    return 409 if isinstance(error, TrustError) else 400


def _body(status: int, code: str, message: str) -> JSONResponse:
    headers = {"retry-after": "30"} if status in {429, 503} else None
    return JSONResponse({"code": code, "message": message}, status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, EdgewardError)
    request.scope["refusal"] = error.code
    return _body(status_of(error), error.code, str(error))


async def _not_as_declared(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _body(422, "request-unfit", unfit(error.errors()))


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: ("no-such-page", "there is nothing at this address"), 405: ("method-unknown", "not with this method")}
    return _body(error.status_code, *words.get(error.status_code, ("request-refused", "the request was refused")))


async def _database(_request: Request, _error: Exception) -> Response:
    LOGGER.exception("the database failed")
    return _body(503, "store-unreachable", "the database does not answer; try again later")


async def _failed(_request: Request, _error: Exception) -> Response:
    LOGGER.error("a request failed", exc_info=_error)
    return _body(500, "failed", "the server failed at this; its log says where")


class _Rim:
    """Around every request: its size, what its answer carries, its figures and its line in the log."""

    def __init__(self, app: ASGIApp, fleet: Fleet, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._headers = (*_HEADERS, _HSTS) if is_secure(fleet) else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = time.perf_counter(), 500, 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > BODY_BYTES_MAX:
                raise RefusedError(413, "body-too-large", f"a request may have {BODY_BYTES_MAX} bytes")
            return message

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                named = {name.lower() for name, _ in headers}
                headers.extend(one for one in self._headers if one[0] not in named)
                if b"cache-control" not in named:
                    headers.append((b"cache-control", b"no-store"))
            await send(message)

        try:
            if _announced(scope) > BODY_BYTES_MAX:
                await _body(413, "body-too-large", f"a request may have {BODY_BYTES_MAX} bytes")(
                    scope, receive, dressed
                )
            else:
                await self._app(scope, limited, dressed)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route, status, seconds)
            if status >= 400 or route not in _QUIET:
                _line(scope, route, status, seconds)


def _announced(scope: Scope) -> int:
    """How long the body is said to be; one of unknown length is counted as it comes."""
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(text) if text.isdigit() and len(text) < 16 else BODY_BYTES_MAX + 1


def _line(scope: Scope, route: str, status: int, seconds: float) -> None:
    caller = scope.get("state", {}).get("caller")
    log(
        "request",
        level=logging.WARNING if status >= 500 else logging.INFO,
        method=scope["method"],
        route=route,
        status=status,
        ms=round(seconds * 1e3, 1),
        user=caller.name if caller is not None else None,
        refusal=scope.get("refusal"),
    )
