"""What a ward says of a bed's ECG stream in its place: while it is silent, gone, or not yet heard."""

from __future__ import annotations

from edgeward.bedside.ecg_beds import TASK, EcgBeds
from edgeward.bedside.fallback import Mode
from edgeward.bedside.verdict import Reason

MS = 1_000_000
SAID = {"mode": "LOCAL", "reason": "", "since_ms": 50}


def told(beds: EcgBeds, now_ms: int) -> tuple[str, str, int]:
    mode = beds.mode("A", now_ms * MS)
    assert mode is not None
    assert mode["task"] == TASK
    return mode["mode"], mode["reason"], mode["since_ms"]


def test_before_its_first_word_there_is_nothing_to_judge() -> None:
    """And a bed without an ECG has no such mode."""
    beds = EcgBeds(["A"], 0)
    assert told(beds, 5) == ("NO_AI", "gap", 5)
    assert beds.mode("B", 0) is None


def test_a_mode_is_kept_with_its_beginning() -> None:
    """Said once by the stream, said again to whoever comes later."""
    beds = EcgBeds(["A"], 0)
    beds.said("A", SAID, 100 * MS)
    assert told(beds, 150) == ("LOCAL", "", 100)


def test_a_silent_stream_that_speaks_again_has_its_mode_back() -> None:
    """It is the same process: what it said last still holds."""
    beds = EcgBeds(["A"], 0)
    beds.said("A", SAID, 100 * MS)
    beds.lost("A", Mode.THRESHOLD_ONLY, Reason.ENGINE_HUNG, 200 * MS)
    assert told(beds, 200) == ("THRESHOLD_ONLY", "engine_hung", 0)
    beds.back("A")
    assert told(beds, 250) == ("LOCAL", "", 200)


def test_what_a_process_said_is_void_once_it_is_gone() -> None:
    """The next one has to say for itself that it judges."""
    beds = EcgBeds(["A"], 0)
    beds.said("A", SAID, 100 * MS)
    beds.gone("A")
    beds.lost("A", Mode.THRESHOLD_ONLY, Reason.ENGINE_CRASHED, 200 * MS)
    beds.back("A")
    assert told(beds, 200) == ("THRESHOLD_ONLY", "engine_crashed", 0)


def test_changes_are_numbered_without_a_gap() -> None:
    """So that an audit can tell that none is missing."""
    beds = EcgBeds(["A"], 0)
    numbers = []
    for step in range(3):
        mode = beds.mode("A", 0)
        assert mode is not None
        numbers.append(mode["changes"])
        beds.said("A", {**SAID, "since_ms": step}, step * MS)
    assert numbers == [0, 1, 2]
