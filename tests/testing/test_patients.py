"""Made-up patients: reproducible, plausible, and their courses go where their names say."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.signal.numeric import Kind, plausible
from edgeward.testing.patients import Course, Patient, Plan


def play(plan: Plan, seconds: int, step_s: int = 1) -> dict[Kind, np.ndarray]:
    patient = Patient(plan)
    rows = [patient.at(float(at_s)) for at_s in range(0, seconds, step_s)]
    kinds = {kind for row in rows for kind in row}
    return {kind: np.array([np.nan if row.get(kind) is None else row[kind] for row in rows], float) for kind in kinds}


@pytest.mark.parametrize("course", Course)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_course_is_plausible_and_reproducible(course: Course, *, held_out: bool) -> None:
    """No value that a living patient cannot show; the same seed gives the same patient, another seed another."""
    plan = Plan(3, course, onset_s=60, ramp_s=600, capnography=True, held_out=held_out)
    one, two, other = play(plan, 900), play(plan, 900), play(Plan(4, course, held_out=held_out), 900)
    for kind, values in one.items():
        assert all(plausible(kind, value) for value in values[~np.isnan(values)]), kind
        np.testing.assert_array_equal(values, two[kind])
    assert not np.array_equal(one[Kind.HR], other[Kind.HR])


@pytest.mark.parametrize(
    ("course", "kind", "sign"),
    [
        (Course.SEPSIS, Kind.HR, 1),
        (Course.SEPSIS, Kind.ABP_MEAN, -1),
        (Course.HAEMORRHAGE, Kind.HR, 1),
        (Course.HAEMORRHAGE, Kind.ABP_SYS, -1),
        (Course.HYPOXIA, Kind.SPO2, -1),
        (Course.OPIOID, Kind.RR, -1),
        (Course.OPIOID, Kind.ETCO2, 1),
        (Course.HYPOTENSION, Kind.ABP_MEAN, -1),
    ],
)
def test_a_course_goes_where_its_name_says(course: Course, kind: Kind, sign: int) -> None:
    """From its usual value by more than its noise, for any patient."""
    for seed in range(5):
        shown = play(Plan(seed, course, onset_s=300, ramp_s=1200, capnography=True), 2400, 5)[kind]
        before, after = np.nanmean(shown[:60]), np.nanmean(shown[-60:])
        assert sign * (after - before) > 4.0


def test_a_bleeding_patient_holds_the_pressure_until_it_does_not() -> None:
    """Heart rate rises well before the systolic pressure falls (ATLS classes II and III)."""
    shown = play(Plan(1, Course.HAEMORRHAGE, onset_s=0, ramp_s=3600), 3600, 5)
    middle = len(shown[Kind.HR]) * 4 // 10

    def change(kind: Kind) -> float:
        return float(np.mean(shown[kind][middle - 20 : middle + 20]) - np.mean(shown[kind][:20]))

    assert change(Kind.HR) > 10
    assert change(Kind.ABP_SYS) > -12


def test_a_cuff_measures_now_and_then() -> None:
    """Without an arterial line there is no continuous pressure."""
    shown = play(Plan(1, arterial=False, cuff_s=300), 1200)
    assert Kind.ABP_MEAN not in shown
    assert np.count_nonzero(~np.isnan(shown[Kind.NIBP_MEAN])) == 4


def test_disconnections_are_said_and_artefacts_are_not() -> None:
    """A probe that is off says so; motion looks like a number."""
    off = play(Plan(1, Course.DISCONNECTIONS), 1800)
    assert 0 < np.count_nonzero(np.isnan(off[Kind.SPO2])) < 1200
    moved = play(Plan(1, Course.ARTEFACTS), 1800)
    assert not np.isnan(moved[Kind.SPO2]).any()
    assert moved[Kind.SPO2].min() < 86


def test_held_out_patients_are_drawn_from_other_figures() -> None:
    """The ranges that are looked at and those that are held out do not meet."""
    edges = np.linspace(112, 142, 5)
    for held_out, quarters in ((False, {1, 3}), (True, {2, 4})):
        bases = [Patient(Plan(seed, held_out=held_out))._base["sys"] for seed in range(200)]
        assert set(np.digitize(bases, edges)) == quarters


def test_time_does_not_go_back() -> None:
    """A caller's mistake is told."""
    patient = Patient(Plan(1))
    patient.at(5.0)
    with pytest.raises(ValueError, match="back"):
        patient.at(4.0)
