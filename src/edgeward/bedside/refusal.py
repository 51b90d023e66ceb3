"""A bundle that cannot be what it should be, found out by whoever runs it: what follows for the slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.bedside.updating.local import named
from edgeward.kernel.errors import EdgewardError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.slot import Slot, SlotStore


def go_back_from(
    slots: SlotStore, sha256: str, code: str, placed: Callable[[Slot, Slot | None], None], say: Callable[[str], None]
) -> tuple[Slot, Slot] | None:
    """The bundle ``sha256`` cannot run here because of ``code``: return to the one before. It waits for the disk.

    ``placed`` is told what is active and previous then, before an update can change it; ``say`` tells the operator.
    Returns the refused and the active slot. None where nothing changes: there is none to return to, it is gone already,
    or it is still on trial, which ends here, and its updater puts the one before in charge again.
    """
    try:
        with slots.unchanged():  # an update's commit comes before all of this, or after it
            active, trial = slots.active(), slots.trial()
            if trial is not None and trial.sha256 == sha256:
                slots.refuse(sha256, code)
                return None
            if active is None or active.sha256 != sha256:
                return None
            slot = slots.revert(code)
            placed(slot, slots.previous())
    except EdgewardError as error:
        say(f"{slots.root.name}: the bundle is refused ({code}) and there is none to return to [{error.code}]")
        return None
    say(f"{slots.root.name}: the bundle is refused ({code}); returned to {named(slot)}")
    return active, slot
