"""The pure pipeline: every window gets one verdict, whatever arrives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ecg import regular, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.bedside.decide import Decision
from edgeward.bedside.effects import (
    BeatFound,
    Effect,
    InputChanged,
    QualityChanged,
    RateChanged,
    SamplesArrived,
    Scored,
    ScoreWindow,
)
from edgeward.bedside.pipeline import EcgPipeline
from edgeward.bedside.stage_timer import NoTimer
from edgeward.bedside.verdict import Outcome, Reason, Verdict
from edgeward.kernel.errors import InputError
from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.signal.quality import Flag

SPEC = BeatWindowSpec()
NORMAL = np.array([0.9, 0.05, 0.03, 0.01, 0.01], dtype=np.float32)
MS = 1_000_000


def pipeline(rate_hz: float = 250.0, leads: tuple[str, ...] = ("II", "V1")) -> EcgPipeline:
    return EcgPipeline(leads, rate_hz, SPEC, Decision((0.0,) * 5), deadline_ms=4.0, timer=NoTimer())


def play(
    bed: EcgPipeline,
    wave: np.ndarray,
    cuts: list[int] | None = None,
    *,
    scores: np.ndarray | None = NORMAL,
    failure: Reason | None = None,
    latency_ns: int = MS,
    start: int = 0,
) -> list[Effect]:
    edges = [0, *sorted(set(cuts or range(50, wave.shape[1], 50))), wave.shape[1]]
    effects: list[Effect] = []
    for first, last in itertools.pairwise(edges):
        for effect in bed.step(SamplesArrived(wave[:, first:last], start + first, 0), 0):
            effects.append(effect)
            if isinstance(effect, ScoreWindow):
                effects += bed.step(Scored(effect.sequence, scores, failure), latency_ns)
    return effects


def verdicts(effects: list[Effect]) -> list[Verdict]:
    return [effect for effect in effects if isinstance(effect, Verdict)]


@pytest.mark.parametrize("rate_hz", [128.0, 250.0, 257.0, 360.0, 500.0, 1000.0])
def test_every_beat_gets_one_accepted_verdict_at_its_place(rate_hz: float) -> None:
    """At any source rate, each beat of a clean ECG is accepted once, within 40 ms of where it is."""
    times = regular(30.0)
    found = verdicts(play(pipeline(rate_hz), synthetic(times, 30.0, rate_hz)))
    assert all(v.outcome is Outcome.ACCEPTED and v.beat_class is BeatClass.N for v in found)
    places = np.array([v.source_index / rate_hz for v in found])
    for at in times[2:-4]:
        assert np.sum(np.abs(places - at) < 0.04) == 1, at


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 2999), max_size=60))
def test_blocks_change_no_verdict(cuts: list[int]) -> None:
    """However the same samples are cut into blocks, the verdicts are the same."""
    wave = synthetic(regular(12.0), 12.0, 250.0)
    wave[:, 1400:1500] = np.nan
    whole = verdicts(play(pipeline(), wave, [3000 - 1]))
    cut = verdicts(play(pipeline(), wave, [c for c in cuts if c < wave.shape[1]]))
    assert cut == whole


def test_lead_off_is_withheld_and_said() -> None:
    """With every lead off, windows are withheld as such, the mode's input is lost, and both come back."""
    wave = synthetic(regular(40.0), 40.0, 250.0)
    wave[:, 15 * 250 : 22 * 250] = np.nan
    effects = play(pipeline(), wave)
    changes = [e.lost for e in effects if isinstance(e, InputChanged)]
    assert len(changes) == 2
    assert changes[0] in (Reason.GAP, Reason.LEAD_OFF)
    assert changes[1] is None
    assert any(e.bpm is None for e in effects if isinstance(e, RateChanged))
    last = verdicts(effects)[-1]
    assert last.outcome is Outcome.ACCEPTED
    assert last.index > 25 * 250


def test_one_lead_off_is_judged_by_the_other() -> None:
    """While one of two leads is off the beats are still found and judged; the page is told which lead."""
    times = regular(30.0)
    wave = synthetic(times, 30.0, 250.0)
    wave[1, 10 * 250 :] = np.nan
    effects = play(pipeline(), wave)
    late = [v for v in verdicts(effects) if v.index > 13 * 250]
    assert len(late) >= 12
    assert all(v.outcome is Outcome.ACCEPTED for v in late)
    told = [e.leads for e in effects if isinstance(e, QualityChanged)]
    assert told[-1] == {"II": None, "V1": Flag.LEAD_OFF}


def test_an_engine_that_fails_costs_fallback_verdicts_only() -> None:
    """Without scores every beat is still found, and its verdict says why it has no class."""
    wave = synthetic(regular(20.0), 20.0, 250.0)
    effects = play(pipeline(), wave, scores=None, failure=Reason.ENGINE_CRASHED)
    found = verdicts(effects)
    assert found
    assert all(v.outcome is Outcome.FALLBACK and v.reason is Reason.ENGINE_CRASHED for v in found)
    assert all(v.beat_class is None and v.probability is None for v in found)
    assert sum(isinstance(e, BeatFound) for e in effects) >= len(found)


def test_late_scores_are_withheld() -> None:
    """Scores that come after the deadline are not shown: lateness is a verdict."""
    wave = synthetic(regular(20.0), 20.0, 250.0)
    found = verdicts(play(pipeline(), wave, latency_ns=5 * MS))
    assert found
    assert all(v.outcome is Outcome.WITHHELD and v.reason is Reason.LATE for v in found)


