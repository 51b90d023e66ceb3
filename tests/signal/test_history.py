"""A stay's history: by time, not by count; the same in any order and at any cadence; bounded; kept over restarts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.signal.history import BUCKETS_MAX, NS_PER_S, History

MINUTE = 60 * NS_PER_S
READINGS = st.lists(
    st.tuples(st.integers(0, 2), st.floats(-50, 400, allow_nan=False, width=32), st.integers(0, 40 * 60)),
    min_size=1,
    max_size=60,
)
"""Channel, value, second within forty minutes."""


def small(stays: int = 1) -> History:
    """Three channels, twelve buckets of five minutes."""
    return History(("hr", "map", "rr"), bucket_s=300, buckets=12, stays=stays)


def filled(readings: list[tuple[int, float, int]]) -> History:
    history = small()
    for channel, value, second in readings:
        history.put(0, channel, value, second * NS_PER_S)
    return history


def test_a_group_is_the_mean_of_its_buckets() -> None:
    """A bucket with a hundred values weighs no more than one with a single value."""
    history = small()
    for second in range(100):
        history.put(0, 0, 60.0, second * NS_PER_S)
    history.put(0, 0, 90.0, 6 * MINUTE)
    assert history.mean(2, 1)[0, 0, 0] == pytest.approx(75.0)
    assert np.isnan(history.mean(2, 1)[0, 1, 0])


def test_groups_come_newest_first_and_empty_ones_are_missing() -> None:
    """What was not measured is NaN, never zero."""
    history = small()
    history.put(0, 0, 1.0, 0)
    history.put(0, 0, 3.0, 10 * MINUTE)
    assert history.mean()[0, 0, :3].tolist() == pytest.approx([3.0, math.nan, 1.0], nan_ok=True)
    assert history.filled(3, 1)[0, 0, 0] == pytest.approx(2 / 3)


def test_what_is_older_than_the_ring_is_gone_but_stays_in_the_own_mean() -> None:
    """The ring is bounded; the patient's own mean is of the whole stay."""
    history = small()
    history.put(0, 0, 10.0, 0)
    history.put(0, 0, 20.0, 90 * MINUTE)
    assert np.nanmin(history.low()[0, 0]) == 20.0
    assert history.own_mean()[0, 0] == pytest.approx(15.0)
    assert not history.put(0, 0, 99.0, 0)
    assert history.own_mean()[0, 0] == pytest.approx(15.0)


def test_time_that_passes_empties_the_ring() -> None:
    """Silence is not the last value for ever."""
    history = small()
    history.put(0, 0, 10.0, 0)
    history.advance(3 * 3600 * NS_PER_S)
    assert np.isnan(history.mean()).all()
    assert history.last[0, 0] == 10.0
    assert history.age_s(3 * 3600 * NS_PER_S)[0, 0] == 3 * 3600
    assert math.isinf(history.age_s(0)[0, 1])


@given(READINGS, st.randoms(use_true_random=False))
def test_order_does_not_matter(readings: list[tuple[int, float, int]], random: object) -> None:
    """Late and reordered values give the same buckets as those in order."""
    shuffled = list(readings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = filled(sorted(readings, key=lambda reading: reading[2])), filled(shuffled)
    for read in (History.mean, History.low, History.high, History.filled):
        np.testing.assert_allclose(read(one, 2), read(other, 2), rtol=1e-9, atol=1e-9)


@given(READINGS)
def test_buckets_are_what_a_plain_list_gives(readings: list[tuple[int, float, int]]) -> None:
    """Against a slow reading of the definition."""
    history = filled(readings)
    newest = max(second for _, _, second in readings) // 300
    for channel in range(3):
        for group in range(4):
            means = []
            inside: list[float] = []
            for bucket in (newest - 3 * group - offset for offset in range(3)):
                values = [value for c, value, second in readings if c == channel and second // 300 == bucket]
                inside += values
                means += [sum(values) / len(values)] if values else []
            wanted = sum(means) / len(means) if means else math.nan
            assert history.mean(3)[0, channel, group] == pytest.approx(wanted, nan_ok=True, abs=1e-6)
            assert history.high(3)[0, channel, group] == pytest.approx(max(inside, default=math.nan), nan_ok=True)


@given(READINGS)
def test_memory_brings_everything_back(readings: list[tuple[int, float, int]]) -> None:
    """A restarted process goes on where the last one stood, through JSON."""
    history = filled(readings)
    back = History.from_memory(json.loads(json.dumps(history.to_memory(), allow_nan=False)))
    for each in (history, back):
        each.put(0, 1, 70.0, 45 * MINUTE)
    np.testing.assert_allclose(history.mean(2), back.mean(2), atol=1e-5)
    np.testing.assert_allclose(history.low(), back.low(), atol=1e-5)
    np.testing.assert_allclose(history.own_mean(), back.own_mean(), atol=1e-5)
    np.testing.assert_array_equal(history.last, back.last)
    np.testing.assert_array_equal(history.age_s(50 * MINUTE), back.age_s(50 * MINUTE))


def test_a_batch_in_lock_step_is_each_stay_alone() -> None:
    """Training replays many stays at once; the bedside one: the same numbers."""
    rng = np.random.default_rng(3)
    batch, alone = small(stays=4), [small() for _ in range(4)]
    for minute in range(0, 120, 7):
        there = rng.random((4, 3)) < 0.5
        values = rng.normal(80, 10, (4, 3))
        stays, channels = np.nonzero(there)
        batch.put(stays, channels, values[there], minute * MINUTE)
        for stay, channel in zip(stays, channels, strict=True):
            alone[stay].put(0, int(channel), float(values[stay, channel]), minute * MINUTE)
        for history in (batch, *alone):
            history.advance(minute * MINUTE)
    for stay, history in enumerate(alone):
        np.testing.assert_allclose(batch.mean(2)[stay], history.mean(2)[0])
        np.testing.assert_allclose(batch.own_mean()[stay], history.own_mean()[0])
        np.testing.assert_array_equal(batch.last[stay], history.last[0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda memory: memory.pop("rows"),
        lambda memory: memory.update(buckets=BUCKETS_MAX + 1),
        lambda memory: memory.update(bucket_ns="soon"),
        lambda memory: memory["rows"][0].__setitem__(0, [99]),
        lambda memory: memory["rows"][0].__setitem__(1, [float("nan")]),
        lambda memory: memory.update(last=None),
    ],
)
def test_a_spoilt_memory_is_refused(spoil: object) -> None:
    """The history begins anew rather than go on from nonsense."""
    memory = filled([(0, 80.0, 10)]).to_memory()
    spoil(memory)  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        History.from_memory(memory)
    assert caught.value.code == "history-memory"


def test_sizes_are_bounded() -> None:
    """A manifest cannot ask for more memory than a stay may take."""
    with pytest.raises(ValueError, match="1 to 4096"):
        History(("hr",), bucket_s=1, buckets=BUCKETS_MAX + 1)
    with pytest.raises(ValueError, match="does not hold"):
        small().mean(5, 4)
