"""The tables. Times are whole seconds since 1970 by the server's clock (``…_s``); hashes are SHA-256 in hex.

A rollout's tables stand beside the rollouts, on the same ``Base``.
"""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_HEX = 64


class Base(DeclarativeBase):
    """What every table descends from. Constraints have names, so that a migration can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Device(Base):
    """A device that was accepted once. ``state``: active, revoked or lost.

    ``key_fingerprint``: of the public key it was accepted with; ``certificate``: fingerprint of the one in use, with
    ``serial`` and ``expires_s``. ``report`` is the newest check-in whole, as it came; the columns beside it are what
    lists filter by. ``skew_s``: the device's clock minus the server's at that check-in.
    """

    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(String(18), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    label: Mapped[str] = mapped_column(String(128), default="")
    group: Mapped[str] = mapped_column("group_name", String(64), default="", index=True)
    enrolled_s: Mapped[int] = mapped_column(BigInteger)
    key_fingerprint: Mapped[str] = mapped_column(String(_HEX), index=True)
    certificate: Mapped[str] = mapped_column(String(_HEX), default="")
    serial: Mapped[str] = mapped_column(String(48), default="")
    expires_s: Mapped[int] = mapped_column(BigInteger, default=0)
    machine: Mapped[str] = mapped_column(String(16))
    accelerator: Mapped[str] = mapped_column(String(16), index=True)
    cores: Mapped[int] = mapped_column(Integer)
    memory_mib: Mapped[int] = mapped_column(BigInteger)
    disk_mib: Mapped[int] = mapped_column(BigInteger)
    beds: Mapped[int] = mapped_column(Integer)
    software: Mapped[str] = mapped_column(String(20), index=True)
    boot: Mapped[int] = mapped_column(BigInteger, default=0)
    sequence: Mapped[int] = mapped_column(BigInteger, default=0)
    seen_s: Mapped[int | None] = mapped_column(BigInteger, default=None, index=True)
    skew_s: Mapped[int] = mapped_column(BigInteger, default=0)
    free_mib: Mapped[int] = mapped_column(BigInteger, default=0)
    families_digest: Mapped[str] = mapped_column(String(_HEX), default="")
    progress_digest: Mapped[str] = mapped_column(String(_HEX), default="")
    report: Mapped[str] = mapped_column(Text, default="")


class DeviceTag(Base):
    """A word that an operator gave a device."""

    __tablename__ = "device_tags"

    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)


class DeviceFamily(Base):
    """What the newest check-in says of one model family on one device. Empty words where it says nothing."""

    __tablename__ = "device_families"

    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True)
    family: Mapped[str] = mapped_column(String(64), primary_key=True)
    version: Mapped[str] = mapped_column(String(20), default="")
    sha256: Mapped[str] = mapped_column(String(_HEX), default="")
    previous_version: Mapped[str] = mapped_column(String(20), default="")
    previous_sha256: Mapped[str] = mapped_column(String(_HEX), default="")
    rung: Mapped[str] = mapped_column(String(16))
    rollout: Mapped[int] = mapped_column(BigInteger, default=0)
    update_state: Mapped[str] = mapped_column(String(16), default="")
    why: Mapped[str] = mapped_column(String(32), default="")

    __table_args__ = (Index("ix_device_families_family_version", "family", "version"),)


class Certificate(Base):
    """A certificate that was issued. ``state``: issued, current, superseded or revoked.

    An issued one becomes current when the device first shows it, and those before it are superseded in that moment:
    until then a device that lost the answer goes on with the one it has.
    """

    __tablename__ = "certificates"

    fingerprint: Mapped[str] = mapped_column(String(_HEX), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), index=True)
    key_fingerprint: Mapped[str] = mapped_column(String(_HEX), index=True)
    serial: Mapped[str] = mapped_column(String(48), unique=True)
    issued_s: Mapped[int] = mapped_column(BigInteger)
    expires_s: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    pem: Mapped[str] = mapped_column(Text)


class Enrolment(Base):
    """An application, by the fingerprint of its public key. ``state``: pending, accepted or rejected."""

    __tablename__ = "enrolments"

    fingerprint: Mapped[str] = mapped_column(String(_HEX), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    csr: Mapped[str] = mapped_column(Text)
    facts: Mapped[str] = mapped_column(Text)
    first_s: Mapped[int] = mapped_column(BigInteger)
    asked_s: Mapped[int] = mapped_column(BigInteger, index=True)
    device_id: Mapped[str | None] = mapped_column(ForeignKey("devices.id", ondelete="SET NULL"), default=None)
    token_id: Mapped[str | None] = mapped_column(String(18), default=None)
    decided_by: Mapped[str] = mapped_column(String(128), default="")
    decided_s: Mapped[int | None] = mapped_column(BigInteger, default=None)


class EnrolmentToken(Base):
    """A token that accepts one device, once. Only its hash is kept. ``tags``: JSON list of what the device gets."""

    __tablename__ = "enrolment_tokens"

    id: Mapped[str] = mapped_column(String(18), primary_key=True)
    hash: Mapped[str] = mapped_column(String(_HEX), unique=True)
    label: Mapped[str] = mapped_column(String(128), default="")
    group: Mapped[str] = mapped_column("group_name", String(64), default="")
    tags: Mapped[str] = mapped_column(Text, default="[]")
    made_by: Mapped[str] = mapped_column(String(128))
    made_s: Mapped[int] = mapped_column(BigInteger)
    expires_s: Mapped[int] = mapped_column(BigInteger)
    used_s: Mapped[int | None] = mapped_column(BigInteger, default=None)
    used_by: Mapped[str] = mapped_column(String(_HEX), default="")
    """Fingerprint of the key that used it."""
    revoked_s: Mapped[int | None] = mapped_column(BigInteger, default=None)


class User(Base):
    """Somebody who may act. ``source``: local (with an argon2id ``password``) or oidc (without)."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(8), default="local")
    password: Mapped[str] = mapped_column(String(256), default="")
    made_s: Mapped[int] = mapped_column(BigInteger)
    disabled: Mapped[bool] = mapped_column(Boolean, default=False)


