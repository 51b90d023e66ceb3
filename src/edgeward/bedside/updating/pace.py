"""How fast a download may be: a token bucket on the caller's clock.

One second's worth of bytes may come at once; then bytes and time keep step. Reads are small enough that no wait is
longer than about a quarter of a second, so that a stop is obeyed and the server does not hang up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

_PART_BYTES_MIN = 1 << 10
_PART_BYTES_MAX = 1 << 16


class TokenBucket:
    """At most ``rate_kib_s`` over any time longer than a second; 0: as fast as it comes.

    ``now_ns``: the monotonic clock; ``wait``: sleeps for so many seconds, and may raise to end the download.
    """

    def __init__(self, rate_kib_s: int, now_ns: Callable[[], int], wait: Callable[[float], None]) -> None:
        self._rate = rate_kib_s << 10
        self._now_ns = now_ns
        self._wait = wait
        self._tokens = float(self._rate)
        self._at_ns = now_ns()

    @property
    def part_bytes(self) -> int:
        """How much to read at a time."""
        if not self._rate:
            return _PART_BYTES_MAX
        return min(max(self._rate // 4, _PART_BYTES_MIN), _PART_BYTES_MAX)

    def spend(self, count: int) -> None:
        """``count`` bytes came: wait until they may have."""
        if not self._rate:
            return
        now = self._now_ns()
        self._tokens = min(self._tokens + (now - self._at_ns) * self._rate / NS_PER_S, float(self._rate)) - count
        self._at_ns = now
        if self._tokens < 0:
            self._wait(-self._tokens / self._rate)
