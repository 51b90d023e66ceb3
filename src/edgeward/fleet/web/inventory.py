"""Devices, applications that wait, and the audit."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from edgeward.fleet import devices
from edgeward.fleet.api.enrolments import accept
from edgeward.fleet.api.guard import Auditor, Operator, Reader, TheFleet
from edgeward.fleet.api.shapes import Accept, fitting
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store.models import AuditEntry, Device, DeviceFamily, DeviceTag, Enrolment
from edgeward.fleet.web import forms
from edgeward.fleet.web.render import page
from edgeward.fleet.web.route import HtmlRoute

router = APIRouter(route_class=HtmlRoute, include_in_schema=False)
PAGE = 100
_ENDED_SHOWN = 200
_Fingerprint = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
_Word = Annotated[str, Query(max_length=128)]


@router.get("/devices")
def listed(
    request: Request,
    fleet: TheFleet,
    caller: Reader,
    state: _Word = "active",
    group: _Word = "",
    tag: _Word = "",
    family: _Word = "",
    version: _Word = "",
    rung: _Word = "",
    text: _Word = "",
    silent: bool = False,
    after: _Word = "",
) -> Response:
    """A table with filters; everything asked for stands in the address."""
    since_s = silent_since(fleet)
    chosen = {
        "state": state, "group": group, "tag": tag, "family": family, "version": version, "rung": rung, "text": text,
    }  # fmt: skip
    wanted = devices.Filter(**chosen, silent_since_s=since_s if silent else None)
    with fleet.store.reading() as session:
        found = devices.find(session, wanted, after=after, count=PAGE)
        choices = choices_of(session)
    return page(
        request, "devices.html", caller=caller, found=found, chosen=chosen, silent=silent, since_s=since_s,
        choices=choices, query={**chosen, **({"silent": "true"} if silent else {})},
    )  # fmt: skip


@router.get("/enrolments")
def enrolments(request: Request, fleet: TheFleet, caller: Reader) -> Response:
    """Applications that wait for somebody who compares the fingerprint."""
    return page(request, "enrolments.html", caller=caller, **_waiting(fleet))


@router.post("/enrolments/{fingerprint}/accept")
async def accepted(request: Request, fleet: TheFleet, caller: Operator, fingerprint: _Fingerprint) -> Response:
    """Take the device in; what cannot be shows the form again with everything that was written."""
    form = await request.form()
    written = {name: forms.text_of(form, name) for name in ("label", "group", "tags", "device_id")}
    given = {**written, "tags": forms.words_of(written["tags"]), "device_id": written["device_id"] or None}
    try:
        await run_in_threadpool(accept, fleet, caller, fingerprint, fitting(Accept, given))
    except RefusedError as error:
        if error.code not in {"request-unfit", "device-unknown"}:
            raise
        context = await run_in_threadpool(_waiting, fleet)
        context |= {"at": fingerprint, "form": written, "message": str(error)}
        return page(request, "enrolments.html", caller=caller, status=error.status, **context)
    return RedirectResponse("/enrolments", 303)


@router.post("/enrolments/{fingerprint}/reject")
def rejected(fleet: TheFleet, caller: Operator, fingerprint: _Fingerprint) -> Response:
    """Refuse it."""
    fleet.enrolments.reject(fingerprint, actor=caller.actor, now_s=fleet.now_s())
    return RedirectResponse("/enrolments", 303)


def _waiting(fleet: Fleet) -> dict[str, Any]:
    """Applications, and the devices that one of them may be: those that were ended. ``at``: whose form is wrong."""
    query = select(Enrolment).where(Enrolment.state == "pending").order_by(Enrolment.first_s, Enrolment.fingerprint)
    ended = select(Device).where(Device.state != "active").order_by(Device.label, Device.id).limit(_ENDED_SHOWN)
    with fleet.store.reading() as session:
        return {
            "waiting": [(row, json.loads(row.facts)) for row in session.scalars(query.limit(200))],
            "ended": session.scalars(ended).all(),
            "groups": choices_of(session, "group")["group"],
            "at": "",
            "form": {"label": "", "group": "", "tags": "", "device_id": ""},
            "message": "",
        }


@router.get("/audit")
def audited(
    request: Request,
    fleet: TheFleet,
    caller: Auditor,
    before: Annotated[int | None, Query(ge=1)] = None,
    action: _Word = "",
    subject: _Word = "",
    actor: _Word = "",
) -> Response:
    """Who did what, the newest first."""
    chosen = {"action": action, "subject": subject, "actor": actor}
    query = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(PAGE + 1)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    for name, value in chosen.items():
        if value:
            query = query.where(getattr(AuditEntry, name).startswith(value, autoescape=True))
    with fleet.store.reading() as session:
        rows = [(row, json.loads(row.detail)) for row in session.scalars(query)]
    older = rows[PAGE - 1][0].seq if len(rows) > PAGE else None
    return page(request, "audit.html", caller=caller, entries=rows[:PAGE], older=older, chosen=chosen)


def choices_of(session: Session, *names: str) -> dict[str, list[str]]:
    """What devices can be filtered by: every value that one has, of ``names`` or of everything."""
    columns = {
        "state": Device.state, "group": Device.group, "tag": DeviceTag.tag, "family": DeviceFamily.family,
        "version": DeviceFamily.version, "rung": DeviceFamily.rung,
    }  # fmt: skip
    return {
        name: [value for value in session.scalars(select(column).distinct().order_by(column)) if value]
        for name, column in columns.items()
        if not names or name in names
    }


def silent_since(fleet: Fleet) -> int:
    """Whoever was heard before it is silent."""
    return fleet.now_s() - devices.SILENT_PERIODS * fleet.settings.check_in_s