class Login(Base):
    """A signed-in browser (``kind`` session) or a program (``kind`` token), by the hash of its secret."""

    __tablename__ = "logins"

    hash: Mapped[str] = mapped_column(String(_HEX), primary_key=True)
    id: Mapped[str] = mapped_column(String(18), unique=True)
    kind: Mapped[str] = mapped_column(String(8))
    user: Mapped[str] = mapped_column("user_name", ForeignKey("users.name", ondelete="CASCADE"), index=True)
    label: Mapped[str] = mapped_column(String(128), default="")
    csrf: Mapped[str] = mapped_column(String(_HEX), default="")
    made_s: Mapped[int] = mapped_column(BigInteger)
    seen_s: Mapped[int] = mapped_column(BigInteger)
    expires_s: Mapped[int] = mapped_column(BigInteger, index=True)


class LoginFailure(Base):
    """Failed sign-ins in a row of one key (a name, an address, or both), and until when it must wait."""

    __tablename__ = "login_failures"

    key: Mapped[str] = mapped_column(String(256), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    until_s: Mapped[int] = mapped_column(BigInteger)
    last_s: Mapped[int] = mapped_column(BigInteger, index=True)


class OidcFlow(Base):
    """A sign-in that is under way at the identity provider, by the hash of its ``state``."""

    __tablename__ = "oidc_flows"

    state: Mapped[str] = mapped_column(String(_HEX), primary_key=True)
    nonce: Mapped[str] = mapped_column(String(_HEX))
    verifier: Mapped[str] = mapped_column(String(128))
    expires_s: Mapped[int] = mapped_column(BigInteger, index=True)


class Release(Base):
    """A bundle that signed metadata of the repository named when it was looked at."""

    __tablename__ = "releases"

    sha256: Mapped[str] = mapped_column(String(_HEX), primary_key=True)
    family: Mapped[str] = mapped_column(String(64), index=True)
    version: Mapped[str] = mapped_column(String(20))
    length: Mapped[int] = mapped_column(BigInteger)
    first_s: Mapped[int] = mapped_column(BigInteger)
    seen_s: Mapped[int] = mapped_column(BigInteger)
    current: Mapped[bool] = mapped_column(Boolean, default=True)
    """Whether it is the one that signed metadata name now."""


class AuditEntry(Base):
    """One entry of the audit; ``fleet.audit`` says what ``hash`` is of. The database refuses to change or delete it."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time_s: Mapped[int] = mapped_column(BigInteger, index=True)
    actor: Mapped[str] = mapped_column(String(160))
    action: Mapped[str] = mapped_column(String(64), index=True)
    subject: Mapped[str] = mapped_column(String(160), index=True)
    detail: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(_HEX))
    hash: Mapped[str] = mapped_column(String(_HEX))


class AuditHead(Base):
    """The newest entry's number and hash, in one row that a writer locks."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(_HEX))
