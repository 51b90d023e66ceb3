"""A made-up gateway against the real listener: patients arrive, are admitted, and survive a lost line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from edgeward.bedside.source.hl7 import Hl7Listener
from edgeward.bedside.source.hl7_settings import Hl7Settings
from edgeward.bedside.source.reading import Change, Reading, Receipt
from edgeward.bedside.system import SystemClock
from edgeward.signal.numeric import Kind
from edgeward.testing.gateway import Gateway, Replay, SimulatedBed, replay
from edgeward.testing.patients import Course, Patient, Plan


@dataclass
class Rim:
    readings: list[Reading] = field(default_factory=list)

    def take(self, reading: Reading) -> Receipt:
        self.readings.append(reading)
        return Receipt.TAKEN

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        pass


def beds() -> list[SimulatedBed]:
    courses = (Course.STABLE, Course.DISCONNECTIONS)
    return [SimulatedBed(f"ICU^^{n}", Patient(Plan(n, course)), f"SIM{n}") for n, course in enumerate(courses)]


def test_a_ward_is_played_to_the_listener() -> None:
    """Every message is acknowledged as accepted, and every numeric arrives at its bed, marked as simulated."""

    async def play() -> tuple[Rim, Gateway]:
        rim, clock = Rim(), SystemClock()
        listener = Hl7Listener(rim, clock, Hl7Settings(host="127.0.0.1", port=0))
        await listener.start()
        gateway = Gateway(beds(), "127.0.0.1", listener.port, clock, period_s=0.05, speed=100.0)
        await gateway.run(seconds=1.5)
        await listener.close()
        return rim, gateway

    rim, gateway = asyncio.run(play())
    assert set(gateway.acks) == {"AA"}
    assert [r.change for r in rim.readings[:2]] == [Change.ADMIT, Change.ADMIT]
    assert all(reading.simulated and not reading.refusals for reading in rim.readings)
    assert {reading.place for reading in rim.readings} == {"ICU^^0", "ICU^^1"}
    values = {n.kind: n.value for reading in rim.readings if reading.place == "ICU^^0" for n in reading.numerics}
    assert {Kind.HR, Kind.SPO2, Kind.RR, Kind.ABP_MEAN, Kind.TEMP} <= set(values)
    assert gateway.sent == sum(bool(reading.numerics) for reading in rim.readings)


def test_a_past_is_brought_along_with_its_own_times() -> None:
    """An hour of values, a set a minute, arrives before the first live one, and the device dates each by its age."""

    async def play() -> Rim:
        rim, clock = Rim(), SystemClock()
        listener = Hl7Listener(rim, clock, Hl7Settings(host="127.0.0.1", port=0))
        await listener.start()
        bed = SimulatedBed("ICU^^1", Patient(Plan(1)), "SIM1", begin_s=3600.0, past_s=3600.0)
        await Gateway([bed], "127.0.0.1", listener.port, clock, period_s=0.05).run(seconds=0.3)
        await listener.close()
        return rim

    rim = asyncio.run(play())
    ages = [
        (reading.received_ns - numeric.at_ns) / 1e9
        for reading in rim.readings
        for numeric in reading.numerics
        if numeric.kind is Kind.ABP_MEAN
    ]
    assert ages[:60] == [pytest.approx(60.0 * minute, abs=2.0) for minute in range(60, 0, -1)]
    assert max(ages[60:]) < 2.0
    assert len(ages) > 61


def test_a_lost_line_is_taken_up_again() -> None:
    """The listener goes away and comes back on the same port."""

    async def play() -> tuple[int, Gateway]:
        rim, clock = Rim(), SystemClock()
        listener = Hl7Listener(rim, clock, Hl7Settings(host="127.0.0.1", port=0))
        await listener.start()
        port = listener.port
        gateway = Gateway(beds(), "127.0.0.1", port, clock, period_s=0.05)
        playing = asyncio.ensure_future(gateway.run(seconds=6.0))
        while not rim.readings:
            await asyncio.sleep(0.02)
        await listener.close()
        await asyncio.sleep(0.3)
        before = len(rim.readings)
        again = Hl7Listener(rim, clock, Hl7Settings(host="127.0.0.1", port=port))
        await again.start()
        await playing
        await again.close()
        return len(rim.readings) - before, gateway

    came, gateway = asyncio.run(play())
    assert came > 0
    assert gateway.lost > 0


def test_a_replay_gives_each_value_once_when_its_time_has_come() -> None:
    """Of several of one kind the newest."""
    player: Replay = replay([(60.0, Kind.HR, 80.0), (0.0, Kind.HR, 70.0), (30.0, Kind.RR, 14.0)])
    assert player.at(0.0) == {Kind.HR: 70.0}
    assert player.at(10.0) == {}
    assert player.at(100.0) == {Kind.RR: 14.0, Kind.HR: 80.0}
    assert not player.silent(5.0)
