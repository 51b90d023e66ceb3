"""What enters and what leaves the pipeline: its whole vocabulary, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeward.bedside.verdict import Verdict

if TYPE_CHECKING:
    from edgeward.bedside.decide import Advisory, Decision
    from edgeward.bedside.verdict import Reason
    from edgeward.signal.quality import Flag

FloatArray = npt.NDArray[np.float32]

# --- events in


@dataclass(frozen=True, slots=True)
class SamplesArrived:
    """``samples`` (C, n) in mV, NaN where missing; ``start``: index of the first since the source began."""

    samples: FloatArray
    start: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to ``ScoreWindow``: ``scores`` (5,) or why there are none, or may not be shown.

    ``decision``: how the bundle that scored reads them; None: as the pipeline's own does.
    """

    sequence: int
    scores: FloatArray | None
    failure: Reason | None
    decision: Decision | None = None


Event = SamplesArrived | Scored

# --- effects out


@dataclass(frozen=True, slots=True)
class ScoreWindow:
    """Please score: ``wave`` (1, …, T) and ``rhythm`` (1, K), before ``deadline_ns``. ``index``: the beat's own."""

    sequence: int
    index: int
    wave: FloatArray
    rhythm: FloatArray
    deadline_ns: int

    @property
    def inputs(self) -> dict[str, FloatArray]:
        """What an engine is asked."""
        return {"wave": self.wave, "rhythm": self.rhythm}


@dataclass(frozen=True, slots=True)
class SeenBeside:
    """The beat at ``index`` as a bundle with other windows sees it; None: no lead of its window may be judged."""

    index: int
    wave: FloatArray | None
    rhythm: FloatArray


@dataclass(frozen=True, slots=True)
class WaveReady:
    """Model-rate samples of the slot leads from ``index`` on: (L, n) mV and which of them are usable (L, n)."""

    index: int
    samples: FloatArray
    usable: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BeatFound:
    """A QRS complex was detected; its class follows in a verdict."""

    index: int


@dataclass(frozen=True, slots=True)
class RateChanged:
    """Heart rate in beats per minute; None when it is not known (no recent beats, no usable lead)."""

    bpm: int | None


@dataclass(frozen=True, slots=True)
class QualityChanged:
    """Why each lead may not be judged, by lead name; None where it may."""

    leads: dict[str, Flag | None]


@dataclass(frozen=True, slots=True)
class InputChanged:
    """``lost`` says why no lead can be judged; None when at least one can be again."""

    lost: Reason | None


@dataclass(frozen=True, slots=True)
class AdvisoryChanged:
    """The model's advisory was raised, changed priority or cleared."""

    advisory: Advisory


Effect = (
    ScoreWindow
    | SeenBeside
    | WaveReady
    | BeatFound
    | Verdict
    | RateChanged
    | QualityChanged
    | InputChanged
    | AdvisoryChanged
)
