"""The bundles of a ward: slots per task, updates behind the beds, and what the assessment process is told of them.

What lies in the slots is the disk's matter and waits for it; which bundle is in charge while beds are
watched is ``lives``' (``lives``), which never waits. Two may change slots while beds are watched: a family's updater
(``updating.families``), and whoever runs its bundle and refuses it. Both act under the slots' own lock, on what the
slots say in that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from edgeward.bedside.assess.plans import plan_of
from edgeward.bedside.lives import Lives
from edgeward.bedside.model import FAMILY, try_bundle
from edgeward.bedside.refusal import go_back_from
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.trial import run_trial
from edgeward.bedside.updating.families import Families
from edgeward.bedside.updating.local import named
from edgeward.bedside.ward_live import swap_facts
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeward.bedside.cloud import CloudSettings
    from edgeward.bedside.streams_live import StreamsLive
    from edgeward.bedside.trial import TrialResult
    from edgeward.bedside.updating.rules import Fetcher, OwnOrders, Rules
    from edgeward.bedside.ward_live import WardLive
    from edgeward.bundle.archive import Bundle
    from edgeward.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class Returned:
    """A refused bundle was gone back from: the audit's facts of it, the assessment's new settings or None for none."""

    swap: dict[str, Any]
    settings: dict[str, Any] | None


class WardBundles:
    """Slots of every family under ``state_dir``; a context manager. ``say`` tells the operator what came of a refusal.

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
        """Every task of the assessment with the bundle in charge, for people."""
        rows = []
        for task in self._slots:
            if self._is_streams(task):
                continue
            slot = self.lives.of(task).charge
            named = ("-", "-", "-") if slot is None else (slot.name, slot.version, slot.sha256[:8])
            rows.append({"task": task, "bundle": named[0], "version": named[1], "hash8": named[2]})
        return rows

    def refused(self, task: str, sha256: str, code: str) -> Returned | None:
        """The bundle ``sha256``, in charge of ``task``, cannot run here: go back to the one before.

        None where nothing changes (``refusal.go_back_from``).
        """
        swapped = go_back_from(self._slots[task], sha256, code, self.lives.of(task).placed, self._say)
        if swapped is None:
            return None
        settings = None if self._is_streams(task) else self.settings()  # a stream takes it while it runs
        return Returned(swap_facts(task, *swapped, "refused"), settings)

    def _is_streams(self, task: str) -> bool:
        return bool(self._ecg) and task == FAMILY

    def _take_over_from_streams(self, slots: SlotStore) -> None:
        """Where every ECG bed still has slots of its own (0.1.0 and before): what served there is not fetched again."""
        if slots.active() is not None:
            return
        for root in sorted((self._state_dir / "ecg").glob("*/slots")):
            own = SlotStore(root)
            held = own.look().get("active")
            if held is None:
                continue
            try:
                own.read(held)  # whole, and what was proven when it came
                slots.commit(slots.stage(held.path))
            except EdgewardError as error:
                self._say(f"slots of {FAMILY}: {held.version} of {root.parent} is not taken over [{error.code}]")
                continue
            self._say(f"slots of {FAMILY}: {named(slots.active())} taken over from {root.parent}")
            return

    def families(
        self,
        fetcher: Fetcher,
        rules: Rules,
        *,
        dice: Callable[[], float],
        own: OwnOrders | None,
    ) -> Families:
        """An updater for each task; ``own``: how they order for themselves, None where a fleet orders."""
        threads = self._threads
        return Families(
            self,
            fetcher,
            self._clock,
            rules,
            lambda task: trial_of(task, threads),
            say=self._say,
            dice=dice,
            own=own,
        )


def trial_of(task: str, threads: int) -> Callable[[Path], TrialResult]:
    """The trial that a bundle of ``task`` must pass on this device."""
    if task == FAMILY:
        return lambda path: try_bundle(path, threads)

    def deadline_ms(bundle: Bundle) -> float:
        return plan_of(bundle.manifest, task).deadline_ms

    return lambda path: run_trial(path, threads, deadline_ms)
