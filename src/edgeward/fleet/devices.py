"""The inventory: what the fleet knows of its devices, and what an operator may change about one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update

from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Certificate, Device, DeviceFamily, DeviceTag, Enrolment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from edgeward.fleet.ports import Rollouts

PAGE_MAX = 500
TAGS_MAX = 32
SILENT_PERIODS = 3
"""A device is silent when it has missed so many check-ins."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which devices; what is empty or None asks for nothing. ``text``: part of an id or label."""

    state: str = ""
    group: str = ""
    tag: str = ""
    accelerator: str = ""
    software: str = ""
    family: str = ""
    version: str = ""
    rung: str = ""
    update_state: str = ""
    text: str = ""
    silent_since_s: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Devices in the order of their ids; ``next``: give it as ``after`` to go on, None at the end."""

    devices: Sequence[Device]
    tags: dict[str, list[str]]
    families: dict[str, list[DeviceFamily]]
    total: int
    next: str | None


def find(session: Session, wanted: Filter, *, after: str = "", count: int = 100) -> Page:
    """A page of the devices that ``wanted`` names."""
    count = max(1, min(count, PAGE_MAX))
    total = session.scalar(_narrowed(select(func.count()).select_from(Device), wanted)) or 0
    query = _narrowed(select(Device), wanted).where(Device.id > after).order_by(Device.id).limit(count + 1)
    found = session.scalars(query).all()
    shown = found[:count]
    ids = [device.id for device in shown]
    return Page(shown, tags_of(session, ids), families_of(session, ids), total, ids[-1] if len(found) > count else None)


def tags_of(session: Session, ids: Sequence[str]) -> dict[str, list[str]]:
    """Tags by device."""
    found: dict[str, list[str]] = {one: [] for one in ids}
    for row in session.scalars(select(DeviceTag).where(DeviceTag.device_id.in_(ids)).order_by(DeviceTag.tag)):
        found[row.device_id].append(row.tag)
    return found


def families_of(session: Session, ids: Sequence[str]) -> dict[str, list[DeviceFamily]]:
    """What each device reports of its model families."""
    found: dict[str, list[DeviceFamily]] = {one: [] for one in ids}
    query = select(DeviceFamily).where(DeviceFamily.device_id.in_(ids)).order_by(DeviceFamily.family)
    for row in session.scalars(query):
        found[row.device_id].append(row)
    return found


def _narrowed(query: Select[Any], wanted: Filter) -> Select[Any]:
    columns = (
        (Device.state, wanted.state),
        (Device.group, wanted.group),
        (Device.accelerator, wanted.accelerator),
        (Device.software, wanted.software),
    )
    for column, value in columns:
        if value:
            query = query.where(column == value)
    if wanted.tag:
        query = query.where(Device.id.in_(select(DeviceTag.device_id).where(DeviceTag.tag == wanted.tag)))
    if wanted.text:
        query = query.where(
            Device.label.icontains(wanted.text, autoescape=True) | Device.id.icontains(wanted.text, autoescape=True)
        )
    if wanted.silent_since_s is not None:
        query = query.where((Device.seen_s.is_(None)) | (Device.seen_s < wanted.silent_since_s))
    families = (
        (DeviceFamily.family, wanted.family),
        (DeviceFamily.version, wanted.version),
        (DeviceFamily.rung, wanted.rung),
        (DeviceFamily.update_state, wanted.update_state),
    )
    named = [column == value for column, value in families if value]
    if named:
        query = query.where(Device.id.in_(select(DeviceFamily.device_id).where(*named)))
    return query


def one(session: Session, device_id: str, *, lock: bool = False) -> Device:
    """The device; ``RefusedError`` (``device-unknown``)."""
    device = session.get(Device, device_id, with_for_update=lock)
    if device is None:
        raise RefusedError(404, "device-unknown", f"there is no device {device_id}")
    return device


def revision_of(device: Device, tags: Sequence[str]) -> str:
    """What people decide on, as one word: state, label, group and tags. What a device says of itself is no part."""
    seen = json.dumps([device.state, device.label, device.group, sorted(tags)])
    return sha256(seen.encode()).hexdigest()[:16]


def describe(
    session: Session,
    device_id: str,
    *,
    label: str | None = None,
    group: str | None = None,
    tags: Sequence[str] | None = None,
    revision: str | None = None,
    actor: str,
    now_s: int,
) -> None:
    """Give a device another label, group or tags; None leaves what is there, and what is so already is no change.

    ``revision``: what the person saw. ``RefusedError``: ``device-unknown``, ``device-changed`` (it is another by now).
    """
    device = one(session, device_id, lock=True)
    known = _seen(session, device, revision)
    detail: dict[str, audit.Fact] = {}
    if label is not None and label != device.label:
        device.label = detail["label"] = label
    if group is not None and group != device.group:
        device.group = detail["group"] = group
    if tags is not None and set(tags) != set(known):
        session.execute(delete(DeviceTag).where(DeviceTag.device_id == device_id))
        session.add_all(DeviceTag(device_id=device_id, tag=tag) for tag in sorted(set(tags)))
        detail["tags"] = sorted(set(tags))
    if detail:
        audit.record(session, actor=actor, action="device.described", subject=device_id, detail=detail, now_s=now_s)


def _seen(session: Session, device: Device, revision: str | None) -> list[str]:
    """The device's tags, once it is what the person saw."""
    tags = tags_of(session, [device.id])[device.id]
    if revision is not None and revision != revision_of(device, tags):
        raise RefusedError(
            409,
            "device-changed",
            f"device {device.id} has changed since you looked: it is {device.state}, in "
            f"{f'group {device.group!r}' if device.group else 'no group'}; look again and decide",
        )
    return tags


