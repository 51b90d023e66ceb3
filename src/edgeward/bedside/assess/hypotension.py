"""Hypotension at the bedside: when the question is asked, how scores are read, which forecasts may be shown.

``HypotensionPlan`` is the port's plan (``assess.port``); what it rests on are pure functions around
``signal.vitals_grid.Grid``::

    why = too_little(grid, now_ns)                   # Withheld, with the reason
    scores = engine.infer(grid.window(now_ns))       # (181,)
    reading = read(scores, plan)                     # log odds; forecasts by vital
    shown = measured(grid, now_ns, plan.layout)      # the vitals whose forecasts may be shown, and their kinds
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.bedside.assess.port import Finding, Forecast, Level, Window, Wording
from edgeward.bedside.feed import Population
from edgeward.bedside.priority import Priority
from edgeward.bedside.verdict import Reason
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import BundleError, EngineError
from edgeward.signal.hypotension import LOW_PRESSURE, why_not_asked
from edgeward.signal.hypotension import TASK as QUESTION
from edgeward.signal.vitals_grid import CHANNELS, VITALS, Grid, VitalsGridSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.assess.port import Array
    from edgeward.bedside.assess.port import Plan as AnyPlan
    from edgeward.bedside.feed import Admitted
    from edgeward.bundle.manifest import Manifest
    from edgeward.signal.numeric import Kind, Numeric

TASK = "hypotension"
PERIOD_NS = 15 * NS_PER_S
TTL_NS = 4 * PERIOD_NS
FORECAST_FRESH_S = 3600.0
"""A vital without a value for longer is not forecast."""
_FRESH = tuple(CHANNELS.index(f"{vital.name}_fresh") for vital in VITALS)
_STALE_BELOW = math.exp(-1.0)
"""Freshness of a value an hour old."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The axes of the forecast within the scores, slowest first, and the vitals whose forecasts are shown.

    ``shown``: those that were nearer than the last value when the bundle was made.
    """

    quantiles: tuple[float, ...]
    minutes: tuple[int, ...]
    vitals: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def scores(self) -> int:
        """Length of the scores: the forecast's values, then the event's log odds."""
        return len(self.quantiles) * len(self.minutes) * len(self.vitals) + 1


@dataclass(frozen=True, slots=True)
class Course:
    """One vital's next hour in canonical units: percentiles 10, 50 and 90 at ``minutes`` ahead."""

    minutes: tuple[int, ...]
    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What scores say of one instant.

    ``odds``: log odds that sustained hypotension begins 30 to 60 min from now, calibrated where that is asked;
    ``probability``: the same; ``courses``: the forecast of each vital.
    """

    odds: float
    probability: float
    courses: Mapping[str, Course]


@dataclass(frozen=True, slots=True, eq=False)
class VitalsWindow(Window):
    """A window that knows which forecasts may be shown, and the kinds that their values came from."""

    shown: Mapping[str, Kind] = field(default_factory=dict)


def too_little(grid: Grid, now_ns: int) -> str | None:
    """Why the question is not asked at ``now_ns``: a reason of ``signal.hypotension``; None where it is asked."""
    span = max(QUESTION.past, QUESTION.clear) + 1
    pressure = grid.pressure_minutes(now_ns, span)[::-1]
    minute = np.flatnonzero(~np.isnan(pressure))
    return why_not_asked(span - 1, minute.astype(np.int64), pressure[minute])


def read(scores: npt.NDArray[np.floating], layout: Layout) -> Reading:
    """Scores (``layout.scores``,) as log odds and forecasts.

    Raises ``EngineError`` (``bad-output``) for another shape or what is not finite.
    """
    if scores.shape != (layout.scores,) or not np.isfinite(scores).all():
        raise EngineError("bad-output", "the scores are not those of a hypotension model; fall back")
    odds = float(scores[-1])
    table = scores[:-1].reshape(len(layout.quantiles), len(layout.minutes), len(layout.vitals)).astype(np.float64)
    scales = {vital.name: vital for vital in VITALS}
    courses = {}
    for column, name in enumerate(layout.vitals):
        low, mid, high = (scales[name].mean + scales[name].spread * table[:, :, column]).tolist()
        courses[name] = Course(layout.minutes, tuple(low), tuple(mid), tuple(high))
    return Reading(odds, _probability(odds), courses)


def _probability(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(odds, -700.0)))


def measured(grid: Grid, now_ns: int, layout: Layout) -> dict[str, Kind]:
    """The vitals whose forecasts may be shown at ``now_ns``, each with the kind that its values came from."""
    newest = grid.newest(now_ns)
    return {name: newest[name][0] for name in layout.shown if newest[name][1] <= FORECAST_FRESH_S}


class HypotensionStay:
    """One stay's vital signs; see ``assess.port.StayState``."""

    def __init__(self, layout: Layout, grid: Grid) -> None:
        self.grid = grid
        self._layout = layout

    def take(self, numeric: Numeric) -> None:
        """Take one numeric."""
        self.grid.update(numeric)

    def window(self, now_ns: int) -> VitalsWindow | Reason:
        """The model's inputs, or why it is not asked."""
        why = too_little(self.grid, now_ns)
        if why is not None:
            return Reason.LOW_PRESSURE if why == LOW_PRESSURE else self._missing(now_ns)
        inputs = self.grid.window(now_ns)
        fresh = inputs["grid"][-1, _FRESH]
        return VitalsWindow(
            {name: array[np.newaxis] for name, array in inputs.items()},
            missing_share=float((fresh == 0).mean()),
            stale_share=float(((fresh > 0) & (fresh < _STALE_BELOW)).mean()),
            shown=measured(self.grid, now_ns, self._layout),
        )

    def _missing(self, now_ns: int) -> Reason:
        """An arterial line that fell silent is a fault for an hour; from then on, as where there is none, it is not."""
        minutes = ~np.isnan(self.grid.pressure_minutes(now_ns, QUESTION.past + 1))  # newest first
        lost = minutes.any() and not minutes[: QUESTION.gap + 1].any()
        return Reason.STALE if lost else Reason.TOO_LITTLE

    def memory(self) -> Any:
        """Everything kept, as plain JSON values."""
        return self.grid.to_memory()


