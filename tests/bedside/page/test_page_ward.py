"""What a ward's pages know, and that nothing of one patient is ever shown for another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ward_messages import BEDS, STAY, alert, bed, hello, mode, news2, score, vitals

from edgeward.bedside.page.pieces import live_modes, percent
from edgeward.bedside.page.stay import MODE_TTL_MS, Stay
from edgeward.bedside.page.vitals import SLOTS, TILE, keep_ms, marks_of, quantity_of, shown, shown_first
from edgeward.bedside.page.ward import BEDS_MAX, UNCLAIMED_MS_MAX, WardState, reachable
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import Kind

NAME = BEDS[0]


@pytest.fixture
def ward() -> WardState:
    state = WardState(hello(), 0)
    for name in BEDS:
        state.apply("bed", bed(name), 0)
    return state


def stay_in(state: WardState, name: str) -> Stay:
    found = state.bed_named(name)
    assert found is not None
    stay = state.stay_of(found)
    assert stay is not None
    return stay


def text(state: WardState, slots: tuple[str, ...], now_ms: float) -> tuple[str, str, str]:
    """Slot, state and text of what stands in a place of the first bed's tile."""
    stay = stay_in(state, NAME)
    found = shown_first(slots, stay.vitals, marks_of(stay.alerts), now_ms)
    return found.slot.name, found.state, found.text


# --- vital signs


def test_value_is_shown_while_it_is_ok_and_young(ward: WardState) -> None:
    """Also when the device falls silent: after its ceiling a value is gone, and no zero stands for it."""
    ward.apply("vitals", vitals(NAME, hr=71.4), 1_000)
    assert text(ward, ("hr", "pulse"), 91_000) == ("hr", "ok", "71")
    assert text(ward, ("hr", "pulse"), 91_001) == ("hr", "stale", "")
    ward.apply("vitals", vitals(NAME, hr=72), 92_000)
    stale = {"hr": {"v": 72, "age_ms": 91_000, "state": "stale"}}
    ward.apply("vitals", {**vitals(NAME), "values": stale}, 183_000)
    assert text(ward, ("hr", "pulse"), 183_000) == ("hr", "stale", "")
    ward.apply("vitals", vitals(NAME, hr=None), 184_000)
    assert text(ward, ("hr", "pulse"), 184_000) == ("hr", "unmeasured", "")


def test_other_source_of_a_quantity_stands_in(ward: WardState) -> None:
    """Pulse for heart rate, the cuff for the arterial line; each under its own name."""
    ward.apply("vitals", vitals(NAME, hr=None, pulse=64, abp_sys=None, nibp_sys=118, nibp_dia=64), 0)
    assert text(ward, ("hr", "pulse"), 0) == ("pulse", "ok", "64")
    assert text(ward, ("abp", "nibp"), 0) == ("nibp", "ok", "118/64")
    ward.apply("vitals", vitals(NAME, hr=66, abp_sys=121, abp_dia=66, abp_mean=84), 1_000)
    assert text(ward, ("hr", "pulse"), 1_000) == ("hr", "ok", "66")
    assert text(ward, ("abp", "nibp"), 1_000) == ("abp", "ok", "121/66 (84)")
    assert text(ward, ("abp", "nibp"), 92_000) == ("nibp", "ok", "118/64")
    assert text(ward, ("abp", "nibp"), keep_ms(Kind.NIBP_SYS) + 1)[1] == "stale"


def test_part_of_a_pressure_is_dashes_not_a_guess(ward: WardState) -> None:
    """A mean alone is shown as a mean alone."""
    ward.apply("vitals", vitals(NAME, abp_mean=82), 0)
    assert text(ward, ("abp",), 0) == ("abp", "ok", "--/-- (82)")


def test_late_word_of_an_older_value_goes_to_the_trend_only(ward: WardState) -> None:
    """The newest observation stands; what was observed before it is history."""
    ward.apply("vitals", vitals(NAME, spo2=93), 600_000)
    ward.apply("vitals", vitals(NAME, age_ms=300_000, spo2=99), 601_000)
    assert text(ward, ("spo2",), 601_000) == ("spo2", "ok", "93")
    mid = stay_in(ward, NAME).trends.window(601_000, 1)["vitals"]["spo2"]["mid"]
    assert [value for value in mid if value is not None] == [99.0, 93.0]


