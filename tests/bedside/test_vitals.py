"""What a bed shows of its numerics: the newest, with its age, never stale as if it were live."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.vitals import Vitals, stale_after_ns
from edgeward.signal.numeric import Kind, Numeric

S = 1_000_000_000


def test_changes_are_told_once_a_second_and_a_fresh_value_each_time() -> None:
    """Several values within a second are one message; silence is none."""
    vitals = Vitals()
    for tenth in range(10):
        vitals.take([Numeric(Kind.HR, 80.0 + tenth, 5 * S + tenth * S // 10)])
    assert vitals.tell(6 * S) == {"hr": {"v": 89.0, "age_ms": 100, "state": "ok"}}
    vitals.take([Numeric(Kind.HR, 89.0, 6 * S + 1)])
    assert vitals.tell(6 * S + S // 2) == {}
    assert vitals.tell(7 * S)["hr"]["v"] == 89.0
    assert vitals.tell(8 * S) == {}


def test_a_value_grows_stale_and_says_so() -> None:
    """Once, with its age; a newer one is live again."""
    vitals = Vitals()
    vitals.take([Numeric(Kind.SPO2, 97.0, 0)])
    vitals.tell(0)
    assert vitals.tell(29 * S) == {}
    assert vitals.tell(89 * S)["spo2"]["state"] == "ok"
    told = vitals.tell(91 * S)
    assert told == {"spo2": {"v": 97.0, "age_ms": 91_000, "state": "stale"}}
    vitals.take([Numeric(Kind.SPO2, None, 92 * S)])
    assert vitals.tell(93 * S)["spo2"] == {"v": None, "age_ms": 1_000, "state": "unmeasured"}


@given(st.permutations(range(8)))
def test_of_each_kind_the_newest_counts(order: list[int]) -> None:
    """In whatever order they come."""
    vitals = Vitals()
    vitals.take([Numeric(Kind.RR, float(at), at * S) for at in order])
    assert vitals.tell(9 * S)["rr"]["v"] == 7.0
    assert vitals.newest_ns == 7 * S


def test_every_kind_grows_stale_some_day() -> None:
    """A live vital after a gateway's minute and before two, nothing later than a day."""
    assert 60 * S < stale_after_ns(Kind.HR) < 120 * S < stale_after_ns(Kind.NIBP_SYS) < stale_after_ns(Kind.LACTATE)
    assert all(stale_after_ns(kind) <= 24 * 3600 * S for kind in Kind)
