"""A single ECG bed's own bundles: slots, the updates behind the stream, and what the stream is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from edgeward.bedside.bed_charge import Started, start
from edgeward.bedside.charge.charge import REFUSED, SERVING
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.updating.local import named
from edgeward.bedside.ward_live import WardLive
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.feed import TaskSettings
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
            self._live = WardLive(self._family, self._slots.active(), self._slots.previous(), self._clock, lambda: None)
            told = self._live.settings()
            started = start(told, threads)
            if not (started.refused and self._back(started.why)):
                return told, started

    def due(self) -> TaskSettings | None:
        """What the stream has to be told."""
        return self._live.due()

    def heard(self, kind: str, data: dict[str, Any]) -> None:
        """Take a message of the stream."""
        if kind == SERVING:
            for swap in self._live.heard(data):
                self._say(f"update: {self._family} {swap['version']} is in charge ({swap['reason']})")
        elif kind == REFUSED:
            self._back(str(data["code"]))

    def _back(self, code: str) -> bool:
        """Return to the bundle before; False where there is none."""
        try:
            slot = self._slots.revert(code)
        except EdgewardError as error:
            self._say(f"the bundle is refused ({code}) and there is none to return to [{error.code}]")
            return False
        self._say(f"the bundle is refused ({code}); returned to {named(slot)}")
        self._live.placed(slot, self._slots.previous(), tell=True)
        return True
