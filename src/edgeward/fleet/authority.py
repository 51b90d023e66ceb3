"""The fleet's own certificate authority: EC P-256 throughout, one root, short certificates for devices.

Its private key signs every device's certificate, so it lies in a file of mode 0600 that only the server reads. Whoever
has it can pose as a device; he cannot offer a bundle, which takes the repository's keys (docs/trust.md).
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeward.kernel.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROOT_DAYS = 3_650
SERVER_DAYS = 397
DEVICE_DAYS = 45
DAY_S = 86_400
_EARLY_S = 300
"""A certificate is valid from so long before it was made: clocks of two machines differ."""


@dataclass(frozen=True, slots=True)
class Request:
    """A certificate request that holds: its key and the key's fingerprint."""

    key: ec.EllipticCurvePublicKey
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate: ``pem`` with its issuer behind it, the fingerprint of its DER, its serial number in hex."""

    pem: str
    fingerprint: str
    serial: str
    expires_s: int


def read_request(pem: str) -> Request:
    """A PKCS #10 request of a device. ``InputError`` (``csr-unfit``) unless it is an EC P-256 key that signed itself.

    Subject and extensions are not read: the fleet names its devices.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = request.public_key()
        held = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, x509.UnsupportedGeneralNameType) as error:
        raise _unfit() from error
    if not held or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unfit()
    return Request(key, key_fingerprint(key))


def _unfit() -> InputError:
    return InputError(
        "csr-unfit", "the certificate request must be PKCS #10 in PEM with an EC P-256 key that signed it"
    )


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the DER public key: what the device and the console show."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()


class Authority:
    """Signs with ``key`` as ``certificate``."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def make(cls, name: str, now_s: int) -> Authority:
        """A new root for the fleet ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Edgeward fleet {name}"[:64])])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(subject, subject, key.public_key(), now_s, ROOT_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Authority:
        """From PEM files; ``ConfigError``: ``authority-unreadable``, ``authority-key-open``, ``authority-mismatch``."""
        try:
            if key.stat().st_mode & 0o077:
                raise ConfigError("authority-key-open", f"{key} can be read by others; run chmod 600 {key}")
            found = x509.load_pem_x509_certificate(certificate.read_bytes())
            private = serialization.load_pem_private_key(key.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                "authority-unreadable",
                f"the authority's {certificate} and {key} cannot be read; run 'edgeward fleet init' or restore them",
            ) from error
        public = found.public_key()
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != public:
            raise ConfigError("authority-mismatch", f"{key} is not the EC key of the authority {certificate}")
        return cls(found, private)

    @property
    def pem(self) -> str:
        """The root certificate: what devices trust the server by."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> bytes:
        """The private key."""
        return _private_pem(self._key)

    def issue_device(self, request: Request, device_id: str, now_s: int, days: float = DEVICE_DAYS) -> Issued:
        """A certificate by which ``device_id`` is known, for ``days``."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
        names = [x509.UniformResourceIdentifier(f"urn:edgeward:device:{device_id}")]
        return self._issue(subject, request.key, names, ExtendedKeyUsageOID.CLIENT_AUTH, now_s, days)

    def issue_server(self, names: Sequence[str], now_s: int) -> tuple[Issued, bytes]:
        """The server's certificate for ``names`` (DNS names or addresses), and its new private key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        issued = self._issue(
            subject,
            key.public_key(),
            [_general_name(name) for name in names],
            ExtendedKeyUsageOID.SERVER_AUTH,
            now_s,
            SERVER_DAYS,
        )
        return issued, _private_pem(key)

    def _issue(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        use: x509.ObjectIdentifier,
        now_s: int,
        days: float,
    ) -> Issued:
        issuer_key = self._key.public_key()
        certificate = (
            _builder(subject, self.certificate.subject, key, now_s, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode() + self.pem
        der = certificate.public_bytes(serialization.Encoding.DER)
        expires_s = int(certificate.not_valid_after_utc.timestamp())
        return Issued(pem, sha256(der).hexdigest(), f"{certificate.serial_number:x}", expires_s)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_s: int, days: float
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_s, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=_EARLY_S))
        .not_valid_after(now + timedelta(days=days))
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet; ``ConfigError`` (``file-exists``, ``output-unwritable``)."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise ConfigError("file-exists", f"{path} exists already; nothing is written over it") from error
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {path}: {error.strerror}") from error
