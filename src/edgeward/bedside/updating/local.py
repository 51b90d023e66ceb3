"""An update without a fleet: at a device's start, what signed metadata name is taken at once, in one attempt.

It is the same updater, journal and gate; only the order is made here, and there is no shadow and no soak, because
nothing is being watched with the bundle yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.live import NothingLive
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.updating.table import NOT_FOR_HERE
from edgeward.exchange.words import UpdateState
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.files import FilePort
    from edgeward.bedside.slot import Slot, SlotStore
    from edgeward.bedside.trial import TrialResult
    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.updating.rules import Fetcher
    from edgeward.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look came to. ``code`` is empty when all is well; ``told`` is the sentence for people."""

    installed: bool
    code: str
    told: str


def update_now(
    fetcher: Fetcher,
    slots: SlotStore,
    family: str,
    trial: Callable[[Path], TrialResult],
    clock: Clock,
    *,
    files: FilePort | None = None,
) -> Outcome:
    """Install the current bundle of ``family`` into ``slots``, which are open, if it is new and passes ``trial``.

    Also goes on with what a power cut interrupted. Never raises for an ``EdgewardError``: it becomes the outcome, and
    the bundle in use stays in use. ``KeyboardInterrupt`` passes through; what came is kept for the next start.
    ``files``: the disk of the slots, if it is not the real one.
    """
    updater = Updater(family, fetcher, slots, Journal(slots.root, files), NothingLive(), clock, trial)
    updater.boot()
    before = updater.record
    try:
        updater.look()
        updater.turn()
    except EdgewardError as error:
        return Outcome(False, error.code, f"failed, {named(slots.active())} stays: {error} [{error.code}]")
    finally:
        updater.close()
    record, running = updater.record, named(slots.active())
    if record is before:
        return Outcome(False, "", f"nothing new, {running} stays")
    if record.state is UpdateState.COMMITTED:
        told = f"installed {running}; signatures, golden vectors and latency hold on this device"
        return Outcome(True, "", told)
    code = record.code or (record.why.value if record.why else record.state.value)
    return Outcome(False, code, f"{_kind(record)}, {running} stays: {record.message} [{code}]")


def named(slot: Slot | None) -> str:
    """A bundle as people read it."""
    return f"{slot.name} {slot.version} ({slot.sha256[:8]})" if slot else "no bundle"


def _kind(record: Record) -> str:
    """Whether the bundle is not for this device, or could not be had now."""
    return "refused" if record.why in NOT_FOR_HERE else "failed"
