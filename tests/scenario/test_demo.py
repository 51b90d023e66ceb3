"""What `make demo` shows does happen, in real processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeward.cli.demo_fleet import FleetAct
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
    done = _edgeward("demo", "--for", "20", "--no-fleet")
    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "update: ecg-beat 1.1.0 committed",
        "ECG: AI LOCAL",
        "threshold alert (",
        "lead_off",
        "killing the threshold checks",
        "threshold checks run again",
        "killing the ECG engine",
        "THRESHOLD ONLY",
        "first accepted window",
        "killing the assessment",
    ):
        assert told in done.stdout, told
    assert "FAIL" not in done.stdout


def test_the_demo_ends_with_a_rollout_of_which_one_ward_refuses_a_bad_model(tmp_path: Path) -> None:
    """Server and wards are real processes; the act alone, for the rest of the demo has its own test."""
    pytest.importorskip("fastapi", reason="the fleet extra is not installed")
    told: list[str] = []
    act = FleetAct(tmp_path, sys.executable, told.append)
    act.run()
    assert all(act.checks().values()), "\n".join(told)
    assert len([line for line in told if "failed: the golden vectors" in line]) == 1
    assert act.checks().keys() == {
        "fleet: 3 wards enrolled over TLS 1.3",
        "fleet: sepsis-risk 1.0.2 rolled out to every ward",
        "fleet: one ward refused 1.0.3, the others never saw it",
    }


def _below(pid: int) -> set[int]:
    """Every process that ``pid`` started, or that one of those did."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, front = set(), {pid}
    while front:
        front = {child for child, parent in parents.items() if parent in front}
        found |= front
    return found


def _runs(pid: int) -> bool:
    """Whether the process is there and more than an entry that its adopted parent has yet to collect."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing_running(how: signal.Signals) -> None:
    """Monitors and device are processes of their own; however the demo is stopped, they end with it."""
    command = [sys.executable, "-m", "edgeward.cli.main", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        try:
            assert demo.stdout is not None
            assert any("s  beat " in line for line in demo.stdout)
            children = _below(demo.pid)
            assert len(children) >= 8  # monitor, gateway, ward, stream, two processes behind the rim and one, engines
            demo.send_signal(how)
            said = demo.stdout.read()
            demo.wait(60)
        finally:
            demo.kill()
    assert demo.returncode in (0, 130), said
    assert "Traceback" not in said
    assert "FAIL" not in said
    deadline = time.monotonic() + 10.0  # an engine whose own parent was killed ends when it sees its pipe closed
    while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if _runs(pid)]


_INTERRUPTED_IMPORT = """
import sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "edgeward.cli.workshop":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from edgeward.cli.main import main
sys.exit(main(["bundle", "show"]))
"""


def test_ctrl_c_while_python_still_imports_is_no_traceback() -> None:
    """Importing takes longer than many a second thought: it ends in one line, too."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "edgeward: stopped by Ctrl-C; nothing is left half done\n"


def test_errors_are_sentences_with_a_code(tmp_path: Path) -> None:
    """A wrong call ends with one line, its code and the exit code of its class, never with a traceback."""
    cases = {
        ("demo", "--for", "5"): (2, "setting-invalid"),
        ("demo", "--data", "no-such-folder"): (3, "no-records"),
        ("bedside", "run", "--source", "nonsense:", "--state-dir", str(tmp_path)): (2, "source-unknown"),
        ("evaluate", "ecg-beat", "--data", "no-such-folder"): (2, "data-missing"),
        ("bundle", "show", "no-such-file.ewb"): (5, "bundle-unreadable"),
    }
    for arguments, (code, word) in cases.items():
        done = _edgeward(*arguments)
        assert done.returncode == code, done.stderr
        assert f"[{word}]" in done.stderr
        assert "Traceback" not in done.stderr
