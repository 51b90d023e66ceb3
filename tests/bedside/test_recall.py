"""What a restarted process is told: its memory, what came after, and less of it when it dies of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.feed import Acknowledged, Admitted, Discharged, Feed, Measured, Moved, Resumed, Suspended
from edgeward.bedside.recall import DEEDS_MAX, NUMERICS_MAX, STAYS_MAX, Care, Recall
from edgeward.signal.numeric import Kind, Numeric


def _measured(stay: int, at: int, kind: Kind = Kind.HR, value: float = 80.0) -> Measured:
    return Measured(stay, (Numeric(kind, value, at),))


def test_a_new_process_is_told_the_bed_the_memory_and_the_rest() -> None:
    """In that order, stay by stay; what the memory holds already is not told twice."""
    recall = Recall()
    recall.fed(Admitted(1, "a", 0))
    recall.fed(_measured(1, 10))
    recall.fed(Admitted(2, "b", 0))
    recall.fed(_measured(2, 11))
    recall.fed(_measured(1, 20))
    recall.remember(1, {"seen": 10}, taken=2)
    recall.fed(Moved(1, "c", 30))
    recall.fed(Acknowledged(1, "x", 40))
    assert recall.replay() == [
        Admitted(1, "c", 0),
        Resumed(1, {"seen": 10}),
        _measured(1, 20),
        Acknowledged(1, "x", 40),
        Admitted(2, "b", 0),
        _measured(2, 11),
    ]


def test_lines_are_counted_anew_after_a_restart() -> None:
    """A memory of the new process leaves what it had not yet taken, and drops what it had."""
    recall = Recall()
    for message in (Admitted(1, "a", 0), _measured(1, 1), Admitted(2, "b", 0), _measured(2, 2)):
        recall.fed(message)
    recall.replay()
    recall.fed(_measured(1, 5))  # line 5
    recall.remember(1, "m", taken=4)
    assert recall.replay()[:3] == [Admitted(1, "a", 0), Resumed(1, "m"), _measured(1, 5)]
    recall.remember(2, "n", taken=4)  # its numeric is line 5 of this replay
    assert recall.replay()[3:] == [Admitted(2, "b", 0), Resumed(2, "n"), _measured(2, 2)]


def test_a_discharged_stay_is_forgotten() -> None:
    """And what comes late for it is not kept."""
    recall = Recall()
    recall.fed(Admitted(1, "a", 0))
    recall.fed(Discharged(1, 5))
    recall.fed(_measured(1, 6))
    recall.remember(1, "m", taken=9)
    assert recall.replay() == []
    assert recall.stays == 0


def test_less_is_told_to_one_that_dies_of_it() -> None:
    """First without what came since the memory, then without the memory; who lies where is always told."""
    recall = Recall()
    recall.fed(Admitted(1, "a", 0))
    recall.remember(1, "m", taken=1)
    recall.fed(_measured(1, 5))
    assert recall.replay(Care.MEMORY) == [Admitted(1, "a", 0), Resumed(1, "m")]
    recall.fed(_measured(1, 6))
    assert recall.replay(Care.BEDS) == [Admitted(1, "a", 0)]
    recall.fed(_measured(1, 7))
    assert recall.replay() == [Admitted(1, "a", 0), _measured(1, 7)]


def test_memory_is_bounded_and_keeps_the_newest_of_each_kind() -> None:
    """Hours without a memory from a busy monitor: bounded, and a temperature from the beginning is still there."""
    recall = Recall()
    recall.fed(Admitted(1, "a", 0))
    recall.fed(_measured(1, 1, Kind.TEMP, 38.5))
    recall.fed(Suspended(1, 100, 2))
    for at in range(3, 5 * NUMERICS_MAX):
        recall.fed(_measured(1, at))
        if at % 7 == 0:
            recall.fed(Acknowledged(1, "", at))
    told = recall.replay()
    numerics = [numeric for message in told if isinstance(message, Measured) for numeric in message.numerics]
    deeds = [message for message in told if isinstance(message, Acknowledged | Suspended)]
    assert len(numerics) <= NUMERICS_MAX + 2
    assert len(deeds) <= NUMERICS_MAX
    assert [n for n in numerics if n.kind is Kind.TEMP] == [Numeric(Kind.TEMP, 38.5, 1)]
    assert numerics[-1].at_ns == 5 * NUMERICS_MAX - 1
    assert DEEDS_MAX < NUMERICS_MAX


def test_stays_are_bounded() -> None:
    """The one heard of least recently goes."""
    recall = Recall()
    for stay in range(STAYS_MAX):
        recall.fed(Admitted(stay, "b", 0))
    recall.fed(_measured(0, 1))
    recall.fed(Admitted(STAYS_MAX, "b", 0))
    kept = {message.stay for message in recall.replay()}
    assert recall.stays == STAYS_MAX
    assert {0, STAYS_MAX} <= kept
    assert 1 not in kept


MESSAGES = st.lists(
    st.one_of(
        st.builds(Admitted, st.integers(1, 3), st.sampled_from("ab"), st.just(0)),
        st.builds(Moved, st.integers(1, 3), st.sampled_from("ab"), st.just(0)),
        st.builds(Discharged, st.integers(1, 3), st.just(0)),
        st.builds(_measured, st.integers(1, 3), st.integers(0, 9)),
        st.builds(Acknowledged, st.integers(1, 3), st.just(""), st.just(0)),
        st.tuples(st.integers(1, 3), st.integers(0, 30)),  # a memory, after so many lines
    ),
    max_size=30,
)


@given(MESSAGES)
def test_nothing_is_lost_and_nothing_is_told_twice(messages: list[Feed | tuple[int, int]]) -> None:
    """Of each stay that is there: its memory, then exactly what was fed after the line that the memory names."""
    recall = Recall()
    lines: list[Feed] = []
    memory: dict[int, int] = {}
    for message in messages:
        if isinstance(message, tuple):
            stay, taken = message
            taken = max(min(taken, len(lines)), memory.get(stay, 0))
            recall.remember(stay, taken, taken)
            memory[stay] = taken
            continue
        recall.fed(message)
        lines.append(message)
        begins = isinstance(message, Admitted) and message.stay not in _there(lines[:-1])
        if begins or isinstance(message, Discharged):
            memory.pop(message.stay, None)
    told = recall.replay()
    there = _there(lines)
    assert [m.stay for m in told if isinstance(m, Admitted)] == [s for s in _order(told) if s in there]
    for stay, begun in there.items():
        taken = memory.get(stay)
        expected = [
            m
            for k, m in enumerate(lines, 1)
            if k > begun and m.stay == stay and k > (taken or 0) and isinstance(m, Measured | Acknowledged)
        ]
        got = [m for m in told if m.stay == stay and isinstance(m, Measured | Acknowledged)]
        assert got == expected


def _there(lines: list[Feed]) -> dict[int, int]:
    """Stay → the line that it begins with, of the stays that are there at the end."""
    there: dict[int, int] = {}
    for line, message in enumerate(lines, 1):
        if isinstance(message, Admitted):
            there.setdefault(message.stay, line)
        elif isinstance(message, Discharged):
            there.pop(message.stay, None)
    return there


def _order(told: list[Feed]) -> list[int]:
    return list(dict.fromkeys(message.stay for message in told))
