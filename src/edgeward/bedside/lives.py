"""Every family of a ward while its beds are watched: those of the assessment, and that of the ECG streams.

The loop takes what is new with ``due``, tells the processes, and gives back what they say with ``heard``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeward.bedside.assess.process import AssessSettings
from edgeward.bedside.charge.charge import SERVING
from edgeward.bedside.streams_live import StreamsLive
from edgeward.bedside.ward_live import WardLive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edgeward.bedside.cloud import CloudSettings
    from edgeward.bedside.feed import TaskSettings
    from edgeward.bedside.slot import Slot
    from edgeward.kernel.clock import Clock


class Lives:
    """Every family of a ward, and what its processes are started with."""

    def __init__(
        self, clock: Clock, *, dwell_s: float = 60.0, threads: int = 1, cloud: CloudSettings | None = None
    ) -> None:
        self._clock = clock
        self._fixed = (dwell_s, threads, cloud)
        self._of: dict[str, WardLive] = {}
        self._streams: StreamsLive | None = None
        self.wake: Callable[[], None] = lambda: None
        """Called from any thread when there is something to tell; the loop sets it."""

    def add(self, task: str, charge: Slot | None, before: Slot | None) -> None:
        """A task of the assessment, with the bundles in its slots."""
        self._of[task] = WardLive(task, charge, before, self._clock, lambda: self.wake())

    def add_streams(self, task: str, beds: Iterable[str], charge: Slot | None, before: Slot | None) -> None:
        """The family of the ECG streams of ``beds``, with the bundles in its slots."""
        self._streams = StreamsLive(task, beds, charge, before, self._clock, lambda: self.wake())
        self._streams_task = task

    def of(self, task: str) -> WardLive | StreamsLive:
        """One family."""
        if self._streams is not None and task == self._streams_task:
            return self._streams
        return self._of[task]

    def stream(self, bed: str) -> WardLive:
        """The stream of one bed. ``KeyError`` where it has none."""
        if self._streams is None:
            raise KeyError(bed)
        return self._streams.of(bed)

    def due(self) -> list[TaskSettings]:
        """What the assessment has to be told."""
        return [told for live in self._of.values() if (told := live.due()) is not None]

    def settings(self) -> dict[str, Any]:
        """What a new assessment process is started with."""
        return AssessSettings(tuple(live.settings() for live in self._of.values()), *self._fixed).to_json()

    def heard(self, kind: str, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take a message of the assessment; returns what is to be audited."""
        live = self._of.get(str(data["task"])) if kind == SERVING else None
        return [] if live is None else live.heard(data)

    def lost(self, *, failed: bool) -> None:
        """The assessment is gone: it ``failed``, or it is replaced on purpose."""
        for live in self._of.values():
            live.lost(failed=failed)
