"""The database: its tables are the models', and a version that does not fit is refused with the way out."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.migrate import migrate, newest, require_current, revision_of
from edgeward.fleet.store.models import Base, User
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_steps_lead_to_the_tables_that_the_models_declare(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert revision_of(store) == newest()


def test_servers_that_migrate_at_once_do_it_once(store_url: str) -> None:
    results: list[str] = []
    together = threading.Barrier(3)

    def bring_up() -> None:
        one = Store(store_url)
        together.wait()
        results.append(migrate(one))
        one.close()

    threads = [threading.Thread(target=bring_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [newest()] * 3


def test_a_new_file_that_another_one_writes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as one that brings it into WAL has it for a moment
    leaves = threading.Timer(0.3, other.close)
    leaves.start()
    store = Store(f"sqlite:///{path}")
    try:
        store.check()
        with store.engine.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    finally:
        store.close()
        leaves.join()


@pytest.mark.parametrize(("found", "code"), [("9999", "store-newer"), ("", "store-empty")])
def test_a_database_of_another_version_is_refused(store: Store, found: str, code: str) -> None:
    with store.writer.begin() as connection:
        statement = "UPDATE alembic_version SET version_num = :found" if found else "DELETE FROM alembic_version"
        connection.execute(text(statement), {"found": found} if found else {})
    with pytest.raises(ConfigError) as refused:
        require_current(store)
    assert refused.value.code == code
    if found:
        with pytest.raises(ConfigError):
            migrate(store)


def test_what_a_block_wrote_is_undone_when_it_raises(store: Store) -> None:
    def half() -> None:
        with store.writing() as session:
            session.add(User(name="anna", role="viewer", made_s=1))
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        half()
    with store.reading() as session:
        assert session.get(User, "anna") is None


def test_sqlite_survives_a_power_cut_by_its_settings(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'fleet.db'}")
    with store.engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    store.close()
    assert found == ["wal", 2]


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "sqlite:///:memory:", "no url", "oracle+none://x"])
def test_a_database_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Store(url)
    assert refused.value.code == "store-url"


def test_a_file_that_cannot_be_the_database_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 1000)
    for path, reason in (
        (tmp_path / "notes.txt", "not a database"),
        (tmp_path / "none" / "fleet.db", "unable to open"),
    ):
        with pytest.raises(ConfigError, match=reason) as refused:
            revision_of(Store(f"sqlite:///{path}"))
        assert refused.value.code == "store-unreachable"
        assert str(path) in str(refused.value)


def test_a_database_that_is_not_there_is_said_to_be_without_its_password() -> None:
    store = Store("postgresql://edgeward:very-secret@127.0.0.1:1/fleet")
    for ask in (store.check, lambda: revision_of(store)):
        with pytest.raises(ConfigError) as refused:
            ask()
        assert refused.value.code == "store-unreachable"
        assert "very-secret" not in str(refused.value)
    with pytest.raises(OperationalError), store.writing() as session:
        session.get(User, "anna")
    store.close()
