"""What a device tells a hospital's record, as FHIR R4 resources. Pure.

* a score: an Observation (probability, drivers as components), and where it was accepted a RiskAssessment that rests on
  it; a score that was withheld is an Observation without a value that says why;
* NEWS2: an Observation with its items as components;
* an advisory: a Flag, active until it is taken back. DetectedIssue is not used: in R4 it is of an actual or proposed
  action in care (an interaction, a duplicate), and an advisory is a warning to whoever reads the chart, which is what
  Flag says of itself.

Each is a transaction Bundle that may be sent any number of times: Observations and RiskAssessments are created on
condition that their identifier is not there yet, a Flag is updated by its identifier. No mitigation is ever stated.

Sources: FHIR R4 (4.0.1): Observation, RiskAssessment (probability in percent), Flag, Bundle, http (3.1.0).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edgeward.signal.numeric import KINDS
from edgeward.wire.entries import PREFER, SNOMED_NEWS2, numbers, outcome_of, parts
from edgeward.wire.iso8601 import instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgeward.wire.entries import Driver, News2, Notice, Score

_TERMS = "http://terminology.hl7.org/CodeSystem"
_SNOMED = "http://snomed.info/sct"
_UCUM = "http://unitsofmeasure.org"
_NEWS2 = {"system": _SNOMED, "code": SNOMED_NEWS2[0], "display": SNOMED_NEWS2[1]}
_PRIORITY_URL = "http://hl7.org/fhir/StructureDefinition/flag-priority"
_PRIORITY_CODES = "http://hl7.org/fhir/flag-priority-code"
_PRIORITIES = {"high": "PH", "medium": "PM", "low": "PL"}
_QUALITIES = {"none": "low", "watch": "moderate", "act": "high"}
_UNITS = frozenset(info.unit for info in KINDS.values())


@dataclass(frozen=True, slots=True)
class Author:
    """Who says it, and how it names things.

    ``device``: this device's name at the site; ``own``: URI under which our codes and identifiers stand; ``systems``:
    HL7 assigning authority → URI, for the patients' identifiers; ``prefer``: types of identifiers, the best first.
    """

    device: str
    version: str
    own: str = "urn:edgeward"
    systems: Mapping[str, str] = field(default_factory=dict)
    prefer: tuple[str, ...] = PREFER


def subject(identifiers: frozenset[str], author: Author) -> dict[str, Any] | None:
    """A logical reference to the patient by the best identifier; None where no hospital's number is among them."""
    known = numbers(identifiers, author.prefer)
    if not known:
        return None
    value, authority, kind = parts(known[0])
    named: dict[str, Any] = {"value": value}
    if kind:
        named["type"] = {"coding": [{"system": f"{_TERMS}/v2-0203", "code": kind}]}
    system = author.systems.get(authority) or (authority if ":" in authority else "")
    if system:
        named["system"] = system
    elif authority:
        named["assigner"] = {"display": authority}
    return {"type": "Patient", "identifier": named}


def score(one: Score, patient: dict[str, Any], author: Author) -> bytes:
    """The transaction that records a score."""
    observation = {
        **_head("Observation", f"score.{one.key}", patient, author, simulated=one.simulated),
        "status": "final",
        "category": [{"coding": [{"system": f"{_TERMS}/observation-category", "code": "survey"}]}],
        "code": {
            "coding": [{"system": f"{author.own}:task", "code": one.task}],
            "text": f"Risk of {outcome_of(one.task).label.lower()}",
        },
        "effectiveDateTime": instant(one.at_ns),
        "method": {"text": f"{one.task} {one.version}, {one.rung}"},
        "device": _device(author),
        "note": [{"text": text} for text in _notes(one)],
    }
    if one.probability is not None and one.accepted:
        percent = round(100 * one.probability, 2)
        observation["valueQuantity"] = {"value": percent, "unit": "%", "system": _UCUM, "code": "%"}
        observation["interpretation"] = [_coded(f"{author.own}:level", one.level)]
    else:
        reason = "not-performed" if one.outcome == "withheld" else "error"
        observation["dataAbsentReason"] = {**_coded(f"{_TERMS}/data-absent-reason", reason), "text": one.why}
    if one.drivers:
        observation["component"] = [_component(driver, author) for driver in one.drivers]
    entries = [_create(observation)]
    if one.accepted:
        entries.append(_create(_assessment(one, patient, author, basis=entries[0]["fullUrl"])))
    return _transaction(entries)


def news2(one: News2, patient: dict[str, Any], author: Author) -> bytes:
    """The transaction that records a NEWS2; preliminary while items are missing."""
    observation = {
        **_head("Observation", f"news2.{one.key}", patient, author, simulated=one.simulated),
        "status": "final" if one.complete else "preliminary",
        "category": [{"coding": [{"system": f"{_TERMS}/observation-category", "code": "survey"}]}],
        "code": {"coding": [_NEWS2], "text": "NEWS2 total score"},
        "effectiveDateTime": instant(one.at_ns),
        "method": {"text": f"NEWS2, SpO2 scale {one.scale}"},
        "device": _device(author),
        "component": [
            {"code": {**_coded(f"{author.own}:news2-item", item), "text": item}, "valueInteger": points}
            for item, points in sorted(one.items.items())
        ],
    }
    if one.total is None:
        observation["dataAbsentReason"] = _coded(f"{_TERMS}/data-absent-reason", "unknown")
    else:
        observation["valueInteger"] = one.total
    if one.risk:
        observation["interpretation"] = [_coded(f"{author.own}:news2-risk", one.risk)]
    if one.missing:
        observation["note"] = [{"text": f"Missing: {', '.join(one.missing)}"}]
    return _transaction([_create(observation)])


