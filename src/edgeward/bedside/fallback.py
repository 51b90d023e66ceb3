"""The ladder: which intelligence stands beside the patient now, as a pure transition function.

Any failure of the engine drops at once to THRESHOLD_ONLY. Climbing back needs the golden vectors to pass, three good
results and a dwell of 60 s. Without valid input it is NO_AI; with input again, the ladder returns to the rung it had
earned. The threshold checks are not a rung: they run in every mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from edgeward.bedside.verdict import Reason


class Mode(StrEnum):
    """The rungs that exist today; LOCAL_PREVIOUS and CLOUD stand between the first two in the design."""

    LOCAL = "LOCAL"
    THRESHOLD_ONLY = "THRESHOLD_ONLY"
    NO_AI = "NO_AI"


@dataclass(frozen=True, slots=True)
class Climb:
    """What it takes to be trusted again."""

    good_results: int = 3
    dwell_ns: int = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Ladder:
    """The state. ``failed_at_ns`` is None while the engine is trusted; ``golden`` says whether it passed since."""

    failed_at_ns: int | None = None
    why: Reason | None = None
    golden: bool = True
    good: int = 0
    input_lost: Reason | None = None
    since_ns: int = 0

    @property
    def mode(self) -> Mode:
        """The rung: no input beats everything, then a failed engine."""
        if self.input_lost is not None:
            return Mode.NO_AI
        return Mode.LOCAL if self.failed_at_ns is None else Mode.THRESHOLD_ONLY

    @property
    def reason(self) -> Reason | None:
        """Why the mode is not LOCAL; None when it is."""
        return self.input_lost or self.why


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """The engine crashed, hung, answered nonsense, is not there or not ready."""

    why: Reason


@dataclass(frozen=True, slots=True)
class GoldenPassed:
    """The engine now in place ran the golden vectors within their tolerance."""


@dataclass(frozen=True, slots=True)
class GoodResult:
    """The engine answered a window in time with finite scores."""


@dataclass(frozen=True, slots=True)
class InputLost:
    """No lead can be judged, or the source is silent."""

    why: Reason


@dataclass(frozen=True, slots=True)
class InputBack:
    """At least one lead can be judged again."""


Occurrence = EngineFailed | GoldenPassed | GoodResult | InputLost | InputBack


def transition(ladder: Ladder, occurrence: Occurrence, now_ns: int, climb: Climb) -> Ladder:
    """The next state. ``since_ns`` moves only when the mode or its reason does, so every change is one audit entry."""
    match occurrence:
        case EngineFailed(why):
            after = replace(ladder, failed_at_ns=now_ns, why=why, golden=False, good=0)
        case GoldenPassed():
            after = replace(ladder, golden=True, good=0) if not ladder.golden else ladder
        case GoodResult():
            after = _good(ladder, now_ns, climb)
        case InputLost(why):
            after = replace(ladder, input_lost=why)
        case InputBack():
            after = replace(ladder, input_lost=None)
    if (after.mode, after.reason) != (ladder.mode, ladder.reason):
        after = replace(after, since_ns=now_ns)
    return after


def _good(ladder: Ladder, now_ns: int, climb: Climb) -> Ladder:
    if ladder.failed_at_ns is None or not ladder.golden:
        return ladder
    good = min(ladder.good + 1, climb.good_results)
    if good >= climb.good_results and now_ns - ladder.failed_at_ns >= climb.dwell_ns:
        return replace(ladder, failed_at_ns=None, why=None, good=0)
    return replace(ladder, good=good)
