"""``edgeward demo``: the whole road on this machine, with what happens told as it happens.

An ECG monitor, a gateway with the vital signs of a ward, and the device run as processes of their own, as they would in
a hospital; the bundles go through a signed repository made for the occasion. Threshold checks, engine and assessment
are killed from outside, with SIGKILL, not by a hook.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.cli.demo_children import START_S, Children
from edgeward.cli.demo_fleet import FleetAct, python_with_fleet
from edgeward.cli.demo_story import ECG_BED, Story
from edgeward.cli.shipped import shipped_bundle, shipped_names
from edgeward.kernel.errors import ConfigError, EngineError

if TYPE_CHECKING:
    import argparse
    import subprocess
    from collections.abc import Iterator

_DWELL_S = 5.0
_INTERRUPTED = 130
_HARM_AT = {"thresholds": 0.45, "engine": 0.58, "assess": 0.8}
"""When each is killed, as shares of the demo's length."""
_HARM_AFTER_S = {"thresholds": 25.0, "engine": 40.0, "assess": 60.0}
"""The same for a demo without an end."""
_FLEET_AFTER_S = 80.0
"""When the fleet's act begins in a demo without an end."""
_HARMED = {"thresholds": "the threshold checks", "engine": "the ECG engine", "assess": "the assessment"}
_PATIENTS = "stable,haemorrhage,sepsis,hypoxia,opioid,disconnections"
_SPEED = 15.0
"""How much faster than life the patients of a demo get worse."""
_PAST_MIN = 60
"""Of the patients' past the gateway brings so much along: the hour that a forecast of low pressure asks for."""


