"""FHIR R4 resources to typed values: Observations, whose they are and where, alone or in a Bundle. Pure.

Read of an Observation: status, code (every coding), value[x] or dataAbsentReason, component, effective[x] or issued,
subject, encounter. Patient, Encounter, Location and Device are read only to say whose and where, out of ``contained``
or the same Bundle; nothing is fetched. What cannot be used is refused with a code and its place, and costs nothing
beside it.

Rules where R4 leaves a choice: a comparator is a bound and no value; both ``unit`` and ``code`` must mean one unit
where both are known; a day is no instant; a blood pressure without a method is one by cuff (as in ``codes.csv``); a
name beside a code is compared for MDC, where it is a reference id, and not for LOINC, where it may be translated.

Sources: FHIR R4 (4.0.1): Observation, vital signs profile, Bundle, Patient, Encounter, Location, references (2.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from edgeward.kernel.errors import InputError
from edgeward.kernel.units import Linear
from edgeward.signal.numeric import KINDS, Kind, plausible
from edgeward.wire.codes import agreed, unit_of
from edgeward.wire.fhir_json import At, FhirError
from edgeward.wire.hl7v2_patient import Patient, cx
from edgeward.wire.hl7v2_value import CONSCIOUSNESS
from edgeward.wire.iso8601 import age_y, instant_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgeward.wire.codes import Code, CodeTable

LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
UCUM = "http://unitsofmeasure.org"
ENTRIES_MAX = 500
_SYSTEMS = {LOINC: "LN", MDC: "MDC", "urn:oid:2.16.840.1.113883.6.24": "MDC", "urn:oid:2.16.840.1.113883.6.1": "LN"}
_TAKEN = frozenset({"preliminary", "final", "amended", "corrected"})
_WITHDRAWN = frozenset({"entered-in-error"})
_STATUSES = _TAKEN | _WITHDRAWN | {"registered", "cancelled", "unknown"}
_SEXES = {"female": "f", "male": "m"}
_ADDRESS = "FHIR"
"""Type of an identifier that is a patient's address at a FHIR server, and no number that a hospital gave."""
_TEST = "HTEST"
"""v3-ActReason: test health data; a resource labelled so is no patient's."""


class Measure(NamedTuple):
    """One value of one kind in its canonical unit; None: declared absent. ``wall_ns``: since 1970, UTC."""

    kind: Kind
    value: float | None
    wall_ns: int
    where: str


class Refused(NamedTuple):
    """What was not taken: a stable code, and where."""

    code: str
    where: str
    issue: str = "invalid"


@dataclass(frozen=True, slots=True)
class Observed:
    """What one Observation says. ``place``: identifier, name or reference of a Location, empty where it names none."""

    patient: Patient | None = field(repr=False)
    place: str
    measures: tuple[Measure, ...]
    refused: tuple[Refused, ...]
    simulated: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a Bundle. ``method`` and ``url`` are empty outside batch and transaction."""

    at: At
    resource: At | None
    full_url: str = ""
    method: str = ""
    url: str = ""
    none_exist: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """``kind``: "batch", "transaction", "message", "collection"; ``identifier``: "system|value" or empty."""

    kind: str
    entries: tuple[Entry, ...]
    identifier: str


class Around:
    """The resources that references of a resource may mean: those of its Bundle, and its own contained ones."""

    def __init__(self, entries: tuple[Entry, ...] = ()) -> None:
        self._known: dict[str, At] = {}
        for entry in entries:
            if entry.resource is None:
                continue
            name = f"{entry.resource.text('resourceType')}/{entry.resource.text('id')}"
            for key in (entry.full_url, name if entry.resource.text("id") else ""):
                if key:
                    self._known.setdefault(key, entry.resource)

    def find(self, reference: At | None, holder: At) -> At | None:
        """The resource that ``reference``, an element of ``holder``, means; None where it is elsewhere."""
        target = "" if reference is None else reference.text("reference").partition("/_history/")[0]
        if target.startswith("#"):
            inner = (one for one in holder.elements("contained") if one.text("id") == target[1:])
            return next(inner, None)
        return self._known.get(target) if target else None


def resource_type(resource: At) -> str:
    """The resource's type; ``FhirError`` where it names none."""
    name = resource.text("resourceType")
    if not name.isalpha():
        raise FhirError("fhir-structure", f"{resource.where}.resourceType", "is missing", issue="structure")
    return name


