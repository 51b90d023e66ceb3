"""One SDC device's numerics, patient and place as ``Reading``s. Pure: messages in, readings out.

Whose a number is, is asked before whose it was: while nobody, or more than one patient, is associated with a device
(11073-10207, 5.4.3 allows one), no number goes under the name of the patient before.

When it was measured is reckoned on our own clock: a device's timestamps are compared with each other, and its clock
with ours as that of an HL7 sender is (``wire/hl7v2_clock.py``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeward.bedside.source.hl7_reading import AGE_MAX_NS
from edgeward.bedside.source.reading import Change, PatientRef, Reading, Refusal
from edgeward.bedside.source.sdc_mdib import Mdib, Need, Taken
from edgeward.kernel.clock import NS_PER_MS
from edgeward.kernel.errors import InputError
from edgeward.signal.numeric import KINDS, Kind, Numeric, plausible
from edgeward.wire.codes import agreed, unit_of
from edgeward.wire.hl7v2_clock import PeerClock
from edgeward.wire.hl7v2_patient import cx
from edgeward.wire.iso8601 import age_y
from edgeward.wire.sdc import MDC, Descriptor, LocationState, NumericState, PatientState, Validity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeward.kernel.units import Linear
    from edgeward.wire.codes import Code, CodeTable
    from edgeward.wire.sdc import Message

WANTED = (
    "EpisodicMetricReport",
    "PeriodicMetricReport",
    "EpisodicContextReport",
    "PeriodicContextReport",
    "EpisodicComponentReport",
    "PeriodicComponentReport",
    "DescriptionModificationReport",
)
"""Reports that numerics, patients and places come in."""
_AGE_OF = {"Neo": 0.04, "Inf": 1.0, "Ped": 7.0}
"""Years: the middle of what 11073-10207 (PatientType) means, where a child's date of birth is not known. Whether adult
limits fit an adolescent, it does not say."""
_SYSTEMS = {MDC: "MDC", "urn:oid:2.16.840.1.113883.6.1": "LN", "http://loinc.org": "LN"}


@dataclass(frozen=True, slots=True)
class _Metric:
    """How the numbers of one metric are read; ``order``: of several metrics of a kind the smallest is preferred."""

    kind: Kind
    convert: Linear
    order: tuple[int, int]


@dataclass(slots=True)
class _Bed:
    """What was told of one MDS: whose it is, under which association, where it is, and where it last said to be."""

    patient: PatientRef | None = None
    association: str = ""
    ambiguous: bool = False
    place: str = ""
    stood: str = ""


@dataclass(slots=True)
class _Batch:
    numerics: list[Numeric] = field(default_factory=list)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)


class SdcNumerics:
    """One device. Give it what the link hears; it gives readings, and ``need`` says what the link should do.

    ``name``: of the device, without PHI; ``codes``: the site's table. With every message come the moment of its
    reception, monotonic and wall time (ns since 1970, UTC).
    """

    def __init__(self, name: str, codes: CodeTable) -> None:
        self._name = name
        self._codes = codes
        self._mdib = Mdib()
        self._clock = PeerClock()
        self._metrics: dict[str, _Metric] = {}
        self._unread: Counter[tuple[str, str]] = Counter()
        self._told: dict[str, NumericState] = {}
        self._chosen: dict[tuple[str, Kind], str] = {}
        self._beds: dict[str, _Bed] = {}
        self.need = Need.NOTHING
        self.of_interest: tuple[str, ...] = ()
        """Handles whose states are worth asking for: metrics that are read, and contexts."""
        self.skipped = 0
        """Versions of states that no report brought."""

    def asked(self) -> None:
        """A fresh MDIB is on its way."""
        self._mdib.ask()

    def lost(self) -> None:
        """The connection is gone; what the device says next is said by a new run, for all that is known."""
        self._mdib = Mdib()

    def load(self, answers: Sequence[Message], received_ns: int, wall_ns: int) -> list[Reading]:
        """Readings of a fresh MDIB."""
        taken = self._mdib.load(answers)
        self._describe()
        gone = [mds for mds in self._beds if mds not in self._mdib.descriptors]
        left = [reading for mds in gone for reading in self._who_and_where(mds, received_ns, wall_ns)]
        for mds in gone:
            del self._beds[mds]
        return left + self._read(taken, received_ns, wall_ns, fresh=False)

    def report(self, message: Message, received_ns: int, wall_ns: int) -> list[Reading]:
        """Readings of a report."""
        return self._read(self._mdib.report(message), received_ns, wall_ns, fresh=True)

    def answer(self, message: Message, received_ns: int, wall_ns: int) -> tuple[list[Reading], bool]:
        """Readings of an answer to a question for states, and whether reports have failed to come."""
        taken, silent = self._mdib.poll(message)
        return self._read(taken, received_ns, wall_ns, fresh=False), silent

    # --- which metrics are read, and how

    def _describe(self) -> None:
        self._metrics.clear()
        self._unread.clear()
        self._chosen.clear()
        contexts = []
        for number, descriptor in enumerate(self._mdib.descriptors.values()):
            if descriptor.what == "NumericMetric":
                try:
                    metric = self._metric(descriptor, number)
                except InputError as error:
                    code = descriptor.codes[0].code if descriptor.codes else ""
                    self._unread[error.code, code] += 1
                    continue
                if metric is not None:
                    self._metrics[descriptor.handle] = metric
            elif descriptor.what in {"PatientContext", "LocationContext", "Mds"}:
                contexts.append(descriptor.handle)
        self._told = {handle: state for handle, state in self._told.items() if handle in self._metrics}
        self.of_interest = (*contexts, *self._metrics)

    def _metric(self, descriptor: Descriptor, number: int) -> _Metric | None:
        """None for what is known and of no use; ``InputError`` (codes of ``wire.codes``) where it cannot be read."""
        found: list[Code] = []
        problem = InputError("code-missing", "a metric has no code; have the device code it")
        for coded in descriptor.codes:
            try:
                found.append(self._codes.look_up(_SYSTEMS.get(coded.system, coded.system), coded.code, coded.name))
            except InputError as error:
                problem = error
                if error.code == "code-name-mismatch":
                    raise
        if not found:
            raise problem
        code = agreed(found)
        if code.kind is None:
            return None
        # A unit and its translations each come as a code and, perhaps, a symbolic name.
        convert = unit_of(code, [word for unit in descriptor.units for word in (unit.code, unit.name)])
        return _Metric(code.kind, convert, (code.rank, number))

    # --- readings

    def _read(self, taken: Taken, received_ns: int, wall_ns: int, *, fresh: bool) -> list[Reading]:
        self.need = taken.need
        self.skipped += taken.skipped
        readings: list[Reading] = []
        for mds in sorted(taken.contexts):
            readings += self._who_and_where(mds, received_ns, wall_ns)
        states = [state for state in taken.states if isinstance(state, NumericState)]
        ahead_ns = self._ahead(states, received_ns, wall_ns, fresh=fresh)
        batches: dict[tuple[str, bool], _Batch] = {}
        for state in states:
            metric = self._metrics.get(state.descriptor)
            if metric is not None:
                mds = self._mdib.descriptors[state.descriptor].mds
                batch = batches.setdefault((mds, not state.real or self._mdib.demo(mds)), _Batch())
                self._numeric(batch, mds, metric, state, received_ns, ahead_ns, fresh=fresh)
        for (mds, simulated), batch in batches.items():
            readings += self._reading(mds, batch, received_ns, simulated=simulated)
        unread = self._unread + Counter({("sdc-state-unreadable", ""): taken.refused})
        self._unread = Counter()
        if unread:
            readings.append(Reading("sdc", "", self._name, received_ns, refusals=_refusals(unread)))
        return readings

    def _ahead(self, states: Sequence[NumericState], received_ns: int, wall_ns: int, *, fresh: bool) -> int:
        """How far our monotonic clock is ahead of the device's, ns.

        The newest stamp of a report stands for the report; the states of an MDIB may all be old and teach nothing.
        """
        stamps = [state.determined_ms for state in states if state.determined_ms is not None]
        if fresh and stamps:
            newest_ns = max(stamps) * NS_PER_MS
            return received_ns - self._clock.heard(newest_ns, NS_PER_MS, received_ns, wall_ns) - newest_ns
        return received_ns - wall_ns if self._clock.offset_ns is None else self._clock.offset_ns

    def _numeric(
        self,
        batch: _Batch,
        mds: str,
        metric: _Metric,
        state: NumericState,
        received_ns: int,
        ahead_ns: int,
        *,
        fresh: bool,
    ) -> None:
        told = self._told.get(state.descriptor)
        if told is not None and _same_measurement(told, state) and not (fresh and state.determined_ms is None):
            return
        if state.validity is None and not fresh and told is None:
            return  # never measured: no news
        self._told[state.descriptor] = state
        if not self._choose(mds, metric, state):
            return
        where = KINDS[metric.kind].label
        at_ns = received_ns
        if state.determined_ms is not None:
            at_ns = min(received_ns, state.determined_ms * NS_PER_MS + ahead_ns)
        if received_ns - at_ns > AGE_MAX_NS[KINDS[metric.kind].group]:
            batch.refusals["time-old", where] += 1
            return
        if not _measured(state):
            if state.validity in {Validity.OVERFLOW, Validity.UNDERFLOW}:
                batch.refusals["overflow", where] += 1
            batch.numerics.append(Numeric(metric.kind, None, at_ns))
            return
        assert state.value is not None
        value = metric.convert(state.value)
        if not plausible(metric.kind, value):
            batch.refusals["out-of-range", where] += 1
            return
        batch.numerics.append(Numeric(metric.kind, value, at_ns))

    def _choose(self, mds: str, metric: _Metric, state: NumericState) -> bool:
        """Whether this metric speaks for its kind: the preferred one that measures.

        One at a time, so that no trend jumps between two probes.
        """
        chosen = self._chosen.get((mds, metric.kind))
        if chosen is None or chosen == state.descriptor or chosen not in self._metrics:
            self._chosen[mds, metric.kind] = state.descriptor
            return True
        if not _measured(state):
            return False
        other = self._told.get(chosen)
        if other is not None and _measured(other) and self._metrics[chosen].order < metric.order:
            return False
        self._chosen[mds, metric.kind] = state.descriptor
        return True

    def _reading(self, mds: str, batch: _Batch, received_ns: int, *, simulated: bool) -> Iterable[Reading]:
        bed = self._beds.setdefault(mds, _Bed())
        numerics = tuple(batch.numerics)
        if bed.ambiguous and numerics:
            batch.refusals["patient-ambiguous", "PatientContext"] += len(numerics)
            numerics = ()
        if numerics or batch.refusals:
            yield Reading(
                "sdc",
                bed.place,
                self._peer(mds),
                received_ns,
                patient=bed.patient,
                numerics=numerics,
                refusals=_refusals(batch.refusals),
                simulated=simulated,
            )

    # --- who and where

    def _who_and_where(self, mds: str, received_ns: int, wall_ns: int) -> list[Reading]:
        bed = self._beds.setdefault(mds, _Bed())
        location = self._mdib.location(mds)
        place = "" if location is None else _place(location)
        patients = self._mdib.patients(mds)
        readings: list[Reading] = []

        def tell(change: Change, patient: PatientRef, *, where: str, previous: str = "") -> None:
            readings.append(
                Reading("sdc", where, self._peer(mds), received_ns, patient, change=change, previous_place=previous)
            )

        bed.ambiguous = len(patients) > 1
        now = _patient(patients[0], self._name, wall_ns) if len(patients) == 1 else None
        association = patients[0].handle if len(patients) == 1 else ""
        before, moved = bed.patient, bool(place and bed.stood) and place != bed.stood
        nameless = before is not None and bed.association == association and not _named(before, self._name)
        if before is not None and now is not None and (before.same_as(now) or nameless):
            if nameless and not before.same_as(now):
                now = PatientRef(now.identifiers | before.identifiers, now.age_y, now.sex)
            if moved:
                tell(Change.TRANSFER, now, where=place, previous=bed.stood)
            if now != before:
                tell(Change.UPDATE, now, where=place)
        else:
            if before is not None:
                tell(Change.DISCHARGE, before, where=bed.stood)
            if now is not None:
                tell(Change.ADMIT, now, where=place)
        bed.patient, bed.association, bed.place, bed.stood = now, association, place, place or bed.stood
        return readings

    def _peer(self, mds: str) -> str:
        """The device's name, with the MDS where it has several."""
        several = sum(one.what == "Mds" for one in self._mdib.descriptors.values()) > 1
        return f"{self._name}/{mds}" if several else self._name


