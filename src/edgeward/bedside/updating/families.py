"""The model families of a ward: an updater for each, in a thread of its own, and one thread that asks the repository.

With a fleet, orders alone change a bundle that is in use; only a family that has none at all is brought the newest one
that signed metadata name. Without one the ward looks again and again, and orders for itself whatever is new. Either way
a bundle has to pass everything on this device, and beds that are watched get it by shadow, takeover and soak.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.local import named
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.updating.rules import FIRST, Seen
from edgeward.exchange.checkin import FamilyReport, Held
from edgeward.exchange.words import Rung
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeward.bedside.files import FilePort
    from edgeward.bedside.slot import Slot, SlotStore
    from edgeward.bedside.trial import TrialResult
    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.updating.live import Live
    from edgeward.bedside.updating.rules import Fetcher, OwnOrders, Rules
    from edgeward.exchange.checkin import Order
    from edgeward.kernel.clock import Clock
    from edgeward.trust.download import DownloadReport, Pace
    from edgeward.trust.offer import Offer

_RETRY_S = 60.0
"""After a look that failed; twice as long after each further one, up to the time between two looks."""
_SPREAD = 0.1
"""Of a wait, more or less, so that devices that started together do not ask together for ever."""
_END_S = 5.0


class Bundles(Protocol):
    """What of ``WardBundles`` is needed."""

    @property
    def tasks(self) -> Sequence[str]:
        """Every family."""
        ...

    def slots(self, task: str) -> SlotStore:
        """Its open slots."""
        ...

    def live(self, task: str) -> Live:
        """The beds that are watched with it."""
        ...


class OneAtATime:
    """A fetcher for several updaters: metadata are proven by one of them at a time."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher, self._lock = fetcher, threading.Lock()

    def latest(self, name: str) -> Offer:
        """As ``Fetcher.latest``."""
        with self._lock:
            return self._fetcher.latest(name)

    def download(
        self, offer: Offer, dest: Path, *, progress: Callable[[int], None] | None = None, pace: Pace | None = None
    ) -> DownloadReport:
        """As ``Fetcher.download``."""
        return self._fetcher.download(offer, dest, progress=progress, pace=pace)

    def patch(
        self,
        offer: Offer,
        base: Path,
        base_sha256: str,
        dest: Path,
        *,
        progress: Callable[[int], None] | None = None,
        pace: Pace | None = None,
    ) -> bool:
        """As ``Fetcher.patch``."""
        return self._fetcher.patch(offer, base, base_sha256, dest, progress=progress, pace=pace)


