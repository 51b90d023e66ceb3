"""NEWS2 against the chart of the Royal College of Physicians (2017): every cell and both sides of every edge."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.signal.news2 import (
    CHARTED_FRESH_S,
    FRESH_S,
    Item,
    Observations,
    Risk,
    applies,
    observe,
    oxygen_given,
    score,
)
from edgeward.signal.numeric import Kind

WELL = Observations(respiration=16, spo2=97, oxygen=False, systolic=120, pulse=70, consciousness=0, temperature=37.0)

# The chart, written once more by hand: points, lowest and highest value of each cell, from the lowest value up.
CHART: dict[str, list[tuple[int, float, float]]] = {
    "respiration": [(3, 0, 8), (1, 9, 11), (0, 12, 20), (2, 21, 24), (3, 25, 150)],
    "systolic": [(3, 0, 90), (2, 91, 100), (1, 101, 110), (0, 111, 219), (3, 220, 350)],
    "pulse": [(3, 0, 40), (1, 41, 50), (0, 51, 90), (1, 91, 110), (2, 111, 130), (3, 131, 350)],
    "temperature": [(3, 20.0, 35.0), (1, 35.1, 36.0), (0, 36.1, 38.0), (1, 38.1, 39.0), (2, 39.1, 45.0)],
}
SPO2: dict[tuple[int, bool], list[tuple[int, float, float]]] = {
    (1, False): [(3, 0, 91), (2, 92, 93), (1, 94, 95), (0, 96, 100)],
    (1, True): [(3, 0, 91), (2, 92, 93), (1, 94, 95), (0, 96, 100)],
    (2, False): [(3, 0, 83), (2, 84, 85), (1, 86, 87), (0, 88, 100)],
    (2, True): [(3, 0, 83), (2, 84, 85), (1, 86, 87), (0, 88, 92), (1, 93, 94), (2, 95, 96), (3, 97, 100)],
}


def _steps(low: float, high: float, step: float) -> list[float]:
    return [round(low + k * step, 1) for k in range(round((high - low) / step) + 1)]


@pytest.mark.parametrize("item", CHART)
def test_every_value_of_the_chart_scores_what_its_cell_says(item: str) -> None:
    """Each displayable value from one end of the chart to the other, one by one."""
    step = 0.1 if item == "temperature" else 1.0
    for points, low, high in CHART[item]:
        for value in _steps(low, high, step):
            assert score(replace(WELL, **{item: value})).points[Item(item)] == points, (item, value)


@pytest.mark.parametrize(("scale", "oxygen"), SPO2)
def test_every_saturation_scores_what_its_scale_says(scale: int, oxygen: bool) -> None:
    """Both scales, on air and on oxygen, each whole per cent."""
    for points, low, high in SPO2[(scale, oxygen)]:
        for value in _steps(low, high, 1.0):
            got = score(replace(WELL, spo2=value, oxygen=oxygen), scale)
            assert got.points[Item.SPO2] == points, value
            assert got.points[Item.OXYGEN] == (2 if oxygen else 0)


@pytest.mark.parametrize("item", CHART)
def test_a_value_between_two_cells_counts_as_a_monitor_shows_it(item: str) -> None:
    """Halves are shown rounded up, so 8.5 breaths are read as 9 and 8.4 as 8."""
    half = 0.05 if item == "temperature" else 0.5
    for (points_below, _, below), (points_above, _, _) in pairwise(CHART[item]):
        assert score(replace(WELL, **{item: below + half})).points[Item(item)] == points_above
        assert score(replace(WELL, **{item: below + 0.8 * half})).points[Item(item)] == points_below


@pytest.mark.parametrize(("level", "points"), [(0, 0), (1, 3), (2, 3), (3, 3), (4, 3)])
def test_anything_but_alert_scores_three(level: int, points: int) -> None:
    """New confusion, voice, pain and unresponsive weigh the same."""
    assert score(replace(WELL, consciousness=level)).points[Item.CONSCIOUSNESS] == points


def test_the_bands_of_risk_and_the_single_three() -> None:
    """0 to 4 low; any single 3 low-medium; 5 and 6 medium; 7 and more high, a 3 among them or not."""
    assert (score(WELL).score, score(WELL).risk) == (0, Risk.LOW)
    four = score(replace(WELL, respiration=22, spo2=92))
    assert (four.score, four.risk) == (4, Risk.LOW)
    three = score(replace(WELL, systolic=90))
    assert (three.score, three.risk) == (3, Risk.LOW_MEDIUM)
    four_with_three = score(replace(WELL, systolic=90, pulse=100))
    assert (four_with_three.score, four_with_three.risk) == (4, Risk.LOW_MEDIUM)
    five = score(replace(WELL, systolic=90, respiration=22))
    assert (five.score, five.risk) == (5, Risk.MEDIUM)
    six = score(replace(WELL, systolic=95, respiration=22, spo2=93))
    assert (six.score, six.risk) == (6, Risk.MEDIUM)
    seven = score(replace(WELL, systolic=95, respiration=22, spo2=93, pulse=91))
    assert (seven.score, seven.risk) == (7, Risk.HIGH)
    worst = Observations(respiration=4, spo2=70, oxygen=True, systolic=60, pulse=160, consciousness=4, temperature=34)
    assert score(worst).score == 20


def test_an_incomplete_score_is_a_lower_bound_and_says_so() -> None:
    """Missing items are named; low risk is claimed only when everything is known."""
    nothing = score(Observations())
    assert (nothing.score, nothing.risk, nothing.complete) == (None, None, False)
    assert nothing.missing == tuple(Item)
    only_temperature = score(Observations(temperature=37.0))
    assert (only_temperature.score, only_temperature.risk) == (0, None)
    assert Item.TEMPERATURE not in only_temperature.missing
    assert score(Observations(systolic=80)).risk is Risk.LOW_MEDIUM
    assert score(Observations(systolic=80, pulse=140, respiration=30)).risk is Risk.HIGH


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "respiration": st.floats(0, 150),
        "spo2": st.floats(0, 100),
        "oxygen": st.booleans(),
        "systolic": st.floats(0, 350),
        "pulse": st.floats(0, 350),
        "consciousness": st.integers(0, 4),
        "temperature": st.floats(20, 45),
    },
)


@given(ITEMS, ITEMS, st.sampled_from([1, 2]))
def test_more_knowledge_never_lowers_a_score_or_a_risk(known: dict, more: dict, scale: int) -> None:
    """Whatever else becomes known, the sum and the band can only rise: that is what a lower bound means."""
    some, all_of = score(Observations(**known), scale), score(Observations(**{**more, **known}), scale)
    assert (all_of.score or 0) >= (some.score or 0)
    ranks = [None, *Risk]
    if some.risk is not None:
        assert ranks.index(all_of.risk) >= ranks.index(some.risk)
    assert set(some.points) | set(some.missing) == set(Item)


def test_not_under_sixteen() -> None:
    """The report's own bound; an adult whose age nobody entered is scored."""
    assert not applies(15.9)
    assert applies(16.0)
    assert applies(None)


