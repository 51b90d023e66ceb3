"""A fleet's authority for tests of devices: certificates as a fleet gives them, valid whenever a test asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = "d-0123456789abcdef"
_PEM = serialization.Encoding.PEM


class Issuer:
    """An authority with a key of its own."""

    def __init__(self, name: str = "fleet") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._own = self._sign(self._name, self._key.public_key(), BEGINS, timedelta(days=3_650), ca=True)

    @property
    def pem(self) -> str:
        """The authority's certificate."""
        return self._own.public_bytes(_PEM).decode()

    def certificate(
        self, csr: str, device: str = DEVICE, *, begins: datetime = BEGINS, life: timedelta = timedelta(days=45)
    ) -> str:
        """The chain for a request: the device's certificate, then the authority's."""
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device)])
        return self._sign(subject, key, begins, life).public_bytes(_PEM).decode() + self.pem

    def server(self, names: x509.SubjectAlternativeName, *, begins: datetime, life: timedelta) -> bytes:
        """Key and chain of a server with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        made = self._sign(subject, key.public_key(), begins, life, names=names)
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return private + made.public_bytes(_PEM) + self.pem.encode()

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        begins: datetime,
        life: timedelta,
        *,
        ca: bool = False,
        names: x509.SubjectAlternativeName | None = None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + life)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())
