"""Where somebody is needed first, and that tiles do not jump."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ward_messages import alert, bed, hello, mode, news2, of, score, vitals

from edgeward.bedside.page.need import HOLD_MS, Need, Order, need_of
from edgeward.bedside.page.ward import BED_TTL_MS, WardState

Message = tuple[str, dict[str, Any]]
NAME = "Bed 1"


def need(*messages: Message, later_ms: float = 0, **bed_fields: Any) -> Need:
    """The need of a bed after some messages."""
    state = WardState(hello(), 0)
    state.apply("bed", bed(NAME, **bed_fields), 0)
    for kind, data in messages:
        state.apply(kind, data, 0)
    found = state.bed_named(NAME)
    assert found is not None
    return need_of(found, state.stay_of(found), later_ms)


RISING: list[list[Message]] = [
    [("vitals", vitals(NAME, hr=71)), ("news2", news2(NAME, 4)), ("mode", mode(NAME, "THRESHOLD_ONLY", "hung"))],
    [("alert", alert(NAME, cause="technical", priority="low"))],
    [("alert", alert(NAME, cause="technical", priority="medium"))],
    [("news2", news2(NAME, 3, "low-medium"))],
    [("news2", news2(NAME, 6, "medium"))],
    [("news2", news2(NAME, 9, "high"))],
    [("score", score(NAME, level="watch"))],
    [("score", score(NAME, level="act"))],
    [("alert", alert(NAME, priority="low", active=False, latched=True))],
    [("alert", alert(NAME, priority="high", active=False, latched=True))],
    [("alert", alert(NAME, priority="low", acknowledged=True))],
    [("alert", alert(NAME, priority="low"))],
    [("alert", alert(NAME, priority="medium", acknowledged=True))],
    [("alert", alert(NAME, priority="medium"))],
    [("alert", alert(NAME, priority="high", cause="technical"))],
    [("alert", alert(NAME, priority="high", acknowledged=True))],
    [("alert", alert(NAME, priority="high"))],
]


def test_need_rises_from_quiet_to_an_unseen_high_alert() -> None:
    """Limits before models, unseen before seen, models before NEWS2, NEWS2 before technical; low NEWS2 is quiet."""
    needs = [need(*messages) for messages in RISING]
    assert all(before < after for before, after in pairwise(needs))
    assert needs[0] is Need.QUIET


@pytest.mark.parametrize("lesser", range(len(RISING)))
def test_greatest_need_of_a_bed_counts(lesser: int) -> None:
    """Beside an unseen high alert nothing else matters."""
    others = [(kind, {**data, "id": "b"} if kind == "alert" else data) for kind, data in RISING[lesser]]
    assert need(*RISING[-1], *others) is Need.HIGH


def test_suspended_alerts_make_no_claim_and_scores_still_do() -> None:
    """While a bed is suspended its alerts do not move it up; what a model says does; afterwards they do again."""
    high = ("alert", alert(NAME))
    assert need(high, suspended_ms_left=120_000) is Need.SUSPENDED
    assert need(high, ("score", score(NAME, level="act")), suspended_ms_left=10_000) is Need.ACT
    assert need(high, suspended_ms_left=2_000, later_ms=2_001) is Need.HIGH


def test_score_past_its_time_to_live_asks_for_nothing() -> None:
    """Exactly until ttl_ms, and an accepted probability only."""
    act = ("score", score(NAME, level="act", age_ms=1_000, ttl_ms=10_000))
    assert need(act, later_ms=8_999) is Need.ACT
    assert need(act, later_ms=9_000) is Need.QUIET
    withheld = score(NAME, None, level="act", outcome="withheld", why="too_little")
    assert need(("score", withheld)) is Need.QUIET


def test_bed_without_data_or_without_word_is_no_quiet_bed() -> None:
    """Silence of the monitor and silence of the device are both a need; an empty bed is none."""
    assert need(silent_ms=None) is Need.NO_DATA
    assert need(silent_ms=31_000) is Need.NO_DATA
    assert need(later_ms=BED_TTL_MS + 1) is Need.NO_DATA
    assert need(state="empty", stay=None) is Need.EMPTY
    assert need(("alert", of("Bed 1", **alert(NAME))), silent_ms=60_000) is Need.HIGH


def test_bed_that_grows_worse_moves_up_at_once_and_goes_back_after_a_while() -> None:
    """Up without waiting; down only when the need has stayed less for HOLD_MS."""
    order = Order()
    calm = dict.fromkeys(("A", "B", "C"), Need.QUIET)
    assert order.place(calm, 0) == ["A", "B", "C"]
    assert order.place({**calm, "C": Need.HIGH}, 1_000) == ["C", "A", "B"]
    assert order.place({**calm, "B": Need.ACT}, 2_000) == ["C", "B", "A"]
    assert order.place({**calm, "B": Need.ACT}, 1_000 + HOLD_MS) == ["C", "B", "A"]
    assert order.place({**calm, "B": Need.ACT}, 1_001 + HOLD_MS) == ["B", "A", "C"]


def test_need_that_flickers_moves_its_tile_once() -> None:
    """On and off every five seconds: the tile goes up and stays there."""
    order = Order()
    seen = set()
    for second in range(0, 120, 5):
        needs = {"A": Need.QUIET, "B": Need.MEDIUM if second % 10 == 0 else Need.QUIET}
        seen.add(tuple(order.place(needs, second * 1000.0)))
    assert seen == {("B", "A")}


@given(st.lists(st.lists(st.sampled_from(list(Need)), min_size=5, max_size=5), min_size=1, max_size=30))
def test_order_is_a_permutation_and_no_bed_in_greater_need_stands_behind(rows: list[list[Need]]) -> None:
    """Every bed stands once; one that needs more now than another ever did lately stands before it."""
    order = Order()
    names = [f"B{k}" for k in range(5)]
    history: list[dict[str, Need]] = []
    for second, row in enumerate(rows):
        needs = dict(zip(names, row, strict=True))
        history.append(needs)
        placed = order.place(needs, second * 1000.0)
        assert sorted(placed) == names
        recent = history[-(HOLD_MS // 1000 + 1) :]
        most = {name: max(past[name] for past in recent) for name in names}
        assert [most[name] for name in placed] == sorted(most.values(), reverse=True)
        ties = [(most[a] == most[b], names.index(a) < names.index(b)) for a, b in pairwise(placed)]
        assert all(first for tied, first in ties if tied)
