"""The child's end: whole lines only, signs of life, nonsense counted, and an end when its input ends."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgeward.bedside.behind import ALIVE_MS, TICK_MS, Lines, Loop
from edgeward.bedside.feed import LINE_BYTES_MAX, Admitted, Feed, Measured, encode
from edgeward.kernel.clock import NS_PER_MS
from edgeward.signal.numeric import Kind, Numeric


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=8), st.data())
def test_lines_come_out_whole_however_they_were_cut(lines: list[bytes], data: st.DataObject) -> None:
    """Any cut of the same bytes gives the same lines."""
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, got = Lines(), []
    for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.push(stream[first:last])
    assert got == lines


def test_a_line_without_an_end_holds_nothing_and_the_next_is_heard() -> None:
    """Memory is bounded; the line still counts as one, for the rim counts it too; what follows is read."""
    reader = Lines()
    for _ in range(40):
        assert reader.push(b"x" * (LINE_BYTES_MAX // 10)) == []
    assert reader.push(b"tail\nwell\n") == [b"", b"well"]
    assert reader.push(b"more\n") == [b"more"]


class Clock:
    """Time that moves by 10 ms at each look."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 10 * NS_PER_MS
        return self.now


class Keeper:
    """A core that keeps what it is told and remembers each measurement."""

    def __init__(self) -> None:
        self.taken: list[Feed] = []
        self.ticks: list[int] = []

    def take(self, message: Feed, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        self.taken.append(message)
        if isinstance(message, Measured):
            return [("memory", {"stay": message.stay, "memory": len(self.taken)})]
        return []

    def tick(self, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        self.ticks.append(now_ns)
        return []


def _served(written: list[bytes]) -> tuple[Keeper, list[tuple[str, dict[str, Any]]], Loop]:
    """Feed ``written`` piece by piece to a loop, end its input, and give what it said."""
    feed_read, feed_write = os.pipe()
    say_read, say_write = os.pipe()
    keeper = Keeper()
    loop = Loop(keeper, feed_read, say_write, Clock())
    thread = threading.Thread(target=loop.run)
    thread.start()
    for piece in written:
        os.write(feed_write, piece)
    os.close(feed_write)
    thread.join(30)
    assert not thread.is_alive()
    os.close(say_write)
    with os.fdopen(say_read) as said:
        messages = [tuple(json.loads(line)) for line in said]
    os.close(feed_read)
    return keeper, messages, loop


def test_half_a_line_is_never_waited_for_and_nonsense_is_counted() -> None:
    """Messages cut anywhere arrive; what is no message is counted and costs nothing else."""
    lines = [Admitted(1, "b", 0), Measured(1, (Numeric(Kind.HR, 80.0, 5),))]
    whole = b"".join(encode(line) for line in lines) + b"nonsense\n[1,2]\n" + encode(lines[1])
    keeper, said, loop = _served([whole[:30], whole[30:71], whole[71:]])
    assert keeper.taken == [*lines, lines[1]]
    assert loop.refused == 2
    assert keeper.ticks
    memories = [data for kind, data in said if kind == "memory"]
    assert memories == [
        {"stay": 1, "memory": 2, "taken": 2},
        {"stay": 1, "memory": 3, "taken": 5},
    ]


class Unhurried(Keeper):
    """A core with work that can wait: it notes how much had been said when its turn came."""

    def __init__(self, read_fd: int) -> None:
        super().__init__()
        self._read_fd = read_fd
        self.out: list[int] = []

    def tick(self, now_ns: int) -> list[tuple[str, dict[str, Any]]]:
        super().tick(now_ns)
        return [("ticked", {"n": len(self.ticks)})]

    def afterwards(self, now_ns: int) -> None:
        os.set_blocking(self._read_fd, False)
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._read_fd, 65_536)
            self.out += [json.loads(line)[1]["n"] for line in said.splitlines() if b"ticked" in line]
        assert self.out[-1] == len(self.ticks)


def test_what_can_wait_comes_after_everything_that_was_said() -> None:
    """Its turn comes when the messages of the moment are on their way, and not before."""
    feed_read, feed_write = os.pipe()
    say_read, say_write = os.pipe()
    core = Unhurried(say_read)
    os.close(feed_write)
    Loop(core, feed_read, say_write, Clock()).run()
    assert core.out == [1]
    for fd in (feed_read, say_read, say_write):
        os.close(fd)


def test_it_says_that_it_lives_before_anything_is_fed() -> None:
    """The rim hears of it as soon as it runs, with how many lines it has taken."""
    _, said, _ = _served([])
    assert said[0] == ("alive", {"taken": 0, "refused": 0})
    assert TICK_MS <= ALIVE_MS < 250


def test_it_ends_when_nobody_listens() -> None:
    """A rim that is gone is noticed by writing to it, too."""
    feed_read, feed_write = os.pipe()
    say_read, say_write = os.pipe()
    os.close(say_read)
    loop = Loop(Keeper(), feed_read, say_write, Clock())
    loop.run()
    for fd in (feed_read, feed_write, say_write):
        os.close(fd)
