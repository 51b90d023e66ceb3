"""``/api/v1/releases``: the bundles that signed metadata name."""

from fastapi import APIRouter

from edgeward.fleet import releases
from edgeward.fleet.api.guard import OPERATES, READS, TheFleet
from edgeward.fleet.api.shapes import ReleaseView
from edgeward.fleet.refused import RefusedError

router = APIRouter(prefix="/api/v1", tags=["releases"])


@router.get("/releases", summary="Bundles that signed metadata named", dependencies=[READS])
def listed(fleet: TheFleet, family: str = "") -> list[ReleaseView]:
    """The newest of a family first. ``current``: metadata name it now, so it can be rolled out."""
    with fleet.store.reading() as session:
        return [ReleaseView.of(row) for row in releases.listed(session, family)]


@router.post("/releases/look", summary="Look at the repository now", dependencies=[OPERATES])
async def looked(fleet: TheFleet) -> list[str]:
    """The server looks once a minute by itself. The families that are named; what is wrong is said as on a device."""
    if fleet.releases is None:
        raise RefusedError(404, "no-repository", "set [fleet] repository and trusted_root to know of releases")
    return await fleet.releases.renew(fleet.now_s())
