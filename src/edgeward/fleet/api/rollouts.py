"""``/api/v1/rollouts``: drafting, approving, steering and watching rollouts."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from edgeward.fleet.accounts import Caller, Permission
from edgeward.fleet.api.guard import READS, Approver, Needs, Operator, TheFleet
from edgeward.fleet.api.shapes import Label, Sha256
from edgeward.fleet.conduct import look, people
from edgeward.fleet.conduct.look import Place, Reason, Seen, StageSeen
from edgeward.fleet.conduct.tables import RolloutRow
from edgeward.fleet.parts import Fleet
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.rollout.plan_text import plan_text, read_plan, share_text
from edgeward.fleet.rollout.state import Counts, Rollout
from edgeward.fleet.rollout.words import Standing, Status
from edgeward.fleet.words import why_words
from edgeward.kernel.errors import RolloutError

router = APIRouter(prefix="/api/v1", tags=["rollouts"])
_Number = Annotated[int, Path(ge=1, le=(1 << 53) - 1)]
_RIGHTS = {
    "approve": (Permission.APPROVE,),
    "pause": (Permission.OPERATE, Permission.APPROVE),
    "abort": (Permission.OPERATE, Permission.APPROVE),
    "resume": (Permission.OPERATE,),
    "return": (Permission.OPERATE, Permission.APPROVE),
}
"""Whoever may stop something need not be who may start it: both may pause, abort and send back."""


class Draft(BaseModel):
    """What to roll out. ``plan``: as in docs/rollouts.md; what is left out has its default."""

    model_config = ConfigDict(extra="forbid")
    family: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
    sha256: Sha256 | None = None
    label: Label = ""
    plan: dict[str, Any] = {}


class Decision(BaseModel):
    """``revision``: what the person saw; the deed is refused (409 ``rollout-changed``) when it is another by now."""

    model_config = ConfigDict(extra="forbid")
    revision: int | None = None


class Drafted(BaseModel):
    """The new rollout's number."""

    id: int


class CountsView(BaseModel):
    """Devices by standing. ``errors``: failed, rolled back, unproven and silent; ``counted``: what shares are of."""

    working: int
    committed: int
    failed: int
    rolled_back: int
    unproven: int
    silent: int
    withdrawn: int
    offline: int
    already: int
    ended: int
    waiting: int
    errors: int
    counted: int
    total: int

    @classmethod
    def of(cls, counts: Counts) -> "CountsView":
        """From the counts."""
        return cls(**{name: getattr(counts, name) for name in cls.model_fields})


class RolloutView(BaseModel):
    """A rollout in short. Times are seconds since 1970. ``way_back``: "", pending, by-hand or done."""

    id: int
    family: str
    label: str
    version: str
    sha256: str
    return_version: str
    return_sha256: str
    status: str
    cause: str
    author: str
    approver: str
    revision: int
    made_s: int
    changed_s: int
    stage: str
    stage_number: int
    stages: int
    devices: int
    counts: CountsView
    origin: int
    way_back: str
    return_note: str

    @classmethod
    def of(cls, row: RolloutRow, rollout: Rollout) -> "RolloutView":
        """From its row."""
        plain = {name: getattr(row, name) for name in ("label", "revision", "made_s", "changed_s")}
        release = rollout.release
        return cls(
            **plain,
            id=row.id,
            family=release.family,
            version=release.version,
            sha256=release.sha256,
            return_version=release.return_version,
            return_sha256=release.return_sha256,
            status=rollout.status.value,
            cause=rollout.cause.value if rollout.cause else "",
            author=rollout.author,
            approver=rollout.approver,
            stage=rollout.open_stage.name,
            stage_number=rollout.stage + 1,
            stages=len(rollout.plan.stages),
            devices=rollout.size,
            counts=CountsView.of(rollout.total),
            origin=rollout.origin,
            way_back=row.way_back,
            return_note=row.return_note,
        )


class StageView(BaseModel):
    """A stage; ``state``: waiting, open, passed, stopped, or skipped where nobody was left for it."""

    name: str
    state: str
    success: str
    errors: str
    errors_max: int | None
    counts: CountsView

    @classmethod
    def of(cls, seen: StageSeen) -> "StageView":
        """From what is seen."""
        return cls(
            name=seen.name,
            state=seen.state,
            success=share_text(seen.success),
            errors=share_text(seen.errors),
            errors_max=seen.errors_max,
            counts=CountsView.of(seen.counts),
        )


class ReasonView(BaseModel):
    """How many devices failed for one reason; ``why_words``: the sentence for it."""

    standing: str
    why: str
    why_words: str
    devices: int

    @classmethod
    def of(cls, reason: Reason) -> "ReasonView":
        """From what is seen."""
        sentence = why_words(reason.why)
        return cls(standing=reason.standing.value, why=reason.why, why_words=sentence, devices=reason.devices)


class RolloutDetail(BaseModel):
    """A rollout with its plan, its stages and the reason of every failure."""

    rollout: RolloutView
    plan: dict[str, Any]
    stages: list[StageView]
    reasons: list[ReasonView]

    @classmethod
    def of(cls, seen: Seen) -> "RolloutDetail":
        """From what is seen."""
        return cls(
            rollout=RolloutView.of(seen.row, seen.rollout),
            plan=plan_text(seen.rollout.plan),
            stages=[StageView.of(stage) for stage in seen.stages],
            reasons=[ReasonView.of(reason) for reason in seen.reasons],
        )


