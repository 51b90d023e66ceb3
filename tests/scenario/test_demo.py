"""What `make demo` shows does happen, in real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import ConfigError


def _edgeward(*arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeward.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture(scope="module", autouse=True)
def _shipped() -> None:
    try:
        shipped_bundle("ecg-beat")
    except ConfigError:  # pragma: no cover  (a checkout without its bundle is broken, not skipped)
        pytest.fail("the repository ships no ecg-beat bundle")


def test_the_demo_breaks_and_recovers_and_says_so() -> None:
    """Install, trial, beats, leads off, killed checks and a killed engine, and both back again; exit code 0."""
    done = _edgeward("demo", "--for", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "update: installed",
        "mode: AI LOCAL",
        "lead_off",
        "killing the threshold checks",
        "threshold checks run again",
        "killing the engine",
        "SIGKILL",
        "THRESHOLD ONLY",
        "first accepted window",
    ):
        assert told in done.stdout, told
    assert "FAIL" not in done.stdout


def test_errors_are_sentences_with_a_code() -> None:
    """A wrong call ends with one line, its code and the exit code of its class, never with a traceback."""
    cases = {
        ("demo", "--for", "5"): (2, "setting-invalid"),
        ("bedside", "run", "--source", "nonsense:"): (2, "source-unknown"),
        ("evaluate", "ecg-beat", "--data", "no-such-folder"): (2, "data-missing"),
        ("bundle", "show", "no-such-file.ewb"): (5, "bundle-unreadable"),
    }
    for arguments, (code, word) in cases.items():
        done = _edgeward(*arguments)
        assert done.returncode == code, done.stderr
        assert f"[{word}]" in done.stderr
        assert "Traceback" not in done.stderr
