"""Who lies where: whatever sources say, in whatever order, no history crosses patients."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.assign import UNNAMED_SILENCE_NS, BedPlan, Beds, population_of
from edgeward.bedside.feed import Admitted, Discharged, Feed, Measured, Moved, Population
from edgeward.bedside.source.reading import Change, PatientRef, Reading
from edgeward.kernel.errors import ConfigError
from edgeward.kernel.limits import BEDS_MAX
from edgeward.signal.numeric import Kind, Numeric

S = 1_000_000_000


def patient(*names: str) -> PatientRef:
    return PatientRef(frozenset(names))


def reading(
    place: str, who: PatientRef | None = None, at_s: int = 1, change: Change | None = None, **more: object
) -> Reading:
    numerics = () if change else (Numeric(Kind.HR, 80.0, at_s * S),)
    return Reading("hl7", place, "gw", at_s * S, patient=who, numerics=numerics, change=change, **more)  # type: ignore[arg-type]


def kinds(feeds: tuple[Feed, ...]) -> list[str]:
    return [type(feed).__name__ for feed in feeds]


def test_a_patient_who_is_named_keeps_the_stay() -> None:
    """Messages of one patient, by any shared identifier, and messages that name nobody go to one stay."""
    beds = Beds()
    assert kinds(beds.take(reading("A", patient("1", "v9"))).feeds) == ["Admitted", "Measured"]
    for who in (patient("1"), patient("v9", "77"), patient("77"), None, patient()):
        assert kinds(beds.take(reading("A", who)).feeds) == ["Measured"]


def test_another_patient_in_the_bed_is_another_stay() -> None:
    """No word of admission is needed: a name that is not the bed's ends the stay."""
    beds = Beds()
    first = beds.take(reading("A", patient("1"))).feeds
    second = beds.take(reading("A", patient("2"))).feeds
    assert kinds(second) == ["Discharged", "Admitted", "Measured"]
    assert second[0] == Discharged(1, S)
    assert isinstance(first[0], Admitted)
    assert isinstance(second[1], Admitted)
    assert second[1].stay == 2


def test_a_name_that_comes_later_does_not_adopt_what_came_before() -> None:
    """Numerics before the name may have been somebody else's."""
    beds = Beds()
    beds.take(reading("A"))
    assert kinds(beds.take(reading("A", patient("1"))).feeds) == ["Discharged", "Admitted", "Measured"]


def test_a_transfer_takes_the_history_along_and_ends_whoever_lay_there() -> None:
    """A02, by name or by the bed before; also when the monitor speaks before the word comes."""
    beds = Beds()
    beds.take(reading("A", patient("1")))
    beds.take(reading("B", patient("2")))
    moved = beds.take(reading("B", patient("1"), 5, Change.TRANSFER, previous_place="A")).feeds
    assert moved == (Discharged(2, 5 * S), Moved(1, "B", 5 * S))
    assert (beds.stay_in("A"), beds.stay_in("B"), beds.bed_of(1)) == (None, 1, "B")
    assert beds.take(reading("C", patient("1"), 6)).feeds[0] == Moved(1, "C", 6 * S)
    assert beds.take(reading("A", None, 7, Change.TRANSFER, previous_place="C")).feeds == (Moved(1, "A", 7 * S),)


def test_a_cancelled_transfer_goes_back_only_where_the_bed_is_still_empty() -> None:
    """A12; when somebody lies there by now the stay ends, because nobody knows where the patient is."""
    beds = Beds()
    beds.take(reading("A", patient("1")))
    beds.take(reading("B", patient("1"), 2, Change.TRANSFER))
    assert beds.take(reading("B", patient("1"), 3, Change.CANCEL_TRANSFER)).feeds == (Moved(1, "A", 3 * S),)
    beds.take(reading("B", patient("1"), 4, Change.TRANSFER))
    beds.take(reading("A", patient("2"), 5))
    assert beds.take(reading("B", patient("1"), 6, Change.CANCEL_TRANSFER)).feeds == (Discharged(1, 6 * S),)


def test_a_late_discharge_ends_nobody_else() -> None:
    """A03 of a patient who has gone already leaves the next one alone, wherever the patient is it finds the stay."""
    beds = Beds()
    beds.take(reading("A", patient("1")))
    beds.take(reading("A", patient("2")))
    assert beds.take(reading("A", patient("1"), 3, Change.DISCHARGE)).feeds == ()
    beds.take(reading("B", patient("2"), 4, Change.TRANSFER))
    assert beds.take(reading("A", patient("2"), 5, Change.DISCHARGE)).feeds == (Discharged(2, 5 * S),)


def test_merged_identities_are_one_patient() -> None:
    """A40: the identity given up and the one that stays lead to the same stay."""
    beds = Beds()
    beds.take(reading("A", patient("temp")))
    beds.take(reading("", patient("1"), 2, Change.MERGE, prior=patient("temp")))
    assert kinds(beds.take(reading("A", patient("1"), 3)).feeds) == ["Measured"]


def test_an_unnamed_stay_ends_in_silence_and_a_named_one_does_not() -> None:
    """After an hour without numerics whoever comes next may be another."""
    beds = Beds()
    beds.take(reading("A"))
    beds.take(reading("B", patient("1")))
    assert beds.passed(S + UNNAMED_SILENCE_NS) == []
    assert beds.passed(2 * S + UNNAMED_SILENCE_NS) == [Discharged(1, 2 * S + UNNAMED_SILENCE_NS)]
    assert beds.stay_in("B") == 2


