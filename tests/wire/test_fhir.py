"""FHIR R4 Observations: right kind, unit, time, patient and place; judged as a model of the standard judges them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.observation import Observation
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeward.signal.numeric import KINDS, Kind, plausible
from edgeward.wire.codes import CodeTable, SiteCode
from edgeward.wire.fhir import Around, Observed, Reader, capability, identifier_of, read_bundle
from edgeward.wire.fhir_json import At, FhirError, parse
from edgeward.wire.iso8601 import instant_ns

AT = "2026-01-01T10:00:00+01:00"
NOW_NS = instant_ns("2026-01-01T09:01:00Z")
READER = Reader(CodeTable((SiteCode("urn:own", "77", "", Kind.LACTATE, ""),)), "ehr")
HEART_RATE: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "category": [{"coding": [{"code": "vital-signs"}]}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Herzfrequenz"}]},
    "subject": {"identifier": {"system": "urn:oid:1.2.3", "value": "P1"}},
    "effectiveDateTime": AT,
    "valueQuantity": {"value": 72, "unit": "Schläge/min", "system": "http://unitsofmeasure.org", "code": "/min"},
}


def _with(**changes: Any) -> dict[str, Any]:
    """A heart rate with members changed, or left out where None."""
    merged = {**copy.deepcopy(HEART_RATE), **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _coding(code: str, system: str = "http://loinc.org", **more: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, **more}]}


def _quantity(value: float, code: str, **more: str) -> dict[str, Any]:
    return {"value": value, "system": "http://unitsofmeasure.org", "code": code, **more}


def _read(resource: dict[str, Any], around: Around | None = None) -> Observed:
    return READER.observation(At(resource, "Observation"), around or Around(), NOW_NS)


def _values(observed: Observed) -> dict[Kind, float | None]:
    return {measure.kind: measure.value for measure in observed.measures}


def test_an_observation_is_read() -> None:
    """Kind, canonical value, instant in UTC, and whose it is."""
    observed = _read(HEART_RATE)
    ((kind, value, wall_ns, where),) = observed.measures
    assert (kind, value, wall_ns, where) == (Kind.HR, 72.0, instant_ns("2026-01-01T09:00:00Z"), "Observation")
    assert observed.patient is not None
    assert observed.patient.identifiers == {"P1^^^urn:oid:1.2.3^"}
    assert (observed.place, observed.refused, observed.simulated) == ("", (), False)


@pytest.mark.parametrize(
    ("code", "quantity", "kind", "value"),
    [
        (_coding("8310-5"), _quantity(100.4, "[degF]"), Kind.TEMP, 38.0),
        (_coding("59408-5"), _quantity(97, "%"), Kind.SPO2, 97.0),
        (_coding("151708", "urn:iso:std:iso:11073:10101"), _quantity(5, "kPa"), Kind.ETCO2, 37.503),
        (_coding("150456", "urn:oid:2.16.840.1.113883.6.24", display="MDC_PULS_OXIM_SAT_O2"), _quantity(97, "%"),
         Kind.SPO2, 97.0),
        (_coding("8867-4"), {"value": 72, "unit": "bpm"}, Kind.HR, 72.0),
        (_coding("77", "urn:own"), _quantity(2.1, "mmol/L"), Kind.LACTATE, 2.1),
        (_coding("9269-2"), _quantity(15, "{score}"), Kind.GCS, 15.0),
        (_coding("11558-4"), {"value": 7.4}, Kind.PH, 7.4),
        ({"coding": [{"system": "http://snomed.info/sct", "code": "364075005"}, *_coding("8867-4")["coding"]]},
         _quantity(72, "/min"), Kind.HR, 72.0),
        ({"coding": [*_coding("2708-6")["coding"], *_coding("59408-5")["coding"]]}, _quantity(97, "%"),
         Kind.SPO2, 97.0),
    ],
)  # fmt: skip
def test_codes_and_units_of_all_kinds(code: dict[str, Any], quantity: dict[str, Any], kind: Kind, value: float) -> None:
    """LOINC, MDC, a site's own; UCUM, and units by name; several codings of one thing."""
    observed = _read(_with(code=code, valueQuantity=quantity))
    assert _values(observed) == {kind: pytest.approx(value, abs=1e-3)}


