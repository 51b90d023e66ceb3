"""The rim's end of a process behind it: whatever that does, the rim never waits, notices, and tells the next one."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from side_children import NONSENSE

from edgeward.bedside.feed import Admitted, Measured, Moved, TaskSettings
from edgeward.bedside.recall import Care
from edgeward.bedside.side import Happening, Place, SideProcess, What
from edgeward.bedside.system import SystemClock
from edgeward.bedside.thresholds.process import MODULE
from edgeward.bedside.thresholds.settings import ThresholdSettings
from edgeward.inference.backoff import BackoffPolicy
from edgeward.signal.numeric import Kind, Numeric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_ONCE = BackoffPolicy(free=1_000_000)
LONG_S = 30.0


class Rim:
    """Drives a side process as the rim would, and keeps what it heard."""

    def __init__(self, side: SideProcess) -> None:
        self.side = side
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.happened: list[Happening] = []

    def turn(self) -> None:
        """One turn of the rim's loop."""
        self.heard += self.side.hear()
        self.happened += self.side.check(time.monotonic_ns())

    def until(self, condition: Callable[[], bool]) -> None:
        """Turn until ``condition`` holds; a busy machine may need long."""
        deadline = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < deadline, (self.happened, self.heard[-3:])
            self.turn()
            time.sleep(0.005)

    def back(self, times: int) -> None:
        """Turn until the process has been back so many times."""
        self.until(lambda: sum(h.what is What.BACK for h in self.happened) >= times)

    def values(self) -> list[float]:
        """The values that were echoed."""
        return [data["value"] for kind, data in self.heard if kind == "echo"]

    def troubles(self) -> list[tuple[What, str]]:
        """What happened but coming back."""
        return [(h.what, h.how) for h in self.happened if h.what is not What.BACK]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rim]]:
    """Rims around ``side_children``; stopped at the end."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), here])))
    made: list[SideProcess] = []

    def build(backoff: BackoffPolicy = AT_ONCE, **settings: Any) -> Rim:
        side = SideProcess("odd", "side_children", settings, SystemClock(), backoff=backoff)
        made.append(side)
        side.start()
        return Rim(side)

    yield build
    for side in made:
        side.close()


def _hr(value: float, at: int = 0) -> Measured:
    return Measured(1, (Numeric(Kind.HR, value, at),))


def test_what_is_fed_is_heard_in_order(make: Callable[..., Rim]) -> None:
    """Even what was fed before the process was there."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    for value in range(20, 70):
        rim.side.feed(_hr(value))
    rim.until(lambda: len(rim.values()) == 50)
    assert rim.values() == list(range(20, 70))
    assert rim.heard[0] == ("admitted", {"stay": 1, "bed": "bed"})
    rim.back(1)
    assert rim.troubles() == []


@pytest.mark.parametrize(("number", "how"), [(signal.SIGKILL, "signal-9"), (signal.SIGTERM, "signal-15")])
def test_a_killed_process_is_noticed_and_the_next_one_knows_everything(
    make: Callable[..., Rim], number: int, how: str
) -> None:
    """The bed the patient lies in now, the memory it gave, what came since, and what is fed while it is down."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    rim.side.feed(_hr(101))
    rim.side.feed(_hr(50))
    rim.side.feed(Moved(1, "other bed", 0))
    rim.until(lambda: len(rim.values()) == 2)
    rim.back(1)
    first = rim.side.pid
    assert first is not None
    os.kill(first, number)
    rim.side.feed(_hr(60))
    rim.until(lambda: bool(rim.troubles()))
    assert rim.troubles()[0][0] is What.CRASHED
    assert rim.troubles()[0][1] in (how, "hung-up")
    assert not rim.side.caught_up
    rim.heard.clear()
    rim.back(2)
    assert rim.side.pid != first
    assert rim.side.restarts == 1
    assert rim.heard[:2] == [
        ("admitted", {"stay": 1, "bed": "other bed"}),
        ("resumed", {"stay": 1, "memory": 101.0}),
    ]
    assert rim.values() == [50, 60]


@pytest.mark.parametrize("value", [2, 4])
def test_a_process_that_hangs_or_is_stopped_is_replaced(make: Callable[..., Rim], value: int) -> None:
    """An endless loop and a stopped process both give no sign of life; the poisoned message is not told for ever."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    rim.back(1)
    rim.side.feed(_hr(value))
    rim.until(lambda: (What.HUNG, "silent") in rim.troubles())
    # The next one meets the same message while it starts: it is killed as one that does not start.
    os.kill(rim.side.pid or 0, signal.SIGKILL)
    rim.back(2)
    assert rim.side.caught_up