def test_oxygen_from_what_is_measured() -> None:
    """Air by 21 % or no flow, oxygen by more than 21 % or any flow, unknown without either."""
    assert oxygen_given(None, None) is None
    assert oxygen_given(21.4, None) is False
    assert oxygen_given(None, 0.0) is False
    assert oxygen_given(24.0, None) is True
    assert oxygen_given(21.0, 2.0) is True
    assert oxygen_given(40.0, 0.0) is True


def _known(values: dict[Kind, tuple[float, float]]) -> object:
    """``values``: kind → (value, age in s)."""

    def known(kind: Kind, seconds: float) -> float | None:
        value, age = values.get(kind, (0.0, float("inf")))
        return value if age <= seconds else None

    return known


def test_old_items_are_missing_and_the_preferred_source_wins() -> None:
    """Each item has its own age limit; ECG before pulse, line before cuff."""
    values = {
        Kind.HR: (80.0, 0.0),
        Kind.PULSE: (140.0, 0.0),
        Kind.ABP_SYS: (95.0, 5.0),
        Kind.NIBP_SYS: (130.0, 0.0),
        Kind.TEMP: (39.5, 5 * 3600.0),
        Kind.SPO2: (97.0, 601.0),
        Kind.RR: (14.0, 599.0),
    }
    seen = observe(_known(values))
    assert (seen.pulse, seen.systolic, seen.temperature, seen.respiration) == (80.0, 95.0, 39.5, 14.0)
    assert seen.spo2 is None
    assert observe(_known(values), CHARTED_FRESH_S).spo2 == 97.0
    values[Kind.HR] = (80.0, 9999.0)
    values[Kind.ABP_SYS] = (95.0, 9999.0)
    again = observe(_known(values))
    assert (again.pulse, again.systolic) == (140.0, 130.0)
    assert set(FRESH_S) == set(CHARTED_FRESH_S) == set(Item)


def test_a_coma_scale_stands_in_only_where_acvpu_is_missing() -> None:
    """15 is alert, less is not; the score says where it came from."""
    by_gcs = score(observe(_known({Kind.GCS: (15.0, 0.0)})))
    assert (by_gcs.points[Item.CONSCIOUSNESS], by_gcs.from_gcs) == (0, True)
    assert score(observe(_known({Kind.GCS: (14.0, 0.0)}))).points[Item.CONSCIOUSNESS] == 3
    both = score(observe(_known({Kind.GCS: (9.0, 0.0), Kind.ACVPU: (0.0, 0.0)})))
    assert (both.points[Item.CONSCIOUSNESS], both.from_gcs) == (0, False)


@pytest.mark.parametrize("wrong", [lambda: score(WELL, 3), lambda: score(replace(WELL, consciousness=5))])
def test_scales_and_levels_that_do_not_exist_are_refused(wrong: object) -> None:
    """Only what the report defines is scored."""
    with pytest.raises(ValueError):
        wrong()  # type: ignore[operator]
