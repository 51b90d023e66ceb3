"""One exchange with the fleet: a message there, a message back, over TLS 1.3 to an authority that was given by hand.

A connection for each exchange: what was revoked is shut out at the next one, whatever was open before. No redirect is
followed, no proxy asked, no other authority believed than the one in ``ca``; an answer is read to its ceiling and no
further, and a server that drips is cut off after ``EXCHANGE_S``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from edgeward.exchange.typed import decode, encode
from edgeward.kernel.errors import ConfigError, InputError, TrustError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

WAIT_S = 10.0
"""For a connection, and for each part of an answer."""
EXCHANGE_S = 30.0
"""For all of it."""
_CODE_BYTES_MAX = 4_096
_AFTER_S_MAX = 3_600.0
_TIME_FAULTS = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (OpenSSL, x509_vfy.h)."""
_NOT_TAKEN = (
    "CERTIFICATE_REQUIRED",
    "ALERT_CERTIFICATE",
    "BAD_CERTIFICATE",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "ALERT_DECRYPT_ERROR",
)
"""How OpenSSL names the alerts by which a server refuses a client's certificate (RFC 8446, 6.2)."""


class Trouble(StrEnum):
    """Why an exchange came to nothing; each has its sentence for people below."""

    UNREACHABLE = "fleet-unreachable"
    CLOCK = "fleet-clock"
    UNKNOWN = "fleet-unknown"
    """Whoever answers at the address has no certificate of the authority that was given."""
    NOT_TAKEN = "certificate-not-taken"
    TOKEN = "token-refused"  # noqa: S105
    BUSY = "fleet-busy"
    REFUSED = "fleet-refused"
    UNREADABLE = "fleet-unreadable"


_SENTENCES = {
    Trouble.UNREACHABLE: "the fleet cannot be reached; check the network and [fleet] url. Everything here goes on, "
    "and it is tried again",
    Trouble.CLOCK: "by this device's clock the fleet's certificate is not valid; set the clock, and if it is right, "
    "the fleet's certificate has expired. Everything here goes on, and it is tried again",
    Trouble.UNKNOWN: "who answers at the fleet's address has no certificate by the authority in [fleet] ca; check "
    "both. Nothing was sent to it",
    Trouble.NOT_TAKEN: "the fleet does not take this device's certificate (revoked or expired); everything here goes "
    "on, but no new model comes. To belong to the fleet again: edgeward device enrol --again",
    Trouble.TOKEN: "the one-time token is unknown, used or too old; ask the fleet's operator for another, or apply "
    "without",
    Trouble.BUSY: "the fleet asks to be asked later; it is tried again",
    Trouble.REFUSED: "the fleet refuses what this device says; bring device and fleet to matching versions",
    Trouble.UNREADABLE: "the fleet's answer cannot be read; bring device and fleet to matching versions",
}


class LinkError(TrustError):
    """An exchange that came to nothing. ``after_s``: the fleet asked for a pause; ``word``: the fleet's own code."""

    def __init__(self, trouble: Trouble, *, after_s: float = 0.0, word: str = "") -> None:
        said = f" (the fleet says {word})" if word else ""
        super().__init__(trouble.value, _SENTENCES[trouble] + said)
        self.trouble = trouble
        self.after_s = after_s
        self.word = word


class Link:
    """The fleet at ``url`` (https://HOST[:PORT]), whose certificate is by the authority in the PEM file ``ca``.

    Raises ``ConfigError`` ``fleet-ca`` when that cannot be read. ``pem``: key and chain by which the device is known;
    without it the fleet takes applications only.
    """

    def __init__(self, url: str, ca: Path, pem: Path | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                "fleet-ca", "the certificate of the fleet's authority cannot be read; check [fleet] ca"
            ) from error
        if pem is not None:
            try:
                context.load_cert_chain(str(pem))
            except (OSError, ssl.SSLError) as error:
                raise TrustError(
                    "identity-damaged",
                    "the device's certificate cannot be used; apply for another: edgeward device enrol --again",
                ) from error
        self._context = context

    def post(self, path: str, message: Any, kind: type[T], *, bytes_max: int) -> T:
        """Send ``message`` and read the answer as ``kind``; ``LinkError``."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=WAIT_S, context=self._context)
        cut = threading.Timer(EXCHANGE_S, _cut, [connection])
        cut.daemon = True
        cut.start()
        try:
            return _exchanged(connection, path, encode(message), kind, bytes_max)
        except ssl.SSLError as error:
            raise LinkError(_trouble(error)) from error
        except (OSError, http.client.HTTPException, AttributeError) as error:  # http.client, when it is cut off
            raise LinkError(Trouble.UNREACHABLE) from error
        finally:
            cut.cancel()
            connection.close()


def _exchanged(connection: http.client.HTTPConnection, path: str, body: bytes, kind: type[T], bytes_max: int) -> T:
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
    connection.request("POST", path, body, headers)
    with connection.getresponse() as answer:
        if answer.status != http.client.OK:
            raise _refusal(answer)
        whole = answer.read(bytes_max + 1)
    try:
        return decode(kind, whole, bytes_max=bytes_max)
    except InputError as error:
        raise LinkError(Trouble.UNREADABLE) from error


def _refusal(answer: http.client.HTTPResponse) -> LinkError:
    word = ""
    try:
        said = json.loads(answer.read(_CODE_BYTES_MAX)).get("code", "")
        word = said if isinstance(said, str) and len(said) <= 64 and said.replace("-", "").isalnum() else ""
    except (ValueError, AttributeError, RecursionError):
        pass
    if word == Trouble.TOKEN.value:
        return LinkError(Trouble.TOKEN)
    if answer.status in {401, 403}:
        return LinkError(Trouble.NOT_TAKEN, word=word)
    if answer.status in {429, 500, 502, 503, 504}:
        asked = answer.headers.get("Retry-After", "").strip()
        return LinkError(Trouble.BUSY, after_s=min(float(asked[:9]), _AFTER_S_MAX) if asked.isdecimal() else 0.0)
    return LinkError(Trouble.REFUSED, word=word)


def _trouble(error: ssl.SSLError) -> Trouble:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Trouble.CLOCK if error.verify_code in _TIME_FAULTS else Trouble.UNKNOWN
    reason = error.reason or ""
    if any(name in reason for name in _NOT_TAKEN):
        return Trouble.NOT_TAKEN
    return Trouble.UNREACHABLE


def _cut(connection: http.client.HTTPConnection) -> None:
    raw = connection.sock
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
