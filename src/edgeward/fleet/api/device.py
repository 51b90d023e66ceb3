"""What devices call: check-in, enrolment, renewal. Bodies and answers are those of ``edgeward.exchange``."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from edgeward.exchange.checkin import CHECK_IN_BYTES_MAX, PATH
from edgeward.exchange.enrol import ENROL_BYTES_MAX, ENROL_PATH, RENEW_PATH, Application, Renewal
from edgeward.exchange.typed import decode, encode
from edgeward.fleet.api.guard import body_of, fleet_of, shown_certificate

router = APIRouter(tags=["devices' own"])
_JSON = "application/json"


@router.post(PATH, summary="A device's whole state, and what it shall do")
async def check_in(request: Request) -> Response:
    """Mutual TLS. Body: ``CheckIn``; answer: ``Answer``. It is durable before it is answered."""
    shown = shown_certificate(request)
    body = await body_of(request, CHECK_IN_BYTES_MAX)
    return Response(await fleet_of(request).check_ins.hear(shown, body), media_type=_JSON)


@router.post(ENROL_PATH, summary="A device asks to be taken in")
async def enrol(request: Request) -> Response:
    """TLS without a client certificate. Body: ``Application``; answer: ``Credential``."""
    fleet = fleet_of(request)
    application = decode(Application, await body_of(request, ENROL_BYTES_MAX), bytes_max=ENROL_BYTES_MAX)
    credential = await run_in_threadpool(fleet.enrolments.apply, application, fleet.now_s())
    return Response(encode(credential), media_type=_JSON)


@router.post(RENEW_PATH, summary="A device's next certificate")
async def renew(request: Request) -> Response:
    """Mutual TLS. Body: ``Renewal``; answer: ``Credential``. The old certificate holds until the new one is shown."""
    fleet, shown = fleet_of(request), shown_certificate(request)
    renewal = decode(Renewal, await body_of(request, ENROL_BYTES_MAX), bytes_max=ENROL_BYTES_MAX)
    credential = await run_in_threadpool(fleet.enrolments.renew, shown, renewal, fleet.now_s())
    return Response(encode(credential), media_type=_JSON)
