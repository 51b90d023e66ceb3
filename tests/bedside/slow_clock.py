"""A clock for tests of sources, which take samples for lost when time passes without them."""

from __future__ import annotations

from edgeward.bedside.system import SystemClock

SLOWER = 100


class SlowClock(SystemClock):
    """A hundredth of the time passes: however long the machine keeps a sender waiting, no sample is taken for lost."""

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() // SLOWER
