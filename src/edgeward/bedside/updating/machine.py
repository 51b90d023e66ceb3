"""The updater of one model family: it does what the table asks for, and tells the table what came of it.

It runs in a thread of its own (``run``), or turn by turn. Only that thread downloads, tries and waits; ``order``,
``progress`` and ``stop`` may be called from any. Whatever fails, wherever, the bundle in use stays in use.

At a boot the device runs what the slots call active, and only then asks the journal what was under way: the two can
never disagree about what runs, since the journal does not say.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeward.bedside.trial import TrialResult
from edgeward.bedside.updating.gate import fails_of, judge_offer, judge_shadow, judge_soak, judge_start, judge_trial
from edgeward.bedside.updating.happening import (
    Activates,
    Arrived,
    Booted,
    Cleared,
    Committed,
    Compared,
    Duty,
    Fails,
    InUse,
    Ordered,
    Passed,
    Record,
    Todo,
    Waits,
)
from edgeward.bedside.updating.pace import TokenBucket
from edgeward.bedside.updating.rules import AT_ONCE, Rules, Seen, own_order, seen_of
from edgeward.bedside.updating.table import is_news, step, todo
from edgeward.exchange.checkin import Deed, Order, Progress
from edgeward.exchange.words import UpdateState, Why
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import EdgewardError
from edgeward.trust.download import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.slot import Slot, SlotStore
    from edgeward.bedside.updating.happening import Happening
    from edgeward.bedside.updating.journal import Journal
    from edgeward.bedside.updating.live import Live
    from edgeward.bedside.updating.rules import Fetcher, OwnOrders
    from edgeward.kernel.clock import Clock
    from edgeward.trust.offer import Offer

_POLL_S = 30.0
_WATCH_S = 1.0
_STEPS_MAX = 64
"""Steps of one turn, many times what the longest way takes: a mistake must not keep a processor from the beds."""
_SAFE_S = 0.2
"""A safe moment may be short: it is looked for often."""
_ON_TRIAL = frozenset({Todo.COMPARE, Todo.ACTIVATE, Todo.SEE_IT_SERVE, Todo.WATCH, Todo.COMMIT})
"""What needs the candidate in its slot."""


class Updater:
    """Updates ``family`` in ``slots``, which must be open; ``boot`` first.

    ``trial`` gets a staged bundle's path and measures it on this device (``bedside.trial``); an exception from it is a
    failed trial. ``told`` hears of every transition, for people.
    """

    def __init__(
        self,
        family: str,
        fetcher: Fetcher,
        slots: SlotStore,
        journal: Journal,
        live: Live,
        clock: Clock,
        trial: Callable[[Path], TrialResult],
        *,
        rules: Rules | None = None,
        told: Callable[[Record], None] = lambda _record: None,
    ) -> None:
        self.family = family
        self._fetcher = fetcher
        self._slots = slots
        self._journal = journal
        self._live = live
        self._clock = clock
        self._trial = trial
        self._rules = rules or Rules()
        self._told = told
        self._record = Record()
        self._offer: Offer | None = None
        self._percent = self._up_ns = 0
        self._shadowing = self._shadow_ran = False
        self._mail: list[Ordered] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()

    # --- from any thread

    @property
    def record(self) -> Record:
        """Where the update stands, with what people at the device may read."""
        return self._record

    @property
    def progress(self) -> Progress | None:
        """Where the newest order stands, as the fleet may know it; None before the first. A local one has rollout 0."""
        record, order = self._record, self._record.order
        if order is None:
            return None
        percent = self._percent if record.state is UpdateState.DOWNLOADING else record.percent
        rollout = 0 if record.is_local else order.rollout
        return Progress(rollout, order.sha256, record.state, record.attempt, record.why, percent, record.evidence)

    def order(self, order: Order, *, is_local: bool = False) -> None:
        """Take an order up at the next turn; an older or repeated one changes nothing."""
        if order.family != self.family:
            raise ValueError(f"an order for {order.family} came to {self.family}")
        with self._lock:
            self._mail.append(Ordered(order, is_local))
        self._wake.set()

    def stop(self) -> None:
        """End a wait or a download soon and begin nothing more; what came is kept. ``close`` comes after it."""
        self._stopping.set()
        self._wake.set()

    # --- the thread

    def run(self) -> None:
        """Turn until ``stop``; an exception of ours is told by the record, not by the thread's end."""
        while not self._stopping.is_set():
            wait_s = self.turn()
            self._wake.wait(wait_s)
            self._wake.clear()

    def boot(self) -> None:
        """Read the journal and reconcile it with the slots, once, before anything else."""
        record = self._record = self._journal.read()
        sha256 = record.order.sha256 if record.order is not None else ""
        trial = self._slots.trial()
        if trial is not None and not record.ended and trial.sha256 == sha256:
            try:
                trial = self._slots.resume(sha256)
            except EdgewardError:
                trial = None  # it could not be counted, so it must not go on
        active = self._slots.active()
        self._take(
            Booted(
                active.sha256 if active else "",
                trial.sha256 if trial else "",
                "" if record.ended else self._slots.refused(sha256),
            )
        )

    def close(self) -> None:
        """After the thread's end: stop the candidate's engine; what was under way goes on at the next start."""
        if self._shadowing:
            self._live.end_shadow()
            self._shadowing = False
        self._slots.rest()

    def look(self, how: OwnOrders = AT_ONCE, *, again: bool = True) -> Seen:
        """For a device without a fleet: ask the repository now, and order what it names unless that is in use.

        ``again``: also what was turned down here before. Raises what ``Fetcher.latest`` does.
        """
        offer, record = self._fetcher.latest(self.family), self._record
        seen = seen_of(offer, record, self._slots.active(), self._slots.refused(offer.sha256))
        if seen is Seen.NEW or (again and seen is Seen.TURNED_DOWN):
            self.order(own_order(offer, record, how), is_local=True)
        if seen is Seen.IN_USE:
            self.call_off()  # what was under way is not what is published any more
        return seen

    def call_off(self) -> None:
        """End what this device ordered itself and has not finished; from any thread."""
        record, order = self._record, self._record.order
        if record.is_local and not record.ended and order is not None:
            self.order(replace(order, deed=Deed.WITHDRAW), is_local=True)

    def turn(self) -> float:
        """Go on as far as possible without waiting for anything but the repository and the trial.

        Returns the seconds after which to call again. Never raises for an ``EdgewardError``.
        """
        for _ in range(_STEPS_MAX):
            self._read_mail()
            if self._stopping.is_set():
                break
            found = self._found()
            if isinstance(found, float):
                if not self._has_news():
                    return found
                continue
            self._take(found)
            if isinstance(found, Waits) and not self._record.ended:
                return _SAFE_S if found.why is Why.BED_IN_USE else _POLL_S
        return 0.0

    def _found(self) -> Happening | float:
        try:
            return self._next()
        except Exception as error:  # noqa: BLE001  (what breaks fails the update and never ends its thread)
            told = f"the update broke ({type(error).__name__}); look at the device's log"
            return Fails(Why.OTHER, True, "update-broke", told)

    def _next(self) -> Happening | float:
        """Do what the record waits for: what came of it, or the seconds to wait."""
        doing = todo(self._record)
        if doing in _ON_TRIAL and self._on_trial() is None:
            return self._not_on_trial()
        match doing:
            case Todo.ASK:
                return self._ask()
            case Todo.DOWNLOAD:
                return self._download()
            case Todo.TRY:
                return self._try()
            case Todo.COMPARE:
                return self._compare()
            case Todo.ACTIVATE:
                return self._activate()
            case Todo.SEE_IT_SERVE:
                return judge_start(self._live.serving(), self._order, self._elapsed_s()) or _SAFE_S
            case Todo.WATCH:
                return self._watch()
            case Todo.COMMIT:
                return self._commit()
            case Todo.NOTHING:
                return _POLL_S

    # --- what each state waits for

    def _ask(self) -> Happening | float:
        wait_s = (self._record.next_ns - self._clock.monotonic_ns()) / NS_PER_S
        if wait_s > 0:
            return min(wait_s, _POLL_S)
        if not self._windows_open():
            return self._waits_for_window()
        order, active = self._order, self._slots.active()
        if active is not None and active.sha256 == order.sha256:
            return self._see_it_in_use(active)
        try:
            offer = self._fetcher.latest(self.family)
            unfit = judge_offer(offer, order, active, self._slots.refused(offer.sha256))
            if unfit is not None:
                return unfit
            path = self._incoming(offer)
            self._slots.collect(keep=path.name)
            self._slots.room_for(offer.length, download=path)
        except EdgewardError as error:
            return fails_of(error)
        self._offer = offer
        return Cleared()

    def _see_it_in_use(self, active: Slot) -> Happening:
        """What is ordered runs already: it is measured once more, so that the order ends with evidence."""
        result = self._measured(active.path)
        fails = judge_trial(result)
        if fails is None:
            return InUse(result.evidence)
        # It serves, whatever a measurement beside it says: it is not refused because of that.
        return replace(fails, why=Why.OTHER, mendable=True)

    def _download(self) -> Happening | float:
        offer, active = self._offer, self._slots.active()
        if not self._windows_open():
            return self._waits_for_window()
        if self._record.why is Why.WINDOW_CLOSED:
            return Cleared()
        assert offer is not None, "a boot leads from DOWNLOADING to OFFERED"
        path = self._incoming(offer)
        rate_kib_s = self._order.rate_kib_s or self._rules.rate_kib_s
        pace = TokenBucket(rate_kib_s, self._clock.monotonic_ns, self._pause)
        self._percent = 0

        def progress(held: int) -> None:
            self._percent = min(100, 100 * held // offer.length)
            if self._stopping.is_set() or self._has_news() or not self._windows_open():
                raise StoppedError

        try:
            if active is not None:
                self._fetcher.patch(offer, active.path, active.sha256, path, progress=progress, pace=pace)
            self._fetcher.download(offer, path, progress=progress, pace=pace)
        except StoppedError:
            return 0.0
        except EdgewardError as error:
            return fails_of(error)
        return Arrived()

    def _try(self) -> Happening | float:
        if not self._windows_open():
            return self._waits_for_window()
        order = self._order
        try:
            slot = self._slots.stage(self._slots.incoming / _file_name(order.sha256))
        except EdgewardError as error:
            return fails_of(error)
        if (slot.name, slot.version, slot.sha256) != (order.family, order.version, order.sha256):
            told = "the bundle is not the one that its signed entry describes; publish it again"
            return Fails(Why.BUNDLE_REFUSED, code="bundle-mismatch", message=told)
        result = self._measured(slot.path)
        return judge_trial(result, self._rules.memory_kib_max) or Passed(result.evidence)

    def _measured(self, path: Path) -> TrialResult:
        try:
            return self._trial(path)
        except EdgewardError as error:
            return TrialResult(False, error.code, str(error))
        except Exception as error:  # noqa: BLE001  (a trial that breaks is a trial that failed, whatever broke)
            told = f"the trial broke ({type(error).__name__}); look at the device's log"
            return TrialResult(False, "trial-crashed", told)

    def _compare(self) -> Happening | float:
        order, record, slot = self._order, self._record, self._on_trial()
        if slot is None:
            return self._not_on_trial()
        if not order.shadow_s or self._slots.active() is None:
            return Compared(record.evidence)
        if not self._shadowing:
            self._live.begin_shadow(slot)
            self._shadowing, self._shadow_ran = True, False
        shadow = self._live.shadow()
        self._shadow_ran, ran = self._shadow_ran or shadow.running, self._shadow_ran
        most_kib, passed_s = self._rules.memory_kib_max, self._elapsed_s()
        return judge_shadow(shadow, order, record.evidence, passed_s, ran=ran, memory_kib_max=most_kib) or _WATCH_S

    def _activate(self) -> Happening | float:
        if not self._windows_open():
            return self._waits_for_window()
        told = "it waits for a moment in which nothing stands at a bed, or is made, that one bundle must judge"
        return Activates() if self._live.safe() else Waits(Why.BED_IN_USE, told)

    def _watch(self) -> Happening | float:
        serving, now_ns = self._live.serving(), self._clock.monotonic_ns()
        self._up_ns = max(self._up_ns if serving.down else now_ns, self._record.since_ns)
        down_s, dwell_s = (now_ns - self._up_ns) / NS_PER_S, self._rules.dwell_s
        return judge_soak(serving, self._order, self._record.evidence, self._elapsed_s(), down_s, dwell_s) or _WATCH_S

    def _commit(self) -> Happening:
        slot = self._on_trial()
        if slot is None:
            return self._not_on_trial()
        try:
            self._slots.commit(slot)
        except EdgewardError as error:
            return fails_of(error) if self._on_trial() is not None else self._not_on_trial()
        return Committed()

    def _on_trial(self) -> Slot | None:
        slot = self._slots.trial()
        return slot if slot is not None and slot.sha256 == self._order.sha256 else None

    def _not_on_trial(self) -> Fails:
        """Another part of the device ended the trial: it refused the bundle, or it needed the slot."""
        code = self._slots.refused(self._order.sha256)
        if code:
            told = "it was refused while it was in charge; the bundle before serves again, publish a better one"
            return Fails(Why.SOAK_FAILED, False, code, told)
        told = "the slot on trial is gone, another part of the device ended it; it is tried anew"
        return Fails(Why.OTHER, True, "slot-not-on-trial", told)

    @property
    def _order(self) -> Order:
        order = self._record.order
        assert order is not None, "there is nothing to do without an order"
        return order

    def _elapsed_s(self) -> float:
        return (self._clock.monotonic_ns() - self._record.since_ns) / NS_PER_S

    def _windows_open(self) -> bool:
        """A device that has no bundle at all has nothing to disturb."""
        return self._slots.active() is None or self._rules.windows.are_open(self._clock.wall())

    def _waits_for_window(self) -> Waits:
        record = self._record
        waits = record.why is Why.WINDOW_CLOSED  # that was said when the wait began
        return Waits(Why.WINDOW_CLOSED, record.message if waits else self._rules.windows.wait_words(self._clock.wall()))

    # --- telling the table

    def _take(self, happening: Happening) -> None:
        """One step, and its duties: beds, record, slots. A step forward that cannot be recorded is not taken."""
        before, now_ns = self._record, self._clock.monotonic_ns()
        after, duties = step(before, happening, now_ns, self._rules.limits)
        trouble = self._do(after, duties)
        if trouble is not None and not after.ended and not isinstance(happening, Fails | Booted | Waits):
            base = after if isinstance(happening, Ordered) else before
            after, duties = step(base, trouble, now_ns, self._rules.limits)
            self._do(after, duties)
        if after.told != before.told:
            self._told(after)

    def _do(self, after: Record, duties: tuple[Duty, ...]) -> Fails | None:
        """Do what a step asks for; returns what kept its record from the disk."""
        trouble: Fails | None = None
        self._record = after
        for duty in duties:
            if duty is Duty.ACTIVATE and trouble is not None:
                continue
            try:
                self._do_one(duty, after)
            except EdgewardError as error:
                # Beds were served first; what the slots could not be told is told again at the next boot.
                trouble = fails_of(error) if duty is Duty.RECORD else trouble
        return trouble

    def _do_one(self, duty: Duty, after: Record) -> None:
        match duty:
            case Duty.END_SHADOW:
                self._live.end_shadow()
                self._shadowing = False
            case Duty.GO_BACK:
                self._live.go_back()
            case Duty.RECORD:
                self._journal.write(after, self._clock.wall())
            case Duty.ACTIVATE:
                slot = self._slots.trial()
                assert slot is not None, "looked at just before"
                self._live.activate(slot)
                self._shadowing = False
            case Duty.REFUSE:
                self._slots.refuse(after.order.sha256 if after.order else "", after.code)
            case Duty.ABANDON:
                self._slots.abandon()
            case Duty.CLEAR:
                self._slots.collect()

    # --- orders

    def _read_mail(self) -> None:
        with self._lock:
            mail, self._mail = self._mail, []
        for ordered in mail:
            self._take(ordered)

    def _has_news(self) -> bool:
        with self._lock:
            return any(is_news(self._record, ordered) for ordered in self._mail)

    def _incoming(self, offer: Offer) -> Path:
        return self._slots.incoming / _file_name(offer.sha256)

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise StoppedError


def _file_name(sha256: str) -> str:
    return f"{sha256[:16]}.ewb"
