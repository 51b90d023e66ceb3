"""Enrolment: a device shows its public key and waits until somebody vouches for it.

``POST /v1/enrol`` with an ``Application`` over TLS without a client certificate: the same application again is the
same question again, so a device asks until the answer is ACCEPTED (with a certificate) or REJECTED. ``POST /v1/renew``
with a ``Renewal`` over mutual TLS gives the next certificate. The fingerprint, SHA-256 of the DER public key, is shown
on the device and in the console: who accepts compares the two.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from edgeward.exchange.checkin import Facts
from edgeward.exchange.typed import DeviceId, Form, Range, Sha256

ENROL_PATH = "/v1/enrol"
RENEW_PATH = "/v1/renew"
ENROL_BYTES_MAX = 1 << 15

Pem = Annotated[str, Form(r"[A-Za-z0-9+/=\n -]{0,16384}")]
Token = Annotated[str, Form(r"[A-Za-z0-9_-]{0,128}")]


@dataclass(frozen=True, slots=True)
class Application:
    """``csr``: PKCS #10 in PEM, an EC P-256 key, subject empty. ``token``: a one-time token, or empty to wait."""

    csr: Pem
    facts: Facts
    token: Token = ""


@dataclass(frozen=True, slots=True)
class Renewal:
    """``csr`` of a new key; the device is who the certificate in use says."""

    csr: Pem


class Standing(StrEnum):
    """What became of an application."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Credential:
    """The answer to both. ``certificate``: PEM, the device's first, then its issuers; empty unless accepted.

    ``next_s``: when to ask again while pending.
    """

    standing: Standing
    fingerprint: Sha256
    device: DeviceId | None
    certificate: Pem
    next_s: Annotated[int, Range(1, 86_400)]


def grouped(fingerprint: str) -> str:
    """A fingerprint in groups of four, as device, console and command line all show it: people compare the two."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def ungrouped(text: str) -> str:
    """What somebody types or copies of one."""
    return "".join(text.split()).lower()