def end(
    session: Session,
    rollouts: Rollouts,
    device_id: str,
    state: str,
    *,
    revision: str | None = None,
    actor: str,
    now_s: int,
) -> None:
    """Revoke a device or call it lost (``state``): its certificates end now. Its beds go on without the fleet.

    Rollouts that it is on the way in count it apart.

    ``RefusedError``: ``device-ended`` (it is already), and as ``describe``.
    """
    # Applications before devices, as accepting locks them: two operators never wait for each other in a circle.
    own = select(Enrolment.fingerprint).where(Enrolment.device_id == device_id).order_by(Enrolment.fingerprint)
    session.execute(own.with_for_update()).all()
    device = one(session, device_id, lock=True)
    if device.state == state:
        raise RefusedError(409, "device-ended", f"device {device_id} is {state} already")
    _seen(session, device, revision)
    device.state = state
    session.execute(update(Certificate).where(Certificate.device_id == device_id).values(state="revoked"))
    session.execute(
        update(Enrolment)
        .where(Enrolment.device_id == device_id)
        .values(state="rejected", decided_by=actor, decided_s=now_s)
    )
    audit.record(session, actor=actor, action=f"device.{state}", subject=device_id, now_s=now_s)
    rollouts.ended(session, device_id, actor, now_s)


def counts(session: Session, now_s: int, check_in_s: int) -> dict[str, dict[str, int]]:
    """How many devices by state, silent ones, rungs and pending applications: what an overview and metrics tell."""
    silent_s = now_s - SILENT_PERIODS * check_in_s
    active = Device.state == "active"
    silent = (
        select(func.count()).select_from(Device).where(active, (Device.seen_s.is_(None)) | (Device.seen_s < silent_s))
    )
    rungs = (
        select(DeviceFamily.rung, func.count())
        .join(Device, Device.id == DeviceFamily.device_id)
        .where(active)
        .group_by(DeviceFamily.rung)
    )
    pending = select(func.count()).select_from(Enrolment).where(Enrolment.state == "pending")
    return {
        "devices": {
            row[0]: row[1] for row in session.execute(select(Device.state, func.count()).group_by(Device.state))
        },
        "rungs": {row[0]: row[1] for row in session.execute(rungs)},
        "waiting": {"silent": session.scalar(silent) or 0, "pending": session.scalar(pending) or 0},
    }
