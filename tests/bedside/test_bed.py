"""A bed joined to an engine that fails in every way: the stream never stops and every beat is accounted for."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ecg import regular, synthetic
from heard import Heard

from edgeward.bedside.bed import Bed, Rung
from edgeward.bedside.decide import Decision
from edgeward.bedside.fallback import Climb, Ladder, Mode
from edgeward.bedside.health import StageLatency
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.source.base import Block
from edgeward.bedside.system import SystemClock
from edgeward.bedside.verdict import Reason
from edgeward.inference.host import EngineHost, Failure, HostState, Readiness, Result
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.testing.bundles import tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

S = 1_000_000_000
SPEC = BeatWindowSpec()


@dataclass
class FakeClock:
    now: int = 0

    def monotonic_ns(self) -> int:
        return self.now


@dataclass
class FakeEngine:
    """Answers what it is told to; ``failures`` are given one by one, then it is well again."""

    failures: list[Failure] = field(default_factory=list)
    dead: bool = False
    asked: int = 0
    worker_pid: int | None = 1
    slow: FakeClock | None = None
    """Moved on by 5 ms at each answer."""

    def infer(self, inputs: Mapping[str, Any], *, budget_s: float) -> Result:
        self.asked += 1
        if self.slow is not None:
            self.slow.now += 5 * S // 1000
        if self.failures:
            return Result(None, self.failures.pop(0), 1)
        return Result(np.array([0.9, 0.04, 0.03, 0.02, 0.01], dtype=np.float32), None, 1)

    def check(self) -> Failure | None:
        return Failure.CRASHED if self.dead else None

    @property
    def ready(self) -> bool:
        return not self.dead

    @property
    def state(self) -> HostState:
        return HostState(Readiness.READY, 0, True, None)


def make(
    engine: Any,
    clock: Any,
    dwell_s: float = 60.0,
    deadline_ms: float = 4.0,
    ladder: Ladder | None = None,
    backup: Any = None,
) -> tuple[Bed, Heard]:
    heard = Heard()
    latency = StageLatency(clock)
    pipeline = EcgPipeline(("II", "V1"), 250.0, SPEC, Decision((0.0,) * 5), deadline_ms=deadline_ms, timer=latency)
    climb = Climb(dwell_ns=round(dwell_s * S))
    engines = {Mode.LOCAL: engine, Mode.LOCAL_PREVIOUS: backup}
    rungs = {mode: Rung(held, Decision((0.0,) * 5)) for mode, held in engines.items() if held is not None}
    return Bed(pipeline, rungs, [heard], clock, latency, climb=climb, ladder=ladder, budget_ms=deadline_ms), heard


def play(bed: Bed, clock: FakeClock, seconds: float) -> None:
    wave = synthetic(regular(seconds), seconds, 250.0)
    for start in range(0, wave.shape[1], 10):
        clock.now = start * S // 250
        bed.block(Block(wave[:, start : start + 10], start, clock.now))


def test_every_failure_drops_at_once_and_the_way_back_is_earned() -> None:
    """A crash costs Fallback verdicts, then probation for the dwell, then accepted windows again."""
    clock = FakeClock()
    engine = FakeEngine(failures=[Failure.CRASHED])
    bed, heard = make(engine, clock, dwell_s=20.0)
    play(bed, clock, 40.0)
    modes = [(m["mode"], m["reason"]) for m in heard.of("mode")]
    assert modes == [("LOCAL", ""), ("THRESHOLD_ONLY", "engine_crashed"), ("LOCAL", "")]
    whys = [b["why"] for b in heard.of("beat")]
    assert whys[0] == "engine_crashed"
    assert set(whys) == {"engine_crashed", "probation", ""}
    assert "" not in whys[: whys.index("probation") + 20]
    assert bed.counts["accepted"] + bed.counts["fallback"] + bed.counts["withheld"] == len(whys)
    assert engine.asked >= len(whys) - bed.counts["withheld"]


def test_the_bundle_before_takes_over_and_gives_back() -> None:
    """While the present engine fails, the previous one earns the bed; the present one takes it back when it can."""
    clock = FakeClock()
    present, before = FakeEngine(failures=[Failure.CRASHED] * 40), FakeEngine()
    bed, heard = make(present, clock, dwell_s=20.0, backup=before)
    play(bed, clock, 90.0)
    modes = [(m["mode"], m["reason"]) for m in heard.of("mode")]
    assert modes == [
        ("LOCAL", ""),
        ("THRESHOLD_ONLY", "engine_crashed"),
        ("LOCAL_PREVIOUS", "engine_crashed"),
        ("LOCAL", ""),
    ]
    assert [b["why"] for b in heard.of("beat")][-1] == ""
    assert before.asked > 0


@pytest.mark.parametrize("failure", list(Failure))
def test_each_failure_has_its_own_reason_and_notice(failure: Failure) -> None:
    """Crash, hang, nonsense and not-ready are told apart on the banner and in the verdict."""
    clock = FakeClock()
    bed, heard = make(FakeEngine(failures=[failure]), clock)
    play(bed, clock, 8.0)
    reason = heard.of("mode")[-1]["reason"]
    assert heard.of("mode")[-1]["mode"] == "THRESHOLD_ONLY"
    assert heard.of("beat")[0]["why"] == reason


def test_an_engine_that_dies_between_two_beats_is_noticed_within_a_second() -> None:
    """No window is needed to notice: the engine is looked at every 100 ms."""
    clock = FakeClock()
    engine = FakeEngine()
    bed, heard = make(engine, clock)
    engine.dead = True
    quiet = np.zeros((2, 10), dtype=np.float32)
    for k in range(25):
        clock.now = k * S // 25
        bed.block(Block(quiet, 10 * k, clock.now))
    assert bed.mode is Mode.THRESHOLD_ONLY
    assert heard.of("mode")[-1]["reason"] == "engine_crashed"


def test_without_a_bundle_beats_and_limits_are_watched_all_the_same() -> None:
    """No engine at all: heart rate and beats without a class, and the banner says why."""
    clock = FakeClock()
    bed, heard = make(None, clock)
    play(bed, clock, 15.0)
    assert bed.mode is Mode.THRESHOLD_ONLY
    assert heard.of("mode")[-1]["reason"] == "no_bundle"
    assert heard.of("rate")[-1]["hr_bpm"] == 75
    assert {b["why"] for b in heard.of("beat")} == {"no_bundle"}


def test_a_refused_block_is_counted_and_the_stream_goes_on() -> None:
    """Samples sent twice are dropped with a word; what follows is judged."""
    clock = FakeClock()
    bed, heard = make(FakeEngine(), clock)
    play(bed, clock, 5.0)
    bed.block(Block(np.zeros((2, 10), dtype=np.float32), 0, 0))
    assert heard.of("source") == [{"refused": "samples-repeated"}]
    assert bed.counts["refused_blocks"] == 1


def test_late_answers_do_not_earn_trust_back() -> None:
    """After a crash an engine that answers, but always past the deadline, stays on probation."""
    clock = FakeClock()
    bed, heard = make(FakeEngine(failures=[Failure.CRASHED], slow=clock), clock, dwell_s=1.0)
    play(bed, clock, 30.0)
    assert bed.mode is Mode.THRESHOLD_ONLY
    assert "probation" in {b["why"] for b in heard.of("beat")}
    clock = FakeClock()
    punctual, _ = make(FakeEngine(failures=[Failure.CRASHED]), clock, dwell_s=1.0)
    play(punctual, clock, 30.0)
    assert punctual.mode is Mode.LOCAL


def test_another_monitor_earns_no_trust_back() -> None:
    """A bed that begins anew with an engine on probation begins on probation, and says why."""
    clock = FakeClock()
    engine = FakeEngine(failures=[Failure.HUNG])
    before, _ = make(engine, clock)
    play(before, clock, 8.0)
    bed, heard = make(engine, clock, ladder=before.ladder)
    play(bed, clock, 8.0)
    assert heard.of("mode")[0]["mode"] == "THRESHOLD_ONLY"
    assert heard.of("mode")[0]["reason"] == "engine_hung"
    assert {b["why"] for b in heard.of("beat")} == {"probation"}
    without, _ = make(None, clock)
    _, told = make(None, clock, ladder=without.ladder)
    assert [m["reason"] for m in told.of("mode")] == ["no_bundle"]


@pytest.mark.workshop
def test_a_real_engine_killed_mid_stream_loses_no_beat(tmp_path: Path) -> None:
    """SIGKILL of the real worker: the stream runs on, each beat has a verdict, and scores come back."""
    path = tmp_path / "b.ewb"
    channels, samples = SPEC.wave_shape
    path.write_bytes(tiny_bundle(channels=channels, samples=samples, rhythm=SPEC.rhythm_len))
    seconds = 30.0
    wave = synthetic(regular(seconds), seconds, 250.0)
    with EngineHost(path) as host:
        deadline = time.monotonic() + 20.0
        while not host.state.standby and time.monotonic() < deadline:
            time.sleep(0.02)
        bed, heard = make(host, SystemClock(), dwell_s=0.0, deadline_ms=5000.0)  # a busy machine changes nothing
        for start in range(0, wave.shape[1], 25):
            if start == 2500:
                assert host.worker_pid is not None
                os.kill(host.worker_pid, signal.SIGKILL)
            if start == 5000:
                time.sleep(0.25)  # the stream runs faster than life: let the bed look at its engine once more
            bed.block(Block(wave[:, start : start + 25], start, time.monotonic_ns()))
        assert host.state.restarts == 1
    beats = heard.of("beat")
    places = np.array([b["i"] / 250 for b in beats])
    for at in regular(seconds)[2:-4]:
        assert np.sum(np.abs(places - at) < 0.04) == 1
    assert [m["mode"] for m in heard.of("mode")][:2] == ["LOCAL", "THRESHOLD_ONLY"]
    assert beats[-1]["verdict"] == "accepted"
    assert bed.mode is Mode.LOCAL


@pytest.mark.workshop
def test_a_real_engine_that_hangs_while_no_beat_comes_is_noticed(tmp_path: Path) -> None:
    """A flat line asks for no score; the engine that stops meanwhile is replaced before the next beat needs it."""
    path = tmp_path / "b.ewb"
    channels, samples = SPEC.wave_shape
    path.write_bytes(tiny_bundle(channels=channels, samples=samples, rhythm=SPEC.rhythm_len))
    flat = np.zeros((2, 25), dtype=np.float32)
    with EngineHost(path, standby=False) as host:
        bed, heard = make(host, SystemClock())
        stopped = host.worker_pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        deadline, start = time.monotonic() + 20.0, 0
        while bed.ladder.why is None and time.monotonic() < deadline:
            bed.block(Block(flat, start, time.monotonic_ns()))
            start += 25
            time.sleep(0.1)
        assert bed.ladder.why is Reason.ENGINE_HUNG
        assert bed.ladder.serving is Mode.THRESHOLD_ONLY
        assert not heard.of("beat")
        assert host.worker_pid != stopped


def test_an_engine_that_is_always_late_is_not_called_local() -> None:
    """One late window is a verdict; five in a row drop to threshold only; a punctual engine stays local."""
    clock = FakeClock()
    engine = FakeEngine(slow=clock)
    bed, heard = make(engine, clock, dwell_s=1.0)
    play(bed, clock, 12.0)
    whys = [b["why"] for b in heard.of("beat")]
    assert whys[:5] == ["late"] * 5
    assert [(m["mode"], m["reason"]) for m in heard.of("mode")] == [("LOCAL", ""), ("THRESHOLD_ONLY", "late")]
    clock, engine = FakeClock(), FakeEngine(slow=None)
    punctual, told = make(engine, clock, dwell_s=1.0)
    play(punctual, clock, 12.0)
    assert [m["mode"] for m in told.of("mode")] == ["LOCAL"]
