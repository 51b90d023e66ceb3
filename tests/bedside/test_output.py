"""Outputs never delay or end the stream: a full disk or a stuck reader costs lines, which are counted."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeward.bedside.decide import Advisory
from edgeward.bedside.effects import AdvisoryChanged, QualityChanged, WaveReady
from edgeward.bedside.messages import message_of
from edgeward.bedside.output.jsonl import JsonLines, unbuffered
from edgeward.bedside.output.page import PageOutput
from edgeward.bedside.priority import Priority
from edgeward.bedside.verdict import Outcome, Reason, Verdict
from edgeward.signal.beat import BeatClass
from edgeward.signal.quality import Flag

if TYPE_CHECKING:
    from pathlib import Path


class WallClock:
    def monotonic_ns(self) -> int:
        return 0

    def wall(self) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Stuck(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.free.wait(10.0)
        return super().write(text)


def test_lines_are_json_with_time_and_kind_and_without_waves() -> None:
    """Each line is one object; waves, which are large, are left to the page."""
    stream = io.StringIO()
    lines = JsonLines(stream, WallClock())
    lines.write("rate", {"hr_bpm": 70})
    lines.write("wave", {"i": 0})
    lines.close()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"t": "2026-01-02T03:04:05.000+00:00", "kind": "rate", "hr_bpm": 70}
    ]


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    """Writing fails for ever; write() still returns and the loss is counted."""
    lines = JsonLines(FullDisk(), WallClock())
    for k in range(100):
        lines.write("rate", {"hr_bpm": k})
    lines.close()
    assert lines.dropped == 100


def test_a_reader_that_stops_reading_never_blocks_the_stream() -> None:
    """Beyond the bounded queue new lines are dropped and counted."""
    stream = Stuck()
    lines = JsonLines(stream, WallClock())
    for k in range(25_000):
        lines.write("rate", {"hr_bpm": k})
    assert lines.dropped >= 1
    stream.free.set()
    lines.close()
    assert len(stream.getvalue().splitlines()) + lines.dropped == 25_000


class Sent:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        self.sent.append((kind, data))

    def close(self) -> None:
        pass


def test_waves_are_gathered_without_losing_or_doubling_a_sample() -> None:
    """Single samples become messages of an eighth of a second; a hole starts a new one."""
    sent = Sent()
    page = PageOutput(sent)
    for i in [*range(100), *range(500, 540)]:
        page.write("wave", {"i": i, "v": [[i], [-i]], "bad": [i == 3, False]})
    page.write("engine", {"pid": 1})
    assert all(kind == "wave" for kind, _ in sent.sent)
    got = [value for _, data in sent.sent for value in data["v"][0]]
    assert got == [*range(100), *range(500, 500 + len(got) - 100)]
    for _, data in sent.sent:
        assert data["v"][0] == list(range(data["i"], data["i"] + len(data["v"][0])))
    assert next(data["bad"] for _, data in sent.sent) == [True, False]


def test_messages_carry_what_the_page_shows() -> None:
    """Verdicts, advisories, quality and waves become plain values with the interface's names."""
    accepted = Verdict(1, 500, 720, Outcome.ACCEPTED, None, BeatClass.V, 0.91, 640, 1_500_000)
    assert message_of(accepted) == (
        "beat",
        {"i": 500, "cls": "V", "probability": 0.91, "rr_ms": 640, "verdict": "accepted", "why": "", "latency_us": 1500},
    )
    withheld = Verdict(2, 700, 900, Outcome.WITHHELD, Reason.NOISE, None, None, None, 0)
    kind, data = message_of(withheld) or ("", {})
    assert (kind, data["cls"], data["why"]) == ("beat", "?", "noise")
    advisory = AdvisoryChanged(Advisory("veb-run", "Run of ventricular beats", Priority.HIGH, 10, active=True))
    kind, data = message_of(advisory) or ("", {})
    assert (kind, data["priority"], data["active"]) == ("advisory", "high", True)
    quality = message_of(QualityChanged({"II": None, "V1": Flag.LEAD_OFF}))
    assert quality == ("quality", {"leads": {"II": "ok", "V1": "lead_off"}})
    wave = WaveReady(5, np.array([[0.1, -0.2]], dtype=np.float32), np.array([[True, False]]))
    assert message_of(wave) == ("wave", {"i": 5, "v": [[100, -200]], "bad": [False]})


def test_a_disk_that_stays_full_does_not_raise_when_the_stream_is_closed() -> None:
    """What could not be written is counted once, and closing has nothing left to fail on."""
    stream = unbuffered(os.open("/dev/full", os.O_WRONLY))
    lines = JsonLines(stream, WallClock())
    lines.write("rate", {"hr_bpm": 70})
    lines.close()
    stream.close()
    assert lines.dropped == 1


def test_lines_reach_the_file_at_once(tmp_path: Path) -> None:
    """Nothing is held back in a buffer: a device that is cut off has written what it said."""
    path = tmp_path / "lines"
    stream = unbuffered(os.open(path, os.O_WRONLY | os.O_CREAT))
    lines = JsonLines(stream, WallClock())
    lines.write("rate", {"hr_bpm": 70})
    deadline = time.monotonic() + 10.0
    while not path.read_text().endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert json.loads(path.read_text())["hr_bpm"] == 70
    lines.close()
    stream.close()
