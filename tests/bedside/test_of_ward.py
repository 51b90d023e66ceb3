"""A stream's ear for its ward."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.feed import Discharged, TaskSettings, encode
from edgeward.bedside.of_ward import OfWard

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLD = TaskSettings("ecg-beat", "/slots/a", "a" * 64, turn=3)


class Line:
    """A pipe with an ear at its end."""

    def __init__(self) -> None:
        self.over = threading.Event()
        read_fd, self.write_fd = os.pipe()
        self.ear = OfWard("ecg-beat", read_fd, self.over.set)

    def say(self, data: bytes) -> None:
        os.write(self.write_fd, data)

    def next(self) -> TaskSettings:
        end = threading.Event()
        while (told := self.ear.due()) is None:
            assert not end.wait(0.01)
        return told


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    if not made.over.is_set():
        os.close(made.write_fd)
        assert made.over.wait(10)


def test_what_is_told_is_heard_once_and_the_last_word_counts(line: Line) -> None:
    """Lines may come in pieces, or several at once."""
    data = encode(TOLD)
    line.say(data[:20])
    assert line.ear.first(0.05) == TaskSettings("ecg-beat")
    line.say(data[20:])
    assert line.ear.first(10) == TOLD
    assert line.ear.due() is None
    line.say(encode(TOLD) + encode(TaskSettings("ecg-beat", turn=4)))
    assert line.next().turn in (3, 4)


def test_what_is_no_message_for_it_is_passed_over(line: Line) -> None:
    """Nonsense, other messages, another task."""
    line.say(b"nonsense\n\xff\n[]\n" + encode(Discharged(1, 2)) + encode(TaskSettings("sepsis-risk", turn=9)))
    line.say(encode(TOLD))
    assert line.ear.first(10) == TOLD


def test_when_nobody_holds_the_other_end_it_says_so(line: Line) -> None:
    """The stream then ends."""
    os.close(line.write_fd)
    assert line.over.wait(10)
