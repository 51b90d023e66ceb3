"""The bundles of an ECG bed's stream, from one source to the next: which is in charge, and what a takeover means to it.

Whoever updates says what shall be (``orders``): the ward over standard input, or a single device's own updater. While a
bed is watched, its own thread brings it there, between two blocks; while no source is there, another thread does. A
takeover exchanges engines and the way windows are cut. The stream goes on, with its heart rate, its advisories and its
threshold alerts; the ladder is not climbed by it (``fallback.promoted``).
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.bedside.bed import Rung
from edgeward.bedside.bed_candidate import BedCandidate
from edgeward.bedside.charge.charge import REFUSED, Charge
from edgeward.bedside.charge.model import Model, read_model
from edgeward.bedside.charge.warm import WarmEngine
from edgeward.bedside.fallback import Ladder, Mode, RungFailed, promoted, returned, transition
from edgeward.bedside.model import NO_PLAN, Plan, plan_of
from edgeward.bedside.verdict import Reason
from edgeward.inference.host import EngineHost
from edgeward.kernel.errors import BundleError, EdgewardError
from edgeward.kernel.limits import ENGINE_LOOK_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from edgeward.bedside.bed import Bed
    from edgeward.bedside.charge.warm import Warm
    from edgeward.bedside.effects import ScoreWindow, SeenBeside
    from edgeward.bedside.fallback import Climb, Trust
    from edgeward.bedside.feed import Message, TaskSettings
    from edgeward.kernel.clock import Clock

NOTHING = Model(NO_PLAN)
"""No bundle."""


@dataclass(frozen=True, slots=True)
class Started:
    """The engines that a stream starts with; ``why`` says why none serves yet, ``refused`` that the bundle is to blame.

    An engine that could not start for the device's fault is there all the same, and is tried again.
    """

    current: Model[Plan] = NOTHING
    before: Model[Plan] | None = None
    why: str = "no-bundle"
    refused: bool = False


def start(told: TaskSettings, threads: int) -> Started:
    """Start the engine of the bundle that is told, and wait for it; that of the one before where it sees the same.

    Never raises for a bundle or an engine: only what the bundle is to blame for (malformed, foreign, golden vectors
    failed) counts as refused, since a device out of memory or processes today may run it tomorrow.
    """
    if not told.bundle:
        return Started()
    engine = EngineHost(Path(told.bundle), threads=threads)
    current = replace(NOTHING, sha256=told.sha256)
    try:
        current = replace(_read(told.bundle, told.sha256), engine=engine)
        engine.start()
    except (EdgewardError, OSError) as error:
        code = error.code if isinstance(error, EdgewardError) else "bundle-unreadable"
        refused = _is_to_blame(error)
        if not refused:
            with contextlib.suppress(EdgewardError):
                engine.start(wait=False)
                return Started(current, None, code)
        return Started(replace(current, plan=NO_PLAN, engine=None), None, code, refused)
    before = None
    if told.previous:
        with contextlib.suppress(EdgewardError, OSError):
            older = _read(told.previous, told.previous_sha256)
            if older.plan.sees_as(current.plan):
                engine = EngineHost(Path(told.previous), threads=threads, standby=False)
                engine.start()
                before = replace(older, engine=engine)
    return Started(current, before, "")


class BedCharge:
    """See the module. ``orders``: what shall be, once; ``tell``: what is said of it, from whichever thread turns it.

    ``swapped`` is called after a takeover, for whoever shows the bundle's name. ``warm``: starts an engine beside the
    one in charge. ``at_work`` ends every engine.
    """

    def __init__(
        self,
        told: TaskSettings,
        started: Started,
        orders: Callable[[], TaskSettings | None],
        tell: Callable[[str, dict[str, Any]], None],
        clock: Clock,
        climb: Climb,
        *,
        threads: int = 1,
        warm: Callable[[str, str], Warm[Plan]] | None = None,
    ) -> None:
        self.task = told.task
        self._orders, self._tell, self._clock = orders, tell, clock
        self._lock = threading.RLock()
        self._bed: Bed | None = None
        self.swapped: Callable[[], None] = lambda: None
        self._refused = started.current.sha256 if started.refused else ""
        if started.refused:
            self._refuse(started.why)

        def started_behind(name: str, sha256: str) -> Warm[Plan]:
            return WarmEngine(lambda: _read(name, sha256), name, threads)

        make = warm or started_behind
        self.charge: Charge[Plan, BedCandidate] = Charge(
            started.current,
            started.before,
            told,
            self,
            lambda name, sha256: BedCandidate(sha256, make(name, sha256)),
            nothing=NOTHING,
        )
        self._ladder = Ladder.of(*self.rungs)
        if started.why:
            why = Reason.NO_BUNDLE if started.current.engine is None else Reason.ENGINE_NOT_READY
            self._ladder = transition(self._ladder, RungFailed(why), clock.monotonic_ns(), climb)

    @property
    def plan(self) -> Plan:
        """How the bundle in charge sees beats; without one they are found all the same."""
        return self.charge.current.plan

    @property
    def rungs(self) -> dict[Mode, Rung]:
        """The local rungs that exist here."""
        current, before = self.charge.current, self.charge.before
        rungs: dict[Mode, Rung] = {}
        if current.engine is not None:
            rungs[Mode.LOCAL] = Rung(current.engine, current.plan.decision)
        if before is not None and before.engine is not None and before.plan.sees_as(current.plan):
            rungs[Mode.LOCAL_PREVIOUS] = Rung(before.engine, before.plan.decision)
        return rungs

    # --- from one source to the next

    def warmed(self, warm_up: Callable[[Plan, dict[Mode, Rung]], None]) -> None:
        """Let ``warm_up`` ask the engines, while nobody else does."""
        with self._lock:
            warm_up(self.plan, self.rungs)

    @contextlib.contextmanager
    def beside(self, make: Callable[[Ladder], Bed]) -> Iterator[Bed]:
        """``make`` a bed with the ladder that its engines have earned; its bundles may change while the block runs."""
        with self._lock:
            bed = self._bed = make(self._ladder)
        try:
            yield bed
        finally:
            with self._lock:
                self._ladder, self._bed = bed.ladder, None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Go on while no source is there too."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(ENGINE_LOOK_MS / 1000.0):
                with self._lock:
                    if self._bed is None:
                        self._look()
                        self.turn()

        thread = threading.Thread(target=run, name="charge", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(1.0)
            with self._lock:
                if self.charge.current.engine is not None:
                    self.charge.current.engine.stop()
                self.charge.close()

    # --- from the thread that carries the bed (``bed.Charged``)

    def scored(self, request: ScoreWindow, scores: npt.NDArray[np.float32]) -> None:
        """LOCAL gave ``scores`` (5,) for a window."""
        self.charge.scored()
        plan = self.plan
        now_ns = self._clock.monotonic_ns()
        self.charge.rehearsed(
            lambda candidate: candidate.judged(request, plan.decision.classify(scores)[0], plan, now_ns)
        )

    def failed(self, before: Trust, after: Trust) -> None:
        """LOCAL failed: its trust was ``before`` and is ``after``."""
        self.charge.failed(before, after)

    def seen_beside(self, seen: SeenBeside) -> None:
        """A beat as the candidate sees it."""
        self.charge.rehearsed(lambda candidate: candidate.seen_beside(seen))

    def turn(self) -> None:
        """Everything of this moment is on its way: go a step towards what was ordered, and say where it stands."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            told = self._orders()
            if told is not None:
                self.charge.take(told)
            bed, before = self._bed, self.charge.before
            if before is not None and before.engine is not None and not before.plan.sees_as(self.plan):
                before.engine.check()  # it stands on no rung, and is gone back to all the same
            messages = self.charge.settle(now_ns, self._safe)
            self.charge.rehearsed(lambda candidate: candidate.afterwards(now_ns))
            if bed is not None:
                bed.see_as(self._seen_as())
            serving = (self._ladder if bed is None else bed.ladder).serving is Mode.LOCAL
            messages += self.charge.serving(self.task, now_ns, serves=serving, safe=self._safe())
        for kind, data in messages:
            self._tell(kind, data)
        self._see_refusal()

    # --- what a takeover means (``charge.Hands``)

    def took_over(self, candidate: BedCandidate, old: Model[Plan], now_ns: int) -> list[Message]:  # noqa: ARG002
        """The candidate is in charge of every beat that is not judged yet."""
        return self._adopt(promoted, now_ns)

    def went_back(self, now_ns: int) -> list[Message]:
        """The bundle before is in charge again, or none where there was none."""
        down = self.charge.down
        return self._adopt(lambda ladder, others, now_ns: returned(ladder, others, now_ns, down), now_ns)

    def _adopt(self, exchange: Callable[[Ladder, tuple[Mode, ...], int], Ladder], now_ns: int) -> list[Message]:
        rungs = self.rungs
        others = tuple(rung for rung in rungs if rung is not Mode.LOCAL)
        if self._bed is None:
            self._ladder = exchange(self._ladder, others, now_ns)
        else:
            self._bed.adopt(self.plan, rungs, lambda ladder: exchange(ladder, others, now_ns))
        self.swapped()
        return []

    def _safe(self) -> bool:
        """Whether the candidate could judge the next beat, and no run of beats is being judged."""
        candidate, bed = self.charge.candidate, self._bed
        plan = self.plan if candidate is None else candidate.plan or self.plan
        return bed is None or (bed.quiet and bed.knows(plan))

    def _seen_as(self) -> Plan | None:
        """Whose windows have to be cut beside those of the bundle in charge: the candidate's, or of the one before."""
        if self.charge.candidate is not None:
            return self.charge.candidate.plan
        return None if self.charge.before is None else self.charge.before.plan

    def _see_refusal(self) -> None:
        """An engine that could not be replaced, because its bundle is not what it should be, is told once."""
        current = self.charge.current
        error = None if current.engine is None else current.engine.start_error
        if error is not None and _is_to_blame(error) and self._refused != current.sha256:
            self._refused = current.sha256
            self._refuse(error.code)

    def _refuse(self, code: str) -> None:
        self._tell(REFUSED, {"task": self.task, "code": code, "sha256": self._refused})

    def _look(self) -> None:
        for model in (self.charge.current, self.charge.before):
            if model is not None and model.engine is not None:
                model.engine.check()


def _is_to_blame(error: Exception) -> bool:
    """Whether the bundle is, and not the device at this moment."""
    return isinstance(error, BundleError) or (isinstance(error, EdgewardError) and error.code == "golden-failed")


def _read(name: str, sha256: str) -> Model[Plan]:
    return read_model(plan_of, name, sha256)
