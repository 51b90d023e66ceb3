"""Enrolment: who may become a device of this fleet, and with which certificate.

::

    application ─→ PENDING ─(accepted by fingerprint, or by a one-time token)─→ ACCEPTED ─→ certificate ─→ renewals
                      ╰────(rejected)─→ REJECTED                                   ╰─(revoked, lost)─→ REJECTED

An application is known by the fingerprint of its public key, so the same one again is the same question and gets the
same answer; whoever replays one gets a certificate that is of no use without the key. One whose certificate has expired
or was superseded waits again for somebody to vouch for it. Accepting an application *as* a device that is already there
is how a device comes back after the loss of its key: its old certificates end in that moment.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from edgeward.exchange.enrol import Credential, Standing
from edgeward.exchange.typed import encode
from edgeward.fleet import identity
from edgeward.fleet.authority import DAY_S, read_request
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Certificate, Device, DeviceTag, Enrolment, EnrolmentToken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from edgeward.exchange.checkin import Facts
    from edgeward.exchange.enrol import Application, Renewal
    from edgeward.fleet.authority import Authority, Request
    from edgeward.fleet.store.engine import Store

PENDING_MAX = 1_000
"""Applications that wait at a time; anybody in the network can make one."""
FORGET_S = 7 * DAY_S
"""A pending application that nobody asks about any more is forgotten after it, when room is needed."""
PENDING_NEXT_S = 15
TOKEN_DAYS_MAX = 90
_ASKED_S = 60
"""That an application was asked about again is noted no more often than this."""


@dataclass(frozen=True, slots=True)
class Vouch:
    """How a device is taken in. ``device_id``: the one that it is already, for a device that lost its key."""

    label: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    device_id: str | None = None


class Enrolments:
    """The service. ``days``: life of a certificate; ``random``: gives that many random bytes."""

    def __init__(
        self, store: Store, authority: Authority, *, days: float, random: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._store = store
        self._authority = authority
        self._days = days
        self._random = random

    # --- the device's side

    def apply(self, application: Application, now_s: int) -> Credential:
        """Answer an application.

        ``InputError`` (``csr-unfit``); ``RefusedError`` (``token-refused``, ``enrolments-full``).
        """
        request = read_request(application.csr)
        try:
            return self._apply(application, request, now_s)
        except IntegrityError:  # two workers heard the same new application at once: one of them has written it
            return self._apply(application, request, now_s)

    def _apply(self, application: Application, request: Request, now_s: int) -> Credential:
        with self._store.writing() as session:
            row = session.get(Enrolment, request.fingerprint, with_for_update=True)
            if row is None:
                row = self._first(session, application, request, now_s)
            if row.state == "accepted":
                found = self._certificate_of(session, row, now_s)
                if found is not None:
                    return _credential(row, found)
                row.state, row.decided_by, row.decided_s = "pending", "", None
                self._note(session, row, "enrolment.asked-again", f"key:{row.fingerprint[:16]}", now_s)
            if row.state == "pending" and application.token:
                return self._by_token(session, row, application.token, request, now_s)
            if now_s - row.asked_s >= _ASKED_S:
                row.asked_s = now_s
            return _credential(row, None)

    def renew(self, shown: str, renewal: Renewal, now_s: int) -> Credential:
        """The next certificate of the device that shows the one with fingerprint ``shown``.

        Asked again with the same key, the same one. Raises as ``identity.require``, and ``csr-unfit``.
        """
        request = read_request(renewal.csr)
        with self._store.writing() as session:
            device, certificate = identity.known(session, shown, now_s)
            if certificate.state == "issued":
                identity.put_in_use(session, device.id, certificate.fingerprint, now_s)
            waiting = session.scalars(
                select(Certificate).where(Certificate.device_id == device.id, Certificate.state == "issued")
            ).all()
            for one in waiting:
                if one.key_fingerprint == request.fingerprint and now_s < one.expires_s:
                    return Credential(Standing.ACCEPTED, request.fingerprint, device.id, one.pem, 60)
                one.state = "superseded"  # its answer was lost and the device made another key
            made = self._issue(session, device, request, "issued", now_s)
            audit.record(
                session,
                actor=f"device:{device.id}",
                action="certificate.renewed",
                subject=device.id,
                detail={"certificate": made.fingerprint, "expires_s": made.expires_s},
                now_s=now_s,
            )
            return Credential(Standing.ACCEPTED, request.fingerprint, device.id, made.pem, 60)

    # --- the operator's side

    def accept(self, fingerprint: str, vouch: Vouch, *, actor: str, now_s: int) -> str:
        """Take in the application ``fingerprint``; the device's id.

        ``RefusedError``: ``enrolment-unknown``, ``enrolment-decided`` (somebody was faster), ``device-unknown``.
        """
        with self._store.writing() as session:
            row = self._open(session, fingerprint, ("pending", "rejected"))
            return self._accept(session, row, read_request(row.csr), vouch, actor, now_s)

    def reject(self, fingerprint: str, *, actor: str, now_s: int) -> None:
        """Refuse the application ``fingerprint``; errors as ``accept``."""
        with self._store.writing() as session:
            row = self._open(session, fingerprint, ("pending",))
            row.state, row.decided_by, row.decided_s = "rejected", actor, now_s
            self._note(session, row, "enrolment.rejected", actor, now_s)

    def make_token(self, vouch: Vouch, *, days: float, actor: str, now_s: int) -> tuple[str, str]:
        """A one-time token, shown here and never again, and its id. Valid for ``days``."""
        if not 0 < days <= TOKEN_DAYS_MAX:
            raise RefusedError(422, "token-days", f"a token lives for up to {TOKEN_DAYS_MAX} days")
        token, number = self._random(24).hex(), f"t-{self._random(8).hex()}"
        row = EnrolmentToken(
            id=number,
            hash=_hash(token),
            label=vouch.label,
            group=vouch.group,
            tags=json.dumps(list(vouch.tags)),
            made_by=actor,
            made_s=now_s,
            expires_s=now_s + int(days * DAY_S),
        )
        with self._store.writing() as session:
            session.add(row)
            detail: dict[str, audit.Fact] = {"expires_s": row.expires_s, "group": vouch.group}
            audit.record(session, actor=actor, action="token.made", subject=number, detail=detail, now_s=now_s)
        return token, number

    def revoke_token(self, number: str, *, actor: str, now_s: int) -> None:
        """End a token that nobody has used; ``RefusedError`` (``token-unknown``)."""
        with self._store.writing() as session:
            row = session.get(EnrolmentToken, number, with_for_update=True)
            if row is None or row.used_s is not None or row.revoked_s is not None:
                raise RefusedError(404, "token-unknown", "there is no such token that could still be used")
            row.revoked_s = now_s
            audit.record(session, actor=actor, action="token.revoked", subject=number, now_s=now_s)

    # --- within

    def _first(self, session: Session, application: Application, request: Request, now_s: int) -> Enrolment:
        waiting = session.scalar(select(func.count()).select_from(Enrolment).where(Enrolment.state == "pending")) or 0
        if waiting >= PENDING_MAX:
            old = delete(Enrolment).where(Enrolment.state == "pending", Enrolment.asked_s < now_s - FORGET_S)
            forgotten = len(session.execute(old.returning(Enrolment.fingerprint)).all())
            if not forgotten:
                raise RefusedError(
                    503, "enrolments-full", f"{PENDING_MAX} applications wait already; accept or reject some of them"
                )
        # A key that the fleet knows from a renewal: a device whose certificate ran out while it was away.
        owner = session.scalar(
            select(Device)
            .join(Certificate, Certificate.device_id == Device.id)
            .where(Certificate.key_fingerprint == request.fingerprint)
            .limit(1)
        )
        row = Enrolment(
            fingerprint=request.fingerprint,
            state="pending" if owner is None or owner.state == "active" else "rejected",
            csr=application.csr,
            facts=encode(application.facts).decode(),
            first_s=now_s,
            asked_s=now_s,
            device_id=None if owner is None else owner.id,
            decided_by="",
        )
        session.add(row)
        session.flush()
        self._note(session, row, "enrolment.asked", f"key:{row.fingerprint[:16]}", now_s)
        return row

    def _by_token(self, session: Session, row: Enrolment, token: str, request: Request, now_s: int) -> Credential:
        found = session.scalar(select(EnrolmentToken).where(EnrolmentToken.hash == _hash(token)).with_for_update())
        if found is None or found.used_s is not None or found.revoked_s is not None or now_s >= found.expires_s:
            raise RefusedError(
                403, "token-refused", "the enrolment token is unknown, used or too old; make another, or enrol without"
            )
        found.used_s, found.used_by = now_s, row.fingerprint
        row.token_id = found.id
        vouch = Vouch(found.label, found.group, tuple(json.loads(found.tags)))
        self._accept(session, row, request, vouch, f"token:{found.id}", now_s)
        certificate = self._certificate_of(session, row, now_s)
        return _credential(row, certificate)

    def _accept(self, session: Session, row: Enrolment, request: Request, vouch: Vouch, actor: str, now_s: int) -> str:
        facts = json.loads(row.facts)
        chosen = vouch.device_id or row.device_id
        if chosen is None:
            device = Device(id=f"d-{self._random(8).hex()}", enrolled_s=now_s, label=vouch.label, group=vouch.group)
            session.add(device)
        else:
            found = session.get(Device, chosen, with_for_update=True)
            if found is None:
                raise RefusedError(404, "device-unknown", f"there is no device {chosen}")
            device = found
            device.label, device.group = vouch.label or device.label, vouch.group or device.group
            session.execute(update(Certificate).where(Certificate.device_id == device.id).values(state="superseded"))
        device.state, device.key_fingerprint = "active", row.fingerprint
        device.boot, device.sequence = 0, 0
        put_facts(device, facts)
        session.flush()
        for tag in vouch.tags:
            session.merge(DeviceTag(device_id=device.id, tag=tag))
        made = self._issue(session, device, request, "current", now_s)
        device.certificate, device.serial, device.expires_s = made.fingerprint, made.serial, made.expires_s
        row.state, row.device_id, row.decided_by, row.decided_s = "accepted", device.id, actor, now_s
        self._note(session, row, "enrolment.accepted", actor, now_s)
        return device.id

    def _issue(self, session: Session, device: Device, request: Request, state: str, now_s: int) -> Certificate:
        issued = self._authority.issue_device(request, device.id, now_s, self._days)
        row = Certificate(
            fingerprint=issued.fingerprint,
            device_id=device.id,
            key_fingerprint=request.fingerprint,
            serial=issued.serial,
            issued_s=now_s,
            expires_s=issued.expires_s,
            state=state,
            pem=issued.pem,
        )
        session.add(row)
        session.flush()
        return row

    def _certificate_of(self, session: Session, row: Enrolment, now_s: int) -> Certificate | None:
        """The certificate that answers an accepted application, if it may still be used."""
        return session.scalar(
            select(Certificate)
            .where(
                Certificate.device_id == row.device_id,
                Certificate.key_fingerprint == row.fingerprint,
                Certificate.state.in_(("issued", "current")),
                Certificate.expires_s > now_s,
            )
            .order_by(Certificate.issued_s.desc())
            .limit(1)
        )

    def _open(self, session: Session, fingerprint: str, states: Sequence[str]) -> Enrolment:
        row = session.get(Enrolment, fingerprint, with_for_update=True)
        if row is None:
            raise RefusedError(
                404, "enrolment-unknown", "no application has this fingerprint; compare it with the device"
            )
        if row.state not in states:
            raise RefusedError(
                409, "enrolment-decided", f"this application is {row.state} already, by {row.decided_by or 'nobody'}"
            )
        return row

    def _note(self, session: Session, row: Enrolment, action: str, actor: str, now_s: int) -> None:
        detail = {"device": row.device_id or "", "token": row.token_id or ""}
        audit.record(session, actor=actor, action=action, subject=row.fingerprint, detail=detail, now_s=now_s)


def put_facts(device: Device, facts: dict[str, str | int] | Facts) -> None:
    """Write the inventory into the device's columns."""
    for name in ("machine", "accelerator", "cores", "memory_mib", "disk_mib", "beds", "software"):
        value = facts[name] if isinstance(facts, dict) else getattr(facts, name)
        if getattr(device, name, None) != value:
            setattr(device, name, str(value) if isinstance(value, str) else value)


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def _credential(row: Enrolment, certificate: Certificate | None) -> Credential:
    standing = Standing(row.state)
    if certificate is None:
        next_s = PENDING_NEXT_S if standing is Standing.PENDING else 3_600
        return Credential(standing, row.fingerprint, None, "", next_s)
    return Credential(standing, row.fingerprint, row.device_id, certificate.pem, 60)
