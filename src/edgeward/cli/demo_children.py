"""The processes of a demo: this very program with arguments of our own, and what they say."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

from edgeward.kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

START_S = 60.0
_END_S = 15.0


class Children:
    """Processes and the lines that they write; ``heard`` gets each line, with its process's name, as it is taken."""

    def __init__(self, heard: Callable[[str, str], None]) -> None:
        self._heard = heard
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self._children: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []

    def spawn(self, name: str, verb: list[str], *, python: str = sys.executable) -> subprocess.Popen[str]:
        """Start ``edgeward VERB``; another module where ``verb`` begins with -m."""
        module = [] if verb[0] == "-m" else ["-m", "edgeward.cli.main"]
        child = subprocess.Popen(  # noqa: S603  (this very program with arguments of our own)
            [python, *module, *verb],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is ours; we stop the children in order
        )
        self._children.append(child)
        assert child.stdout is not None
        reader = threading.Thread(target=self._read, args=(name, child.stdout), daemon=True)
        reader.start()
        self._readers.append(reader)
        return child

    def take(self, wait_s: float = 0.2) -> str | None:
        """The next line that some process wrote; None where none comes."""
        try:
            name, line = self._lines.get(timeout=wait_s)
        except queue.Empty:
            return None
        self._heard(name, line)
        return line

    def await_line(self, child: subprocess.Popen[str], start: str) -> str:
        """The first line that begins with ``start``. Raises ``EngineError`` ``demo-stuck``."""
        deadline = time.monotonic() + START_S
        said: list[str] = []
        while time.monotonic() < deadline:
            line = self.take()
            if line is None:
                if child.poll() is not None:
                    break
                continue
            if line.startswith(start):
                return line
            said.append(line)
        words = " / ".join(said[-3:]) or "no word"
        raise EngineError("demo-stuck", f"a process of the demo did not start: {words}")

    def stop(self) -> None:
        """End them, the last one first, and hear what they still say."""
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()  # not SIGINT, which a child ignores when the shell that started us ran us with &
                try:
                    child.wait(_END_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        self._children.clear()
        for reader in self._readers:
            reader.join(_END_S)
        self._readers.clear()
        while not self._lines.empty():
            self.take()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.put((name, line.rstrip("\n")))
