"""A hypotension bundle at a bed: when it is asked, how its scores are read, what is shown."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="WORKSHOP EXTRA ABSENT: torch")
pytest.importorskip("lightgbm", reason="WORKSHOP EXTRA ABSENT: lightgbm")
pytest.importorskip("onnx", reason="WORKSHOP EXTRA ABSENT: onnx")

from hypotension_bundle import DECISION, small_bundle
from hypotension_stays import stay

from edgeward.bedside.assess.core import Ask, Assessor
from edgeward.bedside.assess.hypotension import (
    PERIOD_NS,
    HypotensionPlan,
    Layout,
    VitalsWindow,
    measured,
    plan_of,
    read,
    too_little,
)
from edgeward.bedside.assess.port import Level
from edgeward.bedside.feed import Admitted, Measured, Population
from edgeward.bedside.verdict import Reason
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.inference.engine import Engine
from edgeward.kernel.errors import BundleError, EngineError, InputError
from edgeward.signal.hypotension import LOW_PRESSURE, NO_ARTERIAL_PRESSURE, SPARSE_PRESSURE
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.vitals_grid import MINUTE_NS, VITALS, Grid

pytestmark = pytest.mark.workshop


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(small_bundle())


@pytest.fixture(scope="module")
def plan(bundle: Bundle) -> HypotensionPlan:
    return plan_of(bundle.manifest)


def grid_of(*pressures: float, step_min: int = 15, kind: Kind = Kind.ABP_MEAN) -> Grid:
    grid = Grid(70.0)
    for k, pressure in enumerate(pressures):
        grid.update(Numeric(kind, pressure, step_min * k * MINUTE_NS))
    return grid


def test_the_plan_is_what_the_manifest_says(plan: HypotensionPlan) -> None:
    """Axes of the forecast, the vitals that earned being shown, the threshold and how long an advisory stands."""
    vitals = ("hr", "rr", "sys", "dia", "mean")
    assert plan.layout == Layout((0.1, 0.5, 0.9), tuple(range(5, 65, 5)), vitals, tuple(DECISION["shown"]))
    assert (plan.act, plan.watch, plan.hold_min, plan.layout.scores) == (-2.5, -3.0, 60, 181)
    assert (plan.wording.raise_after, plan.wording.clear_after) == (2, 240)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"task": "sepsis-risk"}, "task-mismatch"),
        ({"decision": {}}, "decision-malformed"),
        ({"preprocessing_params": {}}, "grid-spec-malformed"),
        ({"outputs": ()}, "window-mismatch"),
    ],
)
def test_foreign_bundles_are_refused(bundle: Bundle, change: dict[str, object], code: str) -> None:
    """Another task, another layout, another grid: never a score read wrongly."""
    manifest = bundle.manifest
    if "outputs" in change:
        change = {"outputs": (dataclasses.replace(manifest.outputs[0], shape=(-1, 180)),)}
    with pytest.raises(BundleError) as caught:
        plan_of(dataclasses.replace(manifest, **change))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"act": float("nan")},
        {"act": -4.0},
        {"hold_min": 0},
        {"shown": ["spo2"]},
        {"layout": {"quantiles": [0.9, 0.5, 0.1], "minutes": [5], "vitals": ["hr"]}},
        {"layout": {"quantiles": [0.1, 0.5, 0.9], "minutes": [], "vitals": ["hr"]}},
        {"layout": {"quantiles": [0.1, 0.5, 0.9], "minutes": [5], "vitals": ["hr", "hr"]}},
    ],
)
def test_a_decision_that_cannot_be_read_is_refused(bundle: Bundle, change: dict[str, object]) -> None:
    """A threshold that is no number would never raise; a layout out of order would show the wrong percentile."""
    decision = {**bundle.manifest.decision, **change}
    with pytest.raises(BundleError) as caught:
        plan_of(dataclasses.replace(bundle.manifest, decision=decision))
    assert caught.value.code == "decision-malformed"


def test_a_bed_is_asked_as_the_task_is() -> None:
    """Four pressures in the hour, none low; on until a quarter of an hour after the last."""
    dense = grid_of(80, 78, 76, 74)
    assert too_little(dense, 45 * MINUTE_NS) is None
    assert too_little(dense, 60 * MINUTE_NS) is None
    assert too_little(dense, 61 * MINUTE_NS) == SPARSE_PRESSURE
    assert too_little(dense, 200 * MINUTE_NS) == NO_ARTERIAL_PRESSURE
    assert too_little(Grid(), 0) == NO_ARTERIAL_PRESSURE
    assert too_little(grid_of(80, 78, 76, 74, kind=Kind.NIBP_MEAN), 45 * MINUTE_NS) == NO_ARTERIAL_PRESSURE
    assert too_little(grid_of(80, 60, 76, 74), 45 * MINUTE_NS) == LOW_PRESSURE
    assert too_little(grid_of(60, 80, 76, 74, 75, 76), 75 * MINUTE_NS) is None


def test_one_low_second_of_a_noisy_line_does_not_silence_an_hour() -> None:
    """A minute's mean counts, as one charted value does."""
    grid = grid_of(*[80.0] * 60, step_min=1)
    for second in range(60):
        grid.update(Numeric(Kind.ABP_MEAN, 40.0 if second == 7 else 80.0, (60 * 60 + second) * 1_000_000_000))
    assert too_little(grid, 61 * MINUTE_NS) is None


