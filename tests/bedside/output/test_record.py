"""What is for a record, decided in one place: each advisory once and taken back, for the patient it was raised for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.bedside.output.record import Effect, Enter, Moment, Note, Record
from edgeward.kernel.clock import NS_PER_S
from edgeward.wire.entries import Notice, Whose

EVERY_NS = 900 * NS_PER_S
ADVISORY = {
    "bed": "5", "stay": 7, "id": "a1", "code": "sepsis-act", "text": "High risk of sepsis", "priority": "high",
    "active": True, "raised_ms_ago": 1000,
}  # fmt: skip


def _whose(stay: int) -> Whose | None:
    return Whose(frozenset({f"P{stay}^^^HOSP^MR"}), f"ICU^^{stay}") if stay < 100 else None


def _at(second: float) -> Moment:
    return Moment(round(second * NS_PER_S), round((1_767_225_600 + second) * NS_PER_S))


def _bed(bed: str, stay: int | None) -> dict[str, Any]:
    return {"bed": bed, "state": "empty" if stay is None else "occupied", "stay": stay}


def _notices(effects: list[Effect]) -> list[tuple[str, bool, str]]:
    """Of every advisory entered: its key, whether it is ended, and its patient."""
    found = []
    for effect in effects:
        if isinstance(effect, Enter) and isinstance(effect.entry, Notice):
            (number,) = effect.whose.identifiers
            found.append((effect.entry.key, effect.entry.ended_ns is not None, number.partition("^")[0]))
    return found


def test_an_advisory_moves_with_its_patient() -> None:
    """Another bed is no end of it; the discharge from there is."""
    record = Record("hl7", EVERY_NS, _whose)
    assert _notices(record.take("advisory", ADVISORY, _at(1))) == [("7.a1", False, "P7")]
    for bed, stay in (("6", 7), ("5", None), ("6", 7), ("5", 8)):
        assert record.take("bed", _bed(bed, stay), _at(2)) == []
    assert _notices(record.take("bed", _bed("6", None), _at(3))) == [("7.a1", True, "P7")]
    assert record.take("bed", _bed("6", None), _at(4)) == []


def test_two_records_keep_their_notes_apart() -> None:
    """What one destination was told is no other's to take back."""
    effects = Record("hl7", EVERY_NS, _whose).take("advisory", ADVISORY, _at(1))
    notes = {effect.key: effect.text for effect in effects if isinstance(effect, Note) and effect.text}
    assert len(notes) == 1
    assert Record("fhir", EVERY_NS, _whose).begin(notes, _at(9)) == []
    again = Record("hl7", EVERY_NS, _whose).begin(notes, _at(9))
    assert _notices(again) == [("7.a1", True, "P7")]
    (entered,) = (effect for effect in again if isinstance(effect, Enter))
    assert entered.whose.place == "ICU^^7"
    assert [effect.text for effect in again if isinstance(effect, Note)] == [None]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"identifiers": 1, "place": "", "notice": {}}', b"\xff"])
def test_a_note_that_cannot_be_read_is_forgotten_and_counted(text: bytes) -> None:
    """A damaged file keeps no device from starting."""
    record = Record("hl7", EVERY_NS, _whose)
    (forgotten,) = record.begin({"hl7.raised.7.a1": text}, _at(1))
    assert forgotten == Note("hl7.raised.7.a1", None)
    assert record.failed == 1


_STAY = st.integers(1, 4)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advisory"), _STAY, st.sampled_from("ab"), st.booleans(), st.sampled_from(["low", "high"])),
        st.tuples(st.just("bed"), st.sampled_from("12"), st.none() | _STAY),
        st.tuples(st.just("score"), _STAY, st.sampled_from(["none", "act"]), st.integers(0, 1200)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(_STEPS)
def test_what_stands_in_the_record_is_taken_back_once_and_for_its_patient(steps: list[tuple[Any, ...]]) -> None:
    """After any story and a restart nothing is left standing; ids are never used twice."""
    record = Record("hl7", EVERY_NS, _whose)
    effects: list[Effect] = []
    second = 0.0
    for step in steps:
        match step:
            case ("advisory", stay, name, active, priority):
                told = {**ADVISORY, "stay": stay, "bed": "1", "id": name, "active": active, "priority": priority}
                effects += record.take("advisory", told, _at(second))
            case ("bed", bed, stay):
                effects += record.take("bed", _bed(bed, stay), _at(second))
            case ("score", stay, level, after_s):
                second += after_s
                score = {
                    "stay": stay, "bed": "1", "task": "t", "version": "1", "rung": "LOCAL", "outcome": "accepted",
                    "why": None, "probability": 0.1, "level": level, "drivers": [], "missing_share": 0.0,
                    "stale_share": 0.0, "age_ms": 0, "ttl_ms": 60_000,
                }  # fmt: skip
                effects += record.take("score", score, _at(second))
    notes: dict[str, bytes] = {}
    for effect in effects:
        if isinstance(effect, Note) and effect.text is None:
            notes.pop(effect.key, None)
        elif isinstance(effect, Note):
            assert effect.text is not None
            notes[effect.key] = effect.text
    effects += Record("hl7", EVERY_NS, _whose).begin(notes, _at(second + 1e6))
    standing: dict[str, str] = {}
    for key, ended, patient in _notices(effects):
        assert patient == f"P{key.partition('.')[0]}"
        if ended:
            assert standing.pop(key) == patient, "only what stands is taken back"
        else:
            standing[key] = patient
    assert standing == {}
    assert record.failed == 0
    names = [effect.id for effect in effects if isinstance(effect, Enter)]
    assert len(set(names)) == len(names)
