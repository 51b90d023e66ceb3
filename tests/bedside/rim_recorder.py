"""A rim that remembers: an asyncio loop on its own thread, and everything that sources gave it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from edgeward.bedside.source.reading import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from edgeward.bedside.source.reading import Change, Reading
    from edgeward.signal.numeric import Kind

PATIENCE_S = 60.0


class RimRecorder:
    """The ``Rim`` port. ``answer``: what it says to every reading; only those taken are remembered."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.peers: list[tuple[str, bool]] = []
        self.threads: set[int] = set()
        self.answer = Receipt.TAKEN
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rim", daemon=True)
        self._thread.start()

    def take(self, reading: Reading) -> Receipt:
        """Remember one reading."""
        self.threads.add(threading.get_ident())
        if self.answer is Receipt.TAKEN:
            self.readings.append(reading)
        return self.answer

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        """Remember that somebody came or went."""
        self.threads.add(threading.get_ident())
        self.peers.append((peer, connected))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have ``work`` done on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def close(self) -> None:
        """End the loop; it must be idle."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        assert self.threads <= {self._thread.ident}, "the rim is only ever called on its own loop"
        self._loop.close()

    def wait(self, what: Callable[[], Any]) -> Any:
        """Wait until ``what()`` is true, and give it; fails after a while."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            found = what()
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError("it did not come about")

    def values(self, kind: Kind) -> list[float | None]:
        """Every value of a kind, in order."""
        return [one.value for reading in list(self.readings) for one in reading.numerics if one.kind is kind]

    def changes(self) -> list[Change]:
        """Every word of who lies where, in order."""
        return [reading.change for reading in list(self.readings) if reading.change is not None]

    def codes(self) -> list[str]:
        """Every refusal, in order."""
        return [refusal.code for reading in list(self.readings) for refusal in reading.refusals]