def _refusals(counts: Counter[tuple[str, str]]) -> tuple[Refusal, ...]:
    return tuple(Refusal(code, where, count) for (code, where), count in sorted(counts.items()) if count)


def _measured(state: NumericState) -> bool:
    return state.active and state.value is not None and state.validity is not None and state.validity.measured


def _same_measurement(a: NumericState, b: NumericState) -> bool:
    """Whether two states tell of one determination."""
    return (a.determined_ms, a.value, a.validity, a.active) == (b.determined_ms, b.value, b.validity, b.active)


def _place(location: LocationState) -> str:
    """Point of care, room and bed as HL7v2 writes them ("ICU^^5"), so that a place has one name in every protocol."""
    parts = (location.point_of_care, location.room, location.bed)
    return "^".join(part.replace("^", " ").strip() for part in parts).rstrip("^")


def _patient(state: PatientState, device: str, wall_ns: int) -> PatientRef:
    """Identifiers as in HL7v2 CX: extension^^^root^type; what has no root is known to this device alone.

    A patient without any is known by the association, and only by that.
    """
    found = (
        cx(extension or root, (root or device) if extension else "", kind)
        for root, extension, kind in state.identifiers
    )
    identifiers = frozenset(identifier for identifier in found if identifier)
    sex = {"M": "m", "F": "f"}.get(state.sex)
    age = age_y(state.born, wall_ns) if state.born else _AGE_OF.get(state.category)
    return PatientRef(identifiers or frozenset({f"{state.handle}{_association(device)}"}), age, sex)


def _association(device: str) -> str:
    """How the identifier of an association ends."""
    return f"^^^{device}^ASSOC"


def _named(patient: PatientRef, device: str) -> bool:
    return any(not identifier.endswith(_association(device)) for identifier in patient.identifiers)
