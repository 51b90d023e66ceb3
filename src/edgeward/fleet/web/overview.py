"""The fleet at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from edgeward.fleet import devices
from edgeward.fleet.api.guard import READS, Reader, TheFleet
from edgeward.fleet.conduct import look
from edgeward.fleet.conduct.tables import RolloutRow
from edgeward.fleet.parts import Fleet
from edgeward.fleet.rollout.state import Rollout
from edgeward.fleet.store.models import Device, DeviceFamily
from edgeward.fleet.web.live import stream
from edgeward.fleet.web.render import fragment, page
from edgeward.fleet.web.route import HtmlRoute

router = APIRouter(route_class=HtmlRoute, include_in_schema=False)
SHOWN = 8
"""Silent devices and rollouts that the page names; the rest is a link away."""


@dataclass(frozen=True, slots=True)
class VersionSeen:
    """How many devices hold a version, by rung."""

    family: str
    version: str
    devices: int
    rungs: Sequence[tuple[str, int]]


@router.get("/")
def glance(request: Request, fleet: TheFleet, caller: Reader) -> Response:
    """Devices, versions, rollouts that need somebody, applications that wait."""
    return page(request, "overview.html", caller=caller, **_context(fleet))


@router.get("/live", dependencies=[READS])
async def live(request: Request, fleet: TheFleet) -> Response:
    """The page's parts, whenever they change."""
    return stream(request, lambda: _mark(fleet), lambda: fragment("overview_live.html", **_context(fleet)))


def _mark(fleet: Fleet) -> tuple[Any, ...]:
    """Rollouts by their changes; devices by their counts. Ages of what is shown move on every ten seconds."""
    with fleet.store.reading() as session:
        counts = devices.counts(session, fleet.now_s(), fleet.settings.check_in_s)
        return look.pulses(session), repr(counts), fleet.now_s() // 10


def _context(fleet: Fleet) -> dict[str, Any]:
    now_s = fleet.now_s()
    since_s = now_s - devices.SILENT_PERIODS * fleet.settings.check_in_s
    with fleet.store.reading() as session:
        counts = devices.counts(session, now_s, fleet.settings.check_in_s)
        wanted = devices.Filter(state="active", silent_since_s=since_s)
        return {
            "counts": counts,
            "silent": devices.find(session, wanted, count=SHOWN).devices,
            "versions": _versions(session),
            "rollouts": _concerning(session),
            "now_s": now_s,
        }


def _versions(session: Session) -> list[VersionSeen]:
    query = (
        select(DeviceFamily.family, DeviceFamily.version, DeviceFamily.rung, func.count())
        .join(Device, Device.id == DeviceFamily.device_id)
        .where(Device.state == "active")
        .group_by(DeviceFamily.family, DeviceFamily.version, DeviceFamily.rung)
    )
    found: dict[tuple[str, str], dict[str, int]] = {}
    for family, version, rung, number in session.execute(query):
        found.setdefault((family, version), {})[rung] = number
    seen = [
        VersionSeen(family, version, sum(rungs.values()), sorted(rungs.items()))
        for (family, version), rungs in found.items()
    ]
    return sorted(seen, key=lambda one: (one.family, -one.devices, one.version))


def _concerning(session: Session) -> list[tuple[RolloutRow, Rollout]]:
    """Rollouts that go on, or wait for somebody: those first that need a hand."""
    rank = {"halted": 0, "paused": 1, "draft": 2, "running": 3, "approved": 4, "completed": 5}
    found = [
        (row, rollout)
        for row, rollout in look.listed(session)
        if row.live and row.status in rank and (row.status != "completed" or rollout.total.working)
    ]
    return sorted(found, key=lambda one: (rank[one[0].status], -one[0].id))[:SHOWN]
