"""``/api/v1/devices``: the inventory."""

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from edgeward.fleet import devices
from edgeward.fleet.accounts import Caller
from edgeward.fleet.api.guard import READS, Operator, TheFleet
from edgeward.fleet.api.shapes import (
    CertificateView,
    DeviceChange,
    DeviceDecision,
    DeviceDetail,
    DeviceId,
    DevicePage,
    DeviceView,
    Overview,
)
from edgeward.fleet.parts import Fleet
from edgeward.fleet.store.models import Certificate

router = APIRouter(prefix="/api/v1", tags=["devices"])
Ending = Literal["revoke", "lost"]
_STATE_AFTER: dict[Ending, str] = {"revoke": "revoked", "lost": "lost"}


@router.get("/overview", summary="The fleet in numbers", dependencies=[READS])
def overview(fleet: TheFleet) -> Overview:
    """Devices by state, rungs of those that are active, silent ones and pending applications."""
    with fleet.store.reading() as session:
        return Overview(**devices.counts(session, fleet.now_s(), fleet.settings.check_in_s))


@router.get("/devices", summary="Devices, by what they are and do", dependencies=[READS])
def listed(
    fleet: TheFleet,
    state: str = "",
    group: str = "",
    tag: str = "",
    accelerator: str = "",
    software: str = "",
    family: str = "",
    version: str = "",
    rung: str = "",
    update_state: str = "",
    text: Annotated[str, Query(max_length=128, description="Part of an id or label")] = "",
    silent: Annotated[bool, Query(description="Only those that missed three check-ins")] = False,
    after: str = "",
    count: Annotated[int, Query(ge=1, le=devices.PAGE_MAX)] = 100,
) -> DevicePage:
    """In the order of their ids."""
    since_s = _silent_since(fleet)
    wanted = devices.Filter(
        state=state,
        group=group,
        tag=tag,
        accelerator=accelerator,
        software=software,
        family=family,
        version=version,
        rung=rung,
        update_state=update_state,
        text=text,
        silent_since_s=since_s if silent else None,
    )
    with fleet.store.reading() as session:
        page = devices.find(session, wanted, after=after, count=count)
    views = [DeviceView.of(one, page.tags[one.id], page.families[one.id], since_s) for one in page.devices]
    return DevicePage(devices=views, total=page.total, next=page.next)


@router.get("/devices/{device_id}", summary="One device whole", dependencies=[READS])
def shown(fleet: TheFleet, device_id: DeviceId) -> DeviceDetail:
    """With its newest check-in and its certificates."""
    with fleet.store.reading() as session:
        row = devices.one(session, device_id)
        tags, families = devices.tags_of(session, [device_id]), devices.families_of(session, [device_id])
        query = select(Certificate).where(Certificate.device_id == device_id).order_by(Certificate.issued_s.desc())
        certificates = [CertificateView.of(one) for one in session.scalars(query)]
    view = DeviceView.of(row, tags[device_id], families[device_id], _silent_since(fleet))
    return DeviceDetail(device=view, report=json.loads(row.report) if row.report else None, certificates=certificates)


@router.patch("/devices/{device_id}", status_code=204, summary="Label, group and tags of a device")
def changed(fleet: TheFleet, caller: Operator, device_id: DeviceId, change: DeviceChange) -> Response:
    """What is left out stays as it is."""
    return describe(fleet, caller, device_id, change)


@router.post("/devices/{device_id}/revoke", status_code=204, summary="End a device's certificates now")
def revoked(fleet: TheFleet, caller: Operator, device_id: DeviceId, decision: DeviceDecision | None = None) -> Response:
    """From this moment the fleet does not know it; its beds go on. It may enrol again."""
    return end(fleet, caller, device_id, "revoke", decision or DeviceDecision())


@router.post("/devices/{device_id}/lost", status_code=204, summary="A device is lost: end its certificates now")
def lost(fleet: TheFleet, caller: Operator, device_id: DeviceId, decision: DeviceDecision | None = None) -> Response:
    """As revoking, and the inventory says why."""
    return end(fleet, caller, device_id, "lost", decision or DeviceDecision())


def describe(fleet: Fleet, caller: Caller, device_id: str, change: DeviceChange) -> Response:
    """Do it, for the console too; refusals as ``devices.describe``."""
    with fleet.store.writing() as session:
        devices.describe(session, device_id, **change.model_dump(), actor=caller.actor, now_s=fleet.now_s())
    return Response(status_code=204)


def end(fleet: Fleet, caller: Caller, device_id: str, deed: Ending, decision: DeviceDecision) -> Response:
    """Do it, for the console too; refusals as ``devices.end``."""
    state, seen = _STATE_AFTER[deed], decision.revision
    with fleet.store.writing() as session:
        devices.end(session, fleet.rollouts, device_id, state, revision=seen, actor=caller.actor, now_s=fleet.now_s())
    return Response(status_code=204)


def _silent_since(fleet: Fleet) -> int:
    return fleet.now_s() - devices.SILENT_PERIODS * fleet.settings.check_in_s
