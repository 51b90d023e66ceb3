"""The FHIR endpoint over real HTTP: taken after the rim took it, refused with a reason, no patient ever repeated."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import http.client
import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from rim_recorder import RimRecorder

from edgeward.bedside.source import fhir as source_module
from edgeward.bedside.source.fhir import FhirSettings, FhirSource
from edgeward.bedside.source.http import server_tls
from edgeward.bedside.source.reading import Receipt
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLOCK = SystemClock()
JSON = "application/fhir+json"
SECRET = "SECRET-P1"


def _now(ago_s: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")


def _observation(code: str = "8867-4", value: float = 72, unit: str = "/min", **changes: Any) -> dict[str, Any]:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"identifier": {"system": "urn:oid:1.2.3", "value": SECRET}},
        "effectiveDateTime": _now(),
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit},
        **changes,
    }
    return {name: value for name, value in observation.items() if value is not None}


def _bundle(*resources: dict[str, Any], kind: str = "batch", **more: Any) -> dict[str, Any]:
    entries = [{"resource": one, "request": {"method": "POST", "url": one["resourceType"]}} for one in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries, **more}


class _Client:
    """Talks to the endpoint, and holds every answer to the standard's model and to silence about patients."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port, self._tls = port, tls

    def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if self._tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, context=self._tls, timeout=10
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with contextlib.closing(connection):
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, data, {"Content-Type": JSON, **named})
            response = connection.getresponse()
            content = response.read()
        assert SECRET.encode() not in content
        document = json.loads(content)
        kind = {"Bundle": Bundle, "CapabilityStatement": CapabilityStatement}.get(document["resourceType"])
        (kind or OperationOutcome).model_validate(document)
        return response.status, document, dict(response.headers)

    def post(self, body: bytes | dict[str, Any], path: str = "/fhir/Observation", **headers: str) -> tuple[int, str]:
        """Status, and the first code of the outcome."""
        status, document, _ = self.ask("POST", path, body, **headers)
        return status, document["issue"][0]["details"]["text"]


@contextlib.contextmanager
def _endpoint(rim: RimRecorder, **settings: Any) -> Iterator[FhirSource]:
    source = FhirSource(rim, CLOCK, FhirSettings(port=0, **settings))
    rim.run(source.start())
    try:
        yield source
    finally:
        rim.run(source.close())


@pytest.fixture
def rim() -> Iterator[RimRecorder]:
    """A rim on its own loop."""
    recorder = RimRecorder()
    yield recorder
    recorder.close()


@pytest.fixture
def client(rim: RimRecorder) -> Iterator[_Client]:
    """An endpoint that anybody on loopback may post to."""
    with _endpoint(rim) as source:
        yield _Client(source.port)


def test_an_observation_is_taken(client: _Client, rim: RimRecorder) -> None:
    """201 with an address, and a reading with value, instant, patient and sender."""
    status, document, headers = client.ask("POST", "/fhir/Observation", _observation(effectiveDateTime=_now(60)))
    assert status == 201
    assert headers["Location"].startswith("/fhir/Observation/")
    assert document["issue"][0]["severity"] == "information"
    (reading,) = rim.readings
    ((kind, value, at_ns),) = [(one.kind, one.value, one.at_ns) for one in reading.numerics]
    assert (kind, value) == (Kind.HR, 72.0)
    assert 59e9 < reading.received_ns - at_ns < 62e9
    assert reading.patient is not None
    assert reading.patient.identifiers == {f"{SECRET}^^^urn:oid:1.2.3^"}
    assert (reading.source, reading.peer, reading.refusals) == ("fhir", "127.0.0.1", ())


def test_part_of_an_observation_is_taken_and_the_rest_told(client: _Client, rim: RimRecorder) -> None:
    """One bad component costs itself, and the sender hears of it."""
    panel = _observation("85354-9", valueQuantity=None, component=[
        {"code": {"coding": [{"system": "http://loinc.org", "code": code}]},
         "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}
        for code, value in (("8480-6", 120), ("8462-4", 900))
    ])  # fmt: skip
    status, document, _ = client.ask("POST", "/fhir/Observation", panel)
    assert status == 201
    assert [(one["details"]["text"], one["expression"]) for one in document["issue"]] == [
        ("out-of-range", ["Observation.component[1].valueQuantity"])
    ]
    assert rim.values(Kind.NIBP_SYS) == [120.0]
    assert rim.codes() == ["out-of-range"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "fhir-json"),
        (b'{"resourceType":"Observation","resourceType":"Observation"}', 400, "fhir-json"),
        ({"resourceType": SECRET}, 400, "fhir-structure"),
        ({"resourceType": "Patient"}, 400, "fhir-not-supported"),
        (_observation(status="registered"), 422, "status-registered"),
        (_observation(effectiveDateTime="2026-01-01"), 422, "time-imprecise"),
        (_observation(effectiveDateTime=_now(-3600)), 422, "time-future"),
        (_observation(effectiveDateTime=_now(100 * 3600)), 422, "time-old"),
        (_observation("1-1"), 422, "code-unknown"),
        (_observation(unit="mm[Hg]"), 422, "unit-mismatch"),
        (_observation(value=900), 422, "out-of-range"),
        (_observation(code=SECRET), 422, "code-unknown"),
        (_observation(status=SECRET), 422, "status-unknown"),
    ],
)
def test_what_is_not_taken_is_answered_with_its_reason(
    client: _Client, rim: RimRecorder, body: bytes | dict[str, Any], status: int, code: str
) -> None:
    """400 for what is no resource, 422 for one that cannot be used; the rim counts it; nothing is repeated."""
    assert client.post(body) == (status, code)
    assert [reading.numerics for reading in rim.readings] == [()]
    assert rim.codes() == [code]
    assert SECRET not in "".join(refusal.where for reading in rim.readings for refusal in reading.refusals)


