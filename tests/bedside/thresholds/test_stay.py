"""One stay under watch: delays, hysteresis, levels, sources, losses, latching, acknowledgement, suspension."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threshold_play import Play, S

from edgeward.bedside.feed import (
    Acknowledged,
    Admitted,
    Discharged,
    Feed,
    Measured,
    Moved,
    Population,
    Resumed,
    Suspended,
)
from edgeward.bedside.thresholds.core import STAYS_MAX, ThresholdCore
from edgeward.bedside.thresholds.settings import Latch, ThresholdSettings
from edgeward.bedside.thresholds.stay import GAP_NS, UNSEEN_NS
from edgeward.signal.numeric import Kind, Numeric

NO_LATCH = ThresholdSettings(latch=Latch.NONE)


def test_a_limit_needs_its_delay_and_clears_with_hysteresis() -> None:
    """130/min raises after 3 s, holds at 118/min, clears below 117/min."""
    play = Play()
    play.wait(2.75, every=1, hr=130)
    assert play.active == set()
    play.wait(0.25)
    assert play.active == {"hr-high"}
    alert = play.alert("hr-high")
    assert (alert["value"], alert["limit"], alert["unit"], alert["priority"]) == (130, 120, "/min", "medium")
    assert (alert["cause"], alert["bed"], alert["stay"]) == ("physiological", "bed 1", 1)
    play.wait(5, every=1, hr=118)
    assert play.active == {"hr-high"}
    play.wait(0.25, every=1, hr=117)
    assert play.active == set()


def test_the_limit_itself_is_no_violation() -> None:
    """120/min and 50/min are within 50 to 120."""
    play = Play()
    play.wait(20, every=1, hr=120)
    play.wait(20, every=1, hr=50)
    assert play.of("alert") == []


def test_a_violation_shorter_than_its_delay_is_silent() -> None:
    """SpO2 at 85 for 8 s and back is no alert; for 10 s it is one."""
    play = Play()
    play.wait(8, every=1, spo2=85)
    play.wait(5, every=1, spo2=95)
    assert play.of("alert") == []
    play.wait(10.25, every=1, spo2=85)
    assert play.active == {"spo2-low"}


def test_the_delay_runs_though_no_further_numeric_comes() -> None:
    """A monitor that speaks once a minute is not waited for: what it said last counts until it says otherwise."""
    play = Play()
    play.wait(240, every=60, spo2=97)
    play.measure(spo2=86)
    play.wait(10)
    assert play.active == {"spo2-low"}


def test_numerics_in_one_late_batch_are_judged_at_their_own_time() -> None:
    """Five seconds of low SpO2 that arrive half a minute later, with their end, are too short for an alert."""
    play = Play()
    old = play.now
    play.now += 30 * S
    low = [Numeric(Kind.SPO2, 85.0, old + k * S) for k in range(5)]
    play.feed(Measured(1, (*low, Numeric(Kind.SPO2, 96.0, old + 5 * S))))
    assert play.of("alert") == []
    late = [Numeric(Kind.SPO2, 85.0, old + k * S) for k in range(10, 25)]
    play.feed(Measured(1, tuple(late)))
    assert play.active == {"spo2-low"}


def test_a_worse_level_stands_for_the_one_that_it_implies() -> None:
    """At 75 % only the desaturation is raised; when that is over and SpO2 is still low, the lower level is at once."""
    play = Play(NO_LATCH)
    play.wait(11, every=1, spo2=75)
    assert play.active == {"spo2-desat"}
    assert play.alert("spo2-desat")["priority"] == "high"
    play.wait(0.25, every=1, spo2=86)
    assert play.active == {"spo2-low"}
    play = Play(NO_LATCH)
    play.wait(11, every=1, spo2=86)
    play.wait(11, every=1, spo2=75)
    assert play.active == {"spo2-low", "spo2-desat"}


def test_asystole_and_its_end() -> None:
    """Four seconds without a beat are an alert at once; a beat ends it; a silence of 2 s is not yet a beat."""
    play = Play(NO_LATCH)
    play.measure(beat_silence=3.9)
    assert play.active == set()
    play.measure(at=play.now + 1, beat_silence=4.0)
    play.now += 1
    play.measure(at=play.now, beat_silence=4.0)
    assert play.active == {"asystole"}
    assert play.alert("asystole")["priority"] == "high"
    play.now += S
    play.measure(beat_silence=2.0)
    assert play.active == {"asystole"}
    play.now += S
    play.measure(beat_silence=0.4)
    assert play.active == set()


def test_no_breath_for_twenty_seconds_is_apnoea() -> None:
    """A rate of nought is low respiration after 10 s and apnoea after 20 s."""
    play = Play()
    play.wait(10.25, every=1, rr=0)
    assert play.active == {"rr-low"}
    play.wait(10, every=1, rr=0)
    assert play.active == {"rr-low", "apnoea"}
    alert = play.alert("apnoea")
    assert (alert["value"], alert["limit"], alert["unit"], alert["priority"]) == (None, 20, "s", "high")


def test_one_heart_one_alert_whatever_counts_it() -> None:
    """ECG and oximeter both low: one alert; the oximeter takes over when the ECG is lost, and does not before."""
    play = Play()
    play.wait(5, every=1, hr=45, pulse=45)
    assert play.active == {"hr-low"}
    play.wait(5, every=1, hr=45, pulse=80)
    assert play.active == {"hr-low"}
    play.wait(1, every=1, hr=None, pulse=80)
    assert play.active == set()
    play.wait(12, every=1, hr=None, pulse=80)
    assert play.active == {"ecg-not-measured"}
    assert play.alert("ecg-not-measured")["priority"] == "low"


def test_the_arterial_line_is_preferred_and_an_old_cuff_does_not_contradict_it() -> None:
    """A cuff reading from before the line went must not end the alert that the line gave; a new one does."""
    play = Play(NO_LATCH)
    play.measure(nibp_mean=85, nibp_sys=120)
    play.wait(12, every=1, abp_mean=62, abp_sys=100)
    assert play.active == {"mean-low"}
    play.wait(5, every=1, abp_mean=None, abp_sys=None)
    assert play.active == {"mean-low"}
    play.measure(nibp_mean=84, nibp_sys=118)
    assert play.active == set()


def test_a_cuff_alerts_at_once_and_only_once() -> None:
    """There is nothing to wait for: the next reading may be an hour away. The line's own reading speaks then alone."""
    play = Play(NO_LATCH)
    play.measure(nibp_sys=82, nibp_mean=58)
    assert play.active == {"sys-low", "mean-low"}
    play.wait(12, every=1, abp_sys=84, abp_mean=60)
    assert [a["code"] for a in play.of("alert")] == ["sys-low", "mean-low"]