def notice(one: Notice, patient: dict[str, Any], author: Author) -> bytes:
    """The transaction that raises an advisory or takes it back."""
    period = {"start": instant(one.begun_ns)}
    if one.ended_ns is not None:
        period["end"] = instant(max(one.begun_ns, one.ended_ns))
    flag = {
        **_head("Flag", f"advisory.{one.key}", patient, author, simulated=one.simulated),
        "extension": [
            {
                "url": _PRIORITY_URL,
                "valueCodeableConcept": _coded(_PRIORITY_CODES, _PRIORITIES.get(one.priority, "PN")),
            }
        ],
        "status": "active" if one.ended_ns is None else "inactive",
        "category": [_coded(f"{_TERMS}/flag-category", "clinical")],
        "code": {**_coded(f"{author.own}:advisory", one.code), "text": one.text},
        "period": period,
        "author": _device(author),
    }
    name = flag["identifier"][0]
    return _transaction(
        [
            {
                "fullUrl": _url(flag),
                "resource": flag,
                "request": {
                    "method": "PUT",
                    "url": f"Flag?identifier={quote(name['system'], safe='')}%7C{quote(name['value'], safe='')}",
                },
            }
        ]
    )


# --- parts


def _assessment(one: Score, patient: dict[str, Any], author: Author, *, basis: str) -> dict[str, Any]:
    assert one.probability is not None
    predicted = outcome_of(one.task)
    foreseen: dict[str, Any] = {
        "outcome": {"text": predicted.label},
        "probabilityDecimal": round(100 * one.probability, 2),  # R4: in percent
        "qualitativeRisk": {
            **_coded(f"{_TERMS}/risk-probability", _QUALITIES.get(one.level, "low")),
            "text": one.level,
        },
    }
    if predicted.snomed:
        foreseen["outcome"]["coding"] = [{"system": _SNOMED, "code": predicted.snomed}]
    if predicted.minutes:
        low, high = ({"value": minutes, "unit": "min", "system": _UCUM, "code": "min"} for minutes in predicted.minutes)
        foreseen["whenRange"] = {"low": low, "high": high}
    if one.drivers:
        foreseen["rationale"] = _moved(one.drivers)
    return {
        **_head("RiskAssessment", f"risk.{one.key}", patient, author, simulated=one.simulated),
        "status": "final",
        "method": {**_coded(f"{author.own}:model", one.task), "text": f"{one.task} {one.version}, {one.rung}"},
        "occurrenceDateTime": instant(one.at_ns),
        "performer": _device(author),
        "basis": [{"reference": basis}],
        "prediction": [foreseen],
    }


def _head(kind: str, key: str, patient: dict[str, Any], author: Author, *, simulated: bool) -> dict[str, Any]:
    head: dict[str, Any] = {"resourceType": kind}
    if simulated:
        label = {"system": f"{_TERMS}/v3-ActReason", "code": "HTEST", "display": "test health data"}
        head["meta"] = {"security": [label]}
    head["identifier"] = [{"system": f"{author.own}:{author.device}", "value": key}]
    head["subject"] = patient
    return head


def _device(author: Author) -> dict[str, Any]:
    return {
        "type": "Device",
        "identifier": {"system": f"{author.own}:device", "value": author.device},
        "display": f"Edgeward {author.version}",
    }


def _coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _component(driver: Driver, author: Author) -> dict[str, Any]:
    component: dict[str, Any] = {"code": {**_coded(f"{author.own}:feature", driver.feature), "text": driver.label}}
    if driver.value is None:
        component["dataAbsentReason"] = _coded(f"{_TERMS}/data-absent-reason", "unknown")
        return component
    quantity: dict[str, Any] = {"value": round(driver.value, 6)}
    if driver.unit:
        quantity["unit"] = driver.unit
    if driver.unit in _UNITS:
        quantity |= {"system": _UCUM, "code": driver.unit}
    component["valueQuantity"] = quantity
    return component


def _moved(drivers: Sequence[Driver]) -> str:
    """Which features moved the score, and how far."""
    return "Moved most by: " + "; ".join(f"{driver.label} {driver.effect:+.2f}" for driver in drivers) + " (log odds)"


def _notes(one: Score) -> list[str]:
    shares = (("missing", one.missing_share), ("stale", one.stale_share))
    known = [f"{name} {share:.0%}" for name, share in shares if share is not None]
    notes = [f"Inputs {', '.join(known)}"] if known else []
    if one.drivers:
        notes.append(_moved(one.drivers))
    if one.simulated:
        notes.append("Simulated patient")
    return notes


def _url(resource: dict[str, Any]) -> str:
    """A name within the transaction, the same each time."""
    name = resource["identifier"][0]
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{name['system']}|{name['value']}").urn


def _create(resource: dict[str, Any]) -> dict[str, Any]:
    name = resource["identifier"][0]
    return {
        "fullUrl": _url(resource),
        "resource": resource,
        "request": {
            "method": "POST",
            "url": resource["resourceType"],
            "ifNoneExist": f"identifier={quote(name['system'], safe='')}%7C{quote(name['value'], safe='')}",
        },
    }


def _transaction(entries: list[dict[str, Any]]) -> bytes:
    bundle = _spoken({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return json.dumps(bundle, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _spoken(value: Any) -> Any:
    """Without what says nothing: FHIR has no empty text, list or object (2.24.0.1, 2.1.6.1)."""
    if isinstance(value, dict):
        kept = ((name, _spoken(inner)) for name, inner in value.items())
        return {name: inner for name, inner in kept if inner is not None and inner not in ("", [], {})}
    if isinstance(value, list):
        return [inner for inner in map(_spoken, value) if inner is not None and inner not in ("", [], {})]
    return value.strip() if isinstance(value, str) else value
