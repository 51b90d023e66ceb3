"""The audit: whole after anything, and what was tampered with is found."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from edgeward.fleet.logs import LOGGER, JsonLines
from edgeward.fleet.store import audit
from edgeward.fleet.store.models import User
from edgeward.kernel.errors import TrustError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeward.fleet.store.engine import Store

ROOT = Path(__file__).resolve().parents[2]


def record(session: Session, number: int) -> None:
    audit.record(session, actor="user:a", action="test.done", subject=f"s{number}", now_s=number, detail={"n": number})


def filled(store: Store, count: int = 5) -> audit.Head:
    for number in range(1, count + 1):
        with store.writing() as session:
            record(session, number)
    with store.reading() as session:
        return audit.verify(session)


def tamper(store: Store, statement: str) -> None:
    """As somebody who owns the database would: the refusals of the database are taken away first."""
    with store.writer.begin() as connection:
        if store.is_sqlite:
            for deed in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS audit_no_{deed}"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        connection.execute(text(statement))


def test_entries_are_linked_and_verified(store: Store) -> None:
    head = filled(store)
    assert head.seq == 5
    with store.reading() as session:
        assert audit.verify(session, expect=head) == head


def test_every_head_is_logged_once_it_is_committed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def half() -> None:
        with store.writing() as session:
            record(session, 4)
            raise KeyError

    with caplog.at_level(logging.INFO, logger=LOGGER.name):
        head = filled(store, 3)
        with pytest.raises(KeyError):
            half()
    heads = [json.loads(JsonLines().format(one)) for one in caplog.records]
    assert [one["seq"] for one in heads] == [1, 2, 3]
    assert heads[-1]["hash"] == head.hash


def test_an_entry_is_committed_with_what_it_records_or_not_at_all(store: Store) -> None:
    class StopError(Exception):
        pass

    def half() -> None:
        with store.writing() as session:
            session.add(User(name="anna", role="viewer", made_s=1))
            record(session, 1)
            session.flush()
            raise StopError

    with pytest.raises(StopError):
        half()
    with store.reading() as session:
        assert session.get(User, "anna") is None
        assert audit.verify(session).seq == 0


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'user:b'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_or_delete_an_entry(store: Store, statement: str) -> None:
    filled(store, 2)
    with pytest.raises(DBAPIError, match="append-only"), store.writing() as session:
        session.execute(text(statement))
    with store.reading() as session:
        assert audit.verify(session).seq == 2


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE audit SET actor = 'user:b' WHERE seq = 3", "entry 3: its content"),
        ("UPDATE audit SET detail = '{}' WHERE seq = 1", "entry 1: its content"),
        ("UPDATE audit SET time_s = 9 WHERE seq = 5", "entry 5: its content"),
        ("DELETE FROM audit WHERE seq = 2", "entry 2: it is missing"),
        ("DELETE FROM audit WHERE seq = 5", "entry 5: the entries end before it"),
        ("UPDATE audit SET previous = hash WHERE seq = 4", "entry 4: it does not follow"),
        ("DELETE FROM audit", "entry 1: the entries end before it"),
    ],
)
def test_tampering_is_found_at_its_entry(store: Store, statement: str, where: str) -> None:
    filled(store)
    tamper(store, statement)
    with store.reading() as session, pytest.raises(TrustError, match=where) as broken:
        audit.verify(session)
    assert broken.value.code == "audit-broken"


def test_a_chain_written_anew_is_found_by_a_head_that_was_noted(store: Store) -> None:
    """Whoever owns the database can make a chain that holds; he cannot make the one that was noted."""
    noted = filled(store)
    row = (6, noted.hash, 6, "user:a", "test.done", "s6", "{}")
    forged = audit.entry_hash(*row)
    statements = ["DELETE FROM audit"]
    seq, previous = 0, audit.GENESIS
    for number in range(1, 7):
        digest = audit.entry_hash(number, previous, 1, "x", "y", "z", "{}")
        statements.append(f"INSERT INTO audit VALUES ({number}, 1, 'x', 'y', 'z', '{{}}', '{previous}', '{digest}')")
        seq, previous = number, digest
    statements.append(f"UPDATE audit_head SET seq = {seq}, hash = '{previous}'")
    for statement in statements:
        tamper(store, statement)
    assert forged != previous
    with store.reading() as session:
        assert audit.verify(session).seq == 6, "by itself it holds"
        with pytest.raises(TrustError, match="entry 5: it is not the one that was noted"):
            audit.verify(session, expect=noted)


def test_writers_at_once_make_one_chain(store: Store) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 20):
            with store.writing() as session:
                record(session, number)
                record(session, number)

    threads = [threading.Thread(target=write, args=(100 * number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as session:
        assert audit.verify(session).seq == 160


_WRITER = """
import sys
from edgeward.fleet.store import audit
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.models import User
store = Store(sys.argv[1])
number = 0
while True:
    number += 1
    with store.writing() as session:
        session.add(User(name=f"u{sys.argv[2]}-{number}", role="viewer", made_s=number))
        audit.record(session, actor="user:a", action="user.made", subject=f"u{sys.argv[2]}-{number}", now_s=number)
    print(number, flush=True)
"""


def test_a_server_killed_in_the_middle_leaves_the_audit_whole(store: Store) -> None:
    """SIGKILL at any moment: what was acknowledged is there, and every user there has its entry."""
    acknowledged = 0
    url = store.url.render_as_string(hide_password=False)
    for round_ in range(3):
        command = [sys.executable, "-c", _WRITER, url, str(round_)]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            for _ in range(5 + 3 * round_):
                process.stdout.readline()
            time.sleep(0.002 * round_)
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        acknowledged += 5 + 3 * round_ + len(rest)
    deadline = time.monotonic() + 20
    while True:  # PostgreSQL notices a client that has gone when it next talks to it
        with store.reading() as session:
            users = session.scalar(text("SELECT count(*) FROM users"))
            head = audit.verify(session)
        if users == head.seq or time.monotonic() > deadline:
            break
    assert users == head.seq
    assert acknowledged <= head.seq <= acknowledged + 3
