"""An ECG bed and its threshold alerts: from samples over numerics to the checks and back, whatever fails on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ecg import regular, synthetic
from test_bed import SPEC, FakeClock, FakeEngine, Heard, S

from edgeward.bedside.bed import Bed, Rung
from edgeward.bedside.bed_alerts import LOOK_NS, BedAlerts
from edgeward.bedside.decide import Decision
from edgeward.bedside.fallback import Mode
from edgeward.bedside.feed import Population
from edgeward.bedside.health import StageLatency
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.recall import Care
from edgeward.bedside.source.base import Block
from edgeward.bedside.thresholds.core import ThresholdCore
from edgeward.bedside.thresholds.down import START_NS
from edgeward.bedside.thresholds.settings import Latch, ThresholdSettings
from edgeward.inference.host import Failure
from edgeward.kernel.limits import NOTICE_MS_MAX
from edgeward.testing.side import LocalSide

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = ThresholdSettings(latch=Latch.NONE, news2=False)
BLOCK = 10


class Watched:
    """A bed with an engine, a thresholds core behind it, and a reader."""

    def __init__(self, engine: Any = None, settings: ThresholdSettings = SETTINGS, **patient: Any) -> None:
        self.clock = FakeClock()
        self.heard = Heard()
        self.side = LocalSide("thresholds", lambda: ThresholdCore(settings), self.clock)
        latency = StageLatency(self.clock)
        pipeline = EcgPipeline(("II", "V1"), 250.0, SPEC, Decision((0.0,) * 5), deadline_ms=4.0, timer=latency)
        self.alerts = BedAlerts(self.side, 1, "bed", self.clock.now, **patient)
        rungs = {Mode.LOCAL: Rung(engine, Decision((0.0,) * 5))} if engine is not None else {}
        self.bed = Bed(pipeline, rungs, [self.heard], self.clock, latency, alerts=self.alerts, budget_ms=4.0)

    def play(self, wave: np.ndarray, start: int = 0, before: Callable[[float], None] | None = None) -> None:
        """Blocks of 40 ms at their time; ``before`` is called with the second before each."""
        for at in range(0, wave.shape[1], BLOCK):
            self.clock.now = (start + at) * S // 250
            if before is not None:
                before(self.clock.now / S)
            self.bed.block(Block(wave[:, at : at + BLOCK], start + at, self.clock.now))

    def changes(self, code: str = "") -> list[tuple[str, bool]]:
        """Alerts as (code, active), in order."""
        return [(a["code"], a["active"]) for a in self.heard.of("alert") if code in ("", a["code"])]


def loss(wave: np.ndarray, first_s: float, last_s: float) -> np.ndarray:
    """``wave`` at 250 Hz with nothing arriving from ``first_s`` to ``last_s``."""
    wave[:, round(first_s * 250) : round(last_s * 250)] = np.nan
    return wave


@pytest.mark.parametrize("engine", [None, FakeEngine(failures=[Failure.HUNG] * 1000)])
def test_a_silent_heart_raises_a_threshold_alert_without_any_model(engine: Any) -> None:
    """Four seconds without a beat on good leads raise asystole, though no score was ever given."""
    watched = Watched(engine)
    watched.play(synthetic([at for at in regular(30.0) if at < 12.0], 30.0, 250.0))
    assert ("asystole", True) in watched.changes()
    assert watched.bed.mode is not Mode.LOCAL


def test_a_flat_line_on_connected_leads_is_asystole_and_a_lead_off_is_not() -> None:
    """No AI can judge either, but only the flat line raises asystole; leads off are told as what they are."""
    for flat, code in ((np.float32(0.0), "asystole"), (np.float32(np.nan), "heart-not-measured")):
        wave = synthetic(regular(30.0), 30.0, 250.0)
        wave[:, 12 * 250 :] = flat
        watched = Watched()
        watched.play(wave)
        assert watched.changes() == [(code, True)]


def test_a_lead_that_was_off_makes_no_slow_heart() -> None:
    """After 12 s without leads a heart at 75/min raises nothing but the loss, and takes that back."""
    watched = Watched()
    watched.play(loss(synthetic(regular(50.0), 50.0, 250.0), 15.0, 27.0))
    assert watched.changes() == [("heart-not-measured", True), ("heart-not-measured", False)]


@pytest.mark.parametrize("lost_s", [0.004, 0.3])
def test_short_losses_neither_delay_nor_clear_asystole(lost_s: float) -> None:
    """On a line that loses samples every 3 s a silent heart is still found, and stays found until a beat comes."""
    wave = synthetic([at for at in regular(60.0) if not 10.0 < at < 40.0], 60.0, 250.0)
    for at in np.arange(1.596, 60.0, 3.0):
        loss(wave, at, at + lost_s)
    watched = Watched()
    raised_at: list[float] = []

    def look(second: float) -> None:
        if watched.changes("asystole") and not raised_at:
            raised_at.append(second)

    watched.play(wave, before=look)
    assert watched.changes("asystole") == [("asystole", True), ("asystole", False)]
    assert 13.0 < raised_at[0] < 15.8
    raised, cleared = (a for a in watched.heard.of("alert") if a["code"] == "asystole")
    assert raised["id"] == cleared["id"]


def test_leads_that_were_off_do_not_end_asystole() -> None:
    """A raised asystole outlives a lead-off of 5 s; only a beat clears it."""
    wave = loss(synthetic([at for at in regular(60.0) if not 10.0 < at < 45.0], 60.0, 250.0), 20.0, 25.0)
    watched = Watched()
    watched.play(wave[:, : 44 * 250])
    assert watched.changes("asystole") == [("asystole", True)]
    watched.play(wave[:, 44 * 250 :], start=44 * 250)
    assert watched.changes("asystole") == [("asystole", True), ("asystole", False)]


def test_limits_are_the_patients() -> None:
    """150/min is told of an adult, not of an infant; alerts carry what broke what."""
    for patient, raised in (({}, True), ({"population": Population.PAEDIATRIC, "age_y": 0.3}, False)):
        watched = Watched(**patient)
        watched.play(synthetic(regular(20.0, rr_s=0.4), 20.0, 250.0))
        assert (watched.changes() != []) is raised
    alert = Watched()
    alert.play(synthetic(regular(20.0, rr_s=0.45), 20.0, 250.0))
    (told,) = alert.heard.of("alert")
    assert (told["code"], told["limit"], told["unit"], told["cause"]) == ("hr-high", 120.0, "/min", "physiological")
    assert "stay" not in told
    assert "bed" not in told


def test_a_dead_thresholds_process_is_told_and_its_alerts_come_back() -> None:
    """While nobody checks, the stream says so within a second; the next process takes the alert up under its id."""
    watched = Watched()
    wave = synthetic(regular(40.0, rr_s=0.4), 40.0, 250.0)
    watched.play(wave[:, : 15 * 250])
    before = watched.heard.of("alert")[-1]
    assert before["code"] == "hr-extreme-high"
    watched.heard.messages.clear()
    watched.side.die()
    watched.play(wave[:, 15 * 250 : 16 * 250], start=15 * 250)
    (down,) = watched.heard.of("alert")
    assert (down["code"], down["priority"], down["cause"], down["active"]) == (
        "thresholds-down",
        "high",
        "technical",
        True,
    )
    assert watched.heard.of("thresholds")[-1]["state"] == "crashed"
    assert LOOK_NS / 1e6 < NOTICE_MS_MAX
    watched.heard.messages.clear()
    watched.side.revive()
    watched.play(wave[:, 16 * 250 : 20 * 250], start=16 * 250)
    told = watched.heard.of("alert")
    assert [(a["code"], a["active"]) for a in told] == [("hr-extreme-high", True), ("thresholds-down", False)]
    assert told[0]["id"] == before["id"]
    assert told[1]["id"] == down["id"]


@pytest.mark.parametrize("care", [Care.WHOLE, Care.BEDS])
def test_an_alert_that_ended_while_nobody_checked_is_taken_back(care: Care) -> None:
    """By the numerics that came meanwhile, or, where its memory was given up, because nobody tells it again."""
    watched = Watched()
    fast = synthetic(regular(15.0, rr_s=0.4), 15.0, 250.0)
    calm = synthetic(regular(30.0), 30.0, 250.0)
    watched.play(fast)
    watched.side.die()
    watched.play(calm[:, : 20 * 250], start=15 * 250)
    watched.side.revive(care)
    watched.play(calm[:, 20 * 250 :], start=35 * 250)
    told = [active for _, active in watched.changes("hr-extreme-high")]
    assert (told[0], told[-1]) == (True, False)
    assert watched.alerts.end(watched.clock.now) == []


def test_a_process_that_is_not_there_from_the_start_is_told_within_a_second() -> None:
    """Not at once, for a process needs a moment to start; but before a second has passed."""
    watched = Watched()
    watched.side.die()
    watched.side.check(0)
    told: list[float] = []

    def look(second: float) -> None:
        if watched.changes() and not told:
            told.append(second)

    watched.play(np.zeros((2, 500), dtype=np.float32), before=look)
    assert watched.changes() == [("thresholds-down", True)]
    assert START_NS / 1e9 < told[0] <= NOTICE_MS_MAX / 1000


def test_a_bed_that_ends_takes_back_what_it_raised() -> None:
    """When a monitor comes back as another, no reader is left with an alert of the bed before."""
    watched = Watched(FakeEngine())
    watched.play(np.zeros((2, 2000), dtype=np.float32))
    watched.bed.end()
    raised, ended = watched.heard.of("alert")
    assert (raised["code"], raised["active"], ended["active"]) == ("asystole", True, False)
    assert raised["id"] == ended["id"]
    fresh = BedAlerts(watched.side, 2, "bed", watched.clock.now)
    watched.clock.now += S
    assert fresh.look(watched.clock.now) == []


def test_numerics_go_out_four_times_a_second_whatever_the_blocks() -> None:
    """The way to the checks is paced: a block of 4 ms costs no line of its own."""
    watched = Watched()
    fed: list[Any] = []
    watched.side.feed = fed.append  # type: ignore[method-assign]
    watched.play(synthetic(regular(10.0), 10.0, 250.0))
    assert 33 <= len(fed) <= 41