def test_a_blood_pressure_is_read_by_its_components() -> None:
    """85354-9: systolic, diastolic, and a mean that could not be had."""
    pressure = _with(
        code=_coding("85354-9"),
        valueQuantity=None,
        component=[
            {"code": _coding("8480-6"), "valueQuantity": _quantity(16, "kPa")},
            {"code": _coding("8462-4"), "valueQuantity": _quantity(80, "mm[Hg]")},
            {"code": _coding("8478-0"), "dataAbsentReason": {"coding": [{"code": "not-performed"}]}},
            {"code": _coding("9999-9"), "valueQuantity": _quantity(1, "mm[Hg]")},
        ],
    )
    observed = _read(pressure)
    assert _values(observed) == {
        Kind.NIBP_SYS: pytest.approx(120.0, abs=0.1), Kind.NIBP_DIA: 80.0, Kind.NIBP_MEAN: None,
    }  # fmt: skip
    assert [(one.code, one.where) for one in observed.refused] == [("code-unknown", "Observation.component[3].code")]


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ({"valueCodeableConcept": _coding("422768004", "http://snomed.info/sct")}, 4.0),
        ({"valueCodeableConcept": _coding("LA9340-6")}, 0.0),
        ({"valueCodeableConcept": {"text": "New confusion"}}, 1.0),
        ({"valueString": "V"}, 2.0),
    ],
)
def test_consciousness_is_a_level(answer: dict[str, Any], level: float) -> None:
    """By SNOMED CT, LOINC's answers, words and letters."""
    assert _values(_read(_with(code=_coding("67775-7"), valueQuantity=None, **answer))) == {Kind.ACVPU: level}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"code": None}, "code-missing"),
        ({"code": {"text": "Heart rate"}}, "code-missing"),
        ({"code": _coding("1-1")}, "code-unknown"),
        ({"code": _coding("150456", "urn:iso:std:iso:11073:10101", display="MDC_AWAY_CO2_ET")}, "code-name-mismatch"),
        ({"code": {"coding": [*_coding("8867-4")["coding"], *_coding("9279-1")["coding"]]}}, "code-contradiction"),
        ({"valueQuantity": None}, "value-missing"),
        ({"valueQuantity": {"unit": "/min"}}, "value-missing"),
        ({"valueQuantity": {"value": 72}}, "unit-missing"),
        ({"valueQuantity": _quantity(72, "furlong")}, "unit-unknown"),
        ({"valueQuantity": _quantity(72, "mm[Hg]")}, "unit-mismatch"),
        ({"valueQuantity": _quantity(72, "/min", unit="/s")}, "unit-contradiction"),
        ({"valueQuantity": _quantity(72, "/min", comparator="<")}, "value-bounded"),
        ({"valueQuantity": _quantity(900, "/min")}, "out-of-range"),
        ({"valueString": "72"}, "value-not-single"),
        ({"valueQuantity": None, "valueString": "72"}, "value-type"),
        ({"valueQuantity": None, "valueInteger": 72}, "value-type"),
        ({"dataAbsentReason": {"text": "off"}}, "value-and-reason"),
        ({"code": _coding("67775-7"), "valueQuantity": None, "valueString": "awake-ish"}, "value-not-level"),
        ({"code": _coding("8302-2")}, "code-unused"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(changes: dict[str, Any], code: str) -> None:
    """Nothing is guessed."""
    observed = _read(_with(**changes))
    assert (observed.measures, [one.code for one in observed.refused]) == ((), [code])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": None}, "status-unknown"),
        ({"status": "done"}, "status-unknown"),
        ({"status": "registered"}, "status-registered"),
        ({"status": "cancelled"}, "status-cancelled"),
        ({"effectiveDateTime": None}, "time-missing"),
        ({"effectiveDateTime": "2026-01-01"}, "time-imprecise"),
        ({"effectiveDateTime": "2026-01-01T10:00:00"}, "time-zone-missing"),
        ({"effectiveDateTime": "yesterday"}, "time-malformed"),
        ({"effectiveDateTime": 5}, "fhir-structure"),
        ({"code": []}, "fhir-structure"),
        ({"valueQuantity": {"value": "72", "code": "/min"}}, "fhir-structure"),
        ({"valueQuantity": {"value": True, "code": "/min"}}, "fhir-structure"),
        ({"component": {}}, "fhir-structure"),
        ({"component": [1]}, "fhir-structure"),
        ({"component": [{}] * 65}, "fhir-structure"),
        ({"subject": "P1"}, "fhir-structure"),
        ({"resourceType": "Patient"}, "fhir-not-supported"),
        ({"modifierExtension": [{"url": "urn:not"}]}, "fhir-modifier"),
        ({"implicitRules": "urn:rules"}, "fhir-modifier"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_whole(changes: dict[str, Any], code: str) -> None:
    """No status, no instant, or no FHIR."""
    found = ""
    try:
        found = _read(_with(**changes)).refused[0].code  # a value of its own may be wrong beside a sound frame
    except FhirError as error:
        found = error.code
    assert found == code


def test_times_are_taken_from_wherever_they_stand() -> None:
    """An instant, the end of a period, its start, and when it was issued."""
    for changes in (
        {"effectiveDateTime": None, "effectiveInstant": "2026-01-01T09:00:00.000Z"},
        {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-01-01T08:00:00Z", "end": AT}},
        {"effectiveDateTime": None, "effectivePeriod": {"start": AT}},
        {"effectiveDateTime": None, "issued": AT},
    ):
        assert _read(_with(**changes)).measures[0].wall_ns == instant_ns(AT)


def test_what_was_entered_in_error_is_taken_back() -> None:
    """At that instant there is no value."""
    assert _values(_read(_with(status="entered-in-error"))) == {Kind.HR: None}


def test_test_data_is_marked() -> None:
    """By the label that R4 has for it."""
    assert _read(_with(meta={"security": [{"code": "HTEST"}]})).simulated


# --- whose and where

PATIENT = {
    "resourceType": "Patient",
    "id": "p",
    "identifier": [
        {"type": _coding("MR"), "system": "urn:oid:1.2.3", "value": "P1"},
        {"use": "old", "system": "urn:oid:1.2.3", "value": "OLD"},
        {"system": "urn:oid:1.2.3", "value": "unknown"},
    ],
    "birthDate": "1950-01-01",
    "gender": "female",
    "name": [{"family": "SECRET"}],
}
ENCOUNTER = {
    "resourceType": "Encounter",
    "id": "e",
    "location": [
        {"status": "completed", "location": {"reference": "Location/1"}},
        {"status": "active", "location": {"reference": "Location/2"}},
    ],
}


def _bundle(*resources: dict[str, Any], kind: str = "batch") -> dict[str, Any]:
    entries = [
        {"fullUrl": f"urn:uuid:{number}", "resource": one, "request": {"method": "POST", "url": one["resourceType"]}}
        for number, one in enumerate(resources)
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def _around(*resources: dict[str, Any]) -> Around:
    return Around(read_bundle(At(_bundle(*resources), "Bundle")).entries)


def test_a_patient_beside_the_observation_says_who_it_is() -> None:
    """Every identifier in force, and its address at that server; not the old one, and none that stands for nobody."""
    for reference in ("urn:uuid:0", "Patient/p", "Patient/p/_history/3"):
        observed = _read(_with(subject={"reference": reference}), _around(PATIENT))
        assert observed.patient is not None
        assert observed.patient.identifiers == {"P1^^^urn:oid:1.2.3^MR", "Patient/p^^^ehr^FHIR"}
        assert (observed.patient.age_y, observed.patient.sex) == (pytest.approx(76.0, abs=0.01), "f")
        assert "P1" not in repr(observed)
    inside = _with(subject={"reference": "#p"}, contained=[PATIENT])
    named = _read(inside).patient
    assert named is not None
    assert named.identifiers == {"P1^^^urn:oid:1.2.3^MR"}


@pytest.mark.parametrize(
    ("subject", "identifiers"),
    [
        ({"reference": "Patient/7"}, {"Patient/7^^^ehr^FHIR"}),
        ({"reference": "https://ehr/fhir/Patient/7"}, {"https://ehr/fhir/Patient/7^^^^FHIR"}),
        ({"reference": "Patient/7", "identifier": {"value": "9"}}, {"Patient/7^^^ehr^FHIR", "9^^^^"}),
        ({"reference": "Group/7"}, None),
        ({"reference": "urn:uuid:not-here"}, None),
        ({"reference": "#not-here"}, None),
        ({"display": "SECRET"}, None),
        (None, None),
    ],
)
def test_a_reference_elsewhere_is_an_address(subject: dict[str, Any] | None, identifiers: set[str] | None) -> None:
    """One server's "Patient/7" is not another's; what names nobody names nobody."""
    patient = _read(_with(subject=subject)).patient
    assert (patient.identifiers if patient else None) == identifiers


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ({"resourceType": "Location", "id": "2", "identifier": [{"value": "ICU^^5"}], "name": "Bed 5"}, "ICU^^5"),
        ({"resourceType": "Location", "id": "2", "name": "Bed 5"}, "Bed 5"),
        ({"resourceType": "Location", "id": "3"}, "Location/2"),
    ],
)
def test_a_place_comes_of_the_encounter(location: dict[str, Any], place: str) -> None:
    """Its active location, by identifier, name or reference."""
    observed = _read(_with(encounter={"reference": "Encounter/e"}), _around(ENCOUNTER, location))
    assert observed.place == place


def test_a_place_comes_of_the_device_where_no_encounter_says_it() -> None:
    """A monitor that stands somewhere."""
    device = {"resourceType": "Device", "id": "d", "location": {"identifier": {"value": "ICU^^6"}}}
    assert _read(_with(device={"reference": "Device/d"}), _around(device)).place == "ICU^^6"


def test_a_bundle_is_read_with_its_requests() -> None:
    """Types that are taken, entries up to a ceiling."""
    bundle = read_bundle(At({**_bundle(HEART_RATE), "identifier": {"system": "s", "value": "v"}}, "Bundle"))
    assert (bundle.kind, bundle.identifier) == ("batch", "s|v")
    (entry,) = bundle.entries
    assert (entry.method, entry.url, entry.full_url) == ("POST", "Observation", "urn:uuid:0")
    for wrong, code in (({"type": "history"}, "fhir-bundle-type"), ({"entry": [{}] * 501}, "fhir-too-many")):
        with pytest.raises(FhirError) as refused:
            read_bundle(At({**_bundle(HEART_RATE), **wrong}, "Bundle"))
        assert refused.value.code == code


def test_an_identifier_is_one_line() -> None:
    """System and value of the first that has a value."""
    assert identifier_of(At({"identifier": [{"system": "s"}, {"system": "s", "value": "v"}]}, "x")) == "s|v"
    assert identifier_of(At({}, "x")) == ""


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"1", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1,"a":2}', b'{"a":null}', b"\xff", b"\xff\xfe{\0}\0",
     b"[" * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40, b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_json_that_is_not_fhirs_is_refused(data: bytes) -> None:
    """Not UTF-8, a member twice, no number, too deep."""
    with pytest.raises(FhirError) as refused:
        parse(data)
    assert refused.value.code == "fhir-json"


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 20))
def test_any_damage_is_read_or_refused(junk: bytes, at: int, cut: int) -> None:
    """Nothing but a FhirError ever comes of foreign bytes, and it repeats none of them."""
    data = json.dumps(HEART_RATE).encode()
    said = ""
    try:
        _read(parse(data[:at] + junk + data[at + cut :]))
    except FhirError as error:
        said = str(error)
    assert len(said) < 200


