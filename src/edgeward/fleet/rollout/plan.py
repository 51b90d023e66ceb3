"""A rollout's plan: which devices in which stage, what lets the next stage open, and when orders may be given.

Shares are whole millionths, compared by multiplying: no rounding, no expression language, nothing that fails to parse
when it is needed. A plan is a typed message (``exchange.typed``), so that a stored one is read as strictly as one from
the network. ``Plan.check`` is the one place that says which plans make sense.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

from edgeward.exchange.typed import Count, Family, Form, Most, Range, Sha256, Share, Version
from edgeward.fleet.rollout.hours import Hours, Zone, any_open
from edgeward.kernel.errors import RolloutError

WHOLE = 1_000_000
"""All, in millionths."""
STAGES_MAX = 20
HOURS_MAX = 28
CANARY_MAX = 10
"""Devices of the first stage unless a plan says otherwise: at most so many, and never more than a tenth."""

Label = Annotated[str, Form(r"[^\x00-\x1f\x7f]{1,64}")]
"""A group's, a tag's or a stage's name."""
Seconds = Annotated[int, Range(0, 90 * 86_400)]


@dataclass(frozen=True, slots=True)
class Release:
    """What devices shall take, and what they go back to: ``return_sha256`` is "" where there is nothing before it."""

    family: Family
    version: Version
    sha256: Sha256
    return_version: Annotated[str, Form(r"(\d{1,6}\.\d{1,6}\.\d{1,6})?")] = ""
    return_sha256: Annotated[str, Form(r"([0-9a-f]{64})?")] = ""


