"""A circuit breaker: a remote that fails is left alone for a while, ever longer, and then asked once. Pure.

Closed: every call may go. After ``failures`` in a row it opens: no call goes until the pause is over. Then one call
goes (half open): success closes, failure opens again with a pause twice as long, up to ``pause_ns_max``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeward.kernel.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and for how long."""

    failures: int = 3
    pause_ns: int = 15 * NS_PER_S
    pause_ns_max: int = 240 * NS_PER_S

    def __post_init__(self) -> None:
        assert self.failures >= 1
        assert 0 < self.pause_ns <= self.pause_ns_max


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state. ``opened_ns``: None while closed; ``probing``: the one call of a half-open breaker is under way."""

    policy: BreakerPolicy = BreakerPolicy()
    failed: int = 0
    opened_ns: int | None = None
    pause_ns: int = 0
    probing: bool = False

    def allows(self, now_ns: int) -> bool:
        """Whether a call may go now."""
        if self.opened_ns is None:
            return True
        return not self.probing and now_ns - self.opened_ns >= self.pause_ns

    def called(self, now_ns: int) -> Breaker:
        """A call that was allowed goes out."""
        assert self.allows(now_ns)
        return self if self.opened_ns is None else replace(self, probing=True)

    def succeeded(self) -> Breaker:
        """The answer was good."""
        return Breaker(self.policy)

    def gave_up(self, now_ns: int) -> Breaker:
        """The call failed or came too late. Calls that were under way when the breaker opened change nothing more."""
        if self.opened_ns is not None:
            if not self.probing:
                return self
            pause_ns = min(2 * self.pause_ns, self.policy.pause_ns_max)
            return replace(self, opened_ns=now_ns, pause_ns=pause_ns, probing=False)
        failed = self.failed + 1
        if failed < self.policy.failures:
            return replace(self, failed=failed)
        return replace(self, failed=failed, opened_ns=now_ns, pause_ns=self.policy.pause_ns)
