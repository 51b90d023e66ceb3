"""The real fleet server in a thread of its own, to be looked into while devices speak to it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from edgeward.fleet import devices
from edgeward.fleet.api.app import create_app
from edgeward.fleet.authority import Authority
from edgeward.fleet.enrol import Vouch
from edgeward.fleet.parts import Fleet, open_fleet, wall_s
from edgeward.fleet.serve import listen, server_of
from edgeward.fleet.settings import FleetSettings
from edgeward.fleet.setup import make_fleet
from edgeward.fleet.store.models import Certificate, Device

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fastapi import APIRouter

    from edgeward.fleet.ports import Rollouts


@dataclass
class Running:
    """The server in a thread of its own: its parts to look into, its URL, the authority's certificate."""

    fleet: Fleet
    settings: FleetSettings
    url: str

    @property
    def ca(self) -> Path:
        return self.settings.authority_files[0]

    def device(self) -> Device:
        with self.fleet.store.reading() as session:
            return session.scalars(select(Device)).one()

    def devices(self) -> int:
        with self.fleet.store.reading() as session:
            return len(session.scalars(select(Device)).all())

    def certificates(self) -> list[str]:
        with self.fleet.store.reading() as session:
            return sorted(row.state for row in session.scalars(select(Certificate)))

    def tokens(self, count: int) -> list[str]:
        """So many one-time tokens."""
        make, now_s = self.fleet.enrolments.make_token, self.fleet.now_s()
        return [make(Vouch(), days=1, actor="user:olga", now_s=now_s)[0] for _ in range(count)]

    def revoke(self) -> None:
        with self.fleet.store.writing() as session:
            devices.end(session, self.fleet.rollouts, self.device().id, "revoked", actor="user:olga", now_s=wall_s())


class Served:
    """``with Served(…) as running``. ``tls`` false: as behind the balancer of a test. ``now_s`` is the server's.

    ``made_s``: when its certificate was made, from now.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tls: bool = True,
        now_s: Callable[[], int] = wall_s,
        made_s: int = 0,
        rollouts: Rollouts | None = None,
        check_in_s: int = 60,
        routers: Sequence[APIRouter] = (),
    ) -> None:
        self.settings = FleetSettings(
            folder,
            port=0,
            names=("127.0.0.1",),
            tls=tls,
            trusted_proxies=() if tls else ("127.0.0.1",),
            check_in_s=check_in_s,
        )
        self.rollouts = rollouts
        self.routers = routers
        self.now_s = now_s
        self.made_s = made_s

    def __enter__(self) -> Running:
        list(make_fleet(self.settings, wall_s()))
        if self.made_s:
            authority = Authority.load(*self.settings.authority_files)
            issued, private = authority.issue_server(self.settings.names, wall_s() + self.made_s)
            self.settings.server_files[0].write_text(issued.pem)
            self.settings.server_files[1].write_bytes(private)
        self.fleet = open_fleet(self.settings, rollouts=self.rollouts, now_s=self.now_s)
        listener = listen(self.settings)
        self.server = server_of(create_app(self.fleet, routers=self.routers), self.settings)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        until(lambda: self.server.started)
        scheme = "https" if self.settings.tls else "http"
        return Running(self.fleet, self.settings, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()


def until(true: Callable[[], object]) -> None:
    """Wait until it holds; a busy machine gets its time."""
    for _ in range(3_000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to hold")
