"""What the fleet's tests share: a fleet without a network, and a device that only has its keys."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgeward.exchange.checkin import CheckIn, Evidence, Facts, FamilyReport, Held, Progress
from edgeward.exchange.enrol import Application, Credential, Renewal
from edgeward.exchange.words import Accelerator, Machine, Rung, UpdateState
from edgeward.fleet.accounts import Accounts, Role
from edgeward.fleet.api.app import create_app
from edgeward.fleet.authority import Authority, write_new
from edgeward.fleet.checkin import CheckIns
from edgeward.fleet.enrol import Enrolments, Vouch
from edgeward.fleet.parts import Fleet
from edgeward.fleet.ports import NoRollouts, Rollouts
from edgeward.fleet.serve import server_of, url_of
from edgeward.fleet.settings import FleetSettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from argon2 import PasswordHasher
    from fastapi import APIRouter

    from edgeward.fleet.store.engine import Store

NOW_S = 1_800_000_000
PASSWORD = "correct horse battery"
FACTS = Facts(Machine.AARCH64, Accelerator.CUDA, 8, 15_000, 60_000, 4, "0.1.0")
SHA_A, SHA_B = "a" * 64, "b" * 64


@dataclass
class DeviceKeys:
    """A device's key, as the device makes it."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def csr(self) -> str:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return sha256(der).hexdigest()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def application(self, token: str = "") -> Application:
        return Application(self.csr, FACTS, token)

    def renewal(self) -> Renewal:
        return Renewal(self.csr)


def certificate_fingerprint(credential: Credential) -> str:
    """Of the first certificate of a credential."""
    certificate = x509.load_pem_x509_certificate(credential.certificate.encode())
    return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def report(sequence: int = 1, boot: int = 1, **changes: Any) -> CheckIn:
    """A check-in of a device with one family."""
    plain = CheckIn(boot, sequence, 100, NOW_S, 9_000, FACTS, (family(),))
    return replace(plain, **changes)


def family(**changes: Any) -> FamilyReport:
    """What a device says of one model family."""
    return replace(FamilyReport("ecg-beat", Held("1.0.0", SHA_A), None, None, Rung.LOCAL), **changes)


def progress(state: UpdateState, **changes: Any) -> Progress:
    """How far an update is."""
    return replace(Progress(7, SHA_B, state, 1, None, 0, Evidence()), **changes)


class Served:
    """An application on loopback, plain HTTP, from construction until ``close``; ``client`` talks to it."""

    def __init__(self, kit: FleetKit, listener: socket.socket, routers: Sequence[APIRouter] = ()) -> None:
        self.server = server_of(create_app(kit.fleet, routers=routers), kit.settings)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        self.listener = listener
        self.client = httpx.Client(base_url=url_of(kit.settings, listener), timeout=20)

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join()
        self.listener.close()


class FleetKit:
    """A fleet without a network; ``now_s`` is its clock."""

    def __init__(self, store: Store, folder: Path, hasher: PasswordHasher, rollouts: Rollouts | None = None) -> None:
        self.now_s = NOW_S
        self.store = store
        self.hasher = hasher
        self.settings = FleetSettings(folder, store=store.url.render_as_string(hide_password=False), tls=False, port=0)
        self.authority = Authority.make("test", NOW_S)
        certificate, key = self.settings.authority_files
        write_new(certificate, self.authority.pem.encode(), mode=0o644)
        write_new(key, self.authority.key_pem, mode=0o600)
        self.enrolments = Enrolments(store, self.authority, days=45)
        self.accounts = Accounts(store, hasher=hasher)
        self.fleet = self._fleet(rollouts or NoRollouts())

    def with_rollouts(self, rollouts: Rollouts) -> FleetKit:
        self.fleet = self._fleet(rollouts)
        return self

    def trust_proxies(self, addresses: tuple[str, ...]) -> None:
        self.settings = replace(self.settings, trusted_proxies=addresses)
        self.fleet = self._fleet(NoRollouts())

    def _fleet(self, rollouts: Rollouts) -> Fleet:
        check_ins = CheckIns(self.store, rollouts, self.clock, check_in_s=self.settings.check_in_s)
        return Fleet(self.settings, self.store, self.accounts, self.enrolments, check_ins, rollouts, self.clock)

    def clock(self) -> int:
        return self.now_s

    def enrolled(self, keys: DeviceKeys | None = None, vouch: Vouch | None = None) -> tuple[DeviceKeys, Credential]:
        """A device that was accepted, with its certificate."""
        keys = keys or DeviceKeys()
        self.enrolments.apply(keys.application(), self.now_s)
        self.enrolments.accept(keys.fingerprint, vouch or Vouch(), actor="user:olga", now_s=self.now_s)
        return keys, self.enrolments.apply(keys.application(), self.now_s)

    def user(self, name: str, role: Role) -> None:
        self.accounts.add_user(name, role, PASSWORD, actor="cli:test", now_s=self.now_s)

    def token(self, name: str, role: Role) -> str:
        """A user's API token."""
        self.user(name, role)
        return self.accounts.make_token(name, label="", days=1, actor="cli:test", now_s=self.now_s)[0]