@pytest.mark.parametrize(
    ("values", "code", "priority"),
    [
        ({"hr": 38}, "hr-extreme-low", "high"),
        ({"hr": 145}, "hr-extreme-high", "high"),
        ({"pulse": 45}, "hr-low", "medium"),
        ({"rr": 5}, "rr-low", "medium"),
        ({"rr": 34}, "rr-high", "medium"),
        ({"abp_sys": 70}, "sys-extreme-low", "high"),
        ({"abp_sys": 88}, "sys-low", "medium"),
        ({"nibp_sys": 165}, "sys-high", "medium"),
        ({"abp_mean": 50}, "mean-extreme-low", "high"),
        ({"nibp_mean": 115}, "mean-high", "medium"),
        ({"temp": 35.4}, "temp-low", "low"),
        ({"temp": 39.4}, "temp-high", "low"),
        ({"etco2": 10}, "etco2-low", "medium"),
        ({"etco2": 60}, "etco2-high", "medium"),
        ({"cvp": -3}, "cvp-low", "low"),
        ({"cvp": 20}, "cvp-high", "low"),
        ({"vpc_rate": 15}, "vpc-high", "low"),
    ],
)
def test_every_limit_has_its_alert(values: dict[str, float], code: str, priority: str) -> None:
    """Each quantity beyond its limit for as long as it takes raises its own alert, and only that one."""
    play = Play()
    play.wait(11, every=1, **values)
    assert play.active == {code}
    assert play.alert(code)["priority"] == priority


def test_a_high_saturation_matters_only_on_oxygen() -> None:
    """A newborn on air at 99 % is well; on oxygen it is told."""
    play = Play(population=Population.NEONATAL)
    play.wait(20, every=1, spo2=99)
    assert play.active == set()
    play.measure(fio2=40)
    play.wait(20, every=1, spo2=99)
    assert play.active == {"spo2-high"}
    play.measure(fio2=21)
    play.wait(0.5)
    assert play.active == set()


