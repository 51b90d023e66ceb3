"""The trial on this very device, with a real engine: what it measures and what it refuses."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside import trial
from edgeward.bedside.trial import resident_kib, run_trial
from edgeward.inference.host import EngineHost, Result
from edgeward.kernel.limits import ENGINE_HANG_MS

pytest.importorskip("onnx", reason="the trial's bundles are made with the workshop extra")

from edgeward.testing.bundles import GOLDEN_COUNT, tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeward.inference.backend import Array
    from edgeward.inference.golden import GoldenReport


def test_a_good_bundle_passes_with_its_evidence(tmp_path: Path) -> None:
    """Golden vectors counted, latency and deadline in µs, the engine's memory."""
    path = tmp_path / "good.ewb"
    path.write_bytes(tiny_bundle())
    result = run_trial(path, 1, lambda _bundle: 1_000.0)
    assert (result.passed, result.code) == (True, "")
    evidence = result.evidence
    assert (evidence.golden_vectors, evidence.deadline_us) == (GOLDEN_COUNT, ENGINE_HANG_MS * 1000)
    assert 0 < evidence.latency_us < 1_000_000
    assert 5_000 < evidence.memory_kib < 1_000_000


def test_a_bundle_that_is_too_slow_says_by_how_much(tmp_path: Path) -> None:
    """A deadline that nothing meets: refused with what was measured."""
    path = tmp_path / "slow.ewb"
    path.write_bytes(tiny_bundle())
    result = run_trial(path, 1, lambda _bundle: 1e-6)
    assert (result.passed, result.code) == (False, "trial-too-slow")
    assert result.evidence.latency_us > 0


def test_a_bundle_too_slow_to_be_in_charge_does_not_pass_whatever_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There every answer later than the hang's limit is none; and the trial does not go on once that is clear."""
    asked = []

    class Slow(EngineHost):
        def infer(self, inputs: Mapping[str, Array], *, budget_s: float) -> Result:
            asked.append(budget_s)
            result = super().infer(inputs, budget_s=budget_s)
            return Result(result.scores, result.failure, 2 * ENGINE_HANG_MS * 1_000_000)

    monkeypatch.setattr(trial, "EngineHost", Slow)
    path = tmp_path / "slow.ewb"
    path.write_bytes(tiny_bundle())
    result = run_trial(path, 1, lambda _bundle: 1_000.0)
    assert (result.code, result.evidence.deadline_us) == ("trial-too-slow", ENGINE_HANG_MS * 1000)
    assert len(asked) == 9


def test_an_engine_that_a_busy_device_holds_up_once_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment that would cost an engine in charge its place is one slow answer of two hundred here."""

    class Held(EngineHost):
        def golden(self) -> GoldenReport:
            report, pid = super().golden(), self.worker_pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(3 * ENGINE_HANG_MS / 1000, os.kill, (pid, signal.SIGCONT)).start()
            return report

    monkeypatch.setattr(trial, "EngineHost", Held)
    path = tmp_path / "good.ewb"
    path.write_bytes(tiny_bundle())
    assert run_trial(path, 1, lambda _bundle: 1_000.0).code == ""


def test_the_class_in_which_it_is_measured_ends_with_it(tmp_path: Path) -> None:
    """Whether or not the system allowed it: who asked for the trial is afterwards what it was."""
    path = tmp_path / "good.ewb"
    path.write_bytes(tiny_bundle())
    before = os.sched_getscheduler(0)
    assert run_trial(path, 1, lambda _bundle: 1_000.0, realtime=True).passed
    assert os.sched_getscheduler(0) == before


def test_resident_memory_is_the_kernel_s_and_0_of_nobody() -> None:
    """This process holds something; one that is gone holds nothing."""
    assert resident_kib(os.getpid()) > 1_000
    assert resident_kib(None) == resident_kib(1 << 30) == 0
