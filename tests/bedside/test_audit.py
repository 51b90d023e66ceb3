"""The audit loses nothing, says when it cannot write, and goes on counting after a restart."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from edgeward.bedside import audit as audit_module
from edgeward.bedside.audit import Audit
from edgeward.bedside.system import SystemClock
from edgeward.kernel.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_every_change_is_there_in_order_and_the_count_goes_on(tmp_path: Path) -> None:
    """Numbers have no gap, within one run and across runs."""
    path = tmp_path / "state" / "audit.jsonl"
    for _ in range(3):
        audit = Audit(path, SystemClock())
        for number in range(50):
            audit.record("mode", {"bed": "A", "to": "LOCAL", "k": number})
        audit.close()
    assert [row["n"] for row in rows(path)] == list(range(1, 151))
    assert (audit.waiting, audit.lost) == (0, 0)


def test_a_torn_last_line_is_cut_away(tmp_path: Path) -> None:
    """A power cut in the middle of a line costs that line, not the file."""
    path = tmp_path / "audit.jsonl"
    path.write_text('{"n":7,"what":"mode"}\n{"n":8,"wha')
    audit = Audit(path, SystemClock())
    audit.record("mode", {})
    audit.close()
    assert [row["n"] for row in rows(path)] == [7, 8]


def test_a_full_disk_delays_lines_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be written the lines wait; a half-written one does not stay."""
    path = tmp_path / "audit.jsonl"
    monkeypatch.setattr(audit_module, "RETRY_S", 0.02)
    real, full = os.write, [True]

    def write(fd: int, data: bytes) -> int:
        return real(fd, data[: len(data) // 2]) if full[0] and data.startswith(b'{"n"') else real(fd, data)

    monkeypatch.setattr(audit_module.os, "write", write)
    audit = Audit(path, SystemClock())
    for _ in range(5):
        audit.record("mode", {"to": "THRESHOLD_ONLY"})
    time.sleep(0.1)
    assert audit.waiting == 5
    assert path.read_bytes() == b""
    full[0] = False
    until(lambda: audit.waiting == 0)
    audit.close()
    assert [row["n"] for row in rows(path)] == [1, 2, 3, 4, 5]


def test_beyond_what_memory_may_hold_the_gap_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost lines are counted, and their numbers are missing from the file."""
    monkeypatch.setattr(audit_module, "HELD_MAX", 3)
    monkeypatch.setattr(audit_module, "RETRY_S", 0.02)
    blocked = [True]

    def append(self: Audit, lines: list[bytes]) -> int:
        if blocked[0]:
            raise OSError(28, "No space left on device")
        return real(self, lines)

    real = Audit._append
    monkeypatch.setattr(Audit, "_append", append)
    audit = Audit(tmp_path / "audit.jsonl", SystemClock())
    for _ in range(5):
        audit.record("mode", {})
    assert audit.lost == 2
    blocked[0] = False
    until(lambda: audit.waiting == 0)
    audit.record("mode", {})
    audit.close()
    assert [row["n"] for row in rows(tmp_path / "audit.jsonl")] == [1, 2, 3, 6]


def test_a_grown_file_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before is kept beside it, and the count goes on."""
    monkeypatch.setattr(audit_module, "ROTATE_BYTES", 200)
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, SystemClock())
    for _ in range(8):
        audit.record("mode", {"to": "LOCAL"})
        until(lambda: audit.waiting == 0)
    audit.close()
    before = rows(tmp_path / "audit.jsonl.1")
    assert [row["n"] for row in before + rows(path)][-3:] == [6, 7, 8]
    assert before[-1]["n"] + 1 == rows(path)[0]["n"]


def test_where_nothing_can_be_written_the_operator_is_told_at_the_start(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError) as refused:
        Audit(tmp_path / "state" / "audit.jsonl", SystemClock())
    assert refused.value.code == "audit-unwritable"
