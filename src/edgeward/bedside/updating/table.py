"""What may become of an update: one record, one step for each thing that happens, pure.

::

              Cleared      Arrived      Passed     Compared, Activates   Serves      Held, Committed
    OFFERED → DOWNLOADING → VERIFIED → STAGED ───────→ ACTIVATED ───→ SOAKING ───────→ COMMITTED
       │  ↖────────┴───────────┴─────────┤ Fails, mendable     ╰──────┬──────╯
       │                                 ↓                            ↓ Fails
       ╰─ InUse → COMMITTED            FAILED                    ROLLED_BACK

``TABLE`` says which happening may come in which state, and what it leads to; anything else raises
``IllegalStepError``. Three may come at any time: ``Ordered``, ``Booted`` and, while the update is under way, ``Fails``.
The clock is the monotonic one, in ns, and means nothing after a boot. Nothing here does anything: a step gives the next
record and what has to be done because of it (``Duty``), and ``todo`` says what the record waits for.
"""

from __future__ import annotations

from dataclasses import replace

from edgeward.bedside.updating.happening import (
    Activates,
    Arrived,
    Booted,
    Cleared,
    Committed,
    Compared,
    Duty,
    Fails,
    Happening,
    Held,
    InUse,
    Limits,
    Ordered,
    Passed,
    Record,
    Serves,
    Todo,
    Waits,
)
from edgeward.exchange.checkin import Deed, Evidence, Order
from edgeward.exchange.words import UPDATE_ENDS, UpdateState, Why
from edgeward.kernel.clock import NS_PER_S

BACKOFF_S_MAX = 3_600
BLAMES = frozenset(
    {
        Why.BUNDLE_REFUSED,
        Why.GOLDEN_FAILED,
        Why.TOO_SLOW,
        Why.MEMORY,
        Why.TRIAL_CRASHED,
        Why.SHADOW_DISAGREES,
        Why.SHADOW_FAILED,
        Why.SOAK_FAILED,
        Why.INTERRUPTED,
    }
)
"""Why a bundle, and not the device or its network, is to blame: such a one is never taken again here."""
NOT_FOR_HERE = BLAMES | {Why.BUNDLE_OLDER, Why.REFUSED_BEFORE}
"""Why a bundle, as long as it stays what it is, is not for this device."""
_IN_CHARGE = frozenset({UpdateState.ACTIVATED, UpdateState.SOAKING})
_ON_TRIAL = frozenset({UpdateState.STAGED, *_IN_CHARGE})
_KEPT = frozenset({UpdateState.STAGED, UpdateState.COMMITTED})
_DEFERRED = frozenset({Why.BED_IN_USE, Why.NO_INPUT})
_WAITING = _DEFERRED | {Why.WINDOW_CLOSED}


class IllegalStepError(Exception):
    """Something happened that cannot happen in that state: a mistake in the program."""


_S = UpdateState
TABLE: dict[tuple[UpdateState, type], UpdateState] = {
    (_S.OFFERED, Waits): _S.OFFERED,
    (_S.OFFERED, Cleared): _S.DOWNLOADING,
    (_S.OFFERED, InUse): _S.COMMITTED,
    (_S.OFFERED, Fails): _S.FAILED,
    (_S.DOWNLOADING, Waits): _S.DOWNLOADING,
    (_S.DOWNLOADING, Cleared): _S.DOWNLOADING,
    (_S.DOWNLOADING, Arrived): _S.VERIFIED,
    (_S.DOWNLOADING, Fails): _S.FAILED,
    (_S.VERIFIED, Waits): _S.VERIFIED,
    (_S.VERIFIED, Passed): _S.STAGED,
    (_S.VERIFIED, Fails): _S.FAILED,
    (_S.STAGED, Waits): _S.STAGED,
    (_S.STAGED, Compared): _S.STAGED,
    (_S.STAGED, Activates): _S.ACTIVATED,
    (_S.STAGED, Fails): _S.FAILED,
    (_S.ACTIVATED, Serves): _S.SOAKING,
    (_S.ACTIVATED, Fails): _S.ROLLED_BACK,
    (_S.SOAKING, Held): _S.SOAKING,
    (_S.SOAKING, Committed): _S.COMMITTED,
    (_S.SOAKING, Fails): _S.ROLLED_BACK,
}
"""What may happen in which state, and where it leads when no attempt is left and no time is up."""


def todo(record: Record) -> Todo:
    """What is to be done next."""
    match record.state:
        case UpdateState.OFFERED:
            return Todo.ASK
        case UpdateState.DOWNLOADING:
            return Todo.DOWNLOAD
        case UpdateState.VERIFIED:
            return Todo.TRY
        case UpdateState.STAGED:
            return Todo.ACTIVATE if record.compared else Todo.COMPARE
        case UpdateState.ACTIVATED:
            return Todo.SEE_IT_SERVE
        case UpdateState.SOAKING:
            return Todo.COMMIT if record.soaked else Todo.WATCH
        case _:
            return Todo.NOTHING


