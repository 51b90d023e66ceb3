"""Rollouts: the list, a new one, and the page on which one is watched and steered."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from edgeward.fleet.accounts import Caller, Permission
from edgeward.fleet.api.guard import READS, Operator, Reader, TheFleet
from edgeward.fleet.api.rollouts import Draft, create, decide, steers
from edgeward.fleet.api.shapes import fitting
from edgeward.fleet.conduct import look
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.rollout.words import Standing
from edgeward.fleet.web import forms
from edgeward.fleet.web.inventory import choices_of
from edgeward.fleet.web.live import stream
from edgeward.fleet.web.render import fragment, page
from edgeward.fleet.web.route import HtmlRoute
from edgeward.kernel.week import DAYS

router = APIRouter(route_class=HtmlRoute, include_in_schema=False)
FAILED_SHOWN = 50
_Number = Annotated[int, Path(ge=1, le=(1 << 53) - 1)]


@router.get("/rollouts")
def listed(
    request: Request, fleet: TheFleet, caller: Reader, before: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """The newest first."""
    with fleet.store.reading() as session:
        found = look.listed(session, before=before, count=50)
    return page(request, "rollouts.html", caller=caller, found=found)


@router.get("/rollouts/new")
def asked(request: Request, fleet: TheFleet, caller: Operator) -> Response:
    """The form."""
    return page(request, "rollout_new.html", caller=caller, form=_DEFAULTS, message="", **_offered(fleet))


@router.post("/rollouts/new")
async def made(request: Request, fleet: TheFleet, caller: Operator) -> Response:
    """Draft it; what cannot be shows the form again with everything that was written."""
    form = {name: str(value)[:200] for name, value in (await request.form()).items()}
    days = [str(day) for day in (await request.form()).getlist("day")]
    try:
        number = await run_in_threadpool(_draft, fleet, caller, form, days)
    except RefusedError as error:
        shown = {**_DEFAULTS, **form, "days": days}
        offered = await run_in_threadpool(_offered, fleet)
        return page(
            request, "rollout_new.html", caller=caller, status=error.status, form=shown, message=str(error), **offered
        )
    return RedirectResponse(f"/rollouts/{number}", 303)


@router.get("/rollouts/{number}")
def shown(
    request: Request,
    fleet: TheFleet,
    caller: Reader,
    number: _Number,
    standing: Annotated[Standing | None, Query()] = None,
    after: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """Stages as they fill, the reason of every failure, and what may be done."""
    context = _context(fleet, caller, number)
    with fleet.store.reading() as session:
        wanted = standing.value if standing else ""
        places = look.places(session, number, standing=wanted, errors=not wanted, after=after, count=FAILED_SHOWN + 1)
    context |= {"places": places[:FAILED_SHOWN], "standing": wanted}
    context["more"] = places[FAILED_SHOWN - 1].row.device_id if len(places) > FAILED_SHOWN else ""
    return page(request, "rollout.html", caller=caller, **context)


@router.get("/rollouts/{number}/live", dependencies=[READS])
async def live(request: Request, fleet: TheFleet, caller: Reader, number: _Number) -> Response:
    """The page's parts, whenever the rollout changes."""

    def mark() -> int:
        with fleet.store.reading() as session:
            return look.pulse(session, number)

    return stream(request, mark, lambda: fragment("rollout_live.html", **_context(fleet, caller, number)))


@router.post("/rollouts/{number}/{deed}")
async def steered(
    request: Request,
    fleet: TheFleet,
    number: _Number,
    deed: Literal["approve", "pause", "resume", "abort", "return"],
) -> Response:
    """Do it, on the picture that the person saw."""
    caller = await steers(request, deed)
    seen = forms.seen(await request.form(), r"[0-9]{1,15}")
    await run_in_threadpool(decide, fleet, caller, number, deed, int(seen))
    return RedirectResponse(f"/rollouts/{number}", 303)


def _context(fleet: Fleet, caller: Caller, number: int) -> dict[str, Any]:
    with fleet.store.reading() as session:
        seen = look.one(session, number)
    return {
        "seen": seen,
        "row": seen.row,
        "rollout": seen.rollout,
        "total": seen.rollout.total,
        "user": caller,
        "may_operate": caller.may(Permission.OPERATE),
        "may_approve": caller.may(Permission.APPROVE),
        "now_s": fleet.now_s(),
    }


_DEFAULTS: dict[str, Any] = {
    "release": "", "label": "", "group": "", "canary": "10", "shares": "1 %, 10 %, 50 %", "errors": "5 %",
    "gap": "0 min", "silent": "60 min", "shadow": "60 min", "soak": "60 min", "from": "", "to": "", "zone": "UTC",
    "days": list(DAYS),
}  # fmt: skip


def _offered(fleet: Fleet) -> dict[str, Any]:
    with fleet.store.reading() as session:
        return {
            "releases": look.releases(session, fleet.desk),
            "groups": choices_of(session, "group")["group"],
            "day_names": DAYS,
        }


def _draft(fleet: Fleet, caller: Caller, form: dict[str, str], days: list[str]) -> int:
    family, _, sha256 = form.get("release", "").partition("/")
    given = {"family": family, "sha256": sha256 or None, "label": form.get("label", ""), "plan": _plan(form, days)}
    return create(fleet, caller, fitting(Draft, given))


def _plan(form: dict[str, str], days: list[str]) -> dict[str, Any]:
    """The plan's text that the form's fields make."""
    canary = form.get("canary", "")
    if not canary.isdigit():
        raise RefusedError(422, "plan-text", "the canary is a whole number of devices")
    gate = {"errors": form.get("errors", "")}
    stages: list[dict[str, Any]] = [
        {"name": "canary", "count": int(canary), "share": "10 %", "success": "100 %", "errors": "0 %"}
    ]
    shares = [part.strip() for part in re.split(r"[,;]", form.get("shares", "")) if part.strip()]
    stages += [{"name": f"up to {share}", "share": share, **gate} for share in shares]
    plan: dict[str, Any] = {"stage": [*stages, {"name": "the rest", **gate}]}
    plan |= {name: form.get(name, "") for name in ("gap", "silent", "shadow", "soak")}
    if form.get("group"):
        plan["group"] = form["group"]
    if form.get("from") or form.get("to"):
        plan["hours"] = [{"days": days, "from": form.get("from", ""), "to": form.get("to", "")}]
        plan["zone"] = form.get("zone", "")
    return plan
