"""A whole ward as processes, for scenario tests and figures: ``edgeward ward run`` and the monitors that feed it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from edgeward.bedside.system import SystemClock
from edgeward.signal.numeric import Kind
from edgeward.testing.gateway import Gateway
from edgeward.testing.toy import install_toy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edgeward.testing.gateway import SimulatedBed

_END_S = 15.0
_AHEAD = -10
"""A niceness."""


class WardProcess:
    """``edgeward ward run`` in ``folder`` with ``settings`` (TOML), every message of it kept. A context manager.

    ``toy_period_s``: the toy model serves, scoring each bed so often; None: no bundle. Not ``installed``: it would
    serve once it is brought there. Its HL7 port and its page are any free ones (``hl7_port``, ``page``). ``ahead`` of
    other jobs, where the system allows it: a device has no others, and an engine that they hold up for a fifth of a
    second is taken for hung. A ward in the same folder again finds state and outbox of the one before.
    """

    def __init__(
        self,
        folder: Path,
        settings: str = "",
        *,
        toy_period_s: float | None = None,
        installed: bool = True,
        more: Sequence[str] = (),
        ahead: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._state = folder, folder / "state"
        path = folder / "ward.toml"
        path.write_text(settings)
        command = [sys.executable, "-P", "-m", "edgeward.cli.main", "ward", "run", "--settings", str(path)]
        command += ["--state-dir", str(self._state), "--hl7-port", "0", "--page-port", "0", "--json-lines", "-", *more]
        environment = dict(os.environ)
        if toy_period_s is not None:
            environment["PYTHONPATH"] = install_toy(self._state, folder, toy_period_s, installed=installed)
        self.heard: list[tuple[int, dict[str, Any]]] = []
        """(monotonic ns at which it was read, message)."""
        self.said = ""
        """Its standard error."""
        self._news = threading.Condition()
        self.process = subprocess.Popen(  # noqa: S603  (our own program)
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, process_group=0
        )
        if ahead:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.process.pid, _AHEAD)
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_messages, self._read_words)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        """Wait until it watches."""
        self.hl7_port = int(self.words(r"HL7 v2 at port (\d+)"))
        self.page = self.words(r"page: (\S+)") if "page: " in self.said else ""
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> int:
        """Ask it to end, and make sure; returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.kill()
        for thread in self._threads:
            thread.join(_END_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return self.process.wait()

    def kill(self) -> None:
        """As a power cut does to it: nothing of it is asked."""
        self.process.kill()
        self.process.wait()

    def words(self, pattern: str, seconds: float = 30.0) -> str:
        """The group of ``pattern`` in what it said to its operator; ``TimeoutError`` where that does not come."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with self._news:
                found = re.search(pattern, self.said)
                if found is not None:
                    return found[1]
                if self.process.poll() is not None and not any(thread.is_alive() for thread in self._threads):
                    break
                self._news.wait(0.1)
        raise TimeoutError(f"the ward never said {pattern!r}: {self.said}")

    def wait(self, kind: str, when: Callable[[Mapping[str, Any]], bool], since: int = 0, seconds: float = 30.0) -> int:
        """Index in ``heard`` of the first message of ``kind`` from index ``since`` on for which ``when`` holds."""
        until, index = time.monotonic() + seconds, since
        with self._news:
            while True:
                while index < len(self.heard):
                    message = self.heard[index][1]
                    if message["kind"] == kind and when(message):
                        return index
                    index += 1
                if time.monotonic() > until or self.process.poll() is not None:
                    raise TimeoutError(f"no such {kind} came; last: {[m['kind'] for _, m in self.heard[-10:]]}")
                self._news.wait(0.1)

    def all(self, kind: str, since: int = 0) -> list[dict[str, Any]]:
        """Every message of ``kind`` from index ``since`` on."""
        with self._news:
            return [message for _, message in self.heard[since:] if message["kind"] == kind]

    def pid(self, name: str) -> int:
        """The latest pid of "thresholds", "assess", or of the "engine" that serves."""
        with self._news:
            for _, message in reversed(self.heard):
                if name == "engine" and message["kind"] == "engine" and message.get("pid"):
                    return int(message["pid"])
                if message["kind"] == "process" and message["name"] == name and message.get("pid"):
                    return int(message["pid"])
        raise LookupError(f"nothing is known of {name}")

    def _read_messages(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            now = time.monotonic_ns()
            with contextlib.suppress(ValueError), self._news:
                self.heard.append((now, json.loads(line)))
                self._news.notify_all()

    def _read_words(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said += line.decode("utf-8", "replace")
                self._news.notify_all()


class Steady:
    """A player (``gateway.Player``) whose vitals stay as they are set; ``off``: the monitor says nothing."""

    def __init__(self, **values: float | None) -> None:
        self.values = {Kind(name): value for name, value in values.items()}
        self.off = False

    def at(self, at_s: float) -> Mapping[Kind, float | None]:  # noqa: ARG002
        """The values."""
        return dict(self.values)

    def silent(self, at_s: float) -> bool:  # noqa: ARG002
        """Whether it is off."""
        return self.off


class Monitors:
    """A gateway that plays ``beds`` to a ward's port in a thread of its own. A context manager."""

    def __init__(self, beds: list[SimulatedBed], port: int, *, period_s: float = 1.0) -> None:
        self.gateway = Gateway(beds, "127.0.0.1", port, SystemClock(), period_s=period_s)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Unplug them."""
        if self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_END_S)

    def _run(self) -> None:
        self._task = self._loop.create_task(self.gateway.run())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()