def test_scores_are_read_in_canonical_units(plan: HypotensionPlan) -> None:
    """Standard units back to mmHg, by quantile, minute and vital; log odds to a probability."""
    table = np.zeros((3, 12, 5), np.float32)
    table[:, 3, 4] = (-1.0, 0.5, 2.0)
    reading = read(np.append(table.ravel(), np.float32(-2.5)), plan.layout)
    mean = VITALS[5]
    forecast = reading.courses["mean"]
    assert forecast.minutes[3] == 20
    assert (forecast.low[3], forecast.mid[3], forecast.high[3]) == pytest.approx(
        (mean.mean - mean.spread, mean.mean + 0.5 * mean.spread, mean.mean + 2 * mean.spread)
    )
    assert reading.courses["hr"].mid == pytest.approx((VITALS[0].mean,) * 12)
    assert reading.probability == pytest.approx(1 / (1 + np.exp(2.5)))


@pytest.mark.parametrize("scores", [np.zeros(180), np.full(181, np.nan), np.zeros((1, 181))])
def test_scores_that_are_none_are_refused(plan: HypotensionPlan, scores: np.ndarray) -> None:
    """A caller's mistake never becomes a number on a page."""
    with pytest.raises(EngineError) as caught:
        read(scores, plan.layout)
    assert caught.value.code == "bad-output"


def test_only_what_is_measured_lately_is_shown(plan: HypotensionPlan) -> None:
    """A vital without a value for an hour has no forecast; the kind tells line from cuff."""
    grid = Grid()
    grid.update(Numeric(Kind.HR, 80.0, 0))
    grid.update(Numeric(Kind.NIBP_SYS, 120.0, 30 * MINUTE_NS))
    grid.update(Numeric(Kind.RR, 15.0, 30 * MINUTE_NS))
    assert measured(grid, 31 * MINUTE_NS, plan.layout) == {"hr": Kind.HR, "sys": Kind.NIBP_SYS}
    assert measured(grid, 61 * MINUTE_NS, plan.layout) == {"sys": Kind.NIBP_SYS}


def test_a_stay_goes_through_the_device_s_engine(bundle: Bundle, plan: HypotensionPlan) -> None:
    """Grid, engine and reading together: a falling pressure raises the probability."""
    engine, grid, told = Engine.load(bundle), Grid(70.0), []
    for numeric in stay(2, falls=True).numerics():
        grid.update(numeric)
        if numeric.kind is Kind.ABP_MEAN and too_little(grid, numeric.at_ns) is None:
            told.append((numeric.value, read(engine.infer(grid.window(numeric.at_ns)), plan.layout).probability))
    assert len(told) > 10
    pressures, probabilities = zip(*told, strict=True)
    assert np.corrcoef(pressures, probabilities)[0, 1] < -0.5


def test_the_plan_asks_adults_and_says_why_it_does_not() -> None:
    """Children are refused by population; a low pressure and too few pressures have their own reasons."""
    plan = plan_of(read_bundle(small_bundle()).manifest)
    adult = Admitted(1, "A", 0, age_y=70.0)
    assert plan.fits(adult) is None
    assert plan.fits(dataclasses.replace(adult, population=Population.NEONATAL)) is Reason.POPULATION
    stay = plan.begin(adult)
    assert stay.window(0) is Reason.TOO_LITTLE
    for k, pressure in enumerate((80.0, 60.0, 78.0, 77.0)):
        stay.take(Numeric(Kind.ABP_MEAN, pressure, 15 * k * MINUTE_NS))
    assert stay.window(45 * MINUTE_NS) is Reason.LOW_PRESSURE


