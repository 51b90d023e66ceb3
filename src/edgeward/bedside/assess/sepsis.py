"""Sepsis risk at the bedside: what the model is shown, when it may not be asked, how its scores are read.

``SepsisPlan`` is the port's plan (``assess.port``). Features and drivers are those of the bundle's own manifest; the
hours that a stay has lasted are held where the manifest says, because the training tables cannot tell of longer stays
(ADR 14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeward.bedside.assess.port import Finding, Level, Window, Wording
from edgeward.bedside.feed import Population
from edgeward.bedside.priority import Priority
from edgeward.bedside.verdict import Reason
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import BundleError, EngineError
from edgeward.signal.stay_channels import CHANNELS
from edgeward.signal.stay_features import AGE_H_MAX, NAME, NAMES, StayFeatures
from edgeward.signal.stay_labels import describe
from edgeward.wire.entries import Driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeward.bedside.assess.port import Array
    from edgeward.bedside.assess.port import Plan as AnyPlan
    from edgeward.bedside.feed import Admitted
    from edgeward.bundle.manifest import Manifest
    from edgeward.signal.numeric import Numeric

TASK = "sepsis-risk"
PERIOD_NS = 15 * NS_PER_S
TTL_NS = 4 * PERIOD_NS
DRIVERS = 3
CORE: tuple[frozenset[str], ...] = (
    frozenset({"hr"}),
    frozenset({"rr"}),
    frozenset({"spo2"}),
    frozenset({"sys", "map"}),
)
"""Vital signs without which a patient cannot be judged; a pressure is any of two."""
CORE_MIN = 3
"""So many of ``CORE`` must be fresh: a bed that has lost more is not watched well enough to be judged."""
_ABSENT_EFFECT = 1e-9
_WORDING = Wording("sepsis-risk", "Signs of sepsis within 12 h: look again", Priority.MEDIUM)
_POSITION = {channel.name: index for index, channel in enumerate(CHANNELS)}
_FRESH_S = np.array([channel.fresh_s for channel in CHANNELS])
_STANDS_S = np.array([channel.stands_s for channel in CHANNELS])


@dataclass(frozen=True, slots=True)
class Decision:
    """From log odds to a probability (knots of a monotone line) and a level (log odds from which it holds)."""

    log_odds: tuple[float, ...]
    probability: tuple[float, ...]
    watch: float
    act: float

    @classmethod
    def from_manifest(cls, decision: Mapping[str, Any]) -> Decision:
        """Read a manifest's ``decision``; ``BundleError`` (``decision-malformed``) for anything else."""
        try:
            knots = decision["calibration"]
            log_odds = tuple(float(x) for x in knots["log_odds"])
            probability = tuple(float(p) for p in knots["probability"])
            watch, act = float(decision["watch"]), float(decision["act"])
        except (KeyError, TypeError, ValueError) as error:
            raise _undecided() from error
        sound = (
            2 <= len(log_odds) == len(probability)
            and bool(np.isfinite([*log_odds, watch, act]).all())
            and bool((np.diff(log_odds) > 0).all() and (np.diff(probability) >= 0).all())
            and 0.0 <= probability[0] <= probability[-1] <= 1.0
            and watch <= act
        )
        if not sound:
            raise _undecided()
        return cls(log_odds, probability, watch, act)

    def decide(self, score: float) -> tuple[float, Level]:
        """Probability and level of log odds ``score``."""
        level = Level.ACT if score >= self.act else Level.WATCH if score >= self.watch else Level.NONE
        return float(np.interp(score, self.log_odds, self.probability)), level


def too_little(features: StayFeatures, now_ns: int) -> Reason | None:
    """Why the stay must not be judged now: too few core vital signs known, or those known too old. None: it may."""
    ages = features.ages_s(now_ns)[0]
    fresh = known = 0
    for channels in CORE:
        positions = [_POSITION[name] for name in channels]
        fresh += bool((ages[positions] <= _FRESH_S[positions]).any())
        known += bool(np.isfinite(ages[positions]).any())
    if fresh >= CORE_MIN:
        return None
    return Reason.STALE if known >= CORE_MIN else Reason.TOO_LITTLE


