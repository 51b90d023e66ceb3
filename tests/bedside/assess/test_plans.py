"""Which plan serves a bundle, and the shipped hypotension bundle in the assessment with engines of its own."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from edgeward.bedside.assess.hypotension import HypotensionPlan
from edgeward.bedside.assess.plans import plan_of
from edgeward.bedside.assess.process import Assessment, AssessSettings, make
from edgeward.bedside.feed import Admitted, Measured, Population, TaskSettings
from edgeward.bundle.archive import Bundle, read_bundle
from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import BundleError
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.vitals_grid import MINUTE_NS

if TYPE_CHECKING:
    from collections.abc import Iterator

S = 1_000_000_000
DENSE, SPARSE, LOW, CHILD = 5, 8, 13, 21
VITALS = {Kind.HR: 88.0, Kind.RR: 17.0, Kind.ABP_SYS: 112.0, Kind.ABP_DIA: 52.0}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(shipped_bundle("hypotension").read_bytes())


@pytest.fixture
def assessment(bundle: Bundle) -> Iterator[Assessment]:
    task = TaskSettings("hypotension", str(shipped_bundle("hypotension")), bundle.sha256)
    with contextlib.closing(make(AssessSettings((task,), dwell_s=0.0).to_json())) as made:
        yield made


def test_a_bundle_is_served_by_its_task_s_plan(bundle: Bundle) -> None:
    """A hypotension bundle by the hypotension plan, and by nothing where another task was asked for."""
    assert isinstance(plan_of(bundle.manifest, "hypotension"), HypotensionPlan)
    with pytest.raises(BundleError) as caught:
        plan_of(bundle.manifest, "sepsis-risk")
    assert caught.value.code == "task-mismatch"


def test_a_task_of_another_port_is_refused() -> None:
    """A bundle of beats reads no numerics; nobody guesses at it."""
    beats = read_bundle(shipped_bundle("ecg-beat").read_bytes())
    with pytest.raises(BundleError) as caught:
        plan_of(beats.manifest, beats.manifest.task)
    assert caught.value.code == "task-unknown"


def hour(stay: int, now: int, pressure: float, step_min: int) -> Measured:
    numerics = []
    for minute in range(60, -1, -step_min):
        values = {**VITALS, Kind.ABP_MEAN: pressure}
        numerics += [Numeric(kind, value, now - minute * MINUTE_NS) for kind, value in values.items()]
    return Measured(stay, tuple(numerics))


def test_the_shipped_bundle_scores_a_bed_with_dense_pressures_and_says_why_it_does_not_score_others(
    assessment: Assessment,
) -> None:
    """Through engines in processes of their own: probability, age, missing share, forecasts; else the reason."""
    now = time.monotonic_ns()
    for stay in (DENSE, SPARSE, LOW, CHILD):
        population = Population.PAEDIATRIC if stay == CHILD else Population.ADULT
        assessment.take(Admitted(stay, f"bed {stay}", now, population=population, age_y=None), now)
    assessment.take(hour(DENSE, now, 76.0, 5), now)
    assessment.take(hour(SPARSE, now, 76.0, 30), now)
    assessment.take(hour(LOW, now, 60.0, 5), now)
    said: list[tuple[str, dict[str, Any]]] = []
    until = time.monotonic() + 60
    while time.monotonic() < until:
        now += S
        said += assessment.tick(now)
        if any(kind == "forecast" for kind, _ in said):
            break
        time.sleep(0.05)
    scores = {data["stay"]: data for kind, data in said if kind == "score"}
    dense = scores[DENSE]
    assert dense["outcome"] == "accepted"
    assert 0.0 < dense["probability"] < 1.0
    assert dense["age_ms"] <= dense["ttl_ms"]
    assert dense["missing_share"] == pytest.approx(1 / 6, abs=1e-3)  # no temperature
    assert {stay: scores[stay]["why"] for stay in (SPARSE, LOW, CHILD)} == {
        SPARSE: "too_little",
        LOW: "low_pressure",
        CHILD: "population",
    }
    assert all(scores[stay]["outcome"] == "withheld" for stay in (SPARSE, LOW, CHILD))
    courses = {data["vital"]: data for kind, data in said if kind == "forecast" and data["stay"] == DENSE}
    assert "abp_mean" in courses
    for course in courses.values():
        assert course["minutes"] == list(range(5, 65, 5))
        assert all(low <= high for low, high in zip(course["low"], course["high"], strict=True))
