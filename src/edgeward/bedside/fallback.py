"""The ladder: which intelligence stands beside the patient now, as pure transition functions.

::

    LOCAL → LOCAL_PREVIOUS → CLOUD → THRESHOLD_ONLY        engines, better ones first
                                     NO_AI                 no valid input, whatever the engines do
                                     NOT_ASKED             not a question for this model, whatever the engines do

Any failure of the rung that serves drops at once to THRESHOLD_ONLY. Climbing, to whichever rung, needs that rung's
golden vectors to pass, three good results and a dwell of 60 s since it failed and since the drop. Without valid input
it is NO_AI. A stay of which the model is not asked by design (another population, too little measured, what it warns
of is there already) is NOT_ASKED: no fault, and never "normal". After either, the rung that had been earned serves. The
threshold checks are not a rung: they run in every mode.

A ``Ladder`` is about engines and is shared by all beds that they serve; a ``Banner`` is what one bed says, and numbers
its changes, so that an audit can tell that none is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward.bedside.verdict import NOT_ASKED, Reason
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping


class Mode(StrEnum):
    """The rungs, best first, and the three states without any."""

    LOCAL = "LOCAL"
    LOCAL_PREVIOUS = "LOCAL_PREVIOUS"
    CLOUD = "CLOUD"
    THRESHOLD_ONLY = "THRESHOLD_ONLY"
    NO_AI = "NO_AI"
    NOT_ASKED = "NOT_ASKED"


RUNGS = (Mode.LOCAL, Mode.LOCAL_PREVIOUS, Mode.CLOUD)


@dataclass(frozen=True, slots=True)
class Climb:
    """What it takes to be trusted again."""

    good_results: int = 3
    dwell_ns: int = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Trust:
    """One rung: when and why it failed last (None: not since it served), golden vectors and good results since."""

    failed_at_ns: int | None = None
    why: Reason | None = None
    golden: bool = True
    good: int = 0


@dataclass(frozen=True, slots=True)
class Ladder:
    """The engines' state. ``rungs``: those that exist here, in the order of ``RUNGS``; the first always exists."""

    rungs: tuple[Mode, ...] = (Mode.LOCAL,)
    trusts: tuple[Trust, ...] = (Trust(),)
    serving: Mode = Mode.LOCAL
    dropped_at_ns: int = 0

    def __post_init__(self) -> None:
        assert self.rungs == tuple(rung for rung in RUNGS if rung in self.rungs), "rungs stand best first"
        assert self.rungs[:1] == (Mode.LOCAL,), "the device's own engine is always a rung, even while it is missing"
        assert len(self.trusts) == len(self.rungs)

    @classmethod
    def of(cls, *others: Mode) -> Ladder:
        """LOCAL, which serves, and the other rungs that exist here; the cloud has yet to prove what it runs."""
        rungs = tuple(rung for rung in RUNGS if rung is Mode.LOCAL or rung in others)
        return cls(rungs, tuple(Trust(golden=rung is not Mode.CLOUD) for rung in rungs))

    @property
    def why(self) -> Reason | None:
        """Why the first rung does not serve; None while it does."""
        return None if self.serving is Mode.LOCAL else self.trusts[0].why

    def trust(self, rung: Mode) -> Trust:
        """The state of one rung."""
        return self.trusts[self.rungs.index(rung)]

    @property
    def asked(self) -> tuple[Mode, ...]:
        """Which rungs score the next window: the one that serves, and those that may earn their way above it.

        The cloud is asked only once it gave the golden scores, and only while no local rung answers well: nothing
        leaves the device that need not.
        """
        height = self.rungs.index(self.serving) + 1 if self.serving in self.rungs else len(self.rungs)
        asked = self.rungs[:height]
        if Mode.CLOUD in asked and self.serving is not Mode.CLOUD and (self._local_answers or not self._cloud_proven):
            return asked[:-1]
        return asked

    @property
    def cloud_to_prove(self) -> bool:
        """Whether the cloud is needed and has to give the golden scores first."""
        needed = Mode.CLOUD in self.rungs and self.serving is Mode.THRESHOLD_ONLY
        return needed and not self._cloud_proven and not self._local_answers

    @property
    def _local_answers(self) -> bool:
        pairs = zip(self.rungs, self.trusts, strict=True)
        return any(trust.good for rung, trust in pairs if rung is not Mode.CLOUD)

    @property
    def _cloud_proven(self) -> bool:
        return self.trusts[-1].golden


@dataclass(frozen=True, slots=True)
class RungFailed:
    """An engine crashed, hung, answered nonsense or late, is not there or not ready."""

    why: Reason
    rung: Mode = Mode.LOCAL


@dataclass(frozen=True, slots=True)
class GoldenPassed:
    """The engine now in place on a rung ran the golden vectors within their tolerance."""

    rung: Mode = Mode.LOCAL


@dataclass(frozen=True, slots=True)
class GoodResult:
    """The engine on a rung answered a window in time with finite scores."""

    rung: Mode = Mode.LOCAL


Occurrence = RungFailed | GoldenPassed | GoodResult


