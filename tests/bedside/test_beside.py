"""Another bundle comes to be in charge of an ECG stream: every beat is judged once, by one of the two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ecg import regular, synthetic

from edgeward.bedside.decide import Advisor, Decision
from edgeward.bedside.effects import Effect, SamplesArrived, Scored, ScoreWindow, SeenBeside
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.stage_timer import NoTimer
from edgeward.bedside.verdict import Outcome, Verdict
from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.signal.shape import MEMORY_BEATS

SPEC = BeatWindowSpec()
SOONER = BeatWindowSpec(before_s=0.6, after_s=0.5, lookahead_beats=1, max_wait_s=1.2)
NORMAL = np.array([0.9, 0.05, 0.03, 0.01, 0.01], dtype=np.float32)
EVEN = Decision((0.0,) * 5)
SECONDS = 90.0
WAVE = synthetic(regular(SECONDS), SECONDS, 250.0)
STEP = 25


class Stream:
    """A pipeline that is fed block by block; windows are scored as they come, by whichever bundle is in charge."""

    def __init__(self, spec: BeatWindowSpec = SPEC) -> None:
        self.bed = EcgPipeline(("II", "V1"), 250.0, spec, EVEN, deadline_ms=4.0, timer=NoTimer())
        self.effects: list[Effect] = []
        self.at = 0

    def play(self, until_s: float, start: int | None = None) -> None:
        shift = 0 if start is None else start - self.at
        while self.at < round(until_s * 250):
            block = WAVE[:, self.at : self.at + STEP]
            self.take(self.bed.step(SamplesArrived(block, self.at + shift, 0), 0))
            self.at += STEP

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, ScoreWindow):
                self.effects += self.bed.step(Scored(effect.sequence, NORMAL, None), 0)

    @property
    def judged(self) -> list[int]:
        return [effect.index for effect in self.effects if isinstance(effect, Verdict)]

    def windows(self, since: int = 0) -> dict[int, ScoreWindow]:
        return {one.index: one for one in self.effects if isinstance(one, ScoreWindow) and one.index >= since}

    @property
    def beside(self) -> dict[int, SeenBeside]:
        return {one.index: one for one in self.effects if isinstance(one, SeenBeside)}


def adopt(stream: Stream, spec: BeatWindowSpec) -> None:
    stream.bed.adopt(spec, EVEN, 4.0)


@pytest.mark.parametrize("tenth", range(0, 16, 3))
@pytest.mark.parametrize(("first", "then"), [(SPEC, SOONER), (SOONER, SPEC)])
def test_every_beat_is_judged_once_across_a_takeover_and_the_way_back(
    first: BeatWindowSpec, then: BeatWindowSpec, tenth: int
) -> None:
    """Wherever between two beats it comes, and whichever of the two looks further ahead."""
    plain, stream = Stream(first), Stream(first)
    plain.play(SECONDS)
    stream.bed.see_as(then)
    stream.play(30.0 + tenth / 10)
    adopt(stream, then)
    stream.play(40.0 + tenth / 10)
    adopt(stream, first)
    stream.play(SECONDS)
    assert stream.judged == sorted(set(stream.judged))
    assert set(plain.judged[:-4]) <= set(stream.judged)
    assert all(one.outcome is Outcome.ACCEPTED for one in stream.effects if isinstance(one, Verdict))


@pytest.mark.parametrize("tenth", range(0, 16, 3))
def test_a_takeover_that_comes_at_once_loses_no_beat_either(tenth: int) -> None:
    """A bundle that has seen nothing before withholds the beats that it cannot see."""
    plain, stream = Stream(), Stream()
    plain.play(40.0)
    stream.play(20.0 + tenth / 10)
    adopt(stream, SOONER)
    stream.play(40.0)
    assert stream.judged == sorted(set(stream.judged))
    assert set(plain.judged[:-4]) <= set(stream.judged)
    outcomes = [one.outcome for one in stream.effects if isinstance(one, Verdict)]
    assert outcomes.count(Outcome.WITHHELD) <= 4


def test_what_is_seen_beside_is_what_that_bundle_would_be_asked() -> None:
    """From the beat on at which it knows the patient's rhythm, and not before."""
    own, stream = Stream(SOONER), Stream(SPEC)
    own.play(SECONDS)
    stream.play(5.0)
    stream.bed.see_as(SOONER)
    stream.play(SECONDS)
    seen = stream.beside
    beats = [index for index in own.judged if index >= 5 * 250]
    assert list(seen) == [index for index in own.judged if index in seen]
    assert beats.index(next(iter(seen))) in (MEMORY_BEATS, MEMORY_BEATS + 1)
    asked = own.windows()
    for index, one in seen.items():
        assert one.wave is not None
        assert one.wave.shape == (1, *SOONER.wave_shape)
        assert np.abs(one.wave - asked[index].wave).max() < 0.05