def identifier_of(resource: At) -> str:
    """The first business identifier as "system|value"; empty where there is none."""
    for identifier in resource.elements("identifier"):
        if identifier.text("value"):
            return f"{identifier.text('system')}|{identifier.text('value')}"
    return ""


def read_bundle(resource: At) -> Bundle:
    """The entries of a Bundle; ``FhirError`` for another type of Bundle and for more than ``ENTRIES_MAX`` entries."""
    kind = resource.text("type")
    if kind not in {"batch", "transaction", "message", "collection"}:
        raise FhirError(
            "fhir-bundle-type", "Bundle.type", "is none of batch, transaction, message, collection", issue="value"
        )
    if isinstance(entries := resource.value.get("entry"), list) and len(entries) > ENTRIES_MAX:
        raise FhirError("fhir-too-many", "Bundle.entry", f"has more than {ENTRIES_MAX} entries", issue="too-long")
    return Bundle(kind, tuple(_entry(at) for at in resource.elements("entry", ENTRIES_MAX)), _bundle_name(resource))


def _bundle_name(resource: At) -> str:
    identifier = resource.element("identifier")
    value = "" if identifier is None else identifier.text("value")
    return f"{identifier.text('system')}|{value}" if identifier is not None and value else ""


def _entry(at: At) -> Entry:
    request = at.element("request")
    resource = at.element("resource")
    if resource is not None:
        resource = At(resource.value, f"{at.where}.resource")
    if request is None:
        return Entry(at, resource, at.text("fullUrl"))
    return Entry(
        at, resource, at.text("fullUrl"), request.text("method"), request.text("url"), request.text("ifNoneExist")
    )


