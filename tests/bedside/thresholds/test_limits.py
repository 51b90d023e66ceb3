"""Limits: every default is whole, ages are found, and no setting can silence a check."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.feed import Population
from edgeward.bedside.thresholds.checks import KINDS_CHECKED, MEASUREMENTS, checks_of
from edgeward.bedside.thresholds.limits import (
    ADULT,
    LIMIT_NAMES,
    NEONATAL,
    WAIT_S_MAX,
    Limits,
    defaults,
    every_default,
)
from edgeward.bedside.thresholds.settings import SUSPEND_S_MAX, Latch, ThresholdSettings
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import KINDS, Kind


def test_the_adult_defaults_are_the_ones_that_are_published() -> None:
    """ADR 9's first column."""
    assert (ADULT.hr_low, ADULT.hr_high, ADULT.hr_extreme_low, ADULT.hr_extreme_high) == (50, 120, 40, 140)
    assert (ADULT.spo2_low, ADULT.spo2_desat, ADULT.spo2_delay_s) == (90, 80, 10)
    assert (ADULT.rr_low, ADULT.rr_high, ADULT.apnoea_s, ADULT.asystole_s) == (8, 30, 20, 4)
    assert (ADULT.sys_low, ADULT.sys_high, ADULT.mean_low, ADULT.mean_high) == (90, 160, 70, 110)
    assert (ADULT.temp_low, ADULT.temp_high) == (36, 39)


@pytest.mark.parametrize(
    ("age_y", "hr"),
    [
        (0.0, (115, 170)),
        (0.05, (115, 170)),
        (1 / 12, (105, 170)),
        (0.49, (105, 170)),
        (0.5, (100, 165)),
        (1.0, (90, 165)),
        (2.0, (85, 155)),
        (3.0, (75, 155)),
        (4.99, (75, 155)),
        (5.0, (70, 140)),
        (9.0, (65, 130)),
        (12.0, (60, 125)),
        (15.0, (60, 115)),
        (17.9, (60, 115)),
        (130.0, (60, 115)),
    ],
)
def test_children_have_the_published_band_of_their_age(age_y: float, hr: tuple[float, float]) -> None:
    """Heart-rate bands of Pediatrics 2017;140:e20162458, both sides of each birthday."""
    limits = defaults(Population.PAEDIATRIC, age_y)
    assert (limits.hr_low, limits.hr_high) == hr


def test_limits_follow_growth() -> None:
    """From band to band the heart's limits fall and the pressure's rise, never the other way."""
    bands = every_default(Population.PAEDIATRIC)[1:]
    for younger, older in pairwise(bands):
        assert older.hr_low <= younger.hr_low
        assert older.hr_high <= younger.hr_high
        assert older.sys_low >= younger.sys_low
        assert older.mean_low >= younger.mean_low
    assert defaults(Population.NEONATAL, 40.0) is NEONATAL
    assert defaults(Population.ADULT, 3.0) is ADULT


@pytest.mark.parametrize("name", sorted(LIMIT_NAMES))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e6, 1e6])
def test_no_limit_can_be_put_out_of_reach(name: str, value: float) -> None:
    """What would silence a check, or delay it for ever, is refused by name."""
    with pytest.raises(ConfigError) as refused:
        ADULT.changed({name: value}) if math.isfinite(value) else Limits(**{name: value})
    assert refused.value.code == "setting-invalid"
    assert name in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"hr_low": 130},
        {"hr_extreme_low": 55},
        {"hr_extreme_high": 110},
        {"hr_low": 115, "hr_hysteresis": 3},
        {"spo2_desat": 92},
        {"rr_low": 30, "rr_high": 32},
        {"sys_low": 50, "sys_extreme_low": 60},
        {"mean_high": 60},
        {"temp_low": 37, "temp_high": 37.2},
    ],
)
def test_limits_must_rise(changes: dict[str, float]) -> None:
    """Levels in the wrong order would leave one of them mute."""
    with pytest.raises(ConfigError) as refused:
        ADULT.changed(changes)
    assert refused.value.code == "setting-invalid"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hr_hihg": 130}, "setting-unknown"),
        ({"hr_high": True}, "setting-invalid"),
        ({"hr_high": "9"}, "setting-invalid"),
    ],
)
def test_misspelt_and_mistyped_limits_are_refused(changes: dict, code: str) -> None:
    """The known names are in the message."""
    with pytest.raises(ConfigError) as refused:
        ADULT.changed(changes)
    assert refused.value.code == code


