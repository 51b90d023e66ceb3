"""The trial on this very device, with a real engine: what it measures and what it refuses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edgeward.bedside.trial import resident_kib, run_trial

pytest.importorskip("onnx", reason="the trial's bundles are made with the workshop extra")

from edgeward.testing.bundles import GOLDEN_COUNT, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_a_good_bundle_passes_with_its_evidence(tmp_path: Path) -> None:
    """Golden vectors counted, latency and deadline in µs, the engine's memory."""
    path = tmp_path / "good.ewb"
    path.write_bytes(tiny_bundle())
    result = run_trial(path, 1, lambda _bundle: 1_000.0)
    assert (result.passed, result.code) == (True, "")
    evidence = result.evidence
    assert (evidence.golden_vectors, evidence.deadline_us) == (GOLDEN_COUNT, 1_000_000)
    assert 0 < evidence.latency_us < 1_000_000
    assert 5_000 < evidence.memory_kib < 1_000_000


def test_a_bundle_that_is_too_slow_says_by_how_much(tmp_path: Path) -> None:
    """A deadline that nothing meets: refused with what was measured."""
    path = tmp_path / "slow.ewb"
    path.write_bytes(tiny_bundle())
    result = run_trial(path, 1, lambda _bundle: 1e-6)
    assert (result.passed, result.code) == (False, "trial-too-slow")
    assert result.evidence.latency_us > 0


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
