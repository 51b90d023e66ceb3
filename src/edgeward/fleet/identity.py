"""Who a device is: the certificate that it shows, looked up at every request, so that revocation works at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Certificate, Device

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_AGAIN = "enrol this device again; until then it goes on with what it has"


def known(session: Session, fingerprint: str, now_s: int) -> tuple[Device, Certificate]:
    """The device that shows the certificate ``fingerprint``, locked. Raises what ``refusal`` gives."""
    found = session.execute(
        select(Device, Certificate)
        .join(Certificate, Certificate.device_id == Device.id)
        .where(Certificate.fingerprint == fingerprint)
        .with_for_update()
    ).one_or_none()
    if found is None:
        raise unknown()
    device, certificate = found
    refused = refusal(device.state, certificate.state, certificate.expires_s, now_s)
    if refused is not None:
        raise refused
    return device, certificate


def unknown() -> RefusedError:
    """Nothing is known of the certificate: 403 ``certificate-unknown``."""
    return RefusedError(
        403, "certificate-unknown", f"this fleet did not issue the certificate that was shown; {_AGAIN}"
    )


def refusal(device_state: str, certificate_state: str, expires_s: int, now_s: int) -> RefusedError | None:
    """Why a certificate does not count; None if it does.

    403 ``certificate-revoked``, ``certificate-superseded`` or ``certificate-expired``.
    """
    if device_state != "active" or certificate_state == "revoked":
        return RefusedError(403, "certificate-revoked", f"an operator has revoked this device; {_AGAIN}")
    if certificate_state == "superseded":
        return RefusedError(403, "certificate-superseded", f"a newer certificate of this device is in use; {_AGAIN}")
    if now_s >= expires_s:
        return RefusedError(403, "certificate-expired", f"the certificate has expired; {_AGAIN}")
    return None


def put_in_use(session: Session, device_id: str, fingerprint: str, now_s: int) -> None:
    """The device showed a certificate for the first time: the ones before it are superseded from now on."""
    session.execute(
        update(Certificate)
        .where(
            Certificate.device_id == device_id,
            Certificate.fingerprint != fingerprint,
            Certificate.state.in_(("issued", "current")),
        )
        .values(state="superseded")
    )
    row = session.get_one(Certificate, fingerprint)
    row.state = "current"
    session.execute(
        update(Device)
        .where(Device.id == device_id)
        .values(
            certificate=fingerprint, serial=row.serial, expires_s=row.expires_s, key_fingerprint=row.key_fingerprint
        )
    )
    audit.record(
        session,
        actor=f"device:{device_id}",
        action="certificate.in-use",
        subject=device_id,
        detail={"certificate": fingerprint},
        now_s=now_s,
    )
