"""The grid of a stay: causal, by time and not by count, missing as a state of its own, bounded, kept over restarts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import BundleError, InputError
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.vitals_features import FEATURES, KEPT
from edgeward.signal.vitals_grid import BELIEVED, CELL_MIN, CHANNELS, MINUTE_NS, STEPS, VITALS, Grid, VitalsGridSpec

NUMERICS = st.lists(
    st.tuples(
        st.sampled_from(KEPT),
        st.one_of(st.none(), st.floats(-10, 400, allow_nan=False, width=32)),
        st.integers(0, 12 * 60 * 60),
    ),
    max_size=80,
)
"""Kind, value (None: declared unmeasured) and second within twelve hours."""


def of(readings: list[tuple[Kind, float | None, int]], age_y: float | None = None) -> Grid:
    grid = Grid(age_y)
    for kind, value, second in readings:
        grid.update(Numeric(kind, value, second * 1_000_000_000))
    return grid


def channel(window: dict[str, np.ndarray], name: str) -> np.ndarray:
    return window["grid"][:, CHANNELS.index(name)]


def feature(window: dict[str, np.ndarray], name: str) -> float:
    return float(window["features"][FEATURES.index(name)])


def test_an_empty_stay_is_nothing_but_missing() -> None:
    """Never measured is value 0 with freshness 0, and NaN among the features."""
    window = Grid().window(10 * MINUTE_NS)
    assert window["grid"].shape == (STEPS, len(CHANNELS))
    assert not window["grid"].any()
    assert window["features"].shape == (len(FEATURES),)
    assert np.isnan(feature(window, "abp_mean_last"))


def test_a_value_is_carried_on_and_grows_stale() -> None:
    """Its cell is fresh; an hour later freshness is 1/e and the value still stands there."""
    grid = of([(Kind.HR, 105.0, 0)])
    window = grid.window(60 * MINUTE_NS)
    standard = (105.0 - VITALS[0].mean) / VITALS[0].spread
    assert channel(window, "hr")[-1] == pytest.approx(standard)
    assert channel(window, "hr_fresh")[-1] == pytest.approx(np.exp(-1), rel=1e-6)
    assert channel(window, "hr_fresh").max() == 1.0
    assert channel(window, "hr_fresh")[: STEPS - 13].max() == 0.0


@settings(deadline=None, max_examples=40)
@given(NUMERICS, st.integers(0, 12 * 60 * 60))
def test_windows_along_the_way_know_the_past_alone_and_disturb_nothing(
    readings: list[tuple[Kind, float | None, int]], cut: int
) -> None:
    """A stay that is asked while it goes on answers like one that had only those values, then and at the end."""
    ordered = sorted(readings, key=lambda row: row[2])
    past = [row for row in ordered if row[2] <= cut]
    then, end = cut * 1_000_000_000, 12 * 60 * MINUTE_NS
    going = of(past, 70.0)
    asked = going.window(then)
    for kind, value, second in ordered[len(past) :]:
        going.update(Numeric(kind, value, second * 1_000_000_000))
    for found, wanted in ((asked, of(past, 70.0).window(then)), (going.window(end), of(ordered, 70.0).window(end))):
        assert np.allclose(found["grid"], wanted["grid"], atol=1e-5)
        assert np.allclose(found["features"], wanted["features"], rtol=1e-4, atol=1e-3, equal_nan=True)
        assert np.isfinite(found["grid"]).all()
        assert not np.isinf(found["features"]).any()


@settings(deadline=None, max_examples=40)
@given(NUMERICS, st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(readings: list[tuple[Kind, float | None, int]], random: object) -> None:
    """Late and reordered values count in their own minute."""
    readings = [row for row in readings if row[2] <= 4 * 3600]
    unique = list({(kind, second): (kind, value, second) for kind, value, second in readings}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    now = 4 * 60 * MINUTE_NS
    one, two = of(sorted(unique, key=lambda row: row[2])).window(now), of(shuffled).window(now)
    for name in ("grid", "features"):
        assert np.allclose(one[name], two[name], rtol=1e-5, atol=1e-4, equal_nan=True)


def test_a_value_each_second_weighs_no_more_than_one_a_minute() -> None:
    """The same pressures, told sixty times as often, give the same inputs."""
    slow = of([(Kind.ABP_MEAN, 70.0 + minute % 5, 60 * minute) for minute in range(300)])
    fast = of([(Kind.ABP_MEAN, 70.0 + (second // 60) % 5, second) for second in range(300 * 60)])
    now = 299 * MINUTE_NS
    one, two = slow.window(now), fast.window(now)
    assert np.allclose(one["grid"], two["grid"], atol=1e-6)
    assert np.allclose(one["features"], two["features"], atol=1e-4, equal_nan=True)


def test_the_newest_cell_ends_now() -> None:
    """A value that has just come stands in the last cell, whatever the minute."""
    for minute in range(7):
        grid = of([(Kind.RR, 30.0, 60 * minute)])
        assert channel(grid.window(minute * MINUTE_NS), "rr_fresh")[-1] == 1.0
        assert channel(grid.window((minute + CELL_MIN) * MINUTE_NS), "rr_fresh")[-1] < 1.0


def test_an_arterial_line_comes_before_the_cuff() -> None:
    """Both in one cell: the line's value counts, and the grid says so; the cuff's mean is told beside it."""
    window = of([(Kind.ABP_MEAN, 94.0, 0), (Kind.NIBP_MEAN, 61.0, 30)]).window(0)
    mean = VITALS[5]
    assert channel(window, "mean")[-1] == pytest.approx((94.0 - mean.mean) / mean.spread)
    assert channel(window, "arterial")[-1] == 1.0
    assert channel(window, "cuff_mean")[-1] == pytest.approx(-1.0)
    cuff = of([(Kind.NIBP_MEAN, 61.0, 30)]).window(MINUTE_NS)
    assert channel(cuff, "arterial")[-1] == 0.0
    assert channel(cuff, "mean_fresh")[-1] == 1.0


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Kind.SPO2, 97.0), (Kind.LACTATE, 2.0), (Kind.ABP_MEAN, None), (Kind.ABP_MEAN, 250.0), (Kind.HR, 0.0)],
)
def test_what_is_no_vital_value_changes_nothing(kind: Kind, value: float | None) -> None:
    """Other kinds, declared unmeasured and artefacts: not taken, and no trace of them."""
    grid = Grid()
    assert not grid.update(Numeric(kind, value, 0))
    assert not grid.window(0)["grid"].any()


def test_believed_values_lie_within_what_a_patient_can_show() -> None:
    """The grid is stricter than the kinds, never looser."""
    from edgeward.signal.numeric import KINDS

    for kind, (low, high) in BELIEVED.items():
        assert KINDS[kind].low <= low < high <= KINDS[kind].high


def test_features_are_of_quarters() -> None:
    """Share of quarters below a limit, hours since one, and the slope per hour of a falling pressure."""
    grid = of([(Kind.ABP_MEAN, 90.0 - 8.0 * k, 900 * k) for k in range(4)])
    window = grid.window(45 * MINUTE_NS)
    assert feature(window, "abp_mean_slope_1h") == pytest.approx(-32.0, abs=1e-3)
    assert feature(window, "abp_mean_below_70_1h") == pytest.approx(0.25)
    assert np.isnan(feature(window, "abp_mean_since_65_h"))
    assert feature(window, "abp_mean_quarter_0") == pytest.approx(66.0)
    assert feature(window, "abp_mean_mean_stay") == pytest.approx(78.0)


@settings(deadline=None, max_examples=30)
@given(NUMERICS)
def test_memory_brings_the_grid_back(readings: list[tuple[Kind, float | None, int]]) -> None:
    """What a grid gives as memory, through JSON, makes a grid with the same windows."""
    grid = of(sorted(readings, key=lambda row: row[2]), 61.0)
    back = Grid.from_memory(json.loads(json.dumps(grid.to_memory(), allow_nan=False)))
    now = 12 * 60 * MINUTE_NS
    for name, array in grid.window(now).items():
        assert np.allclose(array, back.window(now)[name], rtol=1e-4, atol=1e-3, equal_nan=True)


def test_memory_is_bounded() -> None:
    """A week of values each second and kind keeps no more than five hours of minutes and a day of quarters."""
    grid = Grid()
    for minute in range(7 * 24 * 60):
        for kind in KEPT:
            grid.update(Numeric(kind, 80.0, minute * MINUTE_NS))
    assert len(json.dumps(grid.to_memory())) < 150_000


@pytest.mark.parametrize("damage", [{"grid": "vitals-grid-0"}, {"minutes": None}, {"age_y": "old"}, {"quarters": {}}])
def test_foreign_memory_is_refused(damage: dict[str, object]) -> None:
    """Another version's or a damaged memory begins the history anew, and says so."""
    with pytest.raises(InputError) as caught:
        Grid.from_memory({**Grid().to_memory(), **damage})
    assert caught.value.code == "history-memory"