def test_the_heart_is_told_of_within_ten_seconds_whatever_is_set() -> None:
    """IEC 60601-2-27: no setting lets asystole or an extreme rate wait longer."""
    slowest = ADULT.changed({"hr_delay_s": 10, "asystole_s": 10})
    for check in checks_of(slowest):
        if check.code.startswith(("hr-", "asystole")):
            assert check.delay_ns <= WAIT_S_MAX * 1e9
    for name in ("hr_delay_s", "asystole_s"):
        with pytest.raises(ConfigError):
            ADULT.changed({name: 10.1})


@pytest.mark.parametrize("limits", [limits for population in Population for limits in every_default(population)])
def test_every_check_can_be_broken_and_can_end(limits: Limits) -> None:
    """For each there is a value that a patient can show that raises it, and one that ends it."""
    codes = [check.code for check in checks_of(limits)]
    assert len(codes) == len(set(codes))
    for check in checks_of(limits):
        info = KINDS[check.kinds[0]]
        worst, best = (info.low, info.high) if check.below else (info.high, info.low)
        assert check.violated(worst, raised=False) or check.code == "spo2-high", check.code
        assert not check.violated(best, raised=True), check.code
        assert set(check.worse) <= set(codes)
        order = [codes.index(code) for code in (*check.worse, check.code)]
        assert order == sorted(order), "worse levels are judged first"


def test_every_vital_numeric_is_looked_at() -> None:
    """The kinds without a limit are the ones that ADR 9 names."""
    checked = {kind for check in checks_of(ADULT) for kind in check.kinds}
    measured = {kind for measurement in MEASUREMENTS for kind in measurement.kinds}
    vital = {kind for kind, info in KINDS.items() if info.group.value == "vital"}
    assert vital - checked == {Kind.ABP_DIA, Kind.NIBP_DIA, Kind.PERFUSION}
    assert checked | measured <= KINDS_CHECKED


# --- settings


@given(
    st.sampled_from(Latch),
    st.floats(60, 600),
    st.floats(30, 600),
    st.booleans(),
    st.dictionaries(st.text(max_size=5), st.just({Population.ADULT: {"hr_high": 125.0}}), max_size=3),
)
def test_settings_survive_the_way_to_the_process(
    latch: Latch, reminder_s: float, suspend_s: float, news2: bool, beds: dict
) -> None:
    """to_json, a JSON text, from_json: the same settings."""
    settings = ThresholdSettings({Population.NEONATAL: {"spo2_high": 96.0}}, beds, latch, reminder_s, suspend_s, news2)
    assert ThresholdSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_a_bed_changes_what_its_population_changed() -> None:
    """Defaults, then the site's population, then the bed's; other populations in that bed keep theirs."""
    settings = ThresholdSettings(
        {Population.ADULT: {"hr_high": 125.0, "rr_high": 28.0}}, {"4": {Population.ADULT: {"hr_high": 130.0}}}
    )
    assert settings.limits("4", Population.ADULT, None) == ADULT.changed({"hr_high": 130.0, "rr_high": 28.0})
    assert settings.limits("5", Population.ADULT, None).hr_high == 125.0
    assert settings.limits("4", Population.NEONATAL, None) == NEONATAL
    assert asdict(settings.limits("4", Population.ADULT, None))["hr_low"] == 50.0


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"populations": {"adult": {"hr_high": 40}}}, "setting-invalid"),
        ({"populations": {"adlut": {}}}, "setting-invalid"),
        ({"populations": {"adult": {"hr": 40}}}, "setting-unknown"),
        ({"populations": {"paediatric": {"hr_high": 150}}}, "setting-invalid"),  # above the extreme of a school child
        ({"beds": {"4": {"adult": {"hr_low": 121}}}}, "setting-invalid"),
        ({"beds": 7}, "setting-invalid"),
        ({"latch": "sometimes"}, "setting-invalid"),
        ({"reminder_s": 5}, "setting-invalid"),
        ({"reminder_s": True}, "setting-invalid"),
        ({"suspend_s_max": SUSPEND_S_MAX + 1}, "setting-invalid"),
        ({"suspend_s_max": "long"}, "setting-invalid"),
        ({"suspendsmax": 60}, "setting-unknown"),
    ],
)
def test_wrong_settings_are_refused_whole(document: dict, code: str) -> None:
    """Every change is tried on every set of limits that it could meet, before any patient does."""
    with pytest.raises(ConfigError) as refused:
        ThresholdSettings.from_json(document)
    assert refused.value.code == code
