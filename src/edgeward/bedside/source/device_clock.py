"""When did it happen, on our own clock? A device's timestamps mapped to monotonic time. Pure.

A report cannot come before it was made, so the smallest difference between reception and timestamp seen lately is the
best estimate of how the two clocks lie to each other; the network's shortest delay is taken for no time at all. Until
a report has come, both wall clocks are taken for right, as SDC demands (11073-20701, R0011: time is synchronised).

A device's clock that is set forward shows at once. One that is set back looks like a delay at first: it is believed
when ``STEADY`` reports in a row lie equally late by more than ``STEP_S``, which a queue that empties does not.
"""

from __future__ import annotations

from edgeward.kernel.clock import NS_PER_S

WINDOW_S = 300.0
"""An estimate is at most twice as old: clocks drift apart by some tens of ms in this time."""
STEP_S = 2.0
STEADY = 5
STEADY_S = 0.5
_NS_PER_MS = 1_000_000


class DeviceClock:
    """``ahead_ns``: our monotonic clock minus our wall clock (ns since 1970), the first estimate."""

    def __init__(self, ahead_ns: int) -> None:
        self._best = [ahead_ns, ahead_ns]  # smallest difference of this half window and of the one before
        self._half_ns: int | None = None  # when this half began
        self._late: list[int] = []
        self.steps = 0
        """How often the device's clock was seen to be set back."""

    def heard(self, stamped_ms: int, received_ns: int) -> None:
        """A live report came whose latest timestamp is ``stamped_ms``."""
        difference = received_ns - stamped_ms * _NS_PER_MS
        if self._half_ns is None:
            self._half_ns = received_ns
        elif received_ns - self._half_ns > WINDOW_S / 2 * NS_PER_S:
            self._half_ns = received_ns
            self._best = [difference, self._best[0]]
        self._best[0] = min(self._best[0], difference)
        self._look_back(difference)

    def at_ns(self, stamped_ms: int, received_ns: int) -> int:
        """Monotonic time of a timestamp; never later than its reception."""
        return min(received_ns, stamped_ms * _NS_PER_MS + min(self._best))

    def _look_back(self, difference: int) -> None:
        if difference - min(self._best) <= STEP_S * NS_PER_S:
            self._late.clear()
            return
        self._late = [*self._late[-STEADY + 1 :], difference]
        if len(self._late) == STEADY and max(self._late) - min(self._late) <= STEADY_S * NS_PER_S:
            self._best = [min(self._late)] * 2
            self._late.clear()
            self.steps += 1
