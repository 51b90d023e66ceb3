"""A decoded HL7 message → readings: observations get their moment on the device's monotonic clock.

The wire's types know stated wall times; the rim's know monotonic ones. Between them stands the sender's clock
(``wire/hl7v2_clock.py``): moment = received − delay of the message − age of the observation in it. What is too old to
be a fact about now, or lies in the future, is refused with its reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeward.bedside.source.reading import Change, PatientRef, Reading, Refusal
from edgeward.kernel.clock import NS_PER_S
from edgeward.signal.numeric import KINDS, Group, Numeric
from edgeward.wire.hl7v2_clock import age_ns
from edgeward.wire.hl7v2_observation import Observation, Refused

if TYPE_CHECKING:
    from datetime import tzinfo

    from edgeward.wire.hl7v2_clock import PeerClock
    from edgeward.wire.hl7v2_decode import Decoded
    from edgeward.wire.hl7v2_decode import Group as DecodedGroup
    from edgeward.wire.hl7v2_patient import Patient

SOURCE = "hl7"

AGE_MAX_NS = {
    Group.VITAL: 12 * 3_600 * NS_PER_S,  # a cuff pressure may be repeated for a shift with its own time
    Group.CONTEXT: 24 * 3_600 * NS_PER_S,
    Group.LAB: 72 * 3_600 * NS_PER_S,  # collected, transported, run, validated
}
"""What is older is history, and refused (``time-old``)."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """When and from whom a message came. ``received_ns``: monotonic; ``wall_ns``: since 1970 UTC, the same moment."""

    peer: str
    received_ns: int
    wall_ns: int


def readings(decoded: Decoded, clock: PeerClock, arrival: Arrival, zone: tzinfo) -> list[Reading]:
    """The readings of one message, one for each patient in it, at least one; ``clock`` learns from it."""
    stamp = decoded.header.stamp
    delay_ns, message_ns = 0, arrival.wall_ns
    if stamp is not None:
        message_ns = stamp.utc_ns(None, zone)
        delay_ns = clock.heard(message_ns, stamp.step_ns, arrival.received_ns, arrival.wall_ns)
    offset_s = stamp.offset_s if stamp is not None else None
    notes: Counter[tuple[str, str]] = Counter()
    if decoded.message.doubt:
        notes[decoded.message.doubt, "MSH-18"] += 1
    if decoded.unused:
        notes["event-unused", "MSH-9"] += 1
    result = []
    for group in decoded.groups:
        refused = notes + Counter(group.refused)
        notes = Counter()  # what is of the whole message is told once
        numerics = []
        for outcome in group.outcomes:
            if isinstance(outcome, Observation):
                age = age_of(outcome, message_ns, offset_s, zone, delay_ns)
                if isinstance(age, str):
                    refused[age, outcome.field or "MSH-7"] += 1
                else:
                    numerics.append(Numeric(outcome.kind, outcome.value, arrival.received_ns - age))
            elif isinstance(outcome, Refused):
                refused[outcome.code, outcome.field] += 1
        numerics.sort(key=lambda numeric: numeric.at_ns)
        result.append(_reading(decoded, group, arrival, tuple(numerics), refused))
    return result or [Reading(SOURCE, "", arrival.peer, arrival.received_ns, refusals=_refusals(notes))]


def age_of(observation: Observation, message_ns: int, offset_s: int | None, zone: tzinfo, delay_ns: int) -> int | str:
    """How old an observation is on arrival, ns, or why it has no usable time: ``time-future``, ``time-old``.

    ``message_ns``: when its message was made, on the sender's clock (since 1970 UTC); ``offset_s``: MSH-7's zone;
    ``zone``: the site's; ``delay_ns``: how long the message was on its way.
    """
    stamp = observation.stamp
    age: int | None = 0
    if stamp is not None:
        age = age_ns(message_ns, stamp.utc_ns(offset_s, zone), stamp.step_ns)
    if age is None:
        return "time-future"
    return age + delay_ns if age + delay_ns <= AGE_MAX_NS[KINDS[observation.kind].group] else "time-old"


def refusal_of(code: str, where: str, arrival: Arrival) -> Reading:
    """What the rim is told of a message that was refused as a whole."""
    return Reading(SOURCE, "", arrival.peer, arrival.received_ns, refusals=(Refusal(code, where),))


def _reading(
    decoded: Decoded,
    group: DecodedGroup,
    arrival: Arrival,
    numerics: tuple[Numeric, ...],
    refused: Counter[tuple[str, str]],
) -> Reading:
    return Reading(
        SOURCE,
        group.place,
        arrival.peer,
        arrival.received_ns,
        patient=_patient(group.patient),
        numerics=numerics,
        change=Change(decoded.change) if decoded.change else None,
        previous_place=group.previous_place,
        prior=_patient(group.prior),
        refusals=_refusals(refused),
        simulated=decoded.header.simulated,
    )


def _patient(patient: Patient | None) -> PatientRef | None:
    return None if patient is None else PatientRef(patient.identifiers, patient.age_y, patient.sex)


def _refusals(counted: Counter[tuple[str, str]]) -> tuple[Refusal, ...]:
    return tuple(Refusal(code, where, count) for (code, where), count in counted.items())
