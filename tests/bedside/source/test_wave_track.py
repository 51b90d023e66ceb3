"""Leads in pieces become one stream: every sample at the index of its time, once, or missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.bedside.source.wave_track import HELD_S, WAIT_S, FloatArray, WaveTrack
from edgeward.kernel.clock import NS_PER_S

RATE = 250.0
PIECE = 25
BEGAN_MS = 1_700_000_000_000
TRUTH = np.arange(2 * 5000, dtype=np.float32).reshape(2, 5000)  # (lead, index)


def _put(track: WaveTrack, lead: int, number: int, *, late_s: float = 0.0, jitter_ms: int = 0, set_ms: int = 0) -> None:
    """Piece ``number`` of a lead, received when its last sample was taken, or later."""
    first = number * PIECE
    track.put(
        lead,
        TRUTH[lead, first : first + PIECE],
        version=number + 1,
        stamped_ms=BEGAN_MS + round(first * 1000 / RATE) + jitter_ms + set_ms,
        received_ns=_ns((first + PIECE) / RATE + late_s),
    )


def _ns(seconds: float) -> int:
    return 1_000_000 * NS_PER_S + round(seconds * NS_PER_S)


def _stream(pieces: list[tuple[int, FloatArray]]) -> dict[int, FloatArray]:
    """Samples by index; fails where an index comes twice or goes back."""
    found: dict[int, FloatArray] = {}
    behind = 0
    for start, samples in pieces:
        assert start >= behind
        assert samples.shape[1] >= 1
        behind = start + samples.shape[1]
        found.update((start + k, samples[:, k]) for k in range(samples.shape[1]))
    return found


def test_leads_that_come_apart_are_joined() -> None:
    """One piece of each lead after the other: nothing is given before all are there, then all of it."""
    track = WaveTrack(2, RATE)
    got: list[tuple[int, FloatArray]] = []
    for number in range(20):
        _put(track, 0, number)
        assert list(track.take(_ns((number + 1) * PIECE / RATE))) == []
        _put(track, 1, number)
        got += track.take(_ns((number + 1) * PIECE / RATE))
    assert [start for start, _ in got] == [number * PIECE for number in range(20)]
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in got], axis=1), TRUTH[:, : 20 * PIECE])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sets(st.integers(0, 1)), st.integers(-20, 20)), min_size=1, max_size=80),
    st.booleans(),
)
def test_every_sample_is_at_the_index_of_its_time(sent: list[tuple[set[int], int]], repeated: bool) -> None:
    """Whatever is lost of whichever lead, and whatever the jitter: a sample given out is that of its index."""
    track = WaveTrack(2, RATE)
    got: list[tuple[int, FloatArray]] = []
    for number, (leads, jitter_ms) in enumerate(sent):
        for lead in sorted(leads):
            for _ in range(1 + repeated):
                _put(track, lead, number, jitter_ms=jitter_ms if number else 0)
        got += track.take(_ns((number + 1) * PIECE / RATE))
    got += track.take(_ns(1e6), everything=True)
    first = next((number for number, (leads, _) in enumerate(sent) if leads), 0)
    complete = all(leads == {0, 1} for leads, _ in sent)
    for index, column in _stream(got).items():
        for lead in range(2):
            if not np.isnan(column[lead]):
                off = abs(column[lead] - TRUTH[lead, index + first * PIECE])
                # After a loss only the timestamp places a piece, and it is as good as its jitter.
                assert off <= (0 if complete else 2 * 20 * RATE / 1000 + 1)
    if complete:
        assert len(_stream(got)) == len(sent) * PIECE


def test_a_lost_piece_of_all_leads_is_a_jump_of_the_index() -> None:
    """The hole is as long as what was lost."""
    track = WaveTrack(2, RATE)
    for number in (0, 1, 4, 5):
        _put(track, 0, number)
        _put(track, 1, number)
    assert [(start, samples.shape[1]) for start, samples in track.take(_ns(1))] == [(0, 50), (100, 50)]


def test_a_lost_piece_of_one_lead_is_missing_samples() -> None:
    """The other lead's samples are there."""
    track = WaveTrack(2, RATE)
    for number in range(4):
        _put(track, 0, number)
        if number != 2:
            _put(track, 1, number)
    ((_, samples),) = track.take(_ns(0.4))
    np.testing.assert_array_equal(samples[0], TRUTH[0, :100])
    assert np.isnan(samples[1, 50:75]).all()
    np.testing.assert_array_equal(samples[1, 75:], TRUTH[1, 75:100])


