"""The model families of a ward, as its fleet sees and orders them: an updater for each, in a thread of its own.

With a fleet, orders alone change a bundle that is in use. A family that has none at all is brought the newest one that
signed metadata name, as a ward without a fleet does it: it still has to pass everything on this device.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.ward_bundles import trial_of
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
    from edgeward.bedside.updating.rules import Fetcher, Rules
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.exchange.checkin import Order
    from edgeward.kernel.clock import Clock
    from edgeward.trust.download import DownloadReport, Pace
    from edgeward.trust.offer import Offer

_SEEK_S_MIN, _SEEK_S_MAX = 60.0, 3_600.0
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
    """The port ``agent.Updates`` over ``bundles``, whose slots are open; updates from ``begin`` until ``close``.

    ``trial``: family → its trial on this device; ``files``: the disk of the slots, if it is not the real one.
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
        files: FilePort | None = None,
    ) -> None:
        self._bundles, self._say = bundles, say
        self._changed: Callable[[], None] = lambda: None
        self._closing = threading.Event()
        shared = OneAtATime(fetcher)
        self._updaters = {
            task: Updater(
                task,
                shared,
                bundles.slots(task),
                Journal(bundles.slots(task).root, files),
                bundles.live(task),
                clock,
                trial(task),
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
        self._threads.append(threading.Thread(target=self._seek, name="update-first", daemon=True))

    def begin(self, changed: Callable[[], None]) -> None:
        """Go on with what was under way; ``changed`` is called when an update takes a step, from its thread."""
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
        updater.boot()
        self._booted[updater.family].set()
        updater.run()

    def _seek(self) -> None:
        """Bring every family its first bundle, ever more patiently."""
        wait_s = _SEEK_S_MIN
        for booted in self._booted.values():
            booted.wait()
        while not self._closing.is_set():
            without = [one for task, one in self._updaters.items() if self._bundles.slots(task).active() is None]
            if not without:
                return
            for updater in without:
                if updater.record.ended:
                    self._look(updater)
            self._closing.wait(wait_s)
            wait_s = min(2.0 * wait_s, _SEEK_S_MAX)

    def _look(self, updater: Updater) -> None:
        try:
            updater.look()
        except EdgewardError as error:
            self._say(f"update: {updater.family} has no bundle yet: {error} [{error.code}]")

    def _told(self, record: Record) -> None:
        order = record.order
        if order is not None:
            told = record.message or "it waits"
            why = f": {told} [{record.code or record.why}]" if record.why is not None else ""
            self._say(f"update: {order.family} {order.version} {record.state.value}{why}")
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


def ward_families(
    bundles: WardBundles,
    fetcher: Fetcher,
    clock: Clock,
    rules: Rules,
    *,
    threads: int,
    say: Callable[[str], None],
) -> Families:
    """The families of a running ward; ``threads``: of each model, as its trial has them."""
    return Families(bundles, fetcher, clock, rules, lambda task: trial_of(task, threads), say=say)


def _held(slot: Slot | None) -> Held | None:
    return None if slot is None else Held(slot.version, slot.sha256)
