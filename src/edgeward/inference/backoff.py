"""When a failed worker may be replaced: at once at first, then ever more rarely. Pure; time is passed in."""

from __future__ import annotations

from dataclasses import dataclass

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The first ``free`` failures cost nothing; each further one doubles the wait from ``base_s`` to ``longest_s``.

    ``forget_s`` without a failure forgets them all.
    """

    free: int = 3
    base_s: float = 0.5
    longest_s: float = 30.0
    forget_s: float = 60.0


class Backoff:
    """Counts failures and says from when on the next worker may be started."""

    def __init__(self, policy: BackoffPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._last_ns = 0
        self._from_ns = 0

    def failed(self, now_ns: int) -> None:
        """A worker failed, or could not be started."""
        if self._failures and now_ns - self._last_ns >= self._policy.forget_s * _NS_PER_S:
            self._failures = 0
        self._failures += 1
        self._last_ns = now_ns
        over = self._failures - self._policy.free
        wait_s = min(self._policy.longest_s, self._policy.base_s * 2.0 ** min(over - 1, 30)) if over > 0 else 0.0
        self._from_ns = now_ns + int(wait_s * _NS_PER_S)

    def allows(self, now_ns: int) -> bool:
        """Whether a worker may be started now."""
        return now_ns >= self._from_ns or not self._failures
