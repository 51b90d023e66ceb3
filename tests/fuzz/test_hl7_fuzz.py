"""A short run of the fuzz target at every test, and proof that its oracles can fail."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hl7_fuzz import BrokenPromiseError, Harness, Mutant, Mutator, run
from hl7_seeds import names, seed

from edgeward.bedside.source import hl7_receive
from edgeward.wire import hl7v2_decode

KEPT = Path(__file__).with_name("kept") / "hl7"


@pytest.mark.parametrize("number", [1, 2026])
def test_a_few_thousand_mutations_break_no_promise(number: int) -> None:
    """The long run is ``make fuzz``."""
    harness = run(2_500, number)
    assert harness.taken > 500
    assert harness.refused > 500


def test_seeds_themselves_break_no_promise() -> None:
    """Unmutated, each is taken."""
    harness = Harness()
    for name in names():
        harness.check(Mutant(seed(name), name), random.Random(1))


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.bin")), ids=lambda path: path.stem)
def test_what_was_found_once_stays_fixed(path: Path) -> None:
    """Inputs that broke a promise before: a lost PID, headers that made answers long, a control character."""
    Harness().check(Mutant(path.read_bytes(), path.name.split("-")[0]), random.Random(1))


def test_the_same_seed_draws_the_same_mutants() -> None:
    """A failure can be run again."""
    one, other = Mutator(random.Random(7)), Mutator(random.Random(7))
    assert [one.draw() for _ in range(50)] == [other.draw() for _ in range(50)]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("patient", "an identifier that no PID states"),
        ("owner", "a number went to another patient"),
        ("answer", "the rules ask for"),
        ("crash", "should never be"),
    ],
)
def test_the_oracles_can_fail(name: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that keeps its promise badly is caught."""
    if name == "patient":
        monkeypatch.setattr(hl7v2_decode, "read_patient", _someone_else)
    elif name == "owner":
        monkeypatch.setattr(hl7v2_decode, "_patient_group", _always_the_first())
    elif name == "answer":
        monkeypatch.setattr("edgeward.wire.hl7v2_ack._wanted", lambda condition, taken: True)
    else:
        monkeypatch.setattr(hl7_receive, "decode", lambda *_: 1 / 0)
    with pytest.raises(BrokenPromiseError, match=fault):
        Harness().check(Mutant(seed("several_patients"), "several_patients"), random.Random(1))


def _someone_else(*_: object) -> tuple[Any, list[tuple[str, str]]]:
    from edgeward.wire.hl7v2_patient import Patient

    return Patient(frozenset({"4711^^^HOSP^MR"}), None, None), []


def _always_the_first() -> Any:
    original = hl7v2_decode._patient_group
    kept: list[Any] = []

    def group(*arguments: Any) -> Any:
        made = original(*arguments)
        kept.append(made.patient)
        made.patient = kept[0]
        return made

    return group
