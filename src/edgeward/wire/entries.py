"""What is entered in a hospital's record, whatever the form in which it leaves (``fhir_out``, ``hl7v2_out``). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PREFER = ("MR", "PI", "PT", "AN")
"""Types of patients' identifiers (HL7 table 0203), the best first: medical record, internal, external, account."""
SNOMED_NEWS2 = ("1104051000000101", "Royal College of Physicians NEWS2 total score")
_ESCAPED = re.compile(r"\\([FSTRE])\\")
_ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_NOT_NUMBERS = frozenset({"ASSOC", "FHIR"})
"""Types of identifiers that no hospital gave: a monitor's association, an address at a FHIR server."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a task predicts: words and SNOMED CT code of the outcome; minutes from and to, where it says."""

    label: str
    snomed: str
    minutes: tuple[int, int] | None = None


OUTCOMES: Mapping[str, Predicted] = MappingProxyType(
    {
        "sepsis-risk": Predicted("Sepsis", "91302008"),
        "hypotension": Predicted("Sustained hypotension", "45007003", (30, 60)),
    }
)


def outcome_of(task: str) -> Predicted:
    """What ``task`` predicts; a task that nobody knows has its own name and no code."""
    return OUTCOMES.get(task) or Predicted(task, "")


@dataclass(frozen=True, slots=True)
class Driver:
    """A feature that moves a score most: its value in ``unit`` (None: missing), its exact effect in log odds."""

    feature: str
    label: str
    value: float | None
    unit: str
    effect: float


@dataclass(frozen=True, slots=True)
class Score:
    """A task's score of one stay at wall time ``at_ns``; ``key``: tells it from every other."""

    key: str
    task: str
    version: str
    rung: str
    at_ns: int
    outcome: str
    why: str
    probability: float | None = field(repr=False)
    level: str
    drivers: tuple[Driver, ...] = field(default=(), repr=False)
    missing_share: float | None = None
    stale_share: float | None = None
    simulated: bool = False

    @property
    def accepted(self) -> bool:
        """Whether there is a probability that may be shown."""
        return self.outcome == "accepted" and self.probability is not None


@dataclass(frozen=True, slots=True)
class News2:
    """An early warning score; ``total`` None: nothing is known."""

    key: str
    at_ns: int
    total: int | None = field(repr=False)
    complete: bool
    missing: tuple[str, ...]
    items: Mapping[str, int] = field(repr=False)
    risk: str
    scale: int
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """An advisory, from ``begun_ns`` until it was taken back at ``ended_ns``."""

    key: str
    code: str
    text: str
    priority: str
    begun_ns: int
    ended_ns: int | None = None
    simulated: bool = False


Entry = Score | News2 | Notice


@dataclass(frozen=True, slots=True)
class Whose:
    """The patient and the bed of an entry, as the sources wrote them: PHI, in no ``repr``.

    ``identifiers``: each as "id^^^authority^type" (HL7 CX); ``place``: as PV1-3 says it ("ICU^^5").
    """

    identifiers: frozenset[str] = field(repr=False)
    place: str = field(default="", repr=False)

    @property
    def known(self) -> bool:
        """Whether a hospital's number is among the identifiers: without one nothing may enter a record."""
        return bool(numbers(self.identifiers))


def numbers(identifiers: Iterable[str], prefer: Sequence[str] = PREFER) -> list[str]:
    """The identifiers that a hospital gave, as they were written, the best first.

    By the order of types in ``prefer``; then those with an assigning authority; then by text, so that the order is the
    same each time.
    """
    ranked = []
    for identifier in identifiers:
        value, authority, kind = parts(identifier)
        if value and kind not in _NOT_NUMBERS:
            rank = prefer.index(kind) if kind in prefer else len(prefer)
            ranked.append((rank, not authority, authority, kind, value, identifier))
    return [row[-1] for row in sorted(ranked)]


def parts(identifier: str) -> tuple[str, str, str]:
    """Value, assigning authority and type of "id^^^authority^type", escapes undone; empty where it has none."""
    value, _, _, authority, kind, *_ = [*map(_plain, identifier.split("^")), "", "", "", "", ""]
    return value, authority, kind


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES[found[1]], text)
