"""How long ago was it? A sender's clock against ours, from what each message states and when it arrived.

A monitor's clock may be wrong by seconds, a gateway's zone by whole hours, and either may be set while it runs. So an
observation's moment is never its stated wall time. It is: received − delay − age, where *age* is how much older the
observation (OBX-14) is than its own message (MSH-7), two readings of one clock, and *delay* is how long the message was
on its way. Only the delay needs a comparison of clocks, and ``PeerClock`` estimates it.

Each message gives d = time received − time stated = offset of the clocks + delay. The smallest recent d is the offset
(NTP's minimum filter: delay only adds). A message whose d does not fit is judged so:

* off by whole hours, and otherwise fitting: a zone; the offset follows at once (summer time ends for a ward at once);
* stated ahead of the clock: no delay can do that, so the stamp is wild or the clock was set; the delay is taken as 0;
* stated behind: believed to be late, and so old, until ``JUMP_COUNT`` messages over ``JUMP_S`` agree; a queue that is
  being emptied does not keep pace with real time, a clock that was set back does.

Before the first message the device's own wall clock stands for the offset. Pure: every reading of a clock is passed in.
Source: Mills, RFC 5905 section 10 (clock filter).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edgeward.kernel.clock import NS_PER_S

HOUR_NS = 3_600 * NS_PER_S
AHEAD_NS = 2 * NS_PER_S
"""A message stated this far ahead of its clock still fits: stamps are whole seconds, clocks drift."""
LATE_NS = 5 * NS_PER_S
"""A message this late still fits: a gateway collects before it sends."""
AGREE_NS = 2 * NS_PER_S
JUMP_COUNT = 3
JUMP_S = 10
HOURS_MAX = 26
"""Two clocks on Earth are at most 26 hours of zones apart."""
WINDOW = 64
WINDOW_NS = 600 * NS_PER_S

AGE_FUTURE_NS = 60 * NS_PER_S
"""An observation stated to be later than its message by no more than this is as old as its message."""
AGE_WHOLE_HOURS_NS = 300 * NS_PER_S
"""Stated later by whole hours (a zone): taken where what remains is an age of up to this."""


@dataclass(slots=True)
class PeerClock:
    """One sender's clock. Instants are ns: monotonic ours, since 1970 UTC theirs."""

    offset_ns: int | None = None
    """Ours minus theirs, at no delay; None before the first message."""
    jumps: int = 0
    """How often the clock was found to have been set."""
    _recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _odd_ns: int = 0
    _odd_since_ns: int = 0
    _odd_count: int = 0

    def heard(self, stated_ns: int, step_ns: int, received_ns: int, wall_ns: int) -> int:
        """A message arrived: how long it was on its way, ns, 0 or more.

        ``stated_ns``: MSH-7; ``step_ns``: how coarse; ``received_ns``: monotonic; ``wall_ns``: our wall time then.
        """
        apart = received_ns - stated_ns
        if self.offset_ns is None:
            self.offset_ns = received_ns - wall_ns
        rest = apart - self.offset_ns
        hours = _whole_hours(rest, step_ns)
        if hours:
            self._set(self.offset_ns + hours * HOUR_NS)
            rest = apart - self.offset_ns
        if -AHEAD_NS <= rest <= LATE_NS + step_ns:
            self._fits(apart, received_ns)
            return max(0, apart - self.offset_ns - step_ns)
        return self._odd(apart, rest, step_ns, received_ns)

    def _fits(self, apart: int, received_ns: int) -> None:
        self._odd_count = 0
        self._recent.append((received_ns, apart))
        while self._recent[0][0] < received_ns - WINDOW_NS:
            self._recent.popleft()
        self.offset_ns = min(d for _, d in self._recent)

    def _odd(self, apart: int, rest: int, step_ns: int, received_ns: int) -> int:
        if self._odd_count and abs(apart - self._odd_ns) <= AGREE_NS + step_ns:
            self._odd_count += 1
        else:
            self._odd_ns, self._odd_since_ns, self._odd_count = apart, received_ns, 1
        ahead = rest < 0
        if self._odd_count >= JUMP_COUNT and (ahead or received_ns - self._odd_since_ns >= JUMP_S * NS_PER_S):
            self._set(apart)
            self._fits(apart, received_ns)
            self.jumps += 1
            return 0
        return 0 if ahead else rest - step_ns

    def _set(self, offset_ns: int) -> None:
        self.offset_ns = offset_ns
        self._recent.clear()
        self._odd_count = 0


def age_ns(message_ns: int, observed_ns: int, step_ns: int) -> int | None:
    """How much older an observation is than its message, ns, 0 or more; both on the sender's clock, since 1970 UTC.

    None where it is stated to be later than its message by more than clocks and zones explain. ``step_ns``: how coarse
    the observation's stamp is.
    """
    age = message_ns - observed_ns
    if age >= 0:
        return age
    if age >= -AGE_FUTURE_NS - step_ns:
        return 0
    whole = age % HOUR_NS
    return whole if whole <= AGE_WHOLE_HOURS_NS and -age <= HOURS_MAX * HOUR_NS else None


def _whole_hours(rest: int, step_ns: int) -> int:
    """How many hours ``rest`` is, give or take what fits; 0 where it is not a number of hours, or none."""
    hours = (rest + AHEAD_NS) // HOUR_NS
    fits = rest - hours * HOUR_NS <= LATE_NS + step_ns
    return hours if hours and fits and abs(hours) <= HOURS_MAX else 0
