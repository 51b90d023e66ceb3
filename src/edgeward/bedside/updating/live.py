"""What an update asks of the beds that are being watched: a shadow, a safe moment, the swap, the way back.

The state machine (``updating.machine``) speaks to this port only; ``NothingLive`` is a device on which nothing runs
yet. No call waits for a model or for a bed: what takes time is begun, and asked after again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgeward.bedside.slot import Slot


@dataclass(frozen=True, slots=True)
class Shadow:
    """How the candidate compares on live inputs so far.

    ``windows`` were scored by both, ``disagreed`` of them beyond the candidate's bound, ``failed`` by the current one
    alone. ``latency_us``: the second slowest of fifty answers, in the best fifty; ``memory_kib``: resident set of its
    engine. ``running`` is False until the candidate's engine is ready, and once it is gone.
    """

    running: bool = False
    windows: int = 0
    disagreed: int = 0
    failed: int = 0
    latency_us: int = 0
    memory_kib: int = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """What is in charge: the bundle's hash ("" for none), scores and failures since it took charge.

    ``down``: the rung LOCAL does not serve now.
    """

    sha256: str = ""
    scores: int = 0
    failures: int = 0
    down: bool = False


class Live(Protocol):
    """The ward of one family while it runs. Nothing here raises: what fails is told by ``shadow`` and ``serving``."""

    def begin_shadow(self, candidate: Slot) -> None:
        """Start the candidate's engine and let it score what the current one scores, its scores shown to nobody."""
        ...

    def shadow(self) -> Shadow:
        """How it compares since ``begin_shadow``."""
        ...

    def end_shadow(self) -> None:
        """Stop the candidate's engine, if one runs that is not in charge."""
        ...

    def safe(self) -> bool:
        """Whether a swap now would take nothing from a bed: nothing stands or is made that one bundle must judge."""
        ...

    def activate(self, candidate: Slot) -> None:
        """Put the candidate in charge between two scores; the one before stays warm as LOCAL_PREVIOUS."""
        ...

    def serving(self) -> Serving:
        """What is in charge now, and how it did since ``activate`` or the start."""
        ...

    def go_back(self) -> None:
        """Put the one before in charge again, at once (within a second), and stop the candidate."""
        ...


class NothingLive:
    """A device on which nothing is being watched yet: every moment is safe, and there is nothing to compare with."""

    def __init__(self) -> None:
        self._serving = Serving()
        self._before = Serving()

    def begin_shadow(self, candidate: Slot) -> None:
        """There is nothing to be a shadow of."""

    def shadow(self) -> Shadow:
        """Nothing was compared."""
        return Shadow()

    def end_shadow(self) -> None:
        """There is none."""

    def safe(self) -> bool:
        """Always."""
        return True

    def activate(self, candidate: Slot) -> None:
        """The candidate is what will be started."""
        self._before, self._serving = self._serving, Serving(candidate.sha256)

    def serving(self) -> Serving:
        """What was activated."""
        return self._serving

    def go_back(self) -> None:
        """The one before is what will be started."""
        self._serving = self._before