def test_places_peers_and_unknown_ones() -> None:
    """A configured place or peer finds its bed; what is unknown is refused by name, or becomes a bed where allowed."""
    plans = [BedPlan("Bed 4", places=("ICU^^4",)), BedPlan("Bed 5", peers=("gw",))]
    beds = Beds(plans, automatic=False)
    assert isinstance(beds.take(reading("ICU^^4", patient("1"))).feeds[0], Admitted)
    assert beds.take(reading("", patient("2"))).feeds[0] == Admitted(2, "Bed 5", S)
    assert beds.take(reading("ICU^^9")).refused == "place-unknown"
    assert Beds().take(reading("")).refused == "place-missing"
    named = Beds([BedPlan("ICU 5"), BedPlan("ICU 6", places=("elsewhere",))])
    assert isinstance(named.take(reading("ICU^^5")).feeds[0], Admitted)
    assert (named.stay_in("ICU 5"), len(named.plans)) == (1, 2)
    named.take(reading("ICU^^6"))
    assert (named.stay_in("ICU 6"), named.stay_in("ICU^^6")) == (None, 2)
    announced = Beds().take(reading("ICU^^5^MAIN")).feeds[0]
    assert isinstance(announced, Admitted)
    assert announced.bed == "ICU 5 MAIN"


def test_a_device_does_not_serve_more_beds_than_it_may() -> None:
    """The 65th place is refused; the 64 go on."""
    beds = Beds()
    for number in range(BEDS_MAX):
        assert not beds.take(reading(f"bed-{number}")).refused
    assert beds.take(reading("one-more")).refused == "beds-full"
    assert not beds.take(reading("bed-0")).refused
    with pytest.raises(ConfigError):
        Beds([BedPlan(f"{n}") for n in range(BEDS_MAX + 1)])


def test_plans_that_cannot_be_told_apart_are_refused() -> None:
    """Two beds of one name, or one place for two beds, is the operator's mistake."""
    for plans in ([BedPlan("A"), BedPlan("A")], [BedPlan("A", ("p",)), BedPlan("B", ("p",))]):
        with pytest.raises(ConfigError):
            Beds(plans)


@pytest.mark.parametrize(
    ("age_y", "population"),
    [
        (None, "adult"),
        (16.0, "adult"),
        (15.9, "paediatric"),
        (0.1, "paediatric"),
        (0.05, "neonatal"),
        (0.0, "neonatal"),
    ],
)
def test_population_follows_age(age_y: float | None, population: str) -> None:
    """Adult from 16, neonatal to 28 days."""
    assert population_of(age_y) is Population(population)


def test_no_identifier_is_ever_shown() -> None:
    """Neither the reading nor the beds' own state shows who the patient is."""
    beds = Beds()
    beds.take(reading("A", patient("SECRET-42")))
    shown = repr(reading("A", patient("SECRET-42"))) + repr(beds.__dict__)
    assert "SECRET" not in shown
    found = beds.whose(1)
    assert found is not None
    assert found.identifiers == {"SECRET-42"}
    assert "SECRET" not in repr(found)
    assert beds.whose(2) is None


_PEOPLE = st.sampled_from([None, 0, 1, 2, 3])
_PLACES = st.sampled_from(["A", "B", "C"])
_STEPS = st.lists(
    st.tuples(_PLACES, _PEOPLE, st.sampled_from([None, None, *Change]), _PLACES, st.integers(0, 5000)), max_size=40
)


@given(_STEPS)
def test_no_history_crosses_patients(steps: list[tuple[str, int | None, Change | None, str, int]]) -> None:
    """For any order of words: a stay is of one named patient at most, in one bed, and no number is used twice."""
    beds = Beds()
    owner: dict[int, int] = {}
    open_stays: set[int] = set()
    newest, now = 0, 0
    for place, person, change, before, wait_s in steps:
        now += wait_s
        who = None if person is None else patient(f"id{person}", f"visit{person}")
        if change is Change.MERGE:
            continue  # it makes two people one, which this oracle does not know
        said = reading(place, who, now, change, previous_place=before)
        for feed in (*beds.passed(now * S), *beds.take(said).feeds):
            match feed:
                case Admitted(stay):
                    assert stay > newest
                    newest = stay
                    open_stays.add(stay)
                    if person is not None:
                        owner[stay] = person
                case Discharged(stay):
                    open_stays.remove(stay)
                case Moved(stay):
                    assert stay in open_stays
                case Measured(stay):
                    assert stay in open_stays
                    if person is not None:
                        assert owner.setdefault(stay, person) == person
                        assert beds.bed_of(stay) == place
        held = [beds.stay_in(name) for name in "ABC" if beds.stay_in(name) is not None]
        assert sorted(held) == sorted(open_stays)


def test_a_record_gets_patient_and_place_as_hl7_wrote_them() -> None:
    """Else as the site configured the place; nobody unnamed, and nobody who has gone."""
    beds = Beds([BedPlan("Bed 4", places=("ICU^^4", "ICU^1^4"), peers=("m4",))])
    beds.take(replace(reading("ICU^^4", patient("1")), source="sdc"))
    found = beds.whose(1)
    assert found is not None
    assert (found.identifiers, found.place) == ({"1"}, "ICU^^4")
    beds.take(reading("ICU^1^4", patient("1", "v9")))
    beds.take(replace(reading("", patient("1")), peer="m4"))
    found = beds.whose(1)
    assert found is not None
    assert (found.identifiers, found.place) == ({"1", "v9"}, "ICU^1^4")
    beds.take(reading("ICU 7"))
    assert beds.whose(2) is None
    beds.take(reading("ICU^^4", patient("1"), change=Change.DISCHARGE))
    assert beds.whose(1) is None
    assert beds.whose(99) is None
