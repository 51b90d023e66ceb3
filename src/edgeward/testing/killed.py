"""A real updater in a process of its own that kills itself with SIGKILL at a chosen system call.

It has a real folder, a real signed repository, the real downloader, journal and slots; only the trial is a stand-in.
Calls of the ``os`` functions that change the disk are counted, whoever makes them.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from edgeward.bedside.slot import SlotStore
from edgeward.bedside.updating.journal import Journal
from edgeward.exchange.words import UpdateState
from edgeward.testing.repository import RepositoryLab

if TYPE_CHECKING:
    from pathlib import Path

_CHILD = """
import os, signal, sys
from pathlib import Path
kill_at, folder = int(sys.argv[1]), Path(sys.argv[2])
from edgeward.bedside.system import SystemClock
from edgeward.bedside.slot import SlotStore
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.live import NothingLive
from edgeward.bedside.updating.machine import Updater
from edgeward.testing.repository import FakeWall
from edgeward.testing.updates import FAMILY, passes
from edgeward.trust.fetch import TrustClient
count, names = 0, []

def struck(name, call):
    def counted(*arguments, **options):
        global count
        count += 1
        if count == kill_at:
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted

for name in ("write", "pwrite", "fsync", "rename", "replace", "unlink", "ftruncate", "mkdir"):
    setattr(os, name, struck(name, getattr(os, name)))
client = TrustClient(folder / "repo", folder / "trust", root=(folder / "root.json").read_bytes(), wall=FakeWall())
with SlotStore(folder / "slots") as slots:
    updater = Updater(FAMILY, client, slots, Journal(slots.root), NothingLive(), SystemClock(), passes)
    updater.boot()
    updater.look()
    updater.turn()
print(count, flush=True)
"""


class KilledDevice:
    """A device under ``folder``; ``points`` is how many calls an update of it makes, counted once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lab = RepositoryLab(folder)
        (folder / "root.json").write_bytes(self._lab.root)
        self.publish("1.0.0")
        self.run()
        self.publish("1.0.1")
        self.points = int(self.run())
        self._published = {"1.0.0", "1.0.1"}

    def publish(self, version: str) -> None:
        """A new bundle for it."""
        self._version = version
        self._lab.publish(version)
        self._published = {*getattr(self, "_published", ()), version}

    def run(self, kill_at: int = 0) -> str:
        """One start and one turn; returns the name of the call it was killed at, or how many there were."""
        command = [sys.executable, "-c", _CHILD, str(kill_at), str(self._folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own interpreter)
        if done.returncode not in {0, -9}:
            raise AssertionError(done.stderr)
        return done.stdout.strip()

    def check(self, *, at_end: bool = False) -> bool:
        """Whether the slots open with a whole, published bundle; ``at_end``: the newest, committed with evidence."""
        with SlotStore(self._folder / "slots") as slots:
            active = slots.active()
            if active is None or slots.read(active).manifest.version not in self._published:
                return False
            record = Journal(slots.root).read()
        if not at_end:
            return True
        evident = record.state is UpdateState.COMMITTED and record.evidence.golden_vectors > 0
        return active.version == self._version and evident