# --- against a model of the standard

_VITALS = {
    Kind.HR: ("8867-4", "/min"), Kind.RR: ("9279-1", "/min"), Kind.SPO2: ("59408-5", "%"),
    Kind.TEMP: ("8310-5", "Cel"), Kind.LACTATE: ("2524-7", "mmol/L"), Kind.NIBP_SYS: ("8480-6", "mm[Hg]"),
}  # fmt: skip
_OF_2026 = st.datetimes().map(lambda when: when.replace(year=2026, day=min(when.day, 28)))  # 2026 has no 29 February


@settings(deadline=None)
@given(st.sampled_from(sorted(_VITALS)), st.floats(-1e3, 1e3).map(lambda value: round(value, 3)), _OF_2026)
def test_what_the_model_writes_is_read_as_it_was_meant(kind: Kind, value: float, when: Any) -> None:
    """An Observation made by fhir.resources comes out with its value and instant, or is refused as implausible."""
    code, unit = _VITALS[kind]
    made = Observation(
        status="final",
        code=_coding(code),
        effectiveDateTime=when.isoformat(timespec="milliseconds") + "Z",
        valueQuantity=_quantity(value, unit),
    )
    observed = _read(parse(made.model_dump_json().encode()))
    if plausible(kind, value):
        (measure,) = observed.measures
        assert (measure.kind, measure.value) == (kind, value)
        assert KINDS[kind].unit == unit
    else:
        assert [one.code for one in observed.refused] == ["out-of-range"]


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["final", AT, "Patient/1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["coding", "value", "code"]), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["status", "code", "subject", "effectiveDateTime", "valueQuantity", "component"]), _ODD)
def test_what_is_taken_is_fhir(name: str, odd: Any) -> None:
    """Whatever is put in place of a member that is read: we never take what the model of the standard refuses."""
    resource = {**copy.deepcopy(HEART_RATE), name: odd}
    try:
        observed = _read(parse(json.dumps(resource).encode()))
    except FhirError:
        return
    if observed.measures and not observed.refused:
        wrong: set[str] = set()
        try:
            Observation.model_validate(resource)
        except ValidationError as error:
            wrong = {one["type"] for one in error.errors()}
        assert wrong <= {"extra_forbidden"}, "a member that R4 does not have is not read; all that is read is right"


def test_the_capability_statement_is_fhir() -> None:
    """What a device says of itself validates."""
    CapabilityStatement.model_validate(capability({"date": "2026-01-01", "version": "1"}))
