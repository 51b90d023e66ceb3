"""A family that serves the ECG streams of a ward: one port for whoever updates, over a ``WardLive`` for each stream.

What is true of the family is what is true of its beds together: windows and failures are summed, the slowest answer and
the largest engine count, the bundle is in charge when it is in charge of all. Each bed swaps at its own safe moment. A
stream that was replaced forgot what it was told; it is told again, and its loss counts as a failure of what it ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeward.bedside.updating.live import Serving, Shadow
from edgeward.bedside.ward_live import WardLive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgeward.bedside.slot import Slot
    from edgeward.kernel.clock import Clock


class StreamsLive:
    """The streams of ``beds``, all with the bundles of one ``task``; see ``updating.live.Live``."""

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
        self._candidate: Slot | None = None
        self._wanted: Slot | None = None

    def of(self, bed: str) -> WardLive:
        """The stream of one bed."""
        return self._of[bed]

    @property
    def beds(self) -> tuple[str, ...]:
        """Every bed with a stream."""
        return tuple(self._of)

    @property
    def charge(self) -> Slot | None:
        """The bundle that is in charge; while beds are on their way to another, the one that some still have."""
        held = [live.charge for live in self._of.values()]
        wanted = self._wanted
        return next((slot for slot in held if wanted is None or slot is None or slot.sha256 != wanted.sha256), wanted)

    # --- from the thread that updates

    def begin_shadow(self, candidate: Slot) -> None:
        """Start the candidate's engine beside every stream."""
        self._candidate, self._wanted = candidate, None
        for live in self._of.values():
            live.begin_shadow(candidate)

    def shadow(self) -> Shadow:
        """How it compares in all streams together; it runs while it runs in any."""
        shadows = []
        for live in self._of.values():
            if self._candidate is not None and not live.shadowed:
                live.begin_shadow(self._candidate, again=True)
            shadows.append(live.shadow())
        return Shadow(
            any(one.running for one in shadows),
            sum(one.windows for one in shadows),
            sum(one.disagreed for one in shadows),
            sum(one.failed for one in shadows),
            max((one.latency_us for one in shadows), default=0),
            max((one.memory_kib for one in shadows), default=0),
        )

    def end_shadow(self) -> None:
        """Stop the candidate's engines that are not in charge; call off takeovers that did not come."""
        self._candidate = self._wanted = None
        for live in self._of.values():
            live.end_shadow()

    def safe(self) -> bool:
        """Whether a swap now would take nothing from any bed, as far as their streams have said."""
        return all(live.safe() for live in self._of.values())

    def activate(self, candidate: Slot) -> None:
        """Put the candidate in charge of each bed at that bed's next safe moment."""
        self._candidate, self._wanted = None, candidate
        for live in self._of.values():
            live.activate(candidate)

    def serving(self) -> Serving:
        """What is in charge of all beds: the bundle that was to be, once none has another."""
        if self._wanted is not None:
            for live in self._of.values():
                live.activate(self._wanted)  # nothing for one that has it, or is on its way
        each = [live.serving() for live in self._of.values()]
        charge = self.charge
        return Serving(
            charge.sha256 if charge is not None else "",
            sum(one.scores for one in each),
            sum(one.failures for one in each),
            any(one.down for one in each),
        )

    def go_back(self) -> None:
        """Put the bundle before in charge of every bed again, at once; call off takeovers that did not come."""
        self._candidate = self._wanted = None
        for live in self._of.values():
            live.go_back()

    # --- from whoever leads the slots

    def placed(self, charge: Slot | None, before: Slot | None) -> None:
        """Other bundles lie in the slots: every stream takes them at once."""
        self._candidate = self._wanted = None
        for live in self._of.values():
            live.placed(charge, before, tell=True)
