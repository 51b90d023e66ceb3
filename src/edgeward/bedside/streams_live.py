"""A family that serves the ECG streams of a ward: one port for whoever updates, over a ``WardLive`` for each stream.

What is true of the family is what is true of its beds together: windows and failures are summed, the slowest answer and
the largest engine count, the bundle is in charge when it is in charge of all. Each bed swaps at its own safe moment. A
stream that was replaced forgot what it was told and is told again; where the candidate ran, that counts as one failure.
One that is not there at all, because its monitor cannot be read or it ends again and again, holds nobody up: it has
nothing to be taken away, and starts with what is in charge by then.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edgeward.bedside.updating.live import Serving, Shadow
from edgeward.bedside.ward_live import WardLive
from edgeward.kernel.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeward.bedside.slot import Slot
    from edgeward.kernel.clock import Clock

_RECENT_NS = 60 * NS_PER_S


class StreamsLive:
    """The streams of ``beds``, all with the bundles of one ``task``; see ``updating.live.Live``. For any thread."""

    def __init__(
        self,
        task: str,
        beds: Iterable[str],
        charge: Slot | None,
        before: Slot | None,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._of = {bed: WardLive(task, charge, before, clock, wake) for bed in beds}
        self._clock = clock
        self._lock = threading.RLock()
        self._candidate: Slot | None = None
        self._wanted: Slot | None = None
        self._safe_ns: dict[str, int] = {}

    def of(self, bed: str) -> WardLive:
        """The stream of one bed."""
        return self._of[bed]

    @property
    def charge(self) -> Slot | None:
        """The bundle that is in charge; while beds are on their way to another, the one that some still have."""
        with self._lock:
            held, wanted = [live.charge for live in self._of.values()], self._wanted
            if wanted is None:
                return held[0]
            return next((slot for slot in held if slot is None or slot.sha256 != wanted.sha256), wanted)

    # --- from the thread that updates

    def begin_shadow(self, candidate: Slot) -> None:
        """Start the candidate's engine beside every stream."""
        with self._lock:
            self._candidate, self._wanted = candidate, None
            for live in self._of.values():
                live.begin_shadow(candidate)

    def shadow(self) -> Shadow:
        """How it compares in all streams together; it runs while it runs in any, or is to run again in one."""
        with self._lock:
            each = list(self._of.values())
            for live in each:
                if self._candidate is not None and not live.shadowed:
                    live.begin_shadow(self._candidate, again=True)
            shadows = [live.shadow() for live in each]
            return Shadow(
                any(one.running for one in shadows) or any(live.runs_again for live in each),
                sum(one.windows for one in shadows),
                sum(one.disagreed for one in shadows),
                sum(one.failed for one in shadows),
                max(one.latency_us for one in shadows),
                max(one.memory_kib for one in shadows),
            )

    def end_shadow(self) -> None:
        """Stop the candidate's engines that are not in charge; call off takeovers that did not come."""
        with self._lock:
            self._candidate = self._wanted = None
            for live in self._of.values():
                live.end_shadow()

    def safe(self) -> bool:
        """Whether each bed had a moment within the last minute in which a swap would have taken nothing from it."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            for bed, live in self._of.items():
                if live.gone or live.safe():
                    self._safe_ns[bed] = now_ns
            return all(now_ns - self._safe_ns.get(bed, now_ns - _RECENT_NS - 1) <= _RECENT_NS for bed in self._of)

    def activate(self, candidate: Slot) -> None:
        """Put the candidate in charge of each bed at that bed's next safe moment."""
        with self._lock:
            self._candidate, self._wanted = None, candidate
            self._press()

    def serving(self) -> Serving:
        """What is in charge of all beds: the bundle that was to be, once none has another."""
        with self._lock:
            self._press()
            each = [live for live in self._of.values() if not live.gone] or list(self._of.values())
            told = [live.serving() for live in self._of.values()]
            charge = self.charge
            return Serving(
                charge.sha256 if charge is not None else "",
                sum(one.scores for one in told),
                sum(one.failures for one in told),
                any(live.serving().down for live in each),
            )

    def go_back(self) -> None:
        """Put the bundle before in charge of every bed again, at once; call off takeovers that did not come."""
        with self._lock:
            self._candidate = self._wanted = None
            for live in self._of.values():
                live.go_back()

    # --- from whoever leads the slots

    def placed(self, charge: Slot | None, before: Slot | None) -> None:
        """Other bundles lie in the slots: every stream takes them at once."""
        with self._lock:
            self._candidate = self._wanted = None
            for live in self._of.values():
                live.placed(charge, before, tell=True)

    def _press(self) -> None:
        """Have every bed on its way to what is wanted; nothing for one that has it, or is on its way."""
        if self._wanted is not None:
            for live in self._of.values():
                live.activate(self._wanted, at_rest=live.gone)
