"""``hypotension`` on the line: what its bundle and its card say, its decision and its made-up windows."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeward.bundle.manifest import BATCH, TensorSpec
from edgeward.kernel.errors import ConfigError
from edgeward.signal.vitals_grid import CELL_MIN, VitalsGridSpec
from edgeward.workshop.golden_stay import golden_stays
from edgeward.workshop.hypotension_alerts import HOLD_MIN
from edgeward.workshop.hypotension_data import FORECAST, HORIZONS
from edgeward.workshop.models.hypotension import QUANTILES
from edgeward.workshop.task import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.workshop.scorer import FloatArray

CINC2012 = Source(
    "PhysioNet/Computing in Cardiology Challenge 2012, set a",
    "ODC-By-1.0",
    "Silva I, Moody G, Scott DJ, Celi LA, Mark RG. Predicting in-hospital mortality of ICU patients: the "
    "PhysioNet/Computing in Cardiology Challenge 2012. Computing in Cardiology 39:245-248, 2012.",
    "https://physionet.org/content/challenge-2012/1.0.0/",
)
LAYOUT: Mapping[str, Any] = MappingProxyType(
    {
        "quantiles": list(QUANTILES),
        "minutes": [CELL_MIN * (step + 1) for step in range(HORIZONS)],
        "vitals": list(FORECAST),
    }
)
"""The axes of the forecast within ``scores``, slowest first; the log odds stand behind it."""
SCORES = len(QUANTILES) * HORIZONS * len(FORECAST) + 1
DEADLINE_MS = 50.0
"""A stay is scored every 15 s, and a device has 64 beds: 64 × 50 ms fit four times."""


class HypotensionTask:
    """``BundleTask`` of the forecaster of vital signs and of sustained hypotension."""

    name = "hypotension"
    task = "hypotension"
    classes: tuple[str, ...] = ("hypotension",)
    preprocessing = "vitals-grid-1"
    deadline_ms = DEADLINE_MS
    sources: tuple[Source, ...] = (CINC2012,)
    intended_use = (
        "For adult patients of an intensive care unit: forecasts respiration and blood pressure over the next hour "
        "(10th, 50th, 90th percentile; only vitals whose forecast lay nearer than the last value), and, where an "
        "arterial line gives pressures densely and none below 65 mmHg in the hour before, tells the probability that a "
        "mean pressure below 65 mmHg for 10 minutes or more begins 30 to 60 minutes later. Beside a monitor whose own "
        "limits stay in force. Research and demonstration."
    )
    limits: tuple[str, ...] = (
        (
            "Learned from values that nurses charted, a quarter of an hour to an hour apart, in one hospital in "
            "2001-2008; no open data hold finer vital signs of many patients. What it is worth on values each second "
            "is not known."
        ),
        "Patients are charted densely when somebody worries: the figures are of such hours, not of all hours.",
        "Medicines are not among its inputs: it does not know that a vasopressor was just changed.",
        "No SpO2: the data hold two blood-gas saturations per stay and no pulse oximeter's, so that none is forecast.",
        "Most advisories are false and most episodes are not called at a bearable burden: see the figures.",
        "Adults in intensive care only; not for theatres, children or pregnancy.",
    )
    baseline = (
        "The last mean arterial pressure, and the line through the last hour's, 45 minutes on, rank the same decision "
        "points; the forecasts stand beside the last value and the last hour's line. See the figures above."
    )

    def __init__(self) -> None:
        spec = VitalsGridSpec()
        self.inputs: tuple[TensorSpec, ...] = (
            TensorSpec("grid", (BATCH, spec.steps, len(spec.channels)), meaning="vital signs in cells of five minutes"),
            TensorSpec(
                "features", (BATCH, len(spec.features)), meaning="as preprocessing_params names them", missing=True
            ),
        )
        self.outputs: tuple[TensorSpec, ...] = (
            TensorSpec(
                "scores",
                (BATCH, SCORES),
                meaning="quantiles × minutes × vitals in standard units, as decision.layout names them, then log odds",
            ),
        )
        self.feature_names: tuple[str, ...] = tuple(spec.channels)
        self.preprocessing_params: Mapping[str, Any] = spec.to_params()

    def decision(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """``act`` and ``watch`` (log odds), ``shown`` (vitals whose forecasts are shown), ``hold_min``, ``layout``.

        Raises ``ConfigError`` (``decision-malformed``).
        """
        act, watch, shown = (figures.get(name) for name in ("act", "watch", "shown"))
        if (
            set(figures) != {"act", "watch", "shown"}
            or not all(isinstance(x, int | float) and math.isfinite(x) for x in (act, watch))
            or not isinstance(shown, list)
            or not set(shown) <= set(FORECAST)
        ):
            raise ConfigError(
                "decision-malformed",
                f"the decision must be act and watch (log odds), and shown, some of {list(FORECAST)}",
            )
        return {
            "act": float(figures["act"]),
            "watch": min(float(figures["watch"]), float(figures["act"])),
            "shown": list(shown),
            "hold_min": HOLD_MIN,
            "layout": dict(LAYOUT),
        }

    def synthetic(self, count: int, seed: int) -> dict[str, FloatArray]:
        """Instants of made-up stays, through the same grid as a patient's."""
        return golden_stays(count, seed)


TASK = HypotensionTask()


class SimulatedHypotensionTask(HypotensionTask):
    """The same made from simulated patients, to try the road at a monitor's pace. Never for a patient.

    Another name, so that no device that asks for ``hypotension`` can be given it.
    """

    name = "hypotension-simulated"
    sources = (
        Source(
            "Simulated patients of Edgeward (edgeward simulate stays)",
            "Apache-2.0",
            "Made up: courses of vital signs as their makers drew them.",
            "docs/hypotension.md",
        ),
    )
    intended_use = "SIMULATED. For trying the road from a monitor to an advisory without patients. Never for a patient."
    limits = ("Its patients are made up: their pressures fall as they were drawn, and nothing here holds for people.",)
    baseline = "The last mean arterial pressure, on simulated patients."


SIMULATED_TASK = SimulatedHypotensionTask()
