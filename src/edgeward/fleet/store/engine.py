"""Transactions on SQLite (one file) or PostgreSQL (one URL), the same for whoever uses them.

SQLite runs in WAL with ``synchronous=FULL``: what was committed survives a power cut. A writing transaction takes its
lock at once (``BEGIN IMMEDIATE``), so that it waits for another writer at its start and never fails half way. Writers
of one process take turns before they ask: SQLite's own wait polls, and many that poll can starve one.

On PostgreSQL rows are locked as they are touched; the audit's lock comes last in every transaction (``audit.flush``),
so two of them cannot wait for each other over it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, select, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.orm import Session

from edgeward.fleet.logs import log
from edgeward.fleet.store import audit
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL, Connection, Engine

    from edgeward.fleet.store.models import Base

BUSY_MS = 10_000
"""How long a writer waits for another one on SQLite."""
CONNECT_S = 5
"""How long PostgreSQL may take to answer a new connection."""
LOCK_MS = 10_000
"""How long a transaction waits for another's rows on PostgreSQL."""
IDLE_MS = 60_000
"""A transaction on PostgreSQL in which nothing happens for so long is undone."""
POOL = 8
"""Connections that one worker keeps open; as many again for a moment."""
_WRITING = "edgeward_writing"


class Store:
    """The fleet's memory at ``url``: ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/NAME``.

    Raises ``ConfigError`` (``store-url``) for any other. Nothing is connected until it is used.
    """

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: Engine = create_engine(
            self.url,
            pool_size=POOL,
            max_overflow=POOL,
            pool_pre_ping=not self.is_sqlite,
            hide_parameters=True,
            connect_args={} if self.is_sqlite else {"connect_timeout": CONNECT_S},
        )
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", _prepare_postgresql)
        self.writer = self.engine.execution_options(**{_WRITING: True})
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that changes nothing; all of it sees one state on SQLite, each query its own on PostgreSQL."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block with its audit entries, undone when the block raises."""
        with self._turn, Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session
            head = audit.flush(session)
        if head is not None:  # committed: a log that leaves this machine is where heads are noted
            log("audit", seq=head.seq, hash=head.hash)

    def check(self) -> None:
        """Ask the database for an answer; ``ConfigError`` (``store-unreachable``) without one."""
        try:
            with self.engine.connect() as connection:
                connection.execute(select(text("1")))
        except DatabaseError as error:
            raise unreachable(self.url, error) from error

    def close(self) -> None:
        """Let every connection go."""
        self.engine.dispose()


def insert_missing(session: Session, model: type[Base], **values: Any) -> bool:
    """Insert a row unless its key is there, whoever else does so at this moment; whether it was inserted."""
    made = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    done = session.execute(made(model).values(**values).on_conflict_do_nothing().returning(*inspect(model).primary_key))
    return done.first() is not None


def unreachable(url: URL, error: DatabaseError) -> ConfigError:
    """What to say when the database does not answer; the password is not in it."""
    if url.get_backend_name() == "sqlite":
        return ConfigError(
            "store-unreachable",
            f"the database file {url.database} cannot be used ({error.orig}); see that it is the right file, in a "
            "folder where this account may write, on a disk with room, and that no other program has it",
        )
    return ConfigError(
        "store-unreachable",
        f"the database {url.render_as_string(hide_password=True)} does not answer as it should "
        f"({type(error.orig).__name__}); start it, or correct its URL or the rights of its account",
    )


def _url(text_: str) -> URL:
    try:
        url = make_url(text_)
        if url.drivername in {"postgresql", "postgres"}:
            url = url.set(drivername="postgresql+psycopg")
        good = url.drivername == "postgresql+psycopg" or (
            url.drivername == "sqlite" and bool(url.database) and url.database != ":memory:"
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise _bad_url() from error
    if not good:
        raise _bad_url()
    return url


def _bad_url() -> ConfigError:
    return ConfigError(
        "store-url", "the store must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME; correct it"
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """SQLite's wait is not for a change to WAL: of several that open a new file, all but one would fail at once."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """A worker that is stopped in the middle of a transaction must not hold up the others for ever."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_MS}ms'")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_MS}ms'")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
