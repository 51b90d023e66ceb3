"""The bundles of a ward: slots per task, updates behind the beds, and what the assessment process is told of them.

What lies in the slots is the disk's matter and waits for it; which bundle is in charge while beds are
watched is ``lives``' (``lives``), which never waits. A bundle that is fetched while beds are watched runs from the
next start; only where a task has none at all does the assessment take it at once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from edgeward.bedside.assess.plans import plan_of
from edgeward.bedside.lives import Lives
from edgeward.bedside.model import FAMILY, try_bundle
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.trial import run_trial
from edgeward.bedside.updating.local import named, update_now
from edgeward.kernel.errors import ConfigError, EdgewardError
from edgeward.trust.fetch import TrustClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeward.bedside.cloud import CloudSettings
    from edgeward.bedside.streams_live import StreamsLive
    from edgeward.bedside.trial import TrialResult
    from edgeward.bedside.ward_live import WardLive
    from edgeward.bundle.archive import Bundle
    from edgeward.kernel.clock import Clock

_END_S = 5.0


class WardBundles:
    """Slots of every family under ``state_dir``; a context manager. ``say`` tells the operator what came of an update.

    ``ecg``: beds with an ECG, whose streams are served by the family ``ecg-beat``.
    """

    def __init__(
        self,
        state_dir: Path,
        tasks: Sequence[str],
        say: Callable[[str], None],
        clock: Clock,
        *,
        ecg: Sequence[str] = (),
        dwell_s: float = 60.0,
        threads: int = 1,
        cloud: CloudSettings | None = None,
    ) -> None:
        self._state_dir = state_dir.absolute()  # the assessment reads the slots, and its folder is another
        self._say = say
        self._threads = threads
        self._clock = clock
        self.lives = Lives(clock, dwell_s=dwell_s, threads=threads, cloud=cloud)
        """Which bundles are in charge, by task."""
        self._ecg = tuple(ecg)
        families = (*tasks, FAMILY) if ecg else tasks
        self._slots = {task: SlotStore(self._state_dir / "slots" / task) for task in families}
        self.lock = threading.Lock()
        """A start's update and a refusal take turns by it; a fleet's updaters lean on the slots' own lock."""
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Open every slot. Raises ``ConfigError`` (``slots-in-use``, ``disk-full``, ``disk-error``)."""
        opened = []
        try:
            for task, slots in self._slots.items():
                opening = slots.open()
                opened.append(slots)
                if opening.code:
                    self._say(f"slots of {task}: {opening.message} [{opening.code}]")
                if self._is_streams(task):
                    self._take_over_from_streams(slots)
                    self.lives.add_streams(task, self._ecg, slots.active(), slots.previous())
                else:
                    self.lives.add(task, slots.active(), slots.previous())
        except BaseException:
            for slots in opened:
                slots.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join(_END_S)
        for slots in self._slots.values():
            slots.close()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task, in the order of the site's settings."""
        return tuple(self._slots)

    def slots(self, task: str) -> SlotStore:
        """The open slots of ``task``."""
        return self._slots[task]

    def live(self, task: str) -> WardLive | StreamsLive:
        """The beds that are watched with bundles of ``task``, for whoever updates it."""
        return self.lives.of(task)

    def settings(self) -> dict[str, Any]:
        """What the assessment process is started with: the bundles that are in charge now."""
        return self.lives.settings()

    def shown(self) -> list[dict[str, str]]:
        """Every task with the bundle in charge, for people."""
        rows = []
        for task in self._slots:
            slot = self.lives.of(task).charge
            named = ("-", "-", "-") if slot is None else (slot.name, slot.version, slot.sha256[:8])
            rows.append({"task": task, "bundle": named[0], "version": named[1], "hash8": named[2]})
        return rows

    def refused(self, task: str, code: str, sha256: str) -> dict[str, Any] | None:
        """The active bundle of ``task`` cannot run here: return to the one before.

        Returns the assessment's new settings; None where nothing changes for it.
        """
        live, slots = self.lives.of(task), self._slots[task]
        try:
            with self.lock:
                active, charge = slots.active(), live.charge
                if active is None or charge is None or not active.sha256 == charge.sha256 == sha256:
                    return None  # a candidate, which whoever updates sees fail; or another stream was sooner
                slot = slots.revert(code)
                live.placed(slot, slots.previous())
        except EdgewardError as error:
            self._say(f"{task}: the bundle is refused ({code}) and there is none to return to [{error.code}]")
            return None
        self._say(f"{task}: the bundle is refused ({code}); returned to {named(slot)}")
        return None if self._is_streams(task) else self.settings()  # a stream takes it while it runs

    def _is_streams(self, task: str) -> bool:
        return bool(self._ecg) and task == FAMILY

    def _take_over_from_streams(self, slots: SlotStore) -> None:
        """Where every ECG bed still has slots of its own (0.1.0 and before): what served there is not fetched again."""
        if slots.active() is not None:
            return
        for root in sorted((self._state_dir / "ecg").glob("*/slots")):
            held = SlotStore(root).look().get("active")
            if held is None:
                continue
            try:
                slots.commit(slots.stage(held.path))
            except EdgewardError as error:
                self._say(f"slots of {FAMILY}: {held.version} of {root.parent} is not taken over [{error.code}]")
                continue
            self._say(f"slots of {FAMILY}: {named(slots.active())} taken over from {root.parent}")
            return

    def update(self, repository: str, trusted_root: Path, changed: Callable[[dict[str, Any]], None]) -> None:
        """Ask the repository behind the beds; ``changed`` gets new settings where a task had no bundle and has now.

        Raises ``ConfigError`` (``root-unreadable``) now rather than behind them.
        """
        try:
            root = trusted_root.read_bytes()
        except OSError as error:
            raise ConfigError("root-unreadable", f"cannot read {trusted_root}: {error.strerror}") from error
        client = TrustClient(repository, self._state_dir / "trust", root=root)

        def run() -> None:
            missing = False
            for task, slots in self._slots.items():
                if self._update(client, task, slots):
                    self.lives.of(task).placed(slots.active(), slots.previous())
                    missing = True
            if missing:
                changed(self.settings())

        self._thread = threading.Thread(target=run, name="update", daemon=True)
        self._thread.start()

    def _update(self, client: TrustClient, task: str, slots: SlotStore) -> bool:
        """Whether the task had no bundle and has one now."""
        had = slots.active() is not None
        with self.lock:
            outcome = update_now(client, slots, task, trial_of(task, self._threads), self._clock)
        self._say(f"update: {outcome.told}{' (from the next start)' if outcome.installed and had else ''}")
        return outcome.installed and not had


def trial_of(task: str, threads: int) -> Callable[[Path], TrialResult]:
    """The trial that a bundle of ``task`` must pass on this device."""
    if task == FAMILY:
        return lambda path: try_bundle(path, threads)

    def deadline_ms(bundle: Bundle) -> float:
        return plan_of(bundle.manifest, task).deadline_ms

    return lambda path: run_trial(path, threads, deadline_ms)
