"""The audit: what was done, by whom, when; hash-linked, and in the same transaction as what it records.

Entry n's ``hash`` is the SHA-256 of the JSON array ``[seq, previous, time_s, actor, action, subject, detail]``, where
``previous`` is the hash of entry n − 1 (64 zeros before the first) and ``detail`` the text that is stored. Changing,
removing or inserting an entry breaks the chain at that place. Whoever can write the whole database can make a whole new
chain: the store therefore logs every head, and a head that was noted elsewhere shows it (``verify``'s ``expect``).

Entries wait in the session until its transaction ends: the lock on the head is the last one that a transaction takes.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from edgeward.fleet.store.models import AuditEntry, AuditHead
from edgeward.kernel.errors import TrustError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    Fact = str | int | bool | Sequence[str] | None

GENESIS = "0" * 64
_WAITING = "audit"
_HEAD = 1
_VERIFY_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: its number (0: none yet) and hash."""

    seq: int
    hash: str


def record(
    session: Session, *, actor: str, action: str, subject: str, now_s: int, detail: Mapping[str, Fact] | None = None
) -> None:
    """Note what this transaction does. ``detail``: words and numbers without PHI and without secrets."""
    words = json.dumps(dict(detail or {}), separators=(",", ":"), sort_keys=True)
    session.info.setdefault(_WAITING, []).append((now_s, actor, action, subject, words))


def flush(session: Session) -> Head | None:
    """Write what waits, in order; the new head, None where nothing waits. The store calls it at the end of a block."""
    waiting: list[tuple[int, str, str, str, str]] = session.info.pop(_WAITING, [])
    if not waiting:
        return None
    session.flush()
    # On PostgreSQL the row lock keeps other writers out until the commit; SQLite has one writer anyway.
    head = session.execute(select(AuditHead.seq, AuditHead.hash).where(AuditHead.id == _HEAD).with_for_update()).one()
    seq, previous = head.seq, head.hash
    rows = []
    for time_s, actor, action, subject, detail in waiting:
        seq += 1
        digest = entry_hash(seq, previous, time_s, actor, action, subject, detail)
        rows.append(
            {
                "seq": seq,
                "time_s": time_s,
                "actor": actor,
                "action": action,
                "subject": subject,
                "detail": detail,
                "previous": previous,
                "hash": digest,
            }
        )
        previous = digest
    session.execute(insert(AuditEntry), rows)
    session.execute(update(AuditHead).where(AuditHead.id == _HEAD).values(seq=seq, hash=previous))
    return Head(seq, previous)


def entry_hash(seq: int, previous: str, time_s: int, actor: str, action: str, subject: str, detail: str) -> str:
    """The hash of one entry."""
    row = json.dumps([seq, previous, time_s, actor, action, subject, detail], separators=(",", ":"))
    return sha256(row.encode()).hexdigest()


def head(session: Session) -> Head:
    """The newest entry, as the head's row says."""
    row = session.execute(select(AuditHead.seq, AuditHead.hash).where(AuditHead.id == _HEAD)).one()
    return Head(row.seq, row.hash)


def verify(session: Session, *, expect: Head | None = None) -> Head:
    """Compute every entry anew and return the head.

    ``expect``: a head that was noted earlier and must still be in the chain. ``TrustError`` (``audit-broken``) names
    the first entry that does not hold.
    """
    # The head is read first: entries that are added meanwhile lie behind it and are left for the next time.
    known = head(session)
    seq, previous, seen_expected = 0, GENESIS, expect is None or expect.seq == 0
    query = (
        select(AuditEntry)
        .where(AuditEntry.seq <= known.seq)
        .order_by(AuditEntry.seq)
        .execution_options(yield_per=_VERIFY_ROWS)
    )
    with closing(session.scalars(query)) as entries:
        for entry in entries:
            seq += 1
            if entry.seq != seq:
                raise _broken(seq, "it is missing")
            if entry.previous != previous:
                raise _broken(seq, "it does not follow the entry before it")
            fields = (entry.time_s, entry.actor, entry.action, entry.subject, entry.detail)
            if entry.hash != entry_hash(seq, previous, *fields):
                raise _broken(seq, "its content was changed")
            previous = entry.hash
            if expect is not None and seq == expect.seq:
                if entry.hash != expect.hash:
                    raise _broken(seq, "it is not the one that was noted: the chain was written anew")
                seen_expected = True
            session.expunge(entry)
    if (seq, previous) != (known.seq, known.hash):
        raise _broken(seq + 1, "the entries end before it")
    if not seen_expected:
        raise _broken(seq + 1, "the entries end before the one that was noted")
    return known


def _broken(seq: int, why: str) -> TrustError:
    return TrustError(
        "audit-broken",
        f"the audit does not hold at entry {seq}: {why}; keep the database as it is, compare it with a backup, "
        "and find out who could write to it",
    )
