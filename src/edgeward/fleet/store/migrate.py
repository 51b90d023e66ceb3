"""Bringing a database to this version's tables. ``fleet/store/migrations/versions`` holds a file per step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from edgeward.fleet.store.engine import unreachable
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from edgeward.fleet.store.engine import Store

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x65646765
"""PostgreSQL's advisory lock that keeps two servers from migrating at once."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def revision_of(store: Store) -> str | None:
    """The step that the database stands at; None where it holds no tables of ours.

    ``ConfigError`` (``store-unreachable``).
    """
    try:
        with store.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        raise unreachable(store.url, error) from error


def newest() -> str:
    """The last step that this version of Edgeward knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def require_current(store: Store) -> None:
    """``ConfigError`` (``store-empty``, ``store-outdated``, ``store-newer``) unless the tables are this version's."""
    found = revision_of(store)
    if found == newest():
        return
    if found is None:
        raise ConfigError("store-empty", "the database holds no fleet yet; run 'edgeward fleet init'")
    known = {step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found not in known:
        raise ConfigError(
            "store-newer",
            f"the database is at {found}, which a newer Edgeward made; install that version, or restore a backup",
        )
    raise ConfigError(
        "store-outdated",
        f"the database is at {found} and this version needs {newest()}; back it up, then run "
        "'edgeward fleet serve --migrate'",
    )


def migrate(store: Store) -> str:
    """Bring the tables to this version, in one transaction, one server at a time; the step reached.

    Raises ``ConfigError`` (``store-unreachable``, ``store-newer``).
    """
    if revision_of(store) is not None:
        try:
            require_current(store)
            return newest()
        except ConfigError as error:
            if error.code != "store-outdated":
                raise
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = _config()
    with store.writer.begin() as connection:
        if not store.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return newest()