def test_after_a_takeover_the_new_bundle_is_asked_its_own_windows() -> None:
    """It has seen the patient before, so its first windows are like those of a stream that was its own all along."""
    own, stream = Stream(SOONER), Stream(SPEC)
    own.play(SECONDS)
    stream.bed.see_as(SOONER)
    stream.play(45.0)
    adopt(stream, SOONER)
    stream.play(SECONDS)
    later = stream.windows(since=46 * 250)
    assert len(later) > 8
    for index, one in later.items():
        assert np.abs(one.wave - own.windows()[index].wave).max() < 0.05


def test_the_same_windows_are_not_cut_twice() -> None:
    """A bundle that sees the same needs nothing beside; a takeover then changes how scores are read, no more."""
    stream = Stream()
    stream.bed.see_as(BeatWindowSpec())
    stream.play(20.0)
    stream.bed.adopt(SPEC, Decision((0.0, 0.0, 9.0, 0.0, 0.0)), 4.0)
    since = len(stream.effects)
    stream.play(40.0)
    assert not stream.beside
    classes = {one.beat_class for one in stream.effects[since:] if isinstance(one, Verdict)}
    assert classes == {BeatClass.V}


def test_leads_that_are_off_are_seen_beside_as_no_window() -> None:
    """The candidate would withhold there, and says so."""
    stream = Stream()
    stream.bed.see_as(SOONER)
    stream.play(75.0)
    since = stream.at
    blank = np.full((2, 250), np.nan, dtype=np.float32)
    stream.take(stream.bed.step(SamplesArrived(blank, stream.at, 0), 0))
    stream.at += 250
    stream.play(82.0)
    assert any(one.wave is None for index, one in stream.beside.items() if index >= since - 250)
    stream.bed.see_as(None)
    count = len(stream.beside)
    stream.play(SECONDS)
    assert len(stream.beside) == count


def test_a_long_hole_begins_both_anew() -> None:
    """After it the candidate learns the patient again."""
    stream = Stream()
    stream.bed.see_as(SOONER)
    stream.play(70.0)
    assert stream.beside
    stream.play(SECONDS, start=stream.at + 60 * 250)
    assert max(stream.beside) < 70 * 250
    assert stream.judged == sorted(set(stream.judged))


def test_a_run_of_ectopic_beats_is_judged_by_one_bundle() -> None:
    """Not quiet from its second beat until its advisory is taken back; frequent single beats do not count."""
    advisor, at = Advisor(), 0

    def beats(*classes: BeatClass) -> None:
        nonlocal at
        for one in classes:
            at += 125
            advisor.beat(at, one)

    assert advisor.quiet
    for _ in range(8):
        beats(BeatClass.V, BeatClass.N)
    assert [advisory.code for advisory in advisor.active] == ["frequent-veb"]
    assert advisor.quiet
    beats(BeatClass.V, BeatClass.V)
    assert not advisor.quiet
    beats(BeatClass.V, BeatClass.N)
    assert "veb-run" in {advisory.code for advisory in advisor.active}
    assert not advisor.quiet
    advisor.passed(at + 31 * 250)
    assert advisor.quiet


def test_a_stream_is_quiet_where_its_advisor_is() -> None:
    """The pipeline says it for the bed."""
    stream = Stream()
    stream.play(20.0)
    assert stream.bed.quiet
    stream.bed.adopt(replace(SPEC), Decision((0.0, 0.0, 9.0, 0.0, 0.0)), 4.0)
    stream.play(30.0)
    assert not stream.bed.quiet
