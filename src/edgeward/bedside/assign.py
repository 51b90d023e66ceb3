"""Who lies where: readings of any source → stays, so that no history ever crosses patients.

A stay begins when a patient is admitted, when numerics come for an empty bed, and whenever a source names somebody
else than the bed holds; it ends at discharge, when another patient takes the bed, and, where nobody was named, after
an hour without numerics. An unnamed stay is never adopted by a name that comes later: the numerics before the name may
have been somebody else's. In doubt a stay ends: a model that starts anew says so, one that mixes patients does not.

Trigger events: HL7 v2.6 chapter 3 (A01 admit, A02 transfer, A03 discharge, A08 update, A11 to A13 cancel, A40 merge).
Pure; only this object and the readings hold identifiers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgeward.bedside.feed import Admitted, Discharged, Feed, Measured, Moved, Population
from edgeward.bedside.source.hl7_reading import SOURCE as HL7
from edgeward.bedside.source.reading import Change, PatientRef
from edgeward.kernel.clock import NS_PER_S
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import BEDS_MAX
from edgeward.wire.entries import Whose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeward.bedside.source.reading import Reading
    from edgeward.signal.numeric import Numeric

UNNAMED_SILENCE_NS = 3600 * NS_PER_S
"""An unnamed stay without numerics for this long is over: whoever comes next may be another."""
PAEDIATRIC_BELOW_Y = 16.0
"""NEWS2 and adult limits do not apply below it (Royal College of Physicians 2017)."""
NEONATAL_BELOW_Y = 28.0 / 365.25


@dataclass(frozen=True, slots=True)
class BedPlan:
    """A bed as the site configured it.

    ``places``: what sources call it (HL7 PV1-3 "ICU^^5", an SDC or FHIR location); ``peers``: connections whose
    readings without a place belong to it; ``population``: of its patients, None: by age, adult where that is unknown.
    """

    name: str
    places: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    population: Population | None = None
    spo2_scale: int = 1
    simulated: bool = False


@dataclass(slots=True)
class _Held:
    """A stay under way."""

    stay: int
    bed: str
    patient: PatientRef | None = field(repr=False)
    newest_ns: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What follows from a reading: feeds in order, and why (part of) it was not taken (empty: all was)."""

    feeds: tuple[Feed, ...] = ()
    refused: str = ""


