"""SDC messages: what 11073-10207 says is read as it stands, and what it forbids is refused without harm to the rest."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import sdc_text as text
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kernel.errors import InputError
from edgeward.wire.sdc import (
    MDC,
    Association,
    Coded,
    LocationState,
    MdibVersion,
    MdsState,
    NumericState,
    PatientState,
    Validity,
    WaveState,
    decode,
)


def test_an_mdib_is_read_with_its_tree() -> None:
    """Descriptors with parent and system, codes with translations, units, period and range; states of every kind."""
    metrics = text.metric("hr", "147842", "264864", version=3, name="MDC_ECG_HEART_RATE").replace(
        "/><pm:Unit", '><pm:Translation Code="8867-4" CodingSystem="http://loinc.org"/></pm:Type><pm:Unit'
    ) + text.lead("ecg", "131330", inner='<pm:TechnicalRange Lower="-5" Upper="5"/>')
    states = (
        '<pm:State xsi:type="pm:MdsState" DescriptorHandle="mds" OperatingMode="Dmo"/>'
        + text.numeric("hr", "72", tag="pm:State")
        + text.patient("p", tag="pm:State", core="<pm:Sex>F</pm:Sex><pm:PatientType>Ad</pm:PatientType>")
        + text.location("l", "5", tag="pm:State")
        + '<pm:State xsi:type="pm:AlertSystemState" DescriptorHandle="a"/>'
    )
    message = decode(text.mdib(text.mds(metrics), states, number=7))
    assert (message.name, message.version, message.refused) == (
        "GetMdibResponse",
        MdibVersion("urn:uuid:1", None, 7),
        0,
    )
    tree = {one.handle: one for one in message.descriptors}
    assert [one.what for one in message.descriptors] == [
        "Mds", "SystemContext", "PatientContext", "LocationContext", "Vmd", "Channel", "NumericMetric",
        "RealTimeSampleArrayMetric",
    ]  # fmt: skip
    assert (tree["hr"].parent, tree["hr"].mds, tree["hr"].version) == ("ch", "mds", 3)
    assert tree["hr"].codes == (Coded("147842", MDC, "MDC_ECG_HEART_RATE"), Coded("8867-4", "http://loinc.org"))
    assert tree["hr"].units == (Coded("264864"),)
    assert (tree["ecg"].period_ns, tree["ecg"].limits) == (4_000_000, (-5.0, 5.0))
    system, numeric, patient, location = message.states
    assert system == MdsState("mds", 0, 0, demo=True)
    assert numeric == NumericState("hr", 1, 0, 72.0, Validity.VALID, 1000)
    assert isinstance(patient, PatientState)
    assert patient.association is Association.ASSOCIATED
    assert patient.identifiers == (("urn:oid:1.2.3", "P1", ""),)
    assert (patient.sex, patient.category) == ("F", "Ad")
    assert isinstance(location, LocationState)
    assert (location.point_of_care, location.room, location.bed, location.facility) == ("ICU", "", "5", "H")


def test_reports_give_their_states() -> None:
    """Metric, context and component reports, and a stream of samples."""
    (state,) = decode(text.report("EpisodicMetricReport", text.numeric("hr", "-1.5e1"))).states
    assert isinstance(state, NumericState)
    assert state.value == -15.0
    (place,) = decode(text.report("EpisodicContextReport", text.location("l", "5"))).states
    assert isinstance(place, LocationState)
    component = '<msg:ComponentState xsi:type="pm:MdsState" DescriptorHandle="mds" ActivationState="Off"/>'
    assert decode(text.report("EpisodicComponentReport", component)).states == (MdsState("mds", 0, 0, active=False),)
    (wave,) = decode(text.waveforms(text.wave("ecg", "0.1 -0.25\n1e-3"))).states
    assert isinstance(wave, WaveState)
    np.testing.assert_array_equal(wave.samples, [0.1, -0.25, 0.001])
    assert wave.determined_ms == 1000
    assert decode(text.envelope("<wse:SubscriptionEnd/>")).name == "SubscriptionEnd"
    assert decode(text.envelope("")).name == ""


def test_a_state_without_a_value_is_a_state() -> None:
    """Measurement under way: a quality and no value."""
    (state,) = decode(text.report("EpisodicMetricReport", text.numeric("nibp", "", validity="Ong", at_ms=None))).states
    assert state == NumericState("nibp", 1, 0, None, Validity.ONGOING, None)


@pytest.mark.parametrize(
    "state",
    [
        text.numeric("hr", "seventy"),
        text.numeric("hr", "NaN"),
        text.numeric("hr", "1_0"),
        text.numeric("hr", "١٢"),
        text.numeric("hr", "72", validity="Maybe"),
        text.numeric("", "72"),
        text.numeric("h" * 300, "72"),
        text.numeric("hr", "72").replace('StateVersion="1"', 'StateVersion="-1"'),
        text.numeric("hr", "72").replace('<pm:MetricQuality Validity="Vld" Mode="Real"/>', ""),
        text.patient("p", "Perhaps"),
        text.patient(""),
    ],
)
def test_one_unreadable_state_does_not_cost_its_neighbours(state: str) -> None:
    """It is counted, and the state beside it is read."""
    message = decode(text.report("EpisodicMetricReport", state + text.numeric("rr", "12")))
    assert [one.descriptor for one in message.states] == ["rr"]
    assert message.refused == 1


@pytest.mark.parametrize("samples", ["1 nan", "1 inf", "1 2_0", "1 0x1", "1 ١"])
def test_samples_are_decimals(samples: str) -> None:
    """Whatever else Python would take for a number is none."""
    message = decode(text.waveforms(text.wave("ecg", samples)))
    assert (message.states, message.refused) == ((), 1)


def test_a_type_of_a_vendor_is_nobody_we_know() -> None:
    """A derived type of another namespace is not taken for the standard one of the same name."""
    state = text.numeric("hr", "72").replace('"pm:Numeric', '"v:Numeric')
    data = text.report("EpisodicMetricReport", state).replace(b"xmlns:wse", b'xmlns:v="urn:vendor" xmlns:wse')
    assert decode(data).states == ()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<a/>", "sdc-not-soap"),
        (text.report("EpisodicMetricReport", "").replace(b'SequenceId="urn:uuid:1"', b""), "sdc-malformed"),
        (text.report("EpisodicMetricReport", "").replace(b'MdibVersion="1"', b'MdibVersion="x"'), "sdc-malformed"),
        (text.mdib(text.mds(text.metric("", "1", "1"))), "sdc-malformed"),
        (b"\xff\xfe", "xml-malformed"),
    ],
)
def test_a_message_without_its_place_in_the_run_is_refused(data: bytes, code: str) -> None:
    """Without a version nobody can say what is newer."""
    with pytest.raises(InputError) as refused:
        decode(data)
    assert refused.value.code == code


def test_who_the_patient_is_stands_in_no_repr() -> None:
    """What a traceback could print holds no identifier, no date of birth and no value."""
    core = "<pm:DateOfBirth>1950-03-04</pm:DateOfBirth>"
    message = decode(text.report("EpisodicContextReport", text.patient("p", extension="SECRET", core=core)))
    measured = decode(text.report("EpisodicMetricReport", text.numeric("hr", "123.5")))
    assert not {"SECRET", "1950", "123.5"} & set(repr((message, measured)).replace("'", " ").replace("=", " ").split())
    assert "SECRET" not in repr(message)


_SAMPLE = text.mdib(
    text.mds(text.metric("hr", "147842", "264864") + text.lead("ecg", "131330")),
    text.numeric("hr", "72", tag="pm:State") + text.patient("p", tag="pm:State"),
)


@given(st.integers(0, len(_SAMPLE) - 1), st.binary(max_size=6), st.integers(0, 8))
def test_a_damaged_message_is_read_or_refused(at: int, junk: bytes, cut: int) -> None:
    """Any bytes put anywhere: an InputError or a message, never anything else."""
    with contextlib.suppress(InputError):
        decode(_SAMPLE[:at] + junk + _SAMPLE[at + cut :])
