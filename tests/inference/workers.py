"""What a test does to worker processes from outside, and how it waits for what follows."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

_PATIENCE_S = 30.0


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def harm(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a worker that must be there."""
    assert pid is not None
    os.kill(pid, number)


def states(pid: int) -> set[str]:
    """Of every thread: a process has stopped when the last of its threads has."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return {(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads}
