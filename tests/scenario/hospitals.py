"""A ward under watch in this process and the updater of one of its model families, each in a thread of its own.

As ``edgeward ward run`` has them: the rim runs on its own loop, and its processes are real. A hospital says what the
ward consists of; what happens to it is the tests' matter.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from heard import Heard

from edgeward.bedside.audit import Audit
from edgeward.bedside.system import SystemClock
from edgeward.bedside.updating.journal import Journal
from edgeward.bedside.updating.machine import Updater
from edgeward.bedside.updating.rules import Rules
from edgeward.exchange.checkin import Deed, Order
from edgeward.testing.repository import RepositoryLab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgeward.bedside.trial import TrialResult
    from edgeward.bedside.updating.happening import Record
    from edgeward.bedside.ward_bundles import WardBundles
    from edgeward.bedside.ward_run import WardLoop

JOIN_S = 30.0
PATIENCE_S = 90.0


class Hospital(Heard):
    """A context manager; it is also an output of its ward, and keeps every message.

    Its kinds say ``family``, and ``set_up`` makes the ward: it ``enters`` what must be left again, has the loop ``run``
    and calls ``update``. ``begun`` is waited for before the first test step.
    """

    family: str

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.state = folder, folder / "state"
        self.stack = ExitStack()
        self.clock = SystemClock()
        self.rollout = 0

    def set_up(self) -> None:
        raise NotImplementedError

    def begun(self) -> bool:
        raise NotImplementedError

    # --- its life

    def __enter__(self) -> Self:
        self.lab = RepositoryLab(self.folder)
        self.audit = Audit(self.state / "audit.jsonl", self.clock)
        try:
            self.set_up()
            self.until(self.begun)
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def run(self, loop: WardLoop) -> None:
        """Have the ward watch in a thread until the end."""
        started = threading.Event()
        running: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            running.append(asyncio.get_running_loop())
            await loop.run(started.set)

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        self.stack.callback(thread.join, JOIN_S)
        self.stack.callback(lambda: running[0].call_soon_threadsafe(loop.stop))
        assert started.wait(JOIN_S)

    def update(self, bundles: WardBundles, trial: Callable[[Path], TrialResult], dwell_s: float) -> None:
        """Have the updater of the family turn in a thread until the end; ``dwell_s``: the ward's."""
        self.bundles, self.slots = bundles, bundles.slots(self.family)
        self.updater = Updater(
            self.family,
            self.lab.client(),
            self.slots,
            Journal(self.slots.root),
            bundles.live(self.family),
            self.clock,
            trial,
            rules=Rules(dwell_s=dwell_s),
        )
        self.updater.boot()
        updating = threading.Thread(target=self.updater.run)
        updating.start()
        self.stack.callback(updating.join, JOIN_S)
        self.stack.callback(self.updater.stop)

    # --- what tests do and see

    def publish_and_order(self, raw: bytes, *, shadow_s: int, soak_s: int) -> None:
        """Publish a bundle and have the ward take it."""
        file = self.folder / "published.ewb"
        file.write_bytes(raw)
        self.lab.publisher.add(file)
        version = self.lab.client().latest(self.family).version
        sha256 = hashlib.sha256(raw).hexdigest()
        self.rollout += 1
        self.updater.order(
            Order(self.rollout, self.family, Deed.INSTALL, version, sha256, shadow_s=shadow_s, soak_s=soak_s)
        )

    @staticmethod
    def until(what: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.05)

    def ends(self, seconds: float = PATIENCE_S) -> Record:
        """The update's last record."""
        self.until(lambda: self.updater.record.order is not None and self.updater.record.ended, seconds)
        return self.updater.record

    def swaps(self) -> list[dict[str, Any]]:
        """Every takeover and return, as the audit has it."""
        self.audit.close()
        rows = [json.loads(line) for line in (self.state / "audit.jsonl").read_text().splitlines()]
        return [row for row in rows if row["what"] == "swap"]