def shares(features: StayFeatures, now_ns: int, channels: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Of ``channels`` (positions), the share without a value that stands, and the share whose value is stale."""
    ages = features.ages_s(now_ns)[0][channels]
    missing = ages > _STANDS_S[channels]
    stale = ~missing & (ages > _FRESH_S[channels])
    return float(missing.mean()), float(stale.mean())


def drivers(names: tuple[str, ...], values: Array, effects: Array, count: int = DRIVERS) -> tuple[Driver, ...]:
    """The features that move the score most, at most one of each channel, the greatest effect first.

    ``values``, ``effects`` (F,). Features of one channel say much the same, so the strongest speaks for it. The age of
    what was never measured is missing, not a number of hours.
    """
    told: list[Driver] = []
    heads: set[str] = set()
    for index in np.argsort(-np.abs(effects), kind="stable"):
        if len(told) == count or abs(effects[index]) < _ABSENT_EFFECT:
            break
        head = names[index].split(".")[0]
        if head in heads:
            continue
        heads.add(head)
        shown = describe(names[index])
        never = names[index].endswith(".age") and values[index] >= AGE_H_MAX
        value = None if never or np.isnan(values[index]) else round(float(values[index]), shown.decimals)
        told.append(Driver(shown.name, shown.label, value, shown.unit, round(float(effects[index]), 4)))
    return tuple(told)


class SepsisStay:
    """One stay as the model sees it; see ``assess.port.StayState``."""

    def __init__(self, features: StayFeatures, channels: npt.NDArray[np.intp]) -> None:
        self.features = features
        self._channels = channels

    def take(self, numeric: Numeric) -> None:
        """Take one numeric."""
        self.features.update(numeric)

    def window(self, now_ns: int) -> Window | Reason:
        """The model's input, or why it must not be asked."""
        why = too_little(self.features, now_ns)
        if why is not None:
            return why
        missing, stale = shares(self.features, now_ns, self._channels)
        return Window({"features": self.features.vector(now_ns)}, missing, stale)

    def memory(self) -> Any:
        """Everything kept, as plain JSON values."""
        return self.features.to_memory()


@dataclass(frozen=True, slots=True)
class SepsisPlan:
    """How to ask a sepsis bundle and read its scores; see ``assess.port.Plan``."""

    names: tuple[str, ...]
    hours_in_max: float
    decision: Decision
    deadline_ms: float
    task: str = TASK
    wording: Wording = _WORDING
    period_ns: int = PERIOD_NS
    ttl_ns: int = TTL_NS

    @property
    def levels(self) -> tuple[float, float]:
        """The probabilities from which the level is WATCH and ACT."""
        return self.decision.decide(self.decision.watch)[0], self.decision.decide(self.decision.act)[0]

    def sees_as(self, other: AnyPlan) -> bool:
        """Whether both cut the same windows."""
        mine = (self.names, self.hours_in_max)
        return isinstance(other, SepsisPlan) and (other.names, other.hours_in_max) == mine

    def fits(self, admitted: Admitted) -> Reason | None:
        """Adults only."""
        return None if admitted.population is Population.ADULT else Reason.POPULATION

    def begin(self, admitted: Admitted, memory: Any = None) -> SepsisStay:
        """A stay's state; ``InputError`` (``history-memory``) where the memory cannot be read."""
        if memory is None:
            features = StayFeatures(self.names, hours_in_max=self.hours_in_max)
        else:
            features = StayFeatures.from_memory(memory, self.names, hours_in_max=self.hours_in_max)
        male = {"m": 1.0, "f": 0.0}.get(admitted.sex or "", np.nan)
        features.begin(admitted.at_ns, np.nan if admitted.age_y is None else admitted.age_y, male)
        return SepsisStay(features, self._channels())

    def read(self, scores: Array, window: Window) -> Finding:
        """Probability, level and drivers. ``EngineError`` (``bad-output``) for scores of another model."""
        if scores.shape != (1 + len(self.names),) or not np.isfinite(scores).all():
            raise EngineError("bad-output", "the scores are not those of a sepsis model; fall back")
        probability, level = self.decision.decide(float(scores[0]))
        return Finding(probability, level, drivers(self.names, window.inputs["features"][0], scores[1:]))

    def _channels(self) -> npt.NDArray[np.intp]:
        """Positions of the channels that the features are made of."""
        heads = {name.split(".")[0] for name in self.names}
        return np.array([index for index, channel in enumerate(CHANNELS) if channel.name in heads], dtype=np.intp)


def plan_of(manifest: Manifest) -> SepsisPlan:
    """The plan of a sepsis bundle.

    Raises ``BundleError``: ``task-mismatch``, ``window-mismatch`` (features, inputs and outputs do not fit each other),
    ``decision-malformed``.
    """
    if manifest.task != TASK or manifest.preprocessing != NAME:
        raise BundleError("task-mismatch", f"this reads bundles for {TASK!r} by {NAME!r}; publish one for it")
    found = manifest.preprocessing_params.get("features")
    hours = manifest.preprocessing_params.get("hours_in_max")
    known = isinstance(found, list) and all(isinstance(name, str) and name in NAMES for name in found)
    names = tuple(found) if isinstance(found, list) and known else ()
    inputs = {tensor.name: (tensor.shape, tensor.missing) for tensor in manifest.inputs}
    outputs = {tensor.name: tensor.shape for tensor in manifest.outputs}
    fits = inputs == {"features": ((-1, len(names)), True)} and outputs == {"scores": (-1, 1 + len(names))}
    if not names or len(set(names)) != len(names) or not fits or not isinstance(hours, int | float) or not hours > 0:
        raise BundleError(
            "window-mismatch", "the model's inputs or scores are not what its manifest says; build it again"
        )
    return SepsisPlan(names, float(hours), Decision.from_manifest(manifest.decision), manifest.deadline_ms)


def _undecided() -> BundleError:
    return BundleError("decision-malformed", "the manifest's decision cannot be read; build the bundle again")