def test_children_have_the_limits_of_their_age() -> None:
    """150/min is a fast adult, a well infant; the age decides between two children."""
    for age_y, raised in ((0.2, set()), (4.0, set()), (10.0, {"hr-high"}), (None, set())):
        play = Play(population=Population.PAEDIATRIC, age_y=age_y)
        play.wait(5, every=1, hr=145)
        assert play.active == raised, age_y


# --- what is old, doubled or odd


def test_what_is_older_or_comes_twice_changes_nothing() -> None:
    """Numerics that overtook each other never move the state back."""
    play = Play()
    start = play.now
    play.wait(5, every=1, hr=130)
    assert play.active == {"hr-high"}
    play.measure(at=start + S, hr=80)
    play.measure(at=start + 4 * S, hr=80)
    assert play.active == {"hr-high"}
    play.measure(hr=80)
    assert play.active == set()
    play.measure(hr=200)
    play.wait(4)
    assert play.active == set()


def test_a_stamp_from_the_future_shuts_nothing_out() -> None:
    """A source with a wrong clock is heard now, and what follows is heard too."""
    play = Play()
    play.measure(at=play.now + 3600 * S, hr=80)
    play.wait(4, every=1, hr=130)
    assert play.active == {"hr-high"}
    wrong = play.now + 7200 * S
    play.feed(Measured(1, (Numeric(Kind.HR, 130.0, wrong), Numeric(Kind.HR, 80.0, wrong + S))))
    assert play.active == set()


def test_a_value_that_no_patient_shows_is_none() -> None:
    """It raises nothing and ends nothing; if only such come, the measurement is missed."""
    play = Play(NO_LATCH)
    play.wait(5, every=1, hr=130)
    play.wait(5, every=1, hr=9999)
    assert play.active == {"hr-high"}
    play.wait(10, every=1, hr=-5, spo2=97)
    assert play.active == {"hr-high", "heart-not-measured"}


VALUES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-10, 400).map(float))
AT = st.one_of(st.integers(0, 3000 * S), st.integers(-(2**63), 2**63))
FEEDS = st.one_of(
    st.builds(
        Admitted,
        st.integers(1, 3),
        st.text(max_size=3),
        AT,
        st.sampled_from(Population),
        st.one_of(st.none(), st.floats()),
        st.sampled_from([None, "f"]),
        st.integers(-1, 4),
    ),
    st.builds(Moved, st.integers(1, 3), st.text(max_size=3), AT),
    st.builds(Discharged, st.integers(1, 3), AT),
    st.builds(
        Measured,
        st.integers(1, 3),
        st.lists(st.builds(Numeric, st.sampled_from(Kind), VALUES, AT), max_size=6).map(tuple),
    ),
    st.builds(Acknowledged, st.integers(1, 3), st.text(max_size=3), AT),
    st.builds(Suspended, st.integers(1, 3), AT, AT),
    st.builds(
        Resumed,
        st.integers(1, 3),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["version", "latest", "alerts", "pending", "heard", "seen"]), inner)
            ),
            max_leaves=8,
        ),
    ),
)


@given(st.lists(FEEDS, max_size=25))
def test_nothing_that_can_be_fed_stops_the_checks(feeds: list[Feed]) -> None:
    """Whatever the rim might say, the core lives, and what it says is plain JSON."""
    core = ThresholdCore(ThresholdSettings())
    now = 1_000 * S
    for message in feeds:
        now += S
        json.dumps(core.take(message, now), allow_nan=False)
        json.dumps(core.tick(now), allow_nan=False)


# --- what is not measured


def test_a_lost_measurement_is_an_alert_of_its_own_and_ends_nothing() -> None:
    """The probe falls off a desaturating patient: the old alert stays, the loss is told after 10 s, both end."""
    play = Play(NO_LATCH)
    play.wait(11, every=1, spo2=85)
    play.wait(9.75, every=1, spo2=None)
    assert play.active == {"spo2-low"}
    play.wait(0.5, every=1, spo2=None)
    assert play.active == {"spo2-low", "spo2-not-measured"}
    assert play.alert("spo2-not-measured")["cause"] == "technical"
    play.wait(UNSEEN_NS / S - 12, every=1, spo2=None)
    assert "spo2-low" in play.active
    play.wait(3, every=1, spo2=None)
    assert play.active == {"spo2-not-measured"}
    play.wait(1, every=1, spo2=96)
    assert play.active == set()


