"""When a device speaks to its fleet, and about what: a pure ``step(policy, state, event, now_ns, dice)``.

::

    APPLYING ──accepted──▸ MEMBER ──(the fleet takes the certificate no more)──▸ SHUT_OUT ──(takes it again)──▸ MEMBER
        └────rejected──▸ REJECTED   (nothing is asked any more until a person applies again, which ends in MEMBER)

One exchange at a time. After an answer the next check-in comes when the fleet asked for it, spread by up to a tenth, so
that devices that started together do not stay together; after failures ever later, up to a ceiling; after a change of
an update at once, but not twice within ``hurry_s``. ``dice`` is a number from 0 to 1 of the caller's drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from edgeward.exchange.enrol import Standing
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from edgeward.exchange.checkin import Answer, Order
    from edgeward.exchange.enrol import Credential

SPREAD = 0.1
"""Share of an interval by which it may be longer."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All in seconds. ``first_s``: the first exchange comes within this time of the start (a ward regains power)."""

    first_s: float = 5.0
    hurry_s: float = 5.0
    """Between two check-ins at least, however much changes."""
    retry_s: float = 2.0
    """After the first failure; doubled with each further one."""
    retry_s_max: float = 300.0
    shut_out_s: float = 600.0
    """Between questions of a device whose certificate is not taken: its fleet may take it again."""
    renew_s: float = 3_600.0
    """Between two renewals at least, so that a wrong clock does not renew with every check-in."""

    def __post_init__(self) -> None:
        assert self.first_s >= 0
        assert 0 < self.retry_s <= self.retry_s_max


class Phase(StrEnum):
    """How a device stands with its fleet."""

    APPLYING = "applying"
    MEMBER = "member"
    SHUT_OUT = "shut-out"
    """The fleet does not take this device's certificate: revoked, or expired."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class State:
    """``sequence``: of the check-in made last, 0 before the first; ``due_ns``: when the next exchange shall come."""

    phase: Phase
    due_ns: int
    sequence: int = 0
    asking: bool = False
    changed: bool = False
    failures: int = 0
    asked_ns: int | None = None
    renewed_ns: int | None = None


# --- events


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An update ended, which the fleet waits for."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The fleet answered the check-in under way; ``renewal_due``: the certificate has lived a third of its life."""

    answer: Answer
    renewal_due: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """The fleet answered the application under way."""

    credential: Credential


@dataclass(frozen=True, slots=True)
class Failed:
    """The exchange under way came to nothing.

    ``after_s``: the fleet asked to be left alone for so long; ``shut_out``: it does not take our certificate.
    """

    after_s: float = 0.0
    shut_out: bool = False


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A certificate is there that a person got by other means than the application under way."""


Event = Tick | Changed | Answered | Judged | Failed | Enrolled


# --- effects


@dataclass(frozen=True, slots=True)
class SendApplication:
    """Ask for a certificate; the outcome comes back as ``Judged`` or ``Failed``."""


@dataclass(frozen=True, slots=True)
class SendCheckIn:
    """Send the whole state under this sequence; the outcome comes back as ``Answered`` or ``Failed``."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Put this certificate in use."""

    credential: Credential


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask for the next certificate once; when that fails, the next answer asks for it again."""


@dataclass(frozen=True, slots=True)
class Obey:
    """Hand these orders to the updates."""

    orders: tuple[Order, ...]


Effect = SendApplication | SendCheckIn | Keep | Renew | Obey


def begin(policy: Policy, *, member: bool, now_ns: int, dice: float) -> State:
    """The state at a start; ``member``: there is a certificate."""
    return State(Phase.MEMBER if member else Phase.APPLYING, now_ns + _ns(policy.first_s * dice))


def step(policy: Policy, state: State, event: Event, now_ns: int, dice: float) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what is to be done."""
    match event:
        case Tick():
            return _ticked(state, now_ns)
        case Changed():
            return _changed(policy, state, now_ns), ()
        case Answered(answer, renewal_due):
            return _answered(policy, state, answer, now_ns, dice, renewal_due=renewal_due)
        case Judged(credential):
            return _judged(state, credential, now_ns, dice)
        case Failed(after_s, shut_out):
            return _failed(policy, state, now_ns, dice, after_s, shut_out=shut_out), ()
        case Enrolled():
            return replace(state, phase=Phase.MEMBER, failures=0, due_ns=now_ns), ()


def _ticked(state: State, now_ns: int) -> tuple[State, tuple[Effect, ...]]:
    if state.asking or state.phase is Phase.REJECTED or now_ns < state.due_ns:
        return state, ()
    asking = replace(state, asking=True, changed=False, asked_ns=now_ns)
    if state.phase is Phase.APPLYING:
        return asking, (SendApplication(),)
    return replace(asking, sequence=state.sequence + 1), (SendCheckIn(state.sequence + 1),)


def _changed(policy: Policy, state: State, now_ns: int) -> State:
    """What comes while an answer is awaited is told after it; after failures the pause is kept."""
    if state.asking:
        return replace(state, changed=True)
    if state.phase is not Phase.MEMBER or state.failures:
        return state
    return replace(state, due_ns=min(state.due_ns, _soonest(policy, state, now_ns)))


def _answered(
    policy: Policy, state: State, answer: Answer, now_ns: int, dice: float, *, renewal_due: bool
) -> tuple[State, tuple[Effect, ...]]:
    if not state.asking or answer.sequence != state.sequence:
        return state, ()  # not of the check-in under way: whatever it is, it is old
    due_ns = now_ns + _ns(answer.next_s * (1.0 + SPREAD * dice))
    if state.changed:
        due_ns = min(due_ns, _soonest(policy, state, now_ns))
    after = replace(state, phase=Phase.MEMBER, asking=False, changed=False, failures=0, due_ns=due_ns)
    effects: tuple[Effect, ...] = (Obey(answer.orders),)
    rested = state.renewed_ns is None or now_ns - state.renewed_ns >= _ns(policy.renew_s)
    if (answer.renew or renewal_due) and rested:
        return replace(after, renewed_ns=now_ns), (*effects, Renew())
    return after, effects


def _judged(state: State, credential: Credential, now_ns: int, dice: float) -> tuple[State, tuple[Effect, ...]]:
    rested = replace(state, asking=False, failures=0)
    match credential.standing:
        case Standing.ACCEPTED:
            return replace(rested, phase=Phase.MEMBER, due_ns=now_ns), (Keep(credential),)
        case Standing.REJECTED:
            return replace(rested, phase=Phase.REJECTED), ()
        case Standing.PENDING:
            return replace(rested, due_ns=now_ns + _ns(credential.next_s * (1.0 + SPREAD * dice))), ()


def _failed(policy: Policy, state: State, now_ns: int, dice: float, after_s: float, *, shut_out: bool) -> State:
    failures = state.failures + 1
    longest = min(policy.retry_s_max, policy.retry_s * 2.0 ** min(failures - 1, 30))
    pause_s = max(longest * (0.5 + 0.5 * dice), after_s)
    phase = state.phase
    if shut_out and phase is not Phase.APPLYING:
        phase, pause_s = Phase.SHUT_OUT, policy.shut_out_s * (1.0 + SPREAD * dice)
    return replace(state, phase=phase, asking=False, failures=failures, due_ns=now_ns + _ns(pause_s))


def _soonest(policy: Policy, state: State, now_ns: int) -> int:
    return now_ns if state.asked_ns is None else max(now_ns, state.asked_ns + _ns(policy.hurry_s))


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
