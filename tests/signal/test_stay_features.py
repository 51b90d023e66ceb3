"""A stay's features: the same for a bed and for training, at any cadence, and never from the future."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.signal.history import NS_PER_S
from edgeward.signal.numeric import Kind, Numeric
from edgeward.signal.stay_channels import CHANNELS, VITALS
from edgeward.signal.stay_features import NAMES, StayFeatures
from edgeward.signal.stay_labels import describe

HOUR = 3600 * NS_PER_S
MINUTE = 60 * NS_PER_S


def bed(*numerics: tuple[Kind, float | None, int], began_ns: int = 0) -> StayFeatures:
    """A stay that has measured these (kind, value, ns)."""
    features = StayFeatures()
    features.begin(began_ns, 70.0, 1.0)
    for kind, value, at_ns in numerics:
        features.update(Numeric(kind, value, at_ns))
    return features


def value(features: StayFeatures, name: str, now_ns: int) -> float:
    return float(features.all_values(now_ns)[0, NAMES.index(name)])


def test_every_feature_has_a_label_and_a_unit() -> None:
    """What drives a score can be shown to a nurse."""
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        shown = describe(name)
        assert shown.label
        assert shown.unit
    with pytest.raises(ValueError, match="no feature"):
        describe("hr.hunch")
    with pytest.raises(ValueError, match="no feature"):
        StayFeatures(("hr.hunch",))


def test_a_bed_and_a_replayed_batch_agree() -> None:
    """Numerics one by one through a bed, and thousands in lock-step, give the same vectors to the last bit."""
    rng = np.random.default_rng(1)
    stays, hours = 5, 80
    batch = StayFeatures(stays=stays)
    batch.begin(np.zeros(stays, np.int64), np.full(stays, 60.0), np.full(stays, 0.0))
    beds = [StayFeatures() for _ in range(stays)]
    for each in beds:
        each.begin(0, 60.0, 0.0)
    for hour in range(hours):
        there = rng.random((stays, len(CHANNELS))) < np.where(np.arange(len(CHANNELS)) < len(VITALS), 0.8, 0.1)
        values = np.array([rng.uniform(c.low, c.high, stays) for c in CHANNELS]).T
        stay, channel = np.nonzero(there)
        batch.observe(stay, channel, values[there], hour * HOUR)
        for s, c in zip(stay, channel, strict=True):
            beds[s].update(Numeric(CHANNELS[c].kinds[0], float(values[s, c]), hour * HOUR))
        if hour % 7 == 0 or hour == hours - 1:
            found = batch.vector(hour * HOUR)
            for s, each in enumerate(beds):
                np.testing.assert_array_equal(each.vector(hour * HOUR)[0], found[s])


@settings(max_examples=10, deadline=None)
@given(st.integers(20, 240), st.integers(0, 59))
def test_cadence_does_not_matter(every_s: int, minute: int) -> None:
    """A steady patient looks the same to a monitor that speaks each second and to one that speaks each hour."""
    fast, slow = StayFeatures(), StayFeatures()
    for features in (fast, slow):
        features.begin(0, 50.0, 0.0)
    end = 30 * HOUR + minute * MINUTE
    for hour in range(31):
        slow.update(Numeric(Kind.HR, 80.0 + hour, hour * HOUR))
        for second in range(0, 3600, every_s * 10):
            if hour * HOUR + second * NS_PER_S <= end:
                fast.update(Numeric(Kind.HR, 80.0 + hour, hour * HOUR + second * NS_PER_S))
    for name in ("hr.mean.24h", "hr.low.24h", "hr.slope.12h", "hr.own", "hr.cover.24h", "hr.above.24h", "hr.peak"):
        assert value(fast, name, end) == pytest.approx(value(slow, name, end)), name


def test_features_are_causal() -> None:
    """What comes later changes nothing that was said before."""
    one = bed((Kind.HR, 80.0, 0), (Kind.LACTATE, 2.0, HOUR))
    before = one.vector(2 * HOUR)
    other = bed((Kind.HR, 80.0, 0), (Kind.LACTATE, 2.0, HOUR))
    np.testing.assert_array_equal(before, other.vector(2 * HOUR))
    other.update(Numeric(Kind.HR, 150.0, 3 * HOUR))
    assert value(other, "hr.last", 3 * HOUR) == 150.0
    np.testing.assert_array_equal(before, one.vector(2 * HOUR))


def test_values_grow_old_and_then_are_not_known() -> None:
    """A value stands for a while, its age is told, and then it is missing, never the last one for ever."""
    features = bed((Kind.HR, 80.0, 0), (Kind.LACTATE, 2.0, 0))
    assert value(features, "hr.last", 11 * HOUR) == 80.0
    assert math.isnan(value(features, "hr.last", 13 * HOUR))
    assert value(features, "hr.age", 13 * HOUR) == 13.0
    assert value(features, "lactate.last", 72 * HOUR) == 2.0
    assert math.isnan(value(features, "lactate.last", 73 * HOUR))
    assert math.isnan(value(features, "lactate.high.72h", 80 * HOUR))
    assert value(features, "wbc.age", 0) == 200.0


def test_a_line_is_preferred_to_a_cuff_while_it_speaks() -> None:
    """The cuff counts once the line has been silent for a quarter of an hour."""
    features = bed((Kind.ABP_SYS, 120.0, 0), (Kind.NIBP_SYS, 90.0, 5 * MINUTE))
    assert value(features, "sys.last", 5 * MINUTE) == 120.0
    features.update(Numeric(Kind.NIBP_SYS, 90.0, 20 * MINUTE))
    assert value(features, "sys.last", 20 * MINUTE) == 90.0


def test_what_is_not_measured_or_no_feature_needs_changes_nothing() -> None:
    """A probe that is off, an artefact and a weight are no news to the features."""
    plain = bed((Kind.HR, 80.0, 0)).vector(HOUR)
    same = bed((Kind.HR, 80.0, 0), (Kind.SPO2, None, 1), (Kind.WEIGHT, 80.0, 2), (Kind.HR, 320.0, 3)).vector(HOUR)
    np.testing.assert_array_equal(plain, same)


def test_ratios_and_points() -> None:
    """Shock index, pressure from its parts, SIRS, qSOFA, NEWS2 and SOFA points of a sick patient."""
    features = bed(
        (Kind.HR, 120.0, 0), (Kind.NIBP_SYS, 80.0, 0), (Kind.NIBP_DIA, 50.0, 0), (Kind.RR, 28.0, 0),
        (Kind.TEMP, 39.2, 0), (Kind.SPO2, 90.0, 0), (Kind.FIO2, 50.0, 0), (Kind.CREATININE, 2.5, 0),
        (Kind.PLATELETS, 90.0, 0), (Kind.BUN, 50.0, 0), (Kind.WBC, 15.0, 0),
    )  # fmt: skip
    wanted = {
        "shock_index.last": 1.5, "map_any.last": 60.0, "pulse_pressure.last": 30.0, "spo2_fio2.last": 180.0,
        "sirs.last": 4, "qsofa.last": 2, "news2.last": 2 + 3 + 2 + 3 + 3 + 2, "bun_creatinine.last": 20.0,
        "sofa.last": 2 + 2 + 3, "temp_off.last": 2.2, "labs.24h": 4, "labs.often": 4, "labs.age": 0.0, "hours_in": 1.0,
        "age_y": 70.0, "male": 1.0,
    }  # fmt: skip
    for name, figure in wanted.items():
        assert value(features, name, 0) == pytest.approx(figure), name


def test_memory_brings_a_stay_back() -> None:
    """Through JSON, and the next value then does what it would have done; a foreign memory is refused."""
    rng = np.random.default_rng(2)
    steps = [
        (kind, float(rng.uniform(60, 90)), int(t)) for t in range(0, 50 * HOUR, HOUR) for kind in (Kind.HR, Kind.RR)
    ]
    features = bed(*steps, (Kind.LACTATE, 3.0, 4 * HOUR), (Kind.ABP_SYS, 100.0, 49 * HOUR))
    memory = json.loads(json.dumps(features.to_memory(), allow_nan=False))
    back = StayFeatures.from_memory(memory)
    for each in (features, back):
        each.update(Numeric(Kind.NIBP_SYS, 70.0, 49 * HOUR + MINUTE))
        each.update(Numeric(Kind.HR, 99.0, 51 * HOUR))
    np.testing.assert_allclose(back.vector(51 * HOUR), features.vector(51 * HOUR), rtol=1e-5, atol=1e-4)
    assert len(json.dumps(memory)) < 40_000
    for spoil in ({"vitals": memory["labs"]}, {"began_ns": None}, {"facts": [1.0, 2.0]}):
        with pytest.raises(InputError) as caught:
            StayFeatures.from_memory({**memory, **spoil})
        assert caught.value.code == "history-memory"


def test_ages_name_every_channel() -> None:
    """The bedside can say which inputs are missing or stale."""
    ages = bed((Kind.HR, 80.0, 0)).ages_s(2 * HOUR)[0]
    assert ages[0] == 7200.0
    assert math.isinf(ages[1])
    assert len(ages) == len(CHANNELS)
