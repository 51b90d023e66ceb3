"""``edgeward demo``: the whole road on this machine, with what happens told as it happens.

A monitor and a device run as processes of their own, as they would at a bedside; the bundle goes through a signed
repository made for the occasion. Threshold checks and engine are killed from outside, with SIGKILL, not by a hook.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeward.cli.shipped import shipped_bundle
from edgeward.kernel.errors import ConfigError, EngineError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_DWELL_S = 5.0
_INTERRUPTED = 130
_KILL_AT = 0.62
_KILL_CHECKS_AT = 0.5
"""When the engine and the threshold checks are killed, as shares of the demo's length."""
_KILL_AFTER_S = 40.0
_KILL_CHECKS_AFTER_S = 25.0
"""The same for a demo without an end."""
_START_S = 60.0
_END_S = 15.0


def register(verbs: Any) -> None:
    """Add ``demo`` to the command line."""
    parser = verbs.add_parser(
        "demo",
        help="the whole road on this machine: publish, install, trial, stream, break, recover",
        description="Publishes the shipped bundle to a signed repository of its own, starts a monitor and a device, "
        "opens the page, and tells what happens, with leads taken off and both the threshold checks and the engine "
        "killed on the way.",
        epilog="Exit code 0 when everything that was to happen did happen, 1 when something did not, 130 when Ctrl-C "
        "came before it could.",
    )
    parser.add_argument(
        "--for", type=float, dest="seconds", metavar="S", help="end by itself after S seconds (at least 20)"
    )
    parser.add_argument("--data", type=Path, help="stream the WFDB records of this folder instead of the simulator")
    parser.add_argument("--page-port", type=int, default=0, help="port of the page (default: any free one)")
    parser.set_defaults(run=run_demo)


@dataclass
class _Story:
    """What was seen so far."""

    accepted: int = 0
    withheld: int = 0
    fallback: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    modes: list[str] = field(default_factory=list)
    installed: bool = False
    lead_off: bool = False
    engine_pid: int | None = None
    checks_pid: int | None = None
    checks_killed_at: float | None = None
    unchecked_told_s: float | None = None
    unchecked_s: float | None = None
    killed_at: float | None = None
    scored_again_s: float | None = None
    accepted_again_s: float | None = None
    latency: dict[str, Any] = field(default_factory=dict)


