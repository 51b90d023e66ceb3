"""When the question of hypotension is asked: pressures dense, none low, to the minute."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.signal.hypotension import LOW_PRESSURE, NO_ARTERIAL_PRESSURE, SPARSE_PRESSURE, why_not_asked


@pytest.mark.parametrize(
    ("minutes", "pressures", "wanted"),
    [
        ([], [], NO_ARTERIAL_PRESSURE),
        ([30], [80], NO_ARTERIAL_PRESSURE),
        ([55, 70, 85, 100], [80, 80, 80, 80], None),
        ([40, 55, 70, 85, 100], [80, 80, 80, 80, 80], None),
        ([54, 70, 85, 100], [80, 80, 80, 80], SPARSE_PRESSURE),
        ([70, 85, 100], [80, 80, 80], SPARSE_PRESSURE),
        ([56, 71, 86, 98], [80, 80, 80, 80], SPARSE_PRESSURE),
        ([55, 70, 85], [80, 80, 80], SPARSE_PRESSURE),
        ([50, 60, 70, 84], [80, 80, 80, 80], SPARSE_PRESSURE),
        ([55, 70, 85, 100], [80, 64.9, 80, 80], LOW_PRESSURE),
        ([40, 55, 70, 85, 100], [64.9, 80, 80, 80, 80], LOW_PRESSURE),
        ([39, 55, 70, 85, 100], [64.9, 80, 80, 80, 80], None),
        ([55, 70, 85, 100], [65.0, 65.0, 65.0, 65.0], None),
        ([100], [60], LOW_PRESSURE),
    ],
)
def test_the_question_is_asked_where_pressures_are_dense_and_none_is_low(
    minutes: list[int], pressures: list[float], wanted: str | None
) -> None:
    """At minute 100: four values in the hour, no gap over 15 min up to now, the first by minute 55, none below 65."""
    found = why_not_asked(100, np.array(minutes, dtype=np.int64), np.array(pressures, dtype=np.float64))
    assert found == wanted