@dataclass(frozen=True, slots=True)
class HypotensionPlan:
    """How to ask a hypotension bundle and read its scores; see ``assess.port.Plan``.

    ``act``, ``watch``: log odds from which the level is such; an advisory stands ``hold_min`` minutes or longer.
    """

    spec: VitalsGridSpec
    layout: Layout
    act: float
    watch: float
    hold_min: int
    deadline_ms: float
    task: str = TASK
    period_ns: int = PERIOD_NS
    ttl_ns: int = TTL_NS

    @property
    def wording(self) -> Wording:
        """The advisory: two scores to raise it, an hour below ``watch`` to clear it."""
        hold = self.hold_min * 60 * NS_PER_S // self.period_ns
        text = "Low blood pressure likely within 30 to 60 min"
        return Wording("hypotension-ahead", text, Priority.MEDIUM, raise_after=2, clear_after=hold)

    @property
    def levels(self) -> tuple[float, float]:
        """The probabilities from which the level is WATCH and ACT."""
        return _probability(self.watch), _probability(self.act)

    def sees_as(self, other: AnyPlan) -> bool:
        """Whether both cut the same windows."""
        return isinstance(other, HypotensionPlan) and (other.spec, other.layout) == (self.spec, self.layout)

    def fits(self, admitted: Admitted) -> Reason | None:
        """Adults only."""
        return None if admitted.population is Population.ADULT else Reason.POPULATION

    def begin(self, admitted: Admitted, memory: Any = None) -> HypotensionStay:
        """A stay's state; ``InputError`` (``history-memory``) where the memory cannot be read."""
        grid = Grid(admitted.age_y) if memory is None else Grid.from_memory(memory)
        return HypotensionStay(self.layout, grid)

    def read(self, scores: Array, window: Window) -> Finding:
        """Probability, level, and the forecasts of what was lately measured; ``EngineError`` as ``read``."""
        reading = read(scores, self.layout)
        shown = window.shown if isinstance(window, VitalsWindow) else {}
        level = Level.ACT if reading.odds >= self.act else Level.WATCH if reading.odds >= self.watch else Level.NONE
        courses = [(kind, reading.courses[name]) for name, kind in shown.items()]
        told = (Forecast(kind, course.minutes, course.low, course.mid, course.high) for kind, course in courses)
        return Finding(reading.probability, level, forecasts=tuple(told))


def plan_of(manifest: Manifest) -> HypotensionPlan:
    """The plan of a hypotension bundle.

    Raises ``BundleError``: ``task-mismatch``, ``window-mismatch`` (inputs, outputs and layout do not fit each other),
    ``decision-malformed``, and as ``VitalsGridSpec.from_params``.
    """
    if manifest.task != TASK:
        raise BundleError("task-mismatch", f"this reads bundles for the task {TASK!r}; publish one for it")
    spec = VitalsGridSpec.from_params(manifest.preprocessing_params)
    plan = _decided(spec, manifest.decision, manifest.deadline_ms)
    inputs = {tensor.name: (tensor.shape, tensor.missing) for tensor in manifest.inputs}
    wanted = {
        "grid": ((-1, spec.steps, len(spec.channels)), False),
        "features": ((-1, len(spec.features)), True),
    }
    outputs = {tensor.name: tensor.shape for tensor in manifest.outputs}
    if inputs != wanted or outputs != {"scores": (-1, plan.layout.scores)}:
        raise BundleError(
            "window-mismatch", "the model's inputs or scores are not what its manifest says; build it again"
        )
    return plan


def _decided(spec: VitalsGridSpec, decision: Mapping[str, Any], deadline_ms: float) -> HypotensionPlan:
    try:
        axes = decision["layout"]
        layout = Layout(
            quantiles=tuple(float(q) for q in axes["quantiles"]),
            minutes=tuple(int(m) for m in axes["minutes"]),
            vitals=tuple(str(v) for v in axes["vitals"]),
            shown=tuple(str(v) for v in decision["shown"]),
        )
        act, watch, hold_min = float(decision["act"]), float(decision["watch"]), int(decision["hold_min"])
    except (KeyError, TypeError, ValueError) as error:
        raise _undecided() from error
    known = {vital.name for vital in VITALS}
    holds = (
        len(layout.quantiles) == 3
        and 0 < layout.quantiles[0] < layout.quantiles[1] < layout.quantiles[2] < 1
        and 0 < len(layout.minutes) <= 60
        and all(minute > 0 for minute in layout.minutes)
        and 0 < len(layout.vitals) == len(set(layout.vitals))
        and set(layout.vitals) <= known
        and set(layout.shown) <= set(layout.vitals)
        and math.isfinite(act)
        and math.isfinite(watch)
        and watch <= act
        and hold_min > 0
    )
    if not holds:
        raise _undecided()
    return HypotensionPlan(spec, layout, act, watch, hold_min, deadline_ms)


def _undecided() -> BundleError:
    return BundleError("decision-malformed", "the manifest's decision cannot be read; build the bundle again")
