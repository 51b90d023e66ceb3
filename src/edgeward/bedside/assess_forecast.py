"""What a hypotension bundle means to a stay: when it is asked, and how its scores are read.

Pure functions around ``signal.vitals_grid.Grid``. For one stay, every 15 s::

    why = too_little(grid, now_ns)                   # Withheld, with the reason
    scores = engine.infer(grid.window(now_ns))       # (181,)
    reading = read(scores, plan)                     # probability; forecasts by vital
    shown = measured(grid, now_ns, plan)             # the vitals whose forecasts may be shown, and their kinds

Forecasts stand on their own: where the question of hypotension is not asked (no arterial line, pressure already low),
the vitals that were measured within the hour are forecast all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.kernel.errors import BundleError
from edgeward.signal.hypotension import TASK as QUESTION
from edgeward.signal.hypotension import why_not_asked
from edgeward.signal.vitals_grid import VITALS, VitalsGridSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bundle.manifest import Manifest
    from edgeward.signal.numeric import Kind
    from edgeward.signal.vitals_grid import Grid

TASK = "hypotension"
FORECAST_FRESH_S = 3600.0
"""A vital without a value for longer is not forecast."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to ask a hypotension bundle and read its scores.

    ``quantiles``, ``minutes``, ``vitals``: the axes of the forecast, in this order; ``shown``: the vitals whose
    forecasts beat the last value when the bundle was made; ``threshold``: log odds from which an advisory is raised,
    to stand for ``hold_min`` minutes.
    """

    spec: VitalsGridSpec
    quantiles: tuple[float, ...]
    minutes: tuple[int, ...]
    vitals: tuple[str, ...]
    shown: tuple[str, ...]
    threshold: float
    hold_min: int
    deadline_ms: float

    @property
    def scores(self) -> int:
        """Length of the scores: the forecast's values, then the log odds."""
        return len(self.quantiles) * len(self.minutes) * len(self.vitals) + 1


@dataclass(frozen=True, slots=True)
class Forecast:
    """One vital's next hour in canonical units: percentiles 10, 50 and 90 at ``minutes`` ahead."""

    minutes: tuple[int, ...]
    low: tuple[float, ...]
    mid: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the scores say of one instant.

    ``probability`` that sustained hypotension begins 30 to 60 min from now, calibrated where that is asked; ``over``:
    it reaches the bundle's threshold; ``forecasts`` by vital.
    """

    probability: float
    over: bool
    forecasts: Mapping[str, Forecast]


def plan_of(manifest: Manifest) -> Plan:
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
    if inputs != wanted or outputs != {"scores": (-1, plan.scores)}:
        raise BundleError(
            "window-mismatch", "the model's inputs or scores are not what its manifest says; build it again"
        )
    return plan


def _decided(spec: VitalsGridSpec, decision: Mapping[str, Any], deadline_ms: float) -> Plan:
    try:
        layout = decision["layout"]
        plan = Plan(
            spec=spec,
            quantiles=tuple(float(q) for q in layout["quantiles"]),
            minutes=tuple(int(m) for m in layout["minutes"]),
            vitals=tuple(str(v) for v in layout["vitals"]),
            shown=tuple(str(v) for v in decision["shown"]),
            threshold=float(decision["threshold"]),
            hold_min=int(decision["hold_min"]),
            deadline_ms=deadline_ms,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _undecided() from error
    known = {vital.name for vital in VITALS}
    holds = (
        len(plan.quantiles) == 3
        and 0 < plan.quantiles[0] < plan.quantiles[1] < plan.quantiles[2] < 1
        and 0 < len(plan.minutes) <= 60
        and all(minute > 0 for minute in plan.minutes)
        and 0 < len(plan.vitals) == len(set(plan.vitals))
        and set(plan.vitals) <= known
        and set(plan.shown) <= set(plan.vitals)
        and math.isfinite(plan.threshold)
        and plan.hold_min > 0
    )
    if not holds:
        raise _undecided()
    return plan


def _undecided() -> BundleError:
    return BundleError("decision-malformed", "the manifest's decision cannot be read; build the bundle again")


def too_little(grid: Grid, now_ns: int) -> str | None:
    """Why the question is not asked at ``now_ns``: a reason of ``signal.hypotension``; None where it is asked."""
    span = max(QUESTION.past, QUESTION.clear) + 1
    pressure = grid.pressure_minutes(now_ns, span)[::-1]
    minute = np.flatnonzero(~np.isnan(pressure))
    return why_not_asked(span - 1, minute.astype(np.int64), pressure[minute])


def read(scores: npt.NDArray[np.floating], plan: Plan) -> Reading:
    """Scores (``plan.scores``,) as a probability and forecasts.

    Raises ``ValueError`` for another shape or what is not finite.
    """
    if scores.shape != (plan.scores,) or not np.isfinite(scores).all():
        raise ValueError("scores of another shape, or not finite")
    odds = float(scores[-1])
    table = scores[:-1].reshape(len(plan.quantiles), len(plan.minutes), len(plan.vitals)).astype(np.float64)
    scales = {vital.name: vital for vital in VITALS}
    forecasts = {}
    for column, name in enumerate(plan.vitals):
        low, mid, high = (scales[name].mean + scales[name].spread * table[:, :, column]).tolist()
        forecasts[name] = Forecast(plan.minutes, tuple(low), tuple(mid), tuple(high))
    return Reading(1.0 / (1.0 + math.exp(-odds)), odds >= plan.threshold, forecasts)


def measured(grid: Grid, now_ns: int, plan: Plan) -> dict[str, Kind]:
    """The vitals whose forecasts may be shown at ``now_ns``, each with the kind that its values came from."""
    newest = grid.newest(now_ns)
    return {name: newest[name][0] for name in plan.shown if newest[name][1] <= FORECAST_FRESH_S}
