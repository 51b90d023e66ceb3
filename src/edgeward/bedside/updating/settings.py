"""What a site says of its updates, with a fleet or without one: the table ``[updates]``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from edgeward.bedside.updating.happening import Limits
from edgeward.bedside.updating.rules import ATTEMPTS_OWN, OwnOrders, Rules
from edgeward.bedside.updating.windows import MaintenanceWindows
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from datetime import tzinfo

_RATE_KIB_S_MAX = 1 << 20
_MEMORY_MIB_MAX = 1 << 20
_BOUNDS = {
    "rate_kib_s": (0, _RATE_KIB_S_MAX, "KiB/s that a download may take at most; 0: no limit"),
    "memory_mib_max": (0, _MEMORY_MIB_MAX, "MiB that the engine of a new bundle may hold at most; 0: no limit"),
    "defer_h": (0.1, 168, "hours that a new bundle waits for beds at rest, or for patients, before it is given up"),
    "look_min": (0.1, 10_080, "minutes between two looks at the repository, where no fleet orders"),
    "shadow_min": (0.1, 1_440, "minutes that a new bundle is compared beside the one in use, where no fleet orders"),
    "soak_min": (0.1, 1_440, "minutes that a new bundle is watched in charge before it stays, where no fleet orders"),
}
"""Least, most, and what it is. Beds that are watched never get a bundle without a shadow and a soak."""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """What each number is stands in ``_BOUNDS``.

    ``windows``: when this device may fetch, try and swap ("Mon-Fri 02:00-05:00"), none for always, by the clock of
    ``zone``. Raises ``ConfigError`` (``maintenance-window``, ``setting-invalid``).
    """

    windows: tuple[str, ...] = ()
    zone: str = "UTC"
    rate_kib_s: int = 0
    memory_mib_max: int = 0
    defer_h: float = 24.0
    look_min: float = 60.0
    shadow_min: float = 10.0
    soak_min: float = 10.0

    def __post_init__(self) -> None:
        MaintenanceWindows.parse(self.windows, UTC)
        for name, (least, most, what) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:  # written so that a NaN fails it
                raise ConfigError("setting-invalid", f"{name} must lie between {least} and {most}: {what}")

    def rules(self, zone: tzinfo, dwell_s: float) -> Rules:
        """For the updaters; ``zone``: the one that is named; ``dwell_s``: see ``Rules``."""
        return Rules(
            MaintenanceWindows.parse(self.windows, zone),
            self.rate_kib_s,
            self.memory_mib_max << 10,
            Limits(defer_s=round(self.defer_h * 3_600)),
            dwell_s,
        )

    def own_orders(self) -> OwnOrders:
        """How a ward without a fleet orders for itself."""
        return OwnOrders(
            round(self.shadow_min * 60), round(self.soak_min * 60), ATTEMPTS_OWN, look_s=self.look_min * 60
        )