class Families:
    """Updates ``bundles``, whose slots are open, from ``begin`` until ``close``; the port ``agent.Updates`` of a fleet.

    ``trial``: family → its trial on this device; ``own``: how the ward orders for itself, None where a fleet orders;
    ``dice`` gives 0 to 1; ``settle``: what each thread does first, such as taking a low priority; ``files``: the disk
    of the slots, if it is not the real one.
    """

    def __init__(
        self,
        bundles: Bundles,
        fetcher: Fetcher,
        clock: Clock,
        rules: Rules,
        trial: Callable[[str], Callable[[Path], TrialResult]],
        *,
        say: Callable[[str], None],
        dice: Callable[[], float],
        own: OwnOrders | None = None,
        settle: Callable[[], None] = lambda: None,
        files: FilePort | None = None,
    ) -> None:
        self._bundles, self._say, self._dice, self._own = bundles, say, dice, own
        self._looked: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._changed: Callable[[], None] = lambda: None
        self._settle = settle
        self._closing = threading.Event()
        self._trying = threading.Lock()
        shared = OneAtATime(fetcher)
        self._updaters = {
            task: Updater(
                task,
                shared,
                bundles.slots(task),
                Journal(bundles.slots(task).root, files),
                bundles.live(task),
                clock,
                self._alone(trial(task)),
                rules=rules,
                told=self._told,
            )
            for task in bundles.tasks
        }
        self._booted = {task: threading.Event() for task in self._updaters}
        self._threads = [
            threading.Thread(target=self._run, args=(updater,), name=f"update-{task}", daemon=True)
            for task, updater in self._updaters.items()
        ]
        self._threads.append(threading.Thread(target=self._look_out, name="update-look", daemon=True))

    def begin(self, changed: Callable[[], None] = lambda: None) -> None:
        """Go on with what was under way; ``changed`` is called when an update has ended, from its thread.

        Steps on the way are told with the next check-in: told at once by every device of a large stage, they were most
        of what a fleet's server heard.
        """
        self._changed = changed
        for thread in self._threads:
            thread.start()

    def reports(self) -> tuple[FamilyReport, ...]:
        """Every family as it is now; the first time once all know what was under way."""
        for booted in self._booted.values():
            booted.wait(_END_S)
        return tuple(self._report(task, updater) for task, updater in self._updaters.items())

    def obey(self, orders: tuple[Order, ...]) -> None:
        """Hand each order to its family's updater; one for a family that this ward does not run is nobody's."""
        for order in orders:
            updater = self._updaters.get(order.family)
            if updater is not None:
                updater.order(order)

    def close(self) -> None:
        """Stop what is under way so that the next start goes on with it."""
        self._closing.set()
        for booted in self._booted.values():
            booted.set()
        for updater in self._updaters.values():
            updater.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_END_S)
        for updater, thread in zip(self._updaters.values(), self._threads, strict=False):
            if not thread.is_alive():  # one that still tries a bundle holds its slots until the process ends
                updater.close()

    def _run(self, updater: Updater) -> None:
        self._settle()
        updater.boot()
        if self._own is None and self._bundles.slots(updater.family).active() is not None:
            updater.call_off()  # it was ordered before the ward had a fleet
        self._booted[updater.family].set()
        updater.run()

    def _alone(self, trial: Callable[[Path], TrialResult]) -> Callable[[Path], TrialResult]:
        """``trial``, while no other one runs on this device: it would be measured against its own neighbours."""

        def tried(path: Path) -> TrialResult:
            with self._trying:
                return trial(path)

        return tried

    def _look_out(self) -> None:
        """Ask the repository: for every family, again and again; with a fleet until each has its first bundle."""
        self._settle()
        own = self._own or FIRST
        longest_s = own.look_s
        retry_s = min(_RETRY_S, longest_s)
        for booted in self._booted.values():
            booted.wait()
        while not self._closing.is_set():
            wanting = [one for one in self._updaters.values() if self._own is not None or self._lacks(one)]
            if not wanting:
                return
            answered = [self._look(updater) for updater in wanting]
            if all(answered):
                retry_s, wait_s = min(_RETRY_S, longest_s), longest_s
            else:
                wait_s, retry_s = retry_s, min(2.0 * retry_s, longest_s)
            self._closing.wait(wait_s * (1.0 + _SPREAD * (2.0 * self._dice() - 1.0)))

    def _lacks(self, updater: Updater) -> bool:
        return self._bundles.slots(updater.family).active() is None

    def _look(self, updater: Updater) -> bool:
        """Look once; whether the repository answered. What is wrong is said when it begins and when it is over."""
        family, code = updater.family, ""
        how = FIRST if self._own is None or self._lacks(updater) else self._own
        try:
            seen = updater.look(how, again=False)
        except EdgewardError as error:
            code, told = error.code, str(error)
        except Exception as error:  # noqa: BLE001  (what breaks one look must not end those after it)
            code, told = "look-broke", f"the look at the repository broke ({type(error).__name__}); it is tried again"
        if code:
            if self._troubles.get(family) != code:
                what = "has no bundle yet" if self._lacks(updater) else "stays as it is"
                self._say(f"update: {family} {what}: {told} [{code}]")
            self._troubles[family] = code
            return False
        if self._troubles.pop(family, ""):
            self._say(f"update: {family}: the repository answers again")
        if family not in self._looked:
            self._looked.add(family)
            self._say_seen(updater, seen)
        return True

    def _say_seen(self, updater: Updater, seen: Seen) -> None:
        """After a start: what is not taken, and why; what is taken says so step by step."""
        active, record = self._bundles.slots(updater.family).active(), updater.record
        if seen is Seen.IN_USE:
            self._say(f"update: nothing new, {named(active)} stays")
        if seen is Seen.TURNED_DOWN and record.order is not None:
            offered = f"{record.order.family} {record.order.version}"
            self._say(f"update: {offered} is not taken, {named(active)} stays: {record.message} [{record.code}]")

    def _told(self, record: Record) -> None:
        order = record.order
        if order is not None:
            told = f"{record.message} " if record.message else ""
            why = f": {told}[{record.code or record.why}]" if record.why is not None else ""
            self._say(f"update: {order.family} {order.version} {record.state.value}{why}")
        if record.ended:
            self._changed()

    def _report(self, task: str, updater: Updater) -> FamilyReport:
        slots, serving = self._bundles.slots(task), self._bundles.live(task).serving()
        active = slots.active()
        return FamilyReport(
            task,
            _held(active),
            _held(slots.previous()),
            updater.progress,
            Rung.THRESHOLD_ONLY if active is None or serving.down else Rung.LOCAL,
            scores=serving.scores,
            fallbacks=serving.failures,
        )


def _held(slot: Slot | None) -> Held | None:
    return None if slot is None else Held(slot.version, slot.sha256)
