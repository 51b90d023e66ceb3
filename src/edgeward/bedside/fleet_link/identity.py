"""Who a device is to its fleet: a private key that never leaves it, and the certificate that the fleet gave for it.

::

    folder/lock           held while key or certificate are being exchanged
    folder/current.pem    key and certificate chain in use: one file, so that they are exchanged in one rename
    folder/next.pem       the key that a certificate is being asked for, with its request; gone once there is one

A power cut leaves the old pair or the new one, never a key without its certificate. The next key is durable before it
is asked for, and asked for with the very same request until the answer has been kept: a lost answer costs a question.

A certificate is renewed once a third of its life has passed, which leaves two thirds to reach the fleet in. Nothing
here stops anything when it expires: who reads patients' monitors does not ask this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgeward.bedside.files import FilePort, LockHeldError, RealFiles, draft_of, replace_file
from edgeward.kernel.errors import ConfigError, TrustError
from edgeward.trust.durable import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path
    from typing import Self

RENEW_AFTER = 1 / 3
"""Share of a certificate's life after which the next one is asked for."""
_DEVICE = re.compile(r"d-[0-9a-f]{16}")
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Credentials:
    """The pair in use. ``device``: the name in the certificate; ``fingerprint``: SHA-256 of the DER public key."""

    device: str
    fingerprint: str
    begins: datetime
    ends: datetime

    def renewal_due(self, now: datetime) -> bool:
        """Whether a third of its life is over by this wall clock."""
        return now >= self.begins + (self.ends - self.begins) * RENEW_AFTER

    def expired(self, now: datetime) -> bool:
        """Whether its life is over by this wall clock."""
        return now >= self.ends


class Identity:
    """The identity in ``folder``. What changes it belongs in a ``with`` block, which holds the lock; asking needs none.

    A person may so apply again beside a running device, which takes the new certificate at its next check-in.
    """

    def __init__(self, folder: Path, files: FilePort | None = None) -> None:
        self.folder = folder
        self._files: FilePort = files or RealFiles(mode=0o600)
        self._unlock: Callable[[], None] | None = None

    @property
    def pem(self) -> Path:
        """The file with key and chain in use, as ``ssl`` loads it."""
        return self.folder / "current.pem"

    def __enter__(self) -> Self:
        """Take the lock and clear what a power cut left over.

        Raises ``ConfigError``: ``identity-in-use``, ``disk-full``, ``disk-error``.
        """
        with _explained("opening the device's identity"):
            self._files.mkdir(self.folder)
            try:
                self._unlock = self._files.lock(self.folder / "lock")
            except LockHeldError as error:
                raise ConfigError(
                    "identity-in-use",
                    f"process {error.pid or 'unknown'} is getting a certificate for this device; wait for it or end it",
                ) from None
        try:
            self._forget_granted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._unlock is not None:
            unlock, self._unlock = self._unlock, None
            unlock()

    # --- asking

    def look(self) -> Credentials | None:
        """The pair in use, or None where there is none.

        Raises ``TrustError`` ``identity-damaged`` for a file that is not a whole pair: apply for another.
        """
        raw = self._read(self.pem)
        if raw is None:
            return None
        try:
            key = _key(raw)
            found = _credentials(x509.load_pem_x509_certificates(raw)[0])
        except (ValueError, UnsupportedAlgorithm, TrustError) as error:
            raise _damaged() from error
        if _fingerprint(key) != found.fingerprint:
            raise _damaged()
        return found

    def asked_for(self) -> str:
        """The fingerprint of the key that a certificate is being asked for, empty where none is."""
        raw = self._read(self.folder / "next.pem")
        try:
            return _fingerprint(_key(raw)) if raw else ""
        except (ValueError, UnsupportedAlgorithm):
            return ""

    # --- changing

    def request(self, *, anew: bool = False) -> str:
        """A certificate request (PKCS #10, PEM) with the next key, which is made and durable first.

        The same request until ``accept``; ``anew`` forgets the key asked for so far. Raises ``ConfigError``
        (``disk-full``, ``disk-error``).
        """
        path = self.folder / "next.pem"
        raw = None if anew else self._read(path)
        if raw:
            with contextlib.suppress(ValueError, UnsupportedAlgorithm):
                _key(raw)
                return x509.load_pem_x509_csr(raw).public_bytes(_PEM).decode()
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        csr = builder.sign(key, hashes.SHA256()).public_bytes(_PEM)
        self._replace(path, _private(key) + csr)
        return csr.decode()

    def accept(self, certificate: str) -> Credentials:
        """Put the next key and the chain given for it (PEM, the device's own first) in use.

        Raises ``TrustError`` ``certificate-refused`` for a chain that is not for the key asked for; the pair in use
        stays. ``ConfigError`` (``disk-full``, ``disk-error``).
        """
        path = self.folder / "next.pem"
        raw = self._read(path)
        try:
            key = _key(raw or b"")
            chain = x509.load_pem_x509_certificates(certificate.encode("ascii"))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _refused("it cannot be read") from error
        if _fingerprint(key) != _fingerprint_of(chain[0]):
            raise _refused("it is for another key than this device's")
        made = _credentials(chain[0])
        self._replace(self.pem, _private(key) + b"".join(one.public_bytes(_PEM) for one in chain))
        self._unlink(path)
        return made

    def give_up_request(self) -> None:
        """Forget the key asked for: its application was rejected."""
        self._unlink(self.folder / "next.pem")

    # --- the disk

    def _forget_granted(self) -> None:
        """A cut between the pair's rename and the removal of ``next.pem`` leaves the granted key there once more."""
        with contextlib.suppress(TrustError):
            current = self.look()
            if current is not None and current.fingerprint == self.asked_for():
                self._unlink(self.folder / "next.pem")

    def _read(self, path: Path) -> bytes | None:
        try:
            return self._files.read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, "reading the device's identity") from error

    def _replace(self, path: Path, data: bytes) -> None:
        with _explained("keeping the device's identity"):
            self._files.unlink(draft_of(path))  # whatever rights a leftover has, the new file gets its own
            replace_file(self._files, path, data)

    def _unlink(self, path: Path) -> None:
        with _explained("keeping the device's identity"):
            self._files.unlink(path)
            self._files.fsync_dir(path.parent)


def _credentials(certificate: x509.Certificate) -> Credentials:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    device = str(names[0].value) if names else ""
    if not _DEVICE.fullmatch(device):
        raise _refused("it names no device")
    return Credentials(
        device, _fingerprint_of(certificate), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    )


def _key(raw: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(raw, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC key")  # noqa: TRY004  (a damaged file, whatever it holds)
    return key


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _fingerprint(key: ec.EllipticCurvePrivateKey) -> str:
    return _sha256(key.public_key())


def _fingerprint_of(certificate: x509.Certificate) -> str:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise _refused("it is for another kind of key")
    return _sha256(public)


def _sha256(public: ec.EllipticCurvePublicKey) -> str:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _damaged() -> TrustError:
    return TrustError(
        "identity-damaged",
        "the device's key and certificate are damaged; apply for others: edgeward device enrol --again. Patients are "
        "watched all the same",
    )


def _refused(why: str) -> TrustError:
    return TrustError(
        "certificate-refused", f"the fleet's certificate is not taken: {why}; tell who looks after the fleet"
    )


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from error
