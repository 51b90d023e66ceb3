"""The ring holds exactly the newest samples, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.signal.window import Ring


@given(
    capacity=st.integers(1, 20),
    blocks=st.lists(st.integers(0, 45), max_size=12),
    start=st.integers(-5, 200),
    length=st.integers(0, 30),
)
def test_a_cut_is_what_was_pushed_and_zero_where_nothing_is_held(
    capacity: int, blocks: list[int], start: int, length: int
) -> None:
    """Any cut equals the whole history, with zeros before the first sample and for what was forgotten."""
    ring = Ring(2, capacity)
    history = np.zeros((2, 0), dtype=np.float32)
    for n in blocks:
        new = np.arange(history.shape[1] + 1, history.shape[1] + n + 1, dtype=np.float32)
        ring.push(np.stack((new, -new)))
        history = np.concatenate((history, np.stack((new, -new))), axis=1)
    end = history.shape[1]
    assert ring.end == end
    assert ring.start == end - min(end, capacity)
    if start + length > end:
        with pytest.raises(ValueError, match="has not arrived"):
            ring.cut(start, start + length)
        return
    cut = ring.cut(start, start + length)
    for k, index in enumerate(range(start, start + length)):
        if index >= ring.start:
            assert np.array_equal(cut[:, k], history[:, index])
        elif index < 0:
            assert not cut[:, k].any()
        else:
            assert not cut[:, k].any() or np.array_equal(cut[:, k], history[:, index])


def test_a_ring_without_room_is_refused() -> None:
    """Zero channels or samples are a caller's mistake."""
    with pytest.raises(ValueError, match="at least one"):
        Ring(0, 10)
