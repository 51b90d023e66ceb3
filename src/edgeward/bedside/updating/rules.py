"""What an updater is given: where bundles come from, and what the site says of its updates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edgeward.bedside.updating.happening import Limits, Record
from edgeward.bedside.updating.windows import MaintenanceWindows
from edgeward.exchange.checkin import Deed, Order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    hold, 0 for any.
    """

    windows: MaintenanceWindows = field(default_factory=MaintenanceWindows)
    rate_kib_s: int = 0
    memory_kib_max: int = 0
    limits: Limits = field(default_factory=Limits)


def local_order(offer: Offer, after: Record) -> Order:
    """An order made on the device, without a fleet: take what signed metadata name, at once and in one attempt."""
    rollout = after.order.rollout + 1 if after.order is not None else 1
    return Order(rollout, offer.name, Deed.INSTALL, offer.version, offer.sha256, attempts=1)