class Beds:
    """The beds of a device. ``automatic``: an unknown place becomes a bed of that name, up to ``BEDS_MAX``.

    Raises ``ConfigError``: ``beds-too-many``, ``bed-repeated``, ``place-repeated``.
    """

    def __init__(self, plans: Sequence[BedPlan] = (), *, automatic: bool = True, first_stay: int = 1) -> None:
        if len(plans) > BEDS_MAX:
            raise ConfigError("beds-too-many", f"one device serves up to {BEDS_MAX} beds; use another device")
        self._plans: dict[str, BedPlan] = {}
        self._place: dict[str, str] = {}
        self._peer: dict[str, str] = {}
        for plan in plans:
            self._add(plan)
        self._automatic = automatic
        self._next = first_stay
        self._in_bed: dict[str, _Held] = {}
        self._written: dict[str, str] = {}  # bed → its place as HL7 wrote it last
        self._moves: dict[int, str] = {}  # stay → the bed it was moved from last, for a cancelled transfer

    # --- what others ask

    @property
    def plans(self) -> tuple[BedPlan, ...]:
        """Every bed, those that announced themselves included."""
        return tuple(self._plans.values())

    def stay_in(self, bed: str) -> int | None:
        """The stay now in ``bed``; None: empty."""
        held = self._in_bed.get(bed)
        return held.stay if held else None

    def bed_of(self, stay: int) -> str | None:
        """Where ``stay`` lies now; None: it is over."""
        return next((held.bed for held in self._in_bed.values() if held.stay == stay), None)

    def whose(self, stay: int) -> Whose | None:
        """Who lies in ``stay`` and where, as sources write it, for the hospital's record; None: unnamed or over.

        Where HL7 has spoken of the bed its name for the place counts, else the first that the site has configured.
        """
        held = next((held for held in self._in_bed.values() if held.stay == stay), None)
        if held is None or held.patient is None:
            return None
        plan = self._plans[held.bed]
        place = self._written.get(held.bed) or (plan.places[0] if plan.places else plan.name)
        return Whose(held.patient.identifiers, place)

    # --- readings

    def take(self, reading: Reading) -> Taken:
        """Take one reading; nothing of it is taken where ``refused`` says why."""
        bed = self._bed_of(reading)
        if isinstance(bed, Taken):
            return bed
        if bed and reading.place and reading.source == HL7:
            self._written[bed] = reading.place
        now = reading.received_ns
        match reading.change:
            case None:
                feeds = self._settle(bed, reading, now) if reading.numerics or _named(reading) else []
            case Change.ADMIT | Change.CANCEL_DISCHARGE | Change.UPDATE:
                feeds = self._admit(bed, reading, now)
            case Change.TRANSFER:
                feeds = self._transfer(bed, reading, now)
            case Change.CANCEL_TRANSFER:
                feeds = self._back(bed, reading, now)
            case Change.DISCHARGE | Change.CANCEL_ADMIT:
                feeds = self._discharge(bed, reading, now)
            case Change.MERGE:
                feeds = self._merge(reading)
        return Taken((*feeds, *self._measured(bed, reading.numerics)))

    def passed(self, now_ns: int) -> list[Feed]:
        """Time has come to ``now_ns``: unnamed stays that fell silent are over."""
        silent = [
            held
            for held in self._in_bed.values()
            if held.patient is None and now_ns - held.newest_ns > UNNAMED_SILENCE_NS
        ]
        return [self._end(held, now_ns) for held in silent]

    def end(self, bed: str, now_ns: int) -> list[Feed]:
        """Somebody at the device says that the bed is empty."""
        held = self._in_bed.get(bed)
        return [self._end(held, now_ns)] if held else []

    # --- beds

    def _add(self, plan: BedPlan) -> None:
        if plan.name in self._plans:
            raise ConfigError("bed-repeated", f"two beds are called {plan.name!r}; name each bed once")
        self._plans[plan.name] = plan
        for known, names in ((self._place, plan.places), (self._peer, plan.peers)):
            for name in names:
                if known.setdefault(name, plan.name) != plan.name:
                    raise ConfigError("place-repeated", f"two beds have the place or peer {name!r}; give it to one")

    def _bed_of(self, reading: Reading) -> str | Taken:
        """The bed that the reading speaks of, or why there is none."""
        if reading.place:
            return self._place.get(reading.place) or self._by_name(reading.place) or self._announced(reading)
        bed = self._peer.get(reading.peer)
        if bed is None and _named(reading):
            assert reading.patient is not None
            bed = next((held.bed for held in self._in_bed.values() if _same(held, reading.patient)), None)
        if bed is None and reading.change is Change.MERGE:
            return ""
        return bed or Taken(refused="place-missing")

    def _by_name(self, place: str) -> str | None:
        """A bed without places of its own answers to its name: "ICU 5" to ICU 5 and to ICU^^5."""
        plan = self._plans.get(place) or self._plans.get(_words(place))
        return plan.name if plan is not None and plan.places in {(), (plan.name,)} else None

    def _announced(self, reading: Reading) -> str | Taken:
        if not self._automatic:
            return Taken(refused="place-unknown")
        if reading.change not in {None, Change.ADMIT, Change.TRANSFER, Change.UPDATE}:
            return Taken(refused="place-unknown")
        if len(self._plans) >= BEDS_MAX:
            return Taken(refused="beds-full")
        name = _words(reading.place) if _words(reading.place) not in self._plans else reading.place
        self._add(BedPlan(name, places=(reading.place,)))
        return name

    # --- stays

    def _settle(self, bed: str, reading: Reading, now: int) -> list[Feed]:
        """Numerics or a name came for ``bed``: find out whose they are."""
        held = self._in_bed.get(bed)
        if not _named(reading):
            return [] if held else [self._begin(bed, None, reading, now)]
        patient = reading.patient
        assert patient is not None
        if held is not None and _same(held, patient):
            held.patient = _joined(held.patient, patient)
            return []
        elsewhere = next((other for other in self._in_bed.values() if _same(other, patient)), None)
        feeds = [self._end(held, now)] if held else []
        if elsewhere is not None:  # the monitor moved with its patient before any word of it came
            return [*feeds, self._move(elsewhere, bed, now)]
        return [*feeds, self._begin(bed, patient, reading, now)]

    def _admit(self, bed: str, reading: Reading, now: int) -> list[Feed]:
        if _named(reading):
            return self._settle(bed, reading, now)
        held = self._in_bed.get(bed)
        if reading.change is Change.UPDATE and held is not None:
            return []
        return [*([self._end(held, now)] if held else []), self._begin(bed, None, reading, now)]

    def _transfer(self, bed: str, reading: Reading, now: int) -> list[Feed]:
        if _named(reading):
            return self._settle(bed, reading, now)
        origin = self._place.get(reading.previous_place, reading.previous_place)
        coming, held = self._in_bed.get(origin), self._in_bed.get(bed)
        if coming is held:
            return []
        feeds = [self._end(held, now)] if held else []
        if coming is None:
            return [*feeds, self._begin(bed, None, reading, now)]
        return [*feeds, self._move(coming, bed, now)]

    def _back(self, bed: str, reading: Reading, now: int) -> list[Feed]:
        """A transfer was cancelled: the patient goes back to the bed before, where that is still empty."""
        held = self._in_bed.get(bed)
        origin = self._moves.get(held.stay) if held else None
        wrong = (
            _named(reading) and held is not None and reading.patient is not None and not _same(held, reading.patient)
        )
        if held is None or origin is None or wrong:
            return []
        if origin in self._in_bed:
            return [self._end(held, now)]
        return [self._move(held, origin, now)]

    def _discharge(self, bed: str, reading: Reading, now: int) -> list[Feed]:
        """End the named patient's stay, wherever; where nobody is named, the bed's. A late word ends no other."""
        if _named(reading):
            assert reading.patient is not None
            held = next((other for other in self._in_bed.values() if _same(other, reading.patient)), None)
            if held is None and (there := self._in_bed.get(bed)) is not None and there.patient is None:
                held = there
        else:
            held = self._in_bed.get(bed)
        return [self._end(held, now)] if held else []

    def _merge(self, reading: Reading) -> list[Feed]:
        if reading.prior is not None and reading.patient is not None:
            for held in self._in_bed.values():
                if _same(held, reading.prior):
                    held.patient = _joined(reading.patient, reading.prior)
        return []

    def _begin(self, bed: str, patient: PatientRef | None, reading: Reading, now: int) -> Feed:
        plan = self._plans[bed]
        stay, self._next = self._next, self._next + 1
        self._in_bed[bed] = _Held(stay, bed, patient, now)
        said = reading.patient
        age_y, sex = (said.age_y, said.sex) if said else (None, None)
        population = plan.population or population_of(age_y)
        simulated = plan.simulated or reading.simulated
        return Admitted(stay, bed, now, population, age_y, sex, plan.spo2_scale, simulated)

    def _move(self, held: _Held, bed: str, now: int) -> Feed:
        del self._in_bed[held.bed]
        self._moves[held.stay] = held.bed
        held.bed = bed
        self._in_bed[bed] = held
        return Moved(held.stay, bed, now)

    def _end(self, held: _Held, now: int) -> Feed:
        del self._in_bed[held.bed]
        self._moves.pop(held.stay, None)
        return Discharged(held.stay, now)

    def _measured(self, bed: str, numerics: Iterable[Numeric]) -> list[Feed]:
        held = self._in_bed.get(bed)
        kept = tuple(numerics)
        if held is None or not kept:
            return []
        held.newest_ns = max(held.newest_ns, max(numeric.at_ns for numeric in kept))
        return [Measured(held.stay, kept)]


def population_of(age_y: float | None) -> Population:
    """By age in years; adult where it is unknown, for those limits are the narrowest that fit anybody who walks in."""
    if age_y is None or age_y >= PAEDIATRIC_BELOW_Y:
        return Population.ADULT
    return Population.NEONATAL if age_y < NEONATAL_BELOW_Y else Population.PAEDIATRIC


def _words(place: str) -> str:
    """A place for people: "ICU^^5" is "ICU 5"."""
    return " ".join(part for part in place.split("^") if part)


def _named(reading: Reading) -> bool:
    return reading.patient is not None and bool(reading.patient.identifiers)


def _same(held: _Held, patient: PatientRef) -> bool:
    return held.patient is not None and held.patient.same_as(patient)


def _joined(known: PatientRef | None, new: PatientRef) -> PatientRef:
    """One patient under all the identifiers that were given; what was known of age and sex stays."""
    if known is None:
        return new
    return replace(
        known,
        identifiers=known.identifiers | new.identifiers,
        age_y=new.age_y if known.age_y is None else known.age_y,
        sex=known.sex or new.sex,
    )
