"""How long a message was on its way, whatever the clocks of monitors and gateways do."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.clock import NS_PER_S
from edgeward.wire.hl7v2_clock import AGE_FUTURE_NS, HOUR_NS, JUMP_COUNT, PeerClock, age_ns

S = NS_PER_S
EPOCH_NS = 1_772_600_000 * S
STEP = S


class _Sender:
    """A sender with a clock ``wrong_s`` off; messages carry whole seconds, as most do."""

    def __init__(self, wrong_s: float = 0.0) -> None:
        self.clock = PeerClock()
        self.wrong_s = wrong_s

    def send(self, at_s: float, delay_s: float = 0.0, stated_s: float | None = None, step_ns: int = STEP) -> float:
        """Send at ``at_s`` (true time since the start), received ``delay_s`` later; the estimated delay, s."""
        stated = EPOCH_NS + round((at_s + self.wrong_s if stated_s is None else stated_s) * S)
        stated -= stated % step_ns
        received = round((at_s + delay_s) * S)
        return self.clock.heard(stated, step_ns, received, EPOCH_NS + received) / S


@pytest.mark.parametrize("wrong_s", [0.0, 0.7, -0.7, 1.5])
def test_a_right_clock_has_no_delay(wrong_s: float) -> None:
    """Small differences and whole seconds are no delay."""
    sender = _Sender(wrong_s)
    assert max(sender.send(5.0 * n + 0.3) for n in range(50)) <= 1.0


@pytest.mark.parametrize("hours", [-12, -7, -1, 1, 5, 14])
def test_a_zone_that_is_wrong_by_whole_hours_costs_nothing(hours: int) -> None:
    """From the first message on."""
    sender = _Sender(hours * 3600.0)
    assert max(sender.send(5.0 * n) for n in range(20)) <= 1.0


def test_summer_time_may_end_for_a_ward_at_once() -> None:
    """An hour back, an hour forth: no message is late by it."""
    sender = _Sender()
    for n in range(300):
        sender.wrong_s = -3600.0 if 100 <= n < 200 else 0.0
        assert sender.send(5.0 * n) <= 1.0


def test_one_wild_stamp_changes_nothing() -> None:
    """Neither a stamp from another year nor one from next week moves the clock."""
    for wild_s in (-20 * 365 * 86_400.0, 7 * 86_400.0 + 1234, -1800.0, 900.0):
        sender = _Sender()
        before = [sender.send(5.0 * n) for n in range(20)]
        during = sender.send(100.0, stated_s=100.0 + wild_s)
        after = [sender.send(105.0 + 5.0 * n) for n in range(20)]
        assert max(before + after) <= 1.0
        assert during == pytest.approx(max(0.0, -wild_s), abs=2.0)
        assert sender.clock.jumps == 0


def test_a_clock_set_forward_is_followed() -> None:
    """Stated ahead of the clock: no delay could do that, so nothing is ever late by it."""
    sender = _Sender()
    for n in range(40):
        sender.wrong_s = 400.0 if n >= 20 else 0.0
        assert sender.send(5.0 * n) <= 1.0
    assert sender.clock.jumps == 1


def test_a_clock_set_back_is_believed_late_until_it_keeps_pace() -> None:
    """For ``JUMP_COUNT`` messages over ten seconds at most."""
    sender = _Sender()
    delays = []
    for n in range(40):
        sender.wrong_s = -400.0 if n >= 20 else 0.0
        delays.append(sender.send(5.0 * n))
    late = [delay for delay in delays if delay > 1.0]
    assert len(late) == JUMP_COUNT - 1
    assert max(delays[22:]) <= 1.0
    assert sender.clock.jumps == 1


def test_a_queue_that_is_emptied_is_old_and_moves_no_clock() -> None:
    """Ten minutes without a network, then all of it within seconds: every message is as old as it is."""
    sender = _Sender()
    for n in range(20):
        sender.send(5.0 * n)
    resumed = 700.0
    for n in range(120):
        made = 100.0 + 5.0 * n
        arrives = max(resumed + 0.05 * n, made)
        assert sender.send(made, delay_s=arrives - made) == pytest.approx(arrives - made, abs=1.1)
    assert sender.clock.jumps == 0
    assert sender.send(710.0) <= 1.0


def test_a_first_contact_with_a_queue_is_old_too() -> None:
    """The device's own wall clock stands in before there is anything else."""
    sender = _Sender()
    assert sender.send(0.0, delay_s=300.0) == pytest.approx(299, abs=1.1)


def test_a_gateway_that_collects_is_not_late() -> None:
    """A steady second or two on the way is an offset; what comes later than usual is delay."""
    sender = _Sender()
    rng = random.Random(1)
    steady = [sender.send(5.0 * n, delay_s=1.5 + rng.random()) for n in range(60)]
    assert max(steady[1:]) <= 1.1
    assert sender.send(400.0, delay_s=5.5) >= 2.0


def test_stamps_of_whole_minutes_are_no_delay() -> None:
    """How coarse a stamp is, is not how late."""
    sender = _Sender()
    assert max(sender.send(7.0 * n, step_ns=60 * S) for n in range(100)) <= 1.0


def test_a_drifting_clock_is_followed() -> None:
    """A second a minute slow for an hour: never late by more than the window."""
    sender = _Sender()
    for n in range(720):
        sender.wrong_s = -5.0 * n / 600
        assert sender.send(5.0 * n) <= 5.0
    assert sender.clock.jumps == 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(-(10**6), 10**6), st.integers(0, 10**4)), max_size=80))
def test_a_delay_is_never_negative_and_never_more_than_is_stated(steps: list[tuple[int, int, int]]) -> None:
    """Whatever clocks and networks do; so no observation lies in the future."""
    clock = PeerClock()
    received = 0
    for gap_ms, wrong_ms, delay_ms in steps:
        received += gap_ms * 1_000_000
        stated = EPOCH_NS + received + (wrong_ms - delay_ms) * 1_000_000
        assert clock.heard(stated, STEP, received, EPOCH_NS + received) >= 0


@pytest.mark.parametrize(
    ("stated_s", "age_s"),
    [
        (0, 0),
        (-20, 20),
        (-4 * 3600, 4 * 3600),
        (30, 0),
        (60, 0),
        (3600, 0),
        (3580, 20),
        (5.5 * 3600 - 15, None),
        (7 * 3600 - 15, 15),
        (1800, None),
        (30 * 3600, None),
    ],
)
def test_ages_within_a_message(stated_s: float, age_s: float | None) -> None:
    """Older is older; later than its message by a little is now, by whole hours a zone, by anything else impossible."""
    age = age_ns(EPOCH_NS, EPOCH_NS + round(stated_s * S), S)
    assert age == (None if age_s is None else round(age_s * S))


@given(st.integers(-(10**15), 10**15))
def test_no_age_is_negative(apart_ns: int) -> None:
    """And none is later than the message."""
    age = age_ns(EPOCH_NS, EPOCH_NS + apart_ns, S)
    assert age is None or age >= 0
    if age is None:
        assert apart_ns > AGE_FUTURE_NS
    elif apart_ns > AGE_FUTURE_NS + S:
        assert age < HOUR_NS
