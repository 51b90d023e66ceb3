"""The words of the update's table: the record, what happens, and what is to be done. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from edgeward.exchange.checkin import Evidence, Order
from edgeward.exchange.words import UPDATE_ENDS, UpdateState, Why


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often.

    ``defer_s``: how long a candidate waits for beds or for input before it is given up, time outside of maintenance
    windows not counted; ``retry_s``: before the first new attempt, twice as long before each later one.
    """

    defer_s: int = 86_400
    retry_s: int = 60


@dataclass(frozen=True, slots=True)
class Record:
    """Where the update of one family stands.

    ``is_local``: the order was made on the device, without a fleet; ``code`` and ``message`` tell people at the device
    more than ``why``. ``compared``: the shadow held; ``soaked``: the soak held, so the slots may say committed already.
    The last four are of this boot and kept nowhere: ``since_ns`` the state began; ``next_ns`` no new attempt before;
    ``waited_ns`` spent waiting for beds or input, counted up to ``seen_ns``.
    """

    order: Order | None = None
    is_local: bool = False
    state: UpdateState = UpdateState.IDLE
    attempt: int = 0
    why: Why | None = None
    code: str = ""
    message: str = ""
    percent: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    compared: bool = False
    soaked: bool = False
    since_ns: int = 0
    next_ns: int = 0
    waited_ns: int = 0
    seen_ns: int = 0

    @property
    def told(self) -> tuple[object, ...]:
        """What people are told of when it changes."""
        return self.order, self.state, self.why, self.attempt

    @property
    def ended(self) -> bool:
        """Whether nothing is under way."""
        return self.order is None or self.state in UPDATE_ENDS


# --- what happens


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order came, for the first time or again, in whatever sequence."""

    order: Order
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Booted:
    """The device started.

    ``active`` and ``trial``: hashes as the slots have them; ``refused``: why the slots refuse what the record's order
    names, or empty.
    """

    active: str = ""
    trial: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Waits:
    """Nothing can be done now, and why; ``message``: what people may read of it."""

    why: Why
    message: str = ""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The order is what signed metadata name, there is room, and the maintenance window is open."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The whole file is on the disk and its hash is the signed one."""


@dataclass(frozen=True, slots=True)
class Passed:
    """It is on trial in the inactive slot, and golden vectors, latency and memory hold on this device."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Compared:
    """The shadow ran for its time and agreed within bounds, or there is nothing to be compared with."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Activates:
    """The moment is safe: it will be put in charge now."""


@dataclass(frozen=True, slots=True)
class Serves:
    """It is in charge."""


@dataclass(frozen=True, slots=True)
class Held:
    """It served for the whole soak within bounds."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Committed:
    """The slots have it as the active one."""


@dataclass(frozen=True, slots=True)
class InUse:
    """What is ordered is what is active, and it passes the gate."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Fails:
    """Something does not hold. ``mendable``: a later attempt may succeed, so one is made if any is left."""

    why: Why
    mendable: bool = False
    code: str = ""
    message: str = ""
    evidence: Evidence | None = None


Happening = (
    Ordered
    | Booted
    | Waits
    | Cleared
    | Arrived
    | Passed
    | Compared
    | Activates
    | Serves
    | Held
    | Committed
    | InUse
    | Fails
)


# --- what is to be done


class Duty(Enum):
    """What a step asks for, in the order given: beds first, then the record, then the slots."""

    END_SHADOW = "end-shadow"
    GO_BACK = "go-back"
    RECORD = "record"
    ACTIVATE = "activate"
    """Put the candidate in charge, only once that is recorded."""
    REFUSE = "refuse"
    ABANDON = "abandon"
    CLEAR = "clear"
    """Remove what was downloaded."""


class Todo(Enum):
    """What a record waits for."""

    NOTHING = "nothing"
    ASK = "ask"
    DOWNLOAD = "download"
    TRY = "try"
    COMPARE = "compare"
    ACTIVATE = "activate"
    SEE_IT_SERVE = "see-it-serve"
    WATCH = "watch"
    COMMIT = "commit"