def test_a_lead_that_stays_away_holds_up_the_others_once() -> None:
    """After a while it is given up; when it sends again it is back."""
    track = WaveTrack(2, RATE)
    _put(track, 0, 0)
    assert list(track.take(_ns(0.1 + WAIT_S / 2))) == []
    ((start, samples),) = track.take(_ns(0.1 + WAIT_S))
    assert start == 0
    assert np.isnan(samples[1]).all()
    _put(track, 0, 1)
    assert [s.shape[1] for _, s in track.take(_ns(0.2))] == [PIECE]
    for lead in range(2):
        _put(track, lead, 2)
    ((start, samples),) = track.take(_ns(0.3))
    assert start == 50
    np.testing.assert_array_equal(samples, TRUTH[:, 50:75])


def test_samples_that_come_after_a_silence_follow_it() -> None:
    """Time that was told to be missing is not told again otherwise, and no sample is lost for it."""
    track = WaveTrack(2, RATE)
    for lead in range(2):
        _put(track, lead, 0)
    assert [start for start, _ in track.take(_ns(0.1))] == [0]
    track.skip(160)
    for number in (1, 2, 3):
        for lead in range(2):
            _put(track, lead, number, late_s=0.6)
    ((start, samples),) = track.take(_ns(1.0))
    assert (start, track.dropped) == (160, 0)
    np.testing.assert_array_equal(samples, TRUTH[:, 25:100])


def test_a_lead_that_comes_too_late_alone_is_dropped() -> None:
    """The others were given without it, and it must not be moved beside what it does not belong to."""
    track = WaveTrack(2, RATE)
    for number in range(3):
        _put(track, 0, number)
    _put(track, 1, 0)
    assert [samples.shape[1] for _, samples in track.take(_ns(0.3 + WAIT_S))] == [25]
    assert [samples.shape[1] for _, samples in track.take(_ns(0.3 + WAIT_S))] == [50]
    for number in (1, 2, 3):
        _put(track, 1, number)
    _put(track, 0, 3)
    ((start, samples),) = track.take(_ns(0.8))
    assert (start, track.dropped) == (75, 50)
    np.testing.assert_array_equal(samples, TRUTH[:, 75:100])


@pytest.mark.parametrize("set_ms", [3_600_000, -3_600_000, 500, -500])
def test_a_clock_that_is_set_leaves_the_index_where_it_was(set_ms: int) -> None:
    """No hour of missing samples, and no sample lost, because somebody set the monitor's clock."""
    track = WaveTrack(2, RATE)
    got: list[tuple[int, FloatArray]] = []
    for number in range(10):
        for lead in range(2):
            _put(track, lead, number, set_ms=set_ms if number >= 5 else 0)
        got += track.take(_ns((number + 1) * PIECE / RATE))
    indices = sorted(_stream(got))
    assert len(indices) == 10 * PIECE
    assert indices[-1] <= 10 * PIECE + PIECE  # at most the time between two pieces


def test_a_consumer_that_does_not_take_loses_the_oldest() -> None:
    """Memory is bounded: the newest seconds are kept, and what was lost is counted."""
    track = WaveTrack(1, RATE)
    pieces = round(HELD_S * RATE / PIECE) + 8
    for number in range(pieces):
        _put(track, 0, number)
    ((start, samples),) = track.take(_ns(pieces * PIECE / RATE))
    assert (start, track.dropped) == (8 * PIECE, 8 * PIECE)
    assert samples.shape[1] == round(HELD_S * RATE)


def test_a_new_run_follows_what_was_before() -> None:
    """Versions and clock begin anew; the index does not."""
    track = WaveTrack(1, RATE)
    for number in range(3):
        _put(track, 0, number)
    assert len(list(track.take(_ns(0.3)))) == 1
    track.begin_anew()
    track.put(0, TRUTH[0, :PIECE], version=0, stamped_ms=5, received_ns=_ns(0.4))
    assert [start for start, _ in track.take(_ns(0.4))] == [75]