def test_a_message_that_kills_is_left_out_the_second_time(make: Callable[..., Rim]) -> None:
    """A numeric that its core dies of costs that numeric, not the process; the memory survives."""
    rim = make(poison=[66])
    rim.side.feed(Admitted(1, "bed", 0))
    rim.side.feed(_hr(105))
    rim.back(1)
    time.sleep(2.1)  # well established
    rim.turn()
    rim.side.feed(_hr(66))
    rim.back(2)
    assert [h.care for h in rim.happened if h.what is What.CRASHED] == [Care.WHOLE, Care.MEMORY]
    assert rim.heard[-1] == ("resumed", {"stay": 1, "memory": 105.0})


def test_a_memory_that_kills_is_left_out_the_third_time(make: Callable[..., Rim]) -> None:
    """Then only who lies where is told: a watch without history is better than none."""
    rim = make(poison=[])
    rim.side.feed(Admitted(1, "bed", 0))
    rim.side.feed(_hr(166))
    rim.back(1)
    rim.side._argument = rim.side._argument.replace('"poison": []', '"poison": [166.0]')
    os.kill(rim.side.pid or 0, signal.SIGKILL)
    rim.back(2)
    assert [h.care for h in rim.happened if h.what is What.CRASHED][-1] is Care.BEDS
    rim.side.feed(_hr(70))
    rim.until(lambda: rim.values()[-1] == 70)


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_on_the_way_out_is_not_believed(make: Callable[..., Rim], value: float) -> None:
    """A process that says what is no message is replaced, and nothing of it is kept."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    rim.back(1)
    rim.side.feed(_hr(value))
    rim.until(lambda: (What.NONSENSE, "nonsense") in rim.troubles())
    rim.back(2)


def test_much_is_heard_whole(make: Callable[..., Rim]) -> None:
    """A megabyte of messages arrives complete, in several turns."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    rim.side.feed(_hr(5))
    rim.until(lambda: sum(kind == "much" for kind, _ in rim.heard) == 2_000)
    assert all(data == {"text": "x" * 500} for kind, data in rim.heard if kind == "much")


def test_a_process_that_does_not_read_is_noticed_and_costs_no_waiting(make: Callable[..., Rim]) -> None:
    """The rim feeds on while it is stopped; nothing blocks, and the next one takes the rest."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    rim.back(1)
    os.kill(rim.side.pid or 0, signal.SIGSTOP)
    began = time.process_time()
    for at in range(20_000):
        rim.side.feed(_hr(70, at))
    assert time.process_time() - began < 20.0
    rim.until(lambda: any(what is What.HUNG for what, _ in rim.troubles()))
    rim.back(2)


def test_a_rim_that_was_away_does_not_take_silence_for_death(make: Callable[..., Rim]) -> None:
    """A paused machine must not cost a healthy process: silence counts only while the rim looked."""
    rim = make()
    rim.back(1)
    pid = rim.side.pid
    time.sleep(0.3)
    happened = rim.side.check(time.monotonic_ns() + 60_000_000_000)
    assert happened == []
    rim.turn()
    assert rim.side.pid == pid


@pytest.mark.parametrize(
    ("settings", "words"), [({"die": True}, "cannot find my library"), ({"refuse": True}, "[setting-invalid]")]
)
def test_a_process_that_cannot_start_says_why_and_is_tried_more_and_more_rarely(
    make: Callable[..., Rim], settings: dict[str, Any], words: str
) -> None:
    """Its last words are told, for no patient's data was fed; the wait between two tries grows."""
    rim = make(backoff=BackoffPolicy(free=2, base_s=0.2, longest_s=0.4), **settings)
    rim.until(lambda: len(rim.troubles()) >= 4)
    first = rim.happened[0]
    assert first.what is What.CRASHED
    assert words in first.words
    times = [h.at_ns for h in rim.happened]
    assert times[3] - times[2] >= 0.2e9


def test_what_cannot_be_told_is_refused_and_not_kept(make: Callable[..., Rim]) -> None:
    """A message that is no JSON is its sender's error, once; a restart does not meet it again."""
    rim = make()
    rim.back(1)
    with pytest.raises(ValueError):
        rim.side.feed(Admitted(1, "bed", 0, age_y=float("nan")))
    os.kill(rim.side.pid or 0, signal.SIGKILL)
    rim.back(2)


def test_last_words_are_not_told_once_a_patient_was_fed(make: Callable[..., Rim]) -> None:
    """A traceback may hold a value."""
    rim = make()
    rim.side.feed(Admitted(1, "bed", 0))
    rim.back(1)
    rim.side.feed(_hr(1))
    rim.until(lambda: bool(rim.troubles()))
    assert all(h.words == "" for h in rim.happened)


