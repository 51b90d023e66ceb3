"""The thresholds process without its process: what the rim feeds in, messages out, for every stay of the device."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from edgeward.bedside.feed import (
    Acknowledged,
    Admitted,
    Discharged,
    Feed,
    Measured,
    Moved,
    Resumed,
    Suspended,
    TaskSettings,
)
from edgeward.bedside.thresholds.stay import StayWatch

if TYPE_CHECKING:
    from edgeward.bedside.feed import Message
    from edgeward.bedside.thresholds.settings import ThresholdSettings

STAYS_MAX = 1024
"""Stays watched at once. A device has 64 beds; beyond this the stay that was heard of least recently is let go."""


class ThresholdCore:
    """Threshold alerts and NEWS2 of every stay, as a ``behind.Core``. Pure: time is passed in.

    ``ignored`` counts what was fed for a stay that is not there, and memories that were none.
    """

    def __init__(self, settings: ThresholdSettings) -> None:
        self._settings = settings
        self._stays: OrderedDict[int, StayWatch] = OrderedDict()
        self.ignored = 0

    def take(self, message: Feed, now_ns: int) -> list[Message]:
        """Take one message of the rim; returns what follows from it."""
        if isinstance(message, Admitted):
            self._admit(message)
            return []
        if isinstance(message, TaskSettings):  # the assessment's
            return []
        watch = self._stays.get(message.stay)
        if watch is None:
            self.ignored += 1
            return []
        self._stays.move_to_end(message.stay)
        match message:
            case Measured(_, numerics):
                return watch.take(numerics, now_ns)
            case Moved(_, bed):
                watch.move(bed)
            case Acknowledged(_, alert):
                return watch.acknowledge(alert, now_ns)
            case Suspended(_, until_ns):
                return watch.suspend(until_ns, now_ns)
            case Resumed(_, memory):
                try:
                    return watch.resume(memory, now_ns)
                except ValueError:
                    self.ignored += 1
            case Discharged(stay):
                del self._stays[stay]
        return []

    def tick(self, now_ns: int) -> list[Message]:
        """Time has come to ``now_ns`` for every stay."""
        return [message for watch in self._stays.values() for message in watch.tick(now_ns)]

    def _admit(self, admitted: Admitted) -> None:
        watch = self._stays.get(admitted.stay)
        if watch is not None:
            watch.admit(admitted)
            return
        self._stays[admitted.stay] = StayWatch(admitted, self._settings)
        if len(self._stays) > STAYS_MAX:
            self._stays.popitem(last=False)
