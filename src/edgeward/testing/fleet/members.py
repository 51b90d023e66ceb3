"""Simulated devices become members of a fleet, each with a key of its own and a one-time token."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgeward.bedside.fleet_link.agent import apply_once
from edgeward.bedside.fleet_link.identity import Identity
from edgeward.bedside.fleet_link.link import Link, LinkError, Trouble
from edgeward.exchange.checkin import ANSWER_BYTES_MAX, CHECK_IN_BYTES_MAX, PATH, Answer, CheckIn
from edgeward.exchange.enrol import ENROL_BYTES_MAX, ENROL_PATH, Application, Credential, Standing
from edgeward.exchange.typed import decode, encode
from edgeward.kernel.errors import ConfigError
from edgeward.testing.fleet.device import FACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeward.testing.fleet.device import SimulatedDevice
    from edgeward.testing.fleet.http import Pool

AT_ONCE = 8
ATTEMPTS = 20
_BUSY = frozenset({429, 503})
_STATUS = {Trouble.NOT_TAKEN: 403, Trouble.BUSY: 503, Trouble.REFUSED: 422}


async def enrol(pool: Pool, tokens: Sequence[str], done: Callable[[int], None]) -> list[str]:
    """A member for each token; the SHA-256 of each one's certificate, in their order. ``done`` hears of each.

    Raises ``ConfigError`` ``simulation-not-enrolled`` when the server does not take one, and ``OSError``.
    """
    room = asyncio.Semaphore(AT_ONCE)
    count = 0

    async def one(token: str) -> str:
        nonlocal count
        application = encode(Application(_request(), FACTS, token))
        async with room:
            for attempt in range(ATTEMPTS):
                status, said = await pool.post(ENROL_PATH, application, {})
                if status not in _BUSY:
                    break
                await asyncio.sleep(0.2 * (attempt + 1))
            certificate = _accepted(status, said)
        count += 1
        done(count)
        return fingerprint_of(certificate)

    return list(await asyncio.gather(*(one(token) for token in tokens)))


def _request() -> str:
    """What ``Identity.request`` makes, without a disk."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _accepted(status: int, said: bytes) -> str:
    if status == 200:
        credential = decode(Credential, said, bytes_max=ENROL_BYTES_MAX)
        if credential.standing is Standing.ACCEPTED:
            return credential.certificate
    raise _not_enrolled(f"HTTP {status}")


def _not_enrolled(why: str) -> ConfigError:
    return ConfigError(
        "simulation-not-enrolled", f"the server did not take a simulated device in ({why}); give fresh one-time tokens"
    )


def fingerprint_of(pem: str) -> str:
    """SHA-256 of the first certificate's DER, as a balancer names it."""
    first = x509.load_pem_x509_certificates(pem.encode("ascii"))[0]
    return hashlib.sha256(first.public_bytes(serialization.Encoding.DER)).hexdigest()


@dataclass(slots=True)
class MutualTls:
    """Every device with its own key on the disk, and the device's own link: a handshake for each check-in."""

    url: str
    ca: Path
    folder: Path
    name: str = "each device authenticated by mutual TLS 1.3 of its own"
    _links: dict[int, Link] = field(default_factory=dict)

    def enrol(self, number: int, token: str) -> str:
        """Take device ``number`` in; the SHA-256 of its certificate. Raises ``ConfigError``, ``LinkError``."""
        with Identity(self.folder / str(number)) as identity:
            credential = apply_once(identity, Link(self.url, self.ca), FACTS, token)
            if credential.standing is not Standing.ACCEPTED:
                raise _not_enrolled(credential.standing.value)
            self._links[number] = Link(self.url, self.ca, identity.pem)
        return fingerprint_of(credential.certificate)

    async def check_in(self, device: SimulatedDevice, body: bytes) -> tuple[int, bytes]:
        """One exchange of the device's own link, told as HTTP tells it."""
        return await asyncio.to_thread(self._post, device.number, body)

    async def close(self) -> None:
        """Every exchange closed its own."""

    def _post(self, number: int, body: bytes) -> tuple[int, bytes]:
        message = decode(CheckIn, body, bytes_max=CHECK_IN_BYTES_MAX)
        try:
            return 200, encode(self._links[number].post(PATH, message, Answer, bytes_max=ANSWER_BYTES_MAX))
        except LinkError as error:
            if error.trouble in _STATUS:
                return _STATUS[error.trouble], b""
            raise ConnectionError(error.code) from error
