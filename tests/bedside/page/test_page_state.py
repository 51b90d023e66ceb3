"""What a browser that joins now is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.page.datum import ENDED_KEPT_MS, NOTES_KEPT_MAX
from edgeward.bedside.page.state import WAVE_KEPT_S, PageState
from edgeward.bedside.page.words import age_words, mode_title, reason_words
from edgeward.kernel.errors import InputError


def note(key: str, *, active: bool = True, priority: str = "medium", ago: float = 0) -> dict[str, Any]:
    return {"id": key, "code": key, "text": key, "priority": priority, "raised_ms_ago": ago, "active": active}


def wave(i: int, n: int = 32) -> dict[str, Any]:
    return {"i": i, "v": [[0] * n, [1] * n], "bad": [False, False]}


def test_joining_browser_gets_eight_seconds_of_wave_and_the_beats_in_them() -> None:
    """Older blocks and beats are let go, newer ones kept in order."""
    state = PageState({}, 0)
    for block in range(200):
        state.apply("wave", wave(block * 32), block * 128)
        state.apply("beat", {"i": block * 32, "cls": "N", "verdict": "accepted"}, block * 128)
    waves = [data["i"] for kind, data in state.joining(0) if kind == "wave"]
    beats = [data["i"] for kind, data in state.joining(0) if kind == "beat"]
    end = 200 * 32
    assert waves == list(range(waves[0], end, 32))
    assert end - WAVE_KEPT_S * 250 - 32 < waves[0] <= end - WAVE_KEPT_S * 250
    assert beats[-1] == end - 32
    assert beats[0] >= waves[0]


def test_stream_that_begins_anew_forgets_the_old_wave() -> None:
    """Indices that fall belong to another stream: no old sample is kept beside them."""
    state = PageState({}, 0)
    state.apply("wave", wave(50_000), 0)
    state.apply("beat", {"i": 50_000, "cls": "V", "verdict": "accepted"}, 0)
    state.apply("wave", wave(0), 1)
    assert [data["i"] for kind, data in state.joining(2) if kind in ("wave", "beat")] == [0]


def test_heart_rate_past_its_time_to_live_is_null() -> None:
    """A figure that nobody renewed is not shown."""
    state = PageState({"rate_ttl_ms": 3000}, 0)
    state.apply("rate", {"hr_bpm": 71, "age_ms": 500}, 1000)
    assert state.as_json(3400)["rate"] == {"hr_bpm": 71, "age_ms": 2900}
    assert state.as_json(3600)["rate"]["hr_bpm"] is None


def test_end_or_repeat_of_an_advisory_does_not_make_it_young() -> None:
    """Its age counts from when it was raised, its end from when it ended first."""
    state = PageState({}, 0)
    state.apply("advisory", note("run"), 1_000)
    state.apply("advisory", note("run"), 5_000)
    assert state.as_json(6_000)["advisory"][0]["raised_ms_ago"] == 5_000
    state.apply("advisory", note("run", active=False), 7_000)
    state.apply("advisory", note("run", active=False), 8_000)
    (ended,) = state.as_json(9_000)["advisory"]
    assert (ended["raised_ms_ago"], ended["ended_ms_ago"]) == (8_000, 2_000)
    assert state.as_json(7_001 + ENDED_KEPT_MS)["advisory"] == []


def test_alerts_come_by_activity_then_priority() -> None:
    """High before medium before low, and all of them before what has ended."""
    state = PageState({}, 0)
    for at, (key, priority, active) in enumerate(
        [("a", "low", True), ("b", "high", False), ("c", "medium", True), ("d", "high", True)]
    ):
        state.apply("alert", note(key, priority=priority, active=active), at)
    assert [held["id"] for held in state.as_json(10)["alert"]] == ["d", "c", "a", "b"]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["high", "medium", "low"]), st.booleans()), max_size=300)
)
def test_notes_are_bounded_and_a_high_one_goes_last(changes: list[tuple[int, str, bool]]) -> None:
    """However many come, the list stays short, and an active one of lower priority goes before a high one."""
    state = PageState({}, 0)
    for at, (key, priority, active) in enumerate(changes):
        before = {held["id"]: held for held in state.as_json(at)["alert"]}
        state.apply("alert", note(str(key), priority=priority, active=active), at)
        after = {held["id"]: held for held in state.as_json(at)["alert"]}
        assert len(after) <= NOTES_KEPT_MAX
        lost = [held for key_, held in before.items() if key_ not in after]
        if lost and lost[0]["active"] and lost[0]["priority"] == "high":
            assert all(held["active"] and held["priority"] == "high" for held in after.values())


@pytest.mark.parametrize(
    ("kind", "datum"),
    [
        ("wave", {"i": 0, "v": []}),
        ("wave", {"i": 0, "v": [[]]}),
        ("wave", {"i": 0, "v": [[0] * 5000]}),
        ("wave", {"v": [[0]]}),
        ("rate", {}),
        ("rate", {"hr_bpm": "71"}),
        ("mode", {"mode": None}),
        ("advisory", {"id": "a", "text": "x", "priority": "urgent", "active": True}),
        ("beat", {"i": 1, "cls": "N"}),
    ],
)
def test_datum_that_lacks_a_field_is_refused_without_its_content(kind: str, datum: dict[str, Any]) -> None:
    """The error names the kind, never what was in it."""
    with pytest.raises(InputError) as caught:
        PageState({}, 0).apply(kind, datum, 0)
    assert caught.value.code == "page-datum"
    assert "urgent" not in str(caught.value)
    assert "71" not in str(caught.value)


def test_mode_is_put_into_plain_words() -> None:
    """Known codes have a sentence; unknown ones are shown as they are named and never as a working AI."""
    sent = PageState({}, 0).apply("mode", {"mode": "THRESHOLD_ONLY", "reason": "engine_crashed", "since_ms": 5}, 0)
    assert (sent["title"], sent["why"]) == ("Threshold only", "the AI stopped")
    assert mode_title("ODD_ONE") == "Odd one"
    assert reason_words("some-new_code") == "some-new code"
    assert [age_words(ms) for ms in (-5, 59_999, 60_000, 3_600_000)] == ["0 s", "59 s", "1 min", "1 h 0 min"]
