"""The device as a process: stopped at any moment, started twice, without a bundle, with a slow or broken repository."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeward.bedside.slot import SlotStore
from edgeward.testing.bundles import ecg_bundle, tiny_bundle
from edgeward.trust.publish import Publisher

pytestmark = pytest.mark.workshop


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A signed repository that publishes a tiny bundle."""
    file = tmp_path / "one.ewb"
    file.write_bytes(ecg_bundle(version="1.0.0"))
    publisher = Publisher(tmp_path / "repo", tmp_path / "keys")
    publisher.init()
    publisher.add(file)
    return tmp_path / "repo"


def _publish(repository: Path, raw: bytes) -> None:
    file = repository.parent / "next.ewb"
    file.write_bytes(raw)
    Publisher(repository, repository.parent / "keys").add(file)


def _command(tmp_path: Path, repository: Path | None, *more: str) -> list[str]:
    verb = [sys.executable, "-m", "edgeward.cli.main", "bedside", "run", "--source", "sim:", "--no-page"]
    verb += ["--state-dir", str(tmp_path / "state"), "--no-realtime"]
    if repository is not None:
        verb += ["--repository", str(repository), "--trusted-root", str(repository / "metadata" / "1.root.json")]
    return [*verb, *more]


def _run(tmp_path: Path, repository: Path | None, *more: str, limit_s: float = 90) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(tmp_path, repository, *more), capture_output=True, text=True, timeout=limit_s, check=False
    )


def _workers(mark: Path) -> set[int]:
    """Engines and threshold checks whose environment names ``mark``: those of one device, not of a neighbour's test."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
                if str(mark).encode() not in (entry / "environ").read_bytes():
                    continue
            except OSError:
                continue
            if b"edgeward.inference.worker" in line or b"edgeward.bedside.thresholds.process" in line:
                found.add(int(entry.name))
    return found


@pytest.mark.parametrize("after_s", [0.2, 0.7, 1.5, 4.0])
def test_ctrl_c_at_any_moment_leaves_everything_whole(tmp_path: Path, repository: Path, after_s: float) -> None:
    """However early it comes, the device ends soon, leaves no process, and the next start runs."""
    marked = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(tmp_path)])}
    device = subprocess.Popen(
        _command(tmp_path, repository), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=marked
    )
    time.sleep(after_s)
    ran = _workers(tmp_path)
    device.send_signal(signal.SIGINT)
    said, _ = device.communicate(timeout=30)
    assert device.returncode in (0, 130, -signal.SIGINT), said
    deadline = time.monotonic() + 5.0
    while _workers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _workers(tmp_path)
    assert ran or after_s < 4.0, "the mark is not seen"
    again = _run(tmp_path, repository, "--for", "1")
    assert again.returncode == 0, again.stderr
    with SlotStore(tmp_path / "state" / "slots") as slots:
        active = slots.active()
        assert active is not None
        slots.read(active)


def test_a_second_device_on_the_same_slots_is_refused(tmp_path: Path, repository: Path) -> None:
    """The second process says who holds the slots and ends with exit code 2; the first runs on."""
    first = subprocess.Popen(
        _command(tmp_path, repository, "--json-lines", "-"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert first.stdout is not None
        assert json.loads(first.stdout.readline())["kind"]
        second = _run(tmp_path, repository, "--for", "1")
        assert second.returncode == 2
        assert "[slots-in-use]" in second.stderr
        assert str(first.pid) in second.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


def test_without_bundle_or_repository_the_heart_rate_is_watched(tmp_path: Path) -> None:
    """No model at all is a mode, not a failure."""
    done = _run(tmp_path, None, "--for", "6", "--json-lines", "-")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert next(line for line in lines if line["kind"] == "mode")["reason"] == "no_bundle"
    assert any(line["kind"] == "rate" and line["hr_bpm"] for line in lines)


def test_a_killed_thresholds_process_is_told_and_replaced_while_the_stream_runs_on(tmp_path: Path) -> None:
    """SIGKILL from outside: a technical alert of high priority at once, another process, and the alert taken back."""
    device = subprocess.Popen(
        _command(tmp_path, None, "--json-lines", "-"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert device.stdout is not None
        killed = None
        story: list[tuple[str, Any]] = []
        for line in device.stdout:
            message = json.loads(line)
            if message["kind"] == "thresholds" and killed is not None:
                story.append((message["state"], message["pid"]))
            elif message["kind"] == "thresholds" and message["state"] == "back":
                killed = message["pid"]
                os.kill(killed, signal.SIGKILL)
            if message["kind"] == "alert" and message["code"] == "thresholds-down" and story:
                story.append(("down", message["active"]))
                assert (message["priority"], message["cause"]) == ("high", "technical")
                if not message["active"]:
                    break
        states = [state for state, _ in story]
        assert states == ["crashed", "down", "back", "down"], story
        assert story[2][1] not in (None, killed)
        assert device.poll() is None
    finally:
        device.send_signal(signal.SIGINT)
        device.communicate(timeout=30)


def test_a_new_bundle_is_taken_while_the_stream_runs(tmp_path: Path, repository: Path) -> None:
    """Compared beside the old one, in charge between two beats, watched, committed; no beat goes without a class."""
    assert _run(tmp_path, repository, "--for", "1").returncode == 0
    _publish(repository, ecg_bundle(version="1.1.0"))
    file = tmp_path / "device.toml"
    file.write_text("[updates]\nshadow_min = 0.25\nsoak_min = 0.1\n")
    second = _run(
        tmp_path, repository, "--settings", str(file), "--speed", "6", "--for", "45", "--json-lines", "-", limit_s=120
    )
    for words in ("1.1.0 soaking", "1.1.0 is in charge (update)", "1.1.0 committed"):
        assert words in second.stderr, second.stderr
    lines = [json.loads(line) for line in second.stdout.splitlines()]
    serving = [line["version"] for line in lines if line["kind"] == "serving"]
    assert (serving[0], serving[-1]) == ("1.0.0", "1.1.0")
    beats = [line["verdict"] for line in lines if line["kind"] == "beat"]
    assert set(beats) == {"accepted"}
    third = _run(tmp_path, repository, "--for", "3")
    assert "nothing new, ecg-beat 1.1.0" in third.stderr, third.stderr


@pytest.mark.parametrize(
    ("what", "code"),
    [("golden", "golden-failed"), ("foreign", "window-spec-malformed"), ("gone", "repository-unreachable")],
)
def test_a_bad_bundle_or_repository_leaves_the_old_model_running(
    tmp_path: Path, repository: Path, what: str, code: str
) -> None:
    """Failed golden vectors, a bundle for other windows, a repository that is gone: the old model runs on."""
    assert _run(tmp_path, repository, "--for", "1").returncode == 0
    if what == "golden":
        _publish(repository, ecg_bundle(version="1.1.0", golden_shift=0.5))
    elif what == "foreign":
        _publish(repository, tiny_bundle(name="ecg-beat", version="1.1.0"))
    else:
        (repository / "metadata").rename(repository / "hidden")
        (repository / "metadata").mkdir()
        (repository / "metadata" / "1.root.json").write_bytes((repository / "hidden" / "1.root.json").read_bytes())
    done = _run(tmp_path, repository, "--for", "8", "--json-lines", "-")
    assert done.returncode == 0, done.stderr
    assert f"[{code}]" in done.stderr, done.stderr
    with SlotStore(tmp_path / "state" / "slots") as slots:
        active = slots.active()
        assert active is not None
        assert active.version == "1.0.0"
    accepted = [line for line in done.stdout.splitlines() if '"verdict":"accepted"' in line]
    assert accepted
