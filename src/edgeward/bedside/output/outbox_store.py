"""The outbox's file: SQLite in WAL mode, every commit on the disk before it counts. Used under one lock only.

The file holds patients' data: mode 0600, and what is removed is overwritten (``secure_delete``). A file that cannot be
read is set aside under another name and a new one begun: what waits for an EHR never keeps a device from starting.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE item (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL, size INTEGER NOT NULL,
    made_wall_ns INTEGER NOT NULL, boot TEXT NOT NULL, until_wall_ns INTEGER, until_ns INTEGER,
    UNIQUE (destination, id)
);
CREATE TABLE note (key TEXT PRIMARY KEY, payload BLOB NOT NULL);
CREATE INDEX by_destination ON item (destination, number);
CREATE INDEX by_worth ON item (until_wall_ns IS NULL, number);
PRAGMA user_version = 1;
"""
_COLUMNS = "destination, id, kind, payload, made_wall_ns, boot, until_wall_ns, until_ns"


@dataclass(frozen=True, slots=True)
class Row:
    """One item as it is kept. ``boot``: of the machine, for ``until_ns`` is monotonic; both None: it never expires."""

    destination: str
    id: str
    kind: str
    payload: bytes = field(repr=False)
    made_wall_ns: int
    boot: str
    until_wall_ns: int | None = None
    until_ns: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.destination, self.id

    def expired(self, boot: str, now_ns: int, wall_ns: int) -> bool:
        """Whether it is not worth sending any more.

        Within one run of the machine its monotonic clock decides; after a restart the wall clock, and where that
        stands before the item was made, nobody knows how much time has passed: then it has expired.
        """
        if self.until_ns is None or self.until_wall_ns is None:
            return False
        if self.boot == boot:
            return now_ns >= self.until_ns
        return not self.made_wall_ns <= wall_ns < self.until_wall_ns


def _prepare(database: sqlite3.Connection) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok" or version not in {0, SCHEMA_VERSION}:
        raise sqlite3.DatabaseError("damaged, or of a newer version")
    if version == 0:
        database.executescript(f"BEGIN;{_SCHEMA}COMMIT;")


class Store:
    """The file at ``path``. Every method may raise ``sqlite3.Error`` or ``OSError``: the disk is full, or gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set_aside = False
        """Whether a file that could not be read was found, and put aside."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._database = self._open()
        except sqlite3.OperationalError:  # no room, no right: the file itself may be sound
            raise
        except sqlite3.DatabaseError:
            self._put_aside()
            self._database = self._open()
        self.count, self.size = self._one("SELECT count(*), coalesce(sum(size), 0) FROM item")

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA secure_delete = ON")
            database.execute("PRAGMA journal_size_limit = 4194304")
            _prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _put_aside(self) -> None:
        self.set_aside = True
        for suffix in ("-wal", "-shm", ""):
            part = self._path.with_name(self._path.name + suffix)
            with contextlib.suppress(FileNotFoundError):
                part.replace(self._path.with_name(f"{self._path.name}.unreadable{suffix}"))

    def close(self) -> None:
        """Write the log into the file and let go of it."""
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()

    def settle(self) -> None:
        """Write the log into the file and empty it, so that nothing removed stands in it any longer."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def add(self, rows: Iterable[Row]) -> None:
        """Keep all of ``rows`` durably, or none; what is there already under its key stays as it is."""
        with self._transaction():
            for row in rows:
                added = self._database.execute(
                    f"INSERT OR IGNORE INTO item ({_COLUMNS}, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (*row.key, row.kind, row.payload, row.made_wall_ns, row.boot, row.until_wall_ns, row.until_ns,
                     len(row.payload)),
                ).rowcount  # fmt: skip
                if added:
                    self.count, self.size = self.count + 1, self.size + len(row.payload)

    def notes(self) -> dict[str, bytes]:
        """All notes."""
        return dict(self._database.execute("SELECT key, payload FROM note ORDER BY key"))

    def note(self, notes: Iterable[tuple[str, bytes | None]]) -> None:
        """Keep notes durably under their keys, or forget those that are None."""
        with self._transaction():
            for key, payload in notes:
                if payload is None:
                    self._database.execute("DELETE FROM note WHERE key = ?", (key,))
                else:
                    self._database.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, payload))

    def first(self, destination: str) -> Row | None:
        """The oldest item for ``destination``."""
        found = self._database.execute(
            f"SELECT {_COLUMNS} FROM item WHERE destination = ? ORDER BY number LIMIT 1",  # noqa: S608
            (destination,),
        ).fetchone()
        return None if found is None else Row(*found)

    def oldest_wall_ns(self) -> int | None:
        """When the oldest item was made."""
        (made,) = self._one("SELECT min(made_wall_ns) FROM item")
        return None if made is None else int(made)

    def remove(self, key: tuple[str, str]) -> bool:
        """Forget one item; whether it was there."""
        with self._transaction():
            found = self._database.execute(
                "DELETE FROM item WHERE destination = ? AND id = ? RETURNING size", key
            ).fetchone()
            if found:
                self.count, self.size = self.count - 1, self.size - int(found[0])
        return found is not None

    def drop_one(self) -> bool:
        """Forget what is worth least: the oldest item that expires, else the oldest."""
        found = self._database.execute(
            "SELECT destination, id FROM item ORDER BY until_wall_ns IS NULL, number LIMIT 1"
        ).fetchone()
        return found is not None and self.remove((found[0], found[1]))

    def _one(self, query: str) -> tuple[int, ...]:
        found: tuple[int, ...] = self._database.execute(query).fetchone()
        return found

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        count, size = self.count, self.size
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            self.count, self.size = count, size
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise
