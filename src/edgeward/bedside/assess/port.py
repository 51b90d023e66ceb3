"""The port to a task: what a model family of numerics offers, so that the assessment can run it.

A *plan* is read from a bundle's manifest. It begins a *stay state* per patient, which takes numerics and cuts the
window that the model sees; and it reads scores into a finding. All of it is pure and knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from edgeward.bedside.feed import Admitted
    from edgeward.bedside.priority import Priority
    from edgeward.bedside.verdict import Reason
    from edgeward.signal.numeric import Kind, Numeric
    from edgeward.wire.entries import Driver

    Array = npt.NDArray[np.float32]


class Level(StrEnum):
    """What a probability asks of people: nothing, a closer look, somebody to act."""

    NONE = "none"
    WATCH = "watch"
    ACT = "act"


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the model sees: ``inputs`` name → float32 with a batch axis of 1.

    ``missing_share`` and ``stale_share``: of the model's inputs, those never measured and those too old to trust.
    """

    inputs: Mapping[str, Array]
    missing_share: float = 0.0
    stale_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """The course of one kind over the next ``minutes``: 10th, 50th and 90th percentile, in the kind's unit."""

    kind: Kind
    minutes: tuple[int, ...]
    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What scores mean for this stay: a calibrated probability, its level, what drives it, where vitals are going."""

    probability: float
    level: Level
    drivers: tuple[Driver, ...] = ()
    forecasts: tuple[Forecast, ...] = ()


@dataclass(frozen=True, slots=True)
class Wording:
    """How the task's advisory is called, and how hard it is to raise and to clear.

    Raised when the level was ACT ``raise_after`` times in a row, cleared after ``clear_after`` times below WATCH.
    """

    code: str
    text: str
    priority: Priority
    raise_after: int = 2
    clear_after: int = 20


class StayState(Protocol):
    """One stay as one model sees it."""

    def take(self, numeric: Numeric) -> None:
        """Take one numeric; cost independent of the stay's length. Never raises for a value of a known kind."""
        ...

    def window(self, now_ns: int) -> Window | Reason:
        """What the model would see now, or why it must not be asked (too little, stale)."""
        ...

    def memory(self) -> Any:
        """Everything it keeps, as a compact JSON value."""
        ...


class Plan(Protocol):
    """A bundle of numerics, ready to be run."""

    @property
    def task(self) -> str:
        """The manifest's task."""
        ...

    @property
    def wording(self) -> Wording:
        """The task's advisory."""
        ...

    @property
    def period_ns(self) -> int:
        """From one score of a stay to the next."""
        ...

    @property
    def ttl_ns(self) -> int:
        """How old a score may be and still be shown."""
        ...

    @property
    def deadline_ms(self) -> float:
        """How long the engine may take."""
        ...

    @property
    def levels(self) -> tuple[float, float]:
        """The probabilities from which the level is WATCH and ACT."""
        ...

    def sees_as(self, other: Plan) -> bool:
        """Whether both cut the same windows, so that one stay state serves both bundles."""
        ...

    def fits(self, admitted: Admitted) -> Reason | None:
        """Why the model must not judge such a patient (population); None: it may."""
        ...

    def begin(self, admitted: Admitted, memory: Any = None) -> StayState:
        """A stay state; ``memory`` as one gave it before. ``InputError`` where the memory cannot be read."""
        ...

    def read(self, scores: Array, window: Window) -> Finding:
        """What ``scores`` (n,) say. ``EngineError`` for scores that cannot be of this model."""
        ...
