"""A fleet server's parts on SQLite always, and on PostgreSQL where a server can be had."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi", reason="the fleet extra is not installed")

import psycopg
from argon2 import PasswordHasher
from fleet_support import FleetKit, Served

from edgeward.fleet.serve import listen
from edgeward.fleet.store.engine import Store
from edgeward.fleet.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A temporary PostgreSQL of this test run: the URL of its maintenance database."""
    if not _BINARIES:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    binaries = _BINARIES[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="edgeward-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # initdb refuses to run as root
        try:
            shutil.chown(folder, "postgres", "postgres")
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres to run it as")
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder, **as_user}
    try:
        subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "edgeward", "-E", "UTF8"], **quiet)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=on -c max_connections=60"
        subprocess.run([binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"], **quiet)
        yield f"postgresql://edgeward@127.0.0.1:{port}/"
    finally:
        subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **{**quiet, "check": False})
        shutil.rmtree(folder, ignore_errors=True)


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


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with its tables."""
    made = Store(store_url)
    migrate(made)
    yield made
    made.close()


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
