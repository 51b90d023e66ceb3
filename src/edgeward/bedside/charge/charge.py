"""A task's charge: it goes where it is told, between two scores, and says where it is.

Whoever updates tells which bundle shall be in charge (``TaskSettings``). A candidate takes over once its engine is warm
and the moment is safe; the bundle before stays warm, and takes over again at once when that is told. What a takeover
means to the beds is the task's (``Hands``).
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from edgeward.bedside.charge.warm import take_charge
from edgeward.bedside.verdict import Reason
from edgeward.kernel.clock import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeward.bedside.charge.model import Model
    from edgeward.bedside.charge.rehearsal import Rehearsal
    from edgeward.bedside.fallback import Trust
    from edgeward.bedside.feed import Message, TaskSettings
    from edgeward.inference.host import EngineHost

SERVING = "serving"
"""The kind of the message that tells which bundle is in charge."""
REFUSED = "refused"
"""The kind of the message that the bundle in charge cannot be what it should be: whoever leads the slots goes back."""
SERVING_EVERY_NS = NS_PER_S

P = TypeVar("P")
C = TypeVar("C", bound="Rehearsal[Any, Any]")
C_contra = TypeVar("C_contra", bound="Rehearsal[Any, Any]", contravariant=True)
P_contra = TypeVar("P_contra", contravariant=True)


class Hands(Protocol[P_contra, C_contra]):
    """What a takeover means to the beds of a task. ``Charge`` has exchanged its bundles before either is called."""

    def took_over(self, candidate: C_contra, old: Model[P_contra], now_ns: int) -> list[Message]:
        """``candidate`` is in charge; ``old`` was."""
        ...

    def went_back(self, now_ns: int) -> list[Message]:
        """The bundle before is in charge again, or none where there was none."""
        ...


class Charge(Generic[P, C]):
    """The bundles of ``task``. ``before``: the one to go back to, warm.

    ``rehearse`` makes the candidate of a bundle, by file and SHA-256, whose engine starts behind the caller; without it
    there is none. ``nothing``: what is in charge where no bundle is.
    """

    def __init__(
        self,
        current: Model[P],
        before: Model[P] | None,
        told: TaskSettings,
        hands: Hands[P, C],
        rehearse: Callable[[str, str], C] | None = None,
        *,
        nothing: Model[P],
    ) -> None:
        self.current = current
        self.before = before
        self.candidate: C | None = None
        self._wanted = told
        self._hands = hands
        self._make = rehearse
        self._nothing = nothing
        self._scores = self._failures = 0
        self._served = False
        self._took_ns: int | None = None
        self._told: tuple[Any, ...] = ()
        self._tell_ns = 0

    # --- how the bundle in charge does

    def scored(self) -> None:
        """LOCAL gave scores."""
        self._scores += 1

    def failed(self, before: Trust, after: Trust) -> None:
        """LOCAL's trust changed: an engine that failed is counted; that one which only starts gives none is not."""
        if after.failed_at_ns not in (None, before.failed_at_ns):
            self._failures += before.golden

    @property
    def down(self) -> Reason | None:
        """Why the bundle in charge cannot serve at this moment; None where it can."""
        engine = self.current.engine
        if engine is None:
            return Reason.NO_BUNDLE
        return None if engine.ready else Reason.ENGINE_NOT_READY

    # --- which bundle is in charge

    def take(self, wanted: TaskSettings) -> None:
        """From now on this is wanted."""
        self._wanted = wanted

    def settle(self, now_ns: int, safe: Callable[[], bool]) -> list[Message]:
        """Go a step towards what is wanted; nothing where that is how it is.

        ``safe`` says whether a takeover by the candidate that is there would take nothing from a bed.
        """
        wanted = self._wanted
        told: list[Message] = []
        if wanted.sha256 != self.current.sha256:
            if not wanted.sha256:
                told = self._return(self._nothing, now_ns)
            elif self.before is not None and self.before.sha256 == wanted.sha256:
                told = self._return(self.before, now_ns)
            else:
                candidate = self._rehearse(wanted.bundle, wanted.sha256)
                if candidate is not None and candidate.ready and (wanted.at_once or safe()):
                    told = self._promote(candidate, now_ns)
        elif wanted.shadow_sha256 and wanted.shadow_sha256 != self.current.sha256:
            self._rehearse(wanted.shadow, wanted.shadow_sha256)
        else:
            self._end_candidate()
        return told

    def rehearsed(self, act: Callable[[C], None]) -> None:
        """Let the candidate do something: whatever that raises, the beds keep the process that scores them."""
        if self.candidate is not None:
            try:
                act(self.candidate)
            except Exception:  # noqa: BLE001
                self.candidate.broke()

    def close(self) -> None:
        """Stop the engines that are not in charge."""
        self._end_candidate()
        if self.before is not None and self.before.engine is not None:
            self.before.engine.stop()

    def _rehearse(self, name: str, sha256: str) -> C | None:
        if self.candidate is None or self.candidate.sha256 != sha256:
            self._end_candidate()
            if self._make is not None:
                with contextlib.suppress(RuntimeError):  # the system gives no thread now: later perhaps
                    self.candidate = self._make(name, sha256)
        return self.candidate

    def _promote(self, candidate: C, now_ns: int) -> list[Message]:
        """Put the candidate in charge; nothing where its engine is being asked: the next turn is soon."""
        model, old, older = candidate.warm.model, self.current, self.before
        if model is None or not candidate.warm.release():
            return []
        self.candidate = None
        # At once means that nothing may be gone back to: the one before is refused.
        self.current, self.before = model, None if self._wanted.at_once or old.engine is None else old
        if older is not None:
            _stop_behind(older.engine)
        if model.engine is not None:
            take_charge(model.engine)
        if old.engine is not None:
            old.engine.stand_by(False)
            if self.before is None:
                _stop_behind(old.engine)
        self._begin(now_ns)
        return self._hands.took_over(candidate, old, now_ns)

    def _return(self, model: Model[P], now_ns: int) -> list[Message]:
        """Put the bundle before in charge again, and stop the one that was."""
        self._end_candidate()
        gone, self.current, self.before = self.current, model, None
        if model.engine is not None:
            model.engine.stand_by(True)
        self._begin(now_ns)
        told = self._hands.went_back(now_ns)
        _stop_behind(gone.engine)
        return told

    def _begin(self, now_ns: int) -> None:
        self._scores = self._failures = 0
        self._served, self._took_ns = False, now_ns

    def _end_candidate(self) -> None:
        if self.candidate is not None:
            self.candidate.warm.stop()
            self.candidate = None

    # --- what is said

    def serving(self, task: str, now_ns: int, *, serves: bool, safe: bool) -> list[Message]:
        """Which bundle is in charge and how the candidate does: each second, and at once when that changes."""
        self._served |= serves
        shadow = self.candidate.facts() if self.candidate is not None else None
        state = (self._wanted.turn, self.current.sha256, serves, safe, shadow and (shadow["running"], shadow["code"]))
        if state == self._told and now_ns < self._tell_ns:
            return []
        self._told, self._tell_ns = state, now_ns + SERVING_EVERY_NS
        data = {
            "task": task,
            "turn": self._wanted.turn,
            "version": self.current.version,
            "sha256": self.current.sha256,
            "scores": self._scores,
            "failures": self._failures,
            "served": self._served,
            "down": self._served and not serves,
            "since_ms": None if self._took_ns is None else (now_ns - self._took_ns) // NS_PER_MS,
            "safe": safe,
            "shadow": shadow,
        }
        return [(SERVING, data)]


def _stop_behind(engine: EngineHost | None) -> None:
    """Stop an engine without waiting for its end."""
    if engine is not None:
        try:
            threading.Thread(target=engine.stop, name="stop", daemon=True).start()
        except RuntimeError:  # the system gives no thread now
            engine.stop()