def step(
    record: Record, happening: Happening, now_ns: int, limits: Limits | None = None
) -> tuple[Record, tuple[Duty, ...]]:
    """The next record, and what has to be done because of it. ``IllegalStepError`` for what cannot happen."""
    limits = limits or Limits()
    if isinstance(happening, Ordered):
        return _ordered(record, happening, now_ns)
    if isinstance(happening, Booted):
        return _booted(record, happening, now_ns)
    leads_to = TABLE.get((record.state, type(happening)))
    if leads_to is None or record.order is None:
        raise IllegalStepError(f"{type(happening).__name__} in {record.state}")
    if isinstance(happening, Waits):
        return _waits(record, happening, now_ns, limits)
    if isinstance(happening, Fails):
        return _fails(record, record.order, happening, now_ns, limits)
    after = _evident(record, happening)
    if leads_to is record.state:
        return after, (Duty.RECORD,)
    after = replace(after, state=leads_to, why=None, code="", message="", since_ns=now_ns, waited_ns=0, seen_ns=now_ns)
    if leads_to is UpdateState.VERIFIED:
        after = replace(after, percent=100)
    if leads_to is UpdateState.ACTIVATED:
        return after, (Duty.RECORD, Duty.ACTIVATE)
    # From STAGED on it lies in its slot: what was downloaded only takes room.
    return after, (Duty.RECORD, Duty.CLEAR) if leads_to in _KEPT else (Duty.RECORD,)


def _evident(record: Record, happening: Happening) -> Record:
    """Take what was measured; refuse to go on without what must have been."""
    if isinstance(happening, Passed | InUse | Compared | Held):
        if not happening.evidence.golden_vectors:
            raise IllegalStepError(f"{type(happening).__name__} without a golden vector")
        record = replace(record, evidence=happening.evidence)
    if isinstance(happening, Activates) and not record.compared:
        raise IllegalStepError("Activates before the shadow held")
    if isinstance(happening, Committed) and not record.soaked:
        raise IllegalStepError("Committed before the soak held")
    if isinstance(happening, Compared):
        record = replace(record, compared=True)
    if isinstance(happening, Compared | Cleared):  # what it waited for has come
        record = replace(record, why=None, code="", message="")
    if isinstance(happening, Held):
        record = replace(record, soaked=True)
    return record


def _waits(record: Record, waits: Waits, now_ns: int, limits: Limits) -> tuple[Record, tuple[Duty, ...]]:
    counted = now_ns - record.seen_ns if record.why in _DEFERRED and record.state is UpdateState.STAGED else 0
    waited_ns = record.waited_ns + counted
    if waited_ns >= limits.defer_s * NS_PER_S:
        ended = Why.NO_INPUT if waits.why is Why.NO_INPUT else Why.NO_SAFE_MOMENT
        fails = Fails(ended, code=ended.value, message="it waited as long as it may; the bundle in use stays in use")
        return _end(record, fails, now_ns)
    after = replace(record, why=waits.why, code="", message=waits.message, waited_ns=waited_ns, seen_ns=now_ns)
    # Recorded once and for people alone: a boot asks anew what there is to wait for.
    return after, (Duty.RECORD,) if waits.why is not record.why else ()


def _fails(record: Record, order: Order, fails: Fails, now_ns: int, limits: Limits) -> tuple[Record, tuple[Duty, ...]]:
    if not fails.mendable or record.attempt >= order.attempts or record.state in _IN_CHARGE:
        return _end(record, fails, now_ns)
    after = replace(
        _begun(record, now_ns),
        attempt=record.attempt + 1,
        why=fails.why,
        code=fails.code,
        message=fails.message,
        percent=record.percent,
        next_ns=now_ns + min(limits.retry_s << (record.attempt - 1), BACKOFF_S_MAX) * NS_PER_S,
    )
    return after, (*_live_duties(record), Duty.RECORD, *_slot_duties(record, after))


def _end(record: Record, fails: Fails, now_ns: int) -> tuple[Record, tuple[Duty, ...]]:
    state = UpdateState.ROLLED_BACK if record.state in _IN_CHARGE else UpdateState.FAILED
    after = replace(
        record,
        state=state,
        why=fails.why,
        code=fails.code or fails.why.value,
        message=fails.message,
        evidence=fails.evidence or record.evidence,
        since_ns=now_ns,
    )
    return after, (*_live_duties(record), Duty.RECORD, *_slot_duties(record, after), Duty.CLEAR)


def _live_duties(before: Record) -> tuple[Duty, ...]:
    if before.state in _IN_CHARGE:
        return (Duty.GO_BACK,)
    return (Duty.END_SHADOW,) if before.state is UpdateState.STAGED else ()


