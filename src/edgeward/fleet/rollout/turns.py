"""Whose turn it is: while little is proven, no more devices are on the way at once than have committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeward.fleet.rollout.state import Rollout

FEW = 10
"""Devices that may be on the way at once however much the errors outweigh, once as many have committed."""
LEAST = 2
"""Devices that may always be on the way: a fleet of three wards needs no ramp."""
ERROR_COSTS = 20
"""Commits that one error outweighs: where 5 % may fail, as many as excuse it."""
PROVEN = 40
"""Commits from which on nobody waits: a release that fails on 10 % shows it among so many in 98 of 100 cases."""


def turns(rollout: Rollout) -> int | None:
    """How many more devices may be on the way now; None: all that the stage takes.

    The first stage is as large as its plan says, and a return goes back to what served before.
    """
    total = rollout.total
    credit = total.committed - ERROR_COSTS * total.errors
    if rollout.stage == 0 or rollout.undoes or credit >= PROVEN:
        return None
    at_once = max(LEAST, min(FEW, total.committed), credit)
    return max(0, at_once - total.working)
