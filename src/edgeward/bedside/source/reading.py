"""The second source port: where numerics, and word of who lies where, enter a device.

HL7v2, IEEE 11073 SDC and FHIR sources all give ``Reading``s: decoded, converted to canonical units, stamped with
monotonic time, refusals counted. Only this type and the rim ever hold an identifier of a patient; it is left out of
every ``repr``, so that no traceback or log can carry it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edgeward.signal.numeric import Numeric


@dataclass(frozen=True, slots=True)
class PatientRef:
    """Who a source says its patient is: PHI, kept at the rim.

    ``identifiers``: each as the source writes it with its assigning authority and type (HL7 CX "id^^^authority^type");
    two references are of one patient when they share one. ``age_y`` in years, ``sex`` "f" or "m", where known.
    """

    identifiers: frozenset[str] = field(repr=False)
    age_y: float | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)

    def same_as(self, other: PatientRef) -> bool:
        """Whether both name one patient; False where either has no identifier."""
        return not self.identifiers.isdisjoint(other.identifiers)


class Change(StrEnum):
    """Word of who lies where (HL7 ADT trigger events and their like)."""

    ADMIT = "admit"
    TRANSFER = "transfer"
    DISCHARGE = "discharge"
    UPDATE = "update"
    """The identity is corrected or completed: the same patient, known by other or more identifiers."""
    MERGE = "merge"
    """Two identities turn out to be one patient (HL7 A40): ``Reading.prior`` is the one given up."""
    CANCEL_ADMIT = "cancel_admit"
    CANCEL_TRANSFER = "cancel_transfer"
    CANCEL_DISCHARGE = "cancel_discharge"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What of a message was not taken: a stable code, where (segment and field, never payload), how often."""

    code: str
    where: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """One message, as the rim takes it.

    ``source``: "hl7", "sdc", "fhir", "stream"; ``place``: what the source calls the bed (PV1-3 as "ICU^^5", an SDC
    location, a FHIR Location), empty where it does not say; ``peer``: a name of the sending connection that holds no
    PHI, so that a source without places can be bound to a bed; ``patient`` None: it does not say who, the stay goes on.
    ``previous_place`` and ``prior`` belong to transfers and merges. ``simulated``: the source says that no patient made
    this (HL7 MSH-11 "T"raining or "D"ebugging, or our own simulator).
    """

    source: str
    place: str
    peer: str
    received_ns: int
    patient: PatientRef | None = None
    numerics: tuple[Numeric, ...] = ()
    change: Change | None = None
    previous_place: str = ""
    prior: PatientRef | None = None
    refusals: tuple[Refusal, ...] = ()
    simulated: bool = False


class Receipt(StrEnum):
    """What became of a reading, so that its source can acknowledge it rightly."""

    TAKEN = "taken"
    """Safely taken: acknowledge it."""
    REFUSED = "refused"
    """It cannot be taken, now or later (no such bed here): reject it, so that nobody sends it for ever."""
    LATER = "later"
    """It cannot be taken now: let the source send it again."""


class Rim(Protocol):
    """Whoever takes readings: the ward."""

    def take(self, reading: Reading) -> Receipt:
        """Take one reading; called on the device's asyncio loop; never waits."""
        ...

    def peer(self, source: str, peer: str, *, connected: bool) -> None:
        """A connection came or went."""
        ...