def test_a_flickering_measurement_does_not_put_an_alert_off() -> None:
    """Every second numeric unmeasured: the violation goes on across the gaps, but not across a long one."""
    play = Play(NO_LATCH)
    for _ in range(3):
        play.wait(1, every=1, hr=45)
        play.wait(1, every=1, hr=None)
    assert "hr-low" in play.active
    play = Play(NO_LATCH)
    play.wait(2, every=1, hr=45)
    play.wait(GAP_NS / S + 2, every=1, hr=None)
    play.wait(2.5, every=1, hr=45)
    assert play.active == set()
    play.wait(1, every=1, hr=45)
    assert play.active == {"hr-low"}


def test_a_source_that_falls_silent_is_told_once_for_everything() -> None:
    """After 10 s without anything from a monitor that spoke every second; no list of what it no longer sends."""
    play = Play(NO_LATCH)
    play.wait(8, every=1, hr=80, spo2=97, rr=14)
    play.wait(9)
    assert play.active == set()
    play.wait(120)
    assert play.active == {"source-silent"}
    assert play.alert("source-silent")["cause"] == "technical"
    play.wait(1, every=1, hr=80, spo2=97, rr=14)
    assert play.active == set()


def test_a_slow_source_is_missed_by_its_own_habit() -> None:
    """A gateway that speaks once a minute is silent after three minutes, not after ten seconds."""
    play = Play()
    play.wait(300, every=60, hr=80, spo2=97)
    play.wait(100)
    assert play.active == set()
    play.wait(60)
    assert play.active == {"source-silent"}


def test_one_kind_that_stops_while_others_go_on_is_told_by_name() -> None:
    """SpO2 no longer sent is missed after 30 s (ISO 80601-2-61), the heart after 10 s (IEC 60601-2-27)."""
    play = Play()
    play.wait(8, every=1, hr=80, spo2=97, rr=14)
    play.wait(29, every=1, hr=80, rr=14)
    assert play.active == set()
    play.wait(3, every=1, hr=80, rr=14)
    assert play.active == {"spo2-not-measured"}
    play.wait(11, every=1, rr=14)
    assert play.active == {"spo2-not-measured", "heart-not-measured"}


def test_a_cuff_and_a_thermometer_are_never_missed() -> None:
    """They measure when they are told to; their last reading holds for its time and then says nothing."""
    play = Play(NO_LATCH)
    for _ in range(4):
        play.measure(nibp_sys=80, nibp_mean=76, temp=37)
        play.wait(300)
    assert play.active == {"sys-low"}
    play.wait(4_200)
    assert play.active == set()


def test_nothing_is_missed_that_never_came() -> None:
    """A bed without a monitor raises nothing, however long."""
    play = Play()
    play.wait(600)
    assert play.of("alert") == []


# --- people


def test_acknowledging_ends_the_claim_and_hides_no_new_violation() -> None:
    """The seen alert stays visible while it holds; the same condition again later is another alert, unseen."""
    play = Play()
    play.wait(5, every=1, hr=130)
    first = play.alert("hr-high")["id"]
    play.acknowledge(first)
    assert play.alert("hr-high")["acknowledged"] is True
    play.wait(5, every=1, hr=90)
    assert play.shown == {}
    play.wait(5, every=1, hr=130)
    again = play.alert("hr-high")
    assert again["id"] != first
    assert again["acknowledged"] is False


def test_acknowledging_one_leaves_the_others() -> None:
    """By id only that one; with "" all; an id that nobody has is nobody's."""
    play = Play()
    play.wait(12, every=1, hr=130, spo2=85)
    play.acknowledge("no-such-alert")
    play.acknowledge(play.alert("hr-high")["id"])
    assert (play.alert("hr-high")["acknowledged"], play.alert("spo2-low")["acknowledged"]) == (True, False)
    play.acknowledge()
    assert play.alert("spo2-low")["acknowledged"] is True


def test_a_seen_alert_reminds_after_its_time() -> None:
    """Three minutes later it claims attention again, under the same id; a low priority does not."""
    play = Play()
    play.wait(12, every=1, hr=130, temp=39.5)
    before = play.alert("hr-high")["id"]
    play.acknowledge()
    play.wait(179, every=1, hr=130, temp=39.5)
    assert play.alert("hr-high")["acknowledged"] is True
    play.wait(2, every=1, hr=130, temp=39.5)
    assert (play.alert("hr-high")["acknowledged"], play.alert("hr-high")["id"]) == (False, before)
    assert play.alert("temp-high")["acknowledged"] is True


