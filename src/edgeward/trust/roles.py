"""Roles: who may say what about the bundles of a repository, and for how long.

``root`` names the keys, ``targets`` names the bundles or delegates the name of one model family to a role of that
name, ``snapshot`` says which metadata belong together, ``timestamp`` says that this is the newest (TUF 4). A family
is all versions of one bundle name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from edgeward.kernel.errors import ConfigError

ROLES = ("root", "targets", "snapshot", "timestamp")
"""The top-level roles."""
ROOT_KEYS_MAX = 9
WAITING = "x-edgeward-waiting"
"""Field of targets metadata: the families whose teams had not signed yet when targets were signed. Of those alone a
device believes that they have no metadata; any other family that is missing was hidden."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """Days until each role's metadata expire. A short timestamp bounds how long a device can be kept on old news."""

    root_days: float = 365.0
    targets_days: float = 90.0
    snapshot_days: float = 14.0
    timestamp_days: float = 7.0

    def __post_init__(self) -> None:
        days = (self.timestamp_days, self.snapshot_days, self.targets_days, self.root_days)
        if days[0] <= 0 or list(days) != sorted(days):
            raise ConfigError(
                "expiry-order", "expiry must be positive and rise from timestamp over snapshot and targets to root"
            )

    def days(self, role: str) -> float:
        """Days of ``role``; a family's are those of targets."""
        top = {"root": self.root_days, "snapshot": self.snapshot_days, "timestamp": self.timestamp_days}
        return top.get(role, self.targets_days)


def wall_now() -> datetime:
    """Wall time at the rim, UTC: what expiry counts from."""
    return datetime.now(UTC)
