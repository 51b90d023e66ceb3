"""``/api/v1/enrolments`` and ``/api/v1/tokens``: who may become a device."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import select

from edgeward.fleet.accounts import Caller
from edgeward.fleet.api.guard import OPERATES, READS, Operator, TheFleet
from edgeward.fleet.api.shapes import Accept, Accepted, EnrolmentView, Made, TokenMake, TokenView
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.parts import Fleet
from edgeward.fleet.store.models import Enrolment, EnrolmentToken

router = APIRouter(prefix="/api/v1", tags=["enrolment"])
_Fingerprint = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the device's public key")]


@router.get("/enrolments", summary="Applications", dependencies=[READS])
def listed(
    fleet: TheFleet,
    state: Literal["pending", "accepted", "rejected"] = "pending",
    count: Annotated[int, Query(ge=1, le=1_000)] = 200,
) -> list[EnrolmentView]:
    """Those that came first stand first."""
    query = select(Enrolment).where(Enrolment.state == state).order_by(Enrolment.first_s, Enrolment.fingerprint)
    with fleet.store.reading() as session:
        return [EnrolmentView.of(row) for row in session.scalars(query.limit(count))]


@router.post("/enrolments/{fingerprint}/accept", summary="Take a device in")
def accepted(fleet: TheFleet, caller: Operator, fingerprint: _Fingerprint, how: Accept) -> Accepted:
    """Compare the fingerprint with the one that the device shows, then accept. 409 if somebody decided already."""
    return Accepted(device_id=accept(fleet, caller, fingerprint, how))


def accept(fleet: Fleet, caller: Caller, fingerprint: str, how: Accept) -> str:
    """Do it, for the console too; the device's id. Refusals as ``Enrolments.accept``."""
    vouch = Vouch(how.label, how.group, tuple(how.tags), how.device_id)
    return fleet.enrolments.accept(fingerprint, vouch, actor=caller.actor, now_s=fleet.now_s())


@router.post("/enrolments/{fingerprint}/reject", status_code=204, summary="Refuse a device")
def rejected(fleet: TheFleet, caller: Operator, fingerprint: _Fingerprint) -> Response:
    """It is told so when it asks again. It may still be accepted later."""
    fleet.enrolments.reject(fingerprint, actor=caller.actor, now_s=fleet.now_s())
    return Response(status_code=204)


@router.get("/tokens", summary="Enrolment tokens, without their secrets", dependencies=[OPERATES])
def tokens(fleet: TheFleet) -> list[TokenView]:
    """Newest first."""
    query = select(EnrolmentToken).order_by(EnrolmentToken.made_s.desc(), EnrolmentToken.id).limit(500)
    with fleet.store.reading() as session:
        return [TokenView.of(row) for row in session.scalars(query)]


@router.post("/tokens", status_code=201, summary="A token that takes one device in, once")
def token_made(fleet: TheFleet, caller: Operator, how: TokenMake) -> Made:
    """It is shown here and never again."""
    vouch = Vouch(how.label, how.group, tuple(how.tags))
    token, number = fleet.enrolments.make_token(vouch, days=how.days, actor=caller.actor, now_s=fleet.now_s())
    return Made(id=number, token=token)


@router.delete("/tokens/{token_id}", status_code=204, summary="End a token that nobody has used")
def token_ended(fleet: TheFleet, caller: Operator, token_id: str) -> Response:
    """404 for one that was used or ended."""
    fleet.enrolments.revoke_token(token_id, actor=caller.actor, now_s=fleet.now_s())
    return Response(status_code=204)
