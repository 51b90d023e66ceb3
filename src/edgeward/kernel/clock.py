"""The clock port: time is always passed in, never read by the core.

Durations and deadlines inside Edgeward are integer nanoseconds of a monotonic clock; wall time lives only at the rim,
always with its zone. The adapters stand at the rim (``edgeward.bedside.system``) and in ``edgeward.testing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Where the rim gets its time from."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back; the origin is arbitrary."""
        ...

    def wall(self) -> datetime:
        """Wall time with its zone; it may jump, so it only labels and never measures."""
        ...