def transition(ladder: Ladder, occurrence: Occurrence, now_ns: int, climb: Climb) -> Ladder:
    """The next state. What concerns a rung that does not exist here changes nothing."""
    if occurrence.rung not in ladder.rungs:
        return ladder
    match occurrence:
        case RungFailed(why, rung):
            known = ladder.trust(rung).why
            if why is Reason.ENGINE_NOT_READY and known is not None:
                why = known  # that nothing is ready yet is no news after what made it so
            after = _with(ladder, rung, Trust(now_ns, why, golden=False))
            return _dropped(after, now_ns) if rung is ladder.serving else after
        case GoldenPassed(rung):
            trust = ladder.trust(rung)
            return ladder if trust.golden else _with(ladder, rung, replace(trust, golden=True, good=0))
        case GoodResult(rung):
            trust = ladder.trust(rung)
            if rung is ladder.serving or not trust.golden:
                return ladder
            good = min(trust.good + 1, climb.good_results)
            return _climbed(_with(ladder, rung, replace(trust, good=good)), now_ns, climb)


def promoted(ladder: Ladder, others: tuple[Mode, ...], now_ns: int) -> Ladder:
    """LOCAL is another engine, which passed its golden vectors and served beside the one before as a shadow.

    It serves where LOCAL served, and earns its way where it did not. The one before takes its trust along to
    LOCAL_PREVIOUS, where that is among ``others``, the further rungs that exist now; a cloud has to prove itself anew.
    """
    before, served = ladder.trust(Mode.LOCAL), ladder.serving is Mode.LOCAL
    local = Trust() if served else Trust(why=before.why)
    return _rebuilt(ladder, others, {Mode.LOCAL: local, Mode.LOCAL_PREVIOUS: before}, served=served, now_ns=now_ns)


def returned(ladder: Ladder, others: tuple[Mode, ...], now_ns: int, down: Reason | None = None) -> Ladder:
    """LOCAL is the engine of the bundle before again: it was LOCAL_PREVIOUS, or stayed warm beside the ladder.

    It serves at once where LOCAL or itself served; where nobody did, what it earned as LOCAL_PREVIOUS counts. ``down``
    says why it cannot: it died unnoticed, or there was no bundle before.
    """
    own = ladder.trust(Mode.LOCAL_PREVIOUS) if Mode.LOCAL_PREVIOUS in ladder.rungs else Trust()
    if down is not None:
        own = Trust(now_ns, down, golden=False)
    served = ladder.serving in (Mode.LOCAL, Mode.LOCAL_PREVIOUS) and own.golden
    local = Trust() if served else replace(own, why=own.why or ladder.why or Reason.PROBATION)
    return _rebuilt(ladder, others, {Mode.LOCAL: local}, served=served, now_ns=now_ns)


def _rebuilt(
    ladder: Ladder, others: tuple[Mode, ...], trusts: Mapping[Mode, Trust], *, served: bool, now_ns: int
) -> Ladder:
    """A ladder of LOCAL and ``others``; a rung without a trust of its own has yet to prove what it runs."""
    rungs = tuple(rung for rung in RUNGS if rung is Mode.LOCAL or rung in others)
    made = replace(
        ladder,
        rungs=rungs,
        trusts=tuple(trusts.get(rung, Trust(golden=False, why=Reason.CLOUD_DOWN)) for rung in rungs),
        serving=Mode.LOCAL,
    )
    if served:
        return made
    if ladder.serving is Mode.THRESHOLD_ONLY:
        return replace(made, serving=Mode.THRESHOLD_ONLY)
    return _dropped(made, now_ns)


def _with(ladder: Ladder, rung: Mode, trust: Trust) -> Ladder:
    place = ladder.rungs.index(rung)
    return replace(ladder, trusts=(*ladder.trusts[:place], trust, *ladder.trusts[place + 1 :]))


def _dropped(ladder: Ladder, now_ns: int) -> Ladder:
    """Nobody serves: what the other rungs answered before the drop proves nothing about what comes after it."""
    trusts = tuple(replace(trust, good=0) for trust in ladder.trusts)
    return replace(ladder, trusts=trusts, serving=Mode.THRESHOLD_ONLY, dropped_at_ns=now_ns)


def _climbed(ladder: Ladder, now_ns: int, climb: Climb) -> Ladder:
    """The best rung above the present one that has earned it serves."""
    height = ladder.rungs.index(ladder.serving) if ladder.serving in ladder.rungs else len(ladder.rungs)
    for rung, trust in zip(ladder.rungs[:height], ladder.trusts, strict=False):
        since = ladder.dropped_at_ns if ladder.serving is Mode.THRESHOLD_ONLY else 0
        since = max(since, trust.failed_at_ns or 0)
        if trust.golden and trust.good >= climb.good_results and now_ns - since >= climb.dwell_ns:
            return replace(_with(ladder, rung, Trust()), serving=rung)
    return ladder


@dataclass(frozen=True, slots=True)
class Banner:
    """What one bed says of its mode. ``changes`` counts how often it said something new."""

    mode: Mode
    reason: Reason | None
    since_ns: int
    changes: int = 0


def banner(before: Banner | None, ladder: Ladder, input_lost: Reason | None, now_ns: int) -> Banner:
    """The bed's banner now: no input beats everything. The same object when nothing changed."""
    mode = ladder.serving
    if input_lost is not None:
        mode = Mode.NOT_ASKED if input_lost in NOT_ASKED else Mode.NO_AI
    reason = input_lost or ladder.why
    if before is None:
        return Banner(mode, reason, now_ns)
    if (before.mode, before.reason) == (mode, reason):
        return before
    return Banner(mode, reason, now_ns, before.changes + 1)