def test_unmeasured_and_stale_values_leave_a_gap(ward: WardState) -> None:
    """Only what was measured is in the trend."""
    for minute, value in enumerate([97.0, None, 95.0]):
        ward.apply("vitals", vitals(NAME, spo2=value), minute * 60_000)
    assert stay_in(ward, NAME).trends.window(120_000, 1)["vitals"]["spo2"]["mid"][-3:] == [97.0, None, 95.0]


@pytest.mark.parametrize(
    ("code", "quantity"),
    [
        ("hr-extreme-high", "rate"),
        ("asystole", "rate"),
        ("spo2-desat", "spo2"),
        ("desaturation", "spo2"),
        ("mean-extreme-low", "pressure"),
        ("nibp-sys-low", "pressure"),
        ("rr-low", "rr"),
        ("apnoea", "rr"),
        ("temp-high", "temp"),
        ("vpc-high", "vpc"),
        ("thresholds-down", None),
        ("", None),
    ],
)
def test_alert_marks_the_quantity_that_its_code_names(code: str, quantity: str | None) -> None:
    """By the code's leading words; an alert about something else marks nothing."""
    assert quantity_of(code) == quantity


def test_mark_is_the_highest_priority_of_active_physiological_alerts(ward: WardState) -> None:
    """A technical alert and one that is over leave the number unmarked."""
    ward.apply("alert", alert(NAME, "a", "low"), 0)
    ward.apply("alert", alert(NAME, "b", "medium"), 0)
    ward.apply("alert", alert(NAME, "c", "high", active=False, latched=True), 0)
    ward.apply("alert", alert(NAME, "d", "high", cause="technical"), 0)
    stay = stay_in(ward, NAME)
    assert shown(SLOTS["spo2"], stay.vitals, marks_of(stay.alerts), 0).mark == "medium"
    assert shown(SLOTS["hr"], stay.vitals, marks_of(stay.alerts), 0).mark == ""


def test_every_place_of_a_tile_has_a_slot() -> None:
    """The places name slots that are there."""
    assert all(name in SLOTS for names in TILE for name in names)


# --- patients


def everything(state: WardState, name: str, now_ms: float) -> None:
    state.apply("vitals", vitals(name, hr=71), now_ms)
    state.apply("alert", alert(name), now_ms)
    state.apply("score", score(name), now_ms)
    state.apply("news2", news2(name, 5), now_ms)
    state.apply("mode", mode(name), now_ms)


def is_blank(stay: Stay) -> bool:
    told = (stay.vitals, list(stay.alerts), stay.scores, stay.modes, stay.trends.window(0, 1)["vitals"])
    return stay.news2 is None and not any(told)


def test_next_patient_in_a_bed_starts_with_nothing(ward: WardState) -> None:
    """No value, alert, score, mode or trend is inherited; late messages of the one before are refused."""
    everything(ward, NAME, 1_000)
    ward.apply("bed", bed(NAME, stay=77), 2_000)
    assert is_blank(stay_in(ward, NAME))
    for kind, data in [("vitals", vitals(NAME, hr=71)), ("alert", alert(NAME)), ("score", score(NAME))]:
        with pytest.raises(InputError) as caught:
            ward.apply(kind, data, 3_000)
        assert caught.value.code == "page-stay"
    assert is_blank(stay_in(ward, NAME))


def test_patient_who_moves_takes_everything_along(ward: WardState) -> None:
    """Also when two change beds, in whatever order the beds are told."""
    everything(ward, BEDS[0], 1_000)
    ward.apply("vitals", vitals(BEDS[1], hr=99), 1_000)
    first, second = stay_in(ward, BEDS[0]), stay_in(ward, BEDS[1])
    ward.apply("bed", bed(BEDS[1], stay=STAY[BEDS[0]]), 2_000)
    ward.apply("bed", bed(BEDS[0], stay=STAY[BEDS[1]]), 2_100)
    assert stay_in(ward, BEDS[1]) is first
    assert stay_in(ward, BEDS[0]) is second


