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
    AlertChanged,
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
from edgeward.bedside.verdict import Outcome, Reason, Verdict
from edgeward.kernel.errors import InputError
from edgeward.signal.beat import BeatClass
from edgeward.signal.preprocess import BeatWindowSpec
from edgeward.signal.quality import Flag

SPEC = BeatWindowSpec()
NORMAL = np.array([0.9, 0.05, 0.03, 0.01, 0.01], dtype=np.float32)
MS = 1_000_000


class NoTimer:
    def start(self) -> int:
        return 0

    def lap(self, stage: str, mark: int) -> int:
        return 0


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


def test_a_silent_heart_raises_a_threshold_alert_without_any_model() -> None:
    """Four seconds without a beat on good leads raise asystole, though no score was ever given."""
    wave = synthetic([at for at in regular(30.0) if at < 12.0], 30.0, 250.0)
    effects = play(pipeline(), wave, scores=None, failure=Reason.NO_BUNDLE)
    raised = [e.alert.code for e in effects if isinstance(e, AlertChanged) and e.alert.active]
    assert "asystole" in raised


def test_a_flat_line_on_connected_leads_is_asystole_and_a_lead_off_is_not() -> None:
    """No AI can judge either, but only the flat line raises the threshold alert."""
    for flat, raised in ((np.float32(0.0), True), (np.float32(np.nan), False)):
        wave = synthetic(regular(30.0), 30.0, 250.0)
        wave[:, 12 * 250 :] = flat
        effects = play(pipeline(), wave)
        codes = [e.alert.code for e in effects if isinstance(e, AlertChanged) and e.alert.active]
        assert ("asystole" in codes) is raised
        assert [e.lost for e in effects if isinstance(e, InputChanged)][-1] is not None


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
