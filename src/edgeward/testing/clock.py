"""A clock that moves only when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edgeward.kernel.clock import NS_PER_S


class ManualClock:
    """The ``Clock`` port on a leash: ``sleep`` and ``advance`` move it, nothing else does."""

    def __init__(self, start_ns: int = NS_PER_S) -> None:
        self._now_ns = start_ns

    def monotonic_ns(self) -> int:
        """The moment it was moved to."""
        return self._now_ns

    def wall(self) -> datetime:
        """Wall time that runs with the monotonic time, from 2026-01-01 UTC on."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._now_ns // 1000)

    def advance(self, seconds: float) -> None:
        """Move it on."""
        if seconds < 0:
            raise ValueError("a monotonic clock never goes back")
        self._now_ns += round(seconds * NS_PER_S)

    def sleep(self, seconds: float) -> None:
        """Stand-in for ``time.sleep``: returns at once, later."""
        self.advance(max(seconds, 1e-9))