class Reader:
    """Reads Observations against one table of codes. ``authority``: of ids that mean something at one server alone."""

    def __init__(self, table: CodeTable, authority: str) -> None:
        self._table = table
        self._authority = authority

    def observation(self, at: At, around: Around, wall_ns: int) -> Observed:
        """What an Observation says at wall time ``wall_ns`` (for ages).

        Raises ``FhirError`` where nothing of it can be read: ``fhir-structure``, ``status-…``, ``time-…``.
        """
        if resource_type(at) != "Observation":
            raise FhirError("fhir-not-supported", f"{at.where}.resourceType", "only Observation", issue="not-supported")
        _understood(at)
        status = at.text("status")
        if status not in _STATUSES:
            raise FhirError("status-unknown", f"{at.where}.status", "is missing or none of R4's", issue="value")
        if status not in _TAKEN | _WITHDRAWN:
            raise FhirError(
                f"status-{status}", f"{at.where}.status", "says that there is no result", issue="business-rule"
            )
        when = _effective(at)
        measures: list[Measure] = []
        refused: list[Refused] = []
        for part in self._parts(at):
            try:
                measure = self._measure(part, when, withdrawn=status in _WITHDRAWN)
            except FhirError as error:
                refused.append(Refused(error.code, error.where, error.issue))
            else:
                measures.append(measure)
        return Observed(
            self._patient(at, around, wall_ns), self._place(at, around), tuple(measures), tuple(refused), _is_test(at)
        )

    # --- values

    def _parts(self, at: At) -> Iterator[At]:
        """The Observation itself where it has a value, and its components."""
        components = list(at.elements("component"))
        has_value = any(name.startswith("value") for name in at.value) or at.has("dataAbsentReason")
        if has_value or not components:
            yield at
        yield from components

    def _measure(self, part: At, when: int, *, withdrawn: bool) -> Measure:
        _understood(part)
        code = self._code(part)
        assert code.kind is not None
        reason = part.element("dataAbsentReason")
        names = [name for name in part.value if name.startswith("value")]
        if reason is not None and names:
            raise FhirError("value-and-reason", part.where, "has a value and says that it has none (obs-6)")
        if len(names) > 1:
            raise FhirError("value-not-single", part.where, "has several values")
        if withdrawn or reason is not None:
            return Measure(code.kind, None, when, part.where)
        if not names:
            raise FhirError("value-missing", part.where, "has no value and does not say why", issue="required")
        return Measure(code.kind, self._value(part, names[0], code), when, part.where)

    def _code(self, part: At) -> Code:
        concept = part.element("code")
        where = f"{part.where}.code"
        if concept is None:
            raise FhirError("code-missing", where, "is missing", issue="required")
        found: list[Code] = []
        why = FhirError("code-missing", where, "has no coding", issue="required")
        for coding in concept.elements("coding"):
            system, display = coding.text("system"), coding.text("display")
            name = display if display.startswith("MDC_") else ""
            try:
                found.append(self._table.look_up(_SYSTEMS.get(system, system), coding.text("code"), name))
            except InputError as error:
                why = FhirError(error.code, where, "is not in the table of codes", issue="not-supported")
                if error.code == "code-name-mismatch":
                    raise why from error
        if not found:
            raise why
        try:
            code = agreed(found)
        except InputError as error:
            raise FhirError(error.code, where, "has codings that name different things") from error
        if code.kind is None:
            raise FhirError("code-unused", where, "is known, and nothing that is watched here", issue="not-supported")
        return code

    def _value(self, part: At, name: str, code: Code) -> float:
        kind, where = code.kind, f"{part.where}.{name}"
        assert kind is not None
        if kind is Kind.ACVPU:
            return _level(part, name)
        if name == "valueQuantity":
            quantity = part.element(name)
            assert quantity is not None
            stated, convert = _quantity(quantity, code)
        elif name == "valueInteger" and KINDS[kind].unit == "1":
            stated, convert = part.number(name), Linear()
        else:
            raise FhirError("value-type", where, "a numeric is a Quantity", issue="not-supported")
        if stated is None:
            raise FhirError("value-missing", where, "has no value", issue="required")
        value = convert(stated)
        if not plausible(kind, value):
            raise FhirError("out-of-range", where, "lies outside what a living patient can show", issue="value")
        return value

    # --- whose and where

    def _patient(self, at: At, around: Around, wall_ns: int) -> Patient | None:
        subject = at.element("subject")
        if subject is None:
            return None
        named = around.find(subject, at)
        if named is not None and named.text("resourceType") != "Patient":
            return None
        identifiers = set()
        logical = subject.element("identifier")
        if logical is not None:
            identifiers.add(_cx(logical))
        born, sex = "", ""
        target = subject.text("reference").partition("/_history/")[0]
        if named is not None:
            identifiers |= {_cx(one) for one in named.elements("identifier") if one.text("use") != "old"}
            born, sex = named.text("birthDate"), named.text("gender")
            target = f"Patient/{named.text('id')}" if named.text("id") and not target.startswith("#") else ""
        if target.rpartition("/")[0].endswith("Patient"):  # an address at one server, good as long as it keeps it
            identifiers.add(cx(target, "" if "://" in target else self._authority, _ADDRESS))
        identifiers.discard("")
        if not identifiers:
            return None
        return Patient(frozenset(identifiers), age_y(born, wall_ns), _SEXES.get(sex))

    def _place(self, at: At, around: Around) -> str:
        """Where the patient is: the active location of the encounter, else the location of the device."""
        holder = around.find(at.element("encounter"), at)
        if holder is not None:
            stays = list(holder.elements("location"))
            active = [stay for stay in stays if stay.text("status") in {"", "active"}]
            if len(active) == 1:
                return _location(active[0].element("location"), holder, around)
        device = around.find(at.element("device"), at)
        return "" if device is None else _location(device.element("location"), device, around)


