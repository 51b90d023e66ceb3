"""Check-ins: many devices, each once a minute, in few transactions.

Every check-in that arrives while a transaction is being committed waits for the next one, and all that wait share it
(``CheckIns``): nobody is answered before what the answer stands on is durable, and a disk that syncs slowly makes
transactions larger instead of fewer. The greatest (boot, sequence) of a device wins, so one that is sent twice or is
overtaken changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import OperationalError

from edgeward.exchange.checkin import CHECK_IN_BYTES_MAX, Answer, CheckIn, Order
from edgeward.exchange.typed import decode, encode
from edgeward.fleet import identity
from edgeward.fleet.refused import RefusedError
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import Certificate, Device, DeviceFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.orm import Session

    from edgeward.exchange.checkin import FamilyReport
    from edgeward.fleet.ports import Rollouts
    from edgeward.fleet.store.engine import Store

BATCH_MAX = 256
WAITING_MAX = 8_192
"""Check-ins that wait at a time in one worker; whoever comes then is asked to come later."""
ANEW_S = 900
"""A smaller (boot, sequence) from a device that was silent for so long was not overtaken: it counts anew."""


_PASSING = frozenset({"40P01", "40001", "55P03"})
"""PostgreSQL's words for a deadlock, a conflict and a lock that was waited for too long."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One check-in as it came: by whose certificate, what it says, and its text."""

    fingerprint: str
    report: CheckIn
    text: str


@dataclass(slots=True)
class _Device:
    """What the fleet knows of a device while a transaction goes on."""

    id: str
    state: str
    newest: tuple[int, int]
    seen_s: int
    families_digest: str
    progress_digest: str


@dataclass(slots=True)
class _Shown:
    """A certificate that was shown, and whose."""

    device: _Device
    state: str
    issued_s: int
    expires_s: int


@dataclass(slots=True)
class _Batch:
    """What one transaction writes."""

    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    families: dict[str, tuple[FamilyReport, ...]] = field(default_factory=dict)
    told: list[tuple[int, _Shown, CheckIn, bool]] = field(default_factory=list)
    """Which check-in, of whom, what, and whether its progress is news."""


def take(
    session: Session, heard: Sequence[Heard], rollouts: Rollouts, *, now_s: int, check_in_s: int
) -> list[Answer | RefusedError]:
    """Take check-ins within one transaction; an answer or a refusal for each, in their order."""
    known = _known(session, {one.fingerprint for one in heard})
    answers: list[Answer | RefusedError | None] = [None] * len(heard)
    batch = _Batch()
    for number, one in enumerate(heard):
        shown = known.get(one.fingerprint)
        if shown is None:
            answers[number] = identity.unknown()
            continue
        refused = identity.refusal(shown.device.state, shown.state, shown.expires_s, now_s)
        if refused is not None:
            answers[number] = refused
            continue
        if shown.state == "issued":
            _put_in_use(session, known, one.fingerprint, now_s)
        _take_one(session, batch, number, shown, one, now_s)
        answers[number] = _answer(shown, one.report, [], now_s, check_in_s)
    _write(session, batch)
    watched = rollouts.watched(session) if batch.told else frozenset()
    for number, shown, report, is_news in sorted(batch.told, key=lambda told: told[1].device.id):
        if is_news or any(family.family in watched for family in report.families):
            orders = rollouts.heard(session, shown.device.id, report, now_s)
            answers[number] = _answer(shown, report, orders, now_s, check_in_s)
    return [answer for answer in answers if answer is not None]


def _known(session: Session, fingerprints: Iterable[str]) -> dict[str, _Shown]:
    """By certificate. Devices are locked in the order of their ids, as on every worker."""
    rows = session.execute(
        select(
            Certificate.fingerprint,
            Certificate.state,
            Certificate.issued_s,
            Certificate.expires_s,
            Device.id,
            Device.state,
            Device.boot,
            Device.sequence,
            Device.seen_s,
            Device.families_digest,
            Device.progress_digest,
        )
        .join(Device, Device.id == Certificate.device_id)
        .where(Certificate.fingerprint.in_(list(fingerprints)))
        .order_by(Device.id)
        .with_for_update(of=Device)
    )
    devices: dict[str, _Device] = {}
    known = {}
    for row in rows:
        device = _Device(row[4], row[5], (row[6], row[7]), row[8] or 0, row[9], row[10])
        known[row[0]] = _Shown(devices.setdefault(row[4], device), row[1], row[2], row[3])
    return known


def _put_in_use(session: Session, known: dict[str, _Shown], fingerprint: str, now_s: int) -> None:
    device = known[fingerprint].device
    identity.put_in_use(session, device.id, fingerprint, now_s)
    for other, shown in known.items():
        if shown.device is device and shown.state in {"issued", "current"}:
            shown.state = "current" if other == fingerprint else "superseded"


