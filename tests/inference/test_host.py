"""The engine's process: whatever happens to it, the host goes on, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from workers import harm, states, until

from edgeward.inference import child as child_module
from edgeward.inference.backoff import BackoffPolicy
from edgeward.inference.engine import Engine
from edgeward.inference.golden import read_golden
from edgeward.inference.host import EngineHost, Failure, Readiness
from edgeward.kernel.errors import BundleError, ConfigError, EngineError, InputError
from edgeward.testing.bundles import NAN_ABOVE, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeward.bundle.archive import Bundle
    from edgeward.inference.backend import Array

BUDGET_S = 5.0  # long: what is tested is what happens, not how fast on a busy machine
PATIENCE_S = 30.0
AT_ONCE = BackoffPolicy(free=1_000)


@pytest.fixture
def host(bundle_file: Path) -> Iterator[EngineHost]:
    """A host in service, its standby warm."""
    with EngineHost(bundle_file, backoff=AT_ONCE) as host:
        until(lambda: host.state.standby)
        yield host


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """The test leaves as many open files and child processes as it found."""
    before = _open_files(), _children()
    yield
    assert (_open_files(), _children()) == before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _children() -> set[str]:
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def _alive(pid: int) -> bool:
    """Whether any thread of the process still runs: the first one may be gone while others hold its pipes open."""
    with contextlib.suppress(OSError):
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        return threads > 1 or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_scores_across_the_boundary_are_the_engines_own(
    host: EngineHost, bundle: Bundle, window: dict[str, Array]
) -> None:
    """A window gives bit for bit the scores that an engine in this process gives, and golden vectors pass."""
    result = host.infer(window, budget_s=BUDGET_S)
    assert result.failure is None
    assert result.scores is not None
    assert np.array_equal(result.scores, Engine.load(bundle).infer(window))
    assert 0 < result.run_ns < result.infer_ns
    report = host.golden()
    assert (report.passed, report.count) == (True, 4)
    assert host.state.restarts == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
def test_a_worker_killed_between_windows_is_replaced_at_once(
    host: EngineHost, window: dict[str, Array], number: signal.Signals
) -> None:
    """The first window after its death is a failure; the next has scores from the standby, without a wait."""
    dead = host.worker_pid
    harm(dead, number)
    until(lambda: not _alive(dead or 0))
    assert host.infer(window, budget_s=BUDGET_S).failure is Failure.CRASHED
    assert host.worker_pid != dead
    assert host.infer(window, budget_s=BUDGET_S).scores is not None
    assert host.state.restarts == 1
    until(lambda: host.state.standby)
    until(lambda: host.state.last_exit == f"signal-{number.value}")  # a killed worker is reaped without waiting for it


def test_a_worker_killed_while_it_scores_is_a_crash_not_a_wait(host: EngineHost, window: dict[str, Array]) -> None:
    """Death under way is noticed by the closed pipe, long before the budget ends."""
    pid = host.worker_pid
    harm(pid, signal.SIGSTOP)  # so that it certainly holds the request when it dies
    killer = threading.Timer(0.2, harm, (pid, signal.SIGKILL))
    killer.start()
    result = host.infer(window, budget_s=PATIENCE_S)
    killer.join()
    assert result.failure is Failure.CRASHED
    assert host.infer(window, budget_s=BUDGET_S).scores is not None


def test_a_worker_leaves_no_core_file(host: EngineHost) -> None:
    """Patients' windows are in its memory; 0 or 1 byte: neither a file nor a program gets it."""
    for pid in (host.worker_pid, host.standby_pid):
        assert pid is not None
        assert resource.prlimit(pid, resource.RLIMIT_CORE)[0] in {0, 1}


def test_a_hung_worker_costs_its_budget_and_is_killed(host: EngineHost, window: dict[str, Array]) -> None:
    """A stopped worker is hung after the budget; it is killed, and the standby serves the next window."""
    hung = host.worker_pid
    harm(hung, signal.SIGSTOP)
    result = host.infer(window, budget_s=0.05)
    assert result.failure is Failure.HUNG
    assert result.infer_ns >= 49_000_000
    assert host.infer(window, budget_s=BUDGET_S).scores is not None
    until(lambda: host.check() is None and not _alive(hung or 0))
    until(lambda: host.state.last_exit == "signal-9")


