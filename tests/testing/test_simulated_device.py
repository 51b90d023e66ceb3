"""A simulated device is a real one on a simulated disk: what becomes of an order, by what it drew."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.fleet_link.core import Policy
from edgeward.exchange.checkin import Answer, Deed, Order
from edgeward.exchange.words import UpdateState, Why
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.testing.clock import ManualClock
from edgeward.testing.fleet.device import SimulatedDevice, template_of
from edgeward.testing.fleet.faults import TEN_YEARS_S, Faults, Stage, draw
from edgeward.testing.repository import tiny_bundle
from edgeward.trust.offer import Offer

if TYPE_CHECKING:
    from edgeward.exchange.checkin import CheckIn

FAMILY = "ecg-beat"
S = UpdateState


@dataclass
class Offers:
    version: str = "1.1.0"

    def latest(self, name: str) -> Offer:
        raw = tiny_bundle(self.version)
        return Offer(name, self.version, hashlib.sha256(raw).hexdigest(), len(raw))

    def content(self, offer: Offer) -> bytes:
        return tiny_bundle(offer.version)


@dataclass
class Played:
    """A device in its own time, and a fleet that answers each check-in with ``order``."""

    faults: Faults
    order: Order | None
    number: int = 0
    clock: ManualClock = field(default_factory=ManualClock)
    said: list[CheckIn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = SimulatedDevice(
            self.number,
            FAMILY,
            template_of(tiny_bundle("1.0.0")),
            Offers(),
            self.clock,
            self.faults,
            draw(self.faults, self.number),
            policy=Policy(first_s=1.0),
            length=8 << 20,
            real_ns=self.clock.monotonic_ns,
        )

    def run(self, seconds: float) -> Played:
        end_ns = self.clock.monotonic_ns() + round(seconds * NS_PER_S)
        while (due_ns := self.device.due_ns) < end_ns:
            self.clock.advance(max(0.0, (due_ns - self.clock.monotonic_ns()) / NS_PER_S))
            message = self.device.turn()
            if message is not None:
                self.said.append(message)
                orders = (self.order,) if self.order is not None else ()
                self.device.answered(Answer(message.sequence, 60, False, orders))
        self.clock.advance(max(0.0, (end_ns - self.clock.monotonic_ns()) / NS_PER_S))
        return self

    @property
    def state(self) -> UpdateState | None:
        progress = self.device.report().progress
        return progress.state if progress is not None else None


def order(version: str = "1.1.0", **changes: int) -> Order:
    return Order(3, FAMILY, Deed.INSTALL, version, Offers(version).latest(FAMILY).sha256, **changes)


def bad(stage: Stage) -> Faults:
    return Faults(bad=1.0, bad_versions=frozenset({"1.1.0"}), stages=(stage,))


def test_a_good_bundle_is_adopted_and_every_state_is_told() -> None:
    played = Played(Faults(), order(shadow_s=60, soak_s=120)).run(600)
    assert played.state is S.COMMITTED
    told = [one.families[0].progress.state for one in played.said if one.families[0].progress is not None]
    assert told[-1] is S.COMMITTED
    assert {S.STAGED, S.SOAKING} <= set(told)
    current = played.device.report().current
    assert current is not None
    assert current.version == "1.1.0"
    assert [one.sequence for one in played.said] == list(range(1, len(played.said) + 1))


@pytest.mark.parametrize(
    ("stage", "state", "why", "served"),
    [
        (Stage.GOLDEN, S.FAILED, Why.GOLDEN_FAILED, False),
        (Stage.SLOW, S.FAILED, Why.TOO_SLOW, False),
        (Stage.SHADOW, S.FAILED, Why.SHADOW_DISAGREES, False),
        (Stage.SOAK, S.ROLLED_BACK, Why.SOAK_FAILED, True),
    ],
)
def test_a_bad_bundle_is_refused_where_it_shows(stage: Stage, state: UpdateState, why: Why, served: bool) -> None:
    """By the real gates: the simulation only says what they find."""
    played = Played(bad(stage), order(shadow_s=60, soak_s=120)).run(900)
    story = played.device.stories["1.1.0"]
    assert (played.state, story.why, story.tried, story.served) == (state, why, True, served)
    current = played.device.report().current
    assert current is not None
    assert current.version == "1.0.0"


def test_what_would_have_shown_in_the_shadow_shows_in_the_soak_where_no_shadow_is_asked_for() -> None:
    played = Played(bad(Stage.SHADOW), order(soak_s=120)).run(900)
    assert (played.state, played.device.stories["1.1.0"].served) == (S.ROLLED_BACK, True)


def test_a_slow_link_takes_its_time() -> None:
    """8 MiB at 16 KiB/s are 512 s; the order's own rate is kept where it is lower."""
    slow = Faults(slow=1.0)
    assert Played(slow, order()).run(500).state is S.DOWNLOADING
    assert Played(slow, order()).run(600).state is S.COMMITTED
    assert Played(Faults(), order(rate_kib_s=16)).run(500).state is S.DOWNLOADING


def test_a_silent_device_goes_on_without_its_fleet() -> None:
    played = Played(Faults(silent=1.0), order()).run(600)
    assert played.state is S.COMMITTED
    told = [one.families[0].progress for one in played.said]
    assert all(progress is None or progress.state is S.OFFERED for progress in told)


def test_power_cuts_cost_time_and_nothing_else() -> None:
    """Some of forty devices are cut in the midst of it: each ends with a whole bundle, and counts its starts."""
    ends = set()
    for number in range(40):
        played = Played(Faults(reboots=60.0), order(soak_s=60), number).run(3_600)
        current = played.device.report().current
        assert current is not None
        assert played.said[-1].boot == played.device.reboots + 1
        ends.add((played.state, current.version))
    assert (S.COMMITTED, "1.1.0") in ends
    assert {version for state, version in ends if state is S.COMMITTED} == {"1.1.0"}


def test_a_wrong_clock_takes_no_bundle_and_keeps_the_one_in_use() -> None:
    played = Played(Faults(wrong_clocks=1.0), None).run(61)
    assert abs(played.device.clock.off_s) == TEN_YEARS_S
    played.order = order()
    played.run(7_200)
    assert (played.state, played.device.stories["1.1.0"].attempts) == (S.FAILED, 3)
    assert played.device.stories["1.1.0"].why in {Why.CLOCK, Why.TRUST}
    current = played.device.report().current
    assert current is not None
    assert current.version == "1.0.0"


def test_the_same_seed_draws_the_same_whatever_the_fleets_size() -> None:
    faults = Faults(bad=0.3, silent=0.1, slow=0.2, wrong_clocks=0.05)

    def shape(number: int, faults: Faults) -> tuple[object, ...]:
        lot = draw(faults, number)
        return lot.bad_at, lot.silent, lot.kib_s, lot.clock_off_s

    first = [shape(number, faults) for number in range(2_000)]
    assert [shape(number, faults) for number in range(500)] == first[:500]
    assert [shape(number, replace(faults, seed=2)) for number in range(500)] != first[:500]
    share = sum(one[0] is not None for one in first) / 2_000
    assert 0.27 < share < 0.33


@pytest.mark.parametrize("wrong", [{"bad": 1.5}, {"lost": -0.1}, {"reboots": float("nan")}, {"slow_kib_s": 0}])
def test_faults_that_cannot_be_are_settings_errors(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Faults(**wrong)  # type: ignore[arg-type]
