"""What an updater is given: where bundles come from, what the site says, and how a device orders for itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.updating.gate import judge_offer
from edgeward.bedside.updating.happening import Limits, Record
from edgeward.bedside.updating.table import NOT_FOR_HERE
from edgeward.bedside.updating.windows import MaintenanceWindows
from edgeward.exchange.checkin import Deed, Order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.slot import Slot
    from edgeward.trust.download import DownloadReport, Pace
    from edgeward.trust.offer import Offer


class Fetcher(Protocol):
    """Where bundles come from; ``trust.fetch.TrustClient`` is one."""

    def latest(self, name: str) -> Offer:
        """The current bundle of ``name``, proven by signed metadata."""
        ...

    def download(
        self, offer: Offer, dest: Path, *, progress: Callable[[int], None] | None = None, pace: Pace | None = None
    ) -> DownloadReport:
        """Put the offered bundle at ``dest``, checked against the signed hash."""
        ...

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
        """Make the offered bundle at ``dest`` from the one at ``base`` and a delta; False when it cannot be done."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a site says of its updates.

    ``rate_kib_s``: most that a download may take, 0 for any; ``memory_kib_max``: most that a candidate's engine may
    hold, 0 for any; ``dwell_s``: how long a rung that failed is on probation before it serves again.
    """

    windows: MaintenanceWindows = field(default_factory=MaintenanceWindows)
    rate_kib_s: int = 0
    memory_kib_max: int = 0
    limits: Limits = field(default_factory=Limits)
    dwell_s: float = 60.0


@dataclass(frozen=True, slots=True)
class OwnOrders:
    """How a device orders for itself: ``shadow_s``, ``soak_s`` and ``attempts`` as an order's.

    ``look_s``: between two looks at the repository.
    """

    shadow_s: int = 0
    soak_s: int = 0
    attempts: int = 1
    look_s: float = 3_600.0


AT_ONCE = OwnOrders()
"""At a start, before anything is watched with it: once, and again at the next start."""
ATTEMPTS_OWN = 8
"""Of a device that goes on running: two hours of ever longer waits, and nobody has to order it again. A device that is
too slow for a bundle all that time is not busy."""
FIRST = OwnOrders(attempts=ATTEMPTS_OWN)
"""Where a family has no bundle at all: there is nothing to compare with, and nothing to go back to."""


class Seen(Enum):
    """What the repository names, to a device that orders for itself."""

    NEW = "new"
    IN_USE = "in-use"
    UNDER_WAY = "under-way"
    TURNED_DOWN = "turned-down"
    """It came to nothing here before, the bundle was the reason, and that has not changed."""


def seen_of(offer: Offer, record: Record, active: Slot | None, refused: str) -> Seen:
    """What ``offer`` is to a device with this record; ``refused``: why it refused that bundle before, or empty."""
    order = record.order
    if active is not None and active.sha256 == offer.sha256:
        return Seen.IN_USE
    if order is None or order.sha256 != offer.sha256:
        return Seen.NEW
    if not record.ended:
        return Seen.UNDER_WAY
    unfit = judge_offer(offer, order, active, refused)
    return Seen.TURNED_DOWN if unfit is not None and record.why in NOT_FOR_HERE else Seen.NEW


def own_order(offer: Offer, after: Record, how: OwnOrders) -> Order:
    """An order made on the device, without a fleet: take what signed metadata name."""
    rollout = after.order.rollout + 1 if after.order is not None else 1
    return Order(
        rollout,
        offer.name,
        Deed.INSTALL,
        offer.version,
        offer.sha256,
        attempts=how.attempts,
        shadow_s=how.shadow_s,
        soak_s=how.soak_s,
    )