def test_memory_of_other_rings_is_refused() -> None:
    """Minutes given back as quarters would be read at a wrong scale."""
    memory = Grid().to_memory()
    with pytest.raises(InputError):
        Grid.from_memory({**memory, "quarters": memory["minutes"]})


def test_the_spec_travels_and_refuses_what_this_version_does_not_compute() -> None:
    """The manifest's figures give the spec back; any other figure is a bundle for another version."""
    spec = VitalsGridSpec()
    params = json.loads(json.dumps(spec.to_params()))
    assert VitalsGridSpec.from_params(params) == spec
    with pytest.raises(BundleError) as caught:
        VitalsGridSpec.from_params({**params, "cell_s": 60})
    assert caught.value.code == "grid-spec-unsupported"
    with pytest.raises(BundleError) as caught:
        VitalsGridSpec.from_params({"name": "vitals-grid-1"})
    assert caught.value.code == "grid-spec-malformed"


def test_the_newest_value_of_a_pressure_is_named_by_its_kind() -> None:
    """The page says whether a forecast follows the line or the cuff."""
    grid = of([(Kind.ABP_SYS, 120.0, 0), (Kind.NIBP_SYS, 118.0, 60)])
    newest = grid.newest(2 * MINUTE_NS)
    assert newest["sys"] == (Kind.NIBP_SYS, 60.0)
    assert newest["hr"][1] == float("inf")
