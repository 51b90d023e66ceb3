"""Names of leads, and which two a bed looks at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.signal.lead import choose_slots, normalise


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("II", "II"),
        ("ECG Lead II", "II"),
        ("MDC_ECG_LEAD_II", "II"),
        ("AVR", "aVR"),
        ("mlii", "MLII"),
        (" v5 ", "V5"),
        ("ECG1", "1"),
        ("RESP", "RESP"),
    ],
)
def test_spellings_of_one_lead_are_one_name(name: str, canonical: str) -> None:
    """Prefixes, case and blanks do not make another lead."""
    assert normalise(name) == canonical


@pytest.mark.parametrize(
    ("names", "slots"),
    [
        (("MLII", "V1"), (0, 1)),
        (("V5", "MLII"), (1, 0)),
        (("V5", "V2"), (0, 1)),
        (("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2"), (1, 6)),
        (("V2",), (0,)),
        (("ECG A", "ECG B", "ECG C"), (0, 1)),
    ],
)
def test_the_rhythm_lead_comes_first_and_the_chest_lead_second(names: tuple[str, ...], slots: tuple[int, ...]) -> None:
    """II before all, V1 beside it; unknown names in the order given; one lead alone is enough."""
    assert choose_slots(names) == slots


@given(st.lists(st.text(max_size=8), min_size=2, max_size=16))
def test_any_names_give_two_different_leads(names: list[str]) -> None:
    """Whatever a source calls its leads, two of them are chosen."""
    first, second = choose_slots(names)
    assert first != second
    assert min(first, second) >= 0
    assert max(first, second) < len(names)


def test_no_lead_has_no_slot() -> None:
    """An empty source is a caller's mistake."""
    with pytest.raises(ValueError, match="without leads"):
        choose_slots([])
