"""A PostgreSQL of its own for a test or a measurement, where the server's programs are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class NoPostgresqlError(Exception):
    """There is none to be had here; the text says why."""


@contextmanager
def temporary_postgresql() -> Iterator[str]:
    """The URL of its maintenance database, without the database's name. Raises ``NoPostgresqlError``."""
    if not _BINARIES:
        raise NoPostgresqlError("PostgreSQL's server is not installed (Debian: postgresql)")
    binaries = _BINARIES[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="edgeward-pg-"))
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # initdb refuses to run as root
        try:
            shutil.chown(folder, "postgres", "postgres")
        except LookupError:
            shutil.rmtree(folder, ignore_errors=True)
            raise NoPostgresqlError("PostgreSQL does not run as root, and there is no user postgres") from None
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def program(name: str, *arguments: object, must: bool = True) -> None:
        command = [str(binaries / name), "-D", str(data), *map(str, arguments)]
        subprocess.run(command, check=must, stdout=subprocess.DEVNULL, cwd=folder, **as_user)  # noqa: S603  (its own)

    try:
        program("initdb", "-A", "trust", "-U", "edgeward", "-E", "UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=on -c max_connections=60"
        program("pg_ctl", "-w", "-o", options, "-l", folder / "log", "start")
        yield f"postgresql://edgeward@127.0.0.1:{port}/"
    finally:
        program("pg_ctl", "-m", "immediate", "stop", must=False)
        shutil.rmtree(folder, ignore_errors=True)
