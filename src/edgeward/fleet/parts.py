"""One fleet server's parts, put together from its settings. Everything that answers requests gets them from here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.fleet.accounts import Accounts
from edgeward.fleet.authority import Authority
from edgeward.fleet.blobs import open_blobs
from edgeward.fleet.checkin import CheckIns
from edgeward.fleet.conduct.book import Book
from edgeward.fleet.conduct.desk import FolderDesk, NoDesk
from edgeward.fleet.enrol import Enrolments
from edgeward.fleet.oidc import Oidc
from edgeward.fleet.releases import Releases
from edgeward.fleet.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.fleet.blobs import Blobs
    from edgeward.fleet.conduct.desk import Desk
    from edgeward.fleet.ports import Rollouts
    from edgeward.fleet.settings import FleetSettings


def wall_s() -> int:
    """The server's wall time, seconds since 1970."""
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Fleet:
    """What one worker works with. ``now_s``: the server's wall time, seconds since 1970."""

    settings: FleetSettings
    store: Store
    accounts: Accounts
    enrolments: Enrolments
    check_ins: CheckIns
    rollouts: Rollouts
    now_s: Callable[[], int]
    blobs: Blobs | None = None
    """The signed repository, where one is served."""
    releases: Releases | None = None
    """What it names, where the server has a root to prove it by."""
    oidc: Oidc | None = None
    """Signing in by an identity provider, where one is set."""
    desk: Desk = field(default_factory=NoDesk)
    """What rollouts ask of the repository."""

    def close(self) -> None:
        """Finish what goes on and let the database go."""
        self.check_ins.close()
        if self.releases is not None:
            self.releases.close()
        self.store.close()


def open_fleet(
    settings: FleetSettings, *, rollouts: Rollouts | None = None, now_s: Callable[[], int] = wall_s
) -> Fleet:
    """The parts. Raises ``ConfigError`` for an authority or a store that cannot be used."""
    authority = Authority.load(*settings.authority_files)
    store = Store(settings.store_url)
    port = rollouts or Book()
    blobs = open_blobs(settings.repository) if settings.repository else None
    releases = None
    if blobs is not None and settings.trusted_root:
        proofs = settings.folder / "releases"
        releases = Releases(store, blobs, settings.repository, Path(settings.trusted_root), proofs)
    accounts = Accounts(store, session_s=settings.session_s)
    oidc = None
    if settings.oidc is not None:
        redirect_url = settings.oidc.redirect_url or f"https://{settings.names[0]}:{settings.port}/oidc/callback"
        oidc = Oidc(settings.oidc, store, accounts, redirect_url=redirect_url)
    return Fleet(
        settings,
        store,
        accounts,
        Enrolments(store, authority, days=settings.days),
        CheckIns(store, port, now_s, check_in_s=settings.check_in_s),
        port,
        now_s,
        blobs,
        releases,
        oidc,
        desk_of(settings),
    )


def desk_of(settings: FleetSettings) -> Desk:
    """The repository, where it is a folder of this machine."""
    if not settings.repository or "://" in settings.repository:
        return NoDesk()
    return FolderDesk(Path(settings.repository), settings.online_keys_folder)