def test_bed_that_a_patient_left_shows_nobody_until_it_is_told(ward: WardState) -> None:
    """Between the two messages the old bed is unknown, never a double of the new one."""
    everything(ward, BEDS[0], 1_000)
    ward.apply("bed", bed(BEDS[2], stay=STAY[BEDS[0]]), 2_000)
    left = ward.bed_named(BEDS[0])
    assert left is not None
    assert ward.stay_of(left) is None
    assert left.told_ms is None


def test_discharged_patient_is_forgotten(ward: WardState) -> None:
    """An empty bed holds nothing; after a while the stay is gone for good."""
    everything(ward, NAME, 1_000)
    ward.apply("bed", bed(NAME, stay=None, state="empty", silent_ms=None), 2_000)
    with pytest.raises(InputError):
        ward.apply("vitals", vitals(NAME, hr=70), 2_500)
    ward.forget(2_001 + UNCLAIMED_MS_MAX)
    ward.apply("bed", bed(NAME), 3_000 + UNCLAIMED_MS_MAX)
    assert is_blank(stay_in(ward, NAME))


@given(st.lists(st.tuples(st.sampled_from(BEDS), st.integers(1, 6), st.booleans()), max_size=60))
def test_a_stay_lies_in_one_bed_and_its_values_are_its_own(moves: list[tuple[str, int, bool]]) -> None:
    """Whatever the beds are told to hold: each stay stands in at most one, and shows only what was measured on it."""
    state = WardState(hello(), 0)
    for second, (name, stay, occupied) in enumerate(moves):
        now_ms = second * 1000.0
        fields: dict[str, Any] = {"stay": stay if occupied else None, "state": "occupied" if occupied else "empty"}
        state.apply("bed", bed(name, **fields), now_ms)
        if occupied:
            state.apply("vitals", {**vitals(name, hr=100 + stay), "stay": stay}, now_ms)
        lying = [held.stay for held in state.beds if held.stay is not None]
        assert len(lying) == len(set(lying))
        for held in state.beds:
            found = state.stay_of(held)
            for vital in found.vitals.values() if found else ():
                assert vital.value == 100 + (held.stay or 0)


def test_stays_that_nobody_forgets_are_bounded() -> None:
    """Ten thousand patients through one bed leave a bounded number of stays."""
    state = WardState(hello(), 0)
    for stay in range(10_000):
        state.apply("bed", bed(NAME, stay=stay), stay)
    assert len(state._stays) <= 2 * BEDS_MAX


# --- the rest


def test_instants_do_not_wander_with_the_time_under_way(ward: WardState) -> None:
    """Ages that come with a little jitter stay one instant, so that a page that shows it need not change."""
    ward.apply("mode", mode(NAME, since_ms=90_000), 100_000)
    ward.apply("bed", bed(NAME, suspended_ms_left=60_000), 100_000)
    first, held = dict(stay_in(ward, NAME).modes["sepsis"]), ward.bed_named(NAME)
    assert held is not None
    until = held.suspended_until_ms
    ward.apply("mode", mode(NAME, since_ms=94_700), 105_000)
    ward.apply("bed", bed(NAME, suspended_ms_left=54_800), 105_000)
    assert stay_in(ward, NAME).modes["sepsis"]["since_at_ms"] == first["since_at_ms"]
    assert held.suspended_until_ms == until
    ward.apply("bed", bed(NAME, suspended_ms_left=0), 106_000)
    assert not held.suspended(106_000)


def test_promise_of_an_ai_ends_when_it_is_not_renewed(ward: WardState) -> None:
    """ "AI local" must be told again and again; "threshold only" stands until something better is told."""
    ward.apply("mode", mode(NAME), 0)
    stay = stay_in(ward, NAME)
    assert live_modes(stay, MODE_TTL_MS)
    assert not live_modes(stay, MODE_TTL_MS + 1)
    ward.apply("mode", mode(NAME, "THRESHOLD_ONLY", "engine_crashed"), 0)
    assert live_modes(stay, 100 * MODE_TTL_MS)[0]["mode"] == "THRESHOLD_ONLY"