def test_the_next_process_starts_with_the_settings_that_were_settled(make: Callable[..., Rim]) -> None:
    """The one that runs keeps its own; what it is told of bundles is for it alone, and no process is told it again."""
    rim = make()
    rim.back(1)
    first = rim.side.pid
    rim.side.feed(Admitted(1, "bed", 0))
    rim.side.feed(TaskSettings("toy", "file", "hash"))
    rim.side.settle({"poison": [], "die": True})
    rim.side.feed(_hr(60))
    rim.until(lambda: rim.values() == [60])
    assert rim.side.pid == first
    os.kill(first or 0, signal.SIGKILL)
    rim.until(lambda: (What.CRASHED, "exit-3") in rim.troubles())
    rim.side.settle({})
    rim.back(2)
    assert [kind for kind, _ in rim.heard].count("admitted") == 2


def test_one_descriptor_serves_an_event_loop_across_restarts(make: Callable[..., Rim]) -> None:
    """asyncio hears of messages and of a death through the same number, before and after."""
    rim = make()
    fd = rim.side.fileno()

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def ready() -> None:
            rim.turn()
            woken.set()

        loop.add_reader(fd, ready)
        try:
            for round_ in (1, 2):
                while sum(h.what is What.BACK for h in rim.happened) < round_:
                    woken.clear()
                    await asyncio.wait_for(woken.wait(), LONG_S)
                    rim.turn()
                if round_ == 1:
                    os.kill(rim.side.pid or 0, signal.SIGKILL)
        finally:
            loop.remove_reader(fd)

    asyncio.run(scene())
    assert rim.side.fileno() == fd
    assert rim.side.restarts == 1


def test_it_is_asked_for_room_only_while_something_waits(make: Callable[..., Rim]) -> None:
    """The descriptor is not readable for ever: an idle process wakes the rim only with its own words."""
    rim = make()
    rim.back(1)
    deadline = time.monotonic() + LONG_S
    while select.select([rim.side.fileno()], [], [], 0)[0]:
        assert time.monotonic() < deadline
        rim.turn()
    assert select.select([rim.side.fileno()], [], [], 1.0)[0]  # its next sign of life


def test_the_child_ends_with_the_rim(make: Callable[..., Rim]) -> None:
    """When the pipe ends, so does the process: none outlives the rim. Stopping twice is once."""
    rim = make()
    rim.back(1)
    process = rim.side._child._process  # type: ignore[union-attr]
    os.close(os.dup(rim.side._child._feed))  # type: ignore[union-attr]
    rim.side._child._fds.close()  # type: ignore[union-attr]
    assert process.wait(LONG_S) == 0
    rim.side._child._ended = True  # type: ignore[union-attr]
    rim.side.stop()
    rim.side.stop()


def test_ctrl_c_in_the_terminal_is_the_rims_to_answer(make: Callable[..., Rim]) -> None:
    """The child stands in a process group of its own and takes no interrupt."""
    rim = make()
    rim.back(1)
    pid = rim.side.pid or 0
    assert os.getpgid(pid) != os.getpgid(0)
    os.kill(pid, signal.SIGINT)
    rim.side.feed(Admitted(1, "bed", 0))
    rim.until(lambda: ("admitted", {"stay": 1, "bed": "bed"}) in rim.heard)


def test_the_thresholds_process_needs_nothing_but_its_pipe() -> None:
    """Without numpy, without a model: the modules that it loads say so. Killed, it comes back with its alert."""
    settings = ThresholdSettings().to_json()
    with SideProcess(
        "thresholds", MODULE, settings, SystemClock(), place=Place(realtime=True), backoff=AT_ONCE
    ) as side:
        rim = Rim(side)
        side.feed(Admitted(1, "bed", time.monotonic_ns()))
        rim.back(1)
        loaded = Path(f"/proc/{side.pid}/maps").read_text()
        assert "numpy" not in loaded
        assert "onnxruntime" not in loaded
        side.feed(Measured(1, (Numeric(Kind.NIBP_SYS, 70.0, time.monotonic_ns()),)))
        rim.until(lambda: any(kind == "alert" for kind, _ in rim.heard))
        alert = next(data for kind, data in rim.heard if kind == "alert")
        assert (alert["code"], alert["active"]) == ("sys-extreme-low", True)
        rim.heard.clear()
        os.kill(side.pid or 0, signal.SIGKILL)
        rim.back(2)
        again = next(data for kind, data in rim.heard if kind == "alert")
        assert (again["id"], again["active"]) == (alert["id"], True)