def test_a_high_priority_latches_until_it_is_seen() -> None:
    """A pause that nobody noticed is still there when somebody comes; medium ones are not, technical ones never."""
    play = Play()
    play.measure(beat_silence=6.0)
    play.wait(5, every=1, hr=130, beat_silence=0.4)
    assert (play.active, play.latched) == ({"hr-high"}, {"asystole"})
    play.wait(5, every=1, hr=90, beat_silence=0.4)
    assert (play.active, play.latched) == (set(), {"asystole"})
    play.acknowledge(play.alert("asystole")["id"])
    assert play.shown == {}


def test_a_latched_alert_that_comes_back_is_the_same_unseen_alert() -> None:
    """Flapping makes one alert, not a list."""
    play = Play()
    for _ in range(3):
        play.measure(beat_silence=6.0)
        play.wait(2, every=1, beat_silence=0.4)
    assert play.latched == {"asystole"}
    assert len({alert["id"] for alert in play.of("alert")}) == 1


def test_latching_is_the_sites_choice() -> None:
    """None latches nothing, all latches medium too, and never a technical alert."""
    play = Play(ThresholdSettings(latch=Latch.ALL))
    play.wait(12, every=1, hr=130, spo2=None)
    play.wait(2, every=1, hr=90, spo2=97)
    assert play.latched == {"hr-high"}
    play = Play(NO_LATCH)
    play.wait(1, every=1, beat_silence=6.0)
    play.wait(1, every=1, beat_silence=0.4)
    assert play.shown == {}


def test_a_suspension_is_shown_bounded_and_ends_by_itself() -> None:
    """Asked for an hour, granted three minutes; its rest is told; at its end unseen alerts are told again."""
    play = Play()
    play.suspend(3600)
    assert play.suspended_ms == 180_000
    play.wait(12, every=1, spo2=85)
    assert play.active == {"spo2-low"}
    assert 160_000 < play.suspended_ms < 180_000
    told = len([a for a in play.of("alert") if a["code"] == "spo2-low"])
    play.wait(170, every=1, spo2=85)
    assert play.suspended_ms == 0
    assert len([a for a in play.of("alert") if a["code"] == "spo2-low"]) == told + 1


def test_a_suspension_can_be_ended_and_asks_no_reminders() -> None:
    """Not later than now ends it; while it lasts nothing reminds."""
    play = Play(ThresholdSettings(reminder_s=60.0))
    play.wait(5, every=1, hr=130)
    play.acknowledge()
    play.suspend(180)
    play.wait(90, every=1, hr=130)
    assert play.alert("hr-high")["acknowledged"] is True
    play.suspend(0)
    assert play.suspended_ms == 0
    play.wait(0.5, every=1, hr=130)
    assert play.alert("hr-high")["acknowledged"] is False
    told = len(play.of("suspended"))
    play.suspend(-5)
    assert len(play.of("suspended")) == told


# --- beds, stays, memory


def test_a_bed_has_its_own_limits_for_the_patients_they_are_meant_for() -> None:
    """A wider limit for adults in one bed; it goes when the patient moves and never meets another population."""
    settings = ThresholdSettings(beds={"bed 1": {Population.ADULT: {"hr_high": 130}}})
    play = Play(settings)
    play.wait(5, every=1, hr=125)
    assert play.active == set()
    play.feed(Moved(1, "bed 2", play.now))
    play.wait(4, every=1, hr=125)
    assert play.active == {"hr-high"}
    assert play.alert("hr-high")["bed"] == "bed 2"
    child = Play(settings, population=Population.PAEDIATRIC, age_y=0.2)
    child.wait(5, every=1, hr=150)
    assert child.active == set()


def test_history_never_crosses_stays() -> None:
    """A discharged patient's low pressure says nothing of the next one; what comes late for the old stay is ignored."""
    core = ThresholdCore(ThresholdSettings())
    core.take(Admitted(1, "bed 1", 0), 0)
    core.take(Measured(1, (Numeric(Kind.NIBP_SYS, 70.0, S),)), S)
    core.take(Discharged(1, 2 * S), 2 * S)
    core.take(Admitted(2, "bed 1", 2 * S), 2 * S)
    assert core.take(Measured(1, (Numeric(Kind.NIBP_SYS, 70.0, 3 * S),)), 3 * S) == []
    assert [data for kind, data in core.tick(4 * S) if kind == "alert"] == []
    assert core.ignored == 1


