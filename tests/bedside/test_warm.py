"""The engine beside the one in charge: it loads, answers and is handed over without its caller ever waiting."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeward.bedside.assess import model as model_module
from edgeward.bedside.charge.warm import WarmEngine, take_charge
from edgeward.bedside.trial import resident_kib
from edgeward.bundle.archive import read_bundle
from edgeward.kernel.limits import ENGINE_HANG_MS, ENGINE_IDLE_MS
from edgeward.testing.assess import ToyPlan
from edgeward.testing.toy import CORRUPT_HR, TASK, toy_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeward.bedside.assess.port import Plan
    from edgeward.bedside.charge.warm import Answer
    from edgeward.inference.host import EngineHost

pytestmark = pytest.mark.workshop  # the toy's bundle is made by onnx


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
    return found


def alive(pid: int | None) -> bool:
    return resident_kib(pid) > 0


def warm_engine(file: Path, sha256: str) -> WarmEngine[Plan]:
    return WarmEngine(lambda: model_module.read_model(TASK, str(file), sha256), str(file))


def asked(warm: WarmEngine[Plan], rate: float) -> Answer:
    until(lambda: warm.idle)
    warm.ask({"features": np.array([[rate]], np.float32)})
    answer: Answer = until(warm.answer)
    return answer


def engine_of(warm: WarmEngine[Plan]) -> tuple[EngineHost, int]:
    """Once it could be asked; and its process."""
    until(lambda: warm.idle)
    assert warm.model is not None
    engine = warm.model.engine
    assert engine is not None
    pid = engine.worker_pid
    assert pid is not None
    return engine, pid


@pytest.fixture
def warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmEngine[Plan]]:
    monkeypatch.setattr(model_module, "plan_of", lambda _manifest, task: ToyPlan(task))
    file = tmp_path / "toy.ewb"
    file.write_bytes(toy_bundle("2.0.0"))
    made = warm_engine(file, read_bundle(file.read_bytes()).sha256)
    yield made
    made.stop()


def test_it_answers_one_window_after_another(warm: WarmEngine[Plan]) -> None:
    """With what it took; its memory is that of the engine's process."""
    answer = asked(warm, 100.0)
    assert answer.scores is not None
    assert answer.scores == pytest.approx([0.5])
    assert answer.infer_ns > 0
    assert asked(warm, 80.0).scores == pytest.approx([0.1192], abs=1e-4)
    assert warm.model is not None
    assert warm.model.version == "2.0.0"
    until(lambda: warm.memory_kib > 10_000)


def test_a_window_that_it_cannot_score_gives_none(warm: WarmEngine[Plan]) -> None:
    """Output that is no number, or inputs that are not the model's; afterwards it goes on."""
    assert asked(warm, CORRUPT_HR).scores is None
    assert asked(warm, 100.0).scores is not None
    until(lambda: warm.idle)
    warm.ask({"features": np.zeros((1, 9), np.float32)})
    assert until(warm.answer).scores is None


def test_a_candidate_that_a_busy_device_holds_up_is_slow_and_did_not_fail(warm: WarmEngine[Plan]) -> None:
    """It comes last: silence that would cost an engine in charge its place, asked or idle, costs it nothing."""
    held_s = 3 * ENGINE_HANG_MS / 1000
    engine, pid = engine_of(warm)
    os.kill(pid, signal.SIGSTOP)
    try:
        warm.ask({"features": np.array([[100.0]], np.float32)})
        time.sleep(held_s)
        os.kill(pid, signal.SIGCONT)
        answer = until(warm.answer)
        assert (answer.scores is not None, answer.infer_ns > held_s / 2 * 1e9) == (True, True)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(ENGINE_IDLE_MS / 1000 + held_s)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert asked(warm, 100.0).scores is not None
    assert engine.worker_pid == pid


def test_an_engine_that_leaves_a_golden_vector_unanswered_is_not_handed_over(warm: WarmEngine[Plan]) -> None:
    """In charge its silence would cost it its place at once."""
    engine, pid = engine_of(warm)
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: engine.probing)
        time.sleep(2 * ENGINE_HANG_MS / 1000)
        assert warm.ready
        assert not warm.release()
    finally:
        os.kill(pid, signal.SIGCONT)
    until(warm.release)
    take_charge(engine)
    assert engine.check() is None
    engine.stop()


def test_its_engine_is_handed_over_as_warm_as_it_is(warm: WarmEngine[Plan]) -> None:
    """The same process, in the ordinary class again, and a standby beside it."""
    engine, pid = engine_of(warm)
    assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    until(warm.release)
    take_charge(engine)
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert (engine.worker_pid, engine.hang_ms) == (pid, ENGINE_HANG_MS)
    assert engine.infer({"features": np.array([[80.0]], np.float32)}, budget_s=5.0).scores is not None
    until(lambda: engine.state.standby)
    warm.stop()  # it is not its own any more
    time.sleep(0.3)
    assert alive(engine.worker_pid)
    engine.stop()


def test_when_it_is_stopped_its_engine_ends(warm: WarmEngine[Plan]) -> None:
    """And it cannot be had any more."""
    _, pid = engine_of(warm)
    warm.stop()
    assert not warm.release()
    until(lambda: not alive(pid))


def test_a_bundle_that_breaks_its_reader_is_no_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises."""

    def breaks(*_: Any) -> ToyPlan:
        raise RuntimeError("a fault")

    monkeypatch.setattr(model_module, "plan_of", breaks)
    file = tmp_path / "toy.ewb"
    file.write_bytes(toy_bundle())
    warm = warm_engine(file, read_bundle(file.read_bytes()).sha256)
    until(lambda: warm.error == "shadow-crashed")
    assert not warm.ready


def test_a_bundle_that_is_none_says_why(tmp_path: Path) -> None:
    """No file, garbage, or another than was named."""
    file = tmp_path / "toy.ewb"
    for content, code in ((None, "bundle-unreadable"), (b"x", "bundle-unreadable"), (toy_bundle(), "slot-damaged")):
        if content is not None:
            file.write_bytes(content)
        warm = warm_engine(file, "f" * 64)
        until(lambda warm=warm: warm.error)
        assert warm.error == code or (content == b"x" and warm.error.startswith("bundle-"))
        assert not warm.ready
        assert not warm.idle