def _take_one(session: Session, batch: _Batch, number: int, shown: _Shown, one: Heard, now_s: int) -> None:
    device = shown.device
    report, pair = one.report, (one.report.boot, one.report.sequence)
    if pair <= device.newest:
        if now_s - device.seen_s < ANEW_S:
            return  # sent twice, or overtaken
        audit.record(
            session,
            actor=f"device:{device.id}",
            action="device.counts-anew",
            subject=device.id,
            detail={"boot": report.boot, "sequence": report.sequence, "before": device.newest[0]},
            now_s=now_s,
        )
    families, progress = _digests(report.families)
    is_news = progress != device.progress_digest
    if families != device.families_digest:
        batch.families[device.id] = report.families
    device.newest, device.seen_s = pair, now_s
    device.families_digest, device.progress_digest = families, progress
    facts = report.facts
    batch.devices[device.id] = {
        "id": device.id,
        "boot": report.boot,
        "sequence": report.sequence,
        "seen_s": now_s,
        "skew_s": report.clock_s - now_s,
        "free_mib": report.free_mib,
        "families_digest": families,
        "progress_digest": progress,
        "report": one.text,
        "machine": facts.machine.value,
        "accelerator": facts.accelerator.value,
        "cores": facts.cores,
        "memory_mib": facts.memory_mib,
        "disk_mib": facts.disk_mib,
        "beds": facts.beds,
        "software": facts.software,
    }
    batch.told.append((number, shown, report, is_news))


def _digests(families: tuple[FamilyReport, ...]) -> tuple[str, str]:
    """Of what ``device_families`` holds, and of the progress told: the same digest, the same content."""
    shown = [(one.family, one.current, one.previous, one.rung, *_told(one)) for one in families]
    progress = [(one.family, one.progress) for one in families if one.progress is not None]
    return _digest(shown), _digest(progress) if progress else ""


def _told(family: FamilyReport) -> tuple[int, str, str]:
    told = family.progress
    return (0, "", "") if told is None else (told.rollout, told.state.value, told.why.value if told.why else "")


def _digest(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()


def _write(session: Session, batch: _Batch) -> None:
    if batch.devices:
        session.execute(update(Device), [batch.devices[key] for key in sorted(batch.devices)])
    if batch.families:
        session.execute(delete(DeviceFamily).where(DeviceFamily.device_id.in_(list(batch.families))))
        rows = [_family_row(device, one) for device in sorted(batch.families) for one in batch.families[device]]
        if rows:
            session.execute(insert(DeviceFamily), rows)


def _family_row(device: str, one: FamilyReport) -> dict[str, Any]:
    rollout, state, why = _told(one)
    return {
        "device_id": device,
        "family": one.family,
        "version": one.current.version if one.current else "",
        "sha256": one.current.sha256 if one.current else "",
        "previous_version": one.previous.version if one.previous else "",
        "previous_sha256": one.previous.sha256 if one.previous else "",
        "rung": one.rung.value,
        "rollout": rollout,
        "update_state": state,
        "why": why,
    }


def _answer(shown: _Shown, report: CheckIn, orders: list[Order], now_s: int, check_in_s: int) -> Answer:
    third_gone = 3 * (now_s - shown.issued_s) >= shown.expires_s - shown.issued_s
    # Spread over a tenth of the period, so that devices that came together (a power cut) drift apart.
    spread = (int(shown.device.id[-4:], 16) + report.sequence) % (check_in_s // 10 + 1)
    return Answer(report.sequence, max(1, check_in_s - spread), third_gone, tuple(orders))


class CheckIns:
    """Takes check-ins on an event loop and commits them together on a thread of its own."""

    def __init__(self, store: Store, rollouts: Rollouts, now_s: Callable[[], int], *, check_in_s: int) -> None:
        self._store = store
        self._rollouts = rollouts
        self._now_s = now_s
        self._check_in_s = check_in_s
        self._waiting: deque[tuple[Heard, asyncio.Future[Answer]]] = deque()
        self._thread = ThreadPoolExecutor(1, "check-ins")
        self._busy: asyncio.Task[None] | None = None

    async def hear(self, fingerprint: str, body: bytes) -> bytes:
        """The answer to the check-in ``body`` of whoever shows the certificate ``fingerprint``.

        Raises ``InputError`` (``message-unfit``) and ``RefusedError`` (as ``identity``; 503 ``fleet-busy``).
        """
        heard = Heard(fingerprint, decode(CheckIn, body, bytes_max=CHECK_IN_BYTES_MAX), body.decode())
        if len(self._waiting) >= WAITING_MAX:
            raise RefusedError(503, "fleet-busy", "too many devices check in at once; come again later")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((heard, answer))
        if self._busy is None or self._busy.done():
            self._busy = asyncio.create_task(self._work())
        return encode(await answer)

    def close(self) -> None:
        """Wait for the transaction that goes on; take no more."""
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            results = await loop.run_in_executor(self._thread, self._commit, [heard for heard, _ in batch])
            for (_, answer), result in zip(batch, results, strict=True):
                if answer.done():
                    continue  # whoever asked has gone
                if isinstance(result, Answer):
                    answer.set_result(result)
                else:
                    answer.set_exception(result)

    def _commit(self, heard: list[Heard]) -> Sequence[Answer | Exception]:
        try:
            with self._store.writing() as session:
                return take(session, heard, self._rollouts, now_s=self._now_s(), check_in_s=self._check_in_s)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _PASSING:
                return [error] * len(heard)  # the database is gone: asking it for each of them would take minutes
        except Exception as error:  # noqa: BLE001 - told to whoever waits, never lost
            if len(heard) == 1:
                return [error]
        if len(heard) == 1:
            return [RefusedError(503, "fleet-busy", "the database is busy; come again later")]
        # One of them spoils the transaction of all: each gets its own, and only that one fails.
        return [result for one in heard for result in self._commit([one])]
