"""One device: what it is, runs and was ordered, and what an operator does about it."""

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from edgeward.fleet import devices
from edgeward.fleet.api.devices import Ending, describe, end
from edgeward.fleet.api.guard import Operator, Reader, TheFleet
from edgeward.fleet.api.shapes import DeviceChange, DeviceDecision, DeviceId, fitting
from edgeward.fleet.conduct import look
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.rollout.words import Standing, Status
from edgeward.fleet.store.models import Certificate
from edgeward.fleet.web import forms
from edgeward.fleet.web.inventory import choices_of, silent_since
from edgeward.fleet.web.render import page
from edgeward.fleet.web.route import HtmlRoute

router = APIRouter(route_class=HtmlRoute, include_in_schema=False)
_REVISION = r"[0-9a-f]{16}"
_ON_THE_WAY = {Standing.WORKING.value, Standing.WAITING.value}
_JUDGED = {Status.RUNNING.value, Status.PAUSED.value, Status.COMPLETED.value}
"""Rollouts whose gates a device on the way counts for."""


@router.get("/devices/{device_id}")
def shown(request: Request, fleet: TheFleet, caller: Reader, device_id: DeviceId) -> Response:
    """The device, and what may be done."""
    return page(request, "device.html", caller=caller, **_context(fleet, device_id))


@router.post("/devices/{device_id}/describe")
async def described(request: Request, fleet: TheFleet, caller: Operator, device_id: DeviceId) -> Response:
    """Another label, group or tags; what cannot be shows the form again with everything that was written."""
    form = await request.form()
    revision = forms.seen(form, _REVISION)
    written: dict[str, Any] = {name: forms.text_of(form, name) for name in ("label", "group", "more")}
    written["tags"] = [str(tag) for tag in form.getlist("tag")]
    tags = [*written["tags"], *forms.words_of(written["more"])]
    given = {"label": written["label"], "group": written["group"], "tags": tags, "revision": revision}
    try:
        await run_in_threadpool(describe, fleet, caller, device_id, fitting(DeviceChange, given))
    except RefusedError as error:
        if error.code != "request-unfit":
            raise
        context = await run_in_threadpool(_context, fleet, device_id)
        context |= {"form": written, "message": str(error)}
        return page(request, "device.html", caller=caller, status=error.status, **context)
    return RedirectResponse(f"/devices/{device_id}", 303)


@router.post("/devices/{device_id}/{deed}")
async def ended(request: Request, fleet: TheFleet, caller: Operator, device_id: DeviceId, deed: Ending) -> Response:
    """Do it, to the device that the person saw."""
    decision = DeviceDecision(revision=forms.seen(await request.form(), _REVISION))
    await run_in_threadpool(end, fleet, caller, device_id, deed, decision)
    return RedirectResponse(f"/devices/{device_id}", 303)


def _context(fleet: Fleet, device_id: str) -> dict[str, Any]:
    with fleet.store.reading() as session:
        row = devices.one(session, device_id)
        tags = devices.tags_of(session, [device_id])[device_id]
        rollouts = look.of_device(session, device_id)
        on_the_way = [one.id for place, one in rollouts if place.standing in _ON_THE_WAY and one.status in _JUDGED]
        return {
            "device": row,
            "tags": tags,
            "revision": devices.revision_of(row, tags),
            "families": json.loads(row.report)["families"] if row.report else [],
            "rollouts": rollouts,
            "on_the_way": on_the_way,
            "reason_of": look.reason_of,
            "certificates": session.scalars(
                select(Certificate).where(Certificate.device_id == device_id).order_by(Certificate.issued_s.desc())
            ).all(),
            "since_s": silent_since(fleet),
            "choices": choices_of(session, "group", "tag"),
            "form": {"label": row.label, "group": row.group, "more": "", "tags": tags},
            "message": "",
        }
