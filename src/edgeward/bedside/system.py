"""The rim's clock: the only place of the bedside that reads the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's own clocks behind the ``Clock`` port."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary origin; never goes back."""
        return time.monotonic_ns()

    def wall(self) -> datetime:
        """Wall time in UTC."""
        return datetime.now(UTC)
