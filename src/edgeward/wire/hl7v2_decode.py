"""A whole HL7 v2 message → whom it is about, where they lie, what was measured, and what was refused and why.

Taken: ORU^R01 (PCD-01 and the plainer dialects) and the ADT events that say who lies where. Everything else is refused
in the terms of HL7 2.9.2 or, where it is an ADT event that changes nothing for a bed, acknowledged and left aside.

An observation belongs to the PID before it, and to no other. Where a message holds several patients, or may hold them,
its structure must be beyond doubt: an unknown segment among results may be a damaged PID, so such a message is refused
as a whole. (HL7 2.6.2 would have unknown segments ignored; before the results they are.)

Source: HL7 v2.8.2 sections 3.3 (ADT), 7.3.1 (ORU); IHE PCD TF-2 3.1 (PCD-01), 3.4 (PCD-04).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.limits import HL7_PATIENTS_MAX
from edgeward.wire.hl7v2 import Hl7Error
from edgeward.wire.hl7v2_header import check_header
from edgeward.wire.hl7v2_observation import Observation, Unused
from edgeward.wire.hl7v2_patient import read_patient, read_place, read_prior

if TYPE_CHECKING:
    from edgeward.wire.hl7v2 import Message, Row
    from edgeward.wire.hl7v2_header import Header
    from edgeward.wire.hl7v2_observation import Outcome, Reader
    from edgeward.wire.hl7v2_patient import Patient

CHANGES = {
    "A01": "admit",
    "A02": "transfer",
    "A03": "discharge",
    "A04": "admit",
    "A08": "update",
    "A11": "cancel_admit",
    "A12": "cancel_transfer",
    "A13": "cancel_discharge",
    "A40": "merge",
}
"""ADT trigger events that change who lies where, by the names of ``bedside.source.reading.Change``."""

_NEEDS_PLACE = frozenset({"admit", "transfer", "cancel_transfer"})
# Segments of ORU_R01 and of the ADT structures above, versions 2.3 to 2.8.2; Z segments are a site's own.
_KNOWN = frozenset(
    (
        *(
            "MSH",
            "SFT",
            "UAC",
            "EVN",
            "PID",
            "PD1",
            "PRT",
            "NTE",
            "NK1",
            "ARV",
            "PV1",
            "PV2",
            "ORC",
            "OBR",
            "ROL",
            "TQ1",
        ),
        *(
            "TQ2",
            "CTD",
            "OBX",
            "FT1",
            "CTI",
            "SPM",
            "SAC",
            "DSC",
            "DB1",
            "AL1",
            "DG1",
            "DRG",
            "PR1",
            "GT1",
            "IN1",
            "IN2",
        ),
        *(
            "IN3",
            "ACC",
            "UB1",
            "UB2",
            "PDA",
            "MRG",
            "BLG",
            "FHS",
            "BHS",
            "BTS",
            "FTS",
            "OH1",
            "OH2",
            "OH3",
            "OH4",
            "IAM",
        ),
    )
)


@dataclass(slots=True)
class Group:
    """What a message says of one patient at one place. ``prior``: whom a merge gives up.

    ``refused``: of PID and PV1, as (code, field).
    """

    patient: Patient | None = None
    place: str = ""
    previous_place: str = ""
    prior: Patient | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def observations(self) -> list[Observation]:
        """What was measured, in the order of the message."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Observation)]


@dataclass(slots=True)
class Decoded:
    """A message that can be taken. ``change``: value of ``Change`` or ""; ``unused``: an event that changes nothing."""

    message: Message
    header: Header
    groups: list[Group]
    change: str = ""
    unused: bool = False


def decode(message: Message, header: Header, reader: Reader, now_utc_ns: int) -> Decoded:
    """What ``message`` says. ``now_utc_ns``: wall time, for ages.

    Raises ``Hl7Error``: those of ``check_header``; ``message-type-unsupported``, ``event-unsupported``,
    ``alerts-unsupported``, ``waves-unsupported`` (for good); ``segment-order``, ``segment-unknown``,
    ``patient-missing``, ``identifier-malformed``, ``place-missing``, ``place-malformed``, ``prior-missing``,
    ``patients-too-many`` (the content is at fault).
    """
    check_header(header)
    match header.kind:
        case "ORU":
            _check_trigger(header.trigger)
            return Decoded(message, header, _results(message, header, reader, now_utc_ns))
        case "ADT":
            change = CHANGES.get(header.trigger, "")
            if not change:
                return Decoded(message, header, [], unused=True)
            groups = _movements(message, header, reader, now_utc_ns, change)
            return Decoded(message, header, groups, change)
    raise Hl7Error(
        "message-type-unsupported", "Edgeward reads ORU^R01 and ADT messages; route no other to this port", "MSH-9"
    )


def _check_trigger(trigger: str) -> None:
    if trigger == "R40":
        raise Hl7Error(
            "alerts-unsupported",
            "ORU^R40 (PCD-04) carries a monitor's own alerts, which Edgeward does not show; route only ORU^R01 here",
            "MSH-9",
        )
    if trigger == "W01":
        raise Hl7Error(
            "waves-unsupported", "ORU^W01 carries waves, which are not read here; route only ORU^R01", "MSH-9"
        )
    if trigger != "R01":
        raise Hl7Error("event-unsupported", "of ORU messages only ORU^R01 is read; route no other here", "MSH-9")


