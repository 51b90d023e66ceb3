"""A fleet server's parts on SQLite always, and on PostgreSQL where a server can be had."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi", reason="the fleet extra is not installed")

import psycopg
from argon2 import PasswordHasher
from fleet_support import FleetKit, Served

from edgeward.fleet.serve import listen
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.migrate import migrate
from edgeward.testing.postgresql import NoPostgresqlError, temporary_postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A temporary PostgreSQL of this test run: the URL of its maintenance database."""
    try:
        with temporary_postgresql() as url:
            yield url
    except NoPostgresqlError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'fleet.db'}"
        return
    base = request.getfixturevalue("postgresql")
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{base}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{base}{name}"
    with psycopg.connect(f"{base}postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _store(url: str) -> Iterator[Store]:
    made = Store(url)
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with its tables, of each kind in turn."""
    with _store(store_url) as made:
        yield made


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """One on SQLite, for files of tests to which the kind is nothing."""
    with _store(f"sqlite:///{tmp_path / 'fleet.db'}") as made:
        yield made


@pytest.fixture
def kit(store: Store, tmp_path: Path) -> Iterator[FleetKit]:
    """A fleet with an authority, a clock of its own and cheap password hashes."""
    made = FleetKit(store, tmp_path, PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    yield made
    made.fleet.check_ins.close()


@pytest.fixture
def served(kit: FleetKit) -> Iterator[Served]:
    """The kit's fleet behind its REST interface, on loopback."""
    made = Served(kit, listen(kit.settings))
    yield made
    made.close()