def test_paths_methods_and_formats_are_held_to(client: _Client, rim: RimRecorder) -> None:
    """404, 405, 413, 415; and nothing reaches the rim."""
    assert client.ask("POST", "/fhir/Patient", _observation())[0] == 404
    status, _, headers = client.ask("GET", "/fhir/Observation")
    assert (status, headers["Allow"]) == (405, "POST")
    for headers in ({"Content_Type": "application/fhir+xml"}, {"Content_Type": f"{JSON}; charset=latin-1"},
                    {"Content_Encoding": "gzip"}):  # fmt: skip
        assert client.ask("POST", "/fhir/Observation", _observation(), **headers)[0] == 415
    assert client.ask("POST", "/fhir/Observation", b" " * (source_module.BODY_BYTES_MAX + 1))[0] == 413
    assert client.ask("POST", "/fhir/Observation", _observation(), Content_Type=f"{JSON}; charset=UTF-8")[0] == 201
    assert len(rim.readings) == 1


def test_the_device_says_what_it_takes(client: _Client) -> None:
    """The CapabilityStatement is FHIR's own, and of R4."""
    status, document, _ = client.ask("GET", "/fhir/metadata")
    assert (status, document["fhirVersion"]) == (200, "4.0.1")


def test_what_was_taken_is_known_again(client: _Client, rim: RimRecorder) -> None:
    """By identifier and content, by a condition, and not without either."""
    once = _observation(identifier=[{"system": "urn:ehr", "value": "1"}])
    assert [client.ask("POST", "/fhir/Observation", once)[0] for _ in range(3)] == [201, 200, 200]
    corrected = {**copy.deepcopy(once), "status": "corrected", "valueQuantity": {"value": 75, "unit": "bpm"}}
    assert [client.ask("POST", "/fhir/Observation", corrected)[0] for _ in range(2)] == [201, 200]
    for value in (80, 81):
        body = _observation(value=value)
        status = client.ask("POST", "/fhir/Observation", body, If_None_Exist="identifier=urn:ehr|2")[0]
        assert status == (201 if value == 80 else 200)
    nameless = _observation(value=90)
    assert [client.ask("POST", "/fhir/Observation", nameless)[0] for _ in range(2)] == [201, 201]
    assert rim.values(Kind.HR) == [72.0, 75.0, 80.0, 90.0, 90.0]


def test_an_update_has_the_id_of_its_address(client: _Client, rim: RimRecorder) -> None:
    """PUT: idempotent by that id."""
    body = _observation(id="a-1")
    assert [client.ask("PUT", "/fhir/Observation/a-1", body)[0] for _ in range(2)] == [201, 200]
    assert client.ask("PUT", "/fhir/Observation/b", body)[0] == 400
    assert rim.values(Kind.HR) == [72.0]


@pytest.mark.parametrize(("receipt", "status"), [(Receipt.LATER, 503), (Receipt.REFUSED, 422)])
def test_the_rim_has_the_last_word(client: _Client, rim: RimRecorder, receipt: Receipt, status: int) -> None:
    """Not now, or never; what was not taken is taken when it comes again."""
    body = _observation(identifier=[{"value": "1"}])
    rim.answer = receipt
    answered, _, headers = client.ask("POST", "/fhir/Observation", body)
    assert answered == status
    assert ("Retry-After" in headers) == (status == 503)
    rim.answer = Receipt.TAKEN
    assert client.ask("POST", "/fhir/Observation", body)[0] == 201


