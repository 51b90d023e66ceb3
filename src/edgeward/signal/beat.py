"""Beat classes of ANSI/AAMI EC57 and the annotation symbols that fall in each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class BeatClass(IntEnum):
    """AAMI EC57 beat classes, in the order of the model's output."""

    N = 0
    """Normal, bundle branch block, escape."""
    S = 1
    """Supraventricular ectopic (SVEB)."""
    V = 2
    """Ventricular ectopic (VEB)."""
    F = 3
    """Fusion of ventricular and normal."""
    Q = 4
    """Paced, fusion of paced and normal, or unclassifiable."""


AAMI_OF_SYMBOL: dict[str, BeatClass] = {
    **dict.fromkeys("NLRejnB", BeatClass.N),
    **dict.fromkeys("AaJS", BeatClass.S),
    **dict.fromkeys("VEr", BeatClass.V),
    "F": BeatClass.F,
    **dict.fromkeys("/fQ?", BeatClass.Q),
}
"""WFDB beat symbol → AAMI class; a symbol that is not here does not mark a beat."""

SYMBOL_OF_CLASS: dict[BeatClass, str] = {
    BeatClass.N: "N",
    BeatClass.S: "S",
    BeatClass.V: "V",
    BeatClass.F: "F",
    BeatClass.Q: "Q",
}
"""The WFDB symbol that Edgeward writes for a class."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A detected QRS complex: ``index`` is the fiducial sample since the start at the model rate."""

    index: int
    confidence: float