def test_older_score_does_not_replace_a_newer_one(ward: WardState) -> None:
    """It stays in the history."""
    ward.apply("score", score(NAME, 0.40, age_ms=0), 100_000)
    ward.apply("score", score(NAME, 0.10, age_ms=70_000), 100_100)
    live = stay_in(ward, NAME).live_score("sepsis", 100_100)
    assert live is not None
    assert live["probability"] == 0.40


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        ("bed", bed("Bed 9"), "page-bed"),
        ("vitals", vitals(NAME, nonsense=3), "ValueError"),
        ("vitals", {**vitals(NAME), "values": {"hr": {"v": "71", "age_ms": 0, "state": "ok"}}}, "page-datum"),
        ("vitals", {**vitals(NAME), "values": {"hr": {"v": True, "age_ms": 0, "state": "ok"}}}, "page-datum"),
        ("vitals", {**vitals(NAME), "values": {"hr": {"v": 71, "age_ms": 0, "state": "fine"}}}, "page-datum"),
        ("alert", alert(NAME, priority="urgent"), "page-datum"),
        ("score", score(NAME, 1.2), "page-datum"),
        ("score", score(NAME, drivers=[{"feature": "x", "label": "x", "value": "y", "effect": 0}]), "page-datum"),
        ("score", {**score(NAME), "ttl_ms": None}, "page-datum"),
        ("hello", hello(*[str(n) for n in range(65)]), "page-beds"),
        ("hello", hello("A", "A"), "page-beds"),
        ("hello", hello("x" * 200), "page-beds"),
    ],
)
def test_odd_datum_is_refused_without_its_content(ward: WardState, kind: str, data: dict[str, Any], code: str) -> None:
    """The refusal names the kind of fault, and nothing that stood in the message."""
    with pytest.raises((InputError, ValueError)) as caught:
        ward.apply(kind, data, 0)
    assert getattr(caught.value, "code", type(caught.value).__name__) == code
    if isinstance(caught.value, InputError):
        assert "urgent" not in str(caught.value)


def test_number_of_models_of_a_bed_is_bounded(ward: WardState) -> None:
    """The ninth task is refused, and the first eight stay."""
    for number in range(8):
        ward.apply("score", score(NAME, task=f"t{number}"), 0)
    with pytest.raises(InputError):
        ward.apply("score", score(NAME, task="t8"), 0)
    assert len(stay_in(ward, NAME).scores) == 8


def test_ecg_page_is_linked_by_web_addresses_only() -> None:
    """A script, or anything else that is no page, is no link."""
    for address, kept in [
        ("http://127.0.0.1:8600/", True),
        ("/ecg/4", True),
        ("javascript:alert(1)", False),
        (7, False),
    ]:
        listed = [{"bed": "A", "population": "adult", "ecg": address}]
        state = WardState({**hello(), "beds": listed}, 0)
        assert bool(state.beds[0].ecg) is kept


def test_probability_is_never_rounded_to_none_or_all() -> None:
    """Between certain and impossible there is always something left."""
    assert [percent(p) for p in (0.0, 0.004, 0.01, 0.315, 0.99, 0.996, 1.0)] == [
        "< 1 %", "< 1 %", "1 %", "32 %", "99 %", "> 99 %", "> 99 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "host", "shown"),
    [
        ("http://0.0.0.0:8600/", "ward7.example:8080", "http://ward7.example:8600/"),
        ("http://[::]:8600/", "[fd00::5]:8080", "http://[fd00::5]:8600/"),
        ("http://127.0.0.1:8600/", "10.20.0.5:8080", "http://10.20.0.5:8600/"),
        ("http://127.0.0.1:8600/", "127.0.0.1:8080", "http://127.0.0.1:8600/"),
        ("http://ecg.example:8600/", "10.20.0.5", "http://ecg.example:8600/"),
        ("/ecg", "10.20.0.5", "/ecg"),
        ("http://0.0.0.0:x/", "10.20.0.5", "http://0.0.0.0:x/"),
        ("http://0.0.0.0:8600/", "", "http://0.0.0.0:8600/"),
    ],
)
def test_link_to_an_ecg_page_leads_there_from_where_it_is_asked(address: str, host: str, shown: str) -> None:
    """A stream bound to every interface tells an address that is right on the device alone."""
    assert reachable(address, host) == shown