class PlaceView(BaseModel):
    """A device in a rollout. ``given_s``: when it was first given its order; 0: not yet."""

    device_id: str
    label: str
    group: str
    stage: int
    standing: str
    state: str
    why: str
    why_words: str
    attempt: int
    percent: int
    chosen_s: int
    given_s: int
    changed_s: int
    evidence: dict[str, Any]

    @classmethod
    def of(cls, place: Place) -> "PlaceView":
        """From its row."""
        row = place.row
        names = ("device_id", "standing", "state", "attempt", "percent", "chosen_s", "given_s", "changed_s")
        return cls(
            **{name: getattr(row, name) for name in names},
            label=place.label,
            group=place.group,
            stage=row.stage + 1,
            why=place.why,
            why_words=why_words(place.why) if place.why else "",
            evidence=look.evidence_of(row),
        )


async def steers(request: Request, deed: str) -> Caller:
    """The caller, who must have one of the rights that ``deed`` takes; refusals as ``guard.Needs``."""
    caller = await Needs(Permission.READ)(request)
    rights = _RIGHTS.get(deed, ())
    if not any(caller.may(right) for right in rights):
        words = " or ".join(right.value for right in rights)
        raise RefusedError(403, "not-permitted", f"to {deed} a rollout takes the right to {words}; ask who has it")
    return caller


Steerer = Annotated[Caller, Depends(steers)]


@router.get("/rollouts", summary="Rollouts, the newest first", dependencies=[READS])
def listed(
    fleet: TheFleet,
    family: str = "",
    status: Annotated[Status | None, Query()] = None,
    before: Annotated[int | None, Query(ge=1, description="Older than this number")] = None,
    count: Annotated[int, Query(ge=1, le=look.PAGE_MAX)] = 100,
) -> list[RolloutView]:
    """In short."""
    with fleet.store.reading() as session:
        found = look.listed(session, family=family, status=status.value if status else "", before=before, count=count)
    return [RolloutView.of(row, rollout) for row, rollout in found]


@router.post("/rollouts", status_code=201, summary="Draft a rollout")
async def drafted(fleet: TheFleet, caller: Operator, draft: Draft) -> Drafted:
    """Of a bundle that the repository names now, which is looked at first unless the draft says the hash.

    A second person approves it; nothing happens before.
    """
    if fleet.releases is not None and draft.sha256 is None:
        await fleet.releases.renew(fleet.now_s())
    return Drafted(id=await run_in_threadpool(create, fleet, caller, draft))


def create(fleet: Fleet, caller: Caller, draft: Draft) -> int:
    """The new rollout's number; refusals as ``people.create``."""
    try:
        plan = read_plan(draft.plan)
    except RolloutError as error:
        raise RefusedError(422, error.code, str(error)) from error
    wish = people.Wish(draft.family, draft.sha256 or "", draft.label, plan)
    return people.create(fleet.store, fleet.desk, wish, by=caller.name, now_s=fleet.now_s())


@router.get("/rollouts/{number}", summary="One rollout whole", dependencies=[READS])
def shown(fleet: TheFleet, number: _Number) -> RolloutDetail:
    """With its plan, its stages and the reason of every failure."""
    with fleet.store.reading() as session:
        return RolloutDetail.of(look.one(session, number))


@router.get("/rollouts/{number}/devices", summary="Devices of a rollout", dependencies=[READS])
def devices(
    fleet: TheFleet,
    number: _Number,
    standing: Annotated[Standing | None, Query()] = None,
    errors: Annotated[bool, Query(description="Only those that count as errors")] = False,
    after: str = "",
    count: Annotated[int, Query(ge=1, le=look.PAGE_MAX)] = 100,
) -> list[PlaceView]:
    """In the order of their ids; give the last one as ``after`` to go on."""
    with fleet.store.reading() as session:
        look.one(session, number)
        wanted = standing.value if standing else ""
        found = look.places(session, number, standing=wanted, errors=errors, after=after, count=count)
    return [PlaceView.of(place) for place in found]


@router.post("/rollouts/{number}/approve", status_code=204, summary="Vouch for a draft, as a second person")
def approved(fleet: TheFleet, caller: Approver, number: _Number, decision: Decision) -> Response:
    """It begins at its next maintenance hours."""
    return decide(fleet, caller, number, "approve", decision.revision)


@router.post("/rollouts/{number}/{deed}", status_code=204, summary="Pause, resume, abort, or send devices back")
def steered(
    fleet: TheFleet,
    caller: Steerer,
    number: _Number,
    deed: Literal["pause", "resume", "abort", "return"],
    decision: Decision,
) -> Response:
    """``abort`` withdraws every order; ``return`` takes devices back after the rollout has ended."""
    return decide(fleet, caller, number, deed, decision.revision)


def decide(fleet: Fleet, caller: Caller, number: int, deed: str, revision: int | None) -> Response:
    """Do it; refusals as ``people.decide``."""
    if deed == "return":
        people.ask_return(fleet.store, number, by=caller.name, now_s=fleet.now_s(), revision=revision)
    else:
        people.decide(fleet.store, number, deed, by=caller.name, now_s=fleet.now_s(), revision=revision)
    return Response(status_code=204)
