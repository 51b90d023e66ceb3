"""A remote that fails is left alone, then asked once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeward.bedside.breaker import Breaker, BreakerPolicy

S = 1_000_000_000
POLICY = BreakerPolicy(failures=3, pause_ns=10 * S, pause_ns_max=40 * S)


class Breakers(RuleBasedStateMachine):
    """Calls of a remote that is well or not, at any times."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.now = 0
        self.in_a_row = 0
        self.under_way = 0

    @rule(wait_s=st.integers(0, 60))
    def wait(self, wait_s: int) -> None:
        """Time passes."""
        self.now += wait_s * S

    @precondition(lambda self: self.breaker.allows(self.now))
    @rule(well=st.booleans())
    def call(self, *, well: bool) -> None:
        """One call, answered before the next."""
        opened = self.breaker.opened_ns
        self.breaker = self.breaker.called(self.now)
        if opened is not None:
            assert not self.breaker.allows(self.now), "a half-open breaker lets one call through"
        if well:
            self.breaker, self.in_a_row = self.breaker.succeeded(), 0
            assert self.breaker.opened_ns is None
        else:
            self.breaker, self.in_a_row = self.breaker.gave_up(self.now), self.in_a_row + 1
            assert self.breaker.allows(self.now) == (self.in_a_row < POLICY.failures)

    @rule()
    def a_late_failure(self) -> None:
        """A call from before the opening fails after it."""
        if self.breaker.opened_ns is not None and not self.breaker.probing:
            assert self.breaker.gave_up(self.now) == self.breaker

    @invariant()
    def it_never_stays_shut_for_ever(self) -> None:
        """After the longest pause a call is allowed."""
        assert self.breaker.allows(self.now + POLICY.pause_ns_max)

    @invariant()
    def it_is_open_for_its_pause(self) -> None:
        """And no shorter."""
        if self.breaker.opened_ns is not None:
            assert POLICY.pause_ns <= self.breaker.pause_ns <= POLICY.pause_ns_max
            assert not self.breaker.allows(self.breaker.opened_ns + self.breaker.pause_ns - 1)


TestBreakers = Breakers.TestCase
