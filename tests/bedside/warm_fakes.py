"""Engines of the toy without a process, for tests of shadows and takeovers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.assess.model import Model
from edgeward.bedside.charge.warm import Answer
from edgeward.bedside.feed import Measured
from edgeward.inference.host import Failure, HostState, Readiness, Result
from edgeward.signal.numeric import Kind, Numeric
from edgeward.testing.assess import ToyPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.kernel.errors import EdgewardError

MS = 1_000_000


class OtherSight(ToyPlan):
    """Cuts windows of its own."""

    def sees_as(self, other: Any) -> bool:
        return isinstance(other, OtherSight)


@dataclass
class FakeWarm:
    """A warm engine that answers when the test says so."""

    model: Model | None = field(default_factory=lambda: Model(ToyPlan(), "b" * 64, "2"))
    ready: bool = True
    error: str = ""
    memory_kib: int = 9
    in_class: bool = True
    score: float | None = 0.2
    infer_ns: int = MS
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    waiting: bool = False
    stopped: bool = False

    @property
    def idle(self) -> bool:
        return self.ready and not self.waiting

    def ask(self, inputs: Mapping[str, Any]) -> None:
        assert self.idle
        self.asked.append(inputs)
        self.waiting = True

    def answer(self) -> Answer | None:
        if not self.waiting:
            return None
        self.waiting = False
        return Answer(None if self.score is None else np.array([self.score], np.float32), self.infer_ns)

    def release(self) -> bool:
        return self.ready and not self.waiting

    def stop(self) -> None:
        self.stopped = True


def hr(stay: int, rate: float, at_ns: int = 0) -> Measured:
    return Measured(stay, (Numeric(Kind.HR, rate, at_ns),))


@dataclass
class FakeEngine:
    """An engine of the toy that gives ``score``; None: it crashes, and its standby serves at once."""

    score: float | None
    standby: bool = True
    stopped: bool = False
    worker_pid: int | None = None
    standby_pid: int | None = None
    start_error: EdgewardError | None = None
    seen: list[float] = field(default_factory=list)

    def infer(self, inputs: Mapping[str, Any], *, budget_s: float) -> Result:
        assert not self.stopped
        self.seen.append(float(inputs["features"][0, 0]))
        if self.score is None:
            return Result(None, Failure.CRASHED, 1)
        return Result(np.array([self.score], np.float32), None, 1)

    @property
    def state(self) -> HostState:
        return HostState(Readiness.READY, 0, self.standby, None)

    def check(self) -> Failure | None:
        return None

    @property
    def ready(self) -> bool:
        return True

    def stand_by(self, wanted: bool) -> None:
        self.standby = wanted

    def stop(self) -> None:
        self.stopped = True