def register(verbs: Any) -> None:
    """Add ``demo`` to the command line."""
    parser = verbs.add_parser(
        "demo",
        help="the whole road on this machine: publish, install, trial, stream, break, recover",
        description="Publishes the shipped bundles to a signed repository of its own, starts an ECG monitor, a gateway "
        "with the vital signs of six patients and a device over the ward, gives the page's address, and tells what "
        "happens, with leads taken off and threshold checks, engine and assessment killed on the way. At the end a "
        "fleet server rolls a good bundle out to three wards, and a bad one that the first of them refuses.",
        epilog="Exit code 0 when everything that was to happen did happen, 1 when something did not, 130 when Ctrl-C "
        "came before it could.",
    )
    parser.add_argument(
        "--for", type=float, dest="seconds", metavar="S", help="end by itself after S seconds (at least 20)"
    )
    parser.add_argument("--data", type=Path, help="stream the WFDB records of this folder instead of the simulator")
    parser.add_argument("--page-port", type=int, default=0, help="port of the page (default: any free one)")
    parser.add_argument(
        "--server-python",
        metavar="FILE",
        help="interpreter with the extra 'fleet', for the fleet server (default: this one, where it has it)",
    )
    parser.add_argument("--no-fleet", action="store_true", help="end without the fleet")
    parser.set_defaults(run=run_demo)


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
        demo = _Demo(Path(folder), arguments.seconds, arguments.data, arguments.page_port)
        if not arguments.no_fleet:
            demo.add_fleet(arguments.server_python)
        return demo.run()


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
        self._story = Story(self._tell, _DWELL_S)
        self._bundles = 0
        self._children = Children(self._said)
        self._act: FleetAct | None = None
        self._beside: threading.Thread | None = None
        self._interrupted = False
        self._began = time.monotonic()

    def add_fleet(self, python: str | None) -> None:
        """Have the fleet at the end, where its server can run."""
        found = python_with_fleet(python)
        if found is None:
            self._tell("without the fleet at the end: its server needs pip install 'edgeward[fleet]' (make demo does)")
        else:
            self._act = FleetAct(self._folder, found, self._tell)

    def run(self) -> int:
        try:
            root = self._publish()
            address = self._start_monitor()
            device = self._start_device(address, root)
            self._follow(device)
            self._children.stop()
            self._run_fleet()
        except KeyboardInterrupt:
            self._interrupted = True
            self._tell("stopping (Ctrl-C)")
        finally:
            if self._act is not None:
                self._act.stop()
            self._children.stop()
        return self._summary()

    def _begin_fleet(self) -> None:
        """In a demo without an end it comes beside the ward."""
        if self._act is not None and self._beside is None:
            self._beside = threading.Thread(target=self._run_fleet, name="fleet", daemon=True)
            self._beside.start()

    def _run_fleet(self) -> None:
        if self._act is not None:
            try:
                self._act.run()
            except (EngineError, OSError) as error:
                self._tell(f"the fleet: {error}")

    def _publish(self) -> Path:
        from edgeward.trust.publish import Publisher

        publisher = Publisher(self._folder / "repository", self._folder / "keys")
        root = publisher.init()
        for name in shipped_names():
            bundle = shipped_bundle(name)
            offer = publisher.add(bundle).offer
            size = bundle.stat().st_size
            self._tell(f"published {offer.name} {offer.version} ({size:,} bytes) to a signed repository")
            self._bundles += 1
        return root

    def _start_monitor(self) -> str:
        length = self._seconds or 60.0
        source = f"wfdb:{self._data}" if self._data else f"sim:demo?length={length:g}"
        monitor = self._children.spawn("monitor", ["simulate", "monitor", "--source", source, "--port", "0"])
        line = self._children.await_line(monitor, "monitor: tcp://")
        address = line.removeprefix("monitor: ")
        self._tell(f"monitor at {address}: " + ("recorded ECG" if self._data else "simulated 12-lead ECG, 250 Hz"))
        return address

    def _start_device(self, address: str, root: Path) -> subprocess.Popen[str]:
        verb = ["ward", "run", "--name", "Demo", "--ecg", f"{ECG_BED}={address}", "--hl7-port", "0"]
        verb += ["--json-lines", "-", "--dwell", f"{_DWELL_S:g}", "--page-port", str(self._page_port)]
        verb += ["--repository", str(self._folder / "repository"), "--trusted-root", str(root)]
        verb += ["--state-dir", str(self._folder / "state")]
        device = self._children.spawn("device", verb)
        port = self._children.await_line(device, "edgeward: watching: ").rpartition(" ")[2]
        ramp_s = _SPEED * 0.5 * (self._seconds or 60.0)
        source = f"patients:{_PATIENTS}?onset={_SPEED:g}&ramp={ramp_s:g}&past={_PAST_MIN}"
        verb = ["simulate", "monitor", "--source", source, "--to", f"hl7://127.0.0.1:{port}", "--speed", f"{_SPEED:g}"]
        self._children.spawn("gateway", verb)
        self._tell(f"gateway with the vital signs of six simulated patients, HL7 v2 to port {port}")
        return device

    def _follow(self, device: subprocess.Popen[str]) -> None:
        streaming_since: float | None = None
        while device.poll() is None:
            now = time.monotonic()
            if streaming_since is None and now - self._began > START_S:
                raise EngineError("demo-stuck", f"the device gave no verdict within {START_S:g} s")
            if streaming_since is not None:
                if self._seconds is not None and now - streaming_since > self._seconds:
                    return
                if self._seconds is None and now - streaming_since > _FLEET_AFTER_S:
                    self._begin_fleet()
                self._harm(now - streaming_since)
            self._children.take()
            if streaming_since is None and self._story.accepted + sum(self._story.unclassed.values()):
                streaming_since = time.monotonic()

    def _harm(self, streamed_s: float) -> None:
        """Kill the threshold checks, then the engine, then the assessment, once each."""
        for name, harm in self._story.harms.items():
            at_s = _HARM_AFTER_S[name] if self._seconds is None else _HARM_AT[name] * self._seconds
            pid = self._story.pids.get(name)
            if harm.at is None and pid is not None and streamed_s > at_s:
                self._tell(f"killing {_HARMED[name]} (process {pid}) with SIGKILL …")
                harm.at = time.monotonic()
                os.kill(pid, signal.SIGKILL)

    def _said(self, name: str, line: str) -> None:
        if name != "device":
            return
        if line.startswith("{"):
            self._story.take(json.loads(line))
        else:
            self._story.word(line.removeprefix("edgeward: "))

    def _summary(self) -> int:
        story = self._story
        total = next((s for s in story.latency.get("stages", []) if s["name"] == "total"), None)
        print("\nSummary")
        classes = ", ".join(f"{name} {count}" for name, count in sorted(story.beats.items()))
        print(f"  beats        {story.accepted} accepted ({classes})")
        unclassed = ", ".join(f"{count} {name}" for name, count in sorted(story.unclassed.items())) or "none"
        print(f"  no class     {unclassed}")
        scores = ", ".join(f"{task} {count}" for task, count in sorted(story.scores.items())) or "none"
        print(f"  scores       {scores}; threshold alerts {len(story.alerts)}; beds {len(story.beds)}")
        if total is not None:
            budget_us = 1000.0 * story.latency["budget_ms"]
            held = "held" if total["p99_us"] <= budget_us else "NOT held"
            print(
                f"  latency      last sample to scores: p50 {total['p50_us']:.0f} µs, p99 {total['p99_us']:.0f} µs, "
                f"max {total['max_us']:.0f} µs; budget {budget_us:.0f} µs at p99 {held}; late {story.latency['late']}"
            )
        timed = self._seconds is not None
        checks = story.checks(self._bundles, simulated=not self._data, timed=timed)
        if self._act is not None and (timed or self._beside is not None):
            checks |= self._act.checks()
        return self._exit_code(checks)

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
