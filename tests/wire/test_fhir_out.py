"""What leaves for a hospital's record is FHIR R4, says what was meant, and may be sent any number of times."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.wire import fhir_out
from edgeward.wire.entries import Driver, News2, Notice, Score
from edgeward.wire.fhir_out import Author, subject

AT_NS = 1_767_225_600_123_000_000
AUTHOR = Author("bay-3", "1.2", systems={"HOSP": "urn:oid:1.2.3"})
WHO = {"type": "Patient", "identifier": {"system": "urn:oid:1.2.3", "value": "P1"}}
DRIVERS = (
    Driver("lactate_last", "Lactate", 4.2, "mmol/L", 0.81),
    Driver("hr_slope", "Heart rate, slope", None, "", -0.3),
)


def _score(**changes: Any) -> Score:
    fields: dict[str, Any] = {
        "key": "7.sepsis-risk.1", "task": "sepsis-risk", "version": "1.0.0", "rung": "local", "at_ns": AT_NS,
        "outcome": "accepted", "why": "", "probability": 0.4567, "level": "watch", "drivers": DRIVERS,
        "missing_share": 0.25, "stale_share": 0.1, "simulated": False, **changes,
    }  # fmt: skip
    return Score(**fields)


def _resources(data: bytes) -> dict[str, dict[str, Any]]:
    """The resources of a transaction by type, once the standard's model has taken it."""
    document = json.loads(data)
    bundle = Bundle.model_validate(document)
    assert bundle.type == "transaction"
    assert len({entry["fullUrl"] for entry in document["entry"]}) == len(document["entry"])
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in document["entry"]}