def test_the_number_of_stays_is_bounded() -> None:
    """Beyond the ceiling the stay that was heard of least recently goes, not one that is watched."""
    core = ThresholdCore(ThresholdSettings(news2=False))
    for stay in range(STAYS_MAX):
        core.take(Admitted(stay, "b", 0), 0)
    core.take(Measured(0, (Numeric(Kind.NIBP_SYS, 120.0, S),)), S)
    core.take(Admitted(STAYS_MAX, "b", 0), 0)
    assert core.take(Measured(0, (Numeric(Kind.NIBP_SYS, 70.0, 2 * S),)), 2 * S)
    core.take(Measured(1, (Numeric(Kind.NIBP_SYS, 70.0, 2 * S),)), 2 * S)
    assert core.ignored == 1


def test_a_restarted_process_goes_on_where_the_other_stopped() -> None:
    """Alerts keep their ids, their acknowledgement and their latch; a pending delay and a suspension run on."""
    play = Play()
    play.measure(beat_silence=6.0)
    play.wait(5, every=1, hr=130, beat_silence=0.4, spo2=97)
    play.acknowledge(play.alert("hr-high")["id"])
    play.wait(6, every=1, hr=130, beat_silence=0.4, spo2=85)
    play.suspend(100)
    before = {key: {**a, "raised_ms_ago": 0} for key, a in play.shown.items()}
    play.shown.clear()
    play.restart(lost_s=1.0)
    assert {key: {**a, "raised_ms_ago": 0} for key, a in play.shown.items()} == before
    assert play.suspended_ms == 99_000
    play.wait(3.5, every=1, hr=130, beat_silence=0.4, spo2=85)
    assert "spo2-low" in play.active
    assert play.alert("hr-high")["acknowledged"] is True


@pytest.mark.parametrize(
    "memory", [None, 5, {}, {"version": 1}, {"version": 2, "latest": {}}, {"version": 1, "latest": {"heard": 1}}]
)
def test_a_memory_that_is_none_is_ignored(memory: object) -> None:
    """The stay goes on from its numerics, and the process counts what it could not use."""
    play = Play()
    play.feed(Resumed(1, memory))
    assert play.core.ignored == 1
    play.wait(5, every=1, hr=130)
    assert play.active == {"hr-high"}


# --- NEWS2


def test_news2_is_told_when_it_changes_and_each_minute() -> None:
    """Items, what is missing and the band; again after a minute though nothing changed."""
    play = Play()
    play.measure(acvpu=0, fio2=21, nibp_sys=120, temp=37)
    play.wait(3, every=1, hr=80, spo2=97, rr=14)
    news = play.of("news2")[-1]
    assert (news["score"], news["complete"], news["missing"], news["risk"]) == (0, True, [], "low")
    assert (news["scale"], news["applies"], news["from_gcs"]) == (1, True, False)
    count = len(play.of("news2"))
    play.wait(55, every=1, hr=80, spo2=97, rr=14)
    assert len(play.of("news2")) == count
    play.wait(10, every=1, hr=80, spo2=97, rr=14)
    assert len(play.of("news2")) == count + 1
    play.wait(3, every=1, hr=95, spo2=97, rr=26)
    news = play.of("news2")[-1]
    assert (news["score"], news["items"]["pulse"], news["items"]["respiration"]) == (4, 1, 3)
    assert news["risk"] == "low-medium"


def test_news2_grows_incomplete_as_items_grow_old() -> None:
    """Ten minutes after the monitor fell silent its items are missing, by time alone."""
    play = Play()
    play.wait(10, every=1, hr=80, spo2=97, rr=14)
    assert play.of("news2")[-1]["missing"] == ["oxygen", "systolic", "consciousness", "temperature"]
    play.wait(620)
    assert play.of("news2")[-1]["score"] is None
    assert len(play.of("news2")[-1]["missing"]) == 7


def test_news2_is_not_for_children() -> None:
    """It says so instead of a number; sixteen is old enough; the scale is the admission's."""
    for population, age_y, applies in (
        (Population.NEONATAL, None, False),
        (Population.PAEDIATRIC, None, False),
        (Population.PAEDIATRIC, 8.0, False),
        (Population.PAEDIATRIC, 16.0, True),
        (Population.ADULT, 15.0, False),
        (Population.ADULT, None, True),
    ):
        play = Play(population=population, age_y=age_y, spo2_scale=2)
        play.wait(2, every=1, hr=80)
        news = play.of("news2")[-1]
        assert (news["applies"], news["scale"]) == (applies, 2), (population, age_y)
        assert (news["score"] is None) is not applies
