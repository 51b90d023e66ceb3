"""FHIR R4 in: an endpoint to which an EHR, an integration engine or a monitoring gateway posts Observations.

    POST /fhir/Observation         one Observation; also PUT /fhir/Observation/ID
    POST /fhir                     a Bundle: batch, transaction, message or collection
    GET  /fhir/metadata            the CapabilityStatement

What comes is read (``wire.fhir``), given to the rim, and answered after the rim has taken it: 201 taken; 200 taken
before; 422 nothing of it can be used here, with the reasons; 503 not now. Nothing is stored: a device is no FHIR
repository. An answer never repeats what was sent: its OperationOutcome names codes and places in the resource.

Runs on the device's asyncio loop. Who may post is decided by a bearer token (only hashes of tokens are kept), by a
client certificate, or by the network; each sender has a rate of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import edgeward
from edgeward.bedside.source.fhir_answer import JSON_TYPE, answer, outcome, refusal
from edgeward.bedside.source.hl7_reading import AGE_MAX_NS
from edgeward.bedside.source.http import HttpServer, Peer
from edgeward.bedside.source.reading import PatientRef, Reading, Receipt, Refusal
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.signal.numeric import KINDS, Numeric
from edgeward.wire import fhir
from edgeward.wire.codes import CodeTable
from edgeward.wire.fhir import Around, Observed, Refused
from edgeward.wire.fhir_json import At, FhirError, parse
from edgeward.wire.hl7v2_clock import AGE_FUTURE_NS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from edgeward.bedside.source.reading import Rim
    from edgeward.kernel.clock import Clock
    from edgeward.wire.http1 import Head, Request, Response

SOURCE = "fhir"
BODY_BYTES_MAX = 512 << 10
SEEN_MAX = 8_192
SEEN_NS = 3_600 * NS_PER_S
"""For how long what was taken is known again."""
PEERS_MAX = 1_024
TURN_ENTRIES = 25
"""Entries of a Bundle read in one turn of the loop: a few ms, then others have theirs."""
RETRY_S = 5
_TYPES = frozenset({"application/fhir+json", "application/json"})
_PUT = re.compile(r"/fhir/Observation/([A-Za-z0-9\-.]{1,64})")
_URL = re.compile(r"Observation(?:/[A-Za-z0-9\-.]{1,64})?/?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FhirSettings:
    """How to listen.

    ``tokens``: name of a sender → SHA-256 of its bearer token, in hex; empty: anybody who can reach the port, by
    certificate where ``tls`` asks for one. ``rate_hz``, ``burst``: requests of one sender. Raises ``ConfigError``.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    tls: ssl.SSLContext | None = None
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate_hz: float = 50.0
    burst: int = 200

    def __post_init__(self) -> None:
        if not all(_SHA256.fullmatch(digest) for digest in self.tokens.values()):
            raise ConfigError("fhir-token", "a FHIR sender's token is given by its SHA-256 in 64 small hex digits")
        if not 0 <= self.port <= 65_535 or not 0 < self.rate_hz <= 10_000 or not 1 <= self.burst <= 100_000:
            raise ConfigError("setting-invalid", "the FHIR port lies in 0 to 65535, rate_hz in 0 to 10000")


