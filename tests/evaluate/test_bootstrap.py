"""The bootstrap draws patients, not beats."""

from __future__ import annotations

import numpy as np
import pytest

from edgeward.evaluate.bootstrap import intervals
from edgeward.evaluate.ec57 import Confusion
from edgeward.wire.wfdb import patient_of


def _veb(tp: int, fn: int, fp: int, tn: int) -> Confusion:
    counts = np.zeros((6, 6), dtype=np.int64)
    counts[2, 2], counts[2, 0], counts[0, 2], counts[0, 0] = tp, fn, fp, tn
    return Confusion(counts)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Intervals are reproducible, and another seed gives another one."""
    parts = [_veb(9, 1, 2, 88), _veb(5, 5, 0, 90), _veb(40, 2, 9, 100), _veb(3, 4, 5, 6)]
    names = ["a", "b", "c", "d"]
    first = intervals(parts, names, "veb", seed=1, draws=200)
    assert first == intervals(parts, names, "veb", seed=1, draws=200)
    assert first != intervals(parts, names, "veb", seed=2, draws=200)


def test_two_equal_patients_leave_no_doubt() -> None:
    """Where all patients agree, every draw gives the same figure."""
    got = intervals([_veb(9, 1, 1, 99)] * 2, ["a", "b"], "veb", draws=100)
    assert got["se"] == pytest.approx((0.9, 0.9))
    assert got["ppv"] == pytest.approx((0.9, 0.9))
    assert got["fpr"] == pytest.approx((0.01, 0.01))


def test_two_opposite_patients_leave_all_doubt() -> None:
    """One patient right and one wrong: a quarter of the draws holds only the one, a quarter only the other."""
    got = intervals([_veb(10, 0, 0, 10), _veb(0, 10, 10, 0)], ["a", "b"], "veb", draws=500)
    assert got["se"] == (0.0, 1.0)


def test_records_of_one_patient_are_drawn_together() -> None:
    """As one patient the same two records have no spread."""
    got = intervals([_veb(10, 0, 0, 10), _veb(0, 10, 10, 0)], ["a", "a"], "veb", draws=500)
    assert got["se"] == (0.5, 0.5)


def test_the_interval_is_about_as_wide_as_theory_says() -> None:
    """For many patients with independent figures the width is near 2 × 1.96 standard errors."""
    rng = np.random.default_rng(1)
    hits = rng.binomial(50, 0.8, 60)
    low, high = intervals([_veb(int(h), 50 - int(h), 0, 1) for h in hits], [str(k) for k in range(60)], "veb")[
        "se"
    ] or (0, 0)
    assert low < hits.mean() / 50 < high
    assert (high - low) == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 3000), rel=0.35)


def test_undefined_figures_have_no_interval() -> None:
    """QRS has no FPR, and nothing at all has nothing."""
    assert intervals([_veb(1, 0, 0, 1)], ["a"], "qrs")["fpr"] is None
    assert intervals([], [], "veb") == {"se": None, "ppv": None, "fpr": None}
    assert intervals([_veb(0, 0, 0, 5)], ["a"], "veb")["se"] is None


def test_every_record_needs_its_patient() -> None:
    """A list that does not fit is refused."""
    with pytest.raises(ValueError, match="patient"):
        intervals([_veb(1, 1, 1, 1)], [], "veb")


def test_201_and_202_are_one_person() -> None:
    """The database's only patient with two records."""
    assert patient_of("201") == patient_of("202")
    assert patient_of("203") != patient_of("202")
