"""Scores, NEWS2 and advisories to a hospital's FHIR server: an ``Output`` that fills the outbox, and its ``Sender``.

Only what names a patient of the hospital leaves: who lies in a stay comes from the rim (``whose``), is put into the
resource, and stands in no log, error or state. What leaves, and when, is ``record``'s to say.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgeward.bedside.output.courier import Later, Outcome, Refused, Sent
from edgeward.bedside.output.record_output import SCORES_EVERY_S, RecordOutput, check_every_s
from edgeward.bedside.source.http import tls_files_error
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.hosts import LOOPBACK
from edgeward.wire import fhir_out
from edgeward.wire.entries import News2, Notice, Score

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.output.outbox import Item, Outbox
    from edgeward.kernel.clock import Clock
    from edgeward.wire.entries import Entry, Whose
    from edgeward.wire.fhir_out import Author

DESTINATION = "fhir"
TIMEOUT_S = 15.0
ANSWER_BYTES_MAX = 1 << 20
_REFUSED = frozenset({400, 412, 413, 422})
"""The server understood, and will not take this item (FHIR R4, 3.1.0.8.1): sending it again changes nothing."""
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
    scores_every_s: float = SCORES_EVERY_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        if not secure or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                "fhir-url", "the FHIR server must be named as https://HOST/BASE; patients' data leave for it"
            )
        check_every_s(self.scores_every_s)


class FhirOutput(RecordOutput):
    """An ``Output`` of the ward: what is for the record (``record``), as FHIR resources in the outbox."""

    def __init__(
        self, outbox: Outbox, clock: Clock, whose: Callable[[int], Whose | None], settings: FhirOutSettings
    ) -> None:
        self._author = settings.author
        super().__init__(DESTINATION, settings.author.device, settings.scores_every_s, outbox, clock, whose)

    def form(self, entry: Entry, whose: Whose, name: str, wall_ns: int) -> bytes:  # noqa: ARG002
        """The transaction that records an entry; each may be sent any number of times."""
        who = fhir_out.subject(whose.identifiers, self._author)
        if who is None:
            raise ValueError("nobody is entered in a record without a number")
        match entry:
            case Score():
                return fhir_out.score(entry, who, self._author)
            case News2():
                return fhir_out.news2(entry, who, self._author)
            case Notice():
                return fhir_out.notice(entry, who, self._author)


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
