"""What became of a window: every one gets exactly one verdict, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeward.signal.beat import BeatClass


class Outcome(StrEnum):
    """The three outcomes of a window."""

    ACCEPTED = "accepted"
    WITHHELD = "withheld"
    FALLBACK = "fallback"


class Reason(StrEnum):
    """Why a window was not accepted, or a mode is not LOCAL. The first two groups withhold, the others fall back."""

    LEAD_OFF = "lead_off"
    FLAT = "flat"
    SATURATED = "saturated"
    NOISE = "noise"
    GAP = "gap"
    LATE = "late"

    TOO_LITTLE = "too_little"
    """Too few of the model's inputs are measured in this stay, or not yet for as long as the model looks back."""
    STALE = "stale"
    """What was measured is too old."""
    POPULATION = "population"
    """The model was not made for such a patient."""
    LOW_PRESSURE = "low_pressure"
    """The pressure is, or lately was, low already: what a model would warn of is there."""

    ENGINE_CRASHED = "engine_crashed"
    ENGINE_HUNG = "engine_hung"
    BAD_SCORES = "bad_scores"
    ENGINE_NOT_READY = "engine_not_ready"
    NO_BUNDLE = "no_bundle"
    PROBATION = "probation"
    """The engine answers again, but has not yet earned its way back (golden vectors, good results, dwell)."""
    CLOUD_DOWN = "cloud_down"
    """The scoring server cannot be reached, refuses, or is left alone for a while."""


NOT_ASKED = frozenset({Reason.TOO_LITTLE, Reason.POPULATION, Reason.LOW_PRESSURE})
"""Reasons that are a model's design: nothing is wrong, there is no score, and nobody can mend that."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on the window around one beat.

    ``index``: fiducial sample at the model rate since the source's first sample; ``source_index``: the same instant in
    samples of the source. ``beat_class`` and ``probability`` only when accepted. ``rr_ms``: interval to the beat
    before. ``latency_ns``: from the arrival of the window's last sample to this verdict.
    """

    sequence: int
    index: int
    source_index: int
    outcome: Outcome
    reason: Reason | None
    beat_class: BeatClass | None
    probability: float | None
    rr_ms: int | None
    latency_ns: int
