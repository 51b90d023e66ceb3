"""Making a fleet: its folder, its authority, its server's certificate and its database."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edgeward.fleet.authority import DAY_S, Authority, write_new
from edgeward.fleet.store import audit
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.migrate import migrate
from edgeward.kernel.errors import ConfigError
from edgeward.trust.durable import write_durably

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.fleet.settings import FleetSettings

RENEW_DAYS = 30
"""A server certificate of the own authority with fewer days left is made anew at the next start."""


def make_fleet(settings: FleetSettings, now_s: int) -> Iterator[str]:
    """Make what is missing and say it, line by line; nothing that is there is written over.

    Raises ``ConfigError`` for what cannot be written or does not belong together.
    """
    try:
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot make {settings.folder}: {error.strerror}") from error
    certificate, key = settings.authority_files
    if certificate.exists() or settings.authority_certificate:
        authority = Authority.load(certificate, key)
        yield f"authority: {certificate} (kept)"
    else:
        authority = Authority.make(settings.name, now_s)
        write_new(key, authority.key_pem, mode=0o600)
        write_new(certificate, authority.pem.encode(), mode=0o644)
        yield f"authority: {certificate}"
    yield f"sha256 of the authority, for devices: {_fingerprint(authority.certificate)}"
    if renew_server(settings, authority, now_s):
        yield f"server certificate: {settings.server_files[0]} for {', '.join(settings.names)}"
    store = Store(settings.store_url)
    try:
        step = migrate(store)
        with store.writing() as session:
            if audit.head(session).seq == 0:
                detail = {"authority": _fingerprint(authority.certificate)}
                audit.record(
                    session, actor="server", action="fleet.made", subject=settings.name, detail=detail, now_s=now_s
                )
        yield f"database: {store.url.render_as_string(hide_password=True)} at step {step}"
    finally:
        store.close()


def renew_server(settings: FleetSettings, authority: Authority, now_s: int) -> bool:
    """Make the server's certificate where the site gave none and there is none, or it runs out; whether it was made."""
    if settings.certificate:
        return False
    chain, key = settings.server_files
    if chain.exists() and key.exists():
        try:
            left_s = x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc.timestamp() - now_s
        except (OSError, ValueError):
            left_s = 0.0
        if left_s > RENEW_DAYS * DAY_S:
            return False
    issued, private = authority.issue_server(settings.names, now_s)
    try:
        write_durably(key, private, mode=0o600)
        write_durably(chain, issued.pem.encode())
    except OSError as error:
        raise ConfigError("output-unwritable", f"cannot write {chain}: {error.strerror}") from error
    return True


def _fingerprint(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