@dataclass(frozen=True, slots=True)
class Pick:
    """Which devices a stage takes. Nothing said: all that remain.

    ``share``: until this share of all devices of the rollout is chosen, counting earlier stages, rounded down.
    ``count`` and ``share`` together: the lesser. ``group`` and ``tag``: only devices that have it.
    """

    count: Annotated[int, Range(1, 1_000_000)] | None = None
    share: Annotated[int, Range(1, WHOLE)] | None = None
    group: Label | None = None
    tag: Label | None = None

    @property
    def is_rest(self) -> bool:
        """Whether it takes every device that remains."""
        return (self.count, self.share, self.group, self.tag) == (None, None, None, None)

    def room(self, size: int, chosen: int, mine: int = 0) -> int:
        """How many devices it may take of ``size``, of which ``chosen`` are taken; at least one for the first stage.

        ``mine``: those among the chosen that it took itself, where it opens anew.
        """
        rooms = [size - chosen]
        if self.count is not None:
            rooms.append(self.count - mine)
        if self.share is not None:
            rooms.append(self.share * size // WHOLE - chosen)
        room = max(0, min(rooms))
        return max(1, room) if chosen == 0 and size else room


@dataclass(frozen=True, slots=True)
class Gate:
    """What a stage must show. ``success``: least share that committed; ``errors``: greatest share of errors.

    ``errors_max``: greatest number of errors; with both, the lesser holds. An allowance is rounded down, so that among
    few devices the first error is one too many.
    """

    success: Annotated[int, Range(1, WHOLE)] = 950_000
    errors: Annotated[int, Range(0, WHOLE - 1)] = 50_000
    errors_max: Count | None = None

    def allows(self, errors: int, counted: int) -> bool:
        """Whether so many errors among so many devices are within the limits."""
        limit = self.errors * counted // WHOLE
        return errors <= (limit if self.errors_max is None else min(limit, self.errors_max))

    def is_reached(self, committed: int, counted: int) -> bool:
        """Whether the success share is reached; never without a success."""
        return committed >= 1 and committed * WHOLE >= self.success * counted


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a rollout, opened when the one before it has passed its gate."""

    name: Label
    pick: Pick = field(default_factory=Pick)
    gate: Gate = field(default_factory=Gate)


@dataclass(frozen=True, slots=True)
class CatchUp:
    """How devices that were offline, or are new, follow after the rollout has completed.

    At most ``at_once`` at a time, besides those that were taken for silent and are heard again: they have their order.
    It stops when more than ``errors_max`` of them and more than ``errors`` of them fail.
    """

    at_once: Annotated[int, Range(1, 10_000)] = 10
    errors: Share = 50_000
    errors_max: Count = 2

    def allows(self, errors: int, counted: int) -> bool:
        """Whether so many errors among so many devices are within the limits."""
        return errors <= max(self.errors_max, self.errors * counted // WHOLE)


def default_stages() -> tuple[Stage, ...]:
    """A canary in which nothing may fail, then 1 %, 10 %, 50 % and the rest."""
    canary = Stage("canary", Pick(count=CANARY_MAX, share=WHOLE // 10), Gate(success=WHOLE, errors=0))
    shares = [Stage(f"up to {percent} %", Pick(share=percent * 10_000)) for percent in (1, 10, 50)]
    return (canary, *shares, Stage("the rest"))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a rollout goes. Times in seconds.

    ``silent_s``: a chosen device that is not heard for so long counts as an error. ``shadow_s`` and ``soak_s``: how
    long a candidate runs beside the current bundle, and serves, before a device commits. ``shadow_windows``: fewest
    windows it must have been compared on (0: an idle device may commit). ``disagree``: greatest share of them that
    may differ. ``gap_s``: from a stage's success to the next stage. ``stage_s``: a stage that has not passed after so
    long pauses the rollout; 0: never. ``group``: the rollout concerns this group's devices alone.
    """

    stages: Annotated[tuple[Stage, ...], Most(STAGES_MAX)] = field(default_factory=default_stages)
    catch_up: CatchUp = field(default_factory=CatchUp)
    group: Label | None = None
    silent_s: Annotated[int, Range(60, 30 * 86_400)] = 3_600
    shadow_s: Annotated[int, Range(0, 604_800)] = 3_600
    shadow_windows: Count = 0
    disagree: Share = 20_000
    soak_s: Annotated[int, Range(0, 604_800)] = 3_600
    gap_s: Seconds = 0
    stage_s: Seconds = 7 * 86_400
    attempts: Annotated[int, Range(1, 100)] = 3
    rate_kib_s: Count = 0
    zone: Zone = "UTC"
    hours: Annotated[tuple[Hours, ...], Most(HOURS_MAX)] = ()

    def check(self) -> None:
        """``RolloutError`` (``plan-…``) unless the plan makes sense as a whole."""
        _require(bool(self.stages), "plan-stages", "a rollout has at least one stage")
        *before, last = self.stages
        _require(last.pick.is_rest, "plan-last-stage", "the last stage takes all devices that remain: give it no limit")
        for stage in before:
            _require(
                not stage.pick.is_rest,
                "plan-stage-unlimited",
                f"stage {stage.name!r} takes all devices, so nothing is left for the next: give it a count, a share, "
                "a group or a tag",
            )
        names = [stage.name for stage in self.stages]
        _require(len(set(names)) == len(names), "plan-stage-names", "two stages have the same name: name them apart")
        shares = [stage.pick.share for stage in before[1:] if stage.pick.share is not None]
        _require(
            all(low < high for low, high in pairwise(shares)),
            "plan-shares",
            "shares count earlier stages, so each must be greater than the one before",
        )
        _require(
            self.stage_s == 0 or self.stage_s > self.shadow_s + self.soak_s,
            "plan-stage-time",
            "a stage has less time than one device needs for its shadow and its soak: raise stage_s",
        )
        any_open(self.hours, self.zone, 0)  # the zone is known

    def is_open(self, now_s: int) -> bool:
        """Whether orders may be given and stages opened at this moment (seconds since 1970)."""
        return not self.hours or any_open(self.hours, self.zone, now_s)


def _require(held: bool, code: str, message: str) -> None:
    if not held:
        raise RolloutError(code, message)