def _results(message: Message, header: Header, reader: Reader, now_utc_ns: int) -> list[Group]:
    """Patients in the order of ORU_R01: PID, PV1, then results; anything else may be a damaged or lost PID."""
    groups: list[Group] = []
    current: Group | None = None
    visited = reported = named = False
    observed = ""
    for index, row in enumerate(message.rows):
        name = row[0]
        if name == "OBX":
            if current is None:
                current = Group()
                groups.append(current)
            current.outcomes.append(reader.read(message, index, observed, simulated=header.simulated))
            reported = True
        elif name == "OBR":
            observed = message.raw(row, 7)
            reported = True
        elif name == "PID":
            if named != reported or (groups and not named):
                raise Hl7Error("segment-order", "a PID stands behind what is of nobody, or behind another PID", "PID")
            if len(groups) >= HL7_PATIENTS_MAX:
                raise Hl7Error("patients-too-many", f"a message is of over {HL7_PATIENTS_MAX} patients", "PID")
            current = _patient_group(message, row, now_utc_ns)
            groups.append(current)
            visited, observed, reported, named = False, "", False, True
        elif name == "PV1":
            if visited or reported:
                raise Hl7Error("segment-order", "a PV1 stands behind another or behind results", "PV1")
            if current is None:
                current = Group()
                groups.append(current)
            current.place = read_place(message, row, 3)
            visited = True
    _check_structure(message)
    for group in groups:
        _settle(group)
    return groups


def _movements(message: Message, header: Header, reader: Reader, now_utc_ns: int, change: str) -> list[Group]:
    """A40 may merge several pairs; every other event is of one patient."""
    groups: list[Group] = []
    for index, row in enumerate(message.rows):
        match row[0]:
            case "PID":
                if groups and change != "merge":
                    raise Hl7Error("segment-order", "an ADT message of this event is of one patient", "PID")
                if len(groups) >= HL7_PATIENTS_MAX:
                    raise Hl7Error("patients-too-many", f"a message is of over {HL7_PATIENTS_MAX} patients", "PID")
                groups.append(_patient_group(message, row, now_utc_ns))
            case "PV1" if groups:
                groups[-1].place = read_place(message, row, 3)
                groups[-1].previous_place = read_place(message, row, 6)
            case "MRG" if groups:
                groups[-1].prior = read_prior(message, row)
            case "OBX" if groups:
                groups[-1].outcomes.append(reader.read(message, index, "", simulated=header.simulated))
    _check_structure(message)
    if not groups or any(group.patient is None for group in groups):
        raise Hl7Error("patient-missing", "an ADT message names no patient (PID-3); correct the sender", "PID-3")
    if change in _NEEDS_PLACE and not groups[0].place:
        raise Hl7Error("place-missing", "an ADT message does not say where the patient is (PV1-3)", "PV1-3")
    if change == "merge" and any(group.prior is None for group in groups):
        raise Hl7Error("prior-missing", "a merge does not say which identity is given up (MRG-1)", "MRG-1")
    for group in groups:
        _settle(group)
    return groups


def _patient_group(message: Message, row: Row, now_utc_ns: int) -> Group:
    patient, refused = read_patient(message, row, now_utc_ns)
    return Group(patient, refused=refused)


def _check_structure(message: Message) -> None:
    names = [row[0] for row in message.rows]
    if names.count("MSH") > 1:
        raise Hl7Error("segment-order", "a second MSH stands inside a message; look at what sends it", "MSH")
    results = next((at for at, name in enumerate(names) if name in {"OBR", "OBX"}), len(names))
    begin = 0 if names.count("PID") > 1 else results
    if any(name not in _KNOWN and not name.startswith("Z") for name in names[begin:]):
        raise Hl7Error(
            "segment-unknown",
            "an unknown segment stands where another patient may begin, so it may be a damaged PID; look at the sender",
        )


def _settle(group: Group) -> None:
    """Of one kind stated several times for one instant the source of lowest rank stays; of equal ones, the first."""
    kinds = [outcome.kind for outcome in group.outcomes if isinstance(outcome, Observation)]
    if len(set(kinds)) == len(kinds):
        return
    best: dict[tuple[str, int | None], int] = {}
    for position, outcome in enumerate(group.outcomes):
        if not isinstance(outcome, Observation):
            continue
        stamp = outcome.stamp
        key = (outcome.kind, None if stamp is None else stamp.local_ns - (stamp.offset_s or 0) * NS_PER_S)
        held = best.get(key)
        if held is None:
            best[key] = position
            continue
        other = group.outcomes[held]
        assert isinstance(other, Observation)
        # A value goes before a declaration that there is none: one probe is off, the other measures.
        better = (outcome.value is None, outcome.rank) < (other.value is None, other.rank)
        loser = held if better else position
        best[key] = position if better else held
        group.outcomes[loser] = Unused(group.outcomes[loser].row, "superseded")
