"""What a rollout is at one moment: its own state with counts, and each device's place in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeward.fleet.rollout.plan import WHOLE, Gate, Release, Stage
from edgeward.fleet.rollout.words import APART, ERRORS, Standing, Status
from edgeward.kernel.errors import RolloutError

if TYPE_CHECKING:
    from edgeward.exchange.checkin import Evidence
    from edgeward.exchange.words import UpdateState, Why
    from edgeward.fleet.rollout.plan import Plan
    from edgeward.fleet.rollout.words import Cause

_FIELDS = {standing: standing.value.replace("-", "_") for standing in Standing}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices of one stage stand where; the names are those of ``Standing``."""

    working: int = 0
    committed: int = 0
    failed: int = 0
    rolled_back: int = 0
    unproven: int = 0
    silent: int = 0
    withdrawn: int = 0
    offline: int = 0
    already: int = 0
    ended: int = 0
    waiting: int = 0

    def of(self, standing: Standing) -> int:
        """Devices of this standing."""
        number: int = getattr(self, _FIELDS[standing])
        return number

    def added(self, standing: Standing, number: int = 1) -> Counts:
        """With ``number`` more (or fewer) devices of this standing."""
        return replace(self, **{_FIELDS[standing]: self.of(standing) + number})

    @property
    def errors(self) -> int:
        """Failed, rolled back, unproven and silent ones."""
        return sum(self.of(standing) for standing in ERRORS)

    @property
    def counted(self) -> int:
        """Devices that a gate's shares are of: those that were given the release to take."""
        return self.working + self.committed + self.errors

    @property
    def stands(self) -> int:
        """Devices that the stage is judged by, now or when their turn has come."""
        return self.counted + self.waiting

    @property
    def total(self) -> int:
        """Every device."""
        return self.counted + sum(self.of(standing) for standing in APART)

    @property
    def is_sound(self) -> bool:
        """Whether no count is below zero."""
        return min(self.of(standing) for standing in Standing) >= 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout. Times are seconds since 1970 by the fleet's clock; 0: not yet.

    ``stage``: the open one, counted from 0. ``opening``: its devices are still to be chosen. ``counts``: one for each
    stage that was opened, and one more for those caught up, always the last of ``len(plan.stages) + 1``. ``size``:
    devices it concerns, when the stage opened. ``met_s``: when the open stage reached its gate. ``undoes``: hash of the
    bundle that this rollout takes devices back from, "" unless it is a return; ``origin``: the rollout it undoes.
    ``live``: no newer rollout of the family has begun.
    """

    id: int
    release: Release
    plan: Plan
    author: str
    counts: tuple[Counts, ...]
    approver: str = ""
    status: Status = Status.DRAFT
    cause: Cause | None = None
    stage: int = 0
    opening: bool = False
    opened_s: int = 0
    met_s: int = 0
    size: int = 0
    origin: int = 0
    undoes: str = ""
    live: bool = True

    @staticmethod
    def draft(number: int, release: Release, plan: Plan, author: str) -> Rollout:
        """A new one. ``RolloutError`` when the plan does not make sense."""
        plan.check()
        return Rollout(number, release, plan, author, (Counts(),) * (len(plan.stages) + 1))

    @property
    def caught_up(self) -> int:
        """The place in ``counts`` of devices that follow after completion."""
        return len(self.plan.stages)

    def returned(self, number: int) -> Rollout:
        """The rollout that takes devices back from this one's bundle, approved with it.

        ``RolloutError`` (``return-missing``) when it names nothing to go back to.
        """
        if not self.release.return_sha256:
            raise RolloutError(
                "return-missing",
                f"rollout {self.id} names no bundle to go back to: publish one with edgeward publish --allow-return, "
                "and roll it out",
            )
        back = Release(self.release.family, self.release.return_version, self.release.return_sha256)
        gate = Gate(success=1, errors=WHOLE - 1)
        stages = (Stage("return", gate=gate),)
        plan = replace(self.plan, stages=stages, group=None, shadow_s=0, soak_s=0, gap_s=0, stage_s=0, hours=())
        draft = Rollout.draft(number, back, plan, self.author)
        undoes = self.release.sha256
        return replace(draft, approver=self.approver, status=Status.APPROVED, origin=self.id, undoes=undoes)

    @property
    def gives(self) -> bool:
        """Whether orders are given now, maintenance hours aside."""
        return self.live and self.status in {Status.RUNNING, Status.COMPLETED}

    @property
    def withdraws(self) -> bool:
        """Whether what was ordered shall be given up."""
        return self.status in {Status.ABORTED, Status.HALTED} or not self.live

    @property
    def open_stage(self) -> Stage:
        """The stage that is open, or opens first."""
        return self.plan.stages[self.stage]

    @property
    def total(self) -> Counts:
        """All counts together."""
        sums = {_FIELDS[standing]: sum(part.of(standing) for part in self.counts) for standing in Standing}
        return Counts(**sums)

    def gate(self, stage: int) -> Gate:
        """The gate of a stage."""
        return self.plan.stages[stage].gate

    def with_counts(self, stage: int, counts: Counts) -> Rollout:
        """With other counts of one stage."""
        return replace(self, counts=(*self.counts[:stage], counts, *self.counts[stage + 1 :]))

    def moved(self, before: Member | None, after: Member) -> Rollout:
        """With a device counted where it stands now instead of where it stood."""
        if before is not None and (before.stage, before.standing) == (after.stage, after.standing):
            return self
        left = self if before is None else _added(self, before, -1)
        return _added(left, after, 1)


def _added(rollout: Rollout, member: Member, number: int) -> Rollout:
    return rollout.with_counts(member.stage, rollout.counts[member.stage].added(member.standing, number))


@dataclass(frozen=True, slots=True)
class Member:
    """One device in one rollout. Times as in ``Rollout``.

    ``chosen_s``: when its stage took it. ``given_s``: when an answer first held its order; ``heard_s``: its newest
    check-in since it was chosen. ``boot`` and ``sequence`` are that check-in's; an older one is ignored. What follows
    is what the device last said of this rollout.
    """

    device: str
    stage: int
    standing: Standing
    chosen_s: int
    given_s: int = 0
    heard_s: int = 0
    boot: int = 0
    sequence: int = 0
    state: UpdateState | None = None
    why: Why | None = None
    attempt: int = 0
    percent: int = 0
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that a rollout concerns, as the fleet knows it. ``held``: hash of its current bundle, or "".

    ``chosen``: it is in the rollout already.
    """

    device: str
    heard_s: int
    held: str = ""
    chosen: bool = False
    groups: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