def test_a_batch_is_answered_entry_by_entry(client: _Client, rim: RimRecorder) -> None:
    """Good and bad beside each other, and a Patient who says whose they are."""
    patient = {"resourceType": "Patient", "id": "p", "identifier": [{"system": "s", "value": "P2"}], "gender": "male"}
    good = _observation(subject={"reference": "Patient/p"})
    bundle = _bundle(patient, good, _observation("1-1"), _observation(status=5))
    bundle["entry"].append({"resource": _observation(), "request": {"method": "DELETE", "url": "Observation/1"}})
    status, document, _ = client.ask("POST", "/fhir", bundle)
    assert (status, document["type"]) == (200, "batch-response")
    assert [one["response"]["status"][:3] for one in document["entry"]] == ["200", "201", "422", "400", "400"]
    (reading,) = [one for one in rim.readings if one.numerics]
    assert reading.patient is not None
    assert reading.patient.identifiers == {"P2^^^s^", "Patient/p^^^127.0.0.1^FHIR"}
    assert reading.patient.sex == "m"


def test_a_transaction_is_all_or_nothing(client: _Client, rim: RimRecorder) -> None:
    """One that cannot be used keeps the others out."""
    status, document, _ = client.ask("POST", "/fhir", _bundle(_observation(), _observation("1-1"), kind="transaction"))
    assert (status, document["resourceType"]) == (422, "OperationOutcome")
    assert rim.values(Kind.HR) == []
    status, document, _ = client.ask("POST", "/fhir", _bundle(_observation(), _observation(), kind="transaction"))
    assert (status, document["type"], len(document["entry"])) == (200, "transaction-response", 2)
    assert rim.values(Kind.HR) == [72.0, 72.0]
    rim.answer = Receipt.LATER
    assert client.ask("POST", "/fhir", _bundle(_observation(), kind="transaction"))[0] == 503


def test_a_message_gets_one_word(client: _Client, rim: RimRecorder) -> None:
    """Taken in part or whole: 200; not at all: why; not now: 503; again: known."""
    header = {"resourceType": "MessageHeader"}
    named = {"identifier": {"system": "urn:ehr", "value": "m1"}}
    message = _bundle(header, _observation(), _observation("1-1"), kind="message", **named)
    for _ in range(2):
        assert client.ask("POST", "/fhir", message)[0] == 200
    assert rim.values(Kind.HR) == [72.0]
    assert client.ask("POST", "/fhir", _bundle(header, _observation("1-1"), kind="message"))[0] == 422
    assert client.ask("POST", "/fhir", _bundle(kind="collection"))[0] == 200
    rim.answer = Receipt.LATER
    assert client.ask("POST", "/fhir", _bundle(header, _observation(), kind="message"))[0] == 503
    assert client.ask("POST", "/fhir", {**message, "type": "history"})[0] == 400


def test_only_known_senders_may_post(rim: RimRecorder) -> None:
    """By the hash of a token; the sender's name is the reading's peer."""
    digest = hashlib.sha256(b"open sesame").hexdigest()
    with _endpoint(rim, tokens={"engine-1": digest}) as source:
        client = _Client(source.port)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic open sesame"}):
            status, _, answered = client.ask("POST", "/fhir/Observation", _observation(), **headers)
            assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
        status, _, _ = client.ask("POST", "/fhir/Observation", _observation(), Authorization="Bearer open sesame")
        assert status == 201
    assert [reading.peer for reading in rim.readings] == ["engine-1"]
    for wrong in ({"tokens": {"a": "plain"}}, {"port": 70_000}, {"rate_hz": float("nan")}):
        with pytest.raises(ConfigError):
            FhirSettings(**wrong)  # type: ignore[arg-type]


def test_a_sender_that_floods_is_slowed(rim: RimRecorder) -> None:
    """429 beyond its share; nothing of it is read."""
    with _endpoint(rim, rate_hz=0.01, burst=2) as source:
        client = _Client(source.port)
        answers = [client.ask("POST", "/fhir/Observation", _observation()) for _ in range(3)]
    assert [status for status, _, _ in answers] == [201, 201, 429]
    assert answers[2][2]["Retry-After"] == "1"


def test_a_certificate_names_its_sender(rim: RimRecorder, tmp_path: Path) -> None:
    """Over TLS with client certificates."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    own = str(tmp_path / "own.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("engine.hospital", common_name="engine").configure_cert(context)
    with _endpoint(rim, tls=server_tls(own, own, client_ca=str(tmp_path / "ca.pem"))) as source:
        assert _Client(source.port, context).ask("POST", "/fhir/Observation", _observation())[0] == 201
    assert [reading.peer for reading in rim.readings] == ["engine"]


def test_what_is_remembered_is_bounded(rim: RimRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, by number and by age."""
    monkeypatch.setattr(source_module, "SEEN_MAX", 3)
    with _endpoint(rim) as source:
        client = _Client(source.port)
        for number in range(5):
            client.ask("POST", "/fhir/Observation", _observation(identifier=[{"value": str(number)}]))
        assert len(source._seen) == 3
        monkeypatch.setattr(source_module, "SEEN_NS", -1)
        client.ask("POST", "/fhir/Observation", _observation(identifier=[{"value": "5"}]))
        assert len(source._seen) == 1