def test_scores_that_are_not_finite_cost_the_worker(host: EngineHost, window: dict[str, Array]) -> None:
    """NaN from the model is a bad output; that worker is not trusted again."""
    poisoned = {**window, "rhythm": np.full(8, 2 * NAN_ABOVE, np.float32)}
    before = host.worker_pid
    assert host.infer(poisoned, budget_s=BUDGET_S).failure is Failure.BAD_OUTPUT
    assert host.worker_pid != before
    assert host.infer(window, budget_s=BUDGET_S).scores is not None


def test_an_input_that_cannot_be_scored_is_the_callers_error_and_costs_no_worker(
    host: EngineHost, window: dict[str, Array]
) -> None:
    """A NaN among the inputs or a wrong shape is an InputError; the same worker goes on."""
    before = host.worker_pid
    for inputs in ({**window, "wave": window["wave"] * np.float32(np.nan)}, {**window, "wave": window["wave"][:1]}):
        with pytest.raises(InputError):
            host.infer(inputs, budget_s=BUDGET_S)
    assert host.infer(window, budget_s=BUDGET_S).scores is not None
    assert (host.worker_pid, host.state.restarts) == (before, 0)


def test_a_death_between_windows_is_told_once(host: EngineHost) -> None:
    """Looking after an idle engine tells its death once, and a standby that dies silently is replaced."""
    pid = host.worker_pid
    told: list[Failure | None] = []
    harm(pid, signal.SIGKILL)
    until(lambda: told.append(host.check()) or told[-1])
    assert told[-1] is Failure.CRASHED
    assert host.check() is None
    until(lambda: host.state.standby)
    standby = host.standby_pid
    harm(standby, signal.SIGKILL)
    until(lambda: host.state.standby and host.standby_pid != standby)
    assert host.state.restarts == 1


def test_both_workers_killed_at_once_come_back(host: EngineHost, window: dict[str, Array]) -> None:
    """Without any worker every window is a verdict of its own, until a new one is ready."""
    pids = host.worker_pid, host.standby_pid
    for pid in pids:
        harm(pid, signal.SIGKILL)
    until(lambda: not any(_alive(pid or 0) for pid in pids))
    failures: list[Failure | None] = []

    def scored() -> bool:
        failures.append(host.infer(window, budget_s=BUDGET_S).failure)
        return failures[-1] is None

    until(scored)
    assert failures[0] is Failure.CRASHED
    assert set(failures[1:-1]) <= {Failure.NOT_READY}
    assert host.golden().passed


def test_a_standby_comes_and_goes_as_it_is_wished(host: EngineHost, window: dict[str, Array]) -> None:
    """The engine in place serves throughout; without a standby none is started, with one it is warm again."""
    serving = host.worker_pid
    host.stand_by(False)
    assert host.standby_pid is None
    host.check()
    assert host.standby_pid is None
    assert host.infer(window, budget_s=BUDGET_S).failure is None
    host.stand_by(True)
    assert host.standby_pid is not None
    deadline = time.monotonic() + PATIENCE_S
    while not host.state.standby:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert host.worker_pid == serving


def test_a_storm_of_crashes_is_slowed_down(bundle_file: Path, window: dict[str, Array]) -> None:
    """After its free failures the host waits by its own clock before it starts another worker."""
    now = [10**12]
    policy = BackoffPolicy(free=1, base_s=5.0)
    with EngineHost(bundle_file, standby=False, backoff=policy, now_ns=lambda: now[0]) as host:
        harm(host.worker_pid, signal.SIGKILL)
        assert host.infer(window, budget_s=BUDGET_S).failure is Failure.CRASHED  # free: another starts
        harm(host.standby_pid, signal.SIGKILL)
        until(lambda: host.standby_pid is None or host.check() is None)
        assert host.state.readiness is Readiness.DOWN
        assert host.infer(window, budget_s=BUDGET_S).failure is Failure.NOT_READY
        assert host.check() is Failure.NOT_READY
        assert not host.golden().passed
        now[0] += 4_900_000_000
        assert host.state.readiness is Readiness.DOWN
        now[0] += 200_000_000
        assert host.state.readiness is Readiness.STARTING
        until(lambda: host.ready)


