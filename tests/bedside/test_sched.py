"""The scheduler's classes: what is put into a real-time one cannot keep the processor."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.sched import BATCH, LOWEST, class_of, is_realtime, put, put_back, put_lowest

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY = "import signal, sys; signal.signal(signal.SIGXCPU, signal.SIG_DFL); sys.stdin.readline()\nwhile True: pass"
NOW_AND_THEN = "import sys, time; sys.stdin.readline()\nwhile True: sum(range(10_000)); time.sleep(0.001)"


@contextmanager
def process(program: str) -> Iterator[subprocess.Popen[str]]:
    """One that begins when it is told to."""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True) as made:
        try:
            yield made
        finally:
            made.kill()


def begin(made: subprocess.Popen[str]) -> None:
    assert made.stdin is not None
    made.stdin.write("\n")
    made.stdin.flush()


def lowest(pid: int) -> None:
    if not put_lowest(pid, 200):
        pytest.skip("NO REAL-TIME CLASS: the system does not allow it to this account")


def test_a_process_that_never_waits_is_ended_and_one_that_does_is_not() -> None:
    """By the kernel: nobody has to be there to do it. A kernel that is too busy to do so is no fault of ours."""
    with process(BUSY) as busy, process(NOW_AND_THEN) as calm:
        for made in (busy, calm):
            lowest(made.pid)
            assert class_of(made.pid) == LOWEST
            assert resource.prlimit(made.pid, resource.RLIMIT_RTTIME)[0] == 200_000
            begin(made)
        try:
            assert busy.wait(60) == -signal.SIGXCPU
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{busy.pid}/status").read_text()
            pytest.skip(f"LIMIT NOT KEPT: the kernel has not ended it within a minute: {class_of(busy.pid)}, {status}")
        time.sleep(0.5)
        assert calm.poll() is None


def test_a_process_that_was_put_back_may_run_as_long_as_before() -> None:
    """In another real-time class too."""
    with process(BUSY) as made:
        before = resource.prlimit(made.pid, resource.RLIMIT_RTTIME)
        lowest(made.pid)
        assert put_back(made.pid, LOWEST)
        assert resource.prlimit(made.pid, resource.RLIMIT_RTTIME) == before
        begin(made)
        time.sleep(0.6)
        assert made.poll() is None
        assert put_back(made.pid, BATCH)
        assert (class_of(made.pid), is_realtime(BATCH)) == (BATCH, False)


def test_a_process_that_is_gone_is_said_to_be() -> None:
    """No call raises."""
    with process(BUSY) as made:
        made.kill()
        made.wait()
    assert not put(made.pid, BATCH)
    assert not put_lowest(made.pid, 200)
    assert not put_back(made.pid, BATCH)