def _location(reference: At | None, holder: At, around: Around) -> str:
    """How a Location is called: its identifier, else its name, else how it is referred to."""
    if reference is None:
        return ""
    location = around.find(reference, holder)
    if location is not None:
        for identifier in location.elements("identifier"):
            if identifier.text("value"):
                return identifier.text("value")
        return location.text("name")
    logical = reference.element("identifier")
    value = "" if logical is None else logical.text("value")
    return value or reference.text("reference") or reference.text("display")


def _cx(identifier: At) -> str:
    """An Identifier in HL7v2's form, as everything at the rim has it; its type by table 0203, where it has one."""
    kind = ""
    concept = identifier.element("type")
    if concept is not None:
        kind = next((coding.text("code") for coding in concept.elements("coding")), "")
    return cx(identifier.text("value"), identifier.text("system"), kind)


def _understood(at: At) -> None:
    """Refuse what might change the meaning of everything else (FHIR R4, 2.4.0.5 and 2.26.3.2)."""
    for name in ("modifierExtension", "implicitRules"):
        if at.has(name):
            raise FhirError("fhir-modifier", f"{at.where}.{name}", "is not understood", issue="extension")


def _is_test(at: At) -> bool:
    meta = at.element("meta")
    return meta is not None and any(label.text("code") == _TEST for label in meta.elements("security"))


def _effective(at: At) -> int:
    """When: effectiveDateTime or Instant, the end of a period or its start, else ``issued``."""
    name, text = "issued", at.text("issued")
    for choice in ("effectiveDateTime", "effectiveInstant"):
        if at.has(choice):
            name, text = choice, at.text(choice)
    period = at.element("effectivePeriod")
    if period is not None:
        name, text = "effectivePeriod", period.text("end") or period.text("start")
    where = f"{at.where}.{name}"
    if not text:
        raise FhirError("time-missing", f"{at.where}.effective", "is missing, and so is issued", issue="required")
    try:
        return instant_ns(text)
    except InputError as error:
        raise FhirError(error.code, where, "is no instant with its zone", issue="value") from error


def _quantity(quantity: At, code: Code) -> tuple[float | None, Linear]:
    """A Quantity's number and how it becomes canonical."""
    if quantity.text("comparator"):
        raise FhirError("value-bounded", quantity.where, "is only a bound; a bound is not a measurement")
    try:
        convert = unit_of(code, (quantity.text("code"), quantity.text("unit")))
    except FhirError:
        raise
    except InputError as error:
        raise FhirError(error.code, quantity.where, "has no unit that can be used", issue="value") from error
    return quantity.number("value"), convert


def _level(part: At, name: str) -> float:
    """ACVPU from a coded answer, its text, or a letter."""
    words: list[str] = []
    concept = part.element(name) if name == "valueCodeableConcept" else None
    if concept is not None:
        words = [coding.text("code") for coding in concept.elements("coding")] + [concept.text("text")]
    elif name == "valueString":
        words = [part.text(name)]
    for word in words:
        level = CONSCIOUSNESS.get(word.strip().casefold())
        if level is not None:
            return float(level)
    raise FhirError("value-not-level", f"{part.where}.{name}", "is none of A, C, V, P, U", issue="value")


def capability(mapping: Mapping[str, str]) -> dict[str, object]:
    """A CapabilityStatement of what a device takes. ``mapping``: ``date`` (of this statement), ``version``."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": mapping["date"],
        "kind": "instance",
        "software": {"name": "Edgeward", "version": mapping["version"]},
        "implementation": {"description": "Takes observations of monitored patients; keeps none and gives none back"},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
                "resource": [
                    {
                        "type": "Observation",
                        "interaction": [{"code": "create"}, {"code": "update"}],
                        "conditionalCreate": True,
                        "referencePolicy": ["logical", "local", "literal"],
                    }
                ],
            }
        ],
    }
