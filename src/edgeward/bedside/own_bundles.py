"""A single ECG bed's own bundles: slots, the updates behind the stream, and what the stream is told of them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from edgeward.bedside.bed_charge import Started, start
from edgeward.bedside.charge.charge import REFUSED, SERVING
from edgeward.bedside.refusal import go_back_from
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.ward_live import WardLive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.feed import TaskSettings
    from edgeward.bedside.slot import Slot
    from edgeward.kernel.clock import Clock


class OwnBundles:
    """Slots of ``family`` under ``root``; a context manager. ``say`` tells the operator what happened to them.

    It is what ``updating.families.Families`` updates: one family, one bed.
    """

    def __init__(self, root: Path, family: str, say: Callable[[str], None], clock: Clock) -> None:
        self._family, self._say, self._clock = family, say, clock
        self._slots = SlotStore(root)
        self._live = WardLive(family, None, None, clock, lambda: None)

    def __enter__(self) -> Self:
        """Open the slots. Raises ``ConfigError`` (``slots-in-use``, ``disk-full``, ``disk-error``)."""
        opening = self._slots.open()
        if opening.code:
            self._say(f"slots: {opening.message} [{opening.code}]")
        return self

    def __exit__(self, *_: object) -> None:
        self._slots.close()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one family."""
        return (self._family,)

    def slots(self, task: str) -> SlotStore:  # noqa: ARG002
        """Its open slots."""
        return self._slots

    def live(self, task: str) -> WardLive:  # noqa: ARG002
        """The bed that is watched with it."""
        return self._live

    def start(self, threads: int) -> tuple[TaskSettings, Started]:
        """Start the engine of the active slot; a bundle that cannot run here is returned from.

        Returns what the stream begins with, and how that began.
        """
        while True:
            slots = self._slots
            self._live = WardLive(self._family, slots.active(), slots.previous(), self._clock, lambda: None)
            told = self._live.settings()
            started = start(told, threads)
            if not started.refused or not self._go_back(told.sha256, started.why):
                return told, replace(started, refused=False)  # it has been said here

    def due(self) -> TaskSettings | None:
        """What the stream has to be told."""
        return self._live.due()

    def heard(self, kind: str, data: dict[str, Any]) -> None:
        """Take a message of the stream; never waits for the disk."""
        if kind == SERVING:
            for swap in self._live.heard(data):
                self._say(f"update: {self._family} {swap['version'] or 'nothing'} is in charge ({swap['reason']})")
        elif kind == REFUSED:
            refused = str(data["sha256"]), str(data["code"])
            threading.Thread(target=self._go_back, args=refused, name="refused", daemon=True).start()

    def _go_back(self, sha256: str, code: str) -> bool:
        """Whether there was one to return to."""

        def placed(slot: Slot, before: Slot | None) -> None:
            self._live.placed(slot, before, tell=True)

        return go_back_from(self._slots, sha256, code, placed, self._say) is not None