def test_an_accepted_score_is_an_observation_and_a_risk_that_rests_on_it() -> None:
    """Probability in percent, drivers as components, the outcome coded, the patient by number, and no mitigation."""
    data = fhir_out.score(_score(), WHO, AUTHOR)
    found = _resources(data)
    observation, risk = found["Observation"], found["RiskAssessment"]
    assert observation["valueQuantity"] == {
        "value": 45.67, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%",
    }  # fmt: skip
    assert observation["effectiveDateTime"] == "2026-01-01T00:00:00.123Z"
    assert observation["subject"] == WHO
    lactate, slope = observation["component"]
    assert (lactate["valueQuantity"]["code"], lactate["code"]["text"]) == ("mmol/L", "Lactate")
    assert slope["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    (prediction,) = risk["prediction"]
    assert prediction["probabilityDecimal"] == 45.67
    assert prediction["outcome"] == {
        "text": "Sepsis", "coding": [{"system": "http://snomed.info/sct", "code": "91302008"}],
    }  # fmt: skip
    assert prediction["qualitativeRisk"]["coding"][0]["code"] == "moderate"
    assert prediction["rationale"] == "Moved most by: Lactate +0.81; Heart rate, slope -0.30 (log odds)"
    assert "mitigation" not in risk
    assert risk["method"]["text"] == "sepsis-risk 1.0.0, local"
    assert risk["basis"] == [{"reference": json.loads(data)["entry"][0]["fullUrl"]}]


def test_a_task_with_a_horizon_says_when() -> None:
    """Half an hour to an hour ahead; a task that nobody knows has its own name and no code."""
    (prediction,) = _resources(fhir_out.score(_score(task="hypotension"), WHO, AUTHOR))["RiskAssessment"]["prediction"]
    assert (prediction["whenRange"]["low"]["value"], prediction["whenRange"]["high"]["value"]) == (30, 60)
    (prediction,) = _resources(fhir_out.score(_score(task="new-task"), WHO, AUTHOR))["RiskAssessment"]["prediction"]
    assert prediction["outcome"] == {"text": "new-task"}


@pytest.mark.parametrize(("outcome", "reason"), [("withheld", "not-performed"), ("fallback", "error")])
def test_a_score_that_was_not_given_says_why(outcome: str, reason: str) -> None:
    """An absent value and no risk: nothing is never normal."""
    found = _resources(fhir_out.score(_score(outcome=outcome, why="too-little-input", probability=None), WHO, AUTHOR))
    assert set(found) == {"Observation"}
    absent = found["Observation"]["dataAbsentReason"]
    assert (absent["coding"][0]["code"], absent["text"]) == (reason, "too-little-input")
    assert "valueQuantity" not in found["Observation"]


def test_a_simulated_patient_is_labelled_everywhere() -> None:
    """As R4 labels test data."""
    for data in (
        fhir_out.score(_score(simulated=True), WHO, AUTHOR),
        fhir_out.notice(Notice("7.a", "c", "t", "low", AT_NS, simulated=True), WHO, AUTHOR),
        fhir_out.news2(News2("7.1", AT_NS, 1, True, (), {}, "low", 1, simulated=True), WHO, AUTHOR),
    ):
        for resource in _resources(data).values():
            assert resource["meta"]["security"][0]["code"] == "HTEST"


def test_news2_is_an_observation_with_its_items() -> None:
    """Preliminary while items are missing, without a value while nothing is known."""
    one = News2("7.1", AT_NS, 5, False, ("consciousness",), {"respiration": 3, "pulse": 2}, "medium", 2)
    observation = _resources(fhir_out.news2(one, WHO, AUTHOR))["Observation"]
    assert (observation["status"], observation["valueInteger"]) == ("preliminary", 5)
    assert observation["code"]["coding"][0]["code"] == "1104051000000101"
    assert [(one["code"]["text"], one["valueInteger"]) for one in observation["component"]] == [
        ("pulse", 2), ("respiration", 3),
    ]  # fmt: skip
    assert observation["note"] == [{"text": "Missing: consciousness"}]
    nothing = _resources(fhir_out.news2(News2("7.2", AT_NS, None, False, (), {}, "", 1), WHO, AUTHOR))["Observation"]
    assert "valueInteger" not in nothing
    assert nothing["dataAbsentReason"]["coding"][0]["code"] == "unknown"


def test_an_advisory_is_a_flag_that_is_updated_by_its_identifier() -> None:
    """Raised and taken back are one Flag, with its period and priority."""
    raised = Notice("7.x", "sepsis-act", "High risk of sepsis", "high", AT_NS)
    ended = Notice("7.x", "sepsis-act", "High risk of sepsis", "high", AT_NS, AT_NS + 10**9)
    documents = [json.loads(fhir_out.notice(one, WHO, AUTHOR)) for one in (raised, ended)]
    flags = [_resources(json.dumps(document).encode())["Flag"] for document in documents]
    assert [flag["status"] for flag in flags] == ["active", "inactive"]
    assert flags[1]["period"] == {"start": "2026-01-01T00:00:00.123Z", "end": "2026-01-01T00:00:01.123Z"}
    assert flags[0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] == "PH"
    requests = [document["entry"][0]["request"] for document in documents]
    assert requests[0] == requests[1] == {
        "method": "PUT", "url": "Flag?identifier=urn%3Aedgeward%3Abay-3%7Cadvisory.7.x",
    }  # fmt: skip


def test_the_same_thing_is_the_same_bytes() -> None:
    """What is sent again is created once: each entry on condition of its identifier."""
    once, again = (fhir_out.score(_score(), WHO, AUTHOR) for _ in range(2))
    assert once == again
    assert [entry["request"]["ifNoneExist"] for entry in json.loads(once)["entry"]] == [
        "identifier=urn%3Aedgeward%3Abay-3%7Cscore.7.sepsis-risk.1",
        "identifier=urn%3Aedgeward%3Abay-3%7Crisk.7.sepsis-risk.1",
    ]


@pytest.mark.parametrize(
    ("identifiers", "identifier"),
    [
        ({"P1^^^HOSP^MR"}, {"value": "P1", "system": "urn:oid:1.2.3", "type": "MR"}),
        ({"V9^^^HOSP^VN", "P1^^^HOSP^MR", "A^^^dev^ASSOC"}, {"value": "P1", "system": "urn:oid:1.2.3", "type": "MR"}),
        ({"P1^^^urn:oid:9^"}, {"value": "P1", "system": "urn:oid:9"}),
        ({"P1^^^OTHER^"}, {"value": "P1", "assigner": "OTHER"}),
        ({"P1"}, {"value": "P1"}),
        ({"P\\S\\1^^^A\\T\\B^"}, {"value": "P^1", "assigner": "A&B"}),
        ({"A^^^dev^ASSOC", "Patient/7^^^ehr^FHIR"}, None),
        (set(), None),
    ],
)
def test_a_patient_is_referred_to_by_the_best_number(identifiers: set[str], identifier: dict[str, str] | None) -> None:
    """A hospital's number, by type; never a monitor's association or an address."""
    found = subject(frozenset(identifiers), AUTHOR)
    if identifier is None:
        assert found is None
        return
    assert found is not None
    named = found["identifier"]
    assert named["value"] == identifier["value"]
    assert named.get("system") == identifier.get("system")
    assert named.get("assigner", {}).get("display") == identifier.get("assigner")
    assert (named["type"]["coding"][0]["code"] if "type" in named else None) == identifier.get("type")


_LETTERS = st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc", "Cf", "Zs"])
_WORD = st.text(_LETTERS, min_size=1, max_size=12)
_SHARE = st.floats(0, 1)


@settings(deadline=None)
@given(
    st.builds(
        Score, key=_WORD, task=_WORD, version=_WORD, rung=_WORD, at_ns=st.integers(0, 4 * 10**18),
        outcome=st.sampled_from(["accepted", "withheld", "fallback"]), why=_WORD | st.just(""),
        probability=st.none() | _SHARE,
        level=st.sampled_from(["none", "watch", "act"]),
        missing_share=st.none() | _SHARE, stale_share=st.none() | _SHARE,
        simulated=st.booleans(),
        drivers=st.lists(
            st.builds(Driver, _WORD, _WORD, st.none() | st.floats(-1e6, 1e6), _WORD | st.just(""), st.floats(-9, 9)),
            max_size=3,
        ).map(tuple),
    ),
    _WORD,
)  # fmt: skip
def test_any_score_is_fhir(score: Score, device: str) -> None:
    """Whatever words and numbers it holds."""
    _resources(fhir_out.score(score, WHO, Author(device, "1")))