def _slot_duties(before: Record, after: Record) -> tuple[Duty, ...]:
    if after.state in UPDATE_ENDS and after.why in BLAMES:
        return (Duty.REFUSE,)
    return (Duty.ABANDON,) if before.state in {UpdateState.VERIFIED, *_ON_TRIAL} else ()


def _begun(record: Record, now_ns: int) -> Record:
    return replace(
        record,
        state=UpdateState.OFFERED,
        why=None,
        code="",
        message="",
        percent=0,
        evidence=Evidence(),
        compared=False,
        soaked=False,
        since_ns=now_ns,
        next_ns=now_ns,
        waited_ns=0,
        seen_ns=now_ns,
    )


# --- orders


def is_news(record: Record, ordered: Ordered) -> bool:
    """Whether an order changes anything: it is of a later rollout, or it withdraws the one under way.

    A local order never disturbs what a fleet ordered, and a fleet's always replaces a local one.
    """
    known = record.order
    if known is None or (record.is_local and not ordered.is_local):
        return True
    if ordered.is_local and not record.is_local:
        return record.ended and ordered.order.rollout > known.rollout
    if ordered.order.rollout == known.rollout:
        return ordered.order.deed is Deed.WITHDRAW and not record.ended
    return ordered.order.rollout > known.rollout


def _ordered(record: Record, ordered: Ordered, now_ns: int) -> tuple[Record, tuple[Duty, ...]]:
    if not is_news(record, ordered):
        return record, ()
    live = () if record.ended else _live_duties(record)
    slots: tuple[Duty, ...] = () if record.ended else (*_slot_duties(record, replace(record, why=None)), Duty.CLEAR)
    order = ordered.order
    if order.deed is Deed.INSTALL:
        fresh = Record(order, ordered.is_local, attempt=1)
        return _begun(fresh, now_ns), (*live, Duty.RECORD, *slots)
    same = not record.ended and record.order is not None and record.order.rollout == order.rollout
    served = same and record.state in _IN_CHARGE
    known = record.order if same and record.order is not None else order  # which attempt of what is told as it began
    after = Record(
        replace(known, deed=Deed.WITHDRAW),
        ordered.is_local,
        UpdateState.ROLLED_BACK if served else UpdateState.FAILED,
        attempt=record.attempt if same else 1,
        why=Why.WITHDRAWN,
        code=Why.WITHDRAWN.value,
        message="the order was withdrawn; the bundle in use stays in use",
        evidence=record.evidence if same else Evidence(),
        since_ns=now_ns,
    )
    return after, (*live, Duty.RECORD, *slots)


# --- after a boot


def _booted(record: Record, found: Booted, now_ns: int) -> tuple[Record, tuple[Duty, ...]]:
    """The slots are the truth about slots: what serves after a boot is what they call active, so nothing must go back.

    Every state of a trial begins again at STAGED: the engines are new, and so are shadow and soak. The slots count how
    often that happens.
    """
    order = record.order
    record = replace(record, since_ns=now_ns, next_ns=now_ns, waited_ns=0, seen_ns=now_ns)
    if order is None:
        return record, (Duty.ABANDON,) if found.trial else ()
    if found.active == order.sha256 and record.soaked:
        after = replace(record, state=UpdateState.COMMITTED, why=None, code="", message="")
        return after, (Duty.RECORD, Duty.CLEAR) if after.state is not record.state else ()
    if record.ended:
        if found.trial:
            return record, (Duty.REFUSE if record.why in BLAMES and found.trial == order.sha256 else Duty.ABANDON,)
        return record, ()
    if found.refused:
        known = Why.REFUSED_BEFORE if record.why is None or record.why in _WAITING else record.why
        why = Why.INTERRUPTED if found.refused == "trial-interrupted" else known
        return _end_at_boot(record, why, found.refused)
    if record.state in _ON_TRIAL:
        if found.trial == order.sha256:
            after = replace(record, state=UpdateState.STAGED, why=None, compared=False, soaked=False)
            return after, (Duty.RECORD,) if after != record else ()
        if record.attempt >= order.attempts:
            return _end_at_boot(record, Why.INTERRUPTED, "trial-lost")
        return replace(_begun(record, now_ns), attempt=record.attempt + 1), (Duty.RECORD,)
    if record.state is UpdateState.DOWNLOADING:
        # Whether it is still what signed metadata name has to be asked again; the bytes that came are kept.
        return replace(_begun(record, now_ns), percent=record.percent), (Duty.RECORD,)
    return replace(record, why=None), ()


def _end_at_boot(record: Record, why: Why, code: str) -> tuple[Record, tuple[Duty, ...]]:
    state = UpdateState.ROLLED_BACK if record.state in _IN_CHARGE else UpdateState.FAILED
    message = "its trial was cut short too often; the bundle in use stays in use"
    after = replace(record, state=state, why=why, code=code, message=message if why is Why.INTERRUPTED else "")
    return after, (Duty.RECORD, *_slot_duties(record, after), Duty.CLEAR)
