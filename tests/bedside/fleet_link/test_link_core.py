"""When a device speaks to its fleet: decided by a pure step, so an hour takes no time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeward.bedside.fleet_link import core
from edgeward.bedside.fleet_link.core import Phase
from edgeward.exchange.checkin import Answer, Deed, Order
from edgeward.exchange.enrol import Credential, Standing
from edgeward.kernel.clock import NS_PER_S

POLICY = core.Policy()
SHA = "ab" * 32
ORDER = Order(1, "ecg-beat", Deed.INSTALL, "1.2.0", SHA)


class Device:
    """A state with a clock of its own; ``dice`` always falls the same."""

    def __init__(self, *, member: bool = True, dice: float = 0.0) -> None:
        self.now_ns, self.dice = 0, dice
        self.state = core.begin(POLICY, member=member, now_ns=0, dice=dice)

    def take(self, event: core.Event, after_s: float = 0.0) -> tuple[core.Effect, ...]:
        self.now_ns += round(after_s * NS_PER_S)
        self.state, effects = core.step(POLICY, self.state, event, self.now_ns, self.dice)
        return effects

    def asks_within(self, seconds: float) -> float | None:
        """Seconds until something is sent, None when nothing is by then."""
        for tenth in range(round(seconds * 10) + 1):
            if self.take(core.Tick(), 0.1 if tenth else 0.0):
                return tenth / 10
        return None

    def answered(
        self, next_s: int = 60, *orders: Order, renew: bool = False, due: bool = False
    ) -> tuple[core.Effect, ...]:
        return self.take(core.Answered(Answer(self.state.sequence, next_s, renew, orders), renewal_due=due))


def test_check_ins_count_from_one_and_come_when_the_fleet_asked() -> None:
    device = Device()
    assert device.take(core.Tick()) == (core.SendCheckIn(1),)
    assert device.take(core.Tick(), 5) == ()
    assert device.answered(60, ORDER) == (core.Obey((ORDER,)),)
    assert device.asks_within(70) == 60.0
    assert device.state.sequence == 2


def test_devices_that_start_together_do_not_stay_together() -> None:
    early, late = Device(dice=0.0), Device(dice=1.0)
    assert (early.asks_within(10), late.asks_within(10)) == (0.0, POLICY.first_s)
    for device in (early, late):
        device.answered(100)
    assert (early.asks_within(200), late.asks_within(200)) == (100.0, 110.0)


def test_an_unreachable_fleet_is_asked_ever_less_often() -> None:
    device, pauses = Device(dice=1.0), []
    device.asks_within(10)
    for _ in range(12):
        device.take(core.Failed())
        pauses.append(device.asks_within(1_000))
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert pauses[-2:] == [POLICY.retry_s_max] * 2
    device.answered(60)
    device.asks_within(100)
    device.take(core.Failed())
    assert device.asks_within(10) == 2.0


def test_a_fleet_that_asks_for_a_pause_gets_it() -> None:
    device = Device()
    device.take(core.Tick())
    device.take(core.Failed(after_s=120))
    assert device.asks_within(200) == 120.0


def test_a_change_is_told_at_once_but_not_in_a_stream() -> None:
    device = Device()
    device.take(core.Tick())
    device.answered(60)
    device.take(core.Changed(), 20)
    assert device.asks_within(1) == 0.0
    device.answered(60)
    device.take(core.Changed(), 1)
    assert device.asks_within(10) == pytest.approx(POLICY.hurry_s - 1)


def test_what_changes_while_an_answer_is_awaited_is_told_after_it() -> None:
    device = Device()
    device.take(core.Tick())
    device.take(core.Changed(), 1)
    assert device.asks_within(3) is None
    device.answered(60)
    assert device.asks_within(10) == pytest.approx(1.0)


def test_a_change_does_not_shorten_the_pause_of_an_unreachable_fleet() -> None:
    device = Device(dice=1.0)
    device.asks_within(10)
    for _ in range(6):
        device.take(core.Failed())
        device.asks_within(100)
    device.take(core.Failed())
    device.take(core.Changed())
    assert device.asks_within(1_000) == 128.0


def test_an_old_answer_is_nobodys() -> None:
    """One that comes twice, or after its check-in was given up, orders nothing."""
    device = Device()
    device.take(core.Tick())
    answer = core.Answered(Answer(1, 60, False, (ORDER,)))
    assert device.take(answer)
    assert device.take(answer) == ()
    device.asks_within(70)
    assert device.take(answer) == ()
    assert device.state.asking


def test_a_certificate_is_renewed_when_the_fleet_or_its_age_asks_for_it() -> None:
    for asked in ({"renew": True}, {"due": True}):
        device = Device()
        device.take(core.Tick())
        assert device.answered(60, **asked)[-1] == core.Renew()
    device.asks_within(70)
    assert device.answered(60, due=True) == (core.Obey(()),), "a wrong clock must not renew with every check-in"
    device.take(core.Tick(), POLICY.renew_s)
    assert device.answered(60, due=True)[-1] == core.Renew()


def test_an_application_is_asked_about_until_it_is_decided() -> None:
    device = Device(member=False)
    assert device.take(core.Tick()) == (core.SendApplication(),)
    device.take(core.Judged(Credential(Standing.PENDING, SHA, None, "", 15)))
    assert device.asks_within(30) == 15.0
    accepted = Credential(Standing.ACCEPTED, SHA, "d-0123456789abcdef", "PEM", 60)
    assert device.take(core.Judged(accepted)) == (core.Keep(accepted),)
    assert device.take(core.Tick()) == (core.SendCheckIn(1),)


def test_a_rejected_device_asks_no_more_until_a_person_applies_again() -> None:
    device = Device(member=False)
    device.take(core.Tick())
    device.take(core.Judged(Credential(Standing.REJECTED, SHA, None, "", 60)))
    assert device.state.phase is Phase.REJECTED
    assert device.asks_within(2_000) is None
    device.take(core.Enrolled())
    assert device.take(core.Tick()) == (core.SendCheckIn(1),)


def test_a_device_that_was_shut_out_asks_now_and_then_and_comes_back() -> None:
    device = Device()
    device.take(core.Tick())
    device.take(core.Failed(shut_out=True))
    assert device.state.phase is Phase.SHUT_OUT
    assert device.asks_within(2_000) == POLICY.shut_out_s
    device.answered(60)
    assert (device.state.phase, device.state.failures) == (Phase.MEMBER, 0)


def test_the_step_is_pure() -> None:
    state = core.begin(POLICY, member=True, now_ns=0, dice=0.5)
    frozen = replace(state)
    core.step(POLICY, state, core.Tick(), 10 * NS_PER_S, 0.5)
    assert state == frozen