def run_demo(arguments: argparse.Namespace) -> int:
    """The verb ``demo``."""
    if arguments.seconds is not None and arguments.seconds < 20:
        raise ConfigError(
            "setting-invalid", "a demo needs at least 20 seconds to show a failure and the recovery from it"
        )
    if arguments.data is not None:
        from edgeward.bedside.source.wfdb import find_records

        find_records(arguments.data)  # a wrong folder is an error now, not a monitor that does not start
    with tempfile.TemporaryDirectory(prefix="edgeward-demo-") as folder, _ended_like_ctrl_c():
        return _Demo(Path(folder), arguments.seconds, arguments.data, arguments.page_port).run()


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and SIGHUP end a demo as Ctrl-C does: monitor and device are sessions of their own and would live on."""

    def interrupt(number: int, frame: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Demo:
    def __init__(self, folder: Path, seconds: float | None, data: Path | None, page_port: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self._data = data
        self._page_port = page_port
        self._story = _Story()
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self._children: list[subprocess.Popen[str]] = []
        self._interrupted = False
        self._began = time.monotonic()

    def run(self) -> int:
        try:
            root = self._publish()
            address = self._start_monitor()
            device = self._start_device(address, root)
            self._follow(device)
        except KeyboardInterrupt:
            self._interrupted = True
            self._tell("stopping (Ctrl-C)")
        finally:
            self._stop()
        return self._summary()

    def _publish(self) -> Path:
        from edgeward.trust.publish import Publisher

        bundle = shipped_bundle("ecg-beat")
        publisher = Publisher(self._folder / "repository", self._folder / "keys")
        root = publisher.init()
        published = publisher.add(bundle)
        offer = published.offer
        self._tell(f"published {offer.name} {offer.version} ({bundle.stat().st_size:,} bytes) to a signed repository")
        return root

    def _start_monitor(self) -> str:
        length = self._seconds or 60.0
        source = f"wfdb:{self._data}" if self._data else f"sim:demo?length={length:g}"
        monitor = self._spawn("monitor", ["simulate", "monitor", "--source", source, "--port", "0"])
        line = self._await(monitor, "monitor: tcp://")
        address = line.removeprefix("monitor: ")
        self._tell(f"monitor at {address}: " + ("recorded ECG" if self._data else "simulated 12-lead ECG, 250 Hz"))
        return address

    def _start_device(self, address: str, root: Path) -> subprocess.Popen[str]:
        verb = ["bedside", "run", "--source", address, "--json-lines", "-", "--dwell", f"{_DWELL_S:g}"]
        verb += ["--repository", str(self._folder / "repository"), "--trusted-root", str(root)]
        verb += ["--state-dir", str(self._folder / "state"), "--page-port", str(self._page_port), "--bed", "demo"]
        return self._spawn("device", verb)

    def _follow(self, device: subprocess.Popen[str]) -> None:
        streaming_since: float | None = None
        while device.poll() is None:
            now = time.monotonic()
            if streaming_since is None and now - self._began > _START_S:
                raise EngineError("demo-stuck", f"the device gave no verdict within {_START_S:g} s")
            if streaming_since is not None:
                if self._seconds is not None and now - streaming_since > self._seconds:
                    return
                self._harm(now - streaming_since)
            try:
                origin, line = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if origin == "device":
                self._heard(line)
                if streaming_since is None and self._story.accepted + self._story.withheld:
                    streaming_since = time.monotonic()

    def _harm(self, streamed_s: float) -> None:
        """Kill the threshold checks, and later the engine, once each."""
        story, seconds = self._story, self._seconds
        checks_at = _KILL_CHECKS_AFTER_S if seconds is None else _KILL_CHECKS_AT * seconds
        engine_at = _KILL_AFTER_S if seconds is None else _KILL_AT * seconds
        if story.checks_killed_at is None and story.checks_pid is not None and streamed_s > checks_at:
            story.checks_killed_at = self._kill("the threshold checks", story.checks_pid)
        if story.killed_at is None and story.engine_pid is not None and streamed_s > engine_at:
            story.killed_at = self._kill("the engine", story.engine_pid)

    def _kill(self, what: str, pid: int) -> float:
        self._tell(f"killing {what} (process {pid}) with SIGKILL …")
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()

    def _heard(self, line: str) -> None:
        if not line.startswith("{"):
            text = line.removeprefix("edgeward: ")
            self._story.installed |= text.startswith("update: installed")
            self._tell(text)
            return
        message = json.loads(line)
        handler = getattr(self, f"_on_{message['kind']}", None)
        if handler is not None:
            handler(message)

    def _on_beat(self, beat: dict[str, Any]) -> None:
        story = self._story
        if beat["verdict"] == "accepted":
            story.accepted += 1
            story.classes[beat["cls"]] = story.classes.get(beat["cls"], 0) + 1
            if story.accepted <= 3 or beat["cls"] != "N":
                rr = "no RR yet" if beat["rr_ms"] is None else f"RR {beat['rr_ms']} ms"
                self._tell(f"beat {beat['cls']} (p {beat['probability']:.2f}, {rr}, {beat['latency_us']} µs)")
            if story.killed_at is not None and story.accepted_again_s is None:
                story.accepted_again_s = time.monotonic() - story.killed_at
                self._tell(f"first accepted window {story.accepted_again_s:.2f} s after the kill")
            return
        if beat["verdict"] == "withheld":
            story.withheld += 1
        else:
            story.fallback += 1
        if beat["why"] == "probation" and story.killed_at is not None and story.scored_again_s is None:
            story.scored_again_s = time.monotonic() - story.killed_at
            self._tell(
                f"engine scores again {story.scored_again_s:.2f} s after the kill; on probation for {_DWELL_S:g} s"
            )
        if beat["why"] != "probation":
            self._tell(f"beat without a class: {beat['verdict']} ({beat['why']})")

    def _on_mode(self, mode: dict[str, Any]) -> None:
        words = {
            "LOCAL": "AI LOCAL",
            "THRESHOLD_ONLY": "THRESHOLD ONLY: the heart-rate limits go on, no advisories",
            "NO_AI": "NO AI: nothing valid comes in",
        }
        self._story.modes.append(mode["mode"])
        self._story.lead_off |= mode["mode"] == "NO_AI"
        self._tell(
            f"mode: {words.get(mode['mode'], mode['mode'])}" + (f" ({mode['reason']})" if mode["reason"] else "")
        )

    def _on_engine(self, engine: dict[str, Any]) -> None:
        if engine["pid"] is not None and engine["pid"] != self._story.engine_pid:
            self._tell(
                f"engine: process {engine['pid']}" + (f", restarts {engine['restarts']}" if engine["restarts"] else "")
            )
        self._story.engine_pid = engine["pid"]

    def _on_quality(self, quality: dict[str, Any]) -> None:
        bad = {name: flag for name, flag in quality["leads"].items() if flag != "ok"}
        if len(bad) == len(quality["leads"]):
            self._tell(f"all leads: {' '.join(sorted(set(bad.values())))}")
        else:
            self._tell(
                "leads: all good" if not bad else f"leads: {', '.join(f'{k} {v}' for k, v in sorted(bad.items()))}"
            )

    def _on_advisory(self, advisory: dict[str, Any]) -> None:
        self._tell(
            f"advisory {'raised' if advisory['active'] else 'cleared'} ({advisory['priority']}): {advisory['text']}"
        )

    def _on_alert(self, alert: dict[str, Any]) -> None:
        self._tell(
            f"threshold alert {'raised' if alert['active'] else 'cleared'} ({alert['priority']}): {alert['text']}"
        )

        story = self._story
        if alert["code"] == "thresholds-down" and story.checks_killed_at is not None:
            since_s = time.monotonic() - story.checks_killed_at
            if alert["active"]:
                story.unchecked_told_s = since_s
            elif story.unchecked_s is None:
                story.unchecked_s = since_s
                self._tell(f"threshold checks run again {since_s:.2f} s after the kill")

    def _on_thresholds(self, thresholds: dict[str, Any]) -> None:
        self._story.checks_pid = thresholds["pid"]

    def _on_latency(self, latency: dict[str, Any]) -> None:
        self._story.latency = latency

    def _spawn(self, name: str, verb: list[str]) -> subprocess.Popen[str]:
        child = subprocess.Popen(  # noqa: S603  (this very program with arguments of our own)
            [sys.executable, "-m", "edgeward.cli.main", *verb],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is ours; we stop the children in order
        )
        self._children.append(child)
        assert child.stdout is not None
        threading.Thread(target=self._read, args=(name, child.stdout), daemon=True).start()
        return child

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put((name, line.rstrip("\n")))

    def _await(self, child: subprocess.Popen[str], start: str) -> str:
        deadline = time.monotonic() + _START_S
        said: list[str] = []
        while time.monotonic() < deadline:
            try:
                _, line = self._lines.get(timeout=0.2)
            except queue.Empty:
                if child.poll() is not None:
                    break
                continue
            if line.startswith(start):
                return line
            said.append(line)
        raise EngineError("demo-stuck", "a process of the demo did not start: " + (" / ".join(said[-3:]) or "no word"))

    def _stop(self) -> None:
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()  # not SIGINT, which a child ignores when the shell that started us ran us with &
                try:
                    child.wait(_END_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        while not self._lines.empty():
            origin, line = self._lines.get()
            if origin == "device" and not line.startswith("{"):
                self._tell(line.removeprefix("edgeward: "))

    def _summary(self) -> int:
        story = self._story
        total = next((s for s in story.latency.get("stages", []) if s["name"] == "total"), None)
        print("\nSummary")
        classes = ", ".join(f"{name} {count}" for name, count in sorted(story.classes.items()))
        print(f"  beats        {story.accepted} accepted ({classes})")
        print(f"  no class     {story.withheld} withheld, {story.fallback} fallback")
        if total is not None:
            budget_us = 1000.0 * story.latency["budget_ms"]
            held = "held" if total["p99_us"] <= budget_us else "NOT held"
            print(
                f"  latency      last sample to scores: p50 {total['p50_us']:.0f} µs, p99 {total['p99_us']:.0f} µs, "
                f"max {total['max_us']:.0f} µs; budget {budget_us:.0f} µs at p99 {held}; late {story.latency['late']}"
            )
        return self._exit_code(self._checks())

    def _checks(self) -> dict[str, bool]:
        """What was to happen, and whether it did."""
        story = self._story
        checks = {
            "bundle installed through the signed repository": story.installed,
            "beats accepted": story.accepted > 0,
        }
        if not self._data and self._seconds is not None:
            checks["leads off: noticed, mode NO AI"] = story.lead_off
        if story.checks_killed_at is not None:
            checks["threshold checks killed: told, and running again"] = (
                story.unchecked_told_s is not None and story.unchecked_s is not None
            )
        elif self._seconds is not None:
            checks["threshold checks killed"] = False
        if story.killed_at is not None:
            checks["engine killed: dropped to threshold only"] = "THRESHOLD_ONLY" in story.modes
            checks["engine killed: windows accepted again"] = story.accepted_again_s is not None
        elif self._seconds is not None:
            checks["engine killed"] = False
        return checks

    def _exit_code(self, checks: dict[str, bool]) -> int:
        """Print each check. What had no time to happen before Ctrl-C has not failed."""
        failed = "not reached" if self._interrupted else "FAIL"
        for name, held in checks.items():
            print(f"  {'ok' if held else failed:<11}  {name}")
        if all(checks.values()):
            return 0
        return _INTERRUPTED if self._interrupted else 1

    def _tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)