class FhirSource:
    """Takes FHIR resources for one rim. ``start`` and ``close`` belong to the loop that serves it."""

    def __init__(
        self, rim: Rim, clock: Clock, settings: FhirSettings | None = None, *, codes: CodeTable | None = None
    ) -> None:
        self._settings = settings or FhirSettings()
        self._rim, self._clock = rim, clock
        self._codes = codes or CodeTable()
        self._readers: OrderedDict[str, fhir.Reader] = OrderedDict()
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self._rates: OrderedDict[str, _Rate] = OrderedDict()
        self._server = HttpServer(
            self,
            host=self._settings.host,
            port=self._settings.port,
            tls=self._settings.tls,
            body_bytes_max=BODY_BYTES_MAX,
        )
        self.taken = self.repeated = self.refused = self.busy = 0
        """Observations since the start, by what became of them."""

    @property
    def port(self) -> int:
        """The port in use once started."""
        return self._server.port

    async def start(self) -> None:
        """Begin to listen. Raises ``ConfigError`` (``http-address``)."""
        await self._server.start()

    async def close(self) -> None:
        """Stop listening."""
        await self._server.close()

    # --- the server's handler

    def admit(self, head: Head, peer: Peer) -> Response | None:
        """Refuse what need not be read: unknown senders, too many requests, other paths, methods and formats."""
        sender = self._sender(head, peer)
        if sender is None:
            return refusal(HTTPStatus.UNAUTHORIZED, "token-unknown", "login", {"WWW-Authenticate": "Bearer"})
        if not self._rate(sender).allows(self._clock.monotonic_ns()):
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, "too-many", "throttled", {"Retry-After": "1"})
        path = head.path.rstrip("/")
        methods = {"/fhir": ("POST",), "/fhir/Observation": ("POST",), "/fhir/metadata": ("GET",)}.get(path)
        if _PUT.fullmatch(path):
            methods = ("PUT",)
        if methods is None:
            return refusal(HTTPStatus.NOT_FOUND, "path-unknown", "not-found")
        if head.method not in methods:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "method", "not-supported", {"Allow": ", ".join(methods)})
        if head.method == "GET":
            return None
        media, *parameters = (part.strip().lower() for part in head.headers.get("content-type", "").split(";"))
        charsets = [value for value in parameters if value.startswith("charset=")]
        compressed = head.headers.get("content-encoding", "identity").lower() != "identity"
        if media not in _TYPES or compressed or any(value.strip('"') != "charset=utf-8" for value in charsets):
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media-type", "not-supported")
        return None

    async def handle(self, request: Request, peer: Peer) -> Response:
        """Answer one request."""
        head = request.head
        if head.method == "GET":
            wall = self._clock.wall().isoformat(timespec="seconds")
            return answer(HTTPStatus.OK, fhir.capability({"date": wall, "version": edgeward.__version__}))
        sender = self._sender(head, peer) or peer.host
        try:
            document = parse(request.body)
            named = document.get("resourceType")
            at = At(document, named if named in {"Observation", "Bundle"} else "Resource")
            if head.path.rstrip("/") == "/fhir":
                return await self._bundle(at, sender)
            return self._one(at, head, sender)
        except FhirError as error:
            self.refused += 1
            self._tell(sender, (Refused(error.code, error.where, error.issue),))
            return refusal(_status(error), error.code, error.issue, where=error.where)

    def closed(self, peer: Peer) -> None:
        """Connections of HTTP mean nothing: a sender that is silent shows in the beds' numerics."""

    def failed(self, response: Response) -> Response:
        """What the server itself refuses, as an OperationOutcome."""
        if response.content_type == JSON_TYPE:
            return response
        known = response.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return refusal(response.status, "http", "too-long" if known else "invalid", dict(response.headers))

    # --- who sends

    def _sender(self, head: Head, peer: Peer) -> str | None:
        """The sender's name: of its token, its certificate, or its address; None where it must have a token."""
        if not self._settings.tokens:
            return peer.subject or peer.host
        scheme, _, token = head.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        shown = hashlib.sha256(token.strip().encode()).hexdigest()
        matches = [name for name, known in self._settings.tokens.items() if hmac.compare_digest(shown, known)]
        return matches[0] if matches else None

    def _rate(self, sender: str) -> _Rate:
        rate = self._rates.pop(sender, None) or _Rate(self._settings.rate_hz, self._settings.burst)
        self._rates[sender] = rate
        if len(self._rates) > PEERS_MAX:
            self._rates.popitem(last=False)
        return rate

    def _reader(self, sender: str) -> fhir.Reader:
        reader = self._readers.pop(sender, None) or fhir.Reader(self._codes, sender)
        self._readers[sender] = reader
        if len(self._readers) > PEERS_MAX:
            self._readers.popitem(last=False)
        return reader

    # --- resources

    def _one(self, at: At, head: Head, sender: str) -> Response:
        put = _PUT.fullmatch(head.path.rstrip("/"))
        if put and at.text("id") != put[1]:
            raise FhirError("fhir-id", "Observation.id", "is not that of the address", issue="value")
        result = self._take(at, Around(), sender, none_exist=head.headers.get("if-none-exist", ""))
        headers = {"Location": f"/fhir/Observation/{result.name}"} if result.status is HTTPStatus.CREATED else {}
        if result.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_S)
        return answer(result.status, outcome(result.refused), headers)

    async def _bundle(self, at: At, sender: str) -> Response:
        bundle = fhir.read_bundle(at)
        around = Around(bundle.entries)
        if bundle.kind == "transaction":
            return self._transaction(bundle, around, sender)
        results = []
        for number, entry in enumerate(bundle.entries):
            if number % TURN_ENTRIES == TURN_ENTRIES - 1:
                await asyncio.sleep(0)
            try:
                results.append(self._entry(entry, around, sender, bundle))
            except FhirError as error:
                self.refused += 1
                refused = (Refused(error.code, error.where, error.issue),)
                self._tell(sender, refused)
                results.append(Result(_status(error), refused))
        if bundle.kind == "batch":
            return answer(HTTPStatus.OK, _responses("batch-response", results))
        # A message or a collection gets one word for all of it.
        worst = max((result.status for result in results if result.observation), default=HTTPStatus.OK)
        some = any(result.status < HTTPStatus.BAD_REQUEST for result in results if result.observation)
        refused_all = tuple(refused for result in results for refused in result.refused)
        busy = worst is HTTPStatus.SERVICE_UNAVAILABLE
        status = worst if busy or not some else HTTPStatus.OK
        return answer(status, outcome(refused_all), {"Retry-After": str(RETRY_S)} if busy else {})

    def _transaction(self, bundle: fhir.Bundle, around: Around, sender: str) -> Response:
        """All or nothing (FHIR R4, 3.1.0.11.2): read everything first, then let the rim take it."""
        reader, wall_ns = self._reader(sender), self._wall_ns()
        for entry in bundle.entries:
            if _is_observation(entry):
                assert entry.resource is not None
                observed = reader.observation(entry.resource, around, wall_ns)
                if not observed.measures:
                    self.refused += 1
                    self._tell(sender, observed.refused)
                    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, outcome(observed.refused))
        results = [self._entry(entry, around, sender, bundle) for entry in bundle.entries]
        failed = [result for result in results if result.status >= HTTPStatus.BAD_REQUEST]
        if failed:
            busy = any(result.status is HTTPStatus.SERVICE_UNAVAILABLE for result in failed)
            status = HTTPStatus.SERVICE_UNAVAILABLE if busy else failed[0].status
            return answer(status, outcome(failed[0].refused), {"Retry-After": str(RETRY_S)} if busy else {})
        return answer(HTTPStatus.OK, _responses("transaction-response", results))

    def _entry(self, entry: fhir.Entry, around: Around, sender: str, bundle: fhir.Bundle) -> Result:
        if not _is_observation(entry):
            return Result(HTTPStatus.OK, observation=False)
        assert entry.resource is not None
        if entry.method not in {"", "POST", "PUT"} or (entry.method and not _URL.fullmatch(entry.url)):
            raise FhirError("fhir-request", f"{entry.at.where}.request", "is no create of an Observation")
        extra = f"{bundle.identifier}#{entry.at.where}" if bundle.identifier else ""
        return self._take(entry.resource, around, sender, none_exist=entry.none_exist, extra=extra)

    def _take(self, at: At, around: Around, sender: str, *, none_exist: str = "", extra: str = "") -> Result:
        """Read one Observation and give it to the rim."""
        now = self._clock.monotonic_ns()
        key, name = _key(at, sender, none_exist, extra)
        if key is not None and self._is_repeated(key, now):
            self.repeated += 1
            return Result(HTTPStatus.OK, name=name)
        observed = self._reader(sender).observation(at, around, self._wall_ns())
        reading = self._reading(observed, sender, now)
        refused = (*observed.refused, *reading[1])
        if not reading[0].numerics:
            self.refused += 1
            self._tell(sender, refused)
            return Result(HTTPStatus.UNPROCESSABLE_ENTITY, refused)
        receipt = self._rim.take(reading[0])
        if receipt is Receipt.LATER:
            self.busy += 1
            return Result(HTTPStatus.SERVICE_UNAVAILABLE, (Refused("busy", at.where, "transient"),))
        if receipt is Receipt.REFUSED:
            self.refused += 1
            return Result(HTTPStatus.UNPROCESSABLE_ENTITY, (Refused("place-unknown", at.where, "business-rule"),))
        self.taken += 1
        if key is not None:
            self._seen[key] = now
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
        return Result(HTTPStatus.CREATED, refused, name=name)

    def _reading(self, observed: Observed, sender: str, now: int) -> tuple[Reading, list[Refused]]:
        """Instants on the device's clock; what is too old or lies in the future is refused."""
        wall_ns = self._wall_ns()
        numerics, refused = [], []
        for measure in observed.measures:
            age = wall_ns - measure.wall_ns
            if age < -AGE_FUTURE_NS:
                refused.append(Refused("time-future", measure.where, "value"))
            elif age > AGE_MAX_NS[KINDS[measure.kind].group]:
                refused.append(Refused("time-old", measure.where, "value"))
            else:
                numerics.append(Numeric(measure.kind, measure.value, now - max(0, age)))
        patient = observed.patient
        reading = Reading(
            SOURCE,
            observed.place,
            sender,
            now,
            patient=None if patient is None else PatientRef(patient.identifiers, patient.age_y, patient.sex),
            numerics=tuple(numerics),
            refusals=_told((*observed.refused, *refused)),
            simulated=observed.simulated,
        )
        return reading, refused

    def _is_repeated(self, key: bytes, now: int) -> bool:
        while self._seen and now - next(iter(self._seen.values())) > SEEN_NS:
            self._seen.popitem(last=False)
        return key in self._seen

    def _tell(self, sender: str, refused: tuple[Refused, ...]) -> None:
        """Let the rim count what was refused."""
        self._rim.take(Reading(SOURCE, "", sender, self._clock.monotonic_ns(), refusals=_told(refused)))

    def _wall_ns(self) -> int:
        return round(self._clock.wall().timestamp() * 1e9)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one entry."""

    status: HTTPStatus
    refused: tuple[Refused, ...] = ()
    name: str = ""
    observation: bool = True


class _Rate:
    """A bucket of requests that refills."""

    def __init__(self, rate_hz: float, burst: int) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._left, self._at_ns = float(burst), 0

    def allows(self, now_ns: int) -> bool:
        """Whether one more request fits now."""
        self._left = min(self._burst, self._left + (now_ns - self._at_ns) / NS_PER_S * self._rate_hz)
        self._at_ns = now_ns
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _status(error: FhirError) -> HTTPStatus:
    """FHIR R4, 3.1.0.8.1: 400 for what is no resource, 422 for one that cannot be used."""
    return HTTPStatus.BAD_REQUEST if error.code.startswith("fhir-") else HTTPStatus.UNPROCESSABLE_ENTITY


def _is_observation(entry: fhir.Entry) -> bool:
    """Whether an entry is ours to take; others say whose and where, and are not kept."""
    return entry.resource is not None and fhir.resource_type(entry.resource) == "Observation"


def _told(refused: tuple[Refused, ...]) -> tuple[Refusal, ...]:
    return tuple(Refusal(one.code, one.where) for one in refused)


def _key(at: At, sender: str, none_exist: str, extra: str) -> tuple[bytes | None, str]:
    """What is known again: a condition as it stands, or an identifier with the content it came with; and a name.

    An Observation that is corrected keeps its identifier and has another content: it is taken again.
    """
    content = hashlib.sha256(repr(sorted(at.value.items())).encode()).digest()
    name = content.hex()[:32]
    identifier = fhir.identifier_of(at) or at.text("id")
    if none_exist:
        return hashlib.sha256(f"{sender}\0exist\0{none_exist}".encode()).digest(), name
    if identifier or extra:
        return hashlib.sha256(f"{sender}\0{identifier}\0{extra}\0".encode() + content).digest(), name
    return None, name


def _responses(kind: str, results: list[Result]) -> dict[str, object]:
    entries = []
    for result in results:
        response: dict[str, object] = {"status": f"{result.status.value} {result.status.phrase}"}
        if result.status is HTTPStatus.CREATED:
            response["location"] = f"Observation/{result.name}"
        if result.refused:
            response["outcome"] = outcome(result.refused)
        entries.append({"response": response})
    return {"resourceType": "Bundle", "type": kind, **({"entry": entries} if entries else {})}
