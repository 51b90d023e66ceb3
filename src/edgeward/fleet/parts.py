"""One fleet server's parts, put together from its settings. Everything that answers requests gets them from here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.fleet.accounts import Accounts
from edgeward.fleet.authority import Authority
from edgeward.fleet.checkin import CheckIns
from edgeward.fleet.enrol import Enrolments
from edgeward.fleet.ports import NoRollouts
from edgeward.fleet.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def close(self) -> None:
        """Finish what goes on and let the database go."""
        self.check_ins.close()
        self.store.close()


def open_fleet(
    settings: FleetSettings, *, rollouts: Rollouts | None = None, now_s: Callable[[], int] = wall_s
) -> Fleet:
    """The parts. Raises ``ConfigError`` for an authority or a store that cannot be used."""
    authority = Authority.load(*settings.authority_files)
    store = Store(settings.store_url)
    port = rollouts or NoRollouts()
    return Fleet(
        settings,
        store,
        Accounts(store, session_s=settings.session_s),
        Enrolments(store, authority, days=settings.days),
        CheckIns(store, port, now_s, check_in_s=settings.check_in_s),
        port,
        now_s,
    )
