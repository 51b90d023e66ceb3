"""Sepsis risk at a bed: withheld where too little is known, read as the manifest says, explained in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.bedside.assess.plans import plan_of
from edgeward.bedside.assess.port import Level, Window
from edgeward.bedside.assess.sepsis import TASK, SepsisPlan, drivers
from edgeward.bedside.feed import Admitted, Population
from edgeward.bedside.verdict import Reason
from edgeward.bundle.archive import read_bundle
from edgeward.inference.engine import Engine
from edgeward.kernel.errors import BundleError, EngineError, InputError
from edgeward.signal.history import NS_PER_S
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.stay_features import AGE_H_MAX
from edgeward.testing.tree_bundles import tree_bundle

if TYPE_CHECKING:
    from edgeward.bundle.archive import Bundle

HOUR = 3600 * NS_PER_S
NAMES = ("hr.last", "hr.mean.24h", "lactate.last", "shock_index.last", "hours_in", "age_y")
DECISION = {
    "calibration": {"log_odds": [-4.0, 0.0, 2.0], "probability": [0.01, 0.2, 0.6]},
    "watch": -1.0,
    "act": 1.0,
    "burden": {"watch": 1.0, "act": 0.25},
}
CORE = ((Kind.HR, 100.0), (Kind.RR, 22.0), (Kind.SPO2, 95.0), (Kind.NIBP_SYS, 100.0))


def bundle(**changes: Any) -> Bundle:
    params = {"features": list(NAMES), "hours_in_max": 48.0}
    settings: dict[str, Any] = {"preprocessing_params": params, "decision": DECISION, "features": len(NAMES)}
    return read_bundle(tree_bundle(**{**settings, **changes}))


def plan() -> SepsisPlan:
    found = plan_of(bundle().manifest, TASK)
    assert isinstance(found, SepsisPlan)
    return found


def admitted(**changes: Any) -> Admitted:
    return replace(Admitted(7, "bed 1", 0, age_y=70.0, sex="m"), **changes)


def test_a_bed_is_scored_and_the_score_explained() -> None:
    """From numerics to a probability, a level and drivers with labels and units."""
    held = bundle()
    found = plan_of(held.manifest, TASK)
    stay = found.begin(admitted())
    for kind, value in CORE:
        stay.take(Numeric(kind, value, HOUR))
    window = stay.window(HOUR)
    assert isinstance(window, Window)
    finding = found.read(Engine.load(held).infer(window.inputs), window)
    assert 0.0 < finding.probability < 1.0
    assert 1 <= len(finding.drivers) <= 3
    assert all(driver.label and driver.unit for driver in finding.drivers)
    assert [abs(d.effect) for d in finding.drivers] == sorted((abs(d.effect) for d in finding.drivers), reverse=True)
    assert len({driver.feature.split(".")[0] for driver in finding.drivers}) == len(finding.drivers)


def test_too_little_or_too_old_is_withheld_with_the_reason() -> None:
    """Three of four core vital signs must be fresh; those that were and are no more are stale."""
    stay = plan().begin(admitted())
    assert stay.window(0) is Reason.TOO_LITTLE
    for kind, value in CORE[:2]:
        stay.take(Numeric(kind, value, 0))
    assert stay.window(0) is Reason.TOO_LITTLE
    stay.take(Numeric(*CORE[2], 0))
    assert isinstance(stay.window(HOUR), Window)
    assert stay.window(2 * HOUR) is Reason.STALE
    stay.take(Numeric(Kind.HR, None, 2 * HOUR))
    assert stay.window(2 * HOUR) is Reason.STALE


def test_missing_and_stale_inputs_are_told() -> None:
    """Of the channels that the features need: heart rate and lactate here."""
    stay = plan().begin(admitted())
    for kind, value in CORE:
        stay.take(Numeric(kind, value, 0))
    window = stay.window(0)
    assert isinstance(window, Window)
    assert (window.missing_share, window.stale_share) == (0.5, 0.0)
    stay.take(Numeric(Kind.LACTATE, 3.0, 0))
    for kind, value in CORE:
        stay.take(Numeric(kind, value, 30 * HOUR))
    window = stay.window(30 * HOUR)
    assert isinstance(window, Window)
    assert (window.missing_share, window.stale_share) == (0.0, 0.5)


def test_hours_are_held_where_the_manifest_says() -> None:
    """A long stay is no reason by itself."""
    stay = plan().begin(admitted())
    for kind, value in CORE:
        stay.take(Numeric(kind, value, 200 * HOUR))
    window = stay.window(200 * HOUR)
    assert isinstance(window, Window)
    assert window.inputs["features"][0, NAMES.index("hours_in")] == 48.0


@pytest.mark.parametrize(
    ("score", "probability", "level"),
    [(-9.0, 0.01, Level.NONE), (-1.0, 0.1525, Level.WATCH), (0.0, 0.2, Level.WATCH), (1.0, 0.4, Level.ACT)],
)
def test_levels_and_probabilities(score: float, probability: float, level: Level) -> None:
    """Between knots a straight line, beyond them the outer knot; a level begins at its threshold."""
    scores = np.array([score, *[0.0] * len(NAMES)], dtype=np.float32)
    finding = plan().read(scores, Window({"features": np.full((1, len(NAMES)), np.nan, np.float32)}))
    assert finding.probability == pytest.approx(probability)
    assert finding.level is level
    assert finding.drivers == ()


def test_a_missing_driver_is_null_never_zero() -> None:
    """That something was not measured may itself move a score."""
    scores = np.zeros(1 + len(NAMES), np.float32)
    scores[1 + NAMES.index("lactate.last")] = -0.7
    (driver,) = plan().read(scores, Window({"features": np.full((1, len(NAMES)), np.nan, np.float32)})).drivers
    assert (driver.feature, driver.value, driver.unit) == ("lactate.last", None, "mmol/L")


def test_the_age_of_what_was_never_measured_is_missing() -> None:
    """Two hundred hours would be told as a measurement of long ago."""
    names, scores = ("fio2.age", "lactate.age"), np.array([0.0, 0.9, 0.4], np.float32)
    never, ago = drivers(names, np.array([AGE_H_MAX, 5.0], np.float32), scores[1:])
    assert (never.value, ago.value) == (None, 5.0)


def test_children_are_not_judged() -> None:
    """The model was made for adults."""
    assert plan().fits(admitted()) is None
    assert plan().fits(admitted(population=Population.PAEDIATRIC)) is Reason.POPULATION


def test_memory_survives_and_nonsense_is_refused() -> None:
    """The next process goes on where this one stood."""
    first = plan().begin(admitted())
    for kind, value in CORE:
        first.take(Numeric(kind, value, HOUR))
    memory = json.loads(json.dumps(first.memory()))
    again = plan().begin(admitted(), memory)
    one, other = first.window(HOUR), again.window(HOUR)
    assert isinstance(one, Window)
    assert isinstance(other, Window)
    np.testing.assert_array_equal(one.inputs["features"], other.inputs["features"])
    with pytest.raises(InputError):
        plan().begin(admitted(), {"vitals": []})


def test_scores_of_another_model_are_no_finding() -> None:
    """Another length, or what is not finite."""
    window = Window({"features": np.zeros((1, len(NAMES)), np.float32)})
    for scores in (np.zeros(3, np.float32), np.full(1 + len(NAMES), np.nan, np.float32)):
        with pytest.raises(EngineError) as caught:
            plan().read(scores, window)
        assert caught.value.code == "bad-output"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"preprocessing_params": {"features": [*NAMES[:-1], "hunch"], "hours_in_max": 48.0}}, "window-mismatch"),
        ({"preprocessing_params": {"features": list(NAMES[:-1]), "hours_in_max": 48.0}}, "window-mismatch"),
        ({"preprocessing_params": {"features": list(NAMES)}}, "window-mismatch"),
        ({"decision": {}}, "decision-malformed"),
        ({"decision": {**DECISION, "act": -2.0}}, "decision-malformed"),
        ({"decision": {**DECISION, "calibration": {"log_odds": [1, 0], "probability": [0, 1]}}}, "decision-malformed"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(changes: dict[str, Any], code: str) -> None:
    """Before any patient is judged by it."""
    with pytest.raises(BundleError) as caught:
        plan_of(bundle(**changes).manifest, TASK)
    assert caught.value.code == code


def test_plans_of_the_same_features_share_a_stays_state() -> None:
    """A new version with other thresholds goes on with the history; one with other features begins anew."""
    other = plan_of(bundle(decision={**DECISION, "act": 1.5}).manifest, TASK)
    assert plan().sees_as(other)
    fewer = {"features": list(NAMES[:-1]), "hours_in_max": 48.0}
    assert not plan().sees_as(plan_of(bundle(preprocessing_params=fewer, features=len(NAMES) - 1).manifest, TASK))
