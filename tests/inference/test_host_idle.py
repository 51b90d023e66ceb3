"""An engine that nobody asks is asked golden vectors: one that hangs or goes wrong then does not stay unnoticed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from workers import harm, states, until

from edgeward.inference import child as child_module
from edgeward.inference.backoff import BackoffPolicy
from edgeward.inference.engine import Engine
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost, Failure
from edgeward.inference.launch import environment
from edgeward.kernel.limits import ENGINE_HANG_MS, ENGINE_IDLE_MS, ENGINE_LOOK_MS, NOTICE_MS_MAX
from edgeward.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeward.bundle.archive import Bundle
    from edgeward.inference.backend import Array

BUDGET_S = 5.0
LOOK_S, IDLE_S = ENGINE_LOOK_MS / 1000, ENGINE_IDLE_MS / 1000
CORRUPT = """\
import os
from edgeward.inference import engine

real = engine.Engine.run

def run(self):
    real(self)
    if os.path.exists({flag!r}) and self.buffers.inputs["rhythm"][0, 0] == {value!r}:
        self._scores += 0.1

engine.Engine.run = run
"""


@pytest.fixture
def clock() -> ManualClock:
    """The host's; what a worker does takes no time on it."""
    return ManualClock()


@pytest.fixture
def host(bundle_file: Path, clock: ManualClock) -> Iterator[EngineHost]:
    """A host whose worker has just been asked; without a standby, so that nobody covers up for it."""
    policy = BackoffPolicy(free=1_000)
    with EngineHost(bundle_file, standby=False, backoff=policy, now_ns=clock.monotonic_ns) as host:
        yield host


def stopped(host: EngineHost) -> int:
    """Stop the worker in place, so that it holds whatever it is asked; returns its pid."""
    pid = host.worker_pid
    assert pid is not None
    harm(pid, signal.SIGSTOP)
    until(lambda: states(pid) == {"T"})
    return pid


def test_an_idle_worker_that_hangs_is_noticed_and_replaced(
    host: EngineHost, clock: ManualClock, window: dict[str, Array]
) -> None:
    """Looked after as often as it should be, within the time that a notice may take, and told once."""
    assert host.infer(window, budget_s=BUDGET_S).failure is None
    hung = stopped(host)
    told, passed_ms = [host.check()], 0
    while told[-1] is None and passed_ms < NOTICE_MS_MAX:
        clock.advance(LOOK_S)
        passed_ms += ENGINE_LOOK_MS
        told.append(host.check())
    assert told[-1] is Failure.HUNG
    assert ENGINE_IDLE_MS + ENGINE_HANG_MS <= passed_ms < NOTICE_MS_MAX - 2 * ENGINE_LOOK_MS
    assert host.check() is Failure.NOT_READY
    until(lambda: host.ready)
    assert (host.worker_pid != hung, host.state.restarts) == (True, 1)


def test_a_worker_that_is_asked_is_left_alone(host: EngineHost, clock: ManualClock, window: dict[str, Array]) -> None:
    """No golden vector comes between windows: the next one finds the worker stopped, and nobody did before."""
    for _ in range(10):
        assert host.infer(window, budget_s=BUDGET_S).failure is None
        clock.advance(IDLE_S - 0.001)
        assert host.check() is None
    assert host.infer(window, budget_s=BUDGET_S).failure is None
    stopped(host)
    clock.advance(IDLE_S - 0.001)
    assert host.check() is None
    clock.advance(BUDGET_S)
    assert host.check() is None  # only now it is asked
    assert host.infer(window, budget_s=0.05).failure is Failure.HUNG


def test_a_window_waits_for_the_golden_vector_under_way_and_gets_its_own_scores(
    host: EngineHost, clock: ManualClock, bundle: Bundle, window: dict[str, Array]
) -> None:
    """It goes on as soon as the worker does; the inputs of both do not mix. Golden vectors wait in the same way."""
    expected = Engine.load(bundle).infer(window)
    for _ in range(5):
        pid = stopped(host)
        clock.advance(IDLE_S)
        assert host.check() is None
        harm(pid, signal.SIGCONT)
        scores = host.infer(window, budget_s=BUDGET_S).scores
        assert scores is not None
        assert np.array_equal(scores, expected)
    clock.advance(IDLE_S)
    assert host.check() is None
    assert host.golden().passed
    assert host.state.restarts == 0


def test_a_host_that_was_held_up_convicts_nobody(
    host: EngineHost, clock: ManualClock, window: dict[str, Array]
) -> None:
    """Host and worker slept together: the worker gets another look's time, and no more than that."""
    pid = stopped(host)
    clock.advance(IDLE_S)
    assert host.check() is None
    clock.advance(60.0)
    assert host.check() is None
    assert host.ready
    harm(pid, signal.SIGCONT)
    assert host.infer(window, budget_s=BUDGET_S).failure is None
    stopped(host)
    clock.advance(IDLE_S)
    assert [host.check() for _ in range(2)] == [None, None]
    clock.advance(60.0)
    assert host.check() is None
    clock.advance(LOOK_S)
    assert host.check() is Failure.HUNG


def test_a_worker_that_dies_over_a_golden_vector_has_crashed(host: EngineHost, clock: ManualClock) -> None:
    """Death is no silence."""
    pid = stopped(host)
    clock.advance(IDLE_S)
    told = [host.check()]
    harm(pid, signal.SIGKILL)
    until(lambda: told.append(host.check()) or told[-1])
    assert told[-1] is Failure.CRASHED


def test_an_idle_worker_whose_scores_go_wrong_is_noticed(
    tmp_path: Path, bundle: Bundle, bundle_file: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each golden vector has its turn: it is enough that one of them gives finite, wrong scores."""
    flag, vectors = tmp_path / "corrupt", read_golden(bundle)
    value = float(vectors.inputs["rhythm"][2, 0])
    (tmp_path / "sitecustomize.py").write_text(CORRUPT.format(flag=str(flag), value=value))
    told = {"PYTHONPATH": f"{tmp_path}:{environment().get('PYTHONPATH', '')}"}
    monkeypatch.setattr(child_module, "environment", lambda threads: {**environment(threads), **told})
    with EngineHost(bundle_file, standby=False, now_ns=clock.monotonic_ns) as host:
        before = host.worker_pid

        def shown() -> list[Failure | None]:
            """What each golden vector shows, up to the first that fails."""
            found: list[Failure | None] = []
            while len(found) < len(vectors) and not any(found):
                clock.advance(IDLE_S)
                assert host.check() is None  # asks the next one
                until(lambda: states(host.worker_pid or 0) == {"S"})  # it has answered
                found.append(host.check())
            return found

        assert shown() == [None] * len(vectors)
        flag.touch()
        assert shown()[-1] is Failure.BAD_OUTPUT
        flag.unlink()
        until(lambda: host.ready)
        assert host.worker_pid != before
        assert shown() == [None] * len(vectors)