def test_a_short_hole_keeps_the_count_and_a_long_one_starts_afresh() -> None:
    """Verdict indices stay true to the source's clock across holes of any length."""
    for hole_s in (2, 60):
        bed = pipeline()
        first = synthetic(regular(15.0), 15.0, 250.0)
        second = synthetic(regular(15.0), 15.0, 250.0)
        play(bed, first)
        start = (15 + hole_s) * 250
        found = verdicts(play(bed, second, start=start))
        after = [v for v in found if v.index >= start]
        assert after
        places = np.array([(v.source_index - start) / 250 for v in after])
        for at in regular(15.0)[4:-4]:
            assert np.min(np.abs(places - at)) < 0.04


def test_repeated_samples_are_refused() -> None:
    """A block that goes back in time is an InputError, and the stream goes on after it."""
    bed = pipeline()
    wave = synthetic(regular(5.0), 5.0, 250.0)
    bed.step(SamplesArrived(wave[:, :500], 0, 0), 0)
    with pytest.raises(InputError) as refused:
        bed.step(SamplesArrived(wave[:, :500], 250, 0), 0)
    assert refused.value.code == "samples-repeated"
    bed.step(SamplesArrived(wave[:, 500:], 500, 0), 0)


def test_saturated_and_foreign_samples_never_raise() -> None:
    """Infinite, huge and clipped samples give verdicts, not exceptions."""
    wave = synthetic(regular(30.0), 30.0, 250.0)
    wave[:, 2000:2600] = np.inf
    wave[:, 3000:3600] = 1e30
    wave[:, 4000:4600] = -5.0
    found = verdicts(play(pipeline(), wave))
    assert all(v.outcome in (Outcome.ACCEPTED, Outcome.WITHHELD) for v in found)
    assert found[-1].outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("leads", "rate_hz", "code"),
    [
        (("II",), 50.0, "rate-unsupported"),
        ((), 250.0, "leads-unsupported"),
        (("II", "ECG II"), 250.0, "leads-repeated"),
    ],
)
def test_a_source_that_cannot_be_judged_is_refused_at_once(leads: tuple[str, ...], rate_hz: float, code: str) -> None:
    """Wrong rates and lead names are refused when the source is opened, with a code."""
    with pytest.raises(InputError) as refused:
        pipeline(rate_hz, leads)
    assert refused.value.code == code


def loss(wave: np.ndarray, first_s: float, last_s: float) -> np.ndarray:
    """``wave`` at 250 Hz with nothing arriving from ``first_s`` to ``last_s``."""
    wave[:, round(first_s * 250) : round(last_s * 250)] = np.nan
    return wave


def test_the_heart_rate_does_not_count_the_time_a_lead_was_off_as_one_interval() -> None:
    """After 12 s without leads a heart at 75/min shows no rate, then 75/min, and never anything slower."""
    effects = play(pipeline(), loss(synthetic(regular(50.0), 50.0, 250.0), 15.0, 27.0))
    rates = [e.bpm for e in effects if isinstance(e, RateChanged)]
    assert None in rates
    assert all(bpm is None or 65 <= bpm <= 85 for bpm in rates), rates


def test_a_long_hole_leaves_nothing_standing_that_was_said_before_it() -> None:
    """Input that was lost before a long hole is told to be back after it, and the old heart rate is taken back."""
    bed = pipeline()
    play(bed, loss(synthetic(regular(12.0), 12.0, 250.0), 10.0, 12.0))
    after = play(bed, synthetic(regular(15.0), 15.0, 250.0), start=30 * 250)
    assert [e.lost for e in after if isinstance(e, InputChanged)] == [None]
    bed = pipeline()
    play(bed, synthetic(regular(12.0), 12.0, 250.0))
    after = play(bed, np.full((2, 250), np.nan, dtype=np.float32), start=60 * 250)
    assert [e.bpm for e in after if isinstance(e, RateChanged)] == [None]
    assert [e.lost for e in after if isinstance(e, InputChanged)][-1] is Reason.GAP


@pytest.mark.parametrize("rate_hz", [250.0, 257.0])
def test_every_beat_before_a_long_hole_gets_its_verdict_at_its_place(rate_hz: float) -> None:
    """Beats whose look-ahead was under way when the hole began are judged, with the indices of their own time."""
    bed = pipeline(rate_hz)
    seconds = 12.0
    wave = synthetic(regular(seconds), seconds, rate_hz)
    effects = play(bed, wave)
    start = round(3600.5 * rate_hz)
    effects += play(bed, wave, start=start)
    effects += play(bed, wave, start=2 * start)
    found = [e.index for e in effects if isinstance(e, BeatFound) and e.index < 2 * 3600 * 250]
    judged = verdicts(effects)
    assert found == [v.index for v in judged if v.index < 2 * 3600 * 250]
    assert len(found) == len(set(found))
    for v in judged:
        assert abs(v.index / 250 - v.source_index / rate_hz) < 0.01
    for base in (0.0, start / rate_hz):
        places = np.array([v.source_index / rate_hz - base for v in judged])
        for at in regular(seconds)[2:-1]:
            assert np.sum(np.abs(places - at) < 0.04) == 1, (base, at)


def test_a_record_that_ends_soon_after_a_beat_keeps_that_beat() -> None:
    """The end of a record flushes the detector too: its last beats are found, and none beyond its end."""
    for rate_hz in (250.0, 360.0):
        times = regular(20.0)
        wave = synthetic(times, 20.0, rate_hz)[:, : round((times[-1] + 0.1) * rate_hz)]
        bed = pipeline(rate_hz)
        effects = play(bed, wave)
        for effect in bed.finish():
            effects.append(effect)
            if isinstance(effect, ScoreWindow):
                effects += bed.step(Scored(effect.sequence, NORMAL, None), 0)
        places = [v.source_index for v in verdicts(effects)]
        assert abs(places[-1] / rate_hz - times[-1]) < 0.04
        assert places[-1] < wave.shape[1]
        assert len(places) == len(set(places))