def test_interrupting_the_terminal_does_not_reach_the_worker(host: EngineHost, window: dict[str, Array]) -> None:
    """A worker ignores SIGINT, and stands in a process group of its own."""
    harm(host.worker_pid, signal.SIGINT)
    assert host.infer(window, budget_s=BUDGET_S).scores is not None
    assert os.getpgid(host.worker_pid or 0) != os.getpgid(0)
    assert host.state.restarts == 0


def test_the_worker_is_the_first_to_go_when_memory_runs_out(host: EngineHost) -> None:
    """The worker's OOM score is above its host's."""
    mine = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{host.worker_pid}/oom_score_adj").read_text()) > min(mine, 999)


def test_the_worker_takes_its_place(bundle_file: Path) -> None:
    """Niceness and processor are those that were asked for."""
    cpu = min(os.sched_getaffinity(0))
    with EngineHost(bundle_file, standby=False, niceness=3, cpu=cpu) as host:
        pid = host.worker_pid or 0
        assert os.sched_getaffinity(pid) == {cpu}
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)


def test_nothing_of_the_environment_reaches_the_worker(bundle_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets and settings in the host's environment stay there."""
    monkeypatch.setenv("EDGEWARD_SECRET", "token")
    with EngineHost(bundle_file, standby=False) as host:
        assert b"EDGEWARD_SECRET" not in Path(f"/proc/{host.worker_pid}/environ").read_bytes()


@pytest.mark.usefixtures("no_leaks")
def test_fifty_replacements_leave_nothing_behind(bundle_file: Path, window: dict[str, Array]) -> None:
    """Fifty workers that die at any moment of their start, and two that die at work, cost no file and no process."""
    with EngineHost(bundle_file, backoff=AT_ONCE) as host:
        for attempt in range(50):
            until(lambda: host.standby_pid is not None)
            time.sleep(0.004 * (attempt % 10))  # seeded moments: before exec, while importing, later
            before = host.standby_pid
            with contextlib.suppress(ProcessLookupError):
                harm(before, signal.SIGKILL)
            until(lambda before=before: host.check() is None and host.standby_pid not in (None, before))
            assert host.infer(window, budget_s=BUDGET_S).scores is not None
        for _ in range(2):
            until(lambda: host.state.standby)
            harm(host.worker_pid, signal.SIGKILL)
            assert host.infer(window, budget_s=BUDGET_S).failure is Failure.CRASHED


@pytest.mark.usefixtures("no_leaks")
def test_stopping_twice_or_before_the_start_does_nothing(bundle_file: Path, window: dict[str, Array]) -> None:
    """A stopped host has no process, says so, and can be started again."""
    host = EngineHost(bundle_file)
    host.stop()
    assert host.infer(window, budget_s=BUDGET_S).failure is Failure.NOT_READY
    host.start()
    host.start()
    pids = host.worker_pid, host.standby_pid
    host.stop()
    host.stop()
    assert not any(_alive(pid or 0) for pid in pids)
    assert host.state.readiness is Readiness.DOWN
    assert host.check() is Failure.NOT_READY
    with host:
        assert host.infer(window, budget_s=BUDGET_S).scores is not None


@pytest.mark.usefixtures("no_leaks")
def test_bundles_that_cannot_be_served_are_refused_at_the_start(
    tmp_path: Path, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of bad bundle gives its own error from ``start``, and no process stays."""
    damaged = bytearray(bundle_file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    cases: list[tuple[bytes, type[Exception], str]] = [
        (bytes(damaged), BundleError, "bundle-not-archive"),  # the archive's own checksum comes first
        (b"PK garbage", BundleError, "bundle-not-archive"),
        (tiny_bundle(model=b"garbage"), BundleError, "model-refused"),
        (tiny_bundle(golden_shift=0.5), EngineError, "golden-failed"),
    ]
    path = tmp_path / "bad.ewb"
    for raw, kind, code in cases:
        path.write_bytes(raw)
        with pytest.raises(kind) as raised:
            EngineHost(path).start()
        assert getattr(raised.value, "code", "") == code
    with pytest.raises(BundleError):
        EngineHost(tmp_path / "absent.ewb").start()
    with pytest.raises(BundleError):
        EngineHost(bundle_file, model="int9").start()
    with pytest.raises(ConfigError):
        EngineHost(bundle_file, threads=0).start()
    monkeypatch.setattr(child_module.sys, "executable", "/nowhere/python")
    with pytest.raises(EngineError):
        EngineHost(bundle_file).start()


def test_a_start_behind_the_caller_tells_what_kept_it(bundle_file: Path, tmp_path: Path) -> None:
    """Without waiting, a good bundle comes to serve by and by; one whose golden vectors fail says so."""
    wrong = tmp_path / "wrong.ewb"
    wrong.write_bytes(tiny_bundle(golden_shift=0.5))
    good, bad = EngineHost(bundle_file), EngineHost(wrong)
    try:
        good.start(wait=False)
        bad.start(wait=False)
        until(lambda: good.ready)
        assert good.start_error is None
        until(lambda: bad.check() is not None and bad.start_error is not None)
        assert bad.start_error is not None
        assert bad.start_error.code == "golden-failed"
        assert not bad.ready
    finally:
        good.stop()
        bad.stop()


def test_a_worker_that_cannot_even_start_says_why(bundle_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker printed before it was ready is in the error, so that a broken installation can be mended."""
    monkeypatch.setattr(child_module, "environment", lambda threads: {"PYTHONHOME": "/nowhere"})
    with pytest.raises(EngineError, match="encodings"):
        EngineHost(bundle_file).start()


def test_replacements_serve_the_bundle_that_was_started(
    tmp_path: Path, bundle_file: Path, window: dict[str, Array]
) -> None:
    """The file's path may be replaced or removed; a replacement still loads the bytes that were checked."""
    path = tmp_path / "slot.ewb"
    path.write_bytes(bundle_file.read_bytes())
    with EngineHost(path, standby=False, backoff=AT_ONCE) as host:
        expected = host.infer(window, budget_s=BUDGET_S).scores
        path.unlink()
        path.write_bytes(tiny_bundle(seed=9))
        harm(host.worker_pid, signal.SIGKILL)
        assert host.infer(window, budget_s=BUDGET_S).failure is Failure.CRASHED
        until(lambda: host.ready)
        again = host.infer(window, budget_s=BUDGET_S).scores
        assert expected is not None
        assert again is not None
        assert np.array_equal(expected, again)


def test_threads_take_turns(host: EngineHost, bundle: Bundle) -> None:
    """Four threads get the scores of their own windows, while the worker is killed under them."""
    vectors = read_golden(bundle)
    wrong: list[str] = []
    good = [0] * 4

    def ask(index: int) -> None:
        inputs = {name: array[index] for name, array in vectors.inputs.items()}
        for _ in range(100):
            result = host.infer(inputs, budget_s=BUDGET_S)
            if result.scores is not None:
                good[index] += 1
                if np.abs(result.scores - vectors.expected[index]).max() > 1e-4:
                    wrong.append("scores of another window")
            elif result.failure not in (Failure.CRASHED, Failure.NOT_READY):
                wrong.append(str(result.failure))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    harm(host.worker_pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(good) > 0


@pytest.mark.parametrize("stopped", [False, True], ids=["serving", "stopped"])
def test_workers_do_not_outlive_their_host(bundle_file: Path, stopped: bool) -> None:
    """When the host is killed with no chance to clean up, its workers end, even one that is stopped."""
    script = textwrap.dedent(
        """
        import sys, time, pathlib
        from edgeward.inference.host import EngineHost
        host = EngineHost(pathlib.Path(sys.argv[1]))
        host.start()
        while not host.state.standby:
            time.sleep(0.01)
        print(host.worker_pid, host.standby_pid, flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(bundle_file)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        try:
            assert len(pids) == 2
            if stopped:
                os.kill(pids[0], signal.SIGSTOP)
                until(lambda: states(pids[0]) == {"T"})  # the kernel ends what has stopped when its host goes
            parent.kill()
            parent.wait()
            until(lambda: not any(_alive(pid) for pid in pids))
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