def test_an_arterial_line_that_falls_silent_is_a_fault_until_it_is_clear_that_there_is_none() -> None:
    """Too few pressures at the beginning are no fault; none for a quarter of an hour after them is, for an hour."""
    plan = plan_of(read_bundle(small_bundle()).manifest)
    stay = plan.begin(Admitted(1, "A", 0, age_y=70.0))
    for minute in (0, 15):
        stay.take(Numeric(Kind.ABP_MEAN, 80.0, minute * MINUTE_NS))
        assert stay.window(minute * MINUTE_NS) is Reason.TOO_LITTLE
    assert stay.window(30 * MINUTE_NS) is Reason.TOO_LITTLE
    assert stay.window(31 * MINUTE_NS) is Reason.STALE
    assert stay.window(75 * MINUTE_NS) is Reason.STALE
    assert stay.window(76 * MINUTE_NS) is Reason.TOO_LITTLE


def test_levels_follow_the_log_odds_and_forecasts_what_is_measured(plan: HypotensionPlan) -> None:
    """None, watch, act; the pressures that the line gave are forecast, the heart rate that nobody measured is not."""
    stay = plan.begin(Admitted(1, "A", 0))
    for k in range(5):
        stay.take(Numeric(Kind.ABP_MEAN, 80.0, 15 * k * MINUTE_NS))
    window = stay.window(60 * MINUTE_NS)
    assert isinstance(window, VitalsWindow)
    assert (window.missing_share, window.stale_share) == (pytest.approx(5 / 6), 0.0)
    found = [plan.read(np.append(np.zeros(180), odds).astype(np.float32), window) for odds in (-3.1, -2.9, -2.4)]
    assert [finding.level for finding in found] == [Level.NONE, Level.WATCH, Level.ACT]
    assert [forecast.kind for forecast in found[0].forecasts] == [Kind.ABP_MEAN]


def test_a_stay_goes_on_after_a_restart(plan: HypotensionPlan) -> None:
    """Memory through JSON gives the same window; a foreign memory is refused, so that history begins anew."""
    adult = Admitted(1, "A", 0, age_y=55.0)
    stay = plan.begin(adult)
    for k in range(5):
        stay.take(Numeric(Kind.ABP_MEAN, 80.0 - k, 15 * k * MINUTE_NS))
    back = plan.begin(adult, json.loads(json.dumps(stay.memory())))
    one, two = stay.window(60 * MINUTE_NS), back.window(60 * MINUTE_NS)
    assert isinstance(one, VitalsWindow)
    assert isinstance(two, VitalsWindow)
    for name in one.inputs:
        assert np.allclose(one.inputs[name], two.inputs[name], atol=1e-4, equal_nan=True)
    with pytest.raises(InputError):
        plan.begin(adult, {"anything": 1})


def test_the_assessor_runs_it(bundle: Bundle, plan: HypotensionPlan) -> None:
    """Through the one core of the assessment: a score each period, forecasts beside it, no advisory of a calm stay."""
    engine, core, heard = Engine.load(bundle), Assessor(plan), []
    core.take(Admitted(7, "A", 0), 0)
    for minute in range(90):
        core.take(Measured(7, (Numeric(Kind.ABP_MEAN, 90.0, minute * MINUTE_NS),)), minute * MINUTE_NS)
        for quarter in range(4):
            now = minute * MINUTE_NS + quarter * PERIOD_NS
            for effect in core.tick(now):
                if isinstance(effect, Ask):
                    heard += core.answered(effect.sequence, engine.infer(dict(effect.inputs)), None, now)
                else:
                    heard.append(effect)
    scores = [tell.data for tell in heard if tell.kind == "score"]
    assert {score["why"] for score in scores[:100]} == {"too_little"}
    assert {score["outcome"] for score in scores[-50:]} == {"accepted"}
    courses = [tell.data for tell in heard if tell.kind == "forecast"]
    assert {course["vital"] for course in courses} == {"abp_mean"}
    assert not [tell for tell in heard if tell.kind == "advisory"]
