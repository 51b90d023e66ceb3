"""Scores, NEWS2 and advisories to a hospital's FHIR server: an ``Output`` that fills the outbox, and its ``Sender``.

Only what names a patient of the hospital leaves: who lies in a stay comes from the rim (``identity``), is put into the
resource, and stands in no log, error or state. A score goes when its level or outcome changes and every
``scores_every_s`` (a record is not a display), and not after its time to live; an advisory goes however late, with its
own times, and is taken back in the record when it is taken back here or its stay is over. Threshold alerts do not go:
the monitor that gave their numerics tells of them itself.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import ssl
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edgeward.bedside.output.courier import Later, Outcome, Refused, Sent
from edgeward.bedside.output.outbox import Item
from edgeward.bedside.source.http import tls_files_error
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.wire import fhir_out
from edgeward.wire.fhir_out import Author, Driver, News2, Notice, Score

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.output.outbox import Outbox
    from edgeward.bedside.source.reading import PatientRef
    from edgeward.kernel.clock import Clock

DESTINATION = "fhir"
TIMEOUT_S = 15.0
ANSWER_BYTES_MAX = 1 << 20
STAYS_MAX = 1_024
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_REFUSED = frozenset({400, 412, 413, 422})
"""The server understood, and will not take this item (FHIR R4, 3.1.0.8.1): sending it again changes nothing."""
_NOTE = "fhir.raised."
_AT_ITEM = frozenset({409, 500})


@dataclass(frozen=True, slots=True)
class FhirOutSettings:
    """Where to send, and how to be known there.

    ``url``: the server's base, https (plain http to loopback alone); ``token_file``: holds a bearer token, read anew
    for each connection; ``authority``: PEM of who signed the server's certificate, empty for the system's own;
    ``certificate``, ``key``: our own. Raises ``ConfigError``.
    """

    url: str
    author: Author
    token_file: str = ""
    authority: str = ""
    certificate: str = ""
    key: str = ""
    scores_every_s: float = 900.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        if not secure or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                "fhir-url", "the FHIR server must be named as https://HOST/BASE; patients' data leave for it"
            )
        if not 15 <= self.scores_every_s <= 86_400:
            raise ConfigError("setting-invalid", "scores_every_s lies between 15 seconds and a day")


@dataclass(slots=True)
class _Told:
    """What was last sent of one stay and task."""

    what: tuple[Any, ...]
    at_ns: int


@dataclass(frozen=True, slots=True)
class _Raised:
    """An advisory that stands in the record, and for whom."""

    stay: int
    bed: str
    who: dict[str, Any] = field(repr=False)
    notice: Notice


class FhirOutput:
    """An ``Output`` of the ward.

    ``unidentified``: what did not leave because nobody's number is known; ``failed``: messages that could not be made
    into resources, which is our mistake.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        identity: Callable[[int], PatientRef | None],
        settings: FhirOutSettings,
    ) -> None:
        self._outbox, self._clock, self._identity = outbox, clock, identity
        self._author, self._every_ns = settings.author, round(settings.scores_every_s * NS_PER_S)
        self._told: OrderedDict[tuple[int, str], _Told] = OrderedDict()
        self._raised: OrderedDict[str, _Raised] = OrderedDict()
        self._simulated: dict[str, bool] = {}
        self._all_simulated = False
        self._stamp = 0
        self.unidentified = self.failed = 0
        self._take_back_all()

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """Put a message that is for the record into the outbox; others pass by."""
        makers = {"score": self._score, "news2": self._news2, "advisory": self._advisory}
        try:
            if kind == "hello":
                self._all_simulated = bool(data.get("simulated"))
            elif kind == "bed":
                self._bed(data)
            elif kind in makers:
                makers[kind](data)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            self.failed += 1

    def close(self) -> None:
        """Nothing is held here: the outbox has it."""

    def _bed(self, data: dict[str, Any]) -> None:
        """Learn whether a bed is simulated, and take back what was raised for a stay that is over."""
        bed = str(data["bed"])
        self._simulated[bed] = bool(data.get("simulated"))
        for raised in [one for one in self._raised.values() if one.bed == bed]:
            if data["state"] == "empty" or int(data["stay"]) != raised.stay:
                self._take_back(raised.notice.key)

    def _score(self, data: dict[str, Any]) -> None:
        stay, task = int(data["stay"]), str(data["task"])
        age_ns = round(float(data["age_ms"]) * NS_PER_MS)
        lives_ns = round(float(data["ttl_ms"]) * NS_PER_MS) - age_ns
        what = (data["outcome"], data["level"], data["why"] if data["outcome"] != "accepted" else "")
        if lives_ns <= 0 or not self._is_news(stay, task, what):
            return
        at_ns = self._wall_ns() - age_ns
        one = Score(
            f"{stay}.{task}.{self._stamp_ms(at_ns)}",
            task,
            str(data["version"]),
            str(data["rung"]),
            at_ns,
            str(data["outcome"]),
            str(data["why"] or ""),
            _number(data["probability"]),
            str(data["level"]),
            tuple(
                Driver(
                    str(driver["feature"]),
                    str(driver["label"]),
                    _number(driver["value"]),
                    str(driver["unit"] or ""),
                    float(driver["effect"]),
                )
                for driver in data["drivers"]
            ),
            _number(data["missing_share"]),
            _number(data["stale_share"]),
            self._is_simulated(data),
        )
        self._put(stay, f"score.{one.key}", "score", lambda who: fhir_out.score(one, who, self._author), lives_ns)

    def _news2(self, data: dict[str, Any]) -> None:
        stay = int(data["stay"])
        what = (data["score"], data["complete"], tuple(sorted(data["items"].items())), data["scale"])
        if not data["applies"] or not self._is_news(stay, "news2", what):
            return
        at_ns = self._wall_ns()
        one = News2(
            f"{stay}.{self._stamp_ms(at_ns)}",
            at_ns,
            None if data["score"] is None else int(data["score"]),
            bool(data["complete"]),
            tuple(map(str, data["missing"])),
            {str(item): int(points) for item, points in data["items"].items()},
            str(data["risk"] or ""),
            int(data["scale"]),
            self._is_simulated(data),
        )
        self._put(stay, f"news2.{one.key}", "news2", lambda who: fhir_out.news2(one, who, self._author), self._every_ns)

    def _advisory(self, data: dict[str, Any]) -> None:
        stay, active = int(data["stay"]), bool(data["active"])
        key = f"{stay}.{data['id']}"
        if not active:
            self._take_back(key)
            return
        begun_ns = self._wall_ns() - round(float(data["raised_ms_ago"]) * NS_PER_MS)
        if key in self._raised:
            begun_ns = self._raised[key].notice.begun_ns  # one beginning, however often it is told
        one = Notice(
            key,
            str(data["code"]),
            str(data["text"]),
            str(data["priority"]),
            begun_ns,
            simulated=self._is_simulated(data),
        )
        who = self._who(stay)
        if who is None:
            return
        if key in self._raised and self._raised[key].notice == one:
            return
        self._raised[key] = _Raised(stay, str(data["bed"]), who, one)
        if len(self._raised) > STAYS_MAX:
            self._raised.popitem(last=False)
        self._outbox.note(_NOTE + key, json.dumps({"who": who, "notice": asdict(one)}).encode())
        self._send_notice(one, who)

    def _take_back(self, key: str) -> None:
        """For the patient for whom it was raised: the stay may be over by now."""
        raised = self._raised.pop(key, None)
        if raised is not None:
            self._send_notice(replace(raised.notice, ended_ns=self._wall_ns()), raised.who)
            self._outbox.note(_NOTE + key, None)

    def _take_back_all(self) -> None:
        """What was raised before a restart: its stay is over, for nobody knows any more who lies where."""
        for key, note in self._outbox.notes.items():
            if not key.startswith(_NOTE):
                continue
            try:
                document = json.loads(note)
                notice = Notice(**document["notice"])
                self._send_notice(replace(notice, ended_ns=self._wall_ns()), document["who"])
            except (LookupError, TypeError, ValueError):
                self.failed += 1
            self._outbox.note(key, None)

    def _send_notice(self, one: Notice, who: dict[str, Any]) -> None:
        key = f"advisory.{one.key}.{'off' if one.ended_ns else 'on'}.{self._stamp_ms(self._wall_ns())}"
        self._outbox.put(
            Item(DESTINATION, f"{self._author.device}.{key}", "advisory", fhir_out.notice(one, who, self._author))
        )

    def _who(self, stay: int) -> dict[str, Any] | None:
        patient = self._identity(stay)
        who = None if patient is None else fhir_out.subject(patient.identifiers, self._author)
        if who is None:
            self.unidentified += 1
        return who

    def _put(self, stay: int, key: str, kind: str, make: Callable[[dict[str, Any]], bytes], lives_ns: int) -> None:
        who = self._who(stay)
        if who is None:
            return
        self._outbox.put(Item(DESTINATION, f"{self._author.device}.{key}", kind, make(who), lives_ns))

    def _is_news(self, stay: int, task: str, what: tuple[Any, ...]) -> bool:
        now = self._clock.monotonic_ns()
        told = self._told.get((stay, task))
        if told is not None and told.what == what and now - told.at_ns < self._every_ns:
            return False
        self._told[stay, task] = _Told(what, now)
        self._told.move_to_end((stay, task))
        if len(self._told) > STAYS_MAX:
            self._told.popitem(last=False)
        return True

    def _is_simulated(self, data: dict[str, Any]) -> bool:
        return self._all_simulated or self._simulated.get(str(data.get("bed")), False)

    def _stamp_ms(self, wall_ns: int) -> int:
        """Milliseconds that no other item of this run has: part of what tells items apart."""
        self._stamp = max(wall_ns // NS_PER_MS, self._stamp + 1)
        return self._stamp

    def _wall_ns(self) -> int:
        return round(self._clock.wall().timestamp() * 1e9)


@dataclass(slots=True)
class FhirSender:
    """Posts an item's Bundle to the server. Raises ``ConfigError`` for files that cannot be read."""

    settings: FhirOutSettings
    clock: Clock
    _tls: ssl.SSLContext | None = field(init=False, repr=False)
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._tls = _context(self.settings)
        self._headers()

    def send(self, item: Item) -> Outcome:
        """Try once; over a kept connection that turns out to be gone, once more over a new one."""
        kept = self._connection is not None
        try:
            return self._judge(self._post(item))
        except ConfigError as error:
            return Later(error.code)
        except ssl.SSLError:
            self.close()
            return Later("tls")
        except (OSError, http.client.HTTPException):
            self.close()
            return self.send(item) if kept else Later("unreachable")

    def _post(self, item: Item) -> http.client.HTTPResponse:
        headers = self._headers()
        connection = self._connection = self._connection or self._connect()
        connection.request("POST", urlsplit(self.settings.url).path.rstrip("/") or "/", item.payload, headers)
        response = connection.getresponse()
        response.read(ANSWER_BYTES_MAX)
        if response.will_close or not response.isclosed():
            self.close()
        return response

    def close(self) -> None:
        """Drop the connection; the next ``send`` makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _judge(self, response: http.client.HTTPResponse) -> Outcome:
        if 200 <= response.status < 300:
            return Sent()
        code = f"http-{response.status}"
        if response.status in _REFUSED:
            return Refused(code)
        return Later(code, self._asked_s(response.headers.get("Retry-After", "")), response.status in _AT_ITEM)

    def _asked_s(self, text: str) -> float:
        """Seconds of a Retry-After: a number, or a moment (RFC 9110, 10.2.3)."""
        if text.strip().isdecimal():
            return float(text[:9])
        try:
            moment = email.utils.parsedate_to_datetime(text)
            return max(0.0, (moment - self.clock.wall()).total_seconds())
        except (TypeError, ValueError, IndexError):
            return 0.0

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.settings.url)
        host = parts.hostname or ""
        if self._tls is None:
            return http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=self._tls)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/fhir+json; charset=utf-8",
            "Accept": "application/fhir+json",
            "Prefer": "return=minimal",
        }
        if self.settings.token_file:
            try:
                token = Path(self.settings.token_file).read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    "fhir-token",
                    "the file with the token for the FHIR server cannot be read; check its path and rights",
                ) from error
            if not token or not token.isprintable():
                raise ConfigError("fhir-token", "the file with the token for the FHIR server holds no token")
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _context(settings: FhirOutSettings) -> ssl.SSLContext | None:
    if urlsplit(settings.url).scheme == "http":
        return None
    try:
        context = ssl.create_default_context(cafile=settings.authority or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key or None)
    except (OSError, ssl.SSLError) as error:
        raise tls_files_error() from error
    return context
