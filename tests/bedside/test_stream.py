"""An ECG bed's stream as the ward keeps it: heard, missed when it is silent, replaced when it stays so or ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

from edgeward.bedside import stream as stream_module
from edgeward.bedside.side import CHECK_MS, What
from edgeward.bedside.stream import EcgStream
from edgeward.bedside.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from edgeward.bedside.messages import Message

JUDGES = """import json, sys, time, threading, os
def end():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end, daemon=True).start()
def say(kind, **more):
    print(json.dumps({"t": "x", "kind": kind, **more}), flush=True)
"""
SPEAKS = JUDGES + "while True:\n    say('numerics', values={'hr': 70.0})\n    time.sleep(0.1)\n"
FALLS_SILENT = JUDGES + "say('numerics', values={'hr': 70.0})\ntime.sleep(60)\n"
WAITS = JUDGES + "say('numerics', values={})\nsay('ended')\ntime.sleep(60)\n"
ENDS = "raise SystemExit(3)\n"


class Bed:
    """A stream and everything that was heard of it."""

    def __init__(self, text: str) -> None:
        self.stream = EcgStream("Bed 1", [sys.executable, "-c", text], SystemClock())
        self.messages: list[Message] = []
        self.happened: list[tuple[What, str]] = []

    def look(self) -> None:
        """As the ward's loop does."""
        until = time.monotonic() + CHECK_MS / 1000
        while (left := until - time.monotonic()) > 0:
            if select.select([self.stream.fileno()], [], [], left)[0]:
                self.messages += self.stream.hear()
        for one in self.stream.check(time.monotonic_ns()):
            self.happened.append((one.what, one.how))

    def until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + 20
        while not what():
            assert time.monotonic() < end, "it did not come about"
            self.look()

    @property
    def whats(self) -> list[What]:
        return [what for what, _ in self.happened]


def test_it_is_heard_and_ends_in_order() -> None:
    """Back means that it judges, not that a process is there."""
    bed = Bed(SPEAKS)
    bed.until(lambda: len(bed.messages) > 2)
    assert bed.whats == [What.BACK]
    assert {kind for kind, _ in bed.messages} == {"numerics"}
    assert bed.stream.pid is not None
    bed.stream.stop()
    assert bed.stream.pid is None


def test_silence_is_told_at_once_and_the_process_replaced_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat that it may still save is worth more than a quick restart."""
    monkeypatch.setattr(stream_module, "SILENT_S", 1.5)
    bed = Bed(FALLS_SILENT)
    bed.until(lambda: What.HUNG in bed.whats)
    assert bed.happened[-1] == (What.HUNG, "silent")
    first = bed.stream.pid
    assert bed.stream.restarts == 0
    bed.until(lambda: bed.stream.restarts == 1 and bed.stream.pid is not None)
    assert bed.stream.pid != first
    bed.until(lambda: bed.whats[-1] is What.BACK)
    assert bed.whats == [What.BACK, What.HUNG, What.BACK]  # told once, however long it lasted
    bed.stream.stop()


def test_between_two_sources_it_may_be_silent() -> None:
    """It has said that it judges nothing."""
    bed = Bed(WAITS)
    bed.until(lambda: ("ended", {}) in bed.messages)
    for _ in range(15):
        bed.look()
    assert bed.whats == [What.BACK]
    bed.stream.stop()


def test_one_that_ends_is_told_with_its_end_and_started_again() -> None:
    """Again and again, ever more slowly."""
    bed = Bed(ENDS)
    bed.until(lambda: len(bed.happened) >= 2)
    assert bed.happened[:2] == [(What.CRASHED, "exit-3")] * 2
    bed.stream.stop()


def test_a_program_that_is_not_there_is_told() -> None:
    """And tried again."""
    stream = EcgStream("Bed 1", ["/nowhere/edgeward"], SystemClock())
    (happening,) = stream.check(time.monotonic_ns())
    assert (happening.what, happening.how, happening.name) == (What.NOT_STARTED, "errno-2", "ecg Bed 1")
    stream.stop()


def test_a_replaced_process_is_given_the_time_that_it_takes_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence counts from its first word: engines load before it, and killing it then would be for ever."""
    monkeypatch.setattr(stream_module, "SILENT_S", 0.5)
    mark = tmp_path / "second"
    text = f"import os\nif not os.path.exists({str(mark)!r}):\n    open({str(mark)!r}, 'w').close()\n"
    text += "".join(f"    {line}\n" for line in ("import json, sys", "print(json.dumps({'t':'x','kind':'numerics'}))"))
    text += "    sys.stdout.flush()\n    raise SystemExit(3)\nimport time\ntime.sleep(2.0)\n" + SPEAKS
    bed = Bed(text)
    bed.until(lambda: bed.whats.count(What.BACK) == 2)
    assert (bed.stream.restarts, bed.stream.losses) == (1, 1)
    bed.stream.stop()


def test_silence_that_ends_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process knows it still knows."""
    bed = Bed(JUDGES + "say('numerics', values={})\ntime.sleep(1.5)\n" + SPEAKS.split(JUDGES)[1])
    bed.until(lambda: bed.whats == [What.BACK, What.HUNG, What.BACK])
    assert bed.stream.losses == 0
    bed.stream.stop()


HEARS = JUDGES.replace("def end():\n    sys.stdin.read()\n    os._exit(0)", "").replace(
    "threading.Thread(target=end, daemon=True).start()", ""
)
ECHOES = HEARS + "for line in sys.stdin:\n    say('numerics', values={}, heard=line.strip())\n"


def test_each_process_is_told_what_it_begins_with_and_what_changes() -> None:
    """The first line comes anew with every process, the later ones to the one that runs."""
    first = iter([b"one\n", b"two\n"])
    bed = Bed(ECHOES)
    bed.stream = EcgStream("Bed 1", [sys.executable, "-c", ECHOES], SystemClock(), lambda: next(first))

    def heard() -> list[str]:
        return [data["heard"] for _, data in bed.messages]

    bed.until(lambda: heard() == ["one"])
    bed.stream.tell(b"more\n")
    bed.until(lambda: heard() == ["one", "more"])
    assert bed.stream.pid is not None
    os.kill(bed.stream.pid, signal.SIGKILL)
    bed.until(lambda: heard() == ["one", "more", "two"])
    bed.stream.stop()


def test_a_stream_that_does_not_read_is_told_the_newest_word_later() -> None:
    """A full pipe holds nobody up, and what it missed was older."""
    deaf = HEARS + "say('numerics', values={})\nos.read(0, 1)\ntime.sleep(1.5)\n" + ECHOES.split(HEARS)[1]
    bed = Bed(deaf)
    bed.until(lambda: bool(bed.messages))
    for number in range(40):
        bed.stream.tell(b"%d %s\n" % (number, b"x" * 4000))
    bed.stream.tell(b"newest\n")
    bed.until(lambda: bed.messages[-1][1].get("heard") == "newest")
    bed.stream.stop()
